//! What the product is about, without I/O, async or a clock: `now` is always an argument.

pub mod budget;
pub mod fault;
pub mod labels;
pub mod life;
pub mod policy;
#[cfg(feature = "operator")]
pub mod rotation;
pub mod secret;
pub mod time;
pub mod workload;
