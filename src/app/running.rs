//! A broker from its start to its end: built, supervised, reloaded, drained.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval, timeout},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{
    StartError, certificates,
    clock::SystemClock,
    saving::{self, Left, Saving},
    stores::{self, Server, Surroundings},
};
use crate::{
    audit::AuditLog,
    broker::{Broker, Kept, ports::Clock, service::Catalogue},
    config::{Checked, Config, UnixSocket, Vault, reload::ConfigSource},
    server::{dispatch::Services, edge::Edge, listener::Listener},
    store::VersionKey,
    telemetry::{
        Condition, Logs, Metrics, Readiness, SecretReading,
        events::{CertificateLoaded, ConfigLoaded, ConfigRefused},
        http, panics,
    },
    tls::LiveTls,
};

/// The name under which the health service tells readiness; the empty name tells liveness.
const READINESS: &str = "secretbroker.v1.SecretBroker";
/// How often conditions are looked at that nobody tells of.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time for revoking leases and the token at the end.
const REVOKE_TIME: Duration = Duration::from_secs(10);

/// A broker that serves.
pub struct Running {
    broker: Arc<Broker>,
    edge: Arc<Edge>,
    audit: Arc<AuditLog>,
    around: Surroundings,
    logs: Option<Logs>,
    readiness: Readiness,
    /// Shared with whoever saves the state.
    vault: Arc<ArcSwapOption<Server>>,
    saving: Option<Saving>,
    revoke_on_exit: bool,
    vaults: u64,
    tls: Option<Arc<LiveTls>>,
    address: Option<SocketAddr>,
    drain: Duration,
    shutdown: watch::Sender<bool>,
    listeners: JoinSet<()>,
    keepers: JoinHandle<()>,
    tasks: JoinSet<()>,
    conditions: Conditions,
}

/// What may go wrong and come right again.
struct Conditions {
    audit: Condition,
    certificate: Condition,
    startup: watch::Receiver<bool>,
}

impl Running {
    /// Builds everything that a configuration describes, and serves.
    ///
    /// # Errors
    /// What can't be had; nothing is left running then.
    pub async fn start(checked: Checked) -> Result<Self, StartError> {
        let Checked { config, warnings } = checked;
        let logs = Logs::install(&config.telemetry)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::new());
        panics::install_hook(Arc::clone(&metrics));
        ConfigLoaded { secrets: config.secrets.len(), warnings: &warnings }.record(&metrics);
        let seed = u64::try_from(clock.wall().as_nanosecond() & i128::from(u64::MAX)).unwrap_or(1);
        let (file, left) = match &config.state {
            Some(settings) => {
                let (file, left) = saving::open(settings, &clock).await?;
                (Some(file), left)
            }
            None => (None, Left::default()),
        };
        let versions = match left.version_key {
            Some(key) => key,
            None => VersionKey::generate().map_err(StartError::Randomness)?,
        };
        let versions = Arc::new(versions);
        let around = Surroundings {
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            versions: Arc::clone(&versions),
            seed,
        };
        let saving = file.map(|file| Saving::new(file, Arc::clone(&clock), versions));
        let (readiness, starting) = Readiness::starting();

        let revoke_on_exit = config.vault.as_ref().is_none_or(|vault| vault.revoke_on_exit);
        let vault = connect(config.vault, &around, 0)?;
        if let (Some(vault), Some(session)) = (&vault, &left.session)
            && let Err(fault) = vault.store.import_session(&session.content)
        {
            tracing::warn!(%fault, "the saved session is not used");
        }
        let mut tasks = JoinSet::new();
        keep_session(&mut tasks, vault.as_ref());
        let capacity = u64::try_from(config.secrets.len().max(1)).unwrap_or(u64::MAX);
        let capacity = capacity.saturating_mul(4).max(1024);
        let (broker, keepers) =
            Broker::new(Arc::clone(&clock), Arc::clone(&metrics) as _, capacity, seed);
        let keepers = tokio::spawn(keepers.run());
        let catalogue = stores::catalogue(config.secrets, vault.as_ref(), &around);
        let prefetched = prefetched(&catalogue);
        broker.load(catalogue, left.secrets).await;
        let vault = Arc::new(ArcSwapOption::from(vault.map(Arc::new)));
        if let Some(saving) = saving.clone() {
            let vault = Arc::clone(&vault);
            let in_use = move || vault.load().as_ref().map(|vault| Arc::clone(&vault.store));
            tasks.spawn(saving.run(Arc::clone(&broker), in_use));
        }

        let audit = Arc::new(AuditLog::open(config.audit, Arc::clone(&clock))?);
        let limits = config.server.limits;
        let edge =
            Edge::new(Arc::clone(&broker), config.policy, Arc::clone(&audit), limits.clone());
        let edge = Arc::new(edge);
        let health = HealthReporter::new();
        let services = Services::new(
            Arc::clone(&edge),
            health.clone(),
            config.server.reflection,
            metrics_page(&around, &broker),
        )?;
        let (shutdown, stop) = watch::channel(false);
        let listener = Listener::new(
            services,
            limits,
            config.server.drain,
            Arc::clone(&clock),
            Arc::clone(&metrics) as _,
            stop,
        );
        let mut listeners = JoinSet::new();
        let mut tls = None;
        let mut address = None;
        if let (Some(listen), Some(settings)) = (config.server.listen, config.tls) {
            let (live, keep) =
                certificates::keep(settings, vault.load().as_deref(), Arc::clone(&clock), seed)
                    .await?;
            tasks.spawn(keep);
            tasks.spawn(tell_certificates(Arc::clone(&live), Arc::clone(&metrics)));
            let socket = TcpListener::bind(listen).await.map_err(|source| StartError::Listen {
                setting: "server.listen",
                address: listen.to_string(),
                source,
            })?;
            address = socket.local_addr().ok();
            listeners.spawn(Arc::clone(&listener).serve_tls(socket, Arc::clone(&live)));
            tls = Some(live);
        }
        if let Some(settings) = config.server.socket {
            let socket = unix_socket(&settings).await.map_err(|source| StartError::Listen {
                setting: "server.socket",
                address: settings.path.display().to_string(),
                source,
            })?;
            listeners.spawn(async move {
                listener.serve_unix(socket).await;
                // A socket that nobody listens on tells its peers at once that it is gone.
                let _ = fs::remove_file(&settings.path);
            });
        }
        if let Some(address) = config.telemetry.http {
            let socket = TcpListener::bind(address).await.map_err(|source| StartError::Listen {
                setting: "telemetry.http",
                address: address.to_string(),
                source,
            })?;
            let readiness = readiness.clone();
            tasks.spawn(async move {
                http::serve(socket, readiness).await;
            });
        }
        tasks.spawn(tell_health(readiness.clone(), health));
        let startup = wait_for_secrets(&mut tasks, &broker, &readiness, prefetched);
        drop(starting);
        let conditions = Conditions {
            audit: readiness.condition("the audit log can't be written"),
            certificate: readiness.condition("the server's certificate has ended"),
            startup,
        };
        tracing::info!(address = address.map(tracing::field::display), "serving");
        Ok(Self {
            broker,
            edge,
            audit,
            around,
            logs,
            readiness,
            vault,
            saving,
            revoke_on_exit,
            vaults: 0,
            tls,
            address,
            drain: config.server.drain,
            shutdown,
            listeners,
            keepers,
            tasks,
            conditions,
        })
    }

    /// The TCP address that is served.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Serves until `stop` resolves, following changes of the configuration; then drains.
    pub async fn serve(mut self, source: &mut ConfigSource, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stop => break,
                (_, read) = source.next() => match read {
                    Ok(checked) => self.reload(checked).await,
                    Err(mistakes) => ConfigRefused { mistakes: &mistakes }.record(&self.around.metrics),
                },
                _ = look.tick() => self.look(),
            }
        }
        self.drain().await;
    }

    /// Takes over a new configuration without dropping a connection. What needs a new listener
    /// waits for a restart, and the log says so.
    async fn reload(&mut self, checked: Checked) {
        let Checked { config, warnings } = checked;
        let Config { vault, secrets, policy, audit, telemetry, .. } = config;
        if let Some(logs) = &self.logs
            && let Err(error) = logs.filter(&telemetry.log_filter)
        {
            tracing::error!(%error, "telemetry.log_filter stays as it was");
        }
        if let Err(error) = self.audit.reopen(audit) {
            tracing::error!(%error, "the audit log stays as it was");
        }
        self.vaults += 1;
        self.revoke_on_exit = vault.as_ref().is_none_or(|vault| vault.revoke_on_exit);
        match connect(vault, &self.around, self.vaults) {
            Ok(vault) => {
                keep_session(&mut self.tasks, vault.as_ref());
                self.vault.store(vault.map(Arc::new));
            }
            Err(error) => tracing::error!(%error, "the connection to Vault stays as it was"),
        }
        let count = secrets.len();
        let catalogue = stores::catalogue(secrets, self.vault.load().as_deref(), &self.around);
        self.edge.enforce(policy);
        self.broker.load(catalogue, Default::default()).await;
        ConfigLoaded { secrets: count, warnings: &warnings }.record(&self.around.metrics);
    }

    /// Looks at what nobody tells of.
    fn look(&self) {
        let Conditions { audit, certificate, startup } = &self.conditions;
        if self.audit.is_failing() {
            audit.fails("")
        } else {
            audit.holds()
        }
        let now = self.around.clock.wall();
        let ended = self.tls.as_ref().is_some_and(|tls| tls.not_after() <= now);
        if ended {
            certificate.fails("")
        } else {
            certificate.holds()
        }
        if let Some(reason) = self.vault.load().as_ref().and_then(|vault| vault.store.outage()) {
            tracing::debug!(
                reason = reason.name(),
                started = *startup.borrow(),
                "Vault can't be used"
            );
        }
    }

    async fn drain(mut self) {
        tracing::info!("stopping");
        let _stopping = self.readiness.block("stopping", "");
        self.broker.end_watches();
        self.shutdown.send_replace(true);
        while self.listeners.join_next().await.is_some() {}
        let vault = self.vault.load_full();
        if let Some(saving) = &self.saving
            && let Err(error) = saving.save(&self.broker, vault.as_ref().map(|v| &*v.store)).await
        {
            tracing::error!(%error, "the state could not be saved; the one before stands");
        }
        self.broker.stop(self.revoke_on_exit).await;
        let revoke = async {
            let _ = self.keepers.await;
            if let Some(vault) = vault.filter(|_| self.revoke_on_exit)
                && let Err(fault) = vault.store.close().await
            {
                tracing::warn!(%fault, "the token could not be revoked; it ends by itself");
            }
        };
        if timeout(REVOKE_TIME.max(self.drain), revoke).await.is_err() {
            tracing::warn!("not all leases could be revoked in time; they end by themselves");
        }
        tracing::info!("stopped");
    }
}

fn connect(
    vault: Option<Vault>,
    around: &Surroundings,
    mark: u64,
) -> Result<Option<Server>, StartError> {
    Ok(vault.map(|vault| Server::connect(vault, around, mark)).transpose()?)
}

fn keep_session(tasks: &mut JoinSet<()>, vault: Option<&Server>) {
    if let Some(vault) = vault {
        let store = Arc::clone(&vault.store);
        tasks.spawn(async move { store.run().await });
    }
}

fn prefetched(catalogue: &Catalogue) -> Vec<String> {
    let prefetched = catalogue.iter().filter(|(_, entry)| entry.terms.prefetch);
    prefetched.map(|(name, _)| name.as_str().to_owned()).collect()
}

/// Blocks start-up for each secret until its first value is there. The receiver turns true when
/// all are.
fn wait_for_secrets(
    tasks: &mut JoinSet<()>,
    broker: &Arc<Broker>,
    readiness: &Readiness,
    names: Vec<String>,
) -> watch::Receiver<bool> {
    let (here, all_here) = watch::channel(false);
    let mut waiting = JoinSet::new();
    for name in names {
        let blocker = readiness.block_startup("a secret was not fetched yet", name.clone());
        let broker = Arc::clone(broker);
        waiting.spawn(async move {
            if let Some(kept) = broker.secret(&name).await {
                first_value(&kept).await;
            }
            drop(blocker);
        });
    }
    tasks.spawn(async move {
        while waiting.join_next().await.is_some() {}
        here.send_replace(true);
    });
    all_here
}

async fn first_value(kept: &Kept) {
    let mut changes = kept.changes();
    while kept.snapshot().live(kept.now()).is_none() && !kept.is_withdrawn() {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn metrics_page(
    around: &Surroundings,
    broker: &Arc<Broker>,
) -> Arc<dyn Fn() -> String + Send + Sync> {
    let (around, broker) = (around.clone(), Arc::clone(broker));
    Arc::new(move || {
        let now = broker.clock().now();
        let alive = broker.alive();
        let readings = alive
            .iter()
            .map(|kept| SecretReading::of(kept.name().clone(), &kept.snapshot().view, now));
        around.metrics.render(around.clock.wall(), readings)
    })
}

async fn tell_health(readiness: Readiness, health: HealthReporter) {
    health.set_service_status("", ServingStatus::Serving).await;
    let mut ready = readiness.subscribe();
    loop {
        let status = if *ready.borrow_and_update() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        health.set_service_status(READINESS, status).await;
        if ready.changed().await.is_err() {
            return;
        }
    }
}

async fn tell_certificates(tls: Arc<LiveTls>, metrics: Arc<Metrics>) {
    let mut changes = tls.changes();
    loop {
        CertificateLoaded { role: "server", not_after: tls.not_after() }.record(&metrics);
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Listens on a Unix socket. One that was left behind by a run that is gone is replaced; one that
/// somebody listens on is not.
async fn unix_socket(settings: &UnixSocket) -> io::Result<UnixListener> {
    let UnixSocket { path, mode } = settings;
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        if UnixStream::connect(path).await.is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        fs::remove_file(path)?;
    }
    let socket = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(*mode))?;
    Ok(socket)
}
