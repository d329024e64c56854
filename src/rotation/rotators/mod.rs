//! The targets whose credentials can be rotated, a file each.

pub mod api_key;
pub mod aws_iam;
pub mod aws_kms;
pub mod datadog;
pub mod exec;
pub mod jwt;
mod login;
pub mod manual;
pub mod postgres;
pub mod redis;
pub mod vault_database;
mod wire;
