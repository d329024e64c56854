//! The rules: `on(event, now) → effects`.
//!
//! Invariants, driven by property tests in any order of events: nothing is served past its end;
//! never two calls for one secret at once; a replaced version is revoked after its readers
//! acknowledged the new one or its overlap ended; a failed call is repeated only after its
//! back-off.

use std::{sync::Arc, time::Duration};

use super::{
    Change, Effect, Ended, Event, Held, Lease, Overlap, State, Terms,
    retiring::{Readers, Retiring},
};
use crate::domain::{
    fault::Fault,
    secret::Generation,
    time::{Jitter, Moment},
};

/// The share of a lease's time after which it is renewed or replaced: two thirds, spread.
const REFRESH_SHARE: (f64, f64) = (0.6, 0.73);
/// The share of a lease's time after which watchers are warned of its end.
pub(super) const EXPIRING_SHARE: f64 = 0.9;
/// The least time between two fetches that refusals ask for.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(10);
/// The spread of checks that follow a hint, so that many secrets don't ask at once.
const HINT_SPREAD: Duration = Duration::from_secs(1);
/// The spread of the first checks after a restart.
const RESTORE_SPREAD: Duration = Duration::from_secs(10);
/// The least time between two calls that hints bring forward after a failure.
const HINT_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Fetch,
    Renew,
}

/// The call in flight.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) task: Task,
    pub(super) since: Moment,
    /// The lease that is being renewed.
    pub(super) lease: Option<Lease>,
    /// The secret moved since: the answer comes from the place before.
    pub(super) outdated: bool,
    /// The version came to its end while its renewal was under way.
    pub(super) orphaned: bool,
    /// The lease was revoked while its renewal was under way.
    pub(super) revoked: bool,
}

/// A failed call and when to try again.
#[derive(Clone, Debug)]
pub(super) struct Setback {
    pub(super) fault: Fault,
    pub(super) failures: u32,
    pub(super) retry_at: Moment,
}

/// The life of one secret.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug)]
pub struct Life {
    pub(super) terms: Terms,
    pub(super) jitter: Jitter,
    pub(super) held: Option<Held>,
    /// The held version came from another place than the next one will.
    pub(super) foreign: bool,
    pub(super) readers: Readers,
    /// What has to be done next for the held version, and when.
    pub(super) due: (Task, Moment),
    /// A fetch that was asked for while a call was in flight.
    pub(super) asked: Option<Moment>,
    /// The most time that the store granted, against which renewals are measured.
    pub(super) granted: Duration,
    /// Reads that found the value unchanged although its rotation was due.
    pub(super) overdue: u32,
    pub(super) warn_at: Option<Moment>,
    pub(super) ended: Option<Ended>,
    pub(super) setback: Option<Setback>,
    pub(super) stale_since: Option<Moment>,
    pub(super) busy: Option<Call>,
    /// Somebody waits for a value.
    pub(super) wanted: bool,
    /// Somebody waits for every value.
    pub(super) watched: bool,
    pub(super) refusal_fetch_at: Option<Moment>,
    pub(super) hint_at: Option<Moment>,
    pub(super) retiring: Retiring,
    pub(super) stopped: bool,
    pub(super) attempts: u64,
}

/// What there is to know of a secret at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// Where it stands.
    pub state: State,
    /// The version to serve, as long as it is live.
    pub held: Option<Held>,
    /// The versions before it that are still accepted, oldest first.
    pub overlaps: Vec<Overlap>,
    /// Since when the store could not confirm the held version.
    pub stale_since: Option<Moment>,
    /// Why the last call failed; `None` after one that succeeded.
    pub fault: Option<Fault>,
    /// When the failed call is repeated.
    pub retry_at: Option<Moment>,
    /// Calls that came to an end since the start.
    pub attempts: u64,
    /// Leases that still have to be revoked.
    pub pending_revocations: usize,
    /// No reader uses a version before the held one any more, as far as is known.
    pub adopted: bool,
}

impl Life {
    /// A secret of which nothing is held.
    pub fn new(terms: Terms, jitter: Jitter) -> Self {
        Self {
            wanted: terms.prefetch,
            retiring: Retiring::of(terms.max_age),
            terms,
            jitter,
            held: None,
            foreign: false,
            readers: Readers::default(),
            due: (Task::Fetch, Moment::default()),
            asked: None,
            granted: Duration::ZERO,
            overdue: 0,
            warn_at: None,
            ended: None,
            setback: None,
            stale_since: None,
            busy: None,
            watched: false,
            refusal_fetch_at: None,
            hint_at: None,
            stopped: false,
            attempts: 0,
        }
    }

    /// Takes one event and says what has to be done.
    pub fn on(&mut self, event: Event, now: Moment) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Tick => {}
            Event::Wanted => self.wanted = true,
            Event::Watched(watched) => {
                self.watched = watched;
                self.wanted |= watched;
            }
            Event::Fetched(issued, generation) => {
                self.fetched(issued, generation, now, &mut effects);
            }
            Event::FetchFailed(fault) => self.fetch_failed(fault, now, &mut effects),
            Event::RenewSucceeded(renewed) => self.renewed(renewed, now, &mut effects),
            Event::RenewFailed(fault) => self.renew_failed(fault, now, &mut effects),
            Event::Revoked(lease) => self.revoked(&lease),
            Event::RevokeFailed(lease, fault) => {
                self.retiring.revoke_failed(&lease, &fault, now, &mut self.jitter);
            }
            Event::Changed => self.hinted(HINT_SPREAD, now, &mut effects),
            Event::Announced => self.hinted(Duration::ZERO, now, &mut effects),
            Event::Delivered(workload, generation) => self.delivered(workload, generation),
            Event::Acknowledged(workload, generation) => {
                self.retiring.acknowledged(&workload, generation);
            }
            Event::Refused(generation) => self.refused(generation, now),
            Event::Moved(terms) => self.moved(terms, now, &mut effects),
            Event::TermsChanged(terms) => {
                self.agree(terms);
                self.hinted(HINT_SPREAD, now, &mut effects);
            }
            Event::Restored(held, overlaps) => self.restored(held, overlaps, now, &mut effects),
            Event::Stopped { revoke } => self.stop(revoke, now, &mut effects),
        }
        self.warn(now, &mut effects);
        self.expire(now, &mut effects);
        if self.retiring.advance(now, &mut effects) {
            effects.push(Effect::Publish(None));
        }
        self.start(now, &mut effects);
        effects
    }

    /// When time alone will change something; `None` if only an event can.
    pub fn wake_at(&self, now: Moment) -> Option<Moment> {
        let next_call = if self.busy.is_some() || self.stopped { None } else { self.call_at() };
        let end = self.held.as_ref().and_then(|held| held.ends_at);
        [next_call, self.warn_at, end, self.retiring.wake_at(now)].into_iter().flatten().min()
    }

    /// What there is to know now.
    pub fn view(&self, now: Moment) -> View {
        let held = self.held.clone().filter(|held| held.is_live(now));
        View {
            state: self.state(held.is_some()),
            held,
            overlaps: self.retiring.overlaps().to_vec(),
            stale_since: self.stale_since,
            fault: self.setback.as_ref().map(|setback| setback.fault.clone()),
            retry_at: self.setback.as_ref().map(|setback| setback.retry_at),
            attempts: self.attempts,
            pending_revocations: self.retiring.pending_revocations(),
            adopted: self.retiring.is_adopted(now),
        }
    }

    /// The leases that are held, overlap, or wait for their revocation.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        let busy = self.busy.iter().filter_map(|call| call.lease.as_ref());
        self.held.iter().filter_map(|h| h.lease.as_ref()).chain(busy).chain(self.retiring.leases())
    }

    fn state(&self, live: bool) -> State {
        match (live, self.ended, self.stale_since, self.busy.as_ref().map(|call| call.task)) {
            (true, _, Some(_), _) => State::Stale,
            (true, _, None, Some(Task::Renew)) => State::Renewing,
            (true, _, None, Some(Task::Fetch)) => State::Replacing,
            (true, _, None, None) => State::Fresh,
            (false, Some(Ended::Revoked), ..) => State::Revoked,
            (false, None, ..) if self.held.is_none() => State::Absent,
            (false, ..) => State::Expired,
        }
    }

    /// A change is hinted at: checks within `spread`, also when a failure is backed off from.
    fn hinted(&mut self, spread: Duration, now: Moment, effects: &mut Vec<Effect>) {
        self.verify_within(spread, now);
        let at = now + self.jitter.spread(spread, 0.0, 1.0);
        let at = self.hint_at.map_or(at, |last| at.max(last + HINT_INTERVAL));
        if let Some(setback) = &mut self.setback
            && at < setback.retry_at
        {
            setback.retry_at = at;
            self.hint_at = Some(at);
            effects.push(Effect::Publish(None));
        }
    }

    /// Brings the next check of the held version forward.
    fn verify_within(&mut self, spread: Duration, now: Moment) {
        let at = now + self.jitter.spread(spread, 0.0, 1.0);
        if self.busy.as_ref().is_some_and(|call| call.task == Task::Fetch) {
            // The read may have come before the change.
            self.asked = Some(at);
            return;
        }
        // A lease that can't be renewed can't be checked either; its successor comes in time.
        if at < self.due.1
            && let Some(task) = self.check()
        {
            self.due = (task, at);
        }
    }

    /// The call that tells whether the held version is still the one.
    fn check(&self) -> Option<Task> {
        match self.held.as_ref().and_then(|held| held.lease.as_ref()) {
            Some(lease) => lease.renewable.then_some(Task::Renew),
            None => Some(Task::Fetch),
        }
    }

    fn revoked(&mut self, lease: &Lease) {
        self.retiring.revoked(lease);
        if let Some(call) = &mut self.busy {
            call.revoked |= call.lease.as_ref().is_some_and(|renewing| renewing.id == lease.id);
        }
    }

    fn delivered(&mut self, workload: Arc<str>, generation: Generation) {
        if self.held.as_ref().is_some_and(|held| held.generation == generation) {
            self.retiring.appeared(&workload);
            self.readers.add(workload);
        } else {
            self.retiring.delivered(&workload, generation);
        }
    }

    fn refused(&mut self, generation: Generation, now: Moment) {
        let current = self.held.as_ref().is_some_and(|held| held.generation == generation);
        if current && self.refusal_fetch_at.is_none_or(|at| now - at >= REFUSAL_INTERVAL) {
            self.refusal_fetch_at = Some(now);
            if self.busy.is_some() {
                self.asked = Some(now);
            } else {
                self.due = (Task::Fetch, now);
            }
        }
    }

    fn restored(
        &mut self,
        held: Held,
        overlaps: Vec<(Held, Moment)>,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        for (overlap, until) in overlaps {
            self.retiring.restore(overlap, until);
        }
        if !held.is_live(now) || self.held.is_some() {
            return;
        }
        let left = held.ends_at.map(|end| end.left(now));
        // A lease that was renewed is older than what one renewal grants: the rest is the measure.
        self.granted = left.unwrap_or_default();
        self.warn_at = left.map(|left| now + left.mul_f64(EXPIRING_SHARE));
        let due_in = left.map_or(RESTORE_SPREAD, |left| self.refresh_after(left));
        self.held = Some(held);
        self.due = (self.check().unwrap_or(Task::Fetch), now + due_in);
        self.wanted = false;
        self.verify_within(RESTORE_SPREAD, now);
        effects.push(Effect::Publish(Some(Change::Rotated)));
    }

    fn agree(&mut self, terms: Terms) {
        self.wanted |= terms.prefetch;
        self.retiring.max_age = terms.max_age;
        self.terms = terms;
    }

    /// The secret is read from elsewhere or kept otherwise from now on: its successor is fetched
    /// soon, and the held version overlaps it as in any replacement.
    fn moved(&mut self, terms: Terms, now: Moment, effects: &mut Vec<Effect>) {
        self.agree(terms);
        self.foreign = true;
        self.setback = None;
        self.overdue = 0;
        if let Some(call) = &mut self.busy {
            call.outdated = true;
        }
        self.due = (Task::Fetch, now + self.jitter.spread(HINT_SPREAD, 0.0, 1.0));
        effects.push(Effect::Publish(None));
    }

    fn stop(&mut self, revoke: bool, now: Moment, effects: &mut Vec<Effect>) {
        self.stopped = true;
        if revoke {
            self.retiring.condemn_all(now);
            self.warn_at = None;
            if let Some(held) = self.held.take() {
                self.retiring.condemn(held, now);
                self.ended = Some(Ended::Revoked);
                effects.push(Effect::Publish(Some(Change::Revoked)));
            }
        } else {
            self.retiring.forget_all();
        }
    }

    /// Warns once when the end is near and nothing took the version's place. From then on a
    /// renewal that keeps failing is given up for a replacement.
    fn warn(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.warn_at.is_some_and(|at| now >= at) {
            self.warn_at = None;
            if self.setback.is_some() {
                self.due.0 = Task::Fetch;
            }
            if self.held.as_ref().is_some_and(|held| held.is_live(now)) {
                effects.push(Effect::Publish(Some(Change::Expiring)));
            }
        }
    }

    fn expire(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if let Some(held) = self.held.take_if(|held| !held.is_live(now)) {
            self.retiring.condemn(held, now);
            self.end(Ended::Expired, effects);
        }
    }

    pub(super) fn end(&mut self, how: Ended, effects: &mut Vec<Effect>) {
        self.held = None;
        self.readers = Readers::default();
        self.warn_at = None;
        self.stale_since = None;
        if let Some(call) = &mut self.busy {
            call.orphaned = true;
        }
        self.ended = Some(how);
        self.wanted = true;
        effects.push(Effect::Publish(Some(Change::Revoked)));
    }

    /// When the next call may be made; `None` if none is needed.
    fn call_at(&self) -> Option<Moment> {
        let due = if self.held.is_some() {
            self.due.1
        } else if self.wanted {
            Moment::default()
        } else {
            return None;
        };
        Some(self.setback.as_ref().map_or(due, |setback| due.max(setback.retry_at)))
    }

    fn start(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.busy.is_some() || self.stopped || self.call_at().is_none_or(|at| now < at) {
            return;
        }
        let lease: Option<Lease> = self.held.as_ref().and_then(|held| held.lease.clone());
        let (task, effect) = match (self.due.0, lease) {
            (Task::Renew, Some(lease)) if self.held.is_some() => {
                (Task::Renew, Effect::Renew(lease))
            }
            _ => (Task::Fetch, Effect::Fetch),
        };
        let lease = if let Effect::Renew(lease) = &effect { Some(lease.clone()) } else { None };
        let (outdated, orphaned, revoked) = (false, false, false);
        self.busy = Some(Call { task, since: now, lease, outdated, orphaned, revoked });
        effects.push(effect);
    }

    pub(super) fn refresh_after(&mut self, ttl: Duration) -> Duration {
        self.jitter.spread(ttl, REFRESH_SHARE.0, REFRESH_SHARE.1)
    }
}
