//! Each rotator at its real target.

#![cfg(feature = "operator")]
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

mod around;
mod aws_iam;
mod aws_kms;
mod cloud;
mod common;
mod datadog;
mod exec;
mod manual;
mod postgres;
mod probes;
mod redis;
mod vault_database;
