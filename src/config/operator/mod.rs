//! What the operator is told to do: one TOML file, checked as the sidecar's is.

pub mod alerts;
pub mod checks;
pub mod login;
pub mod targets;
pub mod validators;
pub mod webhook;

pub use login::LoginSource;
