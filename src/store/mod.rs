//! Adapters to the places that secrets come from, each behind the port
//! [`Origin`](crate::broker::ports::Origin).

pub mod directory;
pub mod dotenv;
pub mod memory;
mod read;
pub mod sealed;
pub mod vault;
mod version;

pub use version::VersionKey;
