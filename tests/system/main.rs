//! The real sidecar with a real Vault and a real `PostgreSQL`.

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

mod certificates;
mod contract;
mod crashes;
mod dev;
mod engines;
mod faults;
#[path = "../support/heap.rs"]
mod heap;
mod hygiene;
mod labels;
mod logins;
mod main_job;
mod rendering;
mod state;
