//! The injection webhook: what a pod asks for by annotations, whether it may have it, and the patch that gives it.
//!
//! - [`settings`], [`pod`] and [`review`] do no I/O: a pod in, a patch or every mistake out. Patching a patched pod
//!   changes nothing.
//! - A pod that asks for secrets starts with them or is refused; none starts silently without.
//! - Pods of the webhook's own namespace and of the excluded ones pass untouched, so that a webhook that fails can't keep
//!   itself or the cluster from coming back.

mod adopted;
pub mod annotations;
pub mod certificate;
mod configuration;
mod containers;
pub mod directory;
pub mod edge;
mod edit;
mod exec;
mod grants;
mod lists;
pub mod metrics;
pub mod migrate;
pub mod pod;
mod reader;
pub mod review;
pub mod settings;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use async_trait::async_trait;

use crate::domain::fault::Fault;

/// The annotations of namespaces, which are defaults for their pods.
#[async_trait]
pub trait Namespaces: Send + Sync {
    /// The annotations of a namespace; none where it is unknown.
    async fn annotations(&self, namespace: &str) -> Result<BTreeMap<String, String>, Fault>;
}

/// Without a client of the API server, pods speak for themselves.
#[async_trait]
impl Namespaces for () {
    async fn annotations(&self, _: &str) -> Result<BTreeMap<String, String>, Fault> {
        Ok(BTreeMap::new())
    }
}

/// What is wrong about a pod: the annotation (or the place), what was found, and what would be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The annotation's whole name, or a place in the pod.
    pub place: String,
    /// What was found.
    pub found: String,
    /// What would be accepted.
    pub accepted: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.found, self.accepted)
    }
}
