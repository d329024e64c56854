//! The life of one secret: its words here, its rules in [`Life`].

mod answers;
mod retiring;
mod table;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

pub use retiring::Overlap;
pub use table::{Life, View};

use super::{
    fault::Fault,
    secret::{Fields, Generation, Version},
    time::Moment,
};

/// How one secret is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Fetch at start and keep trying, instead of waiting for the first reader.
    pub prefetch: bool,
    /// How often a value without an end of its own is read again.
    pub poll_interval: Duration,
    /// How long a value that can't be confirmed is served after it was due.
    pub max_stale: Duration,
    /// How long a replaced version lives on while its readers move over.
    pub overlap: Duration,
    /// The most that a value may age, whatever its store says: a lease is replaced before it, and
    /// a value that nothing else bounds ends after it unless it is read again.
    pub max_age: Option<Duration>,
    /// The first wait after a failed call; it doubles with each failure.
    pub retry_min: Duration,
    /// The longest wait after a failed call.
    pub retry_max: Duration,
}

/// A lease as its store knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The store's own name for it; opaque, and not for logs.
    pub id: Arc<str>,
    /// Whether more time can be asked for.
    pub renewable: bool,
}

/// What bounds the life of a value, as told by its store. All times count from the call's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// It ends after `ttl` unless its lease is renewed.
    Leased {
        /// The lease.
        lease: Lease,
        /// The time left.
        ttl: Duration,
    },
    /// It ends after this time, and a new one takes its place.
    Ends(Duration),
    /// The store will replace the value after this time; it must be read again then.
    Rotates(Duration),
    /// Nothing ends it; changes are found by reading it again.
    Unbounded,
}

/// A value as a store gives it.
#[derive(Debug)]
pub struct Issued {
    /// The value.
    pub fields: Arc<Fields>,
    /// Its version at the store.
    pub version: Version,
    /// What bounds its life.
    pub lifetime: Lifetime,
    /// The time after which no renewal can carry it, where the store knows: a parent token's
    /// or a role's maximum.
    pub max_left: Option<Duration>,
    /// The version before it.
    pub predecessor: Predecessor,
}

/// What a store says of the version before the one that it gives.
#[derive(Debug, Default)]
pub enum Predecessor {
    /// Nothing: a version that is replaced overlaps its successor as our terms say.
    #[default]
    Untold,
    /// No other version is accepted.
    Withdrawn,
    /// This one is still accepted, whether or not we ever held it.
    Accepted(Accepted),
}

/// An earlier version that is still accepted.
#[derive(Debug)]
pub struct Accepted {
    /// The value.
    pub fields: Arc<Fields>,
    /// Its version at the store.
    pub version: Version,
    /// The time until it is accepted no longer, counted from the call's start; `None` while the
    /// store knows no end.
    pub lasts: Option<Duration>,
}

impl Accepted {
    /// Whether it is this version. Versions of two places can't be compared, so values are too.
    pub(super) fn is(&self, held: &Held) -> bool {
        held.version == self.version
            && (Arc::ptr_eq(&held.fields, &self.fields) || held.fields == self.fields)
    }
}

/// A lease's new time, counted from the call's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The time left now.
    pub ttl: Duration,
    /// Whether more can be asked for later.
    pub renewable: bool,
    /// As in [`Issued::max_left`].
    pub max_left: Option<Duration>,
}

/// A version that the broker holds.
#[derive(Clone, Debug)]
pub struct Held {
    /// The value.
    pub fields: Arc<Fields>,
    /// Its version at the store.
    pub version: Version,
    /// Its generation at this broker.
    pub generation: Generation,
    /// When it was issued.
    pub issued_at: Moment,
    /// When it ends; `None` while nothing bounds it.
    pub ends_at: Option<Moment>,
    /// Its lease.
    pub lease: Option<Lease>,
}

impl Held {
    /// Whether it may still be served.
    pub fn is_live(&self, now: Moment) -> bool {
        self.ends_at.is_none_or(|end| now < end)
    }
}

/// Why no value is held any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It came to its end.
    Expired,
    /// Its store revoked it.
    Revoked,
}

/// What happens to a secret.
#[derive(Debug)]
pub enum Event {
    /// Time went by.
    Tick,
    /// A reader found no value.
    Wanted,
    /// The first watch on the secret opened, or the last one closed.
    Watched(bool),
    /// A fetch succeeded; the generation is the one to use if the value is new.
    Fetched(Issued, Generation),
    /// A fetch failed.
    FetchFailed(Fault),
    /// A renewal succeeded.
    RenewSucceeded(Renewed),
    /// A renewal failed.
    RenewFailed(Fault),
    /// A lease was revoked, or is known to be gone.
    Revoked(Lease),
    /// A lease could not be revoked.
    RevokeFailed(Lease, Fault),
    /// The store hints that the value or its lease changed: it is checked soon.
    Changed,
    /// Who rotates the secret says that it changed: it is read at once.
    Announced,
    /// A workload received a generation.
    Delivered(Arc<str>, Generation),
    /// A workload uses this generation and none before it.
    Acknowledged(Arc<str>, Generation),
    /// A target refused this generation.
    Refused(Generation),
    /// What an earlier run of this process held: the current version, and those that overlapped
    /// it, each with the moment at which it has to go.
    Restored(Held, Vec<(Held, Moment)>),
    /// The secret is read from another place, and kept under these terms, from now on.
    Moved(Terms),
    /// The secret is kept under other terms from now on; what is held is checked under them soon.
    TermsChanged(Terms),
    /// The secret is kept no longer: leases are revoked if `revoke` says so.
    Stopped {
        /// Whether to revoke what is held.
        revoke: bool,
    },
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Call the store for a value; answer with `Fetched` or `FetchFailed`.
    Fetch,
    /// Renew the lease; answer with `RenewSucceeded` or `RenewFailed`.
    Renew(Lease),
    /// Revoke the lease; answer with `Revoked` or `RevokeFailed`.
    Revoke(Lease),
    /// Publish the state anew, with the change that watchers are told of.
    Publish(Option<Change>),
}

/// What watchers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A new version is served.
    Rotated,
    /// The same version ends later.
    Renewed,
    /// The version ends soon and has no successor.
    Expiring,
    /// The store did not confirm the version when it was due.
    Stale,
    /// The store confirms the version again.
    Recovered,
    /// The value must not be used any more.
    Revoked,
}

/// Where the secret stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No value is held.
    Absent,
    /// The value is good.
    Fresh,
    /// The value is good and its lease is being renewed.
    Renewing,
    /// The value is good and its successor is being fetched.
    Replacing,
    /// The value is within its limit; its store could not confirm it.
    Stale,
    /// The value ended.
    Expired,
    /// The value was revoked at its store.
    Revoked,
}
