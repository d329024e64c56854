//! Turns secrets over: the engine that drives a [`Rotation`](crate::domain::rotation::Rotation),
//! and what it needs from outside.
//!
//! Everything outside is behind the ports of [`ports`]; [`rotators`] know one kind of target each.

pub mod engine;
pub mod generate;
pub mod ports;
pub mod rotators;
pub mod service;
