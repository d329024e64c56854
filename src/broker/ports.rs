//! What the broker needs from outside: time, the origin of each secret, and a place for its state.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::{
    fault::{Fault, Reason},
    life::{Issued, Lease, Renewed},
    time::Moment,
};

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Monotonic time; it also advances while the machine is suspended.
    fn now(&self) -> Moment;

    /// The wall clock, which may jump.
    fn wall(&self) -> Timestamp;
}

/// Where one secret comes from: a place in a store, bound to its adapter.
///
/// All methods may be dropped at any await; a credential that was minted by a dropped
/// [`fetch`](Self::fetch) ends with its own lease.
#[async_trait]
pub trait Origin: Send + Sync {
    /// Reads or mints the value.
    async fn fetch(&self) -> Result<Issued, Fault>;

    /// Asks for more time for a lease of this origin.
    async fn renew(&self, _lease: &Lease) -> Result<Renewed, Fault> {
        Err(Fault::new(Reason::Invalid, "this store has no leases"))
    }

    /// Ends a lease of this origin now. Succeeds when it had ended already.
    async fn revoke(&self, _lease: &Lease) -> Result<(), Fault> {
        Ok(())
    }

    /// Waits until the store has a hint that the value may have changed or its lease may have
    /// died. Never returns for a store that gives no hints.
    async fn changed(&self) {
        std::future::pending::<()>().await;
    }
}

/// Is told of every call to a store.
pub trait CallObserver: Send + Sync {
    /// A call ended: what it was for, why it failed if it did, and how long it took.
    fn called(&self, operation: &'static str, fault: Option<Reason>, took: Duration);

    /// A call was held back for this long by the limits on calls.
    fn waited(&self, wait: Duration);
}

/// Observes nothing.
impl CallObserver for () {
    fn called(&self, _: &'static str, _: Option<Reason>, _: Duration) {}

    fn waited(&self, _: Duration) {}
}
