//! The settings of the rotator `vault_database`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Key};

/// The settings as people write them. Either `static_role` or `root`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// The mount of the database engine; `database` when absent.
    pub mount: Option<String>,
    /// The static role whose password Vault replaces and hands out.
    pub static_role: Option<String>,
    /// The connection whose own login Vault replaces. Nobody but Vault knows it from then on, so that nobody else may
    /// use that user: not the operator's own `login` at the same server either.
    pub root: Option<String>,
    /// `root`: a dynamic role of the connection; a user of it is made and removed again, to prove that Vault can.
    pub prove_role: Option<String>,
}

/// The settings.
#[derive(Debug, PartialEq, Eq)]
pub struct VaultDatabase {
    /// The mount of the database engine.
    pub mount: String,
    /// What Vault turns over.
    pub what: What,
}

/// What Vault turns over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The password of a static role.
    StaticRole(String),
    /// The login of a connection.
    Root {
        /// The connection.
        connection: String,
        /// A dynamic role of it.
        prove_role: Option<String>,
    },
}

pub(super) fn check(check: &mut Check<'_>, key: &Key, raw: Raw) -> Option<VaultDatabase> {
    let Raw { mount, static_role, root, prove_role } = raw;
    check.of_vault(key.clone());
    let mount = mount.unwrap_or_else(|| "database".to_owned());
    let mount = segment(check, &key.name("mount"), mount, true);
    let what = match (static_role, root) {
        (Some(role), None) => {
            if prove_role.is_some() {
                let accepted = "expected it beside `root` only";
                check.wrong(key.name("prove_role"), "given beside `static_role`", accepted);
                return None;
            }
            segment(check, &key.name("static_role"), role, false).map(What::StaticRole)
        }
        (None, Some(root)) => {
            let connection = segment(check, &key.name("root"), root, false);
            let prove_role = match prove_role {
                Some(role) => Some(segment(check, &key.name("prove_role"), role, false)?),
                None => None,
            };
            connection.map(|connection| What::Root { connection, prove_role })
        }
        _ => {
            let accepted = "expected either `static_role` or `root`";
            check.wrong(key.clone(), "not one thing to turn over", accepted);
            None
        }
    };
    Some(VaultDatabase { mount: mount?, what: what? })
}

/// A name that is a part of a path of Vault's API; a mount may have several.
fn segment(check: &mut Check<'_>, key: &Key, text: String, several: bool) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@');
    let is_step = |step: &str| {
        !matches!(step, "" | "." | "..") && step.len() <= 253 && step.bytes().all(plain)
    };
    if text.split('/').all(is_step) && (several || !text.contains('/')) {
        return Some(text);
    }
    check.wrong(key.clone(), "not a name in Vault", "expected the characters A-Z a-z 0-9 - _ . @");
    None
}
