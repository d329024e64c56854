//! The injection webhook as a process: over HTTPS with real reviews, and behind a real API server.

#![cfg(feature = "operator")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::use_debug,
    dead_code,
    reason = "a test fails by panicking, and has its own time"
)]

#[path = "../support/mod.rs"]
mod support;

mod adopted;
mod cluster;
mod edge;
mod herd;
mod kubelet;
mod migrate;
#[path = "../edge/pki.rs"]
#[allow(unreachable_pub, reason = "shared")]
mod pki;
mod rig;
mod volumes;
mod ways;
mod whole;
#[path = "../support/workload_api.rs"]
#[allow(unreachable_pub, reason = "shared")]
mod workload_api;
