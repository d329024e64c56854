//! `run`: the operator at work until SIGTERM or SIGINT.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{
    cluster::{self, Told},
    compose::Composed,
};
use crate::{
    app::{
        StartError,
        doors::{self, Doors},
        stopped,
    },
    audit::AuditLog,
    config::{
        self,
        operator::{BreakGlassTerms, KvPlace, OperatorConfig},
    },
    domain::policy::Policy,
    rotation::{
        ports::{BreakGlass, Leadership, Readers},
        service::{Service, TENURE, Waker},
    },
    server::{
        dispatch::Pages,
        operator::{FeedLimits, Operator, Parts, Services, Sidecars},
    },
    telemetry::{Logs, Readiness, http, panics},
};

/// The time for calls that use targets.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often conditions are looked at that nobody tells of.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What callers meet.
struct Edge {
    server: config::Server,
    tls: Option<config::Tls>,
    policy: Policy,
    glass: Option<BreakGlassTerms>,
    audit: Arc<AuditLog>,
}

pub(super) async fn run(mut config: OperatorConfig) -> Result<(), StartError> {
    let _logs = Logs::install(&config.telemetry)?;
    let (readiness, starting) = Readiness::starting();
    let mut tasks = JoinSet::new();
    if let Some(address) = config.telemetry.http {
        let socket = doors::tcp("telemetry.http", address).await?;
        let readiness = readiness.clone();
        tasks.spawn(async move {
            http::serve(socket, readiness).await;
        });
    }
    let clock = super::compose::clock();
    let audit = Arc::new(AuditLog::open(config.audit.clone(), Arc::clone(&clock))?);
    let sidecars = Sidecars::new(FeedLimits::default(), Arc::clone(&clock));
    let edge = config.server.take().map(|server| Edge {
        server,
        tls: config.tls.take(),
        policy: std::mem::take(&mut config.policy),
        glass: config.break_glass.take(),
        audit: Arc::clone(&audit),
    });
    let journal = config.journal.clone();
    cluster::warn_of_plain_text(&config);
    let has_cluster = config.kubernetes.is_some();
    let composed = Composed::new(config, Arc::clone(&sidecars) as Arc<dyn Readers>)?;
    panics::install_hook(Arc::clone(&composed.around.metrics));
    let vault = Arc::clone(&composed.vault.store);
    tasks.spawn(async move { vault.run().await });
    let lock = lead(&composed, &journal, has_cluster, &mut tasks)?;
    let waker = Arc::new(Waker::default());
    let (stopping, stop) = watch::channel(false);
    let doors = match edge {
        Some(edge) => {
            Some(open(edge, &composed, sidecars, &waker, &readiness, stop, &mut tasks).await?)
        }
        None => None,
    };
    let engine = Arc::clone(&composed.engine);
    let service = Service::new(engine, Arc::clone(&lock), waker, super::name);
    drop(starting);
    let address = doors.as_ref().and_then(Doors::address);
    let secrets = composed.engine.catalogue().len();
    tracing::info!(secrets, address = address.map(tracing::field::display), "serving");
    let stopped = stopped()?;
    tokio::select! {
        () = service.run() => {}
        () = look(&audit, &readiness) => {}
        () = stopped => {}
    }
    tracing::info!("stopping; what is under way goes on at the next start, or at another operator");
    stopping.send_replace(true);
    if let Some(mut doors) = doors {
        doors.close().await;
    }
    if !matches!(timeout(TENURE, lock.release()).await, Ok(Ok(()))) {
        tracing::warn!("the lead could not be left; it lapses by itself");
    }
    if let Err(error) = audit.flush() {
        tracing::error!(%error, "the last audit records are lost");
    }
    Ok(())
}

/// What decides which of several operators leads; what only the leader does is started.
fn lead(
    composed: &Composed,
    journal: &KvPlace,
    has_cluster: bool,
    tasks: &mut JoinSet<()>,
) -> Result<Arc<dyn Leadership>, StartError> {
    let by_vault = || {
        let lock = composed.vault.store.lock(&journal.mount, &journal.path, composed.actor.clone());
        Arc::new(lock) as Arc<dyn Leadership>
    };
    let Some(cluster) = composed.cluster.clone() else {
        return if has_cluster { Err(StartError::NoCluster) } else { Ok(by_vault()) };
    };
    let told = Told::new(cluster.leadership().unwrap_or_else(by_vault));
    let leads = told.leads();
    let (engine, backups) = (Arc::clone(&composed.engine), Arc::clone(&composed.backups));
    tasks.spawn(async move { cluster.attend(&engine, &backups, leads).await });
    Ok(Arc::new(told))
}

/// Lets callers in.
async fn open(
    edge: Edge,
    composed: &Composed,
    sidecars: Arc<Sidecars>,
    waker: &Arc<Waker>,
    readiness: &Readiness,
    stop: watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) -> Result<Doors, StartError> {
    let vault = &composed.vault;
    let glass = edge.glass.map(|terms| vault.store.break_glass(terms.token_role.as_deref()));
    let operator = Operator::new(Parts {
        engine: Arc::clone(&composed.engine),
        sidecars,
        glass: glass.map(|glass| Arc::new(glass) as Arc<dyn BreakGlass>),
        policy: edge.policy,
        audit: edge.audit,
        waker: Arc::clone(waker),
        name: super::name,
        limits: edge.server.limits.clone(),
        patience: PATIENCE,
        stop,
    });
    let health = HealthReporter::new();
    health.set_service_status("", ServingStatus::Serving).await;
    let around = composed.around.clone();
    let readiness = readiness.clone();
    let pages: Pages = Arc::new(move |path| {
        if path == "/readyz" {
            return http::ready_page(&readiness, true);
        }
        http::metrics_page(around.metrics.render(around.clock.wall(), std::iter::empty()))
    });
    let observer = Arc::clone(&composed.around.metrics) as _;
    let services = Services::new(operator, health, edge.server.reflection, pages, observer)?;
    Doors::open(edge.server, edge.tls, services, Some(vault), &composed.around, tasks).await
}

/// Looks at what nobody tells of.
async fn look(audit: &AuditLog, readiness: &Readiness) {
    let condition = readiness.condition("the audit log can't be written");
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        match audit.flush() {
            Ok(()) => condition.holds(),
            Err(error) => {
                tracing::error!(%error, "calls are refused");
                condition.fails("");
            }
        }
    }
}
