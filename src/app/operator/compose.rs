//! Builds the engine that a configuration describes.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::{
    keeper::Keeper,
    targets::{self, Around, Reach},
};

use crate::{
    app::{StartError, clock::SystemClock, stores::Surroundings},
    broker::ports::Clock,
    config::operator::{OperatorConfig, Rotated},
    domain::{
        fault::{Fault, Reason},
        labels::Labels,
        rotation::RotationId,
        secret::{Fields, SecretName},
    },
    report::Directory,
    rotation::{
        engine::{self, Catalogue, Engine, Limits, Managed},
        http::Http,
        ports::{Adoption, Readers, Records, Relay, Versions},
    },
    store::VersionKey,
    telemetry::Metrics,
};

/// An engine and what it was built on.
pub(super) struct Composed {
    pub(super) engine: Arc<Engine>,
    pub(super) keeper: Keeper,
    pub(super) around: Surroundings,
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
        let around = Surroundings {
            clock: Arc::clone(&clock),
            metrics: Arc::new(Metrics::new()),
            versions: Arc::clone(&key),
            seed,
        };
        let keeper = Keeper::new(config.keeper, &around)?;
        let (journal, readers) = (keeper.journal(), readers(&keeper));
        let records: Arc<dyn Records> = match config.records {
            Some(directory) => Arc::new(Directory::new(directory)),
            None => Arc::new(()),
        };
        let http = Http::new().map_err(StartError::Operator)?;
        let vault = keeper.vault().map(|server| Arc::clone(&server.store));
        let reach = Reach { vault, versions: key, http };
        let managed = |(name, rotated), checks: &[Around]| {
            managed(&keeper, &reach, &name, rotated, checks).map(|managed| (name, managed))
        };
        let composed = config.checks.into_iter().map(|check| reach.check(check));
        let composed = composed.collect::<Result<Vec<_>, _>>().and_then(|checks| {
            let secrets = config.secrets.into_iter();
            let catalogue = secrets.map(|entry| managed(entry, &checks));
            Ok((catalogue.collect::<Result<Catalogue, _>>()?, reach.alerts(config.alerts)?))
        });
        let (catalogue, alerts) = composed.map_err(StartError::Operator)?;
        let actor = format!("{}/{}", super::name(wall), rustix::process::getpid().as_raw_nonzero());
        let surroundings = engine::Surroundings { journal, readers, alerts, records, clock };
        let limits = Limits { claim: config.claim, step: config.step };
        let engine = Engine::new(catalogue, surroundings, limits, actor.clone(), seed);
        Ok(Self { engine: Arc::new(engine), keeper, around, actor })
    }
}

/// The time of this machine.
pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn managed(
    keeper: &Keeper,
    reach: &Reach,
    name: &SecretName,
    rotated: Rotated,
    all: &[Around],
) -> Result<Managed, Fault> {
    let Rotated { category, tier, schedule, pair, place, mut terms, target, validators, checks } =
        rotated;
    let held = targets::held(&target);
    let rotator = reach.rotator(name, target)?;
    terms.overlapping = rotator.is_overlapping();
    terms.held = held.is_some();
    let versions: Arc<dyn Versions> = match (place, held) {
        (Some(place), _) => keeper.versions(place),
        (None, held) => Arc::new(Elsewhere(held.unwrap_or_default())),
    };
    let own = checks.into_iter().map(|c| reach.check(c)).collect::<Result<Vec<_>, _>>()?;
    let checks = all.iter().chain(&own).map(|check| check.of(&versions)).collect();
    let validators = validators.into_iter().map(|v| reach.validator(v));
    Ok(Managed {
        category,
        tier,
        schedule,
        pair,
        terms,
        versions,
        rotator,
        validators: validators.collect::<Result<_, _>>()?,
        checks,
    })
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
