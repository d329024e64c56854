//! The broker's edge, as a process, over real TLS: whom it lets in, what it bears, how it ends.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking, and has its own time"
)]

#[path = "../support/mod.rs"]
mod support;

mod caller;
mod draining;
mod hostile;
mod limits;
mod pki;
mod reload;
mod rig;
mod spiffe;
mod trust;
#[path = "../support/workload_api.rs"]
mod workload_api;
