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
    receipts: HashMap<Arc<str>, Generation>,
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
        if letters.receipts.get(workload) == Some(&generation) {
            return;
        }
        if letters.receipts.len() < MAX_RECEIPTS || letters.receipts.contains_key(workload) {
            letters.receipts.insert(Arc::clone(workload), generation);
        }
        self.push(&mut letters, Event::Delivered(Arc::clone(workload), generation));
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
