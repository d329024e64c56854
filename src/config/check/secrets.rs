//! The secrets of the catalogue.

use std::{collections::BTreeMap, time::Duration};

use super::{Check, Key, raw};
use crate::{
    config::{Deployment, Generator, Secret, SecretOrigin, VaultEngine, VaultMethod, VaultPath},
    domain::{
        life::Terms,
        secret::{SINGLE_FIELD, SecretName},
    },
};

/// Secrets in one configuration.
const MAX_SECRETS: usize = 10_000;
/// Fields of one secret.
const MAX_FIELDS: usize = 100;

const STORE_KEYS: [(&str, &[&str]); 16] = [
    ("engine", &["vault"]),
    ("mount", &["vault"]),
    ("path", &["vault", "sealed"]),
    ("role", &["vault"]),
    ("static_role", &["vault"]),
    ("method", &["vault"]),
    ("parameters", &["vault"]),
    ("fields", &["vault", "dotenv", "directory"]),
    ("file", &["dotenv", "sealed"]),
    ("key_file", &["sealed"]),
    ("key_env", &["sealed"]),
    ("directory", &["directory"]),
    ("key", &["dotenv", "directory"]),
    ("generate", &["memory"]),
    ("ttl", &["memory"]),
    ("max_ttl", &["memory"]),
];

const ENGINE_KEYS: [(&str, &[&str]); 6] = [
    ("mount", &["kv1", "kv2", "database"]),
    ("path", &["kv1", "kv2", "generic"]),
    ("role", &["database"]),
    ("static_role", &["database"]),
    ("method", &["generic"]),
    ("parameters", &["generic"]),
];

impl Check<'_> {
    pub(in crate::config) fn secrets(
        &mut self,
        defaults: &raw::Defaults,
        secrets: BTreeMap<String, raw::Secret>,
    ) -> BTreeMap<SecretName, Secret> {
        let section = Key::of("defaults");
        self.retries(&section, defaults.retry_min.duration(), defaults.retry_max.duration());
        self.secrets_below(&Key::of("secrets"), defaults, secrets)
    }

    /// The secrets of a section of any name.
    pub(in crate::config) fn secrets_below(
        &mut self,
        section: &Key,
        defaults: &raw::Defaults,
        secrets: BTreeMap<String, raw::Secret>,
    ) -> BTreeMap<SecretName, Secret> {
        if secrets.len() > MAX_SECRETS {
            let found = format!("{} secrets", secrets.len());
            self.wrong(section.clone(), found, format!("expected at most {MAX_SECRETS}"));
            return BTreeMap::new();
        }
        let mut checked = BTreeMap::new();
        for (text, secret) in secrets {
            let key = section.name(&text);
            let name = text.parse::<SecretName>();
            if let Err(error) = &name {
                self.wrong(key.clone(), "not a secret's name", error.to_string());
            }
            if let (Some(secret), Ok(name)) = (self.secret(&key, &text, defaults, secret), name) {
                checked.insert(name, secret);
            }
        }
        checked
    }

    fn secret(
        &mut self,
        key: &Key,
        name: &str,
        defaults: &raw::Defaults,
        secret: raw::Secret,
    ) -> Option<Secret> {
        let terms = self.terms(key, defaults, &secret);
        let by = key.to_string();
        let category = self.text(&key.name("category"), secret.category.clone(), &by);
        if category.as_ref().is_some_and(|c| c.parse::<SecretName>().is_err()) {
            let accepted = "expected 1 to 253 of the characters A-Z a-z 0-9 _ - . /";
            self.wrong(key.name("category"), "not a category's name", accepted);
        }
        for fields in [secret.fields.len(), secret.generate.len(), secret.parameters.len()] {
            if fields > MAX_FIELDS {
                let accepted = format!("expected at most {MAX_FIELDS}");
                self.wrong(key.clone(), format!("{fields} fields"), accepted);
            }
        }
        let store = self.need(&key.name("store"), secret.store, &by)?;
        let choice = match store {
            raw::Store::Vault => "vault",
            raw::Store::Dotenv => "dotenv",
            raw::Store::Directory => "directory",
            raw::Store::Sealed => "sealed",
            raw::Store::Memory => "memory",
        };
        self.only(key, choice, &STORE_KEYS);
        let origin = match store {
            raw::Store::Vault => self.vault_origin(key, secret).map(SecretOrigin::Vault),
            raw::Store::Dotenv => {
                let file = self.path(&key.name("file"), secret.file, "store = \"dotenv\"");
                let fields = self.fields(key, name, secret.fields, secret.key);
                file.map(|file| SecretOrigin::Dotenv { file, fields })
            }
            raw::Store::Directory => {
                let by = "store = \"directory\"";
                let directory = self.path(&key.name("directory"), secret.directory, by);
                let fields = self.fields(key, name, secret.fields, secret.key);
                self.file_names(key, &fields);
                directory.map(|directory| SecretOrigin::Directory { directory, fields })
            }
            raw::Store::Sealed => {
                let by = "store = \"sealed\"";
                let file = self.path(&key.name("file"), secret.file, by);
                let place = secret.path.unwrap_or_else(|| name.to_owned());
                let deployment = Deployment::default();
                let sealed = self.sealed(key, file, (secret.key_file, secret.key_env), by);
                sealed.map(|(file, key)| SecretOrigin::Sealed { file, key, place, deployment })
            }
            raw::Store::Memory => self.memory(key, secret),
        };
        Some(Secret { category: category?, origin: origin?, terms: terms? })
    }

    fn terms(
        &mut self,
        key: &Key,
        defaults: &raw::Defaults,
        secret: &raw::Secret,
    ) -> Option<Terms> {
        let terms = Terms {
            prefetch: secret.prefetch.unwrap_or(defaults.prefetch),
            poll_interval: secret.poll_interval.unwrap_or(defaults.poll_interval).duration(),
            max_stale: secret.max_stale.unwrap_or(defaults.max_stale).duration(),
            overlap: secret.overlap.unwrap_or(defaults.overlap).duration(),
            max_age: secret.max_age.map(raw::MaxAge::duration),
            retry_min: secret.retry_min.unwrap_or(defaults.retry_min).duration(),
            retry_max: secret.retry_max.unwrap_or(defaults.retry_max).duration(),
        };
        if secret.retry_min.is_some() || secret.retry_max.is_some() {
            self.retries(key, terms.retry_min, terms.retry_max)?;
        }
        Some(terms)
    }

    fn retries(&mut self, section: &Key, min: Duration, max: Duration) -> Option<()> {
        if min > max {
            let found = "longer than retry_max";
            self.wrong(section.name("retry_min"), found, "expected at most retry_max");
            return None;
        }
        Some(())
    }

    fn vault_origin(&mut self, key: &Key, secret: raw::Secret) -> Option<VaultPath> {
        let engine = self.need(&key.name("engine"), secret.engine, "store = \"vault\"")?;
        let choice = match engine {
            raw::Engine::Kv1 => "kv1",
            raw::Engine::Kv2 => "kv2",
            raw::Engine::Database => "database",
            raw::Engine::Generic => "generic",
        };
        self.only(key, choice, &ENGINE_KEYS);
        let by = format!("engine = \"{choice}\"");
        let default_mount = if engine == raw::Engine::Database { "database" } else { "secret" };
        let mount = secret.mount.unwrap_or_else(|| default_mount.to_owned());
        let mount = self.vault_path(&key.name("mount"), Some(mount), &by);
        let engine = match engine {
            raw::Engine::Database => {
                let role = self.database_role(key, secret.role, secret.static_role)?;
                VaultEngine::Generic {
                    path: format!("{}/{role}", mount?),
                    method: VaultMethod::Get,
                    parameters: BTreeMap::new(),
                }
            }
            raw::Engine::Generic => VaultEngine::Generic {
                path: self.vault_path(&key.name("path"), secret.path, &by)?,
                method: match secret.method {
                    Some(raw::Method::Post) => VaultMethod::Post,
                    Some(raw::Method::Get) | None => VaultMethod::Get,
                },
                parameters: secret.parameters,
            },
            raw::Engine::Kv1 | raw::Engine::Kv2 => {
                let path = self.vault_path(&key.name("path"), secret.path, &by);
                let (mount, path) = (mount?, path?);
                if engine == raw::Engine::Kv1 {
                    VaultEngine::KvV1 { mount, path }
                } else {
                    VaultEngine::KvV2 { mount, path, deployment: Deployment::default() }
                }
            }
        };
        Some(VaultPath { engine, fields: secret.fields })
    }

    fn database_role(
        &mut self,
        key: &Key,
        role: Option<String>,
        static_role: Option<String>,
    ) -> Option<String> {
        let by = "engine = \"database\"";
        let (name, place, role) = match (role, static_role) {
            (Some(_), Some(_)) => {
                let accepted = "expected either role or static_role";
                self.wrong(key.name("static_role"), "given beside role", accepted);
                return None;
            }
            (None, Some(role)) => ("static_role", "static-creds", Some(role)),
            (role, None) => ("role", "creds", role),
        };
        self.vault_path(&key.name(name), role, by).map(|role| format!("{place}/{role}"))
    }

    fn memory(&mut self, key: &Key, secret: raw::Secret) -> Option<SecretOrigin> {
        let ttl = secret.ttl.map(raw::LeaseTime::duration);
        let max_ttl = secret.max_ttl.map(raw::LeaseTime::duration);
        if max_ttl.is_some_and(|max| ttl.is_none_or(|ttl| ttl > max)) {
            let found = "shorter than ttl, or without one";
            self.wrong(key.name("max_ttl"), found, "expected a time of at least ttl");
            return None;
        }
        let mut fields = BTreeMap::new();
        for (name, generate) in secret.generate {
            let place = key.name("generate").name(&name);
            let generator = match generate.literal {
                Some(_) if self.lines.has(&place.name("random")) || !generate.prefix.is_empty() => {
                    self.wrong(place, "both a literal and random text", "expected one of them");
                    return None;
                }
                Some(text) => Generator::Literal(text),
                None => {
                    Generator::Random { prefix: generate.prefix, length: generate.random.size() }
                }
            };
            fields.insert(name, generator);
        }
        if fields.is_empty() {
            let length = raw::Generate::default().random.size();
            let random = Generator::Random { prefix: String::new(), length };
            fields.insert(SINGLE_FIELD.to_owned(), random);
        }
        Some(SecretOrigin::Memory { fields, ttl, max_ttl })
    }

    fn fields(
        &mut self,
        key: &Key,
        name: &str,
        fields: BTreeMap<String, String>,
        single: Option<String>,
    ) -> BTreeMap<String, String> {
        if !fields.is_empty() {
            if single.is_some() {
                self.wrong(key.name("key"), "given beside fields", "expected one of them");
            }
            return fields;
        }
        let from = single.unwrap_or_else(|| name.to_owned());
        [(SINGLE_FIELD.to_owned(), from)].into_iter().collect()
    }

    /// Files are named, not reached: nothing outside the directory can be read through a name.
    fn file_names(&mut self, key: &Key, fields: &BTreeMap<String, String>) {
        for (field, file) in fields {
            if file.is_empty() || file.contains(['/', '\0']) || matches!(file.as_str(), "." | "..")
            {
                let place = if self.lines.has(&key.name("fields")) {
                    key.name("fields").name(field)
                } else {
                    key.name("key")
                };
                let accepted = "expected the name of a file in the directory, without `/`";
                self.wrong(place, "not a file's name", accepted);
            }
        }
    }
}
