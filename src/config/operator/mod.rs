//! What the operator is told to do: one TOML file, checked as the sidecar's is.

pub mod login;
pub mod targets;

pub use login::LoginSource;
