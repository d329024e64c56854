//! A real Vault server that can be stopped, sealed and started again with its data.

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Running, free_port, tool, until};

pub struct Vault {
    process: Option<Running>,
    directory: TempDir,
    port: u16,
    http: reqwest::Client,
    unseal_key: String,
    more: String,
    pub root: String,
}

impl Vault {
    /// A server that is initialised and unsealed.
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// The same with more configuration, such as a second listener.
    pub async fn with(configuration: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().expect("a directory");
        let http = reqwest::Client::new();
        let mut vault = Self {
            process: None,
            directory,
            port: free_port(),
            http,
            unseal_key: String::new(),
            more: configuration.to_owned(),
            root: String::new(),
        };
        vault.run();
        let init = until("Vault answers", async || {
            let body = json!({ "secret_shares": 1, "secret_threshold": 1 });
            let url = vault.url("sys/init");
            let answer = vault.http.put(url).json(&body).send().await.ok()?;
            answer.json::<Value>().await.ok().filter(|init| init["root_token"].is_string())
        })
        .await;
        vault.root = init["root_token"].as_str().expect("a token").to_owned();
        vault.unseal_key = init["keys"][0].as_str().expect("a key").to_owned();
        vault.unseal().await;
        vault
    }

    fn run(&mut self) {
        let data = self.directory.path().join("data");
        let config = format!(
            "storage \"file\" {{ path = \"{}\" }}\n\
             listener \"tcp\" {{ address = \"127.0.0.1:{}\"\n tls_disable = true }}\n\
             disable_mlock = true\n api_addr = \"http://127.0.0.1:{}\"\n{}",
            data.display(),
            self.port,
            self.port,
            self.more,
        );
        let path = self.directory.path().join("vault.hcl");
        fs::write(&path, config).expect("the configuration");
        let log = fs::File::create(self.directory.path().join("vault.log")).expect("a log");
        let mut command = Command::new(tool("vault"));
        command.arg("server").arg("-config").arg(&path).stdout(log).stderr(Stdio::null());
        self.process = Some(Running::start(&mut command));
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.address())
    }

    /// Waits until the server serves.
    pub async fn unseal(&self) {
        until("Vault is unsealed", async || {
            let body = json!({ "key": self.unseal_key });
            let _ = self.http.put(self.url("sys/unseal")).json(&body).send().await;
            let health = self.http.get(self.url("sys/health")).send().await.ok()?;
            (health.status() == 200).then_some(())
        })
        .await;
    }

    pub async fn seal(&self) {
        self.write("sys/seal", json!({})).await;
        until("Vault is sealed", async || {
            let health = self.http.get(self.url("sys/health")).send().await.ok()?;
            (health.status() == 503).then_some(())
        })
        .await;
    }

    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts again on the same port, with the data as it was.
    pub async fn restart(&mut self) {
        self.stop();
        self.run();
        self.unseal().await;
    }

    pub async fn request(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = method.parse().expect("a method");
        let mut request =
            self.http.request(method, self.url(path)).header("X-Vault-Token", &self.root);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("Vault answers");
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    /// Writes as root; fails the test if Vault refuses.
    pub async fn write(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.request("POST", path, Some(body)).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    /// Has the server write down each request from now on.
    pub async fn audit(&self) {
        let file = self.directory.path().join("audit.log");
        let options = json!({ "file_path": file });
        self.write("sys/audit/file", json!({ "type": "file", "options": options })).await;
    }

    /// How often each path was asked for since then, by others than root.
    pub fn asked(&self) -> BTreeMap<String, usize> {
        let log = fs::read_to_string(self.directory.path().join("audit.log")).expect("a log");
        let mut asked = BTreeMap::new();
        // The last line may be half written.
        for line in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let is_root = line["auth"]["policies"] == json!(["root"]);
            if line["type"] == "request" && !is_root {
                let path = line["request"]["path"].as_str().expect("a path");
                *asked.entry(path.to_owned()).or_default() += 1;
            }
        }
        // Vault itself, when it began to write.
        asked.remove("sys/audit/test");
        asked
    }

    pub async fn read(&self, path: &str) -> Value {
        let (status, answer) = self.request("GET", path, None).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    /// A policy and an approle of this name; returns the role id and a secret id.
    pub async fn approle(&self, name: &str, policy: &str, settings: Value) -> (String, String) {
        if self.request("GET", "sys/auth/approle/tune", None).await.0 != 200 {
            self.write("sys/auth/approle", json!({ "type": "approle" })).await;
        }
        self.write(&format!("sys/policies/acl/{name}"), json!({ "policy": policy })).await;
        let mut role = json!({ "token_policies": [name] });
        for (key, value) in settings.as_object().expect("an object") {
            role[key] = value.clone();
        }
        self.write(&format!("auth/approle/role/{name}"), role).await;
        let role_id = self.read(&format!("auth/approle/role/{name}/role-id")).await;
        let secret_id = self.write(&format!("auth/approle/role/{name}/secret-id"), json!({})).await;
        let text = |value: &Value| value.as_str().expect("an id").to_owned();
        (text(&role_id["data"]["role_id"]), text(&secret_id["data"]["secret_id"]))
    }

    /// A database engine over a `PostgreSQL` server, with a role `app` of leased users.
    pub async fn database(&self, postgres: &super::postgres::Postgres, ttl: &str, max_ttl: &str) {
        self.write("sys/mounts/database", json!({ "type": "database" })).await;
        let url = format!(
            "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable",
            postgres.port
        );
        self.write(
            "database/config/main",
            json!({
                "plugin_name": "postgresql-database-plugin",
                "allowed_roles": "*",
                "connection_url": url,
                "username": "postgres",
                "password": super::postgres::PASSWORD,
            }),
        )
        .await;
        self.write(
            "database/roles/app",
            json!({
                "db_name": "main",
                "creation_statements": [
                    "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';"
                ],
                "default_ttl": ttl,
                "max_ttl": max_ttl,
            }),
        )
        .await;
    }
}

/// What a broker needs to read everything and manage its leases.
pub const BROKER_POLICY: &str = r#"
path "database/*" { capabilities = ["read"] }
path "secret/*" { capabilities = ["read"] }
path "kv1/*" { capabilities = ["read"] }
path "ssh/*" { capabilities = ["read", "update"] }
path "pki/*" { capabilities = ["read", "update"] }
path "totp/*" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
"#;
