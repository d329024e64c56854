//! The use cases: keep each secret alive, serve it, and tell who watches.
//!
//! Everything outside is behind the ports of [`ports`]. One [`keeper`] task owns the life of each
//! secret; readers see its immutable [`snapshot::Snapshot`]s and never wait for it while a value
//! is live.

mod inbox;
pub mod keeper;
pub mod kept;
mod monitoring;
pub mod observe;
pub mod ports;
pub mod service;
pub mod snapshot;
pub mod state;
pub mod watch;

pub use inbox::Tally;
pub use kept::Kept;
pub use service::{Broker, Entry};
pub use snapshot::Snapshot;

#[cfg(test)]
mod tests;
