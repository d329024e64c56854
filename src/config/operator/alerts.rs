//! Who is called when a rotation needs people.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::webhook::{self, Webhook};
use crate::config::{
    Key,
    check::Check,
    units::{Span, mins, secs},
};

/// One place that alerts go to; all of them are written to the log too.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// The form of the messages.
    pub form: Option<Form>,
    /// The address: for `alertmanager` its base address, for `slack` the webhook.
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

/// The form of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Form {
    /// Alertmanager's API, version 2.
    Alertmanager,
    /// An incoming webhook of Slack, or of what understands its messages.
    Slack,
}

/// One place that alerts go to.
#[derive(Debug, PartialEq, Eq)]
pub struct AlertPlace {
    /// The form of the messages.
    pub form: Form,
    /// The address.
    pub webhook: Webhook,
    /// The time for one call.
    pub timeout: Duration,
}

/// Completes one place.
pub(super) fn check(check: &mut Check<'_>, key: &Key, raw: Raw) -> Option<AlertPlace> {
    let Raw { form, url, url_file, url_env, allow_plaintext, timeout } = raw;
    let form = check.need(&key.name("form"), form, "alerts");
    let given = webhook::Given { url, url_file, url_env, allow_plaintext };
    let webhook = webhook::check(check, key, given, "alerts");
    Some(AlertPlace { form: form?, webhook: webhook?, timeout: timeout.duration() })
}
