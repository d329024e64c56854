//! What is seen of the way to the operator, and of secrets that are watched closely.

use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::metrics::{Counters, counter, family, gauge};
use crate::broker::observe::FeedNews;

/// Pairs of a secret and an identity that are counted apart.
const MAX_PAIRS: usize = 1000;

#[derive(Debug)]
pub(super) struct FeedMetrics {
    connected: Gauge,
    announcements: Counter,
    last: Gauge,
    reports: Counters<1>,
    monitored: Counters<2>,
    pairs: AtomicUsize,
}

impl FeedMetrics {
    pub(super) fn register(r: &mut Registry) -> Self {
        let last = Gauge::default();
        let help = "When the operator told of a rotation last, or confirmed its stream";
        let name = "operator_last_message_timestamp";
        r.register_with_unit(name, help, Unit::Seconds, last.clone());
        Self {
            connected: gauge(r, "operator_connected", "Whether the operator's stream is open"),
            announcements: counter(r, "operator_messages", "Rotations that the operator told of"),
            last,
            reports: family(r, "adoption_reports", "Reports to the operator, by outcome"),
            monitored: family(
                r,
                "monitored_accesses",
                "Accesses to secrets that are watched closely, by secret and identity",
            ),
            pairs: AtomicUsize::new(0),
        }
    }

    pub(super) fn take(&self, news: FeedNews<'_>, now: Timestamp) {
        match news {
            FeedNews::Opened => {
                self.connected.set(1);
                self.last.set(now.as_second());
                tracing::info!("the operator tells of rotations");
            }
            FeedNews::Closed => {
                self.connected.set(0);
            }
            FeedNews::Failed(why) => {
                tracing::warn!(why, "the operator can't be heard; changes are found by polling");
            }
            FeedNews::Announced(path) => {
                self.announcements.inc();
                self.last.set(now.as_second());
                tracing::info!(path, "the operator tells of a rotation");
            }
            FeedNews::Reported(succeeded) => {
                let outcome = if succeeded { "ok" } else { "failed" };
                self.reports.get_or_create(&[("outcome", outcome.into())]).inc();
            }
        }
    }

    pub(super) fn monitored(&self, secret: &str, identity: &str) {
        let labels = |identity: &str| {
            [("secret", secret.to_owned().into()), ("identity", identity.to_owned().into())]
        };
        let pair = labels(identity);
        if let Some(known) = self.monitored.get(&pair) {
            known.inc();
        } else if self.pairs.fetch_add(1, Ordering::Relaxed) < MAX_PAIRS {
            self.monitored.get_or_create(&pair).inc();
        } else {
            self.monitored.get_or_create(&labels("others")).inc();
        }
    }
}
