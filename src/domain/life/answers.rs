//! What the answers of a store do to the life of a secret.
//!
//! A lease that an answer brings is held, or it is on its way out: none is dropped.

use std::{sync::Arc, time::Duration};

use super::{
    Change, Effect, Ended, Held, Issued, Lifetime, Predecessor, Renewed,
    table::{Call, EXPIRING_SHARE, Life, Setback, Task},
};
use crate::domain::{
    fault::{Fault, Reason},
    secret::Generation,
    time::Moment,
};

/// The spread of each poll's interval.
const POLL_SHARE: (f64, f64) = (0.9, 1.1);
/// A renewal that grants less than this share of the most that was granted met the lease's
/// maximum.
const CAPPED_SHARE: f64 = 0.9;
/// The wait after a rotation that the store announced, for the store to have done it. It doubles
/// with each read that finds it undone.
const ROTATION_SLACK: Duration = Duration::from_secs(1);
/// A fault that waiting doesn't mend is asked about again this many times more slowly.
const LASTING_FACTOR: u32 = 5;

impl Life {
    pub(super) fn fetched(
        &mut self,
        issued: Issued,
        generation: Generation,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let Some(call) = self.busy.take() else { return };
        if self.stopped || call.outdated {
            self.discard(issued, &call, now);
            return;
        }
        if lasts(&issued).is_some_and(|lasts| call.since + lasts <= now) {
            self.discard(issued, &call, now);
            let detail = "the value had ended before it arrived";
            self.failed(Fault::new(Reason::Invalid, detail), now, effects);
            return;
        }
        self.settle();
        let unchanged = self.holds(&issued);
        if !unchanged {
            self.replace(&issued, generation, call.since, now);
        }
        self.foreign = false;
        self.schedule(&issued, unchanged, call.since);
        self.follow(&issued.predecessor, call.since, now);
        self.ended = None;
        self.wanted = false;
        let change = self.confirmed(if unchanged { None } else { Some(Change::Rotated) });
        effects.push(Effect::Publish(change));
    }

    /// Has a value revoked that was minted for nobody.
    fn discard(&mut self, issued: Issued, call: &Call, now: Moment) {
        if let Lifetime::Leased { lease, ttl } = issued.lifetime {
            self.retiring.condemn_lease(lease, Some(call.since + ttl), now);
        }
    }

    /// Whether the held version is the one that the store gave again. Versions of two places
    /// can't be compared, so values are.
    fn holds(&self, issued: &Issued) -> bool {
        self.held.as_ref().is_some_and(|held| {
            held.version == issued.version
                && held.lease.as_ref().map(|l| &l.id) == lease_of(issued).map(|l| &l.id)
                && (!self.foreign || held.fields == issued.fields)
        })
    }

    /// Puts a new version in the place of the held one, which overlaps it from now on. A value
    /// that its store has rotated away, or says is accepted no more, does not.
    fn replace(&mut self, issued: &Issued, generation: Generation, since: Moment, now: Moment) {
        let next = Held {
            fields: Arc::clone(&issued.fields),
            version: issued.version.clone(),
            generation,
            issued_at: since,
            ends_at: None,
            lease: lease_of(issued).cloned(),
        };
        let readers = std::mem::take(&mut self.readers);
        let rotated_away = matches!(issued.lifetime, Lifetime::Rotates(_));
        let Some(old) = self.held.replace(next).filter(|old| old.is_live(now)) else { return };
        let works = old.lease.is_some()
            || self.foreign
            || match &issued.predecessor {
                Predecessor::Untold => !rotated_away,
                Predecessor::Withdrawn => false,
                Predecessor::Accepted(accepted) => accepted.is(&old),
            };
        if works {
            self.retiring.retire(old, readers, self.terms.overlap, now);
        }
    }

    /// Takes over what the store says of the version before the held one.
    fn follow(&mut self, predecessor: &Predecessor, since: Moment, now: Moment) {
        let (accepted, until) = match predecessor {
            Predecessor::Untold => return self.retiring.untold(),
            Predecessor::Withdrawn => (None, now),
            Predecessor::Accepted(accepted) => {
                // Without an end it is confirmed with each read, and lasts beyond the next one.
                let confirmed = self.terms.overlap.max(self.terms.poll_interval * 2);
                (Some(accepted), since + accepted.lasts.unwrap_or(confirmed))
            }
        };
        let Some(held) = &self.held else { return };
        let accepted = accepted.filter(|accepted| until > now && accepted.version != held.version);
        let before = Generation(held.generation.0.saturating_sub(1));
        self.retiring.told(accepted.map(|accepted| (accepted, until)), before, since, now);
    }

    /// Sets the end of the held version and what is due next for it.
    fn schedule(&mut self, issued: &Issued, unchanged: bool, since: Moment) {
        let cap = self.cap(issued.max_left, since);
        let (ends_in, task, due_in) = match (&issued.lifetime, self.terms.max_age) {
            (Lifetime::Leased { lease, ttl }, _) => {
                let left = (*ttl).min(cap);
                self.granted = left;
                let task = if lease.renewable && cap > *ttl { Task::Renew } else { Task::Fetch };
                (Some(left), task, self.refresh_after(left))
            }
            (Lifetime::Ends(ttl), max_age) => {
                let left = (*ttl).min(cap).min(max_age.unwrap_or(Duration::MAX));
                (Some(left), Task::Fetch, self.refresh_after(left))
            }
            (Lifetime::Rotates(rotation), _) => {
                (None, Task::Fetch, self.rotation_after(*rotation, unchanged))
            }
            (Lifetime::Unbounded, Some(max_age)) => {
                let due_in = self.refresh_after(max_age).min(self.poll_after());
                (Some(max_age), Task::Fetch, due_in)
            }
            (Lifetime::Unbounded, None) => (None, Task::Fetch, self.poll_after()),
        };
        self.due = (task, since + due_in);
        self.warn_at = ends_in.map(|ttl| since + ttl.mul_f64(EXPIRING_SHARE));
        let asked = self.asked.take().filter(|_| lease_of(issued).is_none());
        self.bring_forward(asked);
        if let Some(held) = &mut self.held {
            held.ends_at = ends_in.map(|ttl| since + ttl);
            held.lease = lease_of(issued).cloned();
        }
    }

    /// The time after `since` that no renewal of the held version can pass.
    fn cap(&self, max_left: Option<Duration>, since: Moment) -> Duration {
        let age = self.held.as_ref().map_or(Duration::ZERO, |held| since - held.issued_at);
        let max_age = self.terms.max_age.map_or(Duration::MAX, |max| max.saturating_sub(age));
        max_left.unwrap_or(Duration::MAX).min(max_age)
    }

    fn bring_forward(&mut self, fetch_at: Option<Moment>) {
        if let Some(at) = fetch_at.filter(|at| *at < self.due.1) {
            self.due = (Task::Fetch, at);
        }
    }

    pub(super) fn renewed(&mut self, renewed: Renewed, now: Moment, effects: &mut Vec<Effect>) {
        let Some(call) = self.busy.take() else { return };
        self.settle();
        let Some(held) = self.held.as_mut().filter(|_| !call.orphaned) else {
            self.renewed_in_vain(&call, renewed, now);
            return;
        };
        if let Some(lease) = &mut held.lease {
            lease.renewable = renewed.renewable;
        }
        let cap = self.cap(renewed.max_left, call.since);
        let ttl = renewed.ttl.min(cap);
        let capped = cap <= ttl || ttl < self.granted.mul_f64(CAPPED_SHARE) || !renewed.renewable;
        self.granted = self.granted.max(ttl);
        if !call.outdated {
            let task = if capped { Task::Fetch } else { Task::Renew };
            self.due = (task, call.since + self.refresh_after(ttl));
        }
        let asked = self.asked.take();
        self.bring_forward(asked);
        self.warn_at = Some(call.since + ttl.mul_f64(EXPIRING_SHARE));
        let ends_at = call.since + ttl;
        if let Some(held) = &mut self.held {
            held.ends_at = Some(ends_at);
        }
        if now < ends_at {
            let change = self.confirmed(Some(Change::Renewed));
            effects.push(Effect::Publish(change));
        }
    }

    /// The version went while its lease was renewed: the lease lives on for nobody.
    fn renewed_in_vain(&mut self, call: &Call, renewed: Renewed, now: Moment) {
        let Some(lease) = &call.lease else { return };
        let ends_at = call.since + renewed.ttl;
        if !self.retiring.prolong(lease, ends_at) && !call.revoked {
            self.retiring.condemn_lease(lease.clone(), Some(ends_at), now);
        }
    }

    pub(super) fn fetch_failed(&mut self, fault: Fault, now: Moment, effects: &mut Vec<Effect>) {
        // What the place before says does not matter any more: the next one is asked.
        if self.busy.take().is_some_and(|call| !call.outdated) {
            self.failed(fault, now, effects);
        }
    }

    pub(super) fn renew_failed(&mut self, fault: Fault, now: Moment, effects: &mut Vec<Effect>) {
        let Some(call) = self.busy.take() else { return };
        let reason = fault.reason;
        if reason == Reason::LeaseLost && self.held.is_some() && !call.orphaned {
            self.attempts += 1;
            self.end(Ended::Revoked, effects);
        } else if call.outdated || self.stopped {
            self.attempts += 1;
        } else if reason.is_transient() || reason.is_store_wide() {
            self.failed(fault, now, effects);
        } else if self.held.is_none() {
            // Only the renewal was refused, and nothing is left to renew.
            self.attempts += 1;
        } else {
            self.end_renewals(fault, now, effects);
        }
    }

    /// The renewals have come to their end, the lease has not: it is replaced in its time.
    fn end_renewals(&mut self, fault: Fault, now: Moment, effects: &mut Vec<Effect>) {
        let end = self.held.as_ref().and_then(|held| held.ends_at);
        let left = end.map_or(Duration::ZERO, |end| end.left(now));
        let at = now + self.refresh_after(left);
        self.failed(fault, now, effects);
        self.due = (Task::Fetch, at);
        if let Some(setback) = &mut self.setback {
            setback.retry_at = setback.retry_at.min(at);
        }
    }

    /// Remembers a failed call and backs off. A wait that the store or our own budget asked for
    /// says nothing of the secret, and so does not lengthen the next one.
    fn failed(&mut self, fault: Fault, now: Moment, effects: &mut Vec<Effect>) {
        self.attempts += 1;
        let failures = self.setback.take().map_or(0, |setback| setback.failures);
        let (wait, failures) = if let Some(wait) = fault.retry_after {
            (self.jitter.spread(wait, 1.0, 1.2), failures)
        } else {
            let factor = if fault.reason.is_transient() { 1 } else { LASTING_FACTOR };
            let doubled = self.terms.retry_min.saturating_mul(2_u32.pow(failures.min(16)));
            let ceiling = doubled.min(self.terms.retry_max).saturating_mul(factor);
            (self.jitter.spread(ceiling, 0.5, 1.0), failures.saturating_add(1))
        };
        self.setback = Some(Setback { fault, failures, retry_at: now + wait });
        self.wanted = self.terms.prefetch || self.watched || self.ended.is_some();
        if let Some(at) = self.asked.take() {
            self.due = (Task::Fetch, at);
        }
        let change = self.unconfirmed(now);
        effects.push(Effect::Publish(change));
    }

    /// The held version could not be confirmed: the change to announce, the first time only.
    fn unconfirmed(&mut self, now: Moment) -> Option<Change> {
        let held = self.held.as_mut().filter(|_| self.stale_since.is_none())?;
        self.stale_since = Some(now);
        if held.ends_at.is_none() {
            let end = self.due.1.max(now) + self.terms.max_stale;
            held.ends_at = Some(end);
            self.warn_at = Some(now + (end - now).mul_f64(EXPIRING_SHARE));
        }
        Some(Change::Stale)
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

    /// The wait until the value is read after a rotation that comes in `rotation`.
    fn rotation_after(&mut self, rotation: Duration, unchanged: bool) -> Duration {
        let slack = |overdue: u32| ROTATION_SLACK * 2_u32.pow(overdue.min(16));
        let overdue = unchanged && rotation <= slack(self.overdue);
        self.overdue = if overdue { self.overdue + 1 } else { 0 };
        self.poll_after().min(rotation.saturating_add(slack(self.overdue)))
    }

    fn poll_after(&mut self) -> Duration {
        self.jitter.spread(self.terms.poll_interval, POLL_SHARE.0, POLL_SHARE.1)
    }
}

/// The time after the call's start at which the value ends; `None` if nothing bounds it.
fn lasts(issued: &Issued) -> Option<Duration> {
    match &issued.lifetime {
        Lifetime::Leased { ttl, .. } | Lifetime::Ends(ttl) => {
            Some((*ttl).min(issued.max_left.unwrap_or(Duration::MAX)))
        }
        Lifetime::Rotates(_) | Lifetime::Unbounded => None,
    }
}

const fn lease_of(issued: &Issued) -> Option<&super::Lease> {
    match &issued.lifetime {
        Lifetime::Leased { lease, .. } => Some(lease),
        _ => None,
    }
}
