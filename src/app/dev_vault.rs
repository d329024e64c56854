//! `dev --vault`: puts a catalogue into the Vault that the environment names, and reads it from there.
//!
//! Only mounts of our own are written: `secret-broker-dev` (KV version 2) and
//! `secret-broker-dev-leases` (SSH one-time passwords, which Vault leases without any other server).

use std::{collections::BTreeMap, fmt::Write as _};

use aws_lc_rs::rand;
use serde_json::{Value, json};

use super::StartError;
use crate::{config, domain::secret::SecretValue};

const TEMPLATE: &str = include_str!("dev-vault.toml");
const VALUES: &str = "secret-broker-dev";
const LEASES: &str = "secret-broker-dev-leases";

/// The secrets with a value of their own: name, category, random characters.
const CATALOGUE: [(&str, &str, usize); 7] = [
    ("REDIS_PASSWORD", "database", 32),
    ("AWS_OBJECT_STORAGE", "storage-cloud", 40),
    ("AWS_KMS_KEY_ID", "storage-cloud", 16),
    ("JWT_SECRET", "application", 64),
    ("API_KEY_MASTER", "application", 48),
    ("DATADOG_API_KEY", "monitoring-external", 32),
    ("SLACK_WEBHOOK_URL", "monitoring-external", 24),
];

/// Prepares the Vault and returns the sections of the configuration that read from it.
pub(super) async fn prepare() -> Result<String, StartError> {
    let variable = |name: &str| {
        config::environment(name).filter(|value| !value.is_empty()).ok_or_else(|| {
            StartError::DevVault(format!(
                "{name} is not set: `dev --vault` needs VAULT_ADDR and VAULT_TOKEN"
            ))
        })
    };
    let vault = Preparation {
        http: reqwest::Client::new(),
        address: variable("VAULT_ADDR")?.trim_end_matches('/').to_owned(),
        token: SecretValue::new(variable("VAULT_TOKEN")?),
    };
    vault.mount(VALUES, &json!({ "type": "kv", "options": { "version": "2" } })).await?;
    let ttl = json!({ "default_lease_ttl": "15s", "max_lease_ttl": "60s" });
    vault.mount(LEASES, &json!({ "type": "ssh", "config": ttl })).await?;
    for (role, user) in [("postgres", "app"), ("replica", "app-ro")] {
        let body = json!({ "key_type": "otp", "default_user": user, "cidr_list": "127.0.0.0/8" });
        vault.write(&format!("{LEASES}/roles/{role}"), &body).await?;
    }
    let mut text = TEMPLATE.replace("VAULT_ADDRESS", &vault.address);
    for (name, category, length) in CATALOGUE {
        let body = json!({ "data": BTreeMap::from([("value", random(length)?)]) });
        vault.write(&format!("{VALUES}/data/{name}"), &body).await?;
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n[secrets.{name}]\ncategory = \"{category}\"\nstore = \"vault\"\nengine = \"kv2\"\n\
             mount = \"{VALUES}\"\npath = \"{name}\"\n"
        );
    }
    Ok(text)
}

struct Preparation {
    http: reqwest::Client,
    address: String,
    token: SecretValue,
}

impl Preparation {
    /// Mounts an engine; one that is there already is used.
    async fn mount(&self, path: &str, body: &Value) -> Result<(), StartError> {
        let present =
            self.request(reqwest::Method::GET, &format!("sys/mounts/{path}/tune"), None).await?;
        if present { Ok(()) } else { self.write(&format!("sys/mounts/{path}"), body).await }
    }

    async fn write(&self, path: &str, body: &Value) -> Result<(), StartError> {
        if self.request(reqwest::Method::POST, path, Some(body)).await? {
            return Ok(());
        }
        Err(StartError::DevVault(format!(
            "Vault refuses to write {path}: VAULT_TOKEN needs the right to"
        )))
    }

    /// Whether Vault answered with success.
    async fn request(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<bool, StartError> {
        let url = format!("{}/v1/{path}", self.address);
        let mut request =
            self.http.request(method, url).header("X-Vault-Token", self.token.expose());
        if let Some(body) = body {
            request = request.json(body);
        }
        match request.send().await {
            Ok(response) => Ok(response.status().is_success()),
            Err(_) => Err(StartError::DevVault(format!(
                "no Vault answers at VAULT_ADDR {}",
                self.address
            ))),
        }
    }
}

fn random(length: usize) -> Result<String, StartError> {
    let mut bytes = vec![0_u8; length];
    rand::fill(&mut bytes)
        .map_err(|_| StartError::DevVault("the system gives no random bytes".into()))?;
    Ok(bytes.iter().map(|byte| char::from(b'a' + byte % 26)).collect())
}
