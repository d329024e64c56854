//! Secrets and their names.
//!
//! A [`SecretValue`] is wiped when dropped, can't be cloned or serialised, prints as `redacted`, and compares in
//! constant time. Its bytes are read through [`SecretValue::expose`] only.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use secrecy::{ExposeSecret, SecretBox};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// The bytes of one field of a secret.
pub struct SecretValue(SecretBox<[u8]>);

impl SecretValue {
    /// Takes the bytes over; a copy left behind by the caller is the caller's to wipe.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        let mut bytes: Vec<u8> = bytes.into();
        let value = Self(SecretBox::new(Box::from(bytes.as_slice())));
        bytes.zeroize();
        value
    }

    /// The bytes themselves. Each call outside the encoders states its reason.
    #[expect(clippy::disallowed_methods, reason = "the one gate through which values are read")]
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(redacted)")
    }
}

impl PartialEq for SecretValue {
    /// Takes the same time wherever values of one length differ.
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.expose(), other.expose());
        a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
    }
}

impl Eq for SecretValue {}

/// The fields of a secret by name, such as `username` and `password`. They are few: a list in the
/// order of their names is smaller than a map.
#[derive(Default, PartialEq, Eq)]
pub struct Fields(Box<[(String, SecretValue)]>);

/// The field name of a secret that has one part only.
pub const SINGLE_FIELD: &str = "value";

impl Fields {
    /// A secret of one part, under [`SINGLE_FIELD`].
    pub fn single(value: SecretValue) -> Self {
        [(SINGLE_FIELD.to_owned(), value)].into_iter().collect()
    }

    /// The fields in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SecretValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&SecretValue> {
        self.iter().find_map(|(known, value)| (known == name).then_some(value))
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, SecretValue)> for Fields {
    fn from_iter<I: IntoIterator<Item = (String, SecretValue)>>(fields: I) -> Self {
        Self(fields.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect())
    }
}

impl fmt::Debug for Fields {
    /// Names only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// The name of a secret in the catalogue: 1 to 253 of `A-Z a-z 0-9 _ - . /`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(Arc<str>);

/// A name that the catalogue can't hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret's name is 1 to 253 of the characters A-Z a-z 0-9 _ - . /")]
pub struct InvalidSecretName;

impl SecretName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = InvalidSecretName;

    fn from_str(name: &str) -> Result<Self, InvalidSecretName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/');
        if matches!(name.len(), 1..=253) && name.bytes().all(allowed) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidSecretName)
        }
    }
}

impl TryFrom<String> for SecretName {
    type Error = InvalidSecretName;

    fn try_from(name: String) -> Result<Self, InvalidSecretName> {
        name.parse()
    }
}

impl From<SecretName> for String {
    fn from(name: SecretName) -> Self {
        name.as_str().to_owned()
    }
}

impl std::borrow::Borrow<str> for SecretName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The version of a value at its source; equal versions have equal values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version(pub Arc<str>);

/// Counts the versions that this broker served of one secret; grows with each, also across restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_compare_by_content() {
        assert!(SecretValue::new("a") == SecretValue::new("a"));
        assert!(SecretValue::new("a") != SecretValue::new("b"));
        assert!(SecretValue::new("a") != SecretValue::new("aa"));
    }

    #[test]
    fn debug_of_fields_shows_names_only() {
        let fields = Fields::single(SecretValue::new("hunter2"));
        assert_eq!(format!("{fields:?}"), r#"{"value"}"#);
    }

    #[test]
    fn names_outside_the_alphabet_are_refused() {
        for bad in ["", "a b", "ä", &"x".repeat(254)] {
            assert_eq!(bad.parse::<SecretName>(), Err(InvalidSecretName), "{bad}");
        }
        assert!("db/POSTGRES_PASSWORD-1.x".parse::<SecretName>().is_ok());
    }
}
