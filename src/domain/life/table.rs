//! The rules: `on(event, now) → effects`.
//!
//! Invariants, driven by property tests in any order of events: nothing is served past its end;
//! never two calls for one secret at once; a replaced version is revoked after its readers
//! acknowledged the new one or its overlap ended; a failed call is repeated only after its
//! back-off.

use std::{sync::Arc, time::Duration};

use super::{
    Change, Effect, Ended, Event, Held, Issued, Lease, Lifetime, Overlap, Renewed, State, Terms,
    retiring::{Readers, Retiring},
};
use crate::domain::{
    fault::{Fault, Reason},
    secret::Generation,
    time::{Jitter, Moment},
};

/// The share of a lease's time after which it is renewed or replaced: two thirds, spread.
const REFRESH_SHARE: (f64, f64) = (0.6, 0.73);
/// The spread of each poll's interval.
const POLL_SHARE: (f64, f64) = (0.9, 1.1);
/// The share of a lease's time after which watchers are warned of its end.
const EXPIRING_SHARE: f64 = 0.9;
/// A renewal that grants less than this share of the first grant met the lease's maximum.
const CAPPED_SHARE: f64 = 0.9;
/// The least time between two fetches that refusals ask for.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(10);
/// The wait after a rotation that the store announced, for the store to have done it.
const ROTATION_SLACK: Duration = Duration::from_secs(1);
/// The spread of checks that follow a hint, so that many secrets don't ask at once.
const HINT_SPREAD: Duration = Duration::from_secs(1);
/// The spread of the first checks after a restart.
const RESTORE_SPREAD: Duration = Duration::from_secs(10);
/// A fault that waiting doesn't mend is asked about again this many times more slowly.
const LASTING_FACTOR: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Fetch,
    Renew,
}

/// A failed call and when to try again.
#[derive(Clone, Debug)]
struct Setback {
    fault: Fault,
    since: Moment,
    failures: u32,
    retry_at: Moment,
}

/// The life of one secret.
#[derive(Debug)]
pub struct Life {
    terms: Terms,
    jitter: Jitter,
    held: Option<Held>,
    readers: Readers,
    /// What has to be done next for the held version, and when.
    due: (Task, Moment),
    /// The time that the store granted at first, against which renewals are measured.
    granted: Duration,
    warn_at: Option<Moment>,
    ended: Option<Ended>,
    setback: Option<Setback>,
    stale_since: Option<Moment>,
    busy: Option<(Task, Moment)>,
    /// Somebody waits for a value.
    wanted: bool,
    refusal_fetch_at: Option<Moment>,
    retiring: Retiring,
    stopped: bool,
    attempts: u64,
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
}

impl Life {
    /// A secret of which nothing is held.
    pub fn new(terms: Terms, jitter: Jitter) -> Self {
        Self {
            wanted: terms.prefetch,
            terms,
            jitter,
            held: None,
            readers: Readers::default(),
            due: (Task::Fetch, Moment::default()),
            granted: Duration::ZERO,
            warn_at: None,
            ended: None,
            setback: None,
            stale_since: None,
            busy: None,
            refusal_fetch_at: None,
            retiring: Retiring::default(),
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
            Event::Fetched(issued, generation) => {
                self.fetched(issued, generation, now, &mut effects)
            }
            Event::FetchFailed(fault) => self.failed(fault, now, &mut effects),
            Event::RenewSucceeded(renewed) => self.renewed(renewed, now, &mut effects),
            Event::RenewFailed(fault) => self.renew_failed(fault, now, &mut effects),
            Event::Revoked(lease) => self.retiring.revoked(&lease),
            Event::RevokeFailed(lease, fault) => {
                self.retiring.revoke_failed(&lease, &fault, now, &mut self.jitter);
            }
            Event::Changed => self.verify_within(HINT_SPREAD, now),
            Event::Delivered(workload, generation) => self.delivered(workload, generation),
            Event::Acknowledged(workload, generation) => {
                self.retiring.acknowledged(&workload, generation);
            }
            Event::Refused(generation) => self.refused(generation, now),
            Event::Moved(terms) => self.moved(terms, now),
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
        }
    }

    fn state(&self, live: bool) -> State {
        match (live, self.ended, self.stale_since, self.busy) {
            (true, _, Some(_), _) => State::Stale,
            (true, _, None, Some((Task::Renew, _))) => State::Renewing,
            (true, _, None, Some((Task::Fetch, _))) => State::Replacing,
            (true, _, None, None) => State::Fresh,
            (false, Some(Ended::Revoked), ..) => State::Revoked,
            (false, None, ..) if self.held.is_none() => State::Absent,
            (false, ..) => State::Expired,
        }
    }

    fn fetched(
        &mut self,
        issued: Issued,
        generation: Generation,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let Some((_, since)) = self.busy.take() else { return };
        self.settle();
        if self.stopped {
            // Minted while stopping: nobody will read it.
            if let Lifetime::Leased { lease, ttl } = issued.lifetime {
                let ends_at = Some(since + ttl);
                let held = Held {
                    fields: issued.fields,
                    version: issued.version,
                    generation,
                    issued_at: since,
                    ends_at,
                    lease: Some(lease),
                };
                self.retiring.condemn(held, now);
            }
            return;
        }
        let unchanged = self.held.as_ref().is_some_and(|held| held.version == issued.version);
        if !unchanged {
            self.replace(&issued, generation, since, now);
        }
        self.schedule(&issued, since);
        self.ended = None;
        self.wanted = false;
        let change = self.confirmed(if unchanged { None } else { Some(Change::Rotated) });
        effects.push(Effect::Publish(change));
    }

    /// Puts a new version in the place of the held one, which overlaps it from now on. A value
    /// that its store has rotated away works no more, so it does not.
    fn replace(&mut self, issued: &Issued, generation: Generation, since: Moment, now: Moment) {
        let lease = match &issued.lifetime {
            Lifetime::Leased { lease, .. } => Some(lease.clone()),
            _ => None,
        };
        let next = Held {
            fields: Arc::clone(&issued.fields),
            version: issued.version.clone(),
            generation,
            issued_at: since,
            ends_at: None,
            lease,
        };
        let readers = std::mem::take(&mut self.readers);
        if let Some(old) = self.held.replace(next)
            && !matches!(issued.lifetime, Lifetime::Rotates(_))
            && old.is_live(now)
        {
            self.retiring.retire(old, readers, self.terms.overlap, now);
        }
    }

    /// Sets the end of the held version and what is due next for it.
    fn schedule(&mut self, issued: &Issued, since: Moment) {
        let lifetime = match (&issued.lifetime, self.terms.max_age) {
            (Lifetime::Unbounded, Some(max_age)) => Lifetime::Ends(max_age),
            (lifetime, _) => lifetime.clone(),
        };
        let cap = issued.max_left.unwrap_or(Duration::MAX);
        let (ends_in, task, due_in) = match lifetime {
            Lifetime::Leased { lease, ttl } => {
                let ttl = ttl.min(cap);
                self.granted = ttl;
                let task = if lease.renewable && cap > ttl { Task::Renew } else { Task::Fetch };
                (Some(ttl), task, self.refresh_after(ttl))
            }
            Lifetime::Ends(ttl) => {
                (Some(ttl.min(cap)), Task::Fetch, self.refresh_after(ttl.min(cap)))
            }
            Lifetime::Rotates(rotation) => {
                (None, Task::Fetch, self.poll_after().min(rotation + ROTATION_SLACK))
            }
            Lifetime::Unbounded => (None, Task::Fetch, self.poll_after()),
        };
        self.due = (task, since + due_in);
        self.warn_at = ends_in.map(|ttl| since + ttl.mul_f64(EXPIRING_SHARE));
        if let Some(held) = &mut self.held {
            held.ends_at = ends_in.map(|ttl| since + ttl);
        }
    }

    fn renewed(&mut self, renewed: Renewed, now: Moment, effects: &mut Vec<Effect>) {
        let Some((_, since)) = self.busy.take() else { return };
        self.settle();
        let cap = renewed.max_left.unwrap_or(Duration::MAX);
        let ttl = renewed.ttl.min(cap);
        let Some(held) = &mut self.held else { return };
        held.ends_at = Some(since + ttl);
        let live = held.is_live(now);
        let capped = cap <= ttl || ttl < self.granted.mul_f64(CAPPED_SHARE) || !renewed.renewable;
        let task = if capped { Task::Fetch } else { Task::Renew };
        self.due = (task, since + self.refresh_after(ttl));
        self.warn_at = Some(since + ttl.mul_f64(EXPIRING_SHARE));
        if live {
            let change = self.confirmed(Some(Change::Renewed));
            effects.push(Effect::Publish(change));
        }
    }

    fn renew_failed(&mut self, fault: Fault, now: Moment, effects: &mut Vec<Effect>) {
        match fault.reason {
            Reason::LeaseLost => {
                self.busy = None;
                self.attempts += 1;
                self.end(Ended::Revoked, effects);
            }
            reason if reason.is_transient() || reason.is_store_wide() => {
                self.failed(fault, now, effects)
            }
            _ => {
                // The renewal has come to its end, the lease has not: replace it in its time.
                let left = self
                    .held
                    .as_ref()
                    .and_then(|held| held.ends_at)
                    .map_or(Duration::ZERO, |end| end.left(now));
                self.failed(fault, now, effects);
                self.due = (Task::Fetch, now + self.refresh_after(left));
            }
        }
    }

    /// Remembers a failed call and backs off. A refusal by our own gate costs no call and so does
    /// not lengthen the wait.
    fn failed(&mut self, fault: Fault, now: Moment, effects: &mut Vec<Effect>) {
        self.busy = None;
        self.attempts += 1;
        let before = self.setback.take();
        let failures = before.as_ref().map_or(0, |setback| setback.failures);
        let wait = match fault.retry_after {
            Some(wait) => self.jitter.spread(wait, 1.0, 1.2),
            None => {
                let factor = if fault.reason.is_transient() { 1 } else { LASTING_FACTOR };
                let ceiling = (self.terms.retry_min * 2_u32.saturating_pow(failures.min(16)))
                    .min(self.terms.retry_max);
                self.jitter.spread(ceiling * factor, 0.5, 1.0)
            }
        };
        let since = before.map_or(now, |setback| setback.since);
        self.setback = Some(Setback { fault, since, failures: failures + 1, retry_at: now + wait });
        self.wanted = self.terms.prefetch || self.ended.is_some();
        let change = match &mut self.held {
            Some(held) if self.stale_since.is_none() => {
                self.stale_since = Some(now);
                held.ends_at.get_or_insert(self.due.1.max(now) + self.terms.max_stale);
                Some(Change::Stale)
            }
            _ => None,
        };
        effects.push(Effect::Publish(change));
    }

    /// A call succeeded.
    fn settle(&mut self) {
        self.attempts += 1;
        self.setback = None;
    }

    /// The held version is confirmed: the change to announce, unless a greater one happened.
    fn confirmed(&mut self, change: Option<Change>) -> Option<Change> {
        let was_stale = self.stale_since.take().is_some();
        match change {
            Some(Change::Rotated) => change,
            _ if was_stale => Some(Change::Recovered),
            _ => change,
        }
    }

    /// Brings the next check of the held version forward.
    fn verify_within(&mut self, spread: Duration, now: Moment) {
        let at = now + self.jitter.spread(spread, 0.0, 1.0);
        let task = match &self.held {
            Some(Held { lease: Some(lease), .. }) if lease.renewable => Task::Renew,
            // A lease that can't be renewed can't be checked either; its successor comes in time.
            Some(Held { lease: Some(_), .. }) => return,
            _ => Task::Fetch,
        };
        if at < self.due.1 {
            self.due = (task, at);
        }
        if let Some(setback) = &mut self.setback {
            setback.retry_at = setback.retry_at.min(at);
        }
    }

    fn delivered(&mut self, workload: Arc<str>, generation: Generation) {
        if self.held.as_ref().is_some_and(|held| held.generation == generation) {
            self.readers.add(workload);
        } else {
            self.retiring.delivered(&workload, generation);
        }
    }

    fn refused(&mut self, generation: Generation, now: Moment) {
        let current = self.held.as_ref().is_some_and(|held| held.generation == generation);
        if current && self.refusal_fetch_at.is_none_or(|at| now - at >= REFUSAL_INTERVAL) {
            self.refusal_fetch_at = Some(now);
            self.due = (Task::Fetch, now);
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
        self.granted = held.ends_at.map_or(Duration::ZERO, |end| end - held.issued_at);
        self.warn_at = held.ends_at;
        self.due = (Task::Fetch, held.ends_at.unwrap_or(now + RESTORE_SPREAD));
        self.held = Some(held);
        self.wanted = false;
        self.verify_within(RESTORE_SPREAD, now);
        if let Some(Held { lease: Some(lease), ends_at: Some(end), .. }) = &self.held
            && !lease.renewable
        {
            let left = end.left(now);
            self.due = (Task::Fetch, now + self.refresh_after(left));
        }
        effects.push(Effect::Publish(Some(Change::Rotated)));
    }

    /// The secret is read from elsewhere or kept otherwise from now on: its successor is fetched
    /// soon, and the held version overlaps it as in any replacement.
    fn moved(&mut self, terms: Terms, now: Moment) {
        self.wanted |= terms.prefetch;
        self.terms = terms;
        self.setback = None;
        self.due = (Task::Fetch, now + self.jitter.spread(HINT_SPREAD, 0.0, 1.0));
    }

    fn stop(&mut self, revoke: bool, now: Moment, effects: &mut Vec<Effect>) {
        self.stopped = true;
        if revoke {
            self.retiring.condemn_all(now);
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
        if self.held.as_ref().is_some_and(|held| !held.is_live(now)) {
            self.end(Ended::Expired, effects);
        }
    }

    fn end(&mut self, how: Ended, effects: &mut Vec<Effect>) {
        self.held = None;
        self.readers = Readers::default();
        self.warn_at = None;
        self.stale_since = None;
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
        self.busy = Some((task, now));
        effects.push(effect);
    }

    fn refresh_after(&mut self, ttl: Duration) -> Duration {
        self.jitter.spread(ttl, REFRESH_SHARE.0, REFRESH_SHARE.1)
    }

    fn poll_after(&mut self) -> Duration {
        self.jitter.spread(self.terms.poll_interval, POLL_SHARE.0, POLL_SHARE.1)
    }
}
