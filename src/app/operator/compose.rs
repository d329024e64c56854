//! Builds the engine that a configuration describes.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    cluster::InCluster,
    targets::{self, Around},
};

use crate::{
    app::{
        StartError,
        clock::SystemClock,
        stores::{Server, Surroundings},
    },
    broker::ports::Clock,
    config::operator::{OperatorConfig, Rotated, checks::Check},
    domain::{
        fault::{Fault, Reason},
        labels::Labels,
        rotation::RotationId,
        secret::{Fields, SecretName},
    },
    report::Directory,
    rotation::{
        backup::Backups,
        engine::{self, Catalogue, Engine, Limits, Managed},
        http::Http,
        ports::{Adoption, Journal, Readers, Records, Versions},
    },
    store::{VersionKey, vault::VaultStore},
    telemetry::Metrics,
};

/// An engine and what it was built on.
pub(super) struct Composed {
    pub(super) engine: Arc<Engine>,
    pub(super) vault: Server,
    pub(super) around: Surroundings,
    /// The cluster, where one is used.
    pub(super) cluster: Option<Arc<InCluster>>,
    /// Copies in the cluster.
    pub(super) backups: Arc<Backups>,
    /// Tells this process from all others.
    pub(super) actor: String,
}

impl Composed {
    pub(super) fn new(
        config: OperatorConfig,
        readers: Arc<dyn Readers>,
    ) -> Result<Self, StartError> {
        let clock = clock();
        let key = Arc::new(VersionKey::generate().map_err(StartError::Randomness)?);
        let wall = clock.wall();
        let seed = u64::try_from(wall.as_nanosecond() & i128::from(u64::MAX)).unwrap_or(1);
        let around = Surroundings {
            clock: Arc::clone(&clock),
            metrics: Arc::new(Metrics::new()),
            versions: Arc::clone(&key),
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
        let http = Http::new().map_err(StartError::Operator)?;
        let actor = format!("{}/{}", super::name(wall), rustix::process::getpid().as_raw_nonzero());
        let lies_there = config.secrets.values().any(|secret| secret.kubernetes.is_some());
        let cluster = config.kubernetes.map(|it| InCluster::connect(it, &actor, &clock));
        let cluster = match cluster.transpose() {
            // People who type outside of the cluster can go without.
            Err(fault) if !lies_there => {
                tracing::warn!(%fault, "goes on without Kubernetes");
                None
            }
            cluster => cluster.map_err(StartError::Operator)?.map(Arc::new),
        };
        let composer = Composer {
            cluster: cluster.clone(),
            vault: Arc::clone(vault),
            versions: key,
            http: http.clone(),
        };
        let checks: Vec<_> = config.checks.into_iter().map(|c| composer.check(c)).collect();
        let (mut catalogue, mut copies) = (Catalogue::new(), BTreeMap::new());
        for (name, mut rotated) in config.secrets {
            copies.extend(rotated.backup.take().map(|place| (name.clone(), place)));
            let managed = composer.managed(&name, rotated, &checks)?;
            catalogue.insert(name, managed);
        }
        let backups = match &cluster {
            Some(cluster) => cluster.backups(copies),
            None => Backups::new(BTreeMap::new()),
        };
        let alerts = targets::alerts(config.alerts, vault, &http);
        let alerts = match &cluster {
            Some(cluster) => cluster.alerts(alerts),
            None => alerts,
        };
        let surroundings = engine::Surroundings { journal, readers, alerts, records, clock };
        let limits = Limits { claim: config.claim, step: config.step };
        let engine = Engine::new(catalogue, surroundings, limits, actor.clone(), seed);
        let backups = Arc::new(backups);
        Ok(Self { engine: Arc::new(engine), vault: server, around, cluster, backups, actor })
    }
}

/// The time of this machine.
pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

struct Composer {
    cluster: Option<Arc<InCluster>>,
    vault: Arc<VaultStore>,
    versions: Arc<VersionKey>,
    http: Http,
}

impl Composer {
    fn check(&self, settings: Check) -> Around {
        targets::check(settings, &self.vault, &self.versions, &self.http)
    }

    fn managed(
        &self,
        name: &SecretName,
        rotated: Rotated,
        all: &[Around],
    ) -> Result<Managed, StartError> {
        let Self { vault, http, .. } = self;
        let Rotated {
            category,
            tier,
            schedule,
            pair,
            place,
            kubernetes,
            backup: _,
            mut terms,
            target,
            validators,
            checks,
        } = rotated;
        let held = targets::held(&target);
        let rotator = targets::rotator(name, target, vault, http).map_err(StartError::Operator)?;
        terms.overlapping = rotator.is_overlapping();
        terms.held = held.is_some();
        let in_cluster = self.cluster.as_ref().zip(kubernetes);
        let in_cluster = in_cluster.map(|(cluster, place)| cluster.versions(place));
        let versions: Arc<dyn Versions> = match (in_cluster, place) {
            (Some(versions), _) => versions,
            (None, Some(place)) => Arc::new(vault.versions(&place.mount, &place.path)),
            (None, None) => Arc::new(Elsewhere(held.unwrap_or_default())),
        };
        let own: Vec<_> = checks.into_iter().map(|c| self.check(c)).collect();
        let checks = all.iter().chain(&own).map(|check| check.of(&versions)).collect();
        let validators = validators.into_iter().map(|v| targets::validator(v, vault, http));
        Ok(Managed {
            category,
            tier,
            schedule,
            pair,
            terms,
            versions,
            rotator,
            validators: validators.collect(),
            checks,
        })
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
