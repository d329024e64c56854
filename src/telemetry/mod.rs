//! What operators see: logs, metrics, and the state of health.
//!
//! One struct per event writes its log line and its metric together ([`events`]). No log line,
//! label or health answer holds a secret's value; the plain health port holds no names either.

pub mod events;
mod feed;
pub mod http;
pub mod logs;
pub mod metrics;
mod observer;
pub mod origin;
pub mod panics;
mod process;
pub mod readiness;
mod requests;
#[cfg(feature = "operator")]
pub mod rotations;
#[cfg(test)]
mod tests;

pub use crate::broker::observe::Method;
pub use logs::Logs;
pub use metrics::{Metrics, SecretReading};
pub use origin::WithTelemetry;
pub use readiness::{Blocker, Condition, Readiness};
