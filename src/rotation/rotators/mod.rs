//! The targets whose credentials can be rotated, a file each.

mod login;
pub mod postgres;
pub mod redis;
mod wire;
