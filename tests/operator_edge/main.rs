//! The operator's edge over real TLS: whom it lets in, what it asks of two persons, what it never
//! shows, and how sidecars and people follow rotations.

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

#[path = "../edge/pki.rs"]
mod pki;
#[path = "../support/mod.rs"]
mod support;

mod admission;
mod feed;
mod following;
mod glass;
mod hygiene;
mod looking;
mod persons;
mod rig;
mod world;
