//! The lead among several operators: a Lease, as Kubernetes' own components elect their leaders.
//!
//! Nobody's clock is believed but the own one: a lease that somebody else holds has lapsed once it
//! was seen unchanged for as long as it lasts. Each write carries the version that was read, so of
//! several that find it lapsed one takes it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};

use super::{Cluster, MANAGED_BY, OPERATOR};
use crate::{
    broker::ports::Clock,
    domain::{
        fault::{Fault, Reason},
        time::Moment,
    },
    rotation::ports::Leadership,
};

/// A lease of the operator's namespace.
pub struct LeaseLock {
    cluster: Cluster,
    name: String,
    holder: String,
    clock: Arc<dyn Clock>,
    seen: Mutex<Option<Seen>>,
}

/// A state of the lease, and when it was first seen.
struct Seen {
    held: LeaseSpec,
    at: Moment,
}

impl LeaseLock {
    /// The lease of this name. `holder` differs for each process.
    pub fn new(cluster: Cluster, name: String, holder: String, clock: Arc<dyn Clock>) -> Self {
        Self { cluster, name, holder, clock, seen: Mutex::new(None) }
    }

    async fn read(&self) -> Result<Option<Lease>, Fault> {
        self.cluster.get(self.cluster.namespace(), &self.name).await
    }

    /// How long the lease has been as it is, as far as this process saw.
    fn unchanged_for(&self, held: &LeaseSpec) -> Duration {
        let now = self.clock.now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.as_ref() {
            Some(seen) if seen.held == *held => now - seen.at,
            _ => {
                *seen = Some(Seen { held: held.clone(), at: now });
                Duration::ZERO
            }
        }
    }

    /// The lease as this operator's own from now on.
    fn taken(&self, held: LeaseSpec, tenure: Duration) -> LeaseSpec {
        let now = MicroTime(self.clock.wall());
        let is_ours = held.holder_identity.as_deref() == Some(&self.holder);
        let transitions = held.lease_transitions.unwrap_or(0);
        LeaseSpec {
            acquire_time: held.acquire_time.filter(|_| is_ours).or(Some(now.clone())),
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: Some(whole_seconds(tenure)),
            lease_transitions: Some(if is_ours {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            renew_time: Some(now),
            ..held
        }
    }

    async fn make(&self, tenure: Duration) -> Result<bool, Fault> {
        let labels = [(MANAGED_BY.to_owned(), OPERATOR.to_owned())];
        let metadata = ObjectMeta {
            name: Some(self.name.clone()),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        };
        let spec =
            LeaseSpec { lease_transitions: Some(0), ..self.taken(LeaseSpec::default(), tenure) };
        let lease = Lease { metadata, spec: Some(spec) };
        won(self.cluster.create(self.cluster.namespace(), &lease).await)
    }
}

#[async_trait]
impl Leadership for LeaseLock {
    async fn hold(&self, tenure: Duration) -> Result<bool, Fault> {
        let Some(mut lease) = self.read().await? else { return self.make(tenure).await };
        let held = lease.spec.take().unwrap_or_default();
        let holder = held.holder_identity.as_deref().unwrap_or_default();
        let unchanged = self.unchanged_for(&held);
        let lasts = held.lease_duration_seconds.and_then(|secs| u64::try_from(secs).ok());
        let lapsed = unchanged >= lasts.map_or(tenure, Duration::from_secs);
        if !holder.is_empty() && holder != self.holder && !lapsed {
            return Ok(false);
        }
        lease.spec = Some(self.taken(held, tenure));
        won(self.cluster.replace(self.cluster.namespace(), &lease).await)
    }

    async fn release(&self) -> Result<(), Fault> {
        let Some(mut lease) = self.read().await? else { return Ok(()) };
        let Some(held) = lease.spec.take() else { return Ok(()) };
        if held.holder_identity.as_deref() != Some(&self.holder) {
            return Ok(());
        }
        let spec = LeaseSpec {
            holder_identity: None,
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(self.clock.wall())),
            ..held
        };
        lease.spec = Some(spec);
        won(self.cluster.replace(self.cluster.namespace(), &lease).await).map(drop)
    }
}

/// Whether a write came before those of others.
fn won(written: Result<Lease, Fault>) -> Result<bool, Fault> {
    match written {
        Ok(_) => Ok(true),
        Err(fault) if fault.reason == Reason::Conflict => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// At least one, and never less than the time.
fn whole_seconds(time: Duration) -> i32 {
    let seconds = time.as_millis().div_ceil(1000).max(1);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}
