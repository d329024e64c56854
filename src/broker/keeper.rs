//! The keeper of one secret: the task that owns its life and carries out what the table says.

use std::{
    collections::{BTreeSet, HashMap},
    future::pending,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{broadcast, watch},
    time::sleep,
};

use super::{
    kept::Kept,
    observe::Observer,
    ports::{Clock, Origin},
    snapshot::Snapshot,
    watch::Notice,
};
use crate::domain::{
    life::{Change, Effect, Event, Issued, Lease, Life, Lifetime},
    secret::Generation,
    time::Moment,
};

/// The longest sleep: after it the clock is read again, which also advances while the machine is
/// suspended and timers are not.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);
/// The shortest sleep, so that a rounding of timers can't spin.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

pub(super) struct Keeper {
    pub(super) kept: Arc<Kept>,
    pub(super) origin: Arc<dyn Origin>,
    pub(super) life: Life,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) notices: broadcast::Sender<Notice>,
    /// The origins of leases that were issued before the secret moved, by lease.
    pub(super) former: HashMap<Arc<str>, Arc<dyn Origin>>,
    pub(super) calls: FuturesUnordered<BoxFuture<'static, Done>>,
    pub(super) sequence: u64,
    pub(super) announced: u64,
    pub(super) generation: Generation,
    pub(super) changes: watch::Sender<()>,
    pub(super) observer: Arc<dyn Observer>,
}

/// How a call ended.
pub(super) enum Done {
    Fetched(Issued, Arc<dyn Origin>),
    Other(Event),
}

impl Keeper {
    /// Keeps the secret until it is stopped and every revocation that this asked for was tried. Answers whether no lease
    /// is left. Boxed, because a future holds what it is given twice, and there is one for each secret.
    pub(super) async fn run(mut self: Box<Self>) -> bool {
        let mut open =
            Some(Departure { kept: Arc::clone(&self.kept), notices: self.notices.clone() });
        let mut hint = hint(Arc::clone(&self.origin));
        while !(open.is_none() && self.calls.is_empty()) {
            let now = self.clock.now();
            let nap = nap(self.life.wake_at(now), now);
            let kept = Arc::clone(&self.kept);
            tokio::select! {
                delivery = kept.inbox.read() => {
                    if let Some(origin) = delivery.origin {
                        hint = self::hint(Arc::clone(&origin));
                        self.follow(origin);
                    }
                    for event in delivery.events {
                        let stopped = matches!(event, Event::Stopped { .. });
                        self.take(event);
                        if stopped {
                            // Told at once, however long the revocations take.
                            open = None;
                        }
                    }
                }
                Some(done) = self.calls.next() => self.finish(done),
                () = &mut hint => {
                    hint = self::hint(Arc::clone(&self.origin));
                    self.take(Event::Changed);
                }
                () = nap => self.take(Event::Tick),
            }
        }
        self.life.leases().next().is_none()
    }

    /// Reads from another origin from now on. Leases remain the business of their own.
    fn follow(&mut self, origin: Arc<dyn Origin>) {
        let before = std::mem::replace(&mut self.origin, origin);
        for lease in self.life.leases() {
            self.former.entry(Arc::clone(&lease.id)).or_insert_with(|| Arc::clone(&before));
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Fetched(issued, from) => {
                if let Lifetime::Leased { lease, .. } = &issued.lifetime
                    && !Arc::ptr_eq(&from, &self.origin)
                {
                    self.former.insert(Arc::clone(&lease.id), from);
                }
                let wall = u64::try_from(self.clock.wall().as_millisecond()).unwrap_or(0);
                let next = Generation(wall.max(self.generation.0 + 1));
                self.take(Event::Fetched(issued, next));
            }
            Done::Other(event) => self.take(event),
        }
    }

    /// Takes an event, and begins what follows from it.
    pub(super) fn take(&mut self, event: Event) {
        let now = self.clock.now();
        if let Event::Restored(held, _) = &event {
            self.generation = held.generation;
        }
        for effect in self.life.on(event, now) {
            self.carry_out(effect, now);
        }
        if !self.former.is_empty() {
            let leases = self.life.leases().map(|lease| &lease.id).collect::<BTreeSet<_>>();
            self.former.retain(|id, _| leases.contains(id));
        }
    }

    fn issuer(&self, lease: &Lease) -> Arc<dyn Origin> {
        Arc::clone(self.former.get(&lease.id).unwrap_or(&self.origin))
    }

    fn carry_out(&mut self, effect: Effect, now: Moment) {
        let call = match effect {
            Effect::Fetch => fetch(Arc::clone(&self.origin)).boxed(),
            Effect::Renew(lease) => renew(self.issuer(&lease), lease).boxed(),
            Effect::Revoke(lease) => revoke(self.issuer(&lease), lease).boxed(),
            Effect::Publish(change) => return self.publish(change, now),
        };
        self.calls.push(call);
    }

    fn publish(&mut self, change: Option<Change>, now: Moment) {
        self.sequence += 1;
        let sequence = self.sequence;
        if change.is_some() {
            self.announced = sequence;
        }
        let view = self.life.view(now);
        if let Some(held) = &view.held {
            self.generation = held.generation;
        }
        let published = (now, self.clock.wall());
        self.kept.publish(Snapshot::new(view, sequence, self.announced, published));
        self.changes.send_replace(());
        if let Some(change) = change {
            self.observer.changed(self.kept.name(), change, self.generation);
            // Nobody may be watching.
            let kept = Arc::clone(&self.kept);
            let _ = self.notices.send(Notice::Changed { kept, change, sequence });
        }
    }
}

/// Tells readers and watches that the secret is kept no longer, however its keeper leaves.
struct Departure {
    kept: Arc<Kept>,
    notices: broadcast::Sender<Notice>,
}

impl Drop for Departure {
    fn drop(&mut self) {
        self.kept.withdraw();
        let _ = self.notices.send(Notice::Withdrawn(Arc::clone(&self.kept)));
    }
}

async fn fetch(origin: Arc<dyn Origin>) -> Done {
    match origin.fetch().await {
        Ok(issued) => Done::Fetched(issued, origin),
        Err(fault) => Done::Other(Event::FetchFailed(fault)),
    }
}

async fn renew(origin: Arc<dyn Origin>, lease: Lease) -> Done {
    Done::Other(match origin.renew(&lease).await {
        Ok(renewed) => Event::RenewSucceeded(renewed),
        Err(fault) => Event::RenewFailed(fault),
    })
}

async fn revoke(origin: Arc<dyn Origin>, lease: Lease) -> Done {
    Done::Other(match origin.revoke(&lease).await {
        Ok(()) => Event::Revoked(lease),
        Err(fault) => Event::RevokeFailed(lease, fault),
    })
}

async fn nap(until: Option<Moment>, now: Moment) {
    match until {
        Some(at) => sleep(at.left(now).clamp(SHORTEST_SLEEP, LONGEST_SLEEP)).await,
        None => pending().await,
    }
}

/// Waits for a hint of the origin. Holds its own reference, so that the origin can be exchanged.
fn hint(origin: Arc<dyn Origin>) -> BoxFuture<'static, ()> {
    async move { origin.changed().await }.boxed()
}
