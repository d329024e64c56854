//! The library that the sidecar `secret-broker` is composed of.
//!
//! Dependencies point one way: `main → app → {server, store, identity, tls, …} → broker → domain`.
//! ARCHITECTURE.md draws the map; `tests/architecture.rs` holds it.

#[cfg(feature = "operator")]
pub mod alert;
pub mod app;
pub mod audit;
pub mod broker;
pub mod cli;
#[cfg(feature = "operator")]
pub mod commands;
pub mod config;
pub mod contract;
pub mod domain;
pub mod feed;
pub mod files;
pub mod identity;
#[cfg(feature = "operator")]
pub mod inject;
#[cfg(feature = "operator")]
pub mod kube;
pub mod lockdown;
pub mod random;
#[cfg(feature = "operator")]
pub mod report;
#[cfg(feature = "operator")]
pub mod rotation;
pub mod sealing;
pub mod server;
pub mod state;
pub mod store;
pub mod telemetry;
pub mod tls;
