//! Where the operator's own rights in a target come from.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{Credential, check::Check, mistake::Key};

/// Where the operator's own login for a target comes from: a path of Vault, or a name and a file.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// A path of Vault's API that answers with `username` and `password` (or the fields that the
    /// rotator names), such as `database/creds/rotation` or `secret/data/rotation/postgres`.
    pub vault: Option<String>,
    /// The user name, in place of `vault`.
    pub username: Option<String>,
    /// The file of the password or key.
    pub password_file: Option<PathBuf>,
    /// The variable of the password or key, in place of `password_file`.
    pub password_env: Option<String>,
}

/// Where the operator's own login for a target comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum LoginSource {
    /// A path of Vault's API.
    Vault(String),
    /// A name, where the target needs one, and a credential.
    Given {
        /// The user name.
        username: Option<String>,
        /// The password or key.
        password: Credential,
    },
}

/// Completes a login; `by` is what needs it.
pub(super) fn check(
    check: &mut Check<'_>,
    key: &Key,
    raw: Option<Raw>,
    by: &str,
) -> Option<LoginSource> {
    let Raw { vault, username, password_file, password_env } = check.need(key, raw, by)?;
    let Some(path) = vault else {
        let password = check.credential(key, "password", (password_file, password_env), by)?;
        return Some(LoginSource::Given { username, password });
    };
    check.of_vault(key.name("vault"));
    if username.is_some() || password_file.is_some() || password_env.is_some() {
        check.wrong(key.name("vault"), "a path beside a name or password", "expected one of both");
        return None;
    }
    let is_path = !path.is_empty() && !path.starts_with('/') && !path.contains(char::is_whitespace);
    if !is_path {
        let accepted = "expected a path of Vault's API, such as \"database/creds/rotation\"";
        check.wrong(key.name("vault"), "not a path", accepted);
        return None;
    }
    Some(LoginSource::Vault(path))
}
