//! `secret-operator bootstrap vault` on a real Vault: what it makes, that a second run changes nothing,
//! and that its policies suffice for a rotation and for a sidecar, and for no more.

use std::{path::Path, process::Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::{
    OPERATOR,
    support::{
        Ended,
        broker::Broker,
        kubernetes::Kubernetes,
        postgres::{self, Postgres},
        until,
        vault::Vault,
    },
};

pub(super) struct Rig {
    pub vault: Vault,
    postgres: Postgres,
    pub directory: TempDir,
}

impl Rig {
    pub(super) async fn start() -> Self {
        let (vault, postgres) = tokio::join!(Vault::start(), Postgres::start());
        postgres.shop().await;
        postgres.execute("CREATE ROLE reports LOGIN PASSWORD 'first-reports'").await;
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("password"), postgres::PASSWORD).unwrap();
        let rig = Self { vault, postgres, directory };
        rig.configure("");
        rig
    }

    pub(super) fn configure(&self, more: &str) {
        self.write(&format!("{CONFIG}{more}"));
    }

    pub(super) fn write(&self, text: &str) {
        let text = text
            .replace("@VAULT@", &self.vault.address())
            .replace("@DIR@", &self.directory.path().display().to_string())
            .replace("@PG_PORT@", &self.postgres.port.to_string());
        std::fs::write(self.directory.path().join("operator.toml"), text).unwrap();
    }

    pub(super) async fn run(&self, token: &str, arguments: &[&str]) -> Ended {
        let output = Command::new(OPERATOR)
            .args(arguments)
            .arg("--config")
            .arg(self.directory.path().join("operator.toml"))
            .env("VAULT_TOKEN", token)
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        Ended::of(output)
    }

    pub(super) async fn bootstrap(&self, more: &[&str]) -> String {
        let arguments = [&["bootstrap", "vault"], more].concat();
        let ended = self.run(&self.vault.root, &arguments).await;
        assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
        assert!(!ended.out.contains(postgres::PASSWORD), "no credential is shown");
        ended.out
    }

    /// A token with this policy and no other, as a login by the role gives it.
    async fn token(&self, policy: &str) -> String {
        let body = json!({ "policies": [policy], "no_default_policy": true, "ttl": "1h" });
        let made = self.vault.write("auth/token/create", body).await;
        assert_eq!(made["auth"]["policies"], json!([policy]));
        made["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    async fn put(&self, path: &str, data: Value) {
        self.vault.write(&format!("secret/data/{path}"), json!({ "data": data })).await;
    }

    /// The status of a call under a token.
    async fn status(&self, token: &str, method: &str, path: &str, body: Value) -> u16 {
        let url = format!("{}/v1/{path}", self.vault.address());
        let request = reqwest::Client::new().request(method.parse().unwrap(), url);
        let request = request.header("X-Vault-Token", token);
        let request = if body.is_null() { request } else { request.json(&body) };
        request.send().await.unwrap().status().as_u16()
    }
}

#[tokio::test]
async fn a_dry_run_shows_everything_and_makes_nothing_and_a_second_run_has_nothing_to_do() {
    let rig = Rig::start().await;
    let shown = rig.bootstrap(&["--dry-run"]).await;
    for part in [
        "+ secrets engine secret/ (kv, version 2)",
        "+ policy secret-operator",
        "+ path \"secret/metadata/shop/postgres\" { capabilities = [\"create\", \"read\", \"update\"] }",
        "+ policy shop-api",
        "+ auth method kubernetes/ (kubernetes)",
        "+ auth/kubernetes/role/shop-api",
        "+ bound_service_account_namespaces = [\"shop\"]",
        "+ audience = \"vault\"",
        "+ database/roles/shop-main",
        "+ password = (not shown)",
        "nothing was changed",
        "Vault has no audit device",
    ] {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
    assert_eq!(rig.vault.request("GET", "sys/policies/acl/shop-api", None).await.0, 404);
    let mounts = rig.vault.read("sys/mounts").await;
    assert!(mounts["data"].get("secret/").is_none());

    let made = rig.bootstrap(&[]).await;
    assert!(made.contains("made ") && made.contains("changed 0"), "{made}");
    for more in [&["--dry-run"][..], &[]] {
        let again = rig.bootstrap(more).await;
        assert!(again.contains("nothing to do"), "{again}");
        assert!(again.lines().all(|line| !line.starts_with(['+', '~', '!'])), "{again}");
    }
    let role = rig.vault.read("auth/kubernetes/role/shop-api").await;
    assert_eq!(role["data"]["token_policies"], json!(["shop-api"]));
    assert_eq!(role["data"]["token_no_default_policy"], true);
    assert_eq!(role["data"]["token_ttl"], 3600);
}

#[tokio::test]
async fn what_drifted_is_shown_line_by_line_and_mended_and_what_is_others_is_left_alone() {
    let rig = Rig::start().await;
    rig.bootstrap(&[]).await;
    let wide = json!({ "policy": "path \"secret/*\" { capabilities = [\"read\"] }" });
    rig.vault.write("sys/policies/acl/shop-api", wide).await;
    rig.vault.write("auth/kubernetes/role/shop-api", json!({ "token_ttl": 7200 })).await;
    let url = format!(
        "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=prefer",
        rig.postgres.port
    );
    rig.vault.write("database/config/shop", json!({ "connection_url": url })).await;
    let shown = rig.bootstrap(&["--dry-run"]).await;
    for part in [
        "~ policy shop-api",
        "- path \"secret/*\" { capabilities = [\"read\"] }",
        "~ auth/kubernetes/role/shop-api",
        "- token_ttl = 7200",
        "+ token_ttl = 3600",
        "~ database/config/shop",
        "sslmode=disable",
        "would make 0 and change 3",
    ] {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
    assert!(rig.bootstrap(&[]).await.contains("made 0, changed 3"));
    assert!(rig.bootstrap(&[]).await.contains("nothing to do"));
    // The password that Vault has is kept: the connection still works.
    let user = rig.vault.read("database/creds/shop-main").await;
    assert!(user["data"]["username"].is_string());

    rig.vault.write("sys/mounts/old", json!({ "type": "kv", "options": { "version": "1" } })).await;
    rig.configure("[bootstrap.secrets.OLD]\ncategory = \"x\"\nstore = \"vault\"\nengine = \"kv2\"\nmount = \"old\"\npath = \"a\"\n");
    let ended = rig.run(&rig.vault.root, &["bootstrap", "vault"]).await;
    assert_eq!(ended.code, 3, "{}{}", ended.out, ended.err);
    assert!(
        ended.out.contains(
            "! secrets engine old/ (kv, version 2): kv, version 1 is there, and is left alone"
        ),
        "{}",
        ended.out
    );
}

#[tokio::test]
async fn its_policy_lets_the_operator_rotate_and_nothing_else() {
    let rig = Rig::start().await;
    rig.bootstrap(&[]).await;
    rig.put("shop/postgres", json!({ "username": "shop_a", "password": "first-a" })).await;
    rig.put("rotation/postgres", json!({ "username": "postgres", "password": postgres::PASSWORD }))
        .await;
    rig.put("payroll/bank", json!({ "value": "not yours" })).await;
    let token = rig.token("secret-operator").await;
    for name in ["POSTGRES_PASSWORD", "JWT_SECRET", "REPORTS_PASSWORD"] {
        let ended = rig.run(&token, &["rotate", name, "--wait", "--validate"]).await;
        assert_eq!(ended.code, 0, "{name}: {}{}", ended.out, ended.err);
        assert!(ended.out.contains("succeeded"), "{}", ended.out);
    }
    let rolled = rig.run(&token, &["rollback", "POSTGRES_PASSWORD", "--reason", "test"]).await;
    assert_eq!(rolled.code, 0, "{}{}", rolled.out, rolled.err);
    let opened = rig.run(&token, &["break-glass", "JWT_SECRET", "--reason", "test"]).await;
    assert_eq!(opened.code, 0, "{}{}", opened.out, opened.err);
    for (method, path, body) in [
        ("GET", "secret/data/payroll/bank", Value::Null),
        ("POST", "secret/data/payroll/bank", json!({ "data": {} })),
        ("LIST", "secret/metadata/", Value::Null),
        ("DELETE", "secret/metadata/shop/postgres", Value::Null),
        ("DELETE", "secret/data/secret-operator/JWT_SECRET", Value::Null),
        ("GET", "database/creds/shop-main", Value::Null),
        ("POST", "sys/policies/acl/secret-operator", json!({ "policy": "" })),
        ("POST", "auth/kubernetes/role/x", json!({})),
        ("POST", "auth/token/create", json!({})),
        ("POST", "sys/leases/revoke", json!({ "lease_id": "x" })),
        ("GET", "sys/mounts", Value::Null),
    ] {
        assert_eq!(rig.status(&token, method, path, body).await, 403, "{method} {path}");
    }
}

#[tokio::test]
async fn its_policies_let_a_sidecar_read_and_keep_what_is_its_own_and_nothing_else() {
    let rig = Rig::start().await;
    rig.bootstrap(&[]).await;
    rig.put("shop/jwt", json!({ "value": "a signing key" })).await;
    rig.put("shop/postgres", json!({ "username": "shop_a", "password": "first-a" })).await;
    let token = rig.token("shop-api").await;
    let sections = format!(
        "[vault]\naddress = \"{}\"\nrevoke_on_exit = true\nauth = {{ method = \"token\", token_env = \"TOKEN\" }}\n{SIDECAR}",
        rig.vault.address()
    );
    let mut broker = Broker::start(&sections, &[("TOKEN", &token)]).await;
    let client = broker.client();
    let jwt = client.get("JWT_SECRET").await.unwrap();
    assert_eq!(jwt.text("value"), Some("a signing key"));
    client.get("REPORTS_PASSWORD").await.unwrap();
    let leased = client.get("POSTGRES_LEASED").await.unwrap();
    let user = leased.text("username").unwrap().to_owned();
    assert!(rig.postgres.can_log_in(&user).await);
    // A lease of four seconds lives on only because the policy lets the sidecar renew it.
    until("the lease is renewed", async || {
        let page = broker.log();
        page.contains("lease renewed").then_some(())
    })
    .await;
    for (method, path, body) in [
        ("GET", "secret/data/shop/postgres", Value::Null),
        ("POST", "secret/data/shop/jwt", json!({ "data": {} })),
        ("GET", "secret/metadata/shop/jwt", Value::Null),
        ("GET", "database/creds/other", Value::Null),
        ("POST", "database/rotate-role/reports", json!({})),
        ("POST", "auth/token/create", json!({})),
        ("LIST", "sys/leases/lookup/database/creds/shop-main", Value::Null),
    ] {
        assert_eq!(rig.status(&token, method, path, body).await, 403, "{method} {path}");
    }
    let foreign = rig.vault.read("database/creds/other").await;
    let lease = json!({ "lease_id": foreign["lease_id"] });
    for verb in ["renew", "revoke"] {
        let path = format!("sys/leases/{verb}");
        assert_eq!(
            rig.status(&token, "PUT", &path, lease.clone()).await,
            403,
            "{path} of another's"
        );
    }
    assert_eq!(broker.terminate().await, Some(0));
    until("its own lease is revoked", async || {
        (!rig.postgres.leased_users().await.contains(&user)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pod_of_the_named_service_account_logs_in_and_no_other_does() {
    let kubernetes = Kubernetes::start().await;
    let namespace = kubernetes.namespace("shop", json!({})).await;
    for account in ["api", "worker", "reviewer"] {
        kubernetes.service_account(&namespace, account).await;
    }
    kubernetes.bind(&namespace, "reviewer", "system:auth-delegator").await;
    let rig = Rig::start().await;
    let reviewer = rig.directory.path().join("reviewer");
    std::fs::write(&reviewer, kubernetes.token(&namespace, "reviewer", None).await).unwrap();
    let method = format!(
        "host = \"{}\"\noutside = true\nca = \"{}\"\nreviewer_token_file = \"{}\"\n",
        kubernetes.address(),
        kubernetes.ca_file().display(),
        reviewer.display(),
    );
    let text = CONFIG.replace("host = \"https://127.0.0.1:6443\"\noutside = true\n", &method);
    rig.write(&text.replace("namespaces = [\"shop\"]", &format!("namespaces = [\"{namespace}\"]")));
    let shown = rig.bootstrap(&["--dry-run"]).await;
    assert!(shown.contains("+ token_reviewer_jwt = (not shown)"), "{shown}");
    rig.bootstrap(&[]).await;
    assert!(rig.bootstrap(&[]).await.contains("nothing to do"));
    let login = async |account: &str, audience: Option<&str>| {
        let jwt = kubernetes.token(&namespace, account, audience).await;
        let body = json!({ "role": "shop-api", "jwt": jwt });
        rig.vault.request("POST", "auth/kubernetes/login", Some(body)).await
    };
    let (status, answer) = login("api", Some("vault")).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["auth"]["token_policies"], json!(["shop-api"]));
    for (account, audience) in [("worker", Some("vault")), ("api", None), ("api", Some("other"))] {
        let (status, answer) = login(account, audience).await;
        assert_ne!(status, 200, "{account} {audience:?}: {answer}");
    }
}

#[tokio::test]
async fn the_webhooks_grants_become_a_role_and_a_policy_for_each_service_account() {
    let rig = Rig::start().await;
    let path = rig.directory.path().join("inject.toml");
    std::fs::write(&path, INJECT).unwrap();
    let arguments = ["bootstrap", "vault", "--inject", path.to_str().unwrap()];
    let ended = rig.run(&rig.vault.root, &arguments).await;
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    assert!(ended.err.contains("no role can be made of the pattern `team-*`"), "{}", ended.err);
    let role = rig.vault.read("auth/kubernetes/role/shop.api").await["data"].clone();
    assert_eq!(role["bound_service_account_names"], json!(["api"]));
    assert_eq!(role["bound_service_account_namespaces"], json!(["shop"]));
    let reads = async |account: &str| {
        let policy = rig.vault.read(&format!("sys/policies/acl/shop.{account}")).await;
        let text = policy["data"]["policy"].as_str().unwrap().to_owned();
        (text.contains("secret/data/shop/key"), text.contains("database/creds/shop-main"))
    };
    assert_eq!(reads("api").await, (true, true));
    assert_eq!(reads("worker").await, (true, false));
    let again = rig.run(&rig.vault.root, &arguments).await;
    assert!(again.out.contains("nothing to do"), "{}", again.out);
}

#[tokio::test]
async fn policies_can_be_had_as_files_without_a_vault() {
    let rig = Rig::start().await;
    let into = rig.directory.path().join("policies");
    let ended =
        rig.run("unused", &["bootstrap", "vault", "--policies", into.to_str().unwrap()]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    rig.bootstrap(&[]).await;
    for name in ["secret-operator", "shop-api"] {
        let file = std::fs::read_to_string(Path::new(&into).join(format!("{name}.hcl"))).unwrap();
        let made = rig.vault.read(&format!("sys/policies/acl/{name}")).await;
        assert_eq!(made["data"]["policy"].as_str(), Some(file.as_str()));
    }
}

pub(super) const CONFIG: &str = r#"
[vault]
address = "@VAULT@"
auth = { method = "token", token_env = "VAULT_TOKEN" }
timeout = "5s"

[defaults]
environments = ["production"]
overlap = "200ms"
settle = "0s"
retry_min = "100ms"
retry_max = "1s"

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
login = { vault = "secret/data/rotation/postgres" }

[secrets.JWT_SECRET]
category = "application"
tier = "monthly"
path = "shop/jwt"
rotate.jwt = { max_token_ttl = "1s", max_verifier_cache = "0s", clock_skew = "0s" }
overlap = "1s"

[secrets.REPORTS_PASSWORD]
category = "reports"
tier = "monthly"
rotate.vault_database = { static_role = "reports" }

[bootstrap.kubernetes]
host = "https://127.0.0.1:6443"
outside = true

[[bootstrap.sidecars]]
role = "shop-api"
namespaces = ["shop"]
service_accounts = ["api"]
secrets = ["JWT_SECRET", "POSTGRES_LEASED"]
categories = ["reports"]

[bootstrap.database.shop]
plugin = "postgresql-database-plugin"
url = "postgresql://{{username}}:{{password}}@127.0.0.1:@PG_PORT@/postgres?sslmode=disable"
username = "postgres"
password_file = "@DIR@/password"
roles.shop-main = { creation = ["CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';"], ttl = "4s", max_ttl = "1h" }
roles.other = { creation = ["CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';"] }
static_roles.reports = { username = "reports", period = "24h" }

[bootstrap.secrets.POSTGRES_LEASED]
category = "database"
store = "vault"
engine = "database"
role = "shop-main"
"#;

const SIDECAR: &str = r#"
[secrets.JWT_SECRET]
category = "application"
store = "vault"
engine = "kv2"
path = "shop/jwt"
[secrets.POSTGRES_LEASED]
category = "database"
store = "vault"
engine = "database"
role = "shop-main"
[secrets.REPORTS_PASSWORD]
category = "reports"
store = "vault"
engine = "database"
static_role = "reports"
"#;

pub(super) const INJECT: &str = r#"
[webhook]
namespace = "secret-broker"
[sidecar]
image = "secret-broker"
vault = { address = "https://vault.example:8200", auth = { method = "kubernetes", role = "{namespace}.{service_account}" } }
[secrets.KEY]
category = "application"
store = "vault"
engine = "kv2"
path = "shop/key"
[secrets.DATABASE]
category = "database"
store = "vault"
engine = "database"
role = "shop-main"
[[grant]]
namespaces = ["shop"]
service_accounts = ["api", "worker"]
secrets = ["KEY"]
[[grant]]
namespaces = ["shop"]
service_accounts = ["api"]
categories = ["database"]
[[grant]]
namespaces = ["team-*"]
service_accounts = ["api"]
secrets = ["KEY"]
"#;
