//! Builds the engine that a configuration describes.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::{
    cluster::InCluster,
    keeper::Keeper,
    targets::{self, Around, Reach},
};

use crate::{
    app::{StartError, clock::SystemClock, stores::Surroundings},
    broker::ports::Clock,
    config::operator::{OperatorConfig, Rotated, checks::Check, kubernetes::SecretPlace},
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
        ports::{Adoption, Leadership, Readers, Records, Relay, Validator, Versions},
    },
    store::VersionKey,
    telemetry::{
        Metrics,
        rotations::{ObservedAlerts, ObservedJournal, ObservedValidator, RotationMetrics},
    },
};

/// An engine and what it was built on.
pub(super) struct Composed {
    pub(super) engine: Arc<Engine>,
    pub(super) keeper: Keeper,
    pub(super) around: Surroundings,
    pub(super) metrics: Arc<RotationMetrics>,
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
        readers: impl FnOnce(&Keeper) -> Arc<dyn Readers>,
    ) -> Result<Self, StartError> {
        let clock = clock();
        let key = Arc::new(VersionKey::generate().map_err(StartError::Randomness)?);
        let wall = clock.wall();
        let seed = u64::try_from(wall.as_nanosecond() & i128::from(u64::MAX)).unwrap_or(1);
        let (metrics, rotations) = Metrics::of_operator();
        let rotations = Arc::new(rotations);
        let around = Surroundings {
            clock: Arc::clone(&clock),
            metrics: Arc::new(metrics),
            versions: Arc::clone(&key),
            seed,
        };
        let keeper = Keeper::new(config.keeper, &around)?;
        let (journal, readers) = (keeper.journal(), readers(&keeper));
        let journal = Arc::new(ObservedJournal { journal, metrics: Arc::clone(&rotations) });
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
        let vault = keeper.vault().map(|server| Arc::clone(&server.store));
        let composer = Composer {
            keeper: &keeper,
            cluster: cluster.as_deref(),
            reach: Reach { vault, versions: key, http },
            metrics: &rotations,
        };
        let (catalogue, copies) =
            composer.catalogue(config.secrets, config.checks).map_err(StartError::Operator)?;
        let alerts = composer.reach.alerts(config.alerts).map_err(StartError::Operator)?;
        let (backups, alerts) = match &cluster {
            Some(cluster) => (cluster.backups(copies), cluster.alerts(alerts)),
            None => (Backups::new(BTreeMap::new()), alerts),
        };
        let alerts = Arc::new(ObservedAlerts { alerts, metrics: Arc::clone(&rotations) });
        let surroundings = engine::Surroundings { journal, readers, alerts, records, clock };
        let limits = Limits { claim: config.claim, step: config.step };
        let engine = Engine::new(catalogue, surroundings, limits, actor.clone(), seed);
        let (engine, backups) = (Arc::new(engine), Arc::new(backups));
        Ok(Self { engine, keeper, around, metrics: rotations, cluster, backups, actor })
    }
}

impl Composed {
    /// The lead by a Lease where one is configured, and beside the journal otherwise.
    pub(super) fn leadership(&self, has_cluster: bool) -> Result<Arc<dyn Leadership>, StartError> {
        if has_cluster && self.cluster.is_none() {
            return Err(StartError::NoCluster);
        }
        let lead = self.cluster.as_ref().and_then(|cluster| cluster.leadership());
        Ok(lead.unwrap_or_else(|| self.keeper.leadership(self.actor.clone())))
    }
}

/// The time of this machine.
pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

struct Composer<'a> {
    keeper: &'a Keeper,
    cluster: Option<&'a InCluster>,
    reach: Reach,
    metrics: &'a Arc<RotationMetrics>,
}

impl Composer<'_> {
    /// The secrets, and the places of those that are copied into the cluster.
    fn catalogue(
        &self,
        secrets: BTreeMap<SecretName, Rotated>,
        checks: Vec<Check>,
    ) -> Result<(Catalogue, BTreeMap<SecretName, SecretPlace>), Fault> {
        let checks = self.checks(checks)?;
        let (mut catalogue, mut copies) = (Catalogue::new(), BTreeMap::new());
        for (name, mut rotated) in secrets {
            copies.extend(rotated.backup.take().map(|place| (name.clone(), place)));
            let managed = self.managed(&name, rotated, &checks)?;
            catalogue.insert(name, managed);
        }
        Ok((catalogue, copies))
    }

    fn checks(&self, checks: Vec<Check>) -> Result<Vec<Around>, Fault> {
        checks.into_iter().map(|check| self.reach.check(check)).collect()
    }

    fn managed(
        &self,
        name: &SecretName,
        rotated: Rotated,
        all: &[Around],
    ) -> Result<Managed, Fault> {
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
        let rotator = self.reach.rotator(name, target)?;
        terms.overlapping = rotator.is_overlapping();
        terms.held = held.is_some();
        let in_cluster = self.cluster.zip(kubernetes);
        let in_cluster = in_cluster.map(|(cluster, place)| cluster.versions(place));
        let versions: Arc<dyn Versions> = match (in_cluster, place) {
            (Some(versions), _) => versions,
            (None, Some(place)) => self.keeper.versions(place),
            (None, None) => Arc::new(Elsewhere(held.unwrap_or_default())),
        };
        let own = self.checks(checks)?;
        let checks = all.iter().chain(&own).map(|check| check.of(&versions)).collect();
        let validators = validators.into_iter().map(|settings| {
            let (validator, secret) = (self.reach.validator(settings)?, name.clone());
            let observed =
                ObservedValidator { validator, secret, metrics: Arc::clone(self.metrics) };
            Ok(Arc::new(observed) as Arc<dyn Validator>)
        });
        Ok(Managed {
            category,
            tier,
            schedule,
            pair,
            terms,
            versions,
            rotator,
            validators: validators.collect::<Result<_, Fault>>()?,
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
}

fn not_here() -> Fault {
    Fault::new(Reason::Invalid, "the target keeps the value itself")
}

/// No sidecar is connected to a command of the people: the operator that leads is told, and tells.
pub(super) struct Relayed {
    posts: UnboundedSender<String>,
}

impl Relayed {
    /// Readers that post through a relay, and what does the posting: it ends once they are dropped.
    pub(super) fn new(relay: Arc<dyn Relay>) -> (Arc<Self>, impl Future<Output = ()>) {
        let (posts, mut posted) = unbounded_channel::<String>();
        let posting = async move {
            while let Some(place) = posted.recv().await {
                if let Err(fault) = relay.post(&place).await {
                    tracing::warn!(place, %fault, "the operator could not be told");
                }
            }
        };
        (Arc::new(Self { posts }), posting)
    }
}

#[async_trait]
impl Readers for Relayed {
    fn gather(&self) {}

    fn announce(&self, place: &str, _: &RotationId, _: Option<Timestamp>) {
        // The other end outlives this one.
        let _ = self.posts.send(place.to_owned());
    }

    fn adoption(&self, _: &str, _: u64) -> Adoption {
        Adoption::default()
    }

    async fn changed(&self) {
        std::future::pending::<()>().await;
    }
}
