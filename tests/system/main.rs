//! The real sidecar with a real Vault and a real PostgreSQL.

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod main_job;
mod state;
