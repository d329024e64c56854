//! The settings of the rotator `api_key`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Key};
use crate::config::units::Count;

/// The least bits of chance in a key.
const LEAST_BITS: f64 = 128.0;
/// The longest prefix, in characters.
const LONGEST_PREFIX: usize = 64;

/// The settings as people write them.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// What each key begins with, such as `acme_live_`, so that scanners for leaks know it: at most 64 of the
    /// characters `A-Z a-z 0-9 _ - .`.
    pub prefix: String,
    /// How many random characters follow; enough for 128 bits.
    pub length: Count<43, 20, 1024>,
    /// The random characters' alphabet.
    pub alphabet: Alphabet,
    /// End with six characters that are a checksum (CRC-32, base 62) of all before them, by which a scanner tells a
    /// key from any other text without asking anybody.
    pub checksum: bool,
}

/// The characters of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Alphabet {
    /// `0-9 A-Z a-z`.
    #[default]
    Base62,
    /// `A-Z a-z 0-9 - _`.
    Base64url,
    /// `0-9 a-f`.
    Hex,
}

impl Alphabet {
    /// The characters, each of one byte.
    pub const fn characters(self) -> &'static [u8] {
        match self {
            Self::Base62 => b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            Self::Base64url => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
            Self::Hex => b"0123456789abcdef",
        }
    }
}

/// The settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// What each key begins with.
    pub prefix: String,
    /// How many random characters follow.
    pub length: usize,
    /// Their alphabet.
    pub alphabet: Alphabet,
    /// Whether a checksum ends it.
    pub checksum: bool,
}

pub(super) fn check(check: &mut Check<'_>, key: &Key, raw: Raw) -> Option<ApiKey> {
    let Raw { prefix, length, alphabet, checksum } = raw;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let is_prefix = prefix.len() <= LONGEST_PREFIX && prefix.bytes().all(plain);
    if !is_prefix {
        let accepted = "expected at most 64 of the characters A-Z a-z 0-9 _ - .";
        check.wrong(key.name("prefix"), "not a prefix", accepted);
    }
    let length = length.size();
    let letters = u32::try_from(alphabet.characters().len()).unwrap_or(u32::MAX);
    let bits = f64::from(u32::try_from(length).unwrap_or(u32::MAX)) * f64::from(letters).log2();
    if bits < LEAST_BITS {
        let found = format!("{length} characters of {letters}: {} bits", bits.floor());
        check.wrong(key.name("length"), found, "expected enough for 128 bits");
        return None;
    }
    is_prefix.then_some(ApiKey { prefix, length, alphabet, checksum })
}
