//! What the broker tells of itself while it works; who listens is the composition root's choice.
//!
//! Calls to stores are observed by decorating [`Origin`](super::ports::Origin), not here. All
//! methods are called on the way of a request: they must not block.

use std::time::Duration;

use jiff::Timestamp;

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

    /// A call was answered, with the number of its gRPC status code.
    fn answered(&self, _method: Method, _code: usize, _took: Duration) {}

    /// Something that is counted while it lasts began or ended.
    fn lasting(&self, _what: Lasting, _begins: bool) {}

    /// A change reached one watcher this long after it was published.
    fn delivered(&self, _lag: Duration) {}

    /// A secret that is watched closely was asked for by this identity.
    fn monitored(&self, _secret: &str, _identity: &str) {}

    /// Something happened on the way to the operator.
    fn feed(&self, _news: FeedNews<'_>, _now: Timestamp) {}

    /// A connection was closed before it had an identity, or because a limit was reached.
    fn refused(&self, _why: Refused) {}
}

/// A method of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GetSecret`.
    GetSecret,
    /// `BatchGetSecrets`.
    BatchGetSecrets,
    /// `ListSecrets`.
    ListSecrets,
    /// `WatchSecrets`; its time is that of the call's start.
    WatchSecrets,
    /// `ReportOutcome`.
    ReportOutcome,
    /// `WatchRotations` of the operator.
    #[cfg(feature = "operator")]
    WatchRotations,
    /// `ReportAdoption` of the operator.
    #[cfg(feature = "operator")]
    ReportAdoption,
    /// `Plan` of the operator.
    #[cfg(feature = "operator")]
    Plan,
    /// `Status` of the operator.
    #[cfg(feature = "operator")]
    Status,
    /// `History` of the operator.
    #[cfg(feature = "operator")]
    History,
    /// `Rotate` of the operator.
    #[cfg(feature = "operator")]
    Rotate,
    /// `Resume` of the operator.
    #[cfg(feature = "operator")]
    Resume,
    /// `Rollback` of the operator.
    #[cfg(feature = "operator")]
    Rollback,
    /// `Compromise` of the operator.
    #[cfg(feature = "operator")]
    Compromise,
    /// `FollowRotation` of the operator.
    #[cfg(feature = "operator")]
    FollowRotation,
    /// `Validate` of the operator.
    #[cfg(feature = "operator")]
    Validate,
    /// `Supply` of the operator.
    #[cfg(feature = "operator")]
    Supply,
    /// `Approve` of the operator.
    #[cfg(feature = "operator")]
    Approve,
    /// `BreakGlass` of the operator.
    #[cfg(feature = "operator")]
    BreakGlass,
    /// `EndAccess` of the operator.
    #[cfg(feature = "operator")]
    EndAccess,
}

impl Method {
    /// The names of all methods, in the order of their numbers.
    pub const NAMES: &[&str] = &[
        "GetSecret",
        "BatchGetSecrets",
        "ListSecrets",
        "WatchSecrets",
        "ReportOutcome",
        #[cfg(feature = "operator")]
        "WatchRotations",
        #[cfg(feature = "operator")]
        "ReportAdoption",
        #[cfg(feature = "operator")]
        "Plan",
        #[cfg(feature = "operator")]
        "Status",
        #[cfg(feature = "operator")]
        "History",
        #[cfg(feature = "operator")]
        "Rotate",
        #[cfg(feature = "operator")]
        "Resume",
        #[cfg(feature = "operator")]
        "Rollback",
        #[cfg(feature = "operator")]
        "Compromise",
        #[cfg(feature = "operator")]
        "FollowRotation",
        #[cfg(feature = "operator")]
        "Validate",
        #[cfg(feature = "operator")]
        "Supply",
        #[cfg(feature = "operator")]
        "Approve",
        #[cfg(feature = "operator")]
        "BreakGlass",
        #[cfg(feature = "operator")]
        "EndAccess",
    ];
}

/// What happens on the way to the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedNews<'a> {
    /// The stream of rotations is open.
    Opened,
    /// It is open no more.
    Closed,
    /// It could not be opened, or broke: why.
    Failed(&'a str),
    /// It told that a path changed.
    Announced(&'a str),
    /// The operator was told how far readers are, or could not be.
    Reported(bool),
}

/// What is counted while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// An authenticated connection.
    Connection,
    /// A watch stream.
    Watch,
}

/// Why a connection was closed before it was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `server.limits.connections` is reached.
    Limit,
    /// The TLS handshake failed: no certificate, or none that is trusted.
    Handshake,
    /// The peer was silent for too long.
    Silent,
    /// The certificate names no workload.
    Identity,
}

/// Counts something for as long as it is held.
pub struct Lasts(std::sync::Arc<dyn Observer>, Lasting);

impl Lasts {
    /// Begins to count.
    pub fn begin(observer: std::sync::Arc<dyn Observer>, what: Lasting) -> Self {
        observer.lasting(what, true);
        Self(observer, what)
    }
}

impl Drop for Lasts {
    fn drop(&mut self) {
        self.0.lasting(self.1, false);
    }
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}
