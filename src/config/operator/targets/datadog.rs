//! The settings of the rotator `datadog`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Key};
use crate::config::{
    operator::{LoginSource, login},
    units::{Span, mins, secs},
};

/// The site that is meant when none is named.
pub(in crate::config::operator) const SITE: &str = "https://api.datadoghq.com";

/// The settings as people write them.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// The name of the keys at Datadog. Every other key of exactly this name is taken for a left-over of a rotation
    /// that was cut off, so it has to belong to this secret alone.
    pub name: Option<String>,
    /// The operator's application key with `api_keys_read`, `api_keys_write` and `api_keys_delete`: the fields
    /// `application_key` and, where one is to be used that is not rotated here, `api_key` of Vault's path, or a file.
    pub login: Option<login::Raw>,
    /// The base address of the site's API; `https://api.datadoghq.com` when absent.
    pub url: Option<String>,
    /// Allow `http://` to an address that is not this machine.
    pub allow_plaintext: bool,
    /// The time for one call.
    pub timeout: Span<{ secs(10) }, 100, { mins(5) }>,
    /// How long Datadog may take to know a change everywhere.
    pub patience: Span<{ mins(1) }, { secs(1) }, { mins(15) }>,
}

/// The settings.
#[derive(Debug, PartialEq, Eq)]
pub struct Datadog {
    /// The base address of the API.
    pub url: String,
    /// The name of the keys.
    pub name: String,
    /// The operator's own login.
    pub login: LoginSource,
    /// The time for one call.
    pub timeout: Duration,
    /// How long Datadog may take to know a change everywhere.
    pub patience: Duration,
}

pub(super) fn check(check: &mut Check<'_>, key: &Key, raw: Raw) -> Option<Datadog> {
    let Raw { name, login, url, allow_plaintext, timeout, patience } = raw;
    let name = check.text(&key.name("name"), name, "rotate.datadog");
    let login = login::check(check, &key.name("login"), login, "rotate.datadog");
    let url = url.or_else(|| Some(SITE.to_owned()));
    let form = "expected https://api.SITE";
    let url = check.url(&key.name("url"), url, allow_plaintext, "rotate.datadog", form);
    Some(Datadog {
        url: url?,
        name: name?,
        login: login?,
        timeout: timeout.duration(),
        patience: patience.duration(),
    })
}
