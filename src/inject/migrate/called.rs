//! A place in Vault as templates of the Vault Agent Injector name it, and entries of the catalogue that are the same.

use std::collections::BTreeMap;

use crate::config::{VaultEngine, VaultMethod, VaultPath, raw};

/// A place in Vault that a template names, with the parameters of the call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Called {
    /// The whole path.
    pub path: String,
    /// The parameters; with any, it is a write.
    pub parameters: Vec<(String, String)>,
}

impl Called {
    /// Whether an entry of the catalogue reads the same fields from the same place.
    pub fn is_at(&self, place: &VaultPath) -> bool {
        let is_same = match &place.engine {
            VaultEngine::KvV1 { .. } => !is_kv2(&self.path) && self.parameters.is_empty(),
            VaultEngine::KvV2 { .. } => is_kv2(&self.path) && self.parameters.is_empty(),
            VaultEngine::Generic { method, parameters, .. } => {
                let mine: BTreeMap<_, _> = self.parameters.iter().cloned().collect();
                let is_write = *method == VaultMethod::Post;
                (!is_kv2(&self.path) || is_write)
                    && is_write != self.parameters.is_empty()
                    && *parameters == mine
            }
        };
        is_same && place.fields.is_empty() && place.api_path() == self.path
    }

    /// The entry that a catalogue needs for it.
    pub fn entry(&self) -> raw::Secret {
        let base = raw::Secret {
            category: Some("migrated".to_owned()),
            store: Some(raw::Store::Vault),
            ..raw::Secret::default()
        };
        let path = self.path.as_str();
        let part = |mark: &str| {
            let (mount, rest) = path.split_once(mark)?;
            Some((Some(mount.to_owned()), Some(rest.to_owned())))
        };
        let whole = Some(path.to_owned());
        if !self.parameters.is_empty() {
            let parameters = self.parameters.iter().cloned().collect();
            let (engine, method) = (Some(raw::Engine::Generic), Some(raw::Method::Post));
            return raw::Secret { engine, method, path: whole, parameters, ..base };
        }
        if let Some((mount, path)) = part("/data/") {
            return raw::Secret { engine: Some(raw::Engine::Kv2), mount, path, ..base };
        }
        let is_database = path.split('/').next().is_some_and(|mount| mount.contains("database"));
        let database = Some(raw::Engine::Database);
        match (is_database, part("/creds/"), part("/static-creds/")) {
            (true, Some((mount, role)), _) => raw::Secret { engine: database, mount, role, ..base },
            (true, _, Some((mount, static_role))) => {
                raw::Secret { engine: database, mount, static_role, ..base }
            }
            _ => raw::Secret { engine: Some(raw::Engine::Generic), path: whole, ..base },
        }
    }
}

/// Whether a path is one of a key-value engine of version 2, whose fields lie one level deeper.
pub fn is_kv2(path: &str) -> bool {
    path.trim_matches('/').split_once("/data/").is_some()
}
