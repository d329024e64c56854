//! Versions for stores that have none: a keyed digest of the value.
//!
//! The key is random and never leaves the broker, so that a version, which callers and logs see,
//! can't be used to try guesses of the value.

use std::sync::Arc;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use zeroize::Zeroizing;

use crate::{
    domain::{
        fault::Fault,
        secret::{Fields, SecretValue, Version},
    },
    random,
};

const KEY_BYTES: usize = 32;
/// Enough of the digest that no two values of one secret ever meet.
const VERSION_BYTES: usize = 16;

/// The key of the versions of one broker. Equal values have equal versions under one key only.
pub struct VersionKey(SecretValue);

impl VersionKey {
    /// A new key.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate() -> Result<Self, Fault> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        random::fill(bytes.as_mut())?;
        Ok(Self(SecretValue::new(bytes.as_slice())))
    }

    /// The key of an earlier run, as its state kept it; `None` when it is not one.
    pub fn from_saved(key: &SecretValue) -> Option<Self> {
        (key.expose().len() == KEY_BYTES).then(|| Self(SecretValue::new(key.expose())))
    }

    /// The key, for the state that a later run starts from.
    pub fn to_saved(&self) -> SecretValue {
        SecretValue::new(self.0.expose())
    }

    /// The version of what a lease stands for.
    pub(super) fn of_lease(&self, id: &str) -> Version {
        self.version(&Fields::single(SecretValue::new(id)))
    }

    /// The version of these fields.
    pub fn version(&self, fields: &Fields) -> Version {
        let key = hmac::Key::new(HMAC_SHA256, self.0.expose());
        let mut digest = hmac::Context::with_key(&key);
        for (name, value) in fields.iter() {
            for part in [name.as_bytes(), value.expose()] {
                digest.update(&part.len().to_be_bytes());
                digest.update(part);
            }
        }
        let tag = digest.sign();
        let text = tag.as_ref().iter().take(VERSION_BYTES).map(|byte| format!("{byte:02x}"));
        Version(Arc::from(text.collect::<String>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), SecretValue::new(*v))).collect()
    }

    #[test]
    fn a_version_follows_the_value_and_the_key() -> Result<(), Fault> {
        let (key, other) = (VersionKey::generate()?, VersionKey::generate()?);
        let value = fields(&[("a", "1"), ("b", "2")]);
        assert_eq!(key.version(&value), key.version(&fields(&[("b", "2"), ("a", "1")])));
        assert_ne!(key.version(&value), key.version(&fields(&[("a", "1"), ("b", "3")])));
        assert_ne!(key.version(&fields(&[("a", "1b")])), key.version(&fields(&[("a1", "b")])));
        assert_ne!(key.version(&value), other.version(&value));
        Ok(())
    }

    #[test]
    fn a_saved_key_gives_the_same_versions() -> Result<(), Fault> {
        let key = VersionKey::generate()?;
        let again = VersionKey::from_saved(&key.to_saved()).unwrap();
        let value = fields(&[("a", "1")]);
        assert_eq!(key.version(&value), again.version(&value));
        assert!(VersionKey::from_saved(&SecretValue::new("short")).is_none());
        Ok(())
    }
}
