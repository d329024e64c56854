//! `inject`: the admission webhook until SIGTERM or SIGINT.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use arc_swap::ArcSwap;
use tokio::{sync::watch, task::JoinSet};

use super::{ANOTHER_FILE, read};
use crate::{
    app::{StartError, clock::SystemClock, complain, doors, stopped},
    broker::ports::Clock,
    cli::failure,
    config::{
        self, Mistake, Mistakes,
        inject::{InjectConfig, Kept},
    },
    domain::fault::{Fault, Reason},
    files::FileWatch,
    inject::{
        self, Namespaces,
        certificate::{Certificates, Keeper, Registrations, Terms},
        directory::Directory,
        edge::Edge,
        metrics::Metrics,
        review::Admission,
    },
    kube::{
        Cluster,
        webhook::{NamespaceAnnotations, SecretCertificate, WebhookConfigurations},
    },
    telemetry::{Logs, Readiness, http},
};

/// What the webhook needs of the API server.
struct Ports {
    certificates: Arc<dyn Certificates>,
    registrations: Arc<dyn Registrations>,
    namespaces: Arc<dyn Namespaces>,
}

pub(super) async fn run(path: &Path) -> Result<(), StartError> {
    let (config, warnings) = load(path)?;
    let _logs = Logs::install(&config.telemetry)?;
    for warning in &warnings {
        tracing::warn!(%warning, "configuration");
    }
    let (readiness, starting) = Readiness::starting();
    let metrics = Arc::new(Metrics::new());
    let mut tasks = JoinSet::new();
    if let Some(address) = config.telemetry.http {
        let socket = doors::tcp("telemetry.http", address).await?;
        let (readiness, metrics) = (readiness.clone(), Arc::clone(&metrics));
        tasks.spawn(async move {
            http::serve_with(socket, readiness, move || Some(metrics.page())).await;
        });
    }
    let webhook = config.webhook.clone();
    let ports = ports(&config)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let terms = Terms { names: webhook.names.clone(), ttl: webhook.ttl };
    let mut keeper =
        Keeper::new(ports.certificates, ports.registrations, terms, clock, Arc::clone(&metrics));
    let live = Arc::new(keeper.first().await.map_err(StartError::Operator)?);
    let kept = Arc::clone(&live);
    tasks.spawn(async move { keeper.run(&kept).await });
    let config = Arc::new(ArcSwap::from_pointee(config));
    tasks.spawn(follow(path.to_owned(), Arc::clone(&config)));
    let socket = doors::tcp("webhook.listen", webhook.listen).await?;
    let address = socket.local_addr()?;
    let admission = Admission::new(config, ports.namespaces, metrics);
    let (stopping, stop) = watch::channel(false);
    let edge = Edge::new(admission, live, webhook.limits);
    let mut serving = std::pin::pin!(edge.serve(socket, stop));
    drop(starting);
    tracing::info!(%address, namespace = webhook.namespace, "serving");
    let stopped = stopped()?;
    tokio::select! {
        () = &mut serving => {}
        () = stopped => {}
    }
    tracing::info!("stopping");
    let _stopping = readiness.block("stopping", "");
    stopping.send_replace(true);
    serving.await;
    Ok(())
}

fn ports(config: &InjectConfig) -> Result<Ports, StartError> {
    let cluster = config.kubernetes.as_ref().map(Cluster::connect).transpose();
    let cluster = cluster.map_err(StartError::Operator)?;
    let webhook = &config.webhook;
    let certificates: Arc<dyn Certificates> = match (&webhook.kept, &cluster) {
        (Kept::Secret(name), Some(cluster)) => {
            Arc::new(SecretCertificate::new(cluster.clone(), name.clone()))
        }
        (Kept::Directory(path), _) => Arc::new(Directory::new(path.clone())),
        (Kept::Secret(_), None) => {
            let detail = "webhook.certificate.secret needs [kubernetes]";
            return Err(StartError::Operator(Fault::new(Reason::Invalid, detail)));
        }
    };
    let Some(cluster) = cluster else {
        return Ok(Ports { certificates, registrations: Arc::new(()), namespaces: Arc::new(()) });
    };
    let (mutating, validating) = (webhook.mutating.as_deref(), webhook.validating.as_deref());
    let registrations = WebhookConfigurations::new(cluster.clone(), mutating, validating);
    let namespaces = Arc::new(NamespaceAnnotations::new(cluster));
    Ok(Ports { certificates, registrations: Arc::new(registrations), namespaces })
}

/// Takes over each new configuration, its `[webhook]` aside, which waits for a restart.
async fn follow(path: std::path::PathBuf, config: Arc<ArcSwap<InjectConfig>>) {
    let watch = FileWatch::new([path.clone()]);
    loop {
        watch.changed().await;
        match load(&path) {
            Ok((fresh, warnings)) => {
                for warning in &warnings {
                    tracing::warn!(%warning, "configuration");
                }
                let InjectConfig { webhook, .. } = &**config.load();
                let fresh = InjectConfig { webhook: webhook.clone(), ..fresh };
                tracing::info!(
                    secrets = fresh.secrets.len(),
                    grants = fresh.grants.len(),
                    "configuration loaded"
                );
                config.store(Arc::new(fresh));
            }
            Err(error) => tracing::error!(%error, "the configuration stays as it was"),
        }
    }
}

/// Checks the file and tells what it holds, or all its mistakes.
pub(super) fn check(path: &Path) -> ExitCode {
    match load(path) {
        Ok((config, warnings)) => {
            for warning in warnings {
                complain(&warning, failure::OK);
            }
            let InjectConfig { secrets, grants, .. } = &config;
            let (secrets, grants) = (secrets.len(), grants.len());
            let said =
                writeln!(io::stdout(), "{}: {secrets} secrets; {grants} grants", path.display());
            if said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => complain(&error, failure::USAGE),
    }
}

fn load(path: &Path) -> Result<(InjectConfig, Vec<Mistake>), StartError> {
    let text = read(path, ANOTHER_FILE)?;
    let environment = |name: &str| config::environment(name);
    let origin = path.display().to_string();
    let (config, warnings) =
        InjectConfig::parse(&text, &origin, &environment).map_err(StartError::Configuration)?;
    // What any pod would be refused for is a mistake of this file.
    inject::pod::sample(&config)
        .map_err(|all| StartError::Configuration(Mistakes { origin, all }))?;
    Ok((config, warnings))
}
