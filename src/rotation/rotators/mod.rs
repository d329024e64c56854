//! The targets whose credentials can be rotated, a file each.

mod login;
pub mod postgres;
mod wire;
