//! What became of pods, in the `OpenMetrics` text format. No label names a namespace or a pod.

use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::review::Door;

type Counters<const N: usize> = Family<[(&'static str, &'static str); N], Counter>;

/// What became of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It got the sidecar.
    Injected,
    /// It did not ask.
    Skipped,
    /// It was refused.
    Refused,
    /// It asked, and was not injected.
    Uninjected,
    /// It was counted before, or is no new pod.
    None,
}

impl Outcome {
    const fn name(self) -> Option<&'static str> {
        match self {
            Self::Injected => Some("injected"),
            Self::Skipped => Some("skipped"),
            Self::Refused => Some("refused"),
            Self::Uninjected => Some("uninjected"),
            Self::None => None,
        }
    }
}

/// All metrics of the webhook.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pods: Counters<1>,
    reviews: Counters<2>,
    malformed: Counter,
    review_time: Histogram,
    certificate_ends: Gauge,
    certificate_failures: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that start at zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let r = registry.sub_registry_with_prefix("secret_broker_injection");
        let pods = Counters::default();
        let reviews = Counters::default();
        let (malformed, certificate_failures) = (Counter::default(), Counter::default());
        let certificate_ends: Gauge = Gauge::default();
        let review_time = Histogram::new([0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]);
        r.register("pods", "New pods, by what became of them", pods.clone());
        r.register("reviews", "Reviews that were answered, by webhook and result", reviews.clone());
        r.register("malformed", "Requests that were no review", malformed.clone());
        r.register_with_unit(
            "review",
            "The time for one review",
            Unit::Seconds,
            review_time.clone(),
        );
        r.register_with_unit(
            "certificate_expiry_timestamp",
            "When the certificate that is served ends",
            Unit::Seconds,
            certificate_ends.clone(),
        );
        r.register(
            "certificate_failures",
            "Rounds of keeping the certificate that failed",
            certificate_failures.clone(),
        );
        for outcome in [Outcome::Injected, Outcome::Skipped, Outcome::Refused, Outcome::Uninjected]
        {
            if let Some(name) = outcome.name() {
                // Present from the start, so that a first increase is seen.
                drop(pods.get_or_create(&[("outcome", name)]));
            }
        }
        Self {
            registry,
            pods,
            reviews,
            malformed,
            review_time,
            certificate_ends,
            certificate_failures,
        }
    }

    pub(super) fn reviewed(&self, door: Door, outcome: Outcome, allowed: bool) {
        if let Some(name) = outcome.name() {
            self.pods.get_or_create(&[("outcome", name)]).inc();
        }
        let result = if allowed { "allowed" } else { "refused" };
        self.reviews.get_or_create(&[("webhook", door.name()), ("result", result)]).inc();
    }

    pub(super) fn malformed(&self) {
        self.malformed.inc();
    }

    pub(super) fn took(&self, time: Duration) {
        self.review_time.observe(time.as_secs_f64());
    }

    pub(super) fn certificate(&self, ends: Timestamp) {
        self.certificate_ends.set(ends.as_second());
    }

    pub(super) fn certificate_failed(&self) {
        self.certificate_failures.inc();
    }

    /// The page that is scraped.
    pub fn page(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
