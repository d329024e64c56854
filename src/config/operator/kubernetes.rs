//! The cluster: how its API server is reached, and which of its objects are the operator's.

#![expect(clippy::option_option, reason = "a key that is absent is not one that is wrong")]

use std::{fmt, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::raw::Secret;
use crate::config::{
    Key,
    check::Check,
    units::{Span, mins, secs},
};

/// The section.
const SECTION: &str = "kubernetes";

/// The cluster. Empty inside of a pod, whose service account is used then.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// The address of the API server; the one of the cluster around this pod when absent.
    pub server: Option<String>,
    /// The file of the token; needed by `server`.
    pub token_file: Option<PathBuf>,
    /// The authorities of the API server's certificate, as PEM; those of this machine when absent.
    pub ca_file: Option<PathBuf>,
    /// The namespace of the lease, of events and of the status; the pod's own when absent.
    pub namespace: Option<String>,
    /// The time for one call.
    pub timeout: Span<{ secs(5) }, 100, { secs(8) }>,
    /// The `ConfigMap` in which the leader writes where each secret stands; none is written when absent.
    pub status: Option<String>,
    /// The Deployment of the operator, which its events are about; about the status when absent.
    pub deployment: Option<String>,
    /// Whether Secrets are encrypted in etcd, as the cluster's administrators vouch for. Without it the
    /// operator warns when it puts values there.
    pub encrypted_at_rest: bool,
    /// How often backups are compared with what they are of.
    pub compare_interval: Span<{ mins(10) }, { secs(1) }, { mins(1440) }>,
}

/// Which of several operators acts.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LeadershipRaw {
    /// The Lease in Kubernetes that decides it; a lock beside the journal when absent.
    pub lease: Option<String>,
}

/// A Secret in Kubernetes.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecretRaw {
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: Option<String>,
}

/// The cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// The API server; that of the cluster around this pod when absent.
    pub server: Option<ApiServer>,
    /// The namespace of the operator's own objects; the pod's when absent.
    pub namespace: Option<String>,
    /// The time for one call.
    pub timeout: Duration,
    /// The `ConfigMap` of the status.
    pub status: Option<String>,
    /// The Deployment that events are about.
    pub deployment: Option<String>,
    /// Whether Secrets are said to be encrypted in etcd.
    pub encrypted_at_rest: bool,
    /// How often backups are compared.
    pub compare_interval: Duration,
    /// The Lease that decides who leads.
    pub lease: Option<String>,
}

/// An API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// Its address.
    pub address: String,
    /// The file of the token.
    pub token_file: PathBuf,
    /// The authorities of its certificate.
    pub ca_file: Option<PathBuf>,
}

/// A Secret in Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretPlace {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for SecretPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kubernetes/{}/{}", self.namespace, self.name)
    }
}

/// Completes the section, together with what leadership needs of it.
pub(in crate::config) fn check(
    check: &mut Check<'_>,
    raw: Option<Raw>,
    leadership: LeadershipRaw,
) -> Option<Option<Kubernetes>> {
    let key = Key::of(SECTION);
    let lease = named(check, &Key::of("leadership").name("lease"), leadership.lease);
    let Some(raw) = raw else {
        if lease.as_ref().is_some_and(Option::is_some) {
            check.need::<()>(&key, None, "leadership.lease");
            return None;
        }
        return lease.map(|_| None);
    };
    let Raw { server, token_file, ca_file, .. } = raw;
    let server = match (server, token_file, ca_file) {
        (None, None, None) => Some(None),
        (address, token_file, ca_file) => {
            let form = "expected https://HOST:PORT";
            let by = "[kubernetes]";
            let address = check.url(&key.name("server"), address, false, by, form);
            let token_file = check.path(&key.name("token_file"), token_file, "kubernetes.server");
            let ca_file = check.some_path(&key.name("ca_file"), ca_file);
            address.zip(token_file).zip(ca_file).map(|((address, token_file), ca_file)| {
                Some(ApiServer { address, token_file, ca_file })
            })
        }
    };
    let namespace = named(check, &key.name("namespace"), raw.namespace);
    let status = named(check, &key.name("status"), raw.status);
    let deployment = named(check, &key.name("deployment"), raw.deployment);
    Some(Some(Kubernetes {
        server: server?,
        namespace: namespace?,
        timeout: raw.timeout.duration(),
        status: status?,
        deployment: deployment?,
        encrypted_at_rest: raw.encrypted_at_rest,
        compare_interval: raw.compare_interval.duration(),
        lease: lease?,
    }))
}

/// Completes the Secret in which a secret lies, and that of its backup.
pub(super) fn of_secret(
    check: &mut Check<'_>,
    key: &Key,
    secret: &mut Secret,
) -> Option<(Option<SecretPlace>, Option<SecretPlace>)> {
    let (store, backup) = (secret.kubernetes.take(), secret.backup.take());
    let (at_store, at_backup) = (key.name("kubernetes"), key.name("backup"));
    if !check.has_cluster && (store.is_some() || backup.is_some()) {
        check.need::<()>(&Key::of(SECTION), None, &key.to_string());
    }
    let keeps_itself = secret.rotate.vault_database.is_some();
    if store.is_some() && (secret.path.is_some() || secret.mount.is_some()) {
        check.wrong(at_store, "beside a path of Vault", "expected one of both");
        return None;
    }
    if store.is_some() && backup.is_some() {
        let accepted = "leave it out: only values that lie in Vault are copied";
        check.wrong(at_backup, "a backup in the same cluster", accepted);
        return None;
    }
    if keeps_itself && (store.is_some() || backup.is_some()) {
        let at = if store.is_some() { at_store } else { at_backup };
        let accepted = "leave it out: Vault's database engine keeps the value itself";
        check.wrong(at, "a place for a value that is not stored", accepted);
        return None;
    }
    let store = place(check, &at_store, store);
    let backup = place(check, &at_backup, backup);
    Some((store?, backup?))
}

fn place(check: &mut Check<'_>, key: &Key, raw: Option<SecretRaw>) -> Option<Option<SecretPlace>> {
    let Some(SecretRaw { namespace, name }) = raw else { return Some(None) };
    let by = key.to_string();
    let (at_namespace, at_name) = (key.name("namespace"), key.name("name"));
    let namespace = check.need(&at_namespace, namespace, &by);
    let namespace = named(check, &at_namespace, namespace);
    let name = check.need(&at_name, name, &by);
    let name = named(check, &at_name, name);
    Some(Some(SecretPlace { namespace: namespace??, name: name?? }))
}

/// A name as Kubernetes has them, short enough that a version's number can be added.
fn named(check: &mut Check<'_>, key: &Key, name: Option<String>) -> Option<Option<String>> {
    let Some(name) = name else { return Some(None) };
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let fits = matches!(bytes.len(), 1..=230)
        && is_end(bytes.first())
        && is_end(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase() || b"-.".contains(b));
    if fits {
        return Some(Some(name));
    }
    let accepted = "expected 1 to 230 of a-z 0-9 - . that begin and end with a letter or digit";
    check.wrong(key.clone(), "not a name of Kubernetes", accepted);
    None
}

#[cfg(test)]
mod tests {
    use super::super::OperatorConfig;

    const FILE: &str = r#"
[vault]
address = "http://127.0.0.1:8200"
auth = { method = "token", token_env = "TOKEN" }
[secrets.KEY]
category = "application"
tier = "monthly"
rotate.api_key = {}
"#;

    fn parse(more: &str) -> Result<OperatorConfig, String> {
        let env = |name: &str| (name == "TOKEN").then(|| "t".to_owned());
        OperatorConfig::parse(&format!("{FILE}{more}"), "operator.toml", &env)
            .map(|(config, _)| config)
            .map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn an_empty_section_is_the_cluster_around_the_pod() {
        let config = parse("path = \"key\"\n[kubernetes]\n[leadership]\nlease = \"operator\"\n");
        let cluster = config.unwrap().kubernetes.unwrap();
        assert_eq!((cluster.server, cluster.lease.as_deref()), (None, Some("operator")));
    }

    #[test]
    fn a_secret_lies_in_one_place() {
        let place = "kubernetes = { namespace = \"shop\", name = \"key\" }\n[kubernetes]\n";
        let config = parse(place).unwrap();
        let secret = config.secrets.values().next().unwrap();
        assert_eq!(secret.kubernetes.as_ref().unwrap().name, "key");
        assert_eq!(secret.place, None);
        let told = parse(&format!("path = \"key\"\n{place}")).unwrap_err();
        assert!(told.contains("secrets.KEY.kubernetes: beside a path"), "{told}");
        let backup = "backup = { namespace = \"shop\", name = \"key\" }\n";
        let told = parse(&format!("{backup}{place}")).unwrap_err();
        assert!(told.contains("secrets.KEY.backup: a backup in the same cluster"), "{told}");
    }

    #[test]
    fn what_lies_in_a_cluster_needs_one() {
        let told = parse("backup = { namespace = \"Shop\" }\npath = \"key\"\n").unwrap_err();
        for part in [
            "kubernetes: missing",
            "secrets.KEY.backup.namespace: not a name of Kubernetes",
            "secrets.KEY.backup.name: missing",
        ] {
            assert!(told.contains(part), "{part}\nin\n{told}");
        }
        let told = parse("path = \"key\"\n[leadership]\nlease = \"x\"\n").unwrap_err();
        assert!(told.contains("needed by leadership.lease"), "{told}");
    }
}
