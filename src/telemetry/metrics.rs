//! The metrics: `secret_broker_<noun>_<unit>`, in the `OpenMetrics` text format.
//!
//! What changes with time alone (seconds to an expiry) is computed at the scrape. Labels come from
//! closed sets and from the catalogue, so their number is bounded.

use std::{borrow::Cow, sync::atomic::AtomicU64};

use jiff::Timestamp;
use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use super::{feed::FeedMetrics, process::Process, requests::Requests};
use crate::domain::{
    life::{State, View},
    secret::SecretName,
    time::Moment,
};

pub(super) type Label = Cow<'static, str>;
pub(super) type Counters<const N: usize> = Family<[(&'static str, Label); N], Counter>;
type Times<const N: usize> = Family<[(&'static str, Label); N], Histogram, fn() -> Histogram>;
type Seconds = Gauge<f64, AtomicU64>;

const PREFIX: &str = "secret_broker";

/// All metrics of a broker.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub(super) requests: Requests,
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) joined: Counter,
    pub(super) stale_serves: Counter,
    pub(super) overruns: Counter,
    pub(super) changes: Counters<2>,
    pub(super) watch_lag: Histogram,
    pub(super) watches: Gauge,
    pub(super) connections: Gauge,
    certificate_ends: Family<[(&'static str, Label); 1], Gauge>,
    pub(super) panics: Counter,
    pub(super) fetches: Times<3>,
    pub(super) renewals: Counters<2>,
    pub(super) revocations: Counters<1>,
    pub(super) vault_calls: Counters<2>,
    pub(super) budget_waits: Histogram,
    pub(super) connections_refused: Counters<1>,
    pub(super) handshake_failures: Counters<1>,
    pub(super) audit_failures: Counter,
    pub(super) config_reloads: Counters<1>,
    pub(super) feed: FeedMetrics,
}

/// One secret as a scrape sees it.
#[derive(Clone, Debug)]
pub struct SecretReading {
    /// Its name.
    pub name: SecretName,
    /// Where it stands.
    pub state: State,
    /// The seconds to the end of the value held; `None` when nothing is held or nothing ends it.
    pub seconds_left: Option<f64>,
    /// Leases that still have to be revoked.
    pub pending_revocations: usize,
}

impl SecretReading {
    /// The reading of a view at a moment.
    pub fn of(name: SecretName, view: &View, now: Moment) -> Self {
        let end = view.held.as_ref().and_then(|held| held.ends_at);
        Self {
            name,
            state: view.state,
            seconds_left: end.map(|end| end.left(now).as_secs_f64()),
            pending_revocations: view.pending_revocations,
        }
    }
}

/// From a fast local store to the longest time that a call may take.
fn call_times() -> Histogram {
    Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
}

fn lag_times() -> Histogram {
    Histogram::new([0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0])
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that start at zero.
    pub fn new() -> Self {
        Self::within(Registry::default())
    }

    /// The same beside those of an operator.
    #[cfg(feature = "operator")]
    pub fn of_operator() -> (Self, super::rotations::RotationMetrics) {
        let mut registry = Registry::default();
        let rotations = super::rotations::RotationMetrics::register(&mut registry);
        (Self::within(registry), rotations)
    }

    fn within(mut registry: Registry) -> Self {
        registry.register_collector(Box::new(Process));
        let r = registry.sub_registry_with_prefix(PREFIX);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        r.register("build", "The running program", Info::new(version));
        Self {
            requests: Requests::register(r),
            hits: counter(r, "cache_hits", "Reads answered from what is held"),
            misses: counter(r, "cache_misses", "Reads that found no live value"),
            joined: counter(r, "coalesced_waits", "Reads that joined a call in flight"),
            stale_serves: counter(r, "stale_serves", "Values served beyond their confirmation"),
            overruns: counter(r, "watch_overruns", "Watches that fell behind and compared anew"),
            changes: family(r, "changes", "Changes told to watchers, by secret and change"),
            watch_lag: times(r, "watch_lag", "From a change to its delivery", lag_times()),
            watches: gauge(r, "watches", "Open watch streams"),
            connections: gauge(r, "connections", "Open connections"),
            certificate_ends: Family::default(),
            panics: counter(r, "panics", "Tasks that panicked"),
            fetches: fetches(r),
            renewals: family(r, "renewals", "Lease renewals, by secret and outcome"),
            revocations: family(r, "revocations", "Lease revocations, by outcome"),
            vault_calls: family(r, "vault_calls", "Calls to Vault, by operation and outcome"),
            budget_waits: times(r, "budget_wait", "Waits for the budget of calls", call_times()),
            connections_refused: family(r, "connections_refused", "Connections closed, by reason"),
            handshake_failures: family(r, "handshake_failures", "TLS handshakes, by failure"),
            audit_failures: counter(r, "audit_failures", "Audit records that were not written"),
            config_reloads: family(r, "config_reloads", "Configurations read, by outcome"),
            feed: FeedMetrics::register(r),
            registry,
        }
    }

    pub(super) fn certificate(&self, role: &'static str, ends: Timestamp) {
        self.certificate_ends.get_or_create(&[("role", role.into())]).set(ends.as_second());
    }

    /// All metrics as one page in the `OpenMetrics` text format.
    pub fn render(
        &self,
        now: Timestamp,
        secrets: impl IntoIterator<Item = SecretReading>,
    ) -> String {
        let mut page = String::with_capacity(16 * 1024);
        let readings = self.readings(now, secrets);
        // Writing to a string does not fail.
        let _ = encode_registry(&mut page, &self.registry)
            .and_then(|()| encode_registry(&mut page, &readings))
            .and_then(|()| encode_eof(&mut page));
        page
    }

    /// What is true at this moment only.
    fn readings(
        &self,
        now: Timestamp,
        secrets: impl IntoIterator<Item = SecretReading>,
    ) -> Registry {
        let (left, states) = (Family::<_, Seconds>::default(), Family::<_, Gauge>::default());
        let (pending, certificates) = (Gauge::<i64>::default(), Family::<_, Gauge>::default());
        for secret in secrets {
            let name: Label = secret.name.as_str().to_owned().into();
            pending.inc_by(i64::try_from(secret.pending_revocations).unwrap_or(i64::MAX));
            if let Some(seconds) = secret.seconds_left {
                left.get_or_create(&[("secret", name.clone())]).set(seconds);
            }
            let state: Label = state_name(secret.state).into();
            states.get_or_create(&[("secret", name), ("state", state)]).set(1);
        }
        for role in ROLES {
            let labels = [("role", Label::from(role))];
            if let Some(ends) = self.certificate_ends.get(&labels) {
                certificates.get_or_create(&labels).set(ends.get() - now.as_second());
            }
        }
        let mut registry = Registry::with_prefix(PREFIX);
        let mut add = |name: &str, help: &str, family| {
            registry.register_with_unit(name, help, Unit::Seconds, family);
        };
        add("secret_expiry", "Time to the end of the value held", left);
        let help = "Time to the end of a certificate";
        registry.register_with_unit("certificate_expiry", help, Unit::Seconds, certificates);
        registry.register("secret_state", "1 for the state in which a secret is", states);
        registry.register("revocations_pending", "Leases that still have to be revoked", pending);
        registry
    }
}

/// The certificates whose end is measured.
pub(super) const ROLES: [&str; 3] = ["server", "authority", "vault_client"];

pub(super) fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

pub(super) fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

pub(super) fn family<const N: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
) -> Counters<N> {
    let family = Counters::<N>::default();
    registry.register(name, help, family.clone());
    family
}

fn times(registry: &mut Registry, name: &str, help: &str, histogram: Histogram) -> Histogram {
    registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    histogram
}

fn fetches(registry: &mut Registry) -> Times<3> {
    let family = Times::<3>::new_with_constructor(call_times);
    let help = "Fetches from stores, by store, outcome and reason";
    registry.register_with_unit("fetch_duration", help, Unit::Seconds, family.clone());
    family
}

pub(super) const fn state_name(state: State) -> &'static str {
    match state {
        State::Absent => "absent",
        State::Fresh => "fresh",
        State::Renewing => "renewing",
        State::Replacing => "replacing",
        State::Stale => "stale",
        State::Expired => "expired",
        State::Revoked => "revoked",
    }
}
