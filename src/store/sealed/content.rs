//! What an encrypted file of secrets holds.

use std::collections::BTreeMap;
#[cfg(feature = "operator")]
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::domain::{
    labels::Labels,
    secret::{Fields, SecretValue},
};

/// All of a file.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Content {
    pub(super) secrets: BTreeMap<String, Kept>,
    /// The books of the journal as texts, each with its stamp.
    pub(super) books: BTreeMap<String, (String, u64)>,
}

/// One secret.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    labels: BTreeMap<String, String>,
    versions: BTreeMap<u64, BTreeMap<String, Zeroizing<String>>>,
}

impl Kept {
    pub(super) fn labels(&self) -> Labels {
        Labels::from_pairs(self.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())))
    }

    /// The number of the latest version; 0 when there is none.
    pub(super) fn latest(&self) -> u64 {
        self.versions.last_key_value().map_or(0, |(version, _)| *version)
    }

    pub(super) fn read(&self, version: u64) -> Option<Fields> {
        let fields = self.versions.get(&version)?;
        let value = |text: &Zeroizing<String>| SecretValue::new(text.as_bytes());
        Some(fields.iter().map(|(name, text)| (name.clone(), value(text))).collect())
    }

    #[cfg(feature = "operator")]
    pub(super) fn relabel(&mut self, labels: &Labels) {
        self.labels = labels.to_pairs();
    }

    /// Puts a version in; values that are not UTF-8 are put in as far as they are.
    pub(super) fn put(&mut self, version: u64, fields: &Fields) {
        let text = |value: &SecretValue| {
            Zeroizing::new(String::from_utf8_lossy(value.expose()).into_owned())
        };
        let fields = fields.iter().map(|(name, value)| (name.to_owned(), text(value)));
        self.versions.insert(version, fields.collect());
    }

    /// Takes the versions of another one over, and forgets those up to `forget` that no label names.
    #[cfg(feature = "operator")]
    pub(super) fn take(&mut self, other: Self, forget: u64) {
        self.versions.extend(other.versions);
        let named: BTreeSet<_> = self.labels().versions().collect();
        self.versions.retain(|version, _| *version > forget || named.contains(version));
    }
}
