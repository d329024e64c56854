//! Asks Datadog whether an API key is valid.

use async_trait::async_trait;

use crate::{
    config::operator::validators::Datadog as Settings,
    domain::secret::Fields,
    rotation::{
        http::Http,
        patience,
        ports::{Evidence, TargetError, Validator},
        rotators::datadog::validate,
    },
};

/// Asks Datadog whether an API key is valid.
#[derive(Debug)]
pub struct Datadog {
    settings: Settings,
    http: Http,
}

impl Datadog {
    /// By these settings.
    pub fn new(settings: Settings, http: Http) -> Self {
        Self { settings, http }
    }
}

#[async_trait]
impl Validator for Datadog {
    fn kind(&self) -> &'static str {
        "datadog"
    }

    async fn validate(
        &self,
        value: &Fields,
        _previous: Option<&Fields>,
    ) -> Result<Evidence, TargetError> {
        let Settings { url, timeout, patience } = &self.settings;
        patience::until(*patience, || validate(&self.http, url, *timeout, value)).await
    }
}
