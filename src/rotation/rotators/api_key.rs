//! Keys between systems, which whoever checks them reads from the same place.

use std::collections::BTreeMap;

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::{
    config::operator::targets::api_key::{Alphabet, ApiKey as Settings},
    domain::{
        fault::Fault,
        secret::{Fields, SINGLE_FIELD, SecretValue},
    },
    random,
    rotation::ports::{Change, Evidence, Generated, Revocation, Rotator, Severity, TargetError},
};

/// The characters of a checksum: enough for 32 bits in base 62.
const CHECKSUM: usize = 6;

/// Keys between systems.
#[derive(Debug)]
pub struct ApiKey {
    settings: Settings,
}

impl ApiKey {
    /// By these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn make(&self) -> Result<SecretValue, Fault> {
        let Settings { prefix, length, alphabet, checksum } = &self.settings;
        // Room for all of it, since a buffer that grows leaves copies behind.
        let mut key = Zeroizing::new(Vec::with_capacity(prefix.len() + length + CHECKSUM));
        key.extend_from_slice(prefix.as_bytes());
        let letters = alphabet.characters();
        if *alphabet == Alphabet::Base62 {
            random::push_characters(&mut key, *length)?;
        } else {
            let mut bytes = Zeroizing::new(vec![0; *length]);
            random::fill(&mut bytes)?;
            // Both alphabets divide 256, so each character is as likely as any other.
            let drawn = bytes.iter().filter_map(|b| letters.get(usize::from(*b) % letters.len()));
            key.extend(drawn);
        }
        if *checksum {
            let sum = checksum_of(&key);
            key.extend_from_slice(&sum);
        }
        Ok(SecretValue::new(key.as_slice()))
    }

    /// Whether a key has the form of those that are made here.
    fn check(&self, value: &Fields) -> Result<Evidence, TargetError> {
        let Settings { prefix, length, alphabet, checksum } = &self.settings;
        let key = value.field(SINGLE_FIELD).map(SecretValue::expose);
        let key = key.ok_or_else(|| TargetError::refused("the value has no field `value`"))?;
        let random = key
            .strip_prefix(prefix.as_bytes())
            .ok_or_else(|| TargetError::refused("the key has another prefix"))?;
        let sum = if *checksum { CHECKSUM } else { 0 };
        let random = random.get(..random.len().saturating_sub(sum)).unwrap_or_default();
        let letters = alphabet.characters();
        if random.len() != *length || !random.iter().all(|byte| letters.contains(byte)) {
            return Err(TargetError::refused("the key has another length or alphabet"));
        }
        let signed = key.get(..prefix.len() + length).unwrap_or_default();
        if *checksum && key.get(signed.len()..) != Some(checksum_of(signed).as_slice()) {
            return Err(TargetError::refused("the key's checksum is wrong"));
        }
        Ok(format!("the key has its form, {length} random characters"))
    }
}

/// The CRC-32 (IEEE 802.3) of a text, in base 62.
fn checksum_of(text: &[u8]) -> [u8; CHECKSUM] {
    let crc = !text.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 }
        })
    });
    let letters = Alphabet::Base62.characters();
    let mut rest = crc;
    let mut sum = [b'0'; CHECKSUM];
    for place in sum.iter_mut().rev() {
        let digit = usize::try_from(rest % 62).unwrap_or_default();
        *place = letters.get(digit).copied().unwrap_or(b'0');
        rest /= 62;
    }
    sum
}

#[async_trait]
impl Rotator for ApiKey {
    fn kind(&self) -> &'static str {
        "api_key"
    }

    async fn generate(&self, _current: Option<&Fields>) -> Result<Generated, TargetError> {
        let fields = Fields::single(self.make()?);
        Ok(Generated::Value { fields, facts: BTreeMap::new() })
    }

    async fn apply(&self, change: &Change<'_>) -> Result<Evidence, TargetError> {
        self.check(change.new)
    }

    async fn prove(&self, value: &Fields) -> Result<Evidence, TargetError> {
        self.check(value)
    }

    async fn revoke(
        &self,
        old: &Fields,
        kept: Option<&Fields>,
        _severity: Severity,
    ) -> Result<Revocation, TargetError> {
        if kept.is_some_and(|kept| kept.field(SINGLE_FIELD) == old.field(SINGLE_FIELD)) {
            return Err(TargetError::refused("both versions are the same key"));
        }
        Ok(Revocation::Done("no version that is served holds it".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotator(alphabet: Alphabet, checksum: bool) -> ApiKey {
        ApiKey::new(Settings { prefix: "acme_live_".into(), length: 43, alphabet, checksum })
    }

    #[test]
    fn keys_have_their_form_and_are_never_made_twice() {
        for alphabet in [Alphabet::Base62, Alphabet::Base64url, Alphabet::Hex] {
            for checksum in [false, true] {
                let rotator = rotator(alphabet, checksum);
                let (one, other) = (rotator.make().unwrap(), rotator.make().unwrap());
                assert!(one != other);
                assert_eq!(one.expose().len(), 53 + if checksum { 6 } else { 0 });
                rotator.check(&Fields::single(one)).unwrap();
            }
        }
    }

    #[test]
    fn a_mistyped_key_is_told_by_its_checksum() {
        let rotator = rotator(Alphabet::Base62, true);
        let mut key = rotator.make().unwrap().expose().to_vec();
        key[20] = if key[20] == b'a' { b'b' } else { b'a' };
        let error = rotator.check(&Fields::single(SecretValue::new(key))).unwrap_err();
        assert_eq!(error, TargetError::refused("the key's checksum is wrong"));
    }

    #[test]
    fn the_checksum_is_the_usual_one() {
        // CRC-32 of "123456789" is 0xCBF43926 = 3421780262.
        let value = checksum_of(b"123456789").iter().fold(0_u64, |sum, letter| {
            let at = Alphabet::Base62.characters().iter().position(|l| l == letter).unwrap();
            sum * 62 + at as u64
        });
        assert_eq!(value, 0xCBF4_3926);
    }
}
