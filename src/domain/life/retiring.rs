//! Versions on their way out: they overlap their successor, then their leases are revoked.
//!
//! A lease leaves this place only when its store confirmed that it is gone, or when it came to
//! its own end: a failed revocation is an exposure and is tried again until then. Where the store
//! says which version before is accepted, that version overlaps for as long as it says so, and none
//! that it said so of before.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Accepted, Effect, Held, Lease};
use crate::domain::{
    fault::Fault,
    secret::Generation,
    time::{Jitter, Moment},
};

/// The least time that a replaced version lives on, so that readers of its last instant are known.
const SETTLE: Duration = Duration::from_secs(1);
/// Replaced versions that may overlap at once; one more ends the oldest.
const MAX_OVERLAPS: usize = 8;
/// Workloads remembered for one version; with more, the version stays until its deadline.
const MAX_READERS: usize = 1024;
/// The waits between attempts to revoke a lease.
const REVOKE_RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(5));

/// The workloads that read one version.
#[derive(Clone, Debug, Default)]
pub(super) struct Readers {
    known: BTreeSet<Arc<str>>,
    crowded: bool,
    /// Nobody told us who they are: each workload that shows up may be one of them.
    unknown: bool,
}

impl Readers {
    pub(super) fn add(&mut self, workload: Arc<str>) {
        if self.known.len() < MAX_READERS {
            self.known.insert(workload);
        } else {
            self.crowded = true;
        }
    }

    fn is_empty(&self) -> bool {
        self.known.is_empty() && !self.crowded && !self.unknown
    }
}

/// A replaced version that is still accepted.
#[derive(Clone, Debug)]
pub struct Overlap {
    /// The version.
    pub held: Held,
    /// The latest moment at which it goes.
    pub until: Moment,
    settles_at: Moment,
    /// Those who read it and acknowledged no later one.
    waiting: Readers,
    basis: Basis,
}

/// Why a version overlaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Basis {
    /// Our terms give it time, until its readers have moved on.
    Terms,
    /// An earlier run of ours held it; if the store says what is accepted, that counts.
    Restored,
    /// The store says that it is accepted.
    Store,
}

impl Overlap {
    fn is_over(&self, now: Moment) -> bool {
        now >= self.until || (self.basis != Basis::Store && self.is_left(now))
    }

    #[cfg(test)]
    pub(super) fn is_of_store(&self) -> bool {
        self.basis == Basis::Store
    }

    /// Whether its readers have all moved on.
    fn is_left(&self, now: Moment) -> bool {
        self.waiting.is_empty() && now >= self.settles_at
    }

    fn wake_at(&self, now: Moment) -> Moment {
        if now < self.settles_at { self.settles_at.min(self.until) } else { self.until }
    }
}

/// A lease that has to be revoked.
#[derive(Debug)]
struct Condemned {
    lease: Lease,
    ends_at: Option<Moment>,
    retry_at: Moment,
    failures: u32,
    in_flight: bool,
}

/// All versions of one secret that are on their way out.
#[derive(Debug, Default)]
pub(super) struct Retiring {
    overlaps: Vec<Overlap>,
    condemned: Vec<Condemned>,
    /// Whether readers were to be waited for at the last look.
    has_laggards: bool,
    /// The most that our terms let a version age.
    pub(super) max_age: Option<Duration>,
}

impl Retiring {
    /// None yet, of a secret whose versions may age so much.
    pub(super) fn of(max_age: Option<Duration>) -> Self {
        Self { max_age, ..Self::default() }
    }

    /// Lets a replaced version live on for at most `overlap`.
    pub(super) fn retire(&mut self, held: Held, waiting: Readers, overlap: Duration, now: Moment) {
        let until = held.ends_at.map_or(now + overlap, |end| end.min(now + overlap));
        let (settles_at, basis) = (now + SETTLE, Basis::Terms);
        self.add(Overlap { held, until, settles_at, waiting, basis }, now);
    }

    fn add(&mut self, overlap: Overlap, now: Moment) {
        self.overlaps.push(overlap);
        if self.overlaps.len() > MAX_OVERLAPS {
            let oldest = self.overlaps.remove(0);
            self.condemn(oldest.held, now);
        }
    }

    /// Puts back what overlapped when an earlier run ended. Its readers are unknown, so it stays
    /// until its deadline.
    pub(super) fn restore(&mut self, held: Held, until: Moment) {
        let until = held.ends_at.map_or(until, |end| end.min(until));
        let waiting = Readers { crowded: true, ..Readers::default() };
        let basis = if held.lease.is_none() { Basis::Restored } else { Basis::Terms };
        self.overlaps.push(Overlap { held, until, settles_at: until, waiting, basis });
    }

    /// The store says nothing of earlier versions: none overlaps on its word any more.
    pub(super) fn untold(&mut self) {
        self.overlaps.retain(|overlap| overlap.basis != Basis::Store);
    }

    /// The store says which version before the held one is accepted, and until when. It overlaps
    /// until then; any other one that the store had a say in is withdrawn. One that we never held
    /// takes the generation `before`.
    pub(super) fn told(
        &mut self,
        accepted: Option<(&Accepted, Moment)>,
        before: Generation,
        since: Moment,
        now: Moment,
    ) {
        let is_told = |held: &Held| accepted.is_some_and(|(accepted, _)| accepted.is(held));
        self.overlaps
            .retain(|o| o.held.lease.is_some() || o.basis == Basis::Terms || is_told(&o.held));
        let Some((accepted, until)) = accepted else { return };
        if let Some(overlap) = self.overlaps.iter_mut().rfind(|o| accepted.is(&o.held)) {
            overlap.until = overlap.held.ends_at.map_or(until, |end| end.min(until));
            overlap.basis = Basis::Store;
            // The store keeps the value that it gave last, and compares by it.
            overlap.held.fields = Arc::clone(&accepted.fields);
            return;
        }
        let held = Held {
            fields: Arc::clone(&accepted.fields),
            version: accepted.version.clone(),
            generation: before,
            issued_at: since,
            ends_at: None,
            lease: None,
        };
        let waiting = Readers { unknown: true, ..Readers::default() };
        let overlap = Overlap { held, until, settles_at: now, waiting, basis: Basis::Store };
        self.add(overlap, now);
    }

    /// Has the lease of a version revoked now. One that ends by our terms lives on at its store.
    pub(super) fn condemn(&mut self, held: Held, now: Moment) {
        let Some(lease) = held.lease else { return };
        let of_store = |end: &Moment| self.max_age.is_none_or(|age| *end < held.issued_at + age);
        let ends_at = held.ends_at.filter(of_store);
        self.condemn_lease(lease, ends_at, now);
    }

    /// Has a lease revoked now.
    pub(super) fn condemn_lease(&mut self, lease: Lease, ends_at: Option<Moment>, now: Moment) {
        self.condemned.push(Condemned {
            lease,
            ends_at,
            retry_at: now,
            failures: 0,
            in_flight: false,
        });
    }

    /// Notes that a lease on its way out was renewed before that was known. Returns whether it is
    /// one of those.
    pub(super) fn prolong(&mut self, lease: &Lease, ends_at: Moment) -> bool {
        let condemned = self.condemned.iter_mut().find(|c| c.lease.id == lease.id);
        condemned.map(|c| c.ends_at = c.ends_at.map(|end| end.max(ends_at))).is_some()
    }

    /// Has everything revoked now.
    pub(super) fn condemn_all(&mut self, now: Moment) {
        for waiting in &mut self.condemned {
            waiting.retry_at = now;
        }
        for overlap in std::mem::take(&mut self.overlaps) {
            self.condemn(overlap.held, now);
        }
    }

    /// Forgets everything: the leases are left to their own ends.
    pub(super) fn forget_all(&mut self) {
        self.overlaps.clear();
        self.condemned.clear();
    }

    pub(super) fn delivered(&mut self, workload: &Arc<str>, generation: Generation) {
        for overlap in self.overlaps.iter_mut().filter(|o| o.held.generation == generation) {
            overlap.waiting.add(Arc::clone(workload));
        }
    }

    /// A workload read a later version: it may have had one whose readers nobody knows.
    pub(super) fn appeared(&mut self, workload: &Arc<str>) {
        for overlap in self.overlaps.iter_mut().filter(|o| o.waiting.unknown) {
            overlap.waiting.add(Arc::clone(workload));
        }
    }

    pub(super) fn acknowledged(&mut self, workload: &str, generation: Generation) {
        for overlap in self.overlaps.iter_mut().filter(|o| o.held.generation < generation) {
            overlap.waiting.known.remove(workload);
            overlap.waiting.unknown = false;
        }
    }

    /// Whether no reader is known, or feared, to use one of these versions.
    pub(super) fn is_adopted(&self, now: Moment) -> bool {
        self.overlaps.iter().all(|overlap| overlap.is_left(now))
    }

    pub(super) fn revoked(&mut self, lease: &Lease) {
        self.condemned.retain(|condemned| condemned.lease != *lease);
    }

    pub(super) fn revoke_failed(
        &mut self,
        lease: &Lease,
        fault: &Fault,
        now: Moment,
        jitter: &mut Jitter,
    ) {
        for condemned in self.condemned.iter_mut().filter(|c| c.lease == *lease) {
            let (min, max) = REVOKE_RETRY;
            let ceiling = (min * 2_u32.saturating_pow(condemned.failures.min(16))).min(max);
            let wait = jitter.spread(ceiling, 0.5, 1.0).max(fault.retry_after.unwrap_or_default());
            condemned.failures += 1;
            condemned.retry_at = now + wait;
            condemned.in_flight = false;
        }
    }

    /// Ends overlaps that are over and starts the revocations that are due. Returns whether what
    /// is seen of them has changed.
    pub(super) fn advance(&mut self, now: Moment, effects: &mut Vec<Effect>) -> bool {
        let before = self.overlaps.len();
        let (over, kept): (Vec<_>, _) =
            std::mem::take(&mut self.overlaps).into_iter().partition(|o| o.is_over(now));
        self.overlaps = kept;
        for overlap in over {
            self.condemn(overlap.held, now);
        }
        self.condemned.retain(|c| c.in_flight || c.ends_at.is_none_or(|end| now < end));
        for condemned in &mut self.condemned {
            if !condemned.in_flight && now >= condemned.retry_at {
                condemned.in_flight = true;
                effects.push(Effect::Revoke(condemned.lease.clone()));
            }
        }
        let has_laggards = !self.is_adopted(now);
        self.overlaps.len() != before
            || std::mem::replace(&mut self.has_laggards, has_laggards) != has_laggards
    }

    /// The versions that are still accepted, oldest first.
    pub(super) fn overlaps(&self) -> &[Overlap] {
        &self.overlaps
    }

    /// The leases of all that overlaps or waits for its revocation.
    pub(super) fn leases(&self) -> impl Iterator<Item = &Lease> {
        let overlaps = self.overlaps.iter().filter_map(|o| o.held.lease.as_ref());
        overlaps.chain(self.condemned.iter().map(|c| &c.lease))
    }

    /// Leases that wait for their revocation.
    pub(super) fn pending_revocations(&self) -> usize {
        self.condemned.len()
    }

    pub(super) fn wake_at(&self, now: Moment) -> Option<Moment> {
        let overlaps = self.overlaps.iter().map(|o| o.wake_at(now));
        let retries = self.condemned.iter().filter(|c| !c.in_flight).map(|c| c.retry_at);
        overlaps.chain(retries).min()
    }
}
