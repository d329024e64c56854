//! What of the operator lies in Kubernetes: its lead, its events and status, its Secrets.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    broker::ports::Clock,
    config::{
        self,
        operator::{
            OperatorConfig,
            kubernetes::{Kubernetes, SecretPlace},
        },
    },
    domain::{fault::Fault, secret::SecretName},
    kube::{
        Cluster,
        backup::SecretCopy,
        events::{About, Events, WithEvents},
        lease::LeaseLock,
        secrets::SecretVersions,
        status::StatusWriter,
    },
    rotation::{
        backup::{Backups, Copies},
        engine::{Engine, Written},
        ports::{Alerts, Leadership, Versions},
    },
};

/// What nobody tells of is seen after this time, when all secrets are looked at.
const LOOK_INTERVAL: Duration = Duration::from_mins(1);
/// Changes are gathered for so long, and for each secret that was looked at before.
const GATHER: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(20));

/// The operator's side of a cluster.
pub(super) struct InCluster {
    cluster: Cluster,
    settings: Kubernetes,
    events: Option<Arc<Events>>,
    instance: String,
    clock: Arc<dyn Clock>,
}

impl InCluster {
    /// The cluster of a configuration. `actor` differs for each process.
    pub(super) fn connect(
        settings: Kubernetes,
        actor: &str,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Fault> {
        let cluster = Cluster::connect(&settings)?;
        // In a pod this is the pod's name.
        let host = config::environment("HOSTNAME");
        let instance = host.map_or(actor.to_owned(), |host| format!("{host}_{actor}"));
        let about = settings.deployment.clone().map(About::Deployment);
        let about = about.or_else(|| settings.status.clone().map(About::ConfigMap));
        let events = about.map(|about| {
            let (instance, clock) = (instance.clone(), Arc::clone(clock));
            Arc::new(Events::new(cluster.clone(), about, instance, clock))
        });
        Ok(Self { cluster, settings, events, instance, clock: Arc::clone(clock) })
    }

    pub(super) fn versions(&self, place: SecretPlace) -> Arc<dyn Versions> {
        Arc::new(SecretVersions::new(self.cluster.clone(), place))
    }

    pub(super) fn backups(&self, places: BTreeMap<SecretName, SecretPlace>) -> Backups {
        let copy =
            |place| Arc::new(SecretCopy::new(self.cluster.clone(), place)) as Arc<dyn Copies>;
        Backups::new(places.into_iter().map(|(name, place)| (name, copy(place))).collect())
    }

    /// Whom alerts reach, and events of them.
    pub(super) fn alerts(&self, people: Arc<dyn Alerts>) -> Arc<dyn Alerts> {
        match &self.events {
            Some(events) => Arc::new(WithEvents::new(people, Arc::clone(events))),
            None => people,
        }
    }

    /// The lead by a Lease, if that is wanted.
    pub(super) fn leadership(&self) -> Option<Arc<dyn Leadership>> {
        let name = self.settings.lease.clone()?;
        let (cluster, holder) = (self.cluster.clone(), self.instance.clone());
        Some(Arc::new(LeaseLock::new(cluster, name, holder, Arc::clone(&self.clock))))
    }

    /// Keeps status and backups as long as this operator leads.
    pub(super) async fn attend(
        &self,
        engine: &Engine,
        backups: &Backups,
        mut leads: watch::Receiver<bool>,
    ) {
        let (cluster, events) = (self.cluster.clone(), self.events.clone());
        let status = StatusWriter::new(cluster, self.settings.status.clone(), events);
        while leads.wait_for(|leads| *leads).await.is_ok() {
            tokio::select! {
                () = self.lead(engine, backups, &status) => {}
                _ = leads.wait_for(|leads| !*leads) => {}
            }
        }
    }

    async fn lead(&self, engine: &Engine, backups: &Backups, status: &StatusWriter) {
        let mut changes = engine.changes();
        let mut seen = Written::new();
        let (mut looked, mut compared) = (None, None);
        let interval = LOOK_INTERVAL.min(self.settings.compare_interval);
        loop {
            let now = changes.borrow_and_update().clone();
            let whole = is_due(&mut looked, interval);
            let with_copies = whole && is_due(&mut compared, self.settings.compare_interval);
            let secrets = if whole {
                engine.catalogue().keys().cloned().collect()
            } else {
                changed(&seen, &now)
            };
            backups.follow(engine, &secrets, with_copies).await;
            match status.write(engine, &secrets).await {
                Ok(()) => seen = now,
                // With the next change, or the next look at all.
                Err(fault) => tracing::warn!(%fault, "the status can't be written"),
            }
            let looked_at = u32::try_from(secrets.len()).unwrap_or(u32::MAX);
            let gather = GATHER.0 + GATHER.1.saturating_mul(looked_at);
            let next = looked.map_or_else(Instant::now, |at| at + interval);
            tokio::select! {
                // The engine outlives this.
                Ok(()) = changes.changed() => {}
                () = sleep_until(next) => {}
            }
            sleep(gather).await;
        }
    }
}

/// Whether something is due that was done at this time; it is done now then.
fn is_due(last: &mut Option<Instant>, interval: Duration) -> bool {
    let due = last.is_none_or(|at| at.elapsed() >= interval);
    if due {
        *last = Some(Instant::now());
    }
    due
}

/// The secrets of which something was written down since.
fn changed(seen: &Written, now: &Written) -> BTreeSet<SecretName> {
    let is_new = |(secret, count): &(&SecretName, &u64)| seen.get(*secret) != Some(*count);
    now.iter().filter(is_new).map(|(secret, _)| secret.clone()).collect()
}

/// Says loudly what a configuration leaves open about values in etcd.
pub(super) fn warn_of_plain_text(config: &OperatorConfig) {
    let Some(kubernetes) = &config.kubernetes else { return };
    let lies_there =
        |secret: &config::operator::Rotated| secret.kubernetes.is_some() || secret.backup.is_some();
    let secrets = config.secrets.values().filter(|secret| lies_there(secret)).count();
    if secrets > 0 && !kubernetes.encrypted_at_rest {
        tracing::warn!(
            secrets,
            "values are put into Secrets of Kubernetes, which lie in etcd as plain text unless the API server encrypts them (--encryption-provider-config); where it does, say so by kubernetes.encrypted_at_rest = true"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_down_since_is_looked_at() {
        let changes = |pairs: &[(&str, u64)]| -> Written {
            pairs.iter().map(|(name, count)| (name.parse().unwrap(), *count)).collect()
        };
        let seen = changes(&[("A", 1), ("B", 4)]);
        let now = changes(&[("A", 1), ("B", 5), ("C", 1)]);
        let names: Vec<_> = changed(&seen, &now).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["B", "C"]);
        assert!(changed(&now, &now).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_whole_is_due_at_once_and_then_at_its_interval() {
        let (mut last, interval) = (None, Duration::from_mins(1));
        assert!(is_due(&mut last, interval));
        assert!(!is_due(&mut last, interval));
        tokio::time::advance(interval).await;
        assert!(is_due(&mut last, interval));
    }
}
