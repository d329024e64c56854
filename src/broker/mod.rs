//! The use cases: keep each secret alive, serve it, and tell who watches.
//!
//! Everything outside is behind the ports of [`ports`].

pub mod ports;
