//! The settings of the rotator `aws_kms`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Check, Key,
    aws::{self, Aws},
};
use crate::config::{
    operator::{LoginSource, login},
    units::{Span, mins, secs},
};

/// The settings as people write them.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// What a rotation does.
    pub method: Method,
    /// `alias`: the alias that names the key in force, such as `alias/shop-objects`. A new key is made, with the
    /// policy of the one before, and the alias is moved to it.
    pub alias: Option<String>,
    /// `material`: the id of the key whose material is rotated; the id stays.
    pub key_id: Option<String>,
    /// The operator's own login: `username` is the id of an access key.
    pub login: Option<login::Raw>,
    /// The key's region.
    pub region: Option<String>,
    /// The address in place of AWS's own.
    pub endpoint: Option<String>,
    /// Allow `http://` to an address that is not this machine.
    pub allow_plaintext: bool,
    /// The time for one call.
    pub timeout: Span<{ secs(10) }, 100, { mins(5) }>,
    /// How long AWS may take to know a change everywhere.
    pub patience: Span<{ mins(1) }, { secs(1) }, { mins(15) }>,
}

/// What a rotation of a KMS key does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Method {
    /// Makes a new key and moves an alias to it.
    #[default]
    Alias,
    /// Gives the key new material and keeps its id.
    Material,
}

/// The settings.
#[derive(Debug, PartialEq, Eq)]
pub struct AwsKms {
    /// Where AWS is.
    pub aws: Aws,
    /// The operator's own login.
    pub login: LoginSource,
    /// What a rotation does.
    pub key: KmsKey,
    /// How long AWS may take to know a change everywhere.
    pub patience: Duration,
}

/// The key, by what stays of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KmsKey {
    /// An alias with `alias/` before it; the key behind it changes.
    Alias(String),
    /// A key's id; its material changes.
    Material(String),
}

pub(super) fn check(check: &mut Check<'_>, key: &Key, raw: Raw) -> Option<AwsKms> {
    let Raw { method, alias, key_id, login, region, endpoint, allow_plaintext, .. } = raw;
    let choice = match method {
        Method::Alias => "alias",
        Method::Material => "material",
    };
    check.only(key, choice, &[("alias", &["alias"]), ("key_id", &["material"])]);
    let by = format!("method = \"{choice}\"");
    let kms_key = match method {
        Method::Alias => check.text(&key.name("alias"), alias, &by).and_then(|alias| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-');
            let rest = alias.strip_prefix("alias/").filter(|rest| !rest.starts_with("aws/"));
            if rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(plain)) {
                return Some(KmsKey::Alias(alias));
            }
            let accepted = "expected \"alias/NAME\" of the characters A-Z a-z 0-9 / _ -";
            check.wrong(key.name("alias"), "not an alias", accepted);
            None
        }),
        Method::Material => check.text(&key.name("key_id"), key_id, &by).map(KmsKey::Material),
    };
    check.text(&key.name("region"), region.clone(), "rotate.aws_kms");
    let login = aws::login(check, key, login, "rotate.aws_kms");
    let given = aws::Given { region, endpoint, allow_plaintext, timeout: raw.timeout.duration() };
    let aws = aws::check(check, key, given);
    let patience = raw.patience.duration();
    Some(AwsKms { aws: aws?, login: login?, key: kms_key?, patience })
}
