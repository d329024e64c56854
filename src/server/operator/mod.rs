//! What the operator offers to people and sidecars, over mTLS and in the same process.
//!
//! Invariants: nothing is looked up at a store or a target for a caller that no grant lets in;
//! every call leaves one record before its answer; what is asked for is only written down here,
//! and carried out by whoever drives the engine; no value that is supplied is kept or shown.

mod dispatch;
mod errors;
mod feed;
mod follow;
mod gate;
mod glass;
mod look;
mod requests;
mod service;
mod summary;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};

pub use self::{
    dispatch::Services,
    errors::OperatorError,
    feed::{FeedLimits, Reads, Sidecars},
    follow::{Changes, States},
};
pub use super::listener::Caller;
use crate::{
    audit::AuditLog,
    config::Limits,
    domain::{policy::Policy, rotation::RotationId},
    rotation::{engine::Engine, ports::BreakGlass, service::Waker},
};

/// The messages, services and clients of the operator's contract.
pub mod proto {
    pub use crate::contract::operator::*;

    impl std::fmt::Debug for SupplyRequest {
        /// Without values.
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("SupplyRequest").field("name", &self.name).finish_non_exhaustive()
        }
    }

    impl std::fmt::Debug for BreakGlassResponse {
        /// Without the token.
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("BreakGlassResponse").field("id", &self.id).finish_non_exhaustive()
        }
    }
}

/// What the operator is made of.
pub struct Parts {
    /// The engine that writes requests down.
    pub engine: Arc<Engine>,
    /// The sidecars; the engine's `readers` as well.
    pub sidecars: Arc<Sidecars>,
    /// Opens access in emergencies; none is offered without it.
    pub glass: Option<Arc<dyn BreakGlass>>,
    /// Who may do what; nobody anything when empty.
    pub policy: Policy,
    /// Where calls are recorded.
    pub audit: Arc<AuditLog>,
    /// Is told of every secret that something was asked for.
    pub waker: Arc<Waker>,
    /// Names rotations and accesses by the time.
    pub name: fn(Timestamp) -> RotationId,
    /// Bounds on callers: `watches` bounds those who follow rotations.
    pub limits: Limits,
    /// The time for calls that use targets: `Validate`, `Supply` and `BreakGlass`.
    pub patience: Duration,
    /// Turns true when streams have to end.
    pub stop: watch::Receiver<bool>,
    /// Whether this operator leads: sidecars are the leader's alone, which has to know them all.
    pub leading: watch::Receiver<bool>,
}

/// The operator as callers meet it: the same operations behind gRPC and in the same process.
///
/// Each method may be dropped at any await. What was written down by then stays, and the call is
/// recorded as cancelled.
pub struct Operator {
    engine: Arc<Engine>,
    sidecars: Arc<Sidecars>,
    glass: Option<Arc<dyn BreakGlass>>,
    policy: ArcSwap<Policy>,
    audit: Arc<AuditLog>,
    waker: Arc<Waker>,
    name: fn(Timestamp) -> RotationId,
    limits: Limits,
    patience: Duration,
    stop: watch::Receiver<bool>,
    leading: watch::Receiver<bool>,
    followers: Arc<Semaphore>,
}

impl Operator {
    /// An operator of these parts.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            followers: Arc::new(Semaphore::new(parts.limits.watches)),
            engine: parts.engine,
            sidecars: parts.sidecars,
            glass: parts.glass,
            policy: ArcSwap::from_pointee(parts.policy),
            audit: parts.audit,
            waker: parts.waker,
            name: parts.name,
            limits: parts.limits,
            patience: parts.patience,
            stop: parts.stop,
            leading: parts.leading,
        })
    }

    /// Takes over new policies; open streams lose what may not be followed any more.
    pub fn enforce(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    fn now(&self) -> Timestamp {
        self.engine.surroundings().clock.wall()
    }
}
