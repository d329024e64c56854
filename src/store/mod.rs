//! Adapters to the places that secrets come from, each behind the port
//! [`Origin`](crate::broker::ports::Origin).

mod digest;
pub mod vault;
