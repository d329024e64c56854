//! What has to hold around a secret before and after it is rotated.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    LoginSource, login,
    webhook::{self, Webhook},
};
use crate::config::{
    Key,
    check::Check as Checking,
    units::{Span, mins, secs},
};

/// The alerts of Prometheus that fire.
const FIRING: &str = "ALERTS{alertstate=\"firing\"}";

/// One check: exactly one kind.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// A second place holds the version in force.
    pub backup: Option<BackupRaw>,
    /// The team is told.
    pub notify: Option<NotifyRaw>,
    /// No alert fires.
    pub alerts: Option<AlertsRaw>,
    /// The version to go back to can be read.
    pub rollback: Option<RollbackRaw>,
}

/// A second place that holds the version in force, so that it survives the loss of the first one.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackupRaw {
    /// A path of Vault's API, such as `secret/data/backup/jwt`.
    pub vault: Option<String>,
    /// A directory with one file for each field, such as a mounted Kubernetes Secret, in place of `vault`.
    pub directory: Option<PathBuf>,
    /// The secret's fields and the key or file of each; by the names of the fields when empty.
    pub fields: BTreeMap<String, String>,
    /// How long the second place may take to hold a new version.
    pub patience: Span<{ secs(30) }, 0, { mins(30) }>,
}

/// A webhook by which the team is told of a rotation before it begins and after it ended; it has to accept the message.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NotifyRaw {
    /// The form of the message.
    pub form: MessageForm,
    /// The address.
    pub url: Option<String>,
    /// The file of the address, in place of `url`.
    pub url_file: Option<PathBuf>,
    /// The variable of the address, in place of `url`.
    pub url_env: Option<String>,
    /// Allow `http://` to an address that is not this machine.
    pub allow_plaintext: bool,
    /// The time for one call.
    pub timeout: Span<{ secs(10) }, 100, { mins(5) }>,
}

/// The form of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum MessageForm {
    /// An object with `event`, `secret`, `rotation`, `version` and `text`.
    #[default]
    Json,
    /// A message of Slack's.
    Slack,
}

/// No alert fires, as Alertmanager or Prometheus tells.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlertsRaw {
    /// The base address of Alertmanager; alerts that are silenced or inhibited don't count.
    pub alertmanager: Option<String>,
    /// Matchers, all of which an alert has to fulfil to count, such as `severity="critical"`.
    pub matchers: Vec<String>,
    /// The base address of Prometheus, in place of `alertmanager`.
    pub prometheus: Option<String>,
    /// The query that has to have an empty answer; `ALERTS{alertstate="firing"}` when absent.
    pub query: Option<String>,
    /// The login: a name and password, or a bearer token alone.
    pub login: Option<login::Raw>,
    /// Allow `http://` to an address that is not this machine.
    pub allow_plaintext: bool,
    /// The time for one call.
    pub timeout: Span<{ secs(10) }, 100, { mins(5) }>,
}

/// The version to go back to can be read at its store.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RollbackRaw {}

/// One check.
#[derive(Debug, PartialEq, Eq)]
pub enum Check {
    /// A second place holds the version in force.
    Backup(Backup),
    /// The team is told.
    Notify(Notify),
    /// No alert fires.
    Alerts(Alerts),
    /// The version to go back to can be read.
    Rollback,
}

/// A second place that holds the version in force.
#[derive(Debug, PartialEq, Eq)]
pub struct Backup {
    /// The place.
    pub place: BackupPlace,
    /// The secret's fields and the key or file of each; by their names when empty.
    pub fields: BTreeMap<String, String>,
    /// How long it may take to hold a new version.
    pub patience: Duration,
}

/// Where a backup lies.
#[derive(Debug, PartialEq, Eq)]
pub enum BackupPlace {
    /// At a path of Vault.
    Vault(LoginSource),
    /// In a directory, a file for each field.
    Directory(PathBuf),
}

/// A webhook by which the team is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Notify {
    /// The form of the message.
    pub form: MessageForm,
    /// The address.
    pub webhook: Webhook,
    /// The time for one call.
    pub timeout: Duration,
}

/// No alert fires.
#[derive(Debug, PartialEq, Eq)]
pub struct Alerts {
    /// Who knows.
    pub source: AlertSource,
    /// The login.
    pub login: Option<LoginSource>,
    /// The time for one call.
    pub timeout: Duration,
}

/// Who knows which alerts fire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertSource {
    /// Alertmanager.
    Alertmanager {
        /// Its base address.
        url: String,
        /// Matchers that an alert has to fulfil to count.
        matchers: Vec<String>,
    },
    /// Prometheus.
    Prometheus {
        /// Its base address.
        url: String,
        /// The query that has to have an empty answer.
        query: String,
    },
}

/// Completes the one check that is there.
pub(super) fn check(check: &mut Checking<'_>, key: &Key, raw: Raw) -> Option<Check> {
    let Raw { backup, notify, alerts, rollback } = raw;
    let mut all = Vec::new();
    if let Some(raw) = backup {
        all.push(self::backup(check, &key.name("backup"), raw).map(Check::Backup));
    }
    if let Some(raw) = notify {
        all.push(self::notify(check, &key.name("notify"), raw).map(Check::Notify));
    }
    if let Some(raw) = alerts {
        all.push(self::alerts(check, &key.name("alerts"), raw).map(Check::Alerts));
    }
    if let Some(RollbackRaw {}) = rollback {
        all.push(Some(Check::Rollback));
    }
    if all.len() != 1 {
        let found = if all.is_empty() { "missing" } else { "several checks" };
        let accepted = "expected exactly one of backup, notify, alerts and rollback";
        check.wrong(key.clone(), found, accepted);
        return None;
    }
    all.pop()?
}

fn backup(check: &mut Checking<'_>, key: &Key, raw: BackupRaw) -> Option<Backup> {
    let BackupRaw { vault, directory, fields, patience } = raw;
    let place = match (vault, directory) {
        (Some(_), Some(_)) => {
            check.wrong(key.name("directory"), "given beside vault", "expected one of both");
            return None;
        }
        (Some(path), None) => {
            check.of_vault(key.name("vault"));
            let path = check.vault_path(&key.name("vault"), Some(path), "a backup")?;
            BackupPlace::Vault(LoginSource::Vault(path))
        }
        (None, directory) => {
            let path = check.path(&key.name("directory"), directory, "a backup without vault")?;
            BackupPlace::Directory(path)
        }
    };
    let leaves = |file: &String| file.contains(['/', '\0']) || matches!(&**file, "" | "." | "..");
    if fields.values().any(leaves) {
        let accepted = "expected names of keys or files, without `/`";
        check.wrong(key.name("fields"), "not a name", accepted);
        return None;
    }
    Some(Backup { place, fields, patience: patience.duration() })
}

fn notify(check: &mut Checking<'_>, key: &Key, raw: NotifyRaw) -> Option<Notify> {
    let NotifyRaw { form, url, url_file, url_env, allow_plaintext, timeout } = raw;
    let given = webhook::Given { url, url_file, url_env, allow_plaintext };
    let webhook = webhook::check(check, key, given, "the check `notify`")?;
    Some(Notify { form, webhook, timeout: timeout.duration() })
}

fn alerts(check: &mut Checking<'_>, key: &Key, raw: AlertsRaw) -> Option<Alerts> {
    let AlertsRaw { alertmanager, matchers, prometheus, query, login, allow_plaintext, timeout } =
        raw;
    let by = "the check `alerts`, unless there is the other one";
    let form = "expected https://HOST:PORT";
    let choice = if prometheus.is_some() { "prometheus" } else { "alertmanager" };
    check.only(
        key,
        choice,
        &[
            ("alertmanager", &["alertmanager"]),
            ("matchers", &["alertmanager"]),
            ("query", &["prometheus"]),
        ],
    );
    let source = if prometheus.is_some() {
        let url = check.url(&key.name("prometheus"), prometheus, allow_plaintext, by, form);
        let query = query.unwrap_or_else(|| FIRING.to_owned());
        url.map(|url| AlertSource::Prometheus { url, query })
    } else {
        let url = check.url(&key.name("alertmanager"), alertmanager, allow_plaintext, by, form);
        url.map(|url| AlertSource::Alertmanager { url, matchers })
    };
    let login = match login {
        None => Some(None),
        login => login::check(check, &key.name("login"), login, "alerts").map(Some),
    };
    Some(Alerts { source: source?, login: login?, timeout: timeout.duration() })
}
