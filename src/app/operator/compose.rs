//! Builds the engine that a configuration describes.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    app::{
        StartError,
        clock::SystemClock,
        stores::{Server, Surroundings},
    },
    broker::ports::Clock,
    config::operator::{OperatorConfig, Rotated},
    domain::rotation::RotationId,
    report::Directory,
    rotation::{
        engine::{self, Catalogue, Engine, Limits, Managed},
        ports::{Adoption, Journal, Readers, Records},
    },
    store::{VersionKey, vault::VaultStore},
    telemetry::Metrics,
};

/// An engine and what it was built on.
pub(super) struct Composed {
    pub(super) engine: Arc<Engine>,
    pub(super) vault: Arc<VaultStore>,
    pub(super) metrics: Arc<Metrics>,
    /// Tells this process from all others.
    pub(super) actor: String,
}

impl Composed {
    pub(super) fn new(
        config: OperatorConfig,
        readers: Arc<dyn Readers>,
    ) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let versions = Arc::new(VersionKey::generate().map_err(StartError::Randomness)?);
        let wall = clock.wall();
        let seed = u64::try_from(wall.as_nanosecond() & i128::from(u64::MAX)).unwrap_or(1);
        let around = Surroundings {
            clock: Arc::clone(&clock),
            metrics: Arc::new(Metrics::new()),
            versions,
            seed,
        };
        let vault = Server::connect(config.vault, &around, 0)?.store;
        let journal = &config.journal;
        let journal: Arc<dyn Journal> = Arc::new(vault.journal(&journal.mount, &journal.path));
        let records: Arc<dyn Records> = match config.records {
            Some(directory) => Arc::new(Directory::new(directory)),
            None => Arc::new(()),
        };
        let mut catalogue = Catalogue::new();
        for (name, rotated) in config.secrets {
            catalogue.insert(name, managed(rotated, &vault)?);
        }
        let actor = format!("{}/{}", super::name(wall), rustix::process::getpid().as_raw_nonzero());
        let surroundings = engine::Surroundings { journal, readers, alerts, records, clock };
        let limits = Limits { claim: config.claim, step: config.step };
        let engine = Engine::new(catalogue, surroundings, limits, actor.clone(), seed);
        Ok(Self { engine: Arc::new(engine), vault, metrics: around.metrics, actor })
    }
}

fn managed(rotated: Rotated, vault: &Arc<VaultStore>) -> Result<Managed, StartError> {
    let Rotated { category, tier, schedule, pair, place, mut terms, target } = rotated;
    let rotator = rotator(target, vault)?;
    terms.overlapping = rotator.is_overlapping();
    let versions = Arc::new(vault.versions(&place.mount, &place.path));
    Ok(Managed {
        category,
        tier,
        schedule,
        pair,
        terms,
        versions,
        rotator,
        validators: Vec::new(),
        checks: Vec::new(),
    })
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
        std::future::pending::<Duration>().await;
    }
}
