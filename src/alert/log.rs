//! Alerts as lines of the log.

use async_trait::async_trait;

use crate::{
    domain::fault::Fault,
    rotation::ports::{Alert, Alerts, Urgency},
};

/// Writes alerts to the log.
#[derive(Debug)]
pub struct Log;

#[async_trait]
impl Alerts for Log {
    async fn raise(&self, alert: &Alert) -> Result<(), Fault> {
        let Alert { urgency, name, secret, summary } = alert;
        match urgency {
            Urgency::Info => tracing::info!(alert = %name, %secret, "{summary}"),
            Urgency::Warning => tracing::warn!(alert = %name, %secret, "{summary}"),
            Urgency::Critical => tracing::error!(alert = %name, %secret, "{summary}"),
        }
        Ok(())
    }
}
