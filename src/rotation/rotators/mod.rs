//! The targets whose credentials can be rotated, a file each.

pub mod api_key;
pub mod aws_iam;
pub mod aws_kms;
pub mod datadog;
pub mod exec;
pub mod jwt;
pub mod manual;
