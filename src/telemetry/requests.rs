//! Requests by method and status code: on the way of every call, so nothing is looked up or
//! allocated there once a pair was seen.

use std::{sync::OnceLock, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::broker::observe::Method;

/// The status codes of gRPC by their numbers.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
const UNKNOWN: usize = 2;

/// Upper bounds in seconds: a cached read takes microseconds, a first one what its store takes.
const BUCKETS: [f64; 11] =
    [0.000_01, 0.000_03, 0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.1, 1.0, 10.0, 60.0];

type Labels = [(&'static str, &'static str); 2];

#[derive(Debug)]
pub(super) struct Requests {
    family: Family<Labels, Counter>,
    counters: [[OnceLock<Counter>; CODES.len()]; Method::NAMES.len()],
    durations: [Histogram; Method::NAMES.len()],
}

impl Requests {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let family = Family::<Labels, Counter>::default();
        registry.register("requests", "Calls answered, by method and gRPC code", family.clone());
        let times = Family::<[(&'static str, &'static str); 1], Histogram, fn() -> Histogram>::new_with_constructor(
            || Histogram::new(BUCKETS),
        );
        let durations = std::array::from_fn(|at| {
            let method = Method::NAMES.get(at).copied().unwrap_or_default();
            times.get_or_create_owned(&[("method", method)])
        });
        registry.register_with_unit(
            "request_duration",
            "Time from a call's start to its end",
            Unit::Seconds,
            times,
        );
        Self { family, counters: std::array::from_fn(|_| Default::default()), durations }
    }

    #[inline]
    pub(super) fn answered(&self, method: Method, code: usize, took: Duration) {
        let code = if code < CODES.len() { code } else { UNKNOWN };
        let method = method as usize;
        if let Some(counter) = self.counters.get(method).and_then(|codes| codes.get(code)) {
            counter.get_or_init(|| self.resolve(method, code)).inc();
        }
        if let Some(duration) = self.durations.get(method) {
            duration.observe(took.as_secs_f64());
        }
    }

    #[cold]
    fn resolve(&self, method: usize, code: usize) -> Counter {
        let name = |names: &[&'static str], at| names.get(at).copied().unwrap_or_default();
        let labels = [("method", name(Method::NAMES, method)), ("code", name(&CODES, code))];
        self.family.get_or_create_owned(&labels)
    }
}
