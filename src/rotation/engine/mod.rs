//! Drives rotations: one actor a secret at a time, each step written down before and after.
//!
//! Invariants: an actor whose claim was taken over can't write the journal any more; nothing is
//! done that the journal does not announce; a run that was killed goes on where it was, under the
//! same id and with the same value.

mod access;
mod desk;
mod drive;
mod generate;
mod look;
mod requests;
mod steps;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

pub use access::{AccessError, Ask};
pub use drive::Driven;
pub use look::{Planned, Status, Verdict};
pub use requests::{RequestError, Wish};

use super::ports::{Alerts, Check, Journal, Readers, Records, Rotator, Validator, Versions};
use crate::{
    broker::ports::Clock,
    domain::{
        fault::Fault,
        rotation::{Terms, schedule::Schedule},
        secret::SecretName,
        time::Jitter,
    },
};

/// Rotations that are remembered of each secret.
const MAX_PAST: usize = 50;

/// A secret that is rotated, and everything that is needed for it.
pub struct Managed {
    /// Its category.
    pub category: String,
    /// The name of its tier, such as `monthly`.
    pub tier: String,
    /// When it is due.
    pub schedule: Schedule,
    /// The secret that must not be rotated close to it.
    pub pair: Option<String>,
    /// How it is rotated.
    pub terms: Terms,
    /// Its versions and labels.
    pub versions: Arc<dyn Versions>,
    /// Its target.
    pub rotator: Arc<dyn Rotator>,
    /// Further uses of the new value, before and after it is in force.
    pub validators: Vec<Arc<dyn Validator>>,
    /// Conditions around it.
    pub checks: Vec<Arc<dyn Check>>,
}

/// The secrets that are rotated, by name.
pub type Catalogue = BTreeMap<SecretName, Managed>;

/// How many times something was written down of each secret.
pub type Written = BTreeMap<SecretName, u64>;

/// What the engine works with.
pub struct Surroundings {
    /// Where rotations are written down.
    pub journal: Arc<dyn Journal>,
    /// The sidecars.
    pub readers: Arc<dyn Readers>,
    /// People.
    pub alerts: Arc<dyn Alerts>,
    /// Records for people.
    pub records: Arc<dyn Records>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Bounds of the engine's own work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a claim holds without being prolonged: so long does a killed run keep others out.
    pub claim: Duration,
    /// The time for one attempt at one step.
    pub step: Duration,
}

/// Rotates the secrets of a catalogue.
pub struct Engine {
    catalogue: Catalogue,
    around: Surroundings,
    limits: Limits,
    /// Tells this actor from all others, for claims.
    actor: String,
    jitter: Mutex<Jitter>,
    changes: watch::Sender<Written>,
}

/// Why a rotation could not be driven.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriveError {
    /// The catalogue has no such secret.
    #[error("the catalogue has no secret {0}")]
    Unknown(SecretName),
    /// Somebody else works on it.
    #[error("{by} works on it until {until}")]
    Claimed {
        /// The other actor.
        by: String,
        /// When its claim lapses.
        until: jiff::Timestamp,
    },
    /// The journal was taken over meanwhile.
    #[error("somebody else took it over")]
    TakenOver,
    /// The journal can't be read or written.
    #[error("the journal: {0}")]
    Journal(#[from] Fault),
}

impl Engine {
    /// An engine for a catalogue. `actor` has to differ from that of every other process, and so
    /// has `seed`, which makes its jitter differ.
    pub fn new(
        catalogue: Catalogue,
        around: Surroundings,
        limits: Limits,
        actor: String,
        seed: u64,
    ) -> Self {
        Self {
            catalogue,
            around,
            limits,
            actor,
            jitter: Mutex::new(Jitter::seeded(seed)),
            changes: watch::Sender::default(),
        }
    }

    /// The secrets that it rotates.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Changes whenever something was written down by this engine.
    pub fn changes(&self) -> watch::Receiver<Written> {
        self.changes.subscribe()
    }

    /// Something was written down of this secret.
    fn changed(&self, secret: &SecretName) {
        self.changes.send_modify(|changes| *changes.entry(secret.clone()).or_default() += 1);
    }

    /// What it works with.
    pub fn surroundings(&self) -> &Surroundings {
        &self.around
    }

    /// A number in 0..1 that differs from that of other operators.
    pub fn draw(&self) -> f64 {
        self.spread(Duration::from_secs(1), 0.0, 1.0).as_secs_f64()
    }

    fn managed(&self, secret: &SecretName) -> Result<&Managed, DriveError> {
        self.catalogue.get(secret).ok_or_else(|| DriveError::Unknown(secret.clone()))
    }

    fn spread(&self, ceiling: Duration, from: f64, to: f64) -> Duration {
        self.jitter.lock().unwrap_or_else(PoisonError::into_inner).spread(ceiling, from, to)
    }
}
