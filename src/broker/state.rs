//! What a later run of the broker starts from, and the port to the place where it is kept.
//!
//! Saved times are wall-clock times, because monotonic ones end with the machine. Coming back, no
//! jump of the wall clock lengthens a life: see [`SavedVersion::restore`].

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::{
    life::{Held, Lease},
    secret::{Fields, Generation, SecretName, SecretValue, Version},
    time::Moment,
};

/// Keeps the state of the broker across restarts.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// What an earlier run saved last. A state that can't be trusted is set aside and told, not
    /// returned as an error: the broker starts without it.
    ///
    /// # Errors
    /// When the place or the key can't be read: a state may be there.
    async fn load(&self) -> Result<Loaded, StateError>;

    /// Replaces what is kept. When it returns, the state outlives a loss of power; when it fails,
    /// the one before is whole. Of concurrent calls, the one that was begun last wins.
    ///
    /// # Errors
    /// When the state can't be written.
    async fn save(&self, state: SavedState) -> Result<(), StateError>;

    /// Removes what is kept: nothing of it is worth going on from. Saves that were begun before it leave nothing.
    ///
    /// # Errors
    /// When it can't be removed.
    async fn forget(&self) -> Result<(), StateError>;
}

/// What was found at start.
#[derive(Debug)]
pub enum Loaded {
    /// Nothing was saved yet.
    Nothing,
    /// A whole state.
    State(SavedState),
    /// A state that can't be trusted.
    Rejected(Rejected),
}

/// A state that can't be trusted, set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Why.
    pub reason: Distrust,
    /// Where it lies now; `None` when it could not be moved and will be overwritten.
    pub set_aside: Option<PathBuf>,
}

/// Why a state can't be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// It is torn, was altered, or was encrypted to another key.
    #[error("it is torn, was altered, or was encrypted to another key")]
    Sealed,
    /// It was written by another version of the broker.
    #[error("it was written in a form that this version does not know")]
    UnknownForm,
    /// It decrypts and is not a state.
    #[error("it decrypts and is not a state of the broker")]
    Malformed,
    /// It is larger than any state.
    #[error("it is larger than any state of the broker")]
    TooLarge,
}

/// Why a state can't be read or written. Holds paths and kinds of errors, never content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct StateError {
    /// What failed, at which path, and what would be accepted.
    pub what: String,
}

/// All that a later run needs.
#[derive(Debug)]
pub struct SavedState {
    /// When it was saved.
    pub saved_at: Timestamp,
    /// The secrets by name.
    pub secrets: BTreeMap<SecretName, SavedSecret>,
    /// The session with the store, for leases end with the session that took them.
    pub session: Option<SavedSession>,
    /// The key of the versions that the broker itself makes.
    pub version_key: Option<Arc<SecretValue>>,
}

/// One secret.
#[derive(Clone, Debug)]
pub struct SavedSecret {
    /// The current version.
    pub current: SavedVersion,
    /// The replaced versions that still live, each with the time at which it goes.
    pub overlaps: Vec<(SavedVersion, Timestamp)>,
}

/// One version of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedVersion {
    /// The value.
    pub fields: Arc<Fields>,
    /// Its version at the store.
    pub version: Version,
    /// Its generation at the broker.
    pub generation: Generation,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it ends, if anything ends it.
    pub ends_at: Option<Timestamp>,
    /// Its lease.
    pub lease: Option<Lease>,
}

/// A session with a store, opaque to the broker.
#[derive(Clone, Debug)]
pub struct SavedSession {
    /// What the adapter needs to go on.
    pub content: Arc<SecretValue>,
    /// When it ends, if it does.
    pub ends_at: Option<Timestamp>,
}

/// Two clocks read at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instants {
    /// The monotonic clock.
    pub now: Moment,
    /// The wall clock.
    pub wall: Timestamp,
}

impl Instants {
    /// A moment as a wall-clock time.
    pub fn to_wall(self, moment: Moment) -> Timestamp {
        let shifted = if moment >= self.now {
            self.wall.checked_add(moment - self.now)
        } else {
            self.wall.checked_sub(self.now - moment)
        };
        shifted.unwrap_or(self.wall)
    }

    /// The time that is left until a saved end: what the wall clock says, and never more than was
    /// left when it was saved.
    pub fn left(self, end: Timestamp, saved_at: Timestamp) -> Duration {
        let until = |from| Duration::try_from(end.duration_since(from)).unwrap_or_default();
        until(self.wall).min(until(saved_at))
    }

    /// The moment of a saved end.
    pub fn end(self, end: Timestamp, saved_at: Timestamp) -> Moment {
        self.now + self.left(end, saved_at)
    }
}

impl SavedVersion {
    /// The saved form of a version that is held.
    pub fn of(held: &Held, clock: Instants) -> Self {
        Self {
            fields: Arc::clone(&held.fields),
            version: held.version.clone(),
            generation: held.generation,
            issued_at: clock.to_wall(held.issued_at),
            ends_at: held.ends_at.map(|end| clock.to_wall(end)),
            lease: held.lease.clone(),
        }
    }

    /// The version as this run holds it; one that ended meanwhile is not live.
    pub fn restore(&self, saved_at: Timestamp, clock: Instants) -> Held {
        let age = Duration::try_from(clock.wall.duration_since(self.issued_at));
        let age = age.unwrap_or_default().min(clock.now.since_origin());
        Held {
            fields: Arc::clone(&self.fields),
            version: self.version.clone(),
            generation: self.generation,
            issued_at: Moment::at(clock.now.since_origin().saturating_sub(age)),
            ends_at: self.ends_at.map(|end| clock.end(end, saved_at)),
            lease: self.lease.clone(),
        }
    }
}

impl SavedSecret {
    /// The secret as this run holds it: the current version, and the overlaps with their ends.
    pub fn restore(&self, saved_at: Timestamp, clock: Instants) -> (Held, Vec<(Held, Moment)>) {
        let overlap = |(version, until): &(SavedVersion, Timestamp)| {
            (version.restore(saved_at, clock), clock.end(*until, saved_at))
        };
        (self.current.restore(saved_at, clock), self.overlaps.iter().map(overlap).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const MINUTE: Duration = Duration::from_mins(1);

    fn clock(since_boot: Duration, wall: i64) -> Instants {
        Instants { now: Moment::at(since_boot), wall: Timestamp::from_second(wall).unwrap() }
    }

    fn held(clock: Instants) -> Held {
        Held {
            fields: Arc::new(Fields::single(SecretValue::new("v"))),
            version: Version("1".into()),
            generation: Generation(7),
            issued_at: Moment::at(clock.now.left(Moment::at(MINUTE))),
            ends_at: Some(clock.now + HOUR),
            lease: None,
        }
    }

    #[test]
    fn a_life_goes_on_where_it_stood() {
        let saved = clock(10 * HOUR, 1_000_000);
        let version = SavedVersion::of(&held(saved), saved);
        let later = clock(20 * HOUR, 1_000_000 + 600);
        let restored = version.restore(saved.wall, later);
        assert_eq!(restored.ends_at, Some(later.now + 50 * MINUTE));
        assert_eq!(later.now - restored.issued_at, 11 * MINUTE);
        assert_eq!(restored.generation, Generation(7));
        assert!(restored.is_live(later.now));
    }

    #[test]
    fn no_jump_of_the_wall_clock_lengthens_a_life() {
        let saved = clock(10 * HOUR, 1_000_000);
        let version = SavedVersion::of(&held(saved), saved);
        for (wall, left) in [
            (0, HOUR),
            (1_000_000 - 1, HOUR),
            (1_000_000, HOUR),
            (1_000_000 + 1800, HOUR / 2),
            (1_000_000 + 3600, Duration::ZERO),
            (90_000_000_000, Duration::ZERO),
        ] {
            let later = clock(MINUTE, wall);
            let restored = version.restore(saved.wall, later);
            assert_eq!(restored.ends_at, Some(later.now + left), "{wall}");
        }
    }

    #[test]
    fn a_rebooted_machine_is_younger_than_what_it_holds() {
        let saved = clock(10 * HOUR, 1_000_000);
        let version = SavedVersion::of(&held(saved), saved);
        let later = clock(Duration::from_secs(5), 1_000_000 + 600);
        assert_eq!(version.restore(saved.wall, later).issued_at, Moment::at(Duration::ZERO));
    }
}
