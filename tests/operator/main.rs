//! `secret-operator` as a process, on a real Vault, `PostgreSQL` and Redis.

#![cfg(feature = "operator")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod api_server;
mod application;
mod cluster;
mod commands;
mod in_secrets;
mod kills;
mod leading;
mod rig;
mod running;
#[path = "../support/mod.rs"]
mod support;
