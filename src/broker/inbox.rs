//! What readers tell a keeper: bounded by what it means, not by how often it is said.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::ports::Origin;
use crate::domain::{
    life::{Event, Terms},
    secret::Generation,
};

/// Workloads whose last delivery is remembered; beyond, each delivery is told to the keeper.
const MAX_RECEIPTS: usize = 4096;
/// Messages that wait for the keeper. It drains them at each turn of the runtime.
const MAX_PENDING: usize = 16_384;

#[derive(Default)]
struct Letters {
    wanted: bool,
    moved: Option<(Terms, Arc<dyn Origin>)>,
    terms: Option<Terms>,
    stop: Option<bool>,
    watches: usize,
    pending: Vec<Event>,
    receipts: HashMap<Arc<str>, Receipt>,
    outcomes: Outcomes,
}

/// What one workload was given last, and how often it read since that was asked.
struct Receipt {
    generation: Generation,
    reads: u64,
}

/// What became of the latest generation that somebody reported of.
#[derive(Default)]
struct Outcomes {
    generation: Generation,
    tally: Tally,
}

/// How often applications reported what became of a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The target accepted it.
    pub worked: u64,
    /// The target refused it.
    pub refused: u64,
}

/// The place where readers leave word for the keeper of one secret.
#[derive(Default)]
pub(super) struct Inbox {
    letters: Mutex<Letters>,
    news: Notify,
}

/// All that was left since the last look.
pub(super) struct Delivery {
    pub(super) events: Vec<Event>,
    pub(super) origin: Option<Arc<dyn Origin>>,
}

impl Inbox {
    pub(super) fn want(&self) {
        let mut letters = self.letters();
        if !std::mem::replace(&mut letters.wanted, true) {
            self.news.notify_one();
        }
    }

    /// Remembers that a workload has a generation; tells the keeper the first time only.
    pub(super) fn delivered(&self, workload: &Arc<str>, generation: Generation) {
        let mut letters = self.letters();
        let has_room = letters.receipts.len() < MAX_RECEIPTS;
        match letters.receipts.get_mut(workload) {
            Some(receipt) => {
                receipt.reads += 1;
                if std::mem::replace(&mut receipt.generation, generation) == generation {
                    return;
                }
            }
            None if has_room => {
                let first = Receipt { generation, reads: 1 };
                letters.receipts.insert(Arc::clone(workload), first);
            }
            None => {}
        }
        self.push(&mut letters, Event::Delivered(Arc::clone(workload), generation));
    }

    /// How often each workload read since this was asked last; those that did not are left out.
    pub(super) fn take_reads(&self) -> Vec<(Arc<str>, u64)> {
        let mut letters = self.letters();
        let receipts = letters.receipts.iter_mut().filter(|(_, receipt)| receipt.reads > 0);
        receipts
            .map(|(who, receipt)| (Arc::clone(who), std::mem::take(&mut receipt.reads)))
            .collect()
    }

    /// Counts what became of a generation; one that is past counts no more.
    pub(super) fn count(&self, generation: Generation, count: impl FnOnce(&mut Tally)) {
        let outcomes = &mut self.letters().outcomes;
        if generation > outcomes.generation {
            *outcomes = Outcomes { generation, tally: Tally::default() };
        }
        if generation == outcomes.generation {
            count(&mut outcomes.tally);
        }
    }

    /// What became of a generation so far.
    pub(super) fn tally(&self, generation: Generation) -> Tally {
        let outcomes = &self.letters().outcomes;
        if outcomes.generation == generation { outcomes.tally } else { Tally::default() }
    }

    /// One more watch is open.
    pub(super) fn attend(&self) {
        let mut letters = self.letters();
        letters.watches += 1;
        if letters.watches == 1 {
            self.push(&mut letters, Event::Watched(true));
        }
    }

    /// One watch less is open.
    pub(super) fn leave(&self) {
        let mut letters = self.letters();
        letters.watches = letters.watches.saturating_sub(1);
        if letters.watches == 0 {
            self.push(&mut letters, Event::Watched(false));
        }
    }

    /// Watches that are open.
    pub(super) fn watches(&self) -> usize {
        self.letters().watches
    }

    pub(super) fn tell(&self, event: Event) {
        self.push(&mut self.letters(), event);
    }

    pub(super) fn move_to(&self, terms: Terms, origin: Arc<dyn Origin>) {
        let mut letters = self.letters();
        letters.moved = Some((terms, origin));
        letters.terms = None;
        drop(letters);
        self.news.notify_one();
    }

    /// Other terms for the same place.
    pub(super) fn keep_under(&self, terms: Terms) {
        let mut letters = self.letters();
        match &mut letters.moved {
            Some(moved) => moved.0 = terms,
            None => letters.terms = Some(terms),
        }
        drop(letters);
        self.news.notify_one();
    }

    pub(super) fn stop(&self, revoke: bool) {
        self.letters().stop = Some(revoke);
        self.news.notify_one();
    }

    /// Waits for word. Cancel safe: nothing is taken before it returns.
    pub(super) async fn read(&self) -> Delivery {
        self.news.notified().await;
        let mut letters = self.letters();
        let mut events = Vec::new();
        // First, so that nothing is fetched from the place before.
        let origin = letters.moved.take().map(|(terms, origin)| {
            events.push(Event::Moved(terms));
            origin
        });
        events.extend(letters.terms.take().map(Event::TermsChanged));
        // Taken whole: what stays has no room for events that are rare.
        events.extend(std::mem::take(&mut letters.pending));
        if std::mem::take(&mut letters.wanted) {
            events.push(Event::Wanted);
        }
        events.extend(letters.stop.take().map(|revoke| Event::Stopped { revoke }));
        Delivery { events, origin }
    }

    fn push(&self, letters: &mut Letters, event: Event) {
        // Watches are counted: each of their words matters, and there are two a watch.
        if letters.pending.len() < MAX_PENDING || matches!(event, Event::Watched(_)) {
            letters.pending.push(event);
        }
        self.news.notify_one();
    }

    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_counted_by_workload_and_told_once() {
        let inbox = Inbox::default();
        let [api, worker] = ["api", "worker"].map(Arc::<str>::from);
        for (who, generation) in [(&api, 1), (&api, 1), (&worker, 1), (&api, 2)] {
            inbox.delivered(who, Generation(generation));
        }
        let mut reads = inbox.take_reads();
        reads.sort();
        assert_eq!(reads, [(Arc::clone(&api), 3), (worker, 1)]);
        assert!(inbox.take_reads().is_empty());
        inbox.delivered(&api, Generation(2));
        assert_eq!(inbox.take_reads(), [(api, 1)]);
    }

    #[test]
    fn outcomes_count_for_the_latest_generation_that_was_reported_of() {
        let inbox = Inbox::default();
        inbox.count(Generation(1), |tally| tally.refused += 1);
        inbox.count(Generation(2), |tally| tally.worked += 1);
        inbox.count(Generation(1), |tally| tally.refused += 1);
        inbox.count(Generation(2), |tally| tally.worked += 1);
        assert_eq!(inbox.tally(Generation(1)), Tally::default());
        assert_eq!(inbox.tally(Generation(2)), Tally { worked: 2, refused: 0 });
    }
}
