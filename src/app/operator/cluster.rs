//! What of the operator lies in Kubernetes: its lead, its events and status, its Secrets.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
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
        engine::Engine,
        ports::{Alerts, Leadership, Versions},
    },
};

/// What nobody tells of is seen after this time.
const LOOK_INTERVAL: Duration = Duration::from_mins(1);
/// Changes are gathered for so long, and for each secret that is looked at then.
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
        let secrets = u32::try_from(engine.catalogue().len()).unwrap_or(u32::MAX);
        let gather = GATHER.0 + GATHER.1.saturating_mul(secrets);
        let mut changes = engine.changes();
        let mut compared: Option<Instant> = None;
        loop {
            changes.mark_unchanged();
            let due = compared.is_none_or(|at| at.elapsed() >= self.settings.compare_interval);
            if due {
                compared = Some(Instant::now());
            }
            backups.follow(engine, due).await;
            if let Err(fault) = status.write(engine).await {
                tracing::warn!(%fault, "the status can't be written");
            }
            let look = (LOOK_INTERVAL + gather).min(self.settings.compare_interval);
            tokio::select! {
                // The engine outlives this.
                Ok(()) = changes.changed() => {}
                () = sleep(look) => {}
            }
            sleep(gather).await;
        }
    }
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

/// Tells others whether this operator leads.
pub(super) struct Told {
    lead: Arc<dyn Leadership>,
    leads: watch::Sender<bool>,
}

impl Told {
    pub(super) fn new(lead: Arc<dyn Leadership>) -> Self {
        Self { lead, leads: watch::Sender::new(false) }
    }

    pub(super) fn leads(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }
}

#[async_trait]
impl Leadership for Told {
    async fn hold(&self, tenure: Duration) -> Result<bool, Fault> {
        let held = self.lead.hold(tenure).await;
        self.leads.send_if_modified(|leads| {
            std::mem::replace(leads, held == Ok(true)) != (held == Ok(true))
        });
        held
    }

    async fn release(&self) -> Result<(), Fault> {
        self.leads.send_replace(false);
        self.lead.release().await
    }
}
