//! Calls to stores, observed: logs and counts each without the store or the broker knowing.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Metrics,
    events::{LeaseRenewed, LeaseRevoked, SecretFetched},
};
use crate::{
    broker::ports::{Clock, Origin},
    domain::{
        fault::Fault,
        life::{Issued, Lease, Renewed},
        secret::SecretName,
    },
};

/// An origin whose calls are logged and counted.
pub struct WithTelemetry {
    /// The origin.
    pub origin: Arc<dyn Origin>,
    /// The secret that it is for.
    pub secret: SecretName,
    /// The kind of its store, such as `vault`.
    pub store: &'static str,
    /// Measures the calls.
    pub clock: Arc<dyn Clock>,
    /// Counts them.
    pub metrics: Arc<Metrics>,
}

#[async_trait]
impl Origin for WithTelemetry {
    async fn fetch(&self) -> Result<Issued, Fault> {
        let start = self.clock.now();
        let issued = self.origin.fetch().await;
        let (secret, store, took) = (&self.secret, self.store, self.clock.now() - start);
        let result = issued.as_ref().map(|_| ());
        SecretFetched { secret, store, took, result }.record(&self.metrics);
        issued
    }

    async fn renew(&self, lease: &Lease) -> Result<Renewed, Fault> {
        let renewed = self.origin.renew(lease).await;
        let result = renewed.as_ref().map(|renewed| renewed.ttl);
        LeaseRenewed { secret: &self.secret, result }.record(&self.metrics);
        renewed
    }

    async fn revoke(&self, lease: &Lease) -> Result<(), Fault> {
        let revoked = self.origin.revoke(lease).await;
        let result = revoked.as_ref().copied();
        LeaseRevoked { secret: &self.secret, result }.record(&self.metrics);
        revoked
    }

    async fn changed(&self) {
        self.origin.changed().await;
    }
}
