//! Asks AWS who a key pair belongs to.

use async_trait::async_trait;

use crate::{
    config::operator::validators::AwsIdentity as Settings,
    domain::secret::Fields,
    rotation::{
        aws, patience,
        ports::{Evidence, TargetError, Validator},
    },
};

/// Asks AWS who a key pair belongs to.
pub struct Aws {
    settings: Settings,
    aws: aws::Aws,
}

impl Aws {
    /// By these settings.
    pub fn new(settings: Settings) -> Self {
        let aws = aws::Aws::new(settings.aws.clone());
        Self { settings, aws }
    }
}

#[async_trait]
impl Validator for Aws {
    fn kind(&self) -> &'static str {
        "aws"
    }

    async fn validate(
        &self,
        value: &Fields,
        _previous: Option<&Fields>,
    ) -> Result<Evidence, TargetError> {
        let user = self.settings.user.as_deref();
        patience::until(self.settings.patience, || self.aws.identify(value, user)).await
    }
}
