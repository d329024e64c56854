//! Copies of what is in force, in a second place.
//!
//! Invariants: a copy is replaced when another version came into force; one that somebody else
//! changed is told to people and left as it is until then, or until somebody has it mended. What
//! happens to copies never holds up a rotation.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{
    engine::{Engine, Managed},
    ports::{Alert, Urgency},
};
use crate::domain::{
    fault::{Fault, Reason},
    secret::{Fields, SecretName},
};

/// What a second place holds.
pub struct Copied {
    /// The version that it is of; `None` when it is not the operator's.
    pub version: Option<u64>,
    /// The value.
    pub fields: Fields,
    /// Tells this state of the place from every other one.
    pub stamp: String,
}

/// A second place for one secret.
#[async_trait]
pub trait Copies: Send + Sync {
    /// Where it is, such as `kubernetes/shop/jwt`.
    fn place(&self) -> &str;

    /// What it holds; `None` when there is nothing.
    async fn read(&self) -> Result<Option<Copied>, Fault>;

    /// Writes a version over what was read.
    ///
    /// # Errors
    /// [`Reason::Conflict`] when it holds something else by now.
    async fn write(&self, version: u64, value: &Fields, over: Option<&Copied>)
    -> Result<(), Fault>;
}

/// How a copy compares with what is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// There is no version in force.
    Nothing,
    /// It is the version in force.
    Same(u64),
    /// It was written just now.
    Written(u64),
    /// There is none.
    Missing,
    /// It is of another version.
    Behind(u64),
    /// Somebody else changed it, or it was never the operator's: what differs, by field names.
    Drifted(String),
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("there is no version in force"),
            Self::Same(version) => write!(f, "holds version {version}, which is in force"),
            Self::Written(version) => write!(f, "version {version} was written"),
            Self::Missing => f.write_str("does not exist"),
            Self::Behind(version) => write!(f, "holds version {version}, which is not in force"),
            Self::Drifted(what) => write!(f, "drifted: {what}"),
        }
    }
}

/// What to do about a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Look only.
    Look,
    /// Write what is missing or of another version.
    Follow,
    /// Write whatever is not as it should be.
    Mend,
}

/// The copies of a catalogue.
pub struct Backups {
    copies: BTreeMap<SecretName, Arc<dyn Copies>>,
    /// The drift that people were told of already.
    told: Mutex<BTreeMap<SecretName, String>>,
    /// The versions that were found to be copied.
    compared: Mutex<BTreeMap<SecretName, u64>>,
}

impl Backups {
    /// These copies.
    pub fn new(copies: BTreeMap<SecretName, Arc<dyn Copies>>) -> Self {
        Self { copies, told: Mutex::default(), compared: Mutex::default() }
    }

    /// The secrets that have one.
    pub fn names(&self) -> impl Iterator<Item = &SecretName> {
        self.copies.keys()
    }

    /// The place of a secret's copy.
    pub fn place(&self, secret: &SecretName) -> Option<&str> {
        self.copies.get(secret).map(|copies| copies.place())
    }

    /// Takes care of one copy.
    ///
    /// # Errors
    /// When there is none, or one of both places can't be read or written.
    pub async fn attend(
        &self,
        engine: &Engine,
        secret: &SecretName,
        care: Care,
    ) -> Result<Comparison, Fault> {
        let none = || Fault::new(Reason::NotFound, format!("{secret} has no backup"));
        let copies = self.copies.get(secret).ok_or_else(none)?;
        let managed = engine.catalogue().get(secret).ok_or_else(none)?;
        let version = in_force(managed).await?;
        if version == 0 {
            return Ok(Comparison::Nothing);
        }
        let value = managed.versions.read(version).await?;
        let held = copies.read().await?;
        let found = compare(version, &value, held.as_ref());
        let is_to_write = matches!(
            (&found, care),
            (Comparison::Missing | Comparison::Behind(_), Care::Follow | Care::Mend)
                | (Comparison::Drifted(_), Care::Mend)
        );
        if !is_to_write {
            return Ok(found);
        }
        copies.write(version, &value, held.as_ref()).await?;
        Ok(Comparison::Written(version))
    }

    /// Takes care of the copies of these secrets, and tells people what drifted, once. Those that were
    /// the version in force when they were compared last are compared again only if `all` are to be.
    /// What fails is tried again at the next call that names it.
    pub async fn follow(&self, engine: &Engine, secrets: &BTreeSet<SecretName>, all: bool) {
        for secret in secrets.iter().filter(|secret| self.copies.contains_key(*secret)) {
            let Some(managed) = engine.catalogue().get(secret) else { continue };
            let compared = self.compared().get(secret).copied();
            if !all && compared.is_some() && in_force(managed).await.ok() == compared {
                continue;
            }
            match self.attend(engine, secret, Care::Follow).await {
                Ok(Comparison::Drifted(what)) => self.tell(engine, secret, what).await,
                Ok(comparison) => {
                    self.told().remove(secret);
                    if let Comparison::Written(version) | Comparison::Same(version) = comparison {
                        self.compared().insert(secret.clone(), version);
                    }
                    if let Comparison::Written(version) = comparison {
                        tracing::info!(%secret, version, "the backup was written");
                    }
                }
                Err(fault) => tracing::warn!(%secret, %fault, "the backup can't be compared"),
            }
        }
    }

    async fn tell(&self, engine: &Engine, secret: &SecretName, what: String) {
        if self.told().get(secret) == Some(&what) {
            return;
        }
        let place = self.place(secret).unwrap_or_default();
        let alert = Alert {
            urgency: Urgency::Warning,
            name: "backup_drifted".into(),
            secret: secret.clone(),
            summary: format!(
                "the backup at {place} is not what is in force: {what}; `secret-operator backup {secret} --mend` writes it anew"
            ),
        };
        match engine.surroundings().alerts.raise(&alert).await {
            Ok(()) => drop(self.told().insert(secret.clone(), what)),
            Err(fault) => tracing::error!(%secret, %fault, "nobody could be told of a drift"),
        }
    }

    fn compared(&self) -> MutexGuard<'_, BTreeMap<SecretName, u64>> {
        self.compared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<SecretName, String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The version that everybody is served; 0 when there is none.
async fn in_force(managed: &Managed) -> Result<u64, Fault> {
    let labels = managed.versions.labels().await?;
    match labels.current {
        Some(version) => Ok(version),
        None if labels.epoch == 0 => managed.versions.latest().await,
        None => Ok(0),
    }
}

fn compare(version: u64, value: &Fields, copied: Option<&Copied>) -> Comparison {
    let Some(copied) = copied else { return Comparison::Missing };
    match copied.version {
        None => Comparison::Drifted("it was not written by the operator".to_owned()),
        Some(other) if other != version => Comparison::Behind(other),
        Some(_) if copied.fields == *value => Comparison::Same(version),
        Some(_) => {
            let names = |these: &Fields, others: &Fields| {
                let differ =
                    these.iter().filter(|(name, value)| others.field(name) != Some(*value));
                differ.map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>()
            };
            let mut fields = names(value, &copied.fields);
            fields.extend(names(&copied.fields, value));
            fields.sort();
            fields.dedup();
            Comparison::Drifted(format!("{} of version {version}", fields.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::SecretValue;

    fn value(text: &str) -> Fields {
        Fields::single(SecretValue::new(text))
    }

    fn copied(version: Option<u64>, text: &str) -> Copied {
        Copied { version, fields: value(text), stamp: String::new() }
    }

    #[test]
    fn a_copy_is_followed_and_a_changed_one_is_told_of() {
        let compare = |copied: Option<Copied>| compare(2, &value("b"), copied.as_ref());
        assert_eq!(compare(None), Comparison::Missing);
        assert_eq!(compare(Some(copied(Some(1), "a"))), Comparison::Behind(1));
        assert_eq!(compare(Some(copied(Some(2), "b"))), Comparison::Same(2));
        let drifted = compare(Some(copied(Some(2), "hunter2")));
        assert_eq!(drifted.to_string(), "drifted: `value` of version 2");
        assert!(matches!(compare(Some(copied(None, "b"))), Comparison::Drifted(_)));
    }
}
