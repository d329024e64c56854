//! Tokens (HS256) signed and verified with the keys of a live secret.
//!
//! The field `value` signs and verifies, `next` (if there is one) and the version before verify only: so tokens stay
//! good over a rotation, in whichever order the services hear of it. A key's bytes are the field's.

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

/// Why a token could not be signed or is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The secret has no field `value`.
    #[error("{0} has no field `value` to sign with")]
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
    /// `aud` is not.
    pub fn new(live: Live) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.required_spec_claims.clear();
        validation.validate_nbf = true;
        validation.validate_aud = false;
        Self { live, validation }
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
            let key =
                secret.field(VALUE).ok_or_else(|| TokenError::NoKey(secret.name().to_owned()))?;
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

/// All keys that are accepted now, the likeliest first.
fn keys(secret: &Secret) -> impl Iterator<Item = &[u8]> {
    let previous = secret.previous().and_then(|previous| previous.field(VALUE));
    [secret.field(VALUE), previous, secret.field(NEXT)].into_iter().flatten()
}
