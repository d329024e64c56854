//! The sidecars that follow rotations: who is told, and what they say.
//!
//! Invariants: an announcement costs each stream one entry that later ones for the same place
//! replace, so a slow reader holds no memory; only places of the catalogue are remembered.

mod table;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;

pub use self::table::FeedLimits;
use self::table::{Name, Table, Word};
use super::{
    errors::OperatorError,
    proto::{ReportAdoptionRequest, WatchRotationsResponse},
};
use crate::{
    broker::ports::Clock,
    domain::rotation::RotationId,
    rotation::ports::{Adoption, Readers},
    server::wire,
};

/// The longest text that a sidecar may send as its own or an application's name, in bytes.
const NAME_BYTES: usize = 512;
/// Under this name reads are counted for which there is no counter left.
const OTHERS: &str = "(others)";

/// How often an identity read what lies at a place, as sidecars told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reads {
    /// The place.
    pub place: Arc<str>,
    /// The identity; `(others)` for all those that there was no counter for.
    pub identity: Arc<str>,
    /// How often since `first_at`.
    pub count: u64,
    /// When the first of them was told.
    pub first_at: Timestamp,
    /// When the last of them was told.
    pub last_at: Timestamp,
}

/// The sidecars.
pub struct Sidecars {
    limits: FeedLimits,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    reported: Notify,
}

struct State {
    table: Table,
    /// Grows each time that this operator takes the lead.
    term: u64,
    /// The open streams by place, and how many there are.
    streams: HashMap<Arc<str>, Vec<Arc<Mailbox>>>,
    open: usize,
    /// Places that are watched closely, until when and since which rotation.
    monitored: HashMap<Arc<str>, Announcement>,
    /// By place and identity.
    reads: HashMap<(Arc<str>, Arc<str>), Tally>,
}

struct Tally {
    count: u64,
    first_at: Timestamp,
    last_at: Timestamp,
}

#[derive(Clone)]
struct Announcement {
    rotation: Arc<str>,
    monitored_until: Option<Timestamp>,
}

/// What one stream has to tell.
#[derive(Default)]
struct Mailbox {
    changes: Mutex<BTreeMap<Arc<str>, Announcement>>,
    told: Notify,
}

impl Mailbox {
    fn put(&self, place: &Arc<str>, announcement: &Announcement) {
        self.changes().insert(Arc::clone(place), announcement.clone());
        self.told.notify_one();
    }

    fn changes(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Announcement>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sidecars {
    /// No sidecars yet.
    pub fn new(limits: FeedLimits, clock: Arc<dyn Clock>) -> Arc<Self> {
        let state = State {
            table: Table::new(limits, clock.now()),
            term: 0,
            streams: HashMap::new(),
            open: 0,
            monitored: HashMap::new(),
            reads: HashMap::new(),
        };
        Arc::new(Self { limits, clock, state: Mutex::new(state), reported: Notify::new() })
    }

    /// How many streams are open.
    pub fn connected(&self) -> usize {
        self.state().open
    }

    /// How many sidecars are known, connected or not.
    pub fn known(&self) -> usize {
        self.state().table.len()
    }

    /// Who read what how often, sorted by place and identity.
    pub fn reads(&self) -> Vec<Reads> {
        let state = self.state();
        let mut reads: Vec<_> = state
            .reads
            .iter()
            .map(|((place, identity), read)| Reads {
                place: Arc::clone(place),
                identity: Arc::clone(identity),
                count: read.count,
                first_at: read.first_at,
                last_at: read.last_at,
            })
            .collect();
        drop(state);
        reads.sort_unstable_by(|a, b| (&a.place, &a.identity).cmp(&(&b.place, &b.identity)));
        reads
    }

    /// Opens a stream for places of the catalogue.
    pub(super) fn follow(
        self: &Arc<Self>,
        identity: &Arc<str>,
        instance: &str,
        mut places: Vec<Arc<str>>,
    ) -> Result<Following, OperatorError> {
        places.sort_unstable();
        places.dedup();
        let name = named(identity, instance)?;
        let now = self.clock.now();
        let wall = self.clock.wall();
        let mailbox = Arc::new(Mailbox::default());
        let mut state = self.state();
        if state.open >= self.limits.streams {
            return Err(OperatorError::limit("feed.streams"));
        }
        state
            .table
            .opened(&name, &places, now)
            .map_err(|_| OperatorError::limit("feed.sidecars"))?;
        state.open += 1;
        for place in &places {
            state.streams.entry(Arc::clone(place)).or_default().push(Arc::clone(&mailbox));
            let monitored = state.monitored.get(place);
            if let Some(said) = monitored.filter(|said| said.monitored_until > Some(wall)) {
                mailbox.put(place, said);
            }
        }
        let term = state.term;
        drop(state);
        Ok(Following { sidecars: Arc::clone(self), name, places, mailbox, term })
    }

    /// Takes a report about a place of the catalogue.
    pub(super) fn report(
        &self,
        identity: &Arc<str>,
        place: &Arc<str>,
        report: ReportAdoptionRequest,
    ) -> Result<(), OperatorError> {
        let name = named(identity, &report.instance)?;
        let word = Word {
            version: report.version.parse().ok(),
            adopted: report.adopted,
            refused: report.refused,
            worked: report.worked,
        };
        let mut state = self.state();
        state
            .table
            .said(&name, place, word, self.clock.now())
            .map_err(|_| OperatorError::limit("feed.sidecars"))?;
        let now = self.clock.wall();
        for (reader, count) in report.reads {
            state.count(place, &reader, count, now, self.limits.identities);
        }
        drop(state);
        self.reported.notify_one();
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, place: &Arc<str>, reader: &str, count: u64, now: Timestamp, most: usize) {
        let reader = if reader.len() > NAME_BYTES { OTHERS } else { reader };
        let mut key = (Arc::clone(place), Arc::from(reader));
        if !self.reads.contains_key(&key) && self.reads.len() >= most {
            // One more a place at most.
            key.1 = OTHERS.into();
        }
        let read = self.reads.entry(key).or_insert(Tally { count: 0, first_at: now, last_at: now });
        read.count = read.count.saturating_add(count);
        read.last_at = now;
    }
}

#[async_trait]
impl Readers for Sidecars {
    fn gather(&self) {
        let mut state = self.state();
        state.table = Table::new(self.limits, self.clock.now());
        state.term += 1;
        for mailbox in state.streams.values().flatten() {
            mailbox.told.notify_one();
        }
    }

    fn announce(&self, place: &str, rotation: &RotationId, monitored_until: Option<Timestamp>) {
        let place: Arc<str> = place.into();
        let announcement = Announcement { rotation: rotation.0.as_str().into(), monitored_until };
        let mut state = self.state();
        if monitored_until.is_some() {
            state.monitored.insert(Arc::clone(&place), announcement.clone());
        } else {
            state.monitored.remove(&place);
        }
        for mailbox in state.streams.get(&place).into_iter().flatten() {
            mailbox.put(&place, &announcement);
        }
    }

    fn adoption(&self, place: &str, version: u64) -> Adoption {
        self.state().table.adoption(place, version, self.clock.now())
    }

    async fn changed(&self) {
        self.reported.notified().await;
    }
}

/// An open stream; ends when it is dropped.
pub(super) struct Following {
    sidecars: Arc<Sidecars>,
    name: Name,
    places: Vec<Arc<str>>,
    mailbox: Arc<Mailbox>,
    /// The lead that it was opened under.
    term: u64,
}

impl Following {
    /// The next change of a place; `None` once the lead was taken anew. Cancel safe.
    pub(super) async fn next(&self) -> Option<WatchRotationsResponse> {
        loop {
            if self.sidecars.state().term != self.term {
                return None;
            }
            let change = self.mailbox.changes().pop_first();
            if let Some((place, Announcement { rotation, monitored_until })) = change {
                return Some(WatchRotationsResponse {
                    path: place.as_ref().to_owned(),
                    rotation_id: rotation.as_ref().to_owned(),
                    monitored_until: monitored_until.map(wire::timestamp),
                });
            }
            self.mailbox.told.notified().await;
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut state = self.sidecars.state();
        state.open = state.open.saturating_sub(1);
        for place in &self.places {
            if let Some(streams) = state.streams.get_mut(place) {
                streams.retain(|mailbox| !Arc::ptr_eq(mailbox, &self.mailbox));
                if streams.is_empty() {
                    state.streams.remove(place);
                }
            }
        }
        let now = self.sidecars.clock.now();
        if state.term == self.term {
            state.table.closed(&self.name, now);
        }
    }
}

fn named(identity: &Arc<str>, instance: &str) -> Result<Name, OperatorError> {
    if instance.is_empty() || instance.len() > NAME_BYTES {
        let accepted = format!("instance has 1 to {NAME_BYTES} bytes");
        return Err(OperatorError::invalid(accepted));
    }
    Ok(Name { identity: Arc::clone(identity), instance: instance.into() })
}
