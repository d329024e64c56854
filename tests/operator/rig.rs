//! A Vault with a catalogue of secrets, their targets, and the operator.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::{
    Ended,
    postgres::Postgres,
    redis::{self, Redis},
    vault::Vault,
};

/// What the operator needs in Vault: the journal, the values and their labels.
pub(crate) const POLICY: &str = r#"
path "secret/*" { capabilities = ["create", "read", "update", "delete", "patch"] }
path "database/rotate-role/*" { capabilities = ["update"] }
path "database/rotate-root/*" { capabilities = ["update"] }
path "database/reset/*" { capabilities = ["update"] }
path "database/config/*" { capabilities = ["read"] }
path "database/creds/*" { capabilities = ["read"] }
path "database/static-roles/*" { capabilities = ["read"] }
path "database/static-creds/*" { capabilities = ["read"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/create/break-glass" { capabilities = ["create", "update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
path "sys/policies/acl/break-glass-*" { capabilities = ["create", "update"] }
"#;

/// The configurations of commands and of the operator itself.
const COMMANDS: &str = "operator.toml";
const SERVICE: &str = "service.toml";

const OPERATOR: &str = env!("CARGO_BIN_EXE_secret-operator");

pub(crate) struct Rig {
    pub vault: Vault,
    pub postgres: Postgres,
    pub redis: Redis,
    pub directory: TempDir,
    token: String,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        let (vault, postgres, redis) =
            tokio::join!(Vault::start(), Postgres::start(), Redis::start());
        vault
            .write("sys/mounts/secret", json!({ "type": "kv", "options": { "version": "2" } }))
            .await;
        vault.write("sys/policies/acl/operator", json!({ "policy": POLICY })).await;
        let token = vault
            .write("auth/token/create", json!({ "policies": ["operator"], "ttl": "8h" }))
            .await;
        let token = token["auth"]["client_token"].as_str().unwrap().to_owned();
        vault
            .write(
                "auth/token/roles/break-glass",
                json!({ "orphan": true, "renewable": false, "allowed_policies_glob": ["break-glass-*"], "token_no_default_policy": true }),
            )
            .await;
        postgres.shop().await;
        postgres
            .execute(
                "CREATE TABLE orders (id int); ALTER TABLE orders OWNER TO shop_owner;\
                 CREATE ROLE legacy LOGIN PASSWORD 'first-legacy';\
                 CREATE ROLE rotator LOGIN SUPERUSER PASSWORD 'rotator-password';",
            )
            .await;
        let rig = Self { vault, postgres, redis, directory: tempfile::tempdir().unwrap(), token };
        rig.redis.acl_user("cache", "first-cache").await;
        rig.put("shop/postgres", json!({ "username": "shop_a", "password": "first-a" })).await;
        rig.put("shop/legacy", json!({ "username": "legacy", "password": "first-legacy" })).await;
        rig.put("shop/redis", json!({ "username": "cache", "password": "first-cache" })).await;
        rig.put(
            "shop/api-key",
            json!({ "value": "sbk_0pQ7xV2mK9sT4wZ8nB3cF6hJ1lR5dG0yE7uA2iO4kPm" }),
        )
        .await;
        rig
    }

    pub(crate) async fn put(&self, path: &str, data: Value) {
        self.vault.write(&format!("secret/data/{path}"), json!({ "data": data })).await;
    }

    /// The value that the label `current` names, or the latest one.
    pub(crate) async fn current(&self, path: &str) -> Value {
        let labels = self.labels(path).await;
        let version = labels["current"].as_str().unwrap_or("0").to_owned();
        let (status, answer) =
            self.vault.request("GET", &format!("secret/data/{path}?version={version}"), None).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer["data"]["data"].clone()
    }

    pub(crate) async fn labels(&self, path: &str) -> Value {
        let (_, answer) = self.vault.request("GET", &format!("secret/metadata/{path}"), None).await;
        answer["data"]["custom_metadata"].clone()
    }

    /// Writes the configuration with sections of the test's own: commands reach Vault at this
    /// address, the operator itself without a detour.
    pub(crate) fn configure(&self, vault: &str, more: &str) {
        let text = format!("{CONFIG}{more}")
            .replace("@DIR@", &self.directory.path().display().to_string())
            .replace("@PG_PORT@", &self.postgres.port.to_string())
            .replace("@REDIS_PORT@", &self.redis.port.to_string());
        for (file, address) in [(COMMANDS, vault), (SERVICE, &*self.vault.address())] {
            let text = text.replace("@VAULT@", address);
            std::fs::write(self.directory.path().join(file), text).unwrap();
        }
    }

    /// Starts the operator itself, with its log in this file.
    pub(crate) fn operate(&self, log: &str) -> Child {
        self.operate_by(SERVICE, log)
    }

    /// Starts it so that it reaches Vault where commands do.
    pub(crate) fn operate_as_commands(&self, log: &str) -> Child {
        self.operate_by(COMMANDS, log)
    }

    fn operate_by(&self, file: &str, log: &str) -> Child {
        let log = std::fs::File::create(self.directory.path().join(log)).unwrap();
        let mut command = self.configured(&["run"], file);
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// Starts a command of the operator.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// A command of the operator, or a script that calls it.
    fn command(&self, arguments: &[&str]) -> Command {
        self.configured(arguments, COMMANDS)
    }

    fn configured(&self, arguments: &[&str], file: &str) -> Command {
        let (program, arguments) = match arguments.split_first() {
            Some((script, rest)) if script.contains("/scripts/") => (*script, rest),
            _ => (OPERATOR, arguments),
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .arg("--config")
            .arg(self.directory.path().join(file))
            .env("VAULT_TOKEN", &self.token)
            .env("PG_ROTATOR", "rotator-password")
            .env("REDIS_ADMIN", redis::PASSWORD)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env("SECRET_OPERATOR", OPERATOR)
            .kill_on_drop(true);
        command
    }

    /// Starts a command whose output nobody reads.
    pub(crate) fn spawn_unheard(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs a command of the operator to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.spawn(arguments).wait_with_output().await.unwrap())
    }

    /// Runs a command that reads this from its standard input.
    pub(crate) async fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let path = self.directory.path().join("input");
        std::fs::write(&path, input).unwrap();
        let input = std::fs::File::open(path).unwrap();
        let child = self.command(arguments).stdin(input).spawn().unwrap();
        Ended::of(child.wait_with_output().await.unwrap())
    }

    /// A file with a credential, which a configuration can name.
    pub(crate) fn credential(&self, name: &str, value: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, value).unwrap();
        path.display().to_string()
    }

    /// Whether the operator with this log led so far.
    pub(crate) fn led(&self, log: &str) -> bool {
        let log = std::fs::read_to_string(self.directory.path().join(log)).unwrap();
        log.lines().any(|line| line.contains("\"leads\""))
    }

    /// Waits until the API key's rotations are as many, all of them succeeded and none open.
    pub(crate) async fn finished(&self, past: usize) {
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            let history = self.succeed(&["history", "API_KEY_MASTER", "--json"]).await;
            let lines: Vec<Value> =
                history.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            if lines.len() == past {
                assert!(lines.iter().all(|line| line["standing"] == "succeeded"), "{history}");
                return;
            }
            assert!(Instant::now() < deadline, "not finished in time: {history}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Runs a command that has to succeed.
    pub(crate) async fn succeed(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended.out
    }
}

/// The superuser's password is not in it: the operator has a login of its own.
const CONFIG: &str = r#"
[vault]
address = "@VAULT@"
auth = { method = "token", token_env = "VAULT_TOKEN" }
timeout = "5s"
budget = { calls_per_minute = 100000, burst = 10000, probe_min = "100ms", probe_max = "1s" }

[engine]
claim = "300ms"

[defaults]
environments = ["staging", "production"]
canaries = ["green"]
overlap = "200ms"
settle = "0s"
retry_min = "100ms"
retry_max = "1s"

[records]
directory = "@DIR@/records"

[break_glass]
token_role = "break-glass"

[secrets.POSTGRES_PASSWORD]
category = "database"
tier = "monthly"
path = "shop/postgres"
[secrets.POSTGRES_PASSWORD.rotate.postgres]
server = { address = "127.0.0.1:@PG_PORT@", tls = "disable" }
database = "postgres"
users = ["shop_a", "shop_b"]
owner = "shop_owner"
query = "SELECT id FROM orders LIMIT 1"
login = { username = "rotator", password_env = "PG_ROTATOR" }

[secrets.LEGACY_PASSWORD]
category = "database"
tier = "never"
path = "shop/legacy"
[secrets.LEGACY_PASSWORD.rotate.postgres]
server = { address = "127.0.0.1:@PG_PORT@", tls = "disable" }
database = "postgres"
user = "legacy"
login = { username = "rotator", password_env = "PG_ROTATOR" }

[secrets.REDIS_PASSWORD]
category = "database"
tier = "quarterly"
path = "shop/redis"
[secrets.REDIS_PASSWORD.rotate.redis]
server = { address = "127.0.0.1:@REDIS_PORT@", tls = "disable" }
user = "cache"
login = { username = "default", password_env = "REDIS_ADMIN" }

[secrets.JWT_SECRET]
category = "application"
tier = "monthly"
path = "shop/jwt"
rotate.jwt = { max_token_ttl = "1s", max_verifier_cache = "0s", clock_skew = "0s" }
overlap = "1s"

[secrets.API_KEY_MASTER]
category = "application"
tier = "monthly"
path = "shop/api-key"
rotate.api_key = { prefix = "sbk_" }
"#;
