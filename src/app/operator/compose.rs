//! Builds the engine that a configuration describes.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::targets;

use crate::{
    app::{
        StartError,
        clock::SystemClock,
        stores::{Server, Surroundings},
    },
    broker::ports::Clock,
    config::operator::{OperatorConfig, Rotated},
    domain::{
        fault::{Fault, Reason},
        labels::Labels,
        rotation::RotationId,
        secret::Fields,
    },
    report::Directory,
    rotation::{
        engine::{self, Catalogue, Engine, Limits, Managed},
        ports::{Adoption, Alert, Alerts, Journal, Readers, Records, Urgency, Versions},
    },
    store::{VersionKey, vault::VaultStore},
    telemetry::Metrics,
};

/// An engine and what it was built on.
pub(super) struct Composed {
    pub(super) engine: Arc<Engine>,
    pub(super) vault: Server,
    pub(super) around: Surroundings,
    /// Tells this process from all others.
    pub(super) actor: String,
}

impl Composed {
    pub(super) fn new(
        config: OperatorConfig,
        readers: Arc<dyn Readers>,
    ) -> Result<Self, StartError> {
        let clock = clock();
        let versions = Arc::new(VersionKey::generate().map_err(StartError::Randomness)?);
        let wall = clock.wall();
        let seed = u64::try_from(wall.as_nanosecond() & i128::from(u64::MAX)).unwrap_or(1);
        let around = Surroundings {
            clock: Arc::clone(&clock),
            metrics: Arc::new(Metrics::new()),
            versions,
            seed,
        };
        let server = Server::connect(config.vault, &around, 0)?;
        let vault = &server.store;
        let journal = &config.journal;
        let journal: Arc<dyn Journal> = Arc::new(vault.journal(&journal.mount, &journal.path));
        let records: Arc<dyn Records> = match config.records {
            Some(directory) => Arc::new(Directory::new(directory)),
            None => Arc::new(()),
        };
        let mut catalogue = Catalogue::new();
        for (name, rotated) in config.secrets {
            catalogue.insert(name, managed(rotated, vault));
        }
        let actor = format!("{}/{}", super::name(wall), rustix::process::getpid().as_raw_nonzero());
        let alerts: Arc<dyn Alerts> = Arc::new(Logged);
        let surroundings = engine::Surroundings { journal, readers, alerts, records, clock };
        let limits = Limits { claim: config.claim, step: config.step };
        let engine = Engine::new(catalogue, surroundings, limits, actor.clone(), seed);
        Ok(Self { engine: Arc::new(engine), vault: server, around, actor })
    }
}

/// The time of this machine.
pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn managed(rotated: Rotated, vault: &Arc<VaultStore>) -> Managed {
    let Rotated { category, tier, schedule, pair, place, mut terms, target } = rotated;
    let held = targets::held(&target);
    let rotator = targets::rotator(target, vault);
    terms.overlapping = rotator.is_overlapping();
    terms.held = held.is_some();
    let versions: Arc<dyn Versions> = match (place, held) {
        (Some(place), _) => Arc::new(vault.versions(&place.mount, &place.path)),
        (None, held) => Arc::new(Elsewhere(held.unwrap_or_default())),
    };
    Managed {
        category,
        tier,
        schedule,
        pair,
        terms,
        versions,
        rotator,
        validators: Vec::new(),
        checks: Vec::new(),
    }
}

/// The place of a secret whose target keeps it itself: there are no versions and no labels.
struct Elsewhere(String);

#[async_trait]
impl Versions for Elsewhere {
    fn place(&self) -> &str {
        &self.0
    }

    async fn latest(&self) -> Result<u64, Fault> {
        Ok(0)
    }

    async fn read(&self, _: u64) -> Result<Arc<Fields>, Fault> {
        Err(not_here())
    }

    async fn append(&self, _: &Fields, _: u64) -> Result<u64, Fault> {
        Err(not_here())
    }

    async fn labels(&self) -> Result<Labels, Fault> {
        Ok(Labels::default())
    }

    async fn label(&self, _: &Labels) -> Result<(), Fault> {
        Err(not_here())
    }

    async fn destroy(&self, _: u64) -> Result<(), Fault> {
        Err(not_here())
    }
}

fn not_here() -> Fault {
    Fault::new(Reason::Invalid, "the target keeps the value itself")
}

/// Alerts as lines of the log.
struct Logged;

#[async_trait]
impl Alerts for Logged {
    async fn raise(&self, alert: &Alert) -> Result<(), Fault> {
        let Alert { urgency, name, secret, summary } = alert;
        match urgency {
            Urgency::Info => tracing::info!(alert = %name, %secret, summary),
            Urgency::Warning => tracing::warn!(alert = %name, %secret, summary),
            Urgency::Critical => tracing::error!(alert = %name, %secret, summary),
        }
        Ok(())
    }
}

/// No sidecar is connected to a command of the people: the operator that runs tells them.
pub(super) struct NoReaders;

#[async_trait]
impl Readers for NoReaders {
    fn announce(&self, _: &str, _: &RotationId, _: Option<Timestamp>) {}

    fn adoption(&self, _: &str, _: u64) -> Adoption {
        Adoption::default()
    }

    async fn changed(&self) {
        std::future::pending::<()>().await;
    }
}
