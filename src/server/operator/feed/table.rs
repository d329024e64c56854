//! Who reads what, and how far each is: a table without a clock of its own.
//!
//! Invariants: a sidecar that is gone counts as long as it may come back with old readers; one that
//! was turned away, or may not have come back yet after a start of ours, counts as one that adopted
//! nothing; the table has a largest size.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use crate::{domain::time::Moment, rotation::ports::Adoption};

/// Bounds of what is remembered of sidecars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedLimits {
    /// Open streams.
    pub streams: usize,
    /// Sidecars that are known, connected or not.
    pub sidecars: usize,
    /// Places that all sidecars together are known to serve, each counted once a sidecar.
    pub entries: usize,
    /// Identities whose reads are counted, each once a place.
    pub identities: usize,
    /// How long a sidecar that is gone is known.
    pub known_for: Duration,
    /// The time after a start in which sidecars come back; until then they are not all known.
    pub gathering: Duration,
}

impl Default for FeedLimits {
    fn default() -> Self {
        Self {
            streams: 5_000,
            sidecars: 10_000,
            entries: 200_000,
            identities: 50_000,
            known_for: Duration::from_mins(10),
            gathering: Duration::from_mins(2),
        }
    }
}

/// A sidecar: the identity of its certificate, and what tells it from others of that identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) identity: Arc<str>,
    pub(super) instance: Arc<str>,
}

/// What a sidecar said last of one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    /// The version that it serves; `None` before it said so.
    pub(super) version: Option<u64>,
    pub(super) adopted: bool,
    pub(super) refused: u64,
    pub(super) worked: u64,
}

/// There is no room for a further sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

struct Sidecar {
    streams: usize,
    /// When it was last heard of; counts while it has no stream.
    heard_at: Moment,
    places: HashMap<Arc<str>, Word>,
}

pub(super) struct Table {
    limits: FeedLimits,
    sidecars: HashMap<Name, Sidecar>,
    places: HashMap<Arc<str>, HashSet<Name>>,
    entries: usize,
    /// Until then there may be sidecars that are not known.
    incomplete_until: Moment,
}

impl Table {
    pub(super) fn new(limits: FeedLimits, now: Moment) -> Self {
        Self {
            limits,
            sidecars: HashMap::new(),
            places: HashMap::new(),
            entries: 0,
            incomplete_until: now + limits.gathering,
        }
    }

    /// From now on sidecars come that were at another operator until now.
    pub(super) fn gather(&mut self, now: Moment) {
        self.incomplete_until = now + self.limits.gathering;
    }

    /// Notes that a sidecar opened a stream for these places. What it had said of others is
    /// forgotten, unless another stream of its own is open.
    pub(super) fn opened(
        &mut self,
        name: &Name,
        places: &[Arc<str>],
        now: Moment,
    ) -> Result<(), Full> {
        if self.sidecars.get(name).is_some_and(|sidecar| sidecar.streams == 0) {
            self.keep(name, places);
        }
        self.add(name, places, now)?;
        if let Some(sidecar) = self.sidecars.get_mut(name) {
            sidecar.streams += 1;
        }
        Ok(())
    }

    /// Notes that a stream ended.
    pub(super) fn closed(&mut self, name: &Name, now: Moment) {
        if let Some(sidecar) = self.sidecars.get_mut(name) {
            sidecar.streams = sidecar.streams.saturating_sub(1);
            sidecar.heard_at = now;
        }
    }

    /// Notes what a sidecar says of a place.
    pub(super) fn said(
        &mut self,
        name: &Name,
        place: &Arc<str>,
        word: Word,
        now: Moment,
    ) -> Result<(), Full> {
        self.add(name, std::slice::from_ref(place), now)?;
        if let Some(sidecar) = self.sidecars.get_mut(name) {
            sidecar.places.insert(Arc::clone(place), word);
        }
        Ok(())
    }

    /// How far the readers of a version are.
    pub(super) fn adoption(&self, place: &str, version: u64, now: Moment) -> Adoption {
        let mut adoption = Adoption::default();
        for name in self.places.get(place).into_iter().flatten() {
            let Some(sidecar) = self.sidecars.get(name).filter(|s| self.is_known(s, now)) else {
                continue;
            };
            adoption.sidecars = adoption.sidecars.saturating_add(1);
            let word = sidecar.places.get(place).copied().unwrap_or_default();
            if word.version == Some(version) {
                adoption.adopted = adoption.adopted.saturating_add(u32::from(word.adopted));
                adoption.refused = adoption.refused.saturating_add(word.refused);
                adoption.worked = adoption.worked.saturating_add(word.worked);
            }
        }
        if now < self.incomplete_until {
            adoption.sidecars = adoption.sidecars.saturating_add(1);
        }
        adoption
    }

    /// How many sidecars are known.
    pub(super) fn len(&self) -> usize {
        self.sidecars.len()
    }

    /// Makes room for a sidecar and its places, and enters those that are new.
    fn add(&mut self, name: &Name, places: &[Arc<str>], now: Moment) -> Result<(), Full> {
        let known = self.sidecars.get(name);
        let new = |place: &&Arc<str>| known.is_none_or(|s| !s.places.contains_key(*place));
        let added = places.iter().filter(new).count();
        let is_full = |table: &Self| {
            table.entries + added > table.limits.entries
                || (!table.sidecars.contains_key(name)
                    && table.sidecars.len() >= table.limits.sidecars)
        };
        if is_full(self) {
            self.sweep(now);
        }
        if is_full(self) {
            self.incomplete_until = self.incomplete_until.max(now + self.limits.known_for);
            return Err(Full);
        }
        let sidecar = self.sidecars.entry(name.clone()).or_insert_with(|| Sidecar {
            streams: 0,
            heard_at: now,
            places: HashMap::new(),
        });
        sidecar.heard_at = now;
        for place in places {
            if !sidecar.places.contains_key(place) {
                sidecar.places.insert(Arc::clone(place), Word::default());
                self.places.entry(Arc::clone(place)).or_default().insert(name.clone());
                self.entries += 1;
            }
        }
        Ok(())
    }

    /// Forgets what a sidecar said of all places but these.
    fn keep(&mut self, name: &Name, places: &[Arc<str>]) {
        let Some(sidecar) = self.sidecars.get_mut(name) else { return };
        let mut dropped = Vec::new();
        sidecar.places.retain(|place, _| {
            let keep = places.contains(place);
            if !keep {
                dropped.push(Arc::clone(place));
            }
            keep
        });
        self.forget(name, &dropped);
    }

    /// Forgets the sidecars that are gone for long enough.
    fn sweep(&mut self, now: Moment) {
        let gone = self.sidecars.iter().filter(|(_, sidecar)| !self.is_known(sidecar, now));
        let gone = gone.map(|(name, _)| name.clone()).collect::<Vec<_>>();
        for name in gone {
            if let Some(sidecar) = self.sidecars.remove(&name) {
                self.forget(&name, &sidecar.places.into_keys().collect::<Vec<_>>());
            }
        }
    }

    fn forget(&mut self, name: &Name, places: &[Arc<str>]) {
        self.entries -= places.len();
        for place in places {
            if let Some(names) = self.places.get_mut(place) {
                names.remove(name);
                if names.is_empty() {
                    self.places.remove(place);
                }
            }
        }
    }

    fn is_known(&self, sidecar: &Sidecar, now: Moment) -> bool {
        sidecar.streams > 0 || now < sidecar.heard_at + self.limits.known_for
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::at(Duration::from_secs(1000));
    const LATER: Duration = Duration::from_mins(10);

    fn name(instance: &str) -> Name {
        Name { identity: "spiffe://test/api".into(), instance: instance.into() }
    }

    fn limits() -> FeedLimits {
        FeedLimits { gathering: Duration::ZERO, ..FeedLimits::default() }
    }

    fn word(version: u64, adopted: bool) -> Word {
        Word { version: Some(version), adopted, refused: 0, worked: 0 }
    }

    fn of(table: &Table, version: u64, now: Moment) -> (u32, u32) {
        let adoption = table.adoption("p", version, now);
        (adoption.sidecars, adoption.adopted)
    }

    #[test]
    fn a_sidecar_counts_once_over_reconnects_and_keeps_its_word() {
        let mut table = Table::new(limits(), NOW);
        let places: [Arc<str>; 1] = ["p".into()];
        table.opened(&name("a"), &places, NOW).unwrap();
        table.said(&name("a"), &places[0], word(2, true), NOW).unwrap();
        // The new stream opens before the old one is known to have ended.
        table.opened(&name("a"), &places, NOW).unwrap();
        table.closed(&name("a"), NOW);
        assert_eq!(of(&table, 2, NOW), (1, 1));
        table.closed(&name("a"), NOW);
        table.opened(&name("a"), &places, NOW).unwrap();
        assert_eq!(of(&table, 2, NOW), (1, 1));
        assert_eq!(of(&table, 3, NOW), (1, 0));
    }

    #[test]
    fn one_that_is_gone_holds_a_version_back_until_it_is_forgotten() {
        let mut table = Table::new(limits(), NOW);
        let places: [Arc<str>; 1] = ["p".into()];
        for instance in ["a", "b"] {
            table.opened(&name(instance), &places, NOW).unwrap();
        }
        table.said(&name("a"), &places[0], word(2, true), NOW).unwrap();
        table.closed(&name("b"), NOW);
        assert_eq!(of(&table, 2, NOW), (2, 1));
        assert_eq!(of(&table, 2, NOW + LATER), (1, 1));
    }

    #[test]
    fn reports_are_counted_for_the_version_that_they_are_about() {
        let mut table = Table::new(limits(), NOW);
        let place: Arc<str> = "p".into();
        let refused = Word { version: Some(3), adopted: false, refused: 2, worked: 5 };
        for _ in 0..2 {
            table.said(&name("a"), &place, refused, NOW).unwrap();
        }
        let adoption = table.adoption("p", 3, NOW);
        assert_eq!((adoption.refused, adoption.worked), (2, 5));
        assert_eq!(table.adoption("p", 2, NOW).refused, 0);
    }

    #[test]
    fn places_that_a_sidecar_serves_no_more_do_not_wait_for_it() {
        let mut table = Table::new(limits(), NOW);
        let places: [Arc<str>; 2] = ["p".into(), "q".into()];
        table.opened(&name("a"), &places, NOW).unwrap();
        table.closed(&name("a"), NOW);
        table.opened(&name("a"), &places[1..], NOW).unwrap();
        assert_eq!(of(&table, 2, NOW), (0, 0));
        assert_eq!(table.adoption("q", 2, NOW).sidecars, 1);
    }

    #[test]
    fn a_full_table_turns_newcomers_away_and_counts_them_as_late() {
        let limits = FeedLimits { sidecars: 2, ..limits() };
        let mut table = Table::new(limits, NOW);
        let places: [Arc<str>; 1] = ["p".into()];
        table.said(&name("a"), &places[0], word(2, true), NOW).unwrap();
        table.said(&name("b"), &places[0], word(2, true), NOW).unwrap();
        assert_eq!(table.opened(&name("c"), &places, NOW), Err(Full));
        assert_eq!(of(&table, 2, NOW), (3, 2));
        table.opened(&name("c"), &places, NOW + LATER).unwrap();
        assert_eq!((table.len(), table.entries), (1, 1));
    }

    #[test]
    fn places_are_bounded_over_all_sidecars() {
        let limits = FeedLimits { entries: 3, ..limits() };
        let mut table = Table::new(limits, NOW);
        let places: [Arc<str>; 2] = ["p".into(), "q".into()];
        table.opened(&name("a"), &places, NOW).unwrap();
        assert_eq!(table.opened(&name("b"), &places, NOW), Err(Full));
        assert_eq!(table.opened(&name("b"), &places[..1], NOW), Ok(()));
    }
}
