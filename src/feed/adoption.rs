//! Tells the operator how far the readers of each path are.
//!
//! Invariants: a path is reported when something about it changed, at most once a second; what could
//! not be told is told later; reads alone are told once a minute.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tonic::transport::Channel;

use super::{Paths, tell};
use crate::{
    broker::{Broker, Kept, Tally, observe::FeedNews},
    contract::operator::{ReportAdoptionRequest, rotation_feed_client::RotationFeedClient},
    domain::secret::SecretName,
};

/// The least time between two reports of one path, and the most until a change is looked for.
const INTERVAL: Duration = Duration::from_secs(1);
/// Changes that come together are looked at together.
const GATHER: Duration = Duration::from_millis(20);
/// How often reads are told of while nothing else changes.
const READS_INTERVAL: Duration = Duration::from_mins(1);
/// The time for one report.
const REPORT_TIME: Duration = Duration::from_secs(5);

type Alive = HashMap<SecretName, Arc<Kept>>;

/// What the operator knows, and what it does not know yet.
pub(super) struct Adoption {
    broker: Arc<Broker>,
    instance: String,
    paths: Vec<Reported>,
}

/// One path.
struct Reported {
    path: String,
    names: Vec<SecretName>,
    told: Option<Standing>,
    /// When it was told, or could not be.
    at: Option<Instant>,
    /// Reads that are not told yet.
    reads: BTreeMap<String, u64>,
}

/// How far the readers of one path are.
#[derive(Clone, PartialEq, Eq)]
struct Standing {
    version: Arc<str>,
    adopted: bool,
    tally: Tally,
}

impl Adoption {
    pub(super) fn new(paths: &Paths, instance: String, broker: Arc<Broker>) -> Self {
        let reported = |(path, names): (&String, &Vec<SecretName>)| Reported {
            path: path.clone(),
            names: names.clone(),
            told: None,
            at: None,
            reads: BTreeMap::new(),
        };
        Self { broker, instance, paths: paths.iter().map(reported).collect() }
    }

    /// Has everything told again: the operator may be another one.
    pub(super) fn start_over(&mut self) {
        for path in &mut self.paths {
            (path.told, path.at) = (None, None);
        }
    }

    /// Tells what changes, for ever. Cancel safe: what was not confirmed is told again.
    pub(super) async fn run(&mut self, mut operator: RotationFeedClient<Channel>) -> Infallible {
        let mut changes = self.broker.changes();
        let mut look = interval(INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let alive = self.broker.alive().into_iter();
            let alive: Alive = alive.map(|kept| (kept.name().clone(), kept)).collect();
            for path in &mut self.paths {
                if let Some(standing) = path.due(&alive) {
                    let request = path.request(&standing, &self.instance);
                    let report = timeout(REPORT_TIME, operator.report_adoption(request)).await;
                    let succeeded = matches!(report, Ok(Ok(_)));
                    tell(&self.broker, FeedNews::Reported(succeeded));
                    path.at = Some(Instant::now());
                    if succeeded {
                        path.told = Some(standing);
                        path.reads.clear();
                    }
                }
            }
            tokio::select! {
                _ = changes.changed() => sleep(GATHER).await,
                _ = look.tick() => {}
            }
        }
    }
}

impl Reported {
    /// What has to be told now.
    fn due(&mut self, alive: &Alive) -> Option<Standing> {
        let waited = self.at.map_or(Duration::MAX, |at| at.elapsed());
        if waited < INTERVAL {
            return None;
        }
        let kept: Vec<_> = self.names.iter().filter_map(|name| alive.get(name)).collect();
        let standing = standing(&kept)?;
        let has_changed = self.told.as_ref() != Some(&standing);
        if !has_changed && waited < READS_INTERVAL {
            return None;
        }
        for (who, count) in kept.iter().flat_map(|kept| kept.take_reads()) {
            *self.reads.entry(who.to_string()).or_default() += count;
        }
        if !has_changed && self.reads.is_empty() {
            self.at = Some(Instant::now());
            return None;
        }
        Some(standing)
    }

    fn request(&self, standing: &Standing, instance: &str) -> ReportAdoptionRequest {
        ReportAdoptionRequest {
            path: self.path.clone(),
            version: standing.version.to_string(),
            instance: instance.to_owned(),
            adopted: standing.adopted,
            refused: standing.tally.refused,
            worked: standing.tally.worked,
            reads: self.reads.clone().into_iter().collect(),
        }
    }
}

/// How far the readers of all secrets of one path are; `None` while none has a value.
fn standing(kept: &[&Arc<Kept>]) -> Option<Standing> {
    let each = kept.iter().filter_map(|kept| {
        let snapshot = kept.snapshot();
        let held = snapshot.live(kept.now())?;
        let version = Arc::clone(&held.version.0);
        Some(Standing {
            version,
            adopted: snapshot.view.adopted,
            tally: kept.tally(held.generation),
        })
    });
    each.reduce(|a, b| Standing {
        // While one of them is behind, the path is.
        adopted: a.adopted && b.adopted && a.version == b.version,
        tally: Tally {
            worked: a.tally.worked + b.tally.worked,
            refused: a.tally.refused + b.tally.refused,
        },
        version: a.version,
    })
}
