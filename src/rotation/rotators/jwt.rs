//! Keys that sign tokens.
//!
//! A key is known to verifiers before anything is signed with it: each version carries the key of
//! its successor, in `next` (shared keys) or in `jwks` and `next_private_key` (pairs). The key
//! before is accepted while its version is served as `previous`; the public half of a pair stays
//! in `jwks` until the rotation after.

use std::{borrow::Cow, collections::BTreeMap};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    config::operator::targets::jwt::{Algorithm, Jwt as Settings},
    domain::secret::{Fields, SINGLE_FIELD, SecretValue},
    rotation::{
        entropy, generate,
        jws::{self, Jwk, Pair},
        ports::{Change, Evidence, Generated, Revocation, Rotator, Severity, TargetError},
    },
};

/// The shared key that signs after the next rotation.
const NEXT: &str = "next";
const PRIVATE_KEY: &str = "private_key";
const NEXT_PRIVATE_KEY: &str = "next_private_key";
const KID: &str = "kid";
const JWKS: &str = "jwks";
/// The least bits of chance in a shared key.
const LEAST_BITS: u32 = 256;

/// Keys that sign tokens.
#[derive(Debug)]
pub struct Jwt {
    settings: Settings,
}

impl Jwt {
    /// By these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn fresh(&self) -> Result<SecretValue, TargetError> {
        let bytes = generate::bytes(self.settings.entropy_bytes)?;
        Ok(SecretValue::new(URL_SAFE_NO_PAD.encode(bytes.expose())))
    }

    /// `successor` is the key that the current version announced, if it may be used.
    fn make(&self, current: Option<&Fields>, successor: bool) -> Result<Fields, TargetError> {
        let algorithm = self.settings.algorithm;
        let announced =
            |name: &str| current.filter(|_| successor).and_then(|fields| fields.field(name));
        if let Some(least) = algorithm.least_bytes() {
            let next = announced(NEXT).filter(|next| is_strong(next.expose(), least));
            let value = match next {
                Some(next) => SecretValue::new(next.expose()),
                None => self.fresh()?,
            };
            let fields = [(SINGLE_FIELD, value), (NEXT, self.fresh()?)];
            return Ok(fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect());
        }
        let next = announced(NEXT_PRIVATE_KEY).and_then(|pem| Pair::read(algorithm, pem.expose()));
        let signing = next.map_or_else(|| Pair::generate(algorithm), Ok)?;
        let next = Pair::generate(algorithm)?;
        let mut keys = vec![signing.public(), next.public()];
        keys.extend(
            announced(PRIVATE_KEY)
                .and_then(|pem| Pair::read(algorithm, pem.expose()).map(|pair| pair.public())),
        );
        let fields = [
            (PRIVATE_KEY, signing.pem()?),
            (NEXT_PRIVATE_KEY, next.pem()?),
            (KID, SecretValue::new(signing.public().kid)),
            (JWKS, SecretValue::new(jws::write_set(&keys))),
        ];
        Ok(fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect())
    }
}

/// Signs a token with a value and verifies it, as its consumers do.
///
/// # Errors
/// [`TargetError::Refused`] when the value is no such key, or a weak one.
pub(in crate::rotation) fn try_out(
    algorithm: Algorithm,
    value: &Fields,
) -> Result<Evidence, TargetError> {
    let claims = json!({ "sub": "secret-operator", "aud": "probe" });
    if let Some(least) = algorithm.least_bytes() {
        let key = field(value, SINGLE_FIELD)?;
        strong(SINGLE_FIELD, key, least)?;
        if let Some(next) = value.field(NEXT) {
            strong(NEXT, next.expose(), least)?;
            if next.expose() == key {
                return Err(TargetError::refused("`next` is the same key as `value`"));
            }
        }
        let token = Zeroizing::new(jws::sign_shared(algorithm, key, &claims)?);
        if !jws::is_signed_by(algorithm, key, &token) {
            return Err(TargetError::refused("a token that was signed does not verify"));
        }
        let next = if value.field(NEXT).is_some() { "published" } else { "missing" };
        let bits = entropy::bits(key);
        return Ok(format!("{algorithm} signed and verified, {bits} bits; the next key is {next}"));
    }
    let pem = field(value, PRIVATE_KEY)?;
    let pair = Pair::read(algorithm, pem)
        .ok_or_else(|| TargetError::refused(format!("`private_key` is no key of {algorithm}")))?;
    let (kid, keys) = published(value)?;
    let next = value.field(NEXT_PRIVATE_KEY).and_then(|pem| Pair::read(algorithm, pem.expose()));
    let next = next.ok_or_else(|| TargetError::refused("`next_private_key` is no such key"))?;
    if !keys.contains(&next.public()) {
        return Err(TargetError::refused("`jwks` does not publish the next key"));
    }
    let token = Zeroizing::new(pair.sign(&kid, &claims)?);
    let key = keys.iter().find(|key| key.kid == kid);
    if !key.is_some_and(|key| key.verifies(&token)) {
        return Err(TargetError::refused("`jwks` has no key that verifies what was signed"));
    }
    Ok(format!("{algorithm} signed and verified; {} public keys, the next among them", keys.len()))
}

/// Verifies with a value what the one before signed.
pub(in crate::rotation) fn overlaps(
    algorithm: Algorithm,
    value: &Fields,
    previous: &Fields,
) -> Result<Evidence, TargetError> {
    let claims = json!({ "sub": "secret-operator", "aud": "probe" });
    if algorithm.least_bytes().is_some() {
        let (key, old) = (field(value, SINGLE_FIELD)?, field(previous, SINGLE_FIELD)?);
        if key == old {
            return Err(TargetError::refused("it signs with the key of the version before"));
        }
        let announced = previous.field(NEXT).is_some_and(|next| next.expose() == key);
        return Ok(if announced { "its key was published before" } else { "its key is new" }.into());
    }
    let pem = field(previous, PRIVATE_KEY)?;
    let old = Pair::read(algorithm, pem)
        .ok_or_else(|| TargetError::refused("the version before has no such key"))?;
    let token = Zeroizing::new(old.sign(&old.public().kid, &claims)?);
    let (_, keys) = published(value)?;
    if keys.iter().any(|key| key.verifies(&token)) {
        Ok("tokens of the version before verify".to_owned())
    } else {
        Err(TargetError::refused("tokens of the version before do not verify with `jwks`"))
    }
}

fn published(value: &Fields) -> Result<(String, Vec<Jwk>), TargetError> {
    let kid = String::from_utf8_lossy(field(value, KID)?).into_owned();
    Ok((kid, jws::read_set(field(value, JWKS)?)))
}

fn field<'a>(value: &'a Fields, name: &str) -> Result<&'a [u8], TargetError> {
    value
        .field(name)
        .map(SecretValue::expose)
        .ok_or_else(|| TargetError::refused(format!("the value has no field `{name}`")))
}

fn strong(name: &str, key: &[u8], least: usize) -> Result<(), TargetError> {
    if is_strong(key, least) {
        return Ok(());
    }
    Err(TargetError::refused(format!(
        "`{name}` is too weak: expected at least {least} bytes and {LEAST_BITS} bits of chance"
    )))
}

fn is_strong(key: &[u8], least: usize) -> bool {
    key.len() >= least && entropy::bits(key) >= LEAST_BITS
}

#[async_trait]
impl Rotator for Jwt {
    fn kind(&self) -> &'static str {
        "jwt"
    }

    async fn generate(&self, current: Option<&Fields>) -> Result<Generated, TargetError> {
        let fields = self.make(current, true)?;
        Ok(Generated::Value { fields, facts: BTreeMap::new() })
    }

    async fn generate_afresh(&self, current: Option<&Fields>) -> Result<Generated, TargetError> {
        let fields = self.make(current, false)?;
        Ok(Generated::Value { fields, facts: BTreeMap::new() })
    }

    async fn apply(&self, change: &Change<'_>) -> Result<Evidence, TargetError> {
        try_out(self.settings.algorithm, change.new)
    }

    async fn prove(&self, value: &Fields) -> Result<Evidence, TargetError> {
        try_out(self.settings.algorithm, value)
    }

    /// Verifiers accept what they are served; whoever serves them withdraws it.
    async fn revoke(
        &self,
        old: &Fields,
        kept: Option<&Fields>,
        severity: Severity,
    ) -> Result<Revocation, TargetError> {
        let name = if self.settings.algorithm.least_bytes().is_some() {
            SINGLE_FIELD
        } else {
            PRIVATE_KEY
        };
        if let Some(kept) = kept
            && field(kept, name)? == field(old, name)?
        {
            return Err(TargetError::refused("both versions sign with the same key"));
        }
        let evidence = if severity.compromised {
            "verifiers that look again refuse it; those that cache keys do so within \
             max_verifier_cache"
        } else {
            "no version that is served signs with it"
        };
        Ok(Revocation::Done(evidence.to_owned()))
    }

    fn breaks(&self) -> Cow<'static, str> {
        "every token that was signed so far is refused: all sessions end".into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rotator(algorithm: Algorithm) -> Jwt {
        let hour = Duration::from_hours(1);
        Jwt::new(Settings {
            algorithm,
            entropy_bytes: 64,
            max_token_ttl: hour,
            clock_skew: hour,
            max_verifier_cache: hour,
        })
    }

    fn text(value: &Fields, name: &str) -> Vec<u8> {
        value.field(name).unwrap().expose().to_vec()
    }

    #[test]
    fn a_shared_key_is_published_a_rotation_before_it_signs() {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let rotator = rotator(algorithm);
            let first = rotator.make(None, true).unwrap();
            let second = rotator.make(Some(&first), true).unwrap();
            assert_eq!(text(&second, "value"), text(&first, "next"));
            assert_ne!(text(&second, "next"), text(&first, "next"));
            assert_eq!(text(&first, "value").len(), 86);
            try_out(algorithm, &second).unwrap();
            assert_eq!(
                overlaps(algorithm, &second, &first).unwrap(),
                "its key was published before"
            );
            let third = rotator.make(Some(&second), false).unwrap();
            assert_ne!(text(&third, "value"), text(&second, "next"), "nothing lives on");
            assert!(overlaps(algorithm, &third, &third).is_err());
        }
    }

    #[test]
    fn a_pair_is_published_before_it_signs_and_for_a_rotation_after() {
        for algorithm in [Algorithm::ES256, Algorithm::EdDsa] {
            let rotator = rotator(algorithm);
            let first = rotator.make(None, true).unwrap();
            let second = rotator.make(Some(&first), true).unwrap();
            let third = rotator.make(Some(&second), true).unwrap();
            for value in [&first, &second, &third] {
                try_out(algorithm, value).unwrap();
            }
            assert_eq!(text(&second, "private_key"), text(&first, "next_private_key"));
            overlaps(algorithm, &second, &first).unwrap();
            overlaps(algorithm, &third, &second).unwrap();
            assert!(overlaps(algorithm, &third, &first).is_err(), "two rotations ago");
            let afresh = rotator.make(Some(&third), false).unwrap();
            assert!(overlaps(algorithm, &afresh, &third).is_err(), "nothing lives on");
        }
    }

    #[test]
    fn weak_and_foreign_keys_are_refused_without_being_shown() {
        let weak = Fields::single(SecretValue::new("hunter2hunter2hunter2hunter2hunter2hunter2"));
        let error = try_out(Algorithm::HS256, &weak).unwrap_err();
        assert!(matches!(error, TargetError::Refused(_)));
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert!(try_out(Algorithm::ES256, &weak).is_err());
        let hs256 = rotator(Algorithm::HS256).make(None, true).unwrap();
        assert!(try_out(Algorithm::EdDsa, &hs256).is_err());
    }

    #[test]
    fn a_weak_successor_is_not_used() {
        let rotator = rotator(Algorithm::HS256);
        let fields = [("value", "x"), ("next", "hunter2")];
        let old = fields.map(|(n, v)| (n.to_owned(), SecretValue::new(v))).into_iter().collect();
        let new = rotator.make(Some(&old), true).unwrap();
        try_out(Algorithm::HS256, &new).unwrap();
    }
}
