//! Signs a token and verifies it, measures the key, and looks whether tokens of the version before
//! are still accepted.

use async_trait::async_trait;

use crate::{
    config::operator::targets::jwt::Algorithm,
    domain::secret::Fields,
    rotation::{
        ports::{Evidence, TargetError, Validator},
        rotators::jwt::{overlaps, try_out},
    },
};

/// Signs a token and verifies it.
#[derive(Debug)]
pub struct Jwt(Algorithm);

impl Jwt {
    /// For keys of this algorithm.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(algorithm)
    }
}

#[async_trait]
impl Validator for Jwt {
    fn kind(&self) -> &'static str {
        "jwt"
    }

    async fn validate(
        &self,
        value: &Fields,
        previous: Option<&Fields>,
    ) -> Result<Evidence, TargetError> {
        let seen = try_out(self.0, value)?;
        match previous {
            Some(previous) => Ok(format!("{seen}; {}", overlaps(self.0, value, previous)?)),
            None => Ok(seen),
        }
    }
}
