//! Calls people: through Alertmanager, through a Slack webhook, and by the log.
//!
//! An alert that reached anybody was raised; one that reached nobody is an error, so that whoever
//! raised it tries again.

mod alertmanager;
mod log;
mod slack;

use std::sync::Arc;

use async_trait::async_trait;

pub use self::{alertmanager::Alertmanager, log::Log, slack::Slack};
use crate::{
    domain::fault::Fault,
    rotation::ports::{Alert, Alerts},
};

/// Several places that are told, and the log.
pub struct All(Vec<Arc<dyn Alerts>>);

impl All {
    /// These places; with none of them, the log alone counts.
    pub fn new(places: Vec<Arc<dyn Alerts>>) -> Self {
        Self(places)
    }
}

#[async_trait]
impl Alerts for All {
    async fn raise(&self, alert: &Alert) -> Result<(), Fault> {
        Log.raise(alert).await?;
        let mut last = None;
        let mut told = self.0.is_empty();
        for place in &self.0 {
            match place.raise(alert).await {
                Ok(()) => told = true,
                Err(fault) => {
                    tracing::warn!(alert = %alert.name, error = %fault, "alert not delivered");
                    last = Some(fault);
                }
            }
        }
        match last {
            Some(fault) if !told => Err(fault),
            _ => Ok(()),
        }
    }
}
