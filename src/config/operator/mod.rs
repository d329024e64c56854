//! What the operator is told to do: one TOML file, checked as the sidecar's is.

pub mod alerts;
pub mod checks;
pub mod login;
pub mod targets;
#[cfg(test)]
mod tests_cloud;
pub mod validators;
pub mod webhook;

pub use login::LoginSource;
