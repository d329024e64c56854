//! When a secret is due.
