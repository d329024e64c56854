//! Of several operators, the one that leads; and the sidecars, which are its own.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::{fault::Fault, rotation::RotationId};

/// Decides which of several operators acts.
#[async_trait]
pub trait Leadership: Send + Sync {
    /// Takes the lead, or keeps it, for at least as long as `tenure`. Returns whether this
    /// operator leads now.
    async fn hold(&self, tenure: Duration) -> Result<bool, Fault>;

    /// Leaves the lead to whoever comes next.
    async fn release(&self) -> Result<(), Fault>;
}

/// How far the readers of one version are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adoption {
    /// Sidecars that are known to serve the place.
    pub sidecars: u32,
    /// Of those, the ones whose readers all use the version.
    pub adopted: u32,
    /// How often applications reported that the target refused the version.
    pub refused: u64,
    /// How often applications reported that the target accepted it.
    pub worked: u64,
}

/// Carries word from the processes that write to the operator that leads, which may be another one.
#[async_trait]
pub trait Relay: Send + Sync {
    /// Says that something moved at a place.
    async fn post(&self, place: &str) -> Result<(), Fault>;

    /// The places that were posted since `seen`, and what is seen then; 0 begins.
    async fn posted(&self, seen: u64) -> Result<(Vec<String>, u64), Fault>;
}

/// Nobody writes but the one that leads.
#[async_trait]
impl Relay for () {
    async fn post(&self, _: &str) -> Result<(), Fault> {
        Ok(())
    }

    async fn posted(&self, seen: u64) -> Result<(Vec<String>, u64), Fault> {
        Ok((Vec::new(), seen))
    }
}

/// The sidecars.
#[async_trait]
pub trait Readers: Send + Sync {
    /// The lead begins: whoever serves a place has yet to come and say how far it is.
    fn gather(&self);

    /// Tells all that serve a place to look at it now.
    fn announce(&self, place: &str, rotation: &RotationId, monitored_until: Option<Timestamp>);

    /// How far they are.
    fn adoption(&self, place: &str, version: u64) -> Adoption;

    /// Waits until one of them reported something. Cancel safe.
    async fn changed(&self);
}
