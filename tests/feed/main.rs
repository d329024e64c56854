//! The sidecar and the operator's feed, with a real Vault.

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

mod crowd;
mod operator;
#[path = "../edge/pki.rs"]
mod pki;
mod rig;
mod rotations;
#[path = "../support/mod.rs"]
mod support;
