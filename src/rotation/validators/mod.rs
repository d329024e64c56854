//! What tries a new value out, a file each.

pub mod aws;
pub mod datadog;
pub mod entropy;
pub mod http;
pub mod jwt;
pub mod kms;
pub mod slack;
