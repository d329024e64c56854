//! Turns secrets over: the engine that drives a [`Rotation`](crate::domain::rotation::Rotation),
//! and what it needs from outside.
//!
//! Everything outside is behind the ports of [`ports`]; [`rotators`] know one kind of target each,
//! [`validators`] and [`checks`] one kind of proof.

mod aws;
pub mod backup;
pub mod checks;
pub mod engine;
mod entropy;
pub mod generate;
pub mod http;
mod jws;
mod patience;
pub mod ports;
pub mod rotators;
pub mod service;
pub mod validators;
pub mod webhook;
