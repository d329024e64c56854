//! Encrypts and decrypts with a KMS key.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    config::operator::validators::Kms as Settings,
    domain::secret::Fields,
    rotation::{
        aws::Aws,
        ports::{Evidence, Login, TargetError, Validator},
        rotators::aws_kms::round_trip,
    },
};

/// Encrypts and decrypts with a KMS key.
pub struct Kms {
    aws: Aws,
    login: Arc<dyn Login>,
}

impl Kms {
    /// By these settings, with the `login` that they name.
    pub fn new(settings: Settings, login: Arc<dyn Login>) -> Self {
        Self { aws: Aws::new(settings.aws), login }
    }
}

#[async_trait]
impl Validator for Kms {
    fn kind(&self) -> &'static str {
        "kms"
    }

    async fn validate(
        &self,
        value: &Fields,
        _previous: Option<&Fields>,
    ) -> Result<Evidence, TargetError> {
        let kms = aws_sdk_kms::Client::new(&self.aws.login(&self.login).await?);
        round_trip(&kms, value).await
    }
}
