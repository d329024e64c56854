//! The targets whose credentials can be rotated, a file each.

mod login;
pub mod postgres;
pub mod redis;
pub mod vault_database;
mod wire;
