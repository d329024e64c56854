//! The task that follows the operator, made anew when what it follows changes.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::stores::Surroundings;
use crate::{
    broker::Broker,
    config::{self, Config, Deployment, OperatorFeed, SecretOrigin},
    domain::time::Jitter,
    feed::{Feed, Paths},
    random,
};

/// What tells the jitter of the way to the operator from that of other things.
const SEED: u64 = 0x6f70_6572_6174_6f72;

/// What a configuration says of the operator.
#[derive(Clone, PartialEq)]
pub(super) struct Plan {
    operator: Option<OperatorFeed>,
    deployment: Deployment,
    paths: Paths,
}

impl Plan {
    pub(super) fn of(config: &Config) -> Self {
        let mut paths = Paths::new();
        for (name, secret) in &config.secrets {
            if let SecretOrigin::Vault(place) = &secret.origin {
                paths.entry(place.api_path()).or_default().push(name.clone());
            }
        }
        let (operator, deployment) = (config.operator.clone(), config.deployment.clone());
        Self { operator, deployment, paths }
    }
}

/// Follows the operator as long as it lives.
pub(super) struct Following {
    plan: Plan,
    instance: String,
    seed: u64,
    task: JoinSet<()>,
}

impl Following {
    pub(super) fn start(plan: Plan, broker: &Arc<Broker>, around: &Surroundings) -> Self {
        let (instance, seed) = (instance(), around.seed ^ SEED);
        let mut following = Self { plan, instance, seed, task: JoinSet::new() };
        following.spawn(broker);
        following
    }

    /// Follows another plan from now on, if it is another one.
    pub(super) fn follow(&mut self, plan: Plan, broker: &Arc<Broker>) {
        if plan != self.plan {
            self.plan = plan;
            self.task = JoinSet::new();
            self.spawn(broker);
        }
    }

    fn spawn(&mut self, broker: &Arc<Broker>) {
        let Plan { operator, deployment, paths } = self.plan.clone();
        let Some(operator) = operator else { return };
        let (instance, jitter) = (self.instance.clone(), Jitter::seeded(self.seed));
        let feed = Feed::new(operator, deployment, paths, instance, Arc::clone(broker), jitter);
        self.task.spawn(feed.run());
    }
}

/// The pod's name, which its runtime sets as the host's, and a part that differs at each start.
fn instance() -> String {
    let host = config::environment("HOSTNAME").filter(|name| !name.is_empty());
    let mut mark = [0; 4];
    // Without randomness two starts look like one, which is told apart by nothing else.
    let _ = random::fill(&mut mark);
    let host = host.unwrap_or_else(|| "secret-broker".to_owned());
    format!("{host}-{:08x}", u32::from_ne_bytes(mark))
}
