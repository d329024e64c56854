//! The keeper of one secret: the task that owns its life and carries out what the table says.

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::broadcast, time::sleep};

use super::{
    kept::Kept,
    observe::Observer,
    ports::{Clock, Origin},
    snapshot::Snapshot,
    watch::Notice,
};
use crate::domain::{
    life::{Effect, Event, Issued, Life},
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
    pub(super) calls: FuturesUnordered<BoxFuture<'static, Done>>,
    pub(super) sequence: u64,
    pub(super) generation: Generation,
    pub(super) dirty: Arc<tokio::sync::Notify>,
    pub(super) observer: Arc<dyn Observer>,
}

/// How a call ended.
pub(super) enum Done {
    Fetched(Issued),
    Other(Event),
}

impl Keeper {
    /// Keeps the secret until it is stopped and every revocation that this asked for was tried.
    pub(super) async fn run(mut self, first: Option<Event>) {
        let mut stopping = false;
        self.take(first.unwrap_or(Event::Tick));
        let mut hint = hint(Arc::clone(&self.origin));
        while !(stopping && self.calls.is_empty()) {
            let now = self.clock.now();
            let nap = nap(self.life.wake_at(now), now);
            let kept = Arc::clone(&self.kept);
            tokio::select! {
                delivery = kept.inbox.read() => {
                    if let Some(origin) = delivery.origin {
                        hint = self::hint(Arc::clone(&origin));
                        self.origin = origin;
                    }
                    for event in delivery.events {
                        stopping |= matches!(event, Event::Stopped { .. });
                        self.take(event);
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
        self.kept.withdraw();
        let _ = self.notices.send(Notice::Withdrawn(self.kept));
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Fetched(issued) => {
                let wall = u64::try_from(self.clock.wall().as_millisecond()).unwrap_or(0);
                let next = Generation(wall.max(self.generation.0 + 1));
                self.take(Event::Fetched(issued, next));
            }
            Done::Other(event) => self.take(event),
        }
    }

    fn take(&mut self, event: Event) {
        let now = self.clock.now();
        if let Event::Restored(held, _) = &event {
            self.generation = held.generation;
        }
        for effect in self.life.on(event, now) {
            self.carry_out(effect, now);
        }
    }

    fn carry_out(&mut self, effect: Effect, now: Moment) {
        let origin = Arc::clone(&self.origin);
        let call = match effect {
            Effect::Fetch => async move {
                match origin.fetch().await {
                    Ok(issued) => Done::Fetched(issued),
                    Err(fault) => Done::Other(Event::FetchFailed(fault)),
                }
            }
            .boxed(),
            Effect::Renew(lease) => async move {
                Done::Other(match origin.renew(&lease).await {
                    Ok(renewed) => Event::RenewSucceeded(renewed),
                    Err(fault) => Event::RenewFailed(fault),
                })
            }
            .boxed(),
            Effect::Revoke(lease) => async move {
                Done::Other(match origin.revoke(&lease).await {
                    Ok(()) => Event::Revoked(lease),
                    Err(fault) => Event::RevokeFailed(lease, fault),
                })
            }
            .boxed(),
            Effect::Publish(change) => {
                self.sequence += 1;
                let view = self.life.view(now);
                if let Some(held) = &view.held {
                    self.generation = held.generation;
                }
                let sequence = self.sequence;
                self.kept.publish(Snapshot::new(view, sequence, (now, self.clock.wall())));
                self.dirty.notify_one();
                if let Some(change) = change {
                    self.observer.changed(self.kept.name(), change, self.generation);
                    // Nobody may be watching.
                    let kept = Arc::clone(&self.kept);
                    let _ = self.notices.send(Notice::Changed { kept, change, sequence });
                }
                return;
            }
        };
        self.calls.push(call);
    }
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
