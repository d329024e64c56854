//! Kubernetes, as the operator uses it: who leads, what happened, and Secrets.
//!
//! Nothing that the API server sends is logged or told but the names of its reasons, for its
//! answers may hold values.

pub mod backup;
mod client;
pub mod events;
pub mod lease;
pub mod secrets;
pub mod status;
pub mod webhook;

pub use client::Cluster;

/// What annotations and labels of ours begin with.
const PREFIX: &str = "secretbroker.dev";
/// The name under which the operator is known to the API server.
const OPERATOR: &str = "secret-operator";
/// Says whose object it is.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
