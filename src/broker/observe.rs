//! What the broker tells of itself while it works; who listens is the composition root's choice.
//!
//! Calls to stores are observed by decorating [`Origin`](super::ports::Origin), not here. All
//! methods are called on the way of a request: they must not block.

use crate::domain::{
    life::Change,
    secret::{Generation, SecretName},
};

/// Hears what happens in the broker.
pub trait Observer: Send + Sync {
    /// A read was answered from what is held.
    fn hit(&self) {}

    /// A read found no live value.
    fn missed(&self) {}

    /// A read that found no live value joined a call that was in flight already.
    fn joined(&self) {}

    /// A value was served that its store could not confirm when it was due.
    fn stale_served(&self) {}

    /// A secret changed for its watchers.
    fn changed(&self, _secret: &SecretName, _change: Change, _generation: Generation) {}

    /// A watch fell so far behind that it has to compare all it watches.
    fn watch_overrun(&self) {}
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}
