//! The policies of Vault: for each path what is needed of it, and nothing more.
//!
//! Invariants: no rule has a pattern that a path of the configuration put there; the same
//! configuration gives the same text.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use super::reach::{self, Reach};
use crate::config::{
    Tls, VaultEngine, VaultMethod,
    operator::{
        KvPlace, OperatorConfig, Rotated, Target,
        bootstrap::{DEFAULT_MOUNT, KubernetesAuth, Role, SidecarRole},
        targets::vault_database::What,
    },
};

const READ: &[&str] = &["read"];
const UPDATE: &[&str] = &["update"];
const WRITE: &[&str] = &["create", "update"];
const KEEP: &[&str] = &["create", "read", "update"];

/// A path with `*` or `+` would open more than one secret, and one with quotes or braces could say more than a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: a path with *, +, \", \\, {{ or }} would open more than one secret")]
pub struct WideError(String);

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// What is allowed, in the language of Vault's policies.
    pub text: String,
}

#[derive(Default)]
struct Rules {
    paths: BTreeMap<String, BTreeSet<&'static str>>,
    /// What the leases begin with that may be renewed and revoked.
    leases: BTreeSet<String>,
    wide: Option<WideError>,
}

impl Rules {
    /// What the holder of any token needs to keep it alive; the policy `default` is not given.
    fn of_a_token() -> Self {
        let mut rules = Self::default();
        rules.glob("auth/token/lookup-self", READ);
        rules.glob("auth/token/renew-self", UPDATE);
        rules.glob("auth/token/revoke-self", UPDATE);
        rules
    }

    /// Allows a path that the configuration names.
    fn path(&mut self, path: &str, capabilities: &[&'static str]) {
        self.narrow(path);
        self.glob(path, capabilities);
    }

    /// Allows all that lies below such a path.
    fn below(&mut self, path: &str, capabilities: &[&'static str]) {
        self.narrow(path);
        self.glob(&format!("{path}/*"), capabilities);
    }

    fn narrow(&mut self, path: &str) {
        if path.contains(['*', '+', '"', '\\', '{', '}']) {
            self.wide.get_or_insert_with(|| WideError(path.to_owned()));
        }
    }

    fn glob(&mut self, path: &str, capabilities: &[&'static str]) {
        self.paths.entry(path.to_owned()).or_default().extend(capabilities);
    }

    /// Allows to read what may be leased, and to renew and revoke these leases alone.
    fn leased(&mut self, path: &str, capabilities: &[&'static str]) {
        self.path(path, capabilities);
        self.leases.insert(format!("{path}/*"));
    }

    fn finish(self, name: &str, about: &str, sync: bool) -> Result<Policy, WideError> {
        if let Some(wide) = self.wide {
            return Err(wide);
        }
        let mut text = format!("# {about}\n");
        for (path, capabilities) in &self.paths {
            let quoted: Vec<_> = capabilities.iter().map(|c| format!("\"{c}\"")).collect();
            let quoted = quoted.join(", ");
            let _ = writeln!(text, "path \"{path}\" {{ capabilities = [{quoted}] }}");
        }
        if self.leases.is_empty() {
            return Ok(Policy { name: name.to_owned(), text });
        }
        let leases: Vec<_> = self.leases.iter().map(|lease| format!("\"{lease}\"")).collect();
        let leases = leases.join(", ");
        for verb in ["renew", "revoke"] {
            let _ = writeln!(text, "path \"sys/leases/{verb}\" {{");
            let _ = writeln!(text, "  capabilities = [\"update\"]");
            let _ = writeln!(text, "  allowed_parameters = {{");
            let _ = writeln!(text, "    \"lease_id\" = [{leases}]");
            if sync {
                let _ = writeln!(text, "    \"sync\" = []");
            }
            text.push_str("  }\n}\n");
        }
        Ok(Policy { name: name.to_owned(), text })
    }
}

/// The operator's policy: its journal, the secrets that it rotates, and its logins in their targets.
///
/// # Errors
/// When a path would open more than one secret.
pub fn operator(config: &OperatorConfig) -> Result<Policy, WideError> {
    let mut rules = Rules::of_a_token();
    if let Some(KvPlace { mount, path }) = config.journal() {
        rules.below(&format!("{mount}/data/{path}"), KEEP);
    }
    let mut sync = false;
    for rotated in config.secrets.values() {
        sync |= rotate(&mut rules, rotated);
    }
    for path in reach::logins(config) {
        rules.path(path, READ);
    }
    if let Some(Tls::VaultPki { path, .. }) = &config.tls {
        rules.path(path, WRITE);
    }
    if let Some(glass) = &config.break_glass {
        rules.glob("sys/policies/acl/break-glass-*", WRITE);
        rules.glob("auth/token/revoke-accessor", UPDATE);
        match &glass.token_role {
            Some(role) => rules.path(&format!("auth/token/create/{role}"), WRITE),
            None => rules.glob("auth/token/create-orphan", &["create", "sudo", "update"]),
        }
    }
    let about = "Rotates the secrets of its catalogue, and nothing else.";
    let name = name(config.bootstrap.kubernetes.as_ref(), &config.bootstrap.operator);
    rules.finish(&name, about, sync)
}

/// Allows what one secret's rotation does; returns whether it revokes a lease of its own.
fn rotate(rules: &mut Rules, rotated: &Rotated) -> bool {
    if let Some(KvPlace { mount, path }) = &rotated.place {
        rules.path(&format!("{mount}/data/{path}"), KEEP);
        rules.path(&format!("{mount}/metadata/{path}"), KEEP);
    }
    let Target::VaultDatabase(database) = &rotated.target else { return false };
    let mount = &database.mount;
    match &database.what {
        What::StaticRole(role) => {
            rules.path(&format!("{mount}/static-creds/{role}"), READ);
            rules.path(&format!("{mount}/rotate-role/{role}"), WRITE);
            false
        }
        What::Root { connection, prove_role } => {
            rules.path(&format!("{mount}/rotate-root/{connection}"), WRITE);
            match prove_role {
                Some(role) => rules.leased(&format!("{mount}/creds/{role}"), READ),
                None => rules.path(&format!("{mount}/reset/{connection}"), WRITE),
            }
            prove_role.is_some()
        }
    }
}

/// The policy of a role of sidecars: the secrets that it reads, and their leases.
///
/// # Errors
/// When a path would open more than one secret.
pub fn sidecar(
    config: &OperatorConfig,
    role: &SidecarRole,
    reached: Vec<Reach>,
) -> Result<Policy, WideError> {
    let mut rules = Rules::of_a_token();
    for Reach { engine, .. } in reached {
        match engine {
            VaultEngine::KvV1 { mount, path } => rules.path(&format!("{mount}/{path}"), READ),
            VaultEngine::KvV2 { mount, path, .. } => {
                rules.path(&format!("{mount}/data/{path}"), READ);
            }
            VaultEngine::Generic { path, method, .. } => {
                let capabilities = match method {
                    VaultMethod::Get => READ,
                    VaultMethod::Post => WRITE,
                };
                if reach::is_leased(&path) {
                    rules.leased(&path, capabilities);
                } else {
                    rules.path(&path, capabilities);
                }
            }
        }
    }
    for path in &role.pki {
        rules.path(path, WRITE);
    }
    let about = "What sidecars of this role read, and nothing else.";
    let name = name(config.bootstrap.kubernetes.as_ref(), &role.role);
    rules.finish(&name, about, false)
}

/// The name of the policy of a role. Policies are Vault's as a whole, so that those of a second cluster, which logs in at
/// a mount of its own, have that in front.
pub(super) fn name(kubernetes: Option<&KubernetesAuth>, role: &Role) -> String {
    match kubernetes.map(|kubernetes| kubernetes.mount.as_str()) {
        None | Some(DEFAULT_MOUNT) => role.name.clone(),
        Some(mount) => format!("{}-{}", mount.replace('/', "-"), role.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_says_more_than_a_path_is_refused() {
        for path in ["kv/*", "kv/+/a", "kv/a\"", "kv/{{identity.entity.id}}", "kv/}", "kv/a\\"] {
            let mut rules = Rules::default();
            rules.path(path, READ);
            assert!(rules.finish("a", "b", false).is_err(), "{path}");
        }
    }
}
