//! `run`: the operator at work until SIGTERM or SIGINT.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{cluster, compose::Composed};
use crate::{
    app::{
        StartError,
        doors::{self, Doors},
        stopped,
    },
    audit::AuditLog,
    config::{
        self,
        operator::{BreakGlassTerms, OperatorConfig},
    },
    domain::policy::Policy,
    rotation::{
        ports::Readers,
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
        let serving = http::serve(socket, readiness.clone());
        tasks.spawn(async move { match serving.await {} });
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
    cluster::warn_of_plain_text(&config);
    let has_cluster = config.kubernetes.is_some();
    let composed = Composed::new(config, |_| Arc::clone(&sidecars) as Arc<dyn Readers>)?;
    panics::install_hook(Arc::clone(&composed.around.metrics));
    if let Some(server) = composed.keeper.vault() {
        let vault = Arc::clone(&server.store);
        tasks.spawn(async move { vault.run().await });
    }
    let lock = composed.leadership(has_cluster)?;
    let waker = Arc::new(Waker::default());
    let (stopping, stop) = watch::channel(false);
    let engine = Arc::clone(&composed.engine);
    let relay = composed.keeper.relay();
    let service = Service::new(engine, Arc::clone(&lock), relay, Arc::clone(&waker), super::name);
    let (metrics, leads) = (Arc::clone(&composed.metrics), service.leading());
    tasks.spawn(async move { metrics.follow(leads).await });
    if let Some(cluster) = composed.cluster.clone() {
        let (engine, backups) = (Arc::clone(&composed.engine), Arc::clone(&composed.backups));
        let leads = service.leading();
        tasks.spawn(async move { cluster.attend(&engine, &backups, leads).await });
    }
    let signals = (stop, service.leading());
    let doors = match edge {
        Some(edge) => {
            Some(open(edge, &composed, sidecars, &waker, &readiness, signals, &mut tasks).await?)
        }
        None => None,
    };
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

/// Lets callers in.
async fn open(
    edge: Edge,
    composed: &Composed,
    sidecars: Arc<Sidecars>,
    waker: &Arc<Waker>,
    readiness: &Readiness,
    (stop, leading): (watch::Receiver<bool>, watch::Receiver<bool>),
    tasks: &mut JoinSet<()>,
) -> Result<Doors, StartError> {
    let glass = edge.glass.and_then(|terms| composed.keeper.break_glass(&terms));
    let operator = Operator::new(Parts {
        engine: Arc::clone(&composed.engine),
        sidecars,
        glass,
        policy: edge.policy,
        audit: edge.audit,
        waker: Arc::clone(waker),
        name: super::name,
        limits: edge.server.limits.clone(),
        patience: PATIENCE,
        stop,
        leading,
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
    Doors::open(edge.server, edge.tls, services, composed.keeper.vault(), &composed.around, tasks)
        .await
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
