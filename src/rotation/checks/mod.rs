//! What has to hold around a secret before and after it is rotated, a file each.

pub mod alerts;
pub mod backup;
pub mod notify;
pub mod rollback;
