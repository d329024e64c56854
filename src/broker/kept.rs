//! A secret as its readers see it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{
    inbox::{Inbox, Tally},
    ports::Clock,
    snapshot::{Shared, Snapshot},
};
use crate::domain::{
    fault::{Fault, Reason},
    life::{Event, State},
    secret::{Generation, SecretName},
    time::Moment,
};

/// A secret that a keeper keeps.
pub struct Kept {
    name: SecretName,
    category: Arc<str>,
    clock: Arc<dyn Clock>,
    snapshot: ArcSwap<Snapshot>,
    published: watch::Sender<u64>,
    /// Held by each reader that waits for a value.
    waiting: Arc<()>,
    pub(super) inbox: Inbox,
}

/// Why no value can be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unserved {
    /// The source does not give it.
    #[error("{0}")]
    Fault(Fault),
    /// The value ended and no successor could be had yet.
    #[error("the value has expired and its source gives no other yet")]
    Expired,
    /// The value was revoked and no successor could be had yet.
    #[error("the value was revoked and its source gives no other yet")]
    Revoked,
    /// Nobody keeps the secret any more.
    #[error("the secret was withdrawn")]
    Withdrawn,
}

impl Kept {
    pub(super) fn new(
        name: SecretName,
        category: Arc<str>,
        clock: Arc<dyn Clock>,
        first: Snapshot,
    ) -> Self {
        Self {
            name,
            category,
            clock,
            snapshot: ArcSwap::from_pointee(first),
            published: watch::Sender::new(0),
            waiting: Arc::default(),
            inbox: Inbox::default(),
        }
    }

    /// Its name.
    pub const fn name(&self) -> &SecretName {
        &self.name
    }

    /// Its category.
    pub fn category(&self) -> &str {
        &self.category
    }

    /// The state published last, without a lock.
    pub fn snapshot(&self) -> Shared {
        self.snapshot.load_full()
    }

    /// The current moment of the clock that snapshots are measured with.
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// A snapshot with a live value. Returns at once while one is held; otherwise joins the call
    /// in flight, or starts one unless the last failed and its back-off is not over.
    ///
    /// Cancel safe: the call goes on for the other waiters. Has no deadline of its own.
    ///
    /// # Errors
    /// Why there is no value; all callers that waited for one call share its error.
    pub async fn current(&self) -> Result<Shared, Unserved> {
        let snapshot = self.snapshot();
        if snapshot.live(self.now()).is_some() {
            return Ok(snapshot);
        }
        self.first().await
    }

    async fn first(&self) -> Result<Shared, Unserved> {
        let mut published = self.published.subscribe();
        if *published.borrow() == WITHDRAWN {
            return Err(Unserved::Withdrawn);
        }
        let before = self.snapshot();
        let backing_off = before.view.retry_at.is_some_and(|at| self.now() < at);
        if backing_off {
            return Err(unserved(&before));
        }
        let attempts = before.view.attempts;
        let _waiting = Arc::clone(&self.waiting);
        self.inbox.want();
        loop {
            let snapshot = self.snapshot();
            if snapshot.live(self.now()).is_some() {
                return Ok(snapshot);
            }
            if snapshot.view.fault.is_some() && snapshot.view.attempts != attempts {
                return Err(unserved(&snapshot));
            }
            if published.changed().await.is_err() || *published.borrow() == WITHDRAWN {
                return Err(Unserved::Withdrawn);
            }
        }
    }

    /// Whether readers wait for a value now: one more joins them.
    pub fn is_awaited(&self) -> bool {
        Arc::strong_count(&self.waiting) > 1
    }

    /// Notes that a workload received a generation, so that its predecessor waits for it.
    pub fn delivered(&self, workload: &Arc<str>, generation: Generation) {
        self.inbox.delivered(workload, generation);
    }

    /// Takes a workload's word that it uses this generation and none before it.
    pub fn acknowledged(&self, workload: &Arc<str>, generation: Generation) {
        self.inbox.tell(Event::Acknowledged(Arc::clone(workload), generation));
    }

    /// Takes a workload's word that a target accepted this generation, which it therefore uses.
    pub fn worked(&self, workload: &Arc<str>, generation: Generation) {
        self.inbox.count(generation, |tally| tally.worked += 1);
        self.acknowledged(workload, generation);
    }

    /// What workloads reported of a generation so far, as long as no later one was reported of.
    pub fn tally(&self, generation: Generation) -> Tally {
        self.inbox.tally(generation)
    }

    /// How often each workload read since this was asked last.
    pub fn take_reads(&self) -> Vec<(Arc<str>, u64)> {
        self.inbox.take_reads()
    }

    /// Who rotates the secret says that it changed: it is read at once.
    pub fn announced(&self) {
        self.inbox.tell(Event::Announced);
    }

    /// Has what is held checked soon: a change of it may have been missed.
    pub fn verify(&self) {
        self.inbox.tell(Event::Changed);
    }

    /// Takes a workload's word that a target refused this generation: asks for a fresh one.
    pub fn refused(&self, generation: Generation) {
        self.inbox.count(generation, |tally| tally.refused += 1);
        self.inbox.tell(Event::Refused(generation));
    }

    /// Asks for a value to be fetched if none is held, without waiting for it.
    pub fn want(&self) {
        self.inbox.want();
    }

    pub(super) fn publish(&self, snapshot: Snapshot) {
        let sequence = snapshot.sequence;
        self.snapshot.store(Arc::new(snapshot));
        self.published.send_if_modified(|published| {
            let kept = *published != WITHDRAWN;
            if kept {
                *published = sequence;
            }
            kept
        });
    }

    pub(super) fn withdraw(&self) {
        self.published.send_replace(WITHDRAWN);
    }

    /// Tells of each new snapshot.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// The watches that are open on it.
    pub fn watches(&self) -> usize {
        self.inbox.watches()
    }

    /// Whether it had a value and has none now.
    pub fn has_ended(&self) -> bool {
        let snapshot = self.snapshot.load();
        let ended = matches!(snapshot.view.state, State::Expired | State::Revoked);
        ended || (snapshot.view.held.is_some() && snapshot.live(self.now()).is_none())
    }

    /// Whether it was stopped: no value follows.
    pub fn is_withdrawn(&self) -> bool {
        *self.published.borrow() == WITHDRAWN
    }
}

/// The sequence that says that no snapshot follows.
const WITHDRAWN: u64 = u64::MAX;

/// Why the snapshot has no value to serve.
pub fn unserved(snapshot: &Snapshot) -> Unserved {
    match (&snapshot.view.fault, snapshot.view.state) {
        (Some(fault), _) => Unserved::Fault(fault.clone()),
        (None, State::Revoked) => Unserved::Revoked,
        (None, State::Expired) => Unserved::Expired,
        (None, _) => Unserved::Fault(Fault::new(Reason::Unavailable, "no value was fetched yet")),
    }
}
