//! Tokens (HS256) signed and verified with the keys of a live secret.
//!
//! The field `value` signs and verifies, `next` (if there is one) and the version before verify only: so tokens stay
//! good over a rotation, in whichever order the services hear of it. A key's bytes are the field's: 32 or more, and what is
//! shorter neither signs nor verifies.

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, TokenData, Validation, decode, encode,
    errors::ErrorKind,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Live, Secret};

/// The field that signs.
const VALUE: &str = "value";
/// The field that will sign after the next rotation.
const NEXT: &str = "next";
/// Bytes, as RFC 7518 demands of HS256.
const SMALLEST_KEY: usize = 32;

/// Why a token could not be signed or is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The secret has no field `value` that is long enough.
    #[error("{0} has no field `value` of at least {SMALLEST_KEY} bytes")]
    NoKey(String),
    /// The claims can't be written as JSON.
    #[error("the claims can't be signed: {0}")]
    Claims(String),
    /// The token is malformed, expired, or signed by none of the keys.
    #[error("the token is not accepted: {0}")]
    Refused(String),
}

/// Signs and verifies tokens with the keys of the moment.
#[derive(Clone, Debug)]
pub struct Tokens {
    live: Live,
    validation: Validation,
}

impl Tokens {
    /// Tokens of this secret. `exp` and `nbf` are checked where a token has them, with a leeway of 60 seconds;
    /// one with an `aud` is refused unless [`Tokens::validation`] names that audience.
    pub fn new(live: Live) -> Self {
        Self { live, validation: checks() }
    }

    /// Checks tokens in your own way; the algorithm stays HS256.
    #[must_use]
    pub fn validation(mut self, validation: Validation) -> Self {
        self.validation = Validation { algorithms: vec![Algorithm::HS256], ..validation };
        self
    }

    /// A token of these claims, signed by the current key.
    ///
    /// # Errors
    /// That there is no key, or that the claims are no JSON.
    pub fn sign<C: Serialize>(&self, claims: &C) -> Result<String, TokenError> {
        self.live.with(|secret| {
            let key = secret.field(VALUE).filter(is_long_enough);
            let key = key.ok_or_else(|| TokenError::NoKey(secret.name().to_owned()))?;
            encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(key))
                .map_err(|error| TokenError::Claims(error.to_string()))
        })
    }

    /// The claims of a token that one of the keys signed.
    ///
    /// # Errors
    /// [`TokenError::Refused`] with the reason.
    pub fn verify<C: DeserializeOwned + Clone>(&self, token: &str) -> Result<C, TokenError> {
        self.live.with(|secret| {
            let mut refusal = TokenError::NoKey(secret.name().to_owned());
            for key in keys(secret) {
                match decode(token, &DecodingKey::from_secret(key), &self.validation) {
                    Ok(TokenData { claims, .. }) => return Ok(claims),
                    Err(error) => {
                        refusal = TokenError::Refused(error.to_string());
                        if !matches!(error.kind(), ErrorKind::InvalidSignature) {
                            break;
                        }
                    }
                }
            }
            Err(refusal)
        })
    }
}

/// The checks unless told otherwise. A token for an audience is for others, since none is named here (RFC 7519, 4.1.3).
fn checks() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.required_spec_claims.clear();
    validation.validate_nbf = true;
    validation
}

/// All keys that are accepted now, the likeliest first.
fn keys(secret: &Secret) -> impl Iterator<Item = &[u8]> {
    let previous = secret.previous().and_then(|previous| previous.field(VALUE));
    let all = [secret.field(VALUE), previous, secret.field(NEXT)];
    all.into_iter().flatten().filter(is_long_enough)
}

fn is_long_enough(key: &&[u8]) -> bool {
    key.len() >= SMALLEST_KEY
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto;

    #[test]
    fn a_token_for_an_audience_is_refused_unless_that_is_named() {
        let key = [7; SMALLEST_KEY];
        let sign = |claims| encode(&Header::default(), &claims, &EncodingKey::from_secret(&key));
        let theirs = sign(serde_json::json!({ "aud": "theirs" })).unwrap();
        let of_nobody = sign(serde_json::json!({ "sub": "ada" })).unwrap();
        let verify = |token: &str, checks: &Validation| {
            decode::<serde_json::Value>(token, &DecodingKey::from_secret(&key), checks)
        };
        assert!(verify(&of_nobody, &checks()).is_ok());
        let refused = verify(&theirs, &checks()).unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::InvalidAudience));
        let mut named = checks();
        named.set_audience(&["theirs"]);
        assert!(verify(&theirs, &named).is_ok());
    }

    #[tokio::test]
    async fn a_short_key_verifies_nothing() {
        let [value, before] = ["a".repeat(32), "b".repeat(32)];
        let field = |name: &str, key: &str| (name.to_owned(), key.as_bytes().to_vec());
        let mut message = proto::Secret {
            fields: [field(VALUE, &value), field(NEXT, "")].into(),
            previous: Some(proto::PreviousSecret {
                fields: [field(VALUE, &before)].into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let secret = Secret::from(message.clone());
        assert_eq!(keys(&secret).collect::<Vec<_>>(), [value.as_bytes(), before.as_bytes()]);
        message.fields = [field(VALUE, "short"), field(NEXT, &value)].into();
        let secret = Secret::from(message);
        assert_eq!(keys(&secret).collect::<Vec<_>>(), [before.as_bytes(), value.as_bytes()]);
    }
}
