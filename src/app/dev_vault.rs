//! `dev --vault`: puts a catalogue into the Vault that it finds, and reads it from there.
//!
//! The Vault is the one that `vault` itself would use: by `VAULT_ADDR` and `VAULT_TOKEN`, or a
//! development server on this machine and the token that `vault login` left.
//!
//! Only mounts of our own are written: `secret-broker-dev` (KV version 2) and
//! `secret-broker-dev-leases` (SSH one-time passwords, which Vault leases without any other server).

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use aws_lc_rs::rand;
use serde_json::{Value, json};

use super::StartError;
use crate::{
    config,
    domain::secret::{Fields, SecretValue},
};

const TEMPLATE: &str = include_str!("dev-vault.toml");
const OPERATOR: &str = r#"
[vault]
address = "VAULT_ADDRESS"
allow_plaintext = true

[vault.auth]
method = "token"
TOKEN

[journal]
mount = "secret-broker-dev"
path = "secret-operator"
"#;
/// The mount of the secrets that the operator rotates.
pub(super) const MOUNT: &str = "mount = \"secret-broker-dev\"\n";
const VALUES: &str = "secret-broker-dev";
const LEASES: &str = "secret-broker-dev-leases";

/// Where `vault server -dev` listens.
const LOCAL: &str = "http://127.0.0.1:8200";

/// A field of a secret: its name, how its value begins, and how many random characters follow.
type Field = (&'static str, &'static str, usize);
/// The secrets with values of their own: name, category, fields.
const CATALOGUE: [(&str, &str, &[Field]); 7] = [
    ("REDIS_PASSWORD", "database", &[("value", "", 32)]),
    (
        "AWS_OBJECT_STORAGE",
        "storage-cloud",
        &[("AWS_ACCESS_KEY_ID", "AKIA", 16), ("AWS_SECRET_ACCESS_KEY", "", 40)],
    ),
    ("AWS_KMS_KEY_ID", "storage-cloud", &[("value", "alias/", 16)]),
    ("JWT_SECRET", "application", &[("value", "", 64)]),
    ("API_KEY_MASTER", "application", &[("value", "sbk_", 48)]),
    ("DATADOG_API_KEY", "monitoring-external", &[("value", "", 32)]),
    ("SLACK_WEBHOOK_URL", "monitoring-external", &[("value", SLACK, 24)]),
];
const SLACK: &str = "https://hooks.slack.com/services/T00000000/B00000000/";

/// Prepares the Vault and returns the sections of the configurations that read from it: the
/// broker's and the operator's.
pub(super) async fn prepare() -> Result<(String, String), StartError> {
    let (token, setting) = token()?;
    let address = variable("VAULT_ADDR").unwrap_or_else(|| LOCAL.to_owned());
    let vault = Preparation {
        http: reqwest::Client::new(),
        address: address.trim_end_matches('/').to_owned(),
        token,
    };
    vault.mount(VALUES, &json!({ "type": "kv", "options": { "version": "2" } })).await?;
    let ttl = json!({ "default_lease_ttl": "15s", "max_lease_ttl": "60s" });
    vault.mount(LEASES, &json!({ "type": "ssh", "config": ttl })).await?;
    for (role, user) in [("postgres", "app"), ("replica", "app-ro")] {
        let body = json!({ "key_type": "otp", "default_user": user, "cidr_list": "127.0.0.0/8" });
        vault.write(&format!("{LEASES}/roles/{role}"), &body).await?;
    }
    let mut text = TEMPLATE.replace("VAULT_ADDRESS", &vault.address).replace("TOKEN", &setting);
    for (name, category, fields) in CATALOGUE {
        let data = generated(fields)?;
        vault.write(&format!("{VALUES}/data/{name}"), &json!({ "data": data })).await?;
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n[secrets.{name}]\ncategory = \"{category}\"\nstore = \"vault\"\nengine = \"kv2\"\n\
             mount = \"{VALUES}\"\npath = \"{name}\"\n"
        );
    }
    let operator = OPERATOR.replace("VAULT_ADDRESS", &vault.address).replace("TOKEN", &setting);
    Ok((text, operator))
}

/// Values for the fields of a secret of the catalogue.
fn generated(fields: &[Field]) -> Result<BTreeMap<&'static str, String>, StartError> {
    let value =
        |&(field, prefix, length): &Field| Ok((field, format!("{prefix}{}", random(length)?)));
    fields.iter().map(value).collect()
}

/// The first values of the secrets that are rotated from an encrypted file.
pub(super) fn sealed() -> Result<BTreeMap<&'static str, Fields>, StartError> {
    let entries = CATALOGUE.iter().filter(|(_, category, _)| *category == "application");
    let secret = |(name, _, fields): &(&'static str, _, &[Field])| {
        let values = generated(fields)?.into_iter();
        Ok((
            *name,
            values.map(|(field, text)| (field.to_owned(), SecretValue::new(text))).collect(),
        ))
    };
    entries.map(secret).collect()
}

fn variable(name: &str) -> Option<String> {
    config::environment(name).filter(|value| !value.is_empty())
}

/// The token, and the setting by which the broker finds it too.
fn token() -> Result<(SecretValue, String), StartError> {
    if let Some(token) = variable("VAULT_TOKEN") {
        return Ok((SecretValue::new(token), "token_env = \"VAULT_TOKEN\"".to_owned()));
    }
    let path = variable("HOME").map(|home| PathBuf::from(home).join(".vault-token"));
    let token = path.as_ref().and_then(|path| fs::read(path).ok());
    let (Some(path), Some(token)) = (path, token) else {
        let what = "no token for Vault: set VAULT_TOKEN, or run `vault login`";
        return Err(StartError::DevVault(what.to_owned()));
    };
    let setting = format!("token_file = '{}'", path.display());
    Ok((SecretValue::new(token.trim_ascii()), setting))
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
                "no Vault answers at {}: set VAULT_ADDR to the address of one",
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
