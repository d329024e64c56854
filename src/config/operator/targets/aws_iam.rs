//! The settings of the rotator `aws_iam`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Check, Key,
    aws::{self, Aws},
};
use crate::config::{
    operator::{LoginSource, login},
    units::{Span, days, hours, mins, secs},
};

/// The settings as people write them.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// The IAM user whose key pair it is. The operator needs `iam:CreateAccessKey`, `ListAccessKeys`,
    /// `UpdateAccessKey`, `DeleteAccessKey` and `GetAccessKeyLastUsed` on it.
    pub user: Option<String>,
    /// The operator's own login: `username` is the id of an access key.
    pub login: Option<login::Raw>,
    /// The region of the calls to STS; `us-east-1` when absent.
    pub region: Option<String>,
    /// The address in place of AWS's own.
    pub endpoint: Option<String>,
    /// Allow `http://` to an address that is not this machine.
    pub allow_plaintext: bool,
    /// The time for one call.
    pub timeout: Span<{ secs(10) }, 100, { mins(5) }>,
    /// How long AWS may take to know a change everywhere.
    pub patience: Span<{ mins(1) }, { secs(1) }, { mins(15) }>,
    /// How long a key lies deactivated, and could be activated again, before it is deleted.
    pub inactive_for: Span<{ hours(1) }, 0, { days(90) }>,
    /// No one else makes keys for this user: each key that is not in force is deleted to make room. Otherwise only
    /// keys that were never used are, and a further one that was used stops the rotation.
    pub exclusive: bool,
    /// When a key is compromised, deny all temporary sessions that were opened until then, by an inline policy of the
    /// user named `secret-broker-deny-older-sessions`. Needs `iam:PutUserPolicy`.
    pub deny_older_sessions: bool,
}

/// The settings.
#[derive(Debug, PartialEq, Eq)]
pub struct AwsIam {
    /// Where AWS is.
    pub aws: Aws,
    /// The operator's own login.
    pub login: LoginSource,
    /// The user.
    pub user: String,
    /// How long AWS may take to know a change everywhere.
    pub patience: Duration,
    /// How long a key lies deactivated before it is deleted.
    pub inactive_for: Duration,
    /// Whether nobody else makes keys for the user.
    pub exclusive: bool,
    /// Whether a compromise ends temporary sessions too.
    pub deny_older_sessions: bool,
}

pub(super) fn check(check: &mut Check<'_>, key: &Key, raw: Raw) -> Option<AwsIam> {
    let Raw { user, login, region, endpoint, allow_plaintext, timeout, patience, .. } = raw;
    let user = check.text(&key.name("user"), user, "rotate.aws_iam");
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b);
    let is_user = user.as_ref().is_none_or(|u| u.len() <= 64 && u.bytes().all(plain));
    if !is_user {
        let accepted = "expected 1 to 64 of the characters A-Z a-z 0-9 + = , . @ _ -";
        check.wrong(key.name("user"), "not a user's name", accepted);
    }
    let login = aws::login(check, key, login, "rotate.aws_iam");
    let given = aws::Given { region, endpoint, allow_plaintext, timeout: timeout.duration() };
    let aws = aws::check(check, key, given);
    Some(AwsIam {
        aws: aws?,
        login: login?,
        user: user.filter(|_| is_user)?,
        patience: patience.duration(),
        inactive_for: raw.inactive_for.duration(),
        exclusive: raw.exclusive,
        deny_older_sessions: raw.deny_older_sessions,
    })
}
