//! The composition root: the only place that constructs adapters and spawns long tasks.

pub mod clock;
