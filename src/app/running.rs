//! A broker from its start to its end: built, supervised, reloaded, drained.

mod drain;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{
    StartError,
    clock::SystemClock,
    doors::{self, Doors},
    feed::{Following, Plan},
    rendering,
    saving::{self, Left, Saving},
    stores::{self, Server, Surroundings},
};
use crate::{
    audit::AuditLog,
    broker::{Broker, Kept, ports::Clock, service::Catalogue, state::SavedSession},
    cli::{failure, render::spec::Template},
    config::{self, Checked, Config, Vault, reload::ConfigSource},
    server::{
        dispatch::{Pages, Services},
        edge::Edge,
    },
    store::VersionKey,
    telemetry::{
        Condition, Logs, Metrics, Readiness, SecretReading,
        events::{ConfigLoaded, ConfigRefused},
        http, panics,
    },
};

/// The name under which the health service tells readiness; the empty name tells liveness.
const READINESS: &str = "secretbroker.v1.SecretBroker";
/// How often conditions are looked at that nobody tells of.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

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
    /// What saves the state, and the task that does so at each change.
    saving: Option<(Saving, AbortHandle)>,
    revoke_on_exit: bool,
    vaults: u64,
    fixed: Fixed,
    doors: Doors,
    keepers: JoinHandle<bool>,
    following: Following,
    tasks: JoinSet<()>,
    conditions: Conditions,
}

/// What a configuration settles until the next start.
#[derive(PartialEq)]
struct Fixed {
    server: config::Server,
    tls: Option<config::Tls>,
    state: Option<PathBuf>,
    http: Option<SocketAddr>,
}

impl Fixed {
    fn of(config: &Config) -> Self {
        Self {
            server: config.server.clone(),
            tls: config.tls.clone(),
            state: config.state.as_ref().map(|state| state.path.clone()),
            http: config.telemetry.http,
        }
    }

    /// Renders templates for as long as the broker serves; start-up waits for the first round.
    fn render(
        &self,
        templates: Vec<Template>,
        address: Option<SocketAddr>,
        readiness: &Readiness,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), StartError> {
        if !templates.is_empty() {
            let client = rendering::client(&self.server, self.tls.as_ref(), address)?;
            let blocker = readiness.block_startup("a template was not rendered yet", "");
            tasks.spawn(rendering::keep(client, templates, blocker));
        }
        Ok(())
    }

    /// The sections in which `other` differs.
    fn differences(&self, other: &Self) -> Vec<&'static str> {
        let sections = [
            ("server", self.server == other.server),
            ("tls", self.tls == other.tls),
            ("state", self.state == other.state),
            ("telemetry.http", self.http == other.http),
        ];
        sections.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }
}

/// What may go wrong and come right again.
struct Conditions {
    audit: Condition,
    certificate: Condition,
    secrets: Condition,
    startup: watch::Receiver<bool>,
}

impl Conditions {
    fn of(readiness: &Readiness, startup: watch::Receiver<bool>) -> Self {
        Self {
            audit: readiness.condition("the audit log can't be written"),
            certificate: readiness.condition("the server's certificate has ended"),
            secrets: readiness.condition("a secret has ended and no other could be fetched"),
            startup,
        }
    }
}

impl Running {
    /// Builds everything that a configuration describes, and serves. Start-up is over when every template is rendered.
    ///
    /// # Errors
    /// What can't be had; nothing is left running then.
    pub async fn start(checked: Checked, templates: Vec<Template>) -> Result<Self, StartError> {
        let Checked { config, warnings } = checked;
        let logs = Logs::install(&config.telemetry)?;
        let (around, saving, left) = surroundings(config.state.as_ref()).await?;
        panics::install_hook(Arc::clone(&around.metrics));
        ConfigLoaded { secrets: config.secrets.len(), warnings: &warnings }.record(&around.metrics);
        let fixed = Fixed::of(&config);
        let plan = Plan::of(&config);
        let Config { server, tls, vault, secrets, policy, audit, telemetry, .. } = config;
        let (readiness, starting) = Readiness::starting();
        let mut tasks = JoinSet::new();
        let revoke_on_exit = vault.as_ref().is_none_or(|vault| vault.revoke_on_exit);
        let vault = connect(vault, &around, 0)?;
        keep_session(&mut tasks, vault.as_ref(), left.session.as_ref());
        let (broker, keepers) = Broker::new(
            Arc::clone(&around.clock),
            Arc::clone(&around.metrics) as _,
            capacity(secrets.len()),
            around.seed,
        );
        let keepers = tokio::spawn(keepers.run());
        let changes = broker.changes();
        let catalogue = stores::catalogue(secrets, vault.as_ref(), &around);
        let prefetched = prefetched(&catalogue);
        broker.load(catalogue, left.secrets).await;
        let following = Following::start(plan, &broker, &around);
        let vault = Arc::new(ArcSwapOption::from(vault.map(Arc::new)));
        let saving = saving.map(|saving| {
            let vault = Arc::clone(&vault);
            let in_use = move || vault.load().as_ref().map(|vault| Arc::clone(&vault.store));
            let task = tasks.spawn(saving.clone().run(Arc::clone(&broker), changes, in_use));
            (saving, task)
        });

        let audit = Arc::new(AuditLog::open(audit, Arc::clone(&around.clock))?);
        let limits = server.limits.clone();
        let edge = Arc::new(Edge::new(Arc::clone(&broker), policy, Arc::clone(&audit), limits));
        let health = HealthReporter::new();
        let pages = pages(&around, &broker, &readiness);
        let services = Services::new(Arc::clone(&edge), health.clone(), server.reflection, pages)?;
        let vault_now = vault.load_full();
        tell_http(&mut tasks, telemetry.http, readiness.clone()).await?;
        let closed = readiness.block_startup("the listeners have no certificate yet", "");
        let doors =
            Doors::open(server, tls, services, vault_now.as_deref(), &around, &mut tasks).await?;
        drop(closed);
        tasks.spawn(tell_health(readiness.clone(), health));
        let startup = wait_for_secrets(&mut tasks, &broker, &readiness, prefetched).await;
        fixed.render(templates, doors.address(), &readiness, &mut tasks)?;
        drop(starting);
        let conditions = Conditions::of(&readiness, startup);
        tracing::info!(address = doors.address().map(tracing::field::display), "serving");
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
            fixed,
            doors,
            keepers,
            following,
            tasks,
            conditions,
        })
    }

    /// The TCP address that is served.
    pub fn address(&self) -> Option<SocketAddr> {
        self.doors.address()
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

    /// Renders once, then ends and leaves the leases of what was rendered alive. When `stop` resolves before, they are
    /// revoked as at any end.
    ///
    /// # Errors
    /// Why a template can't be rendered.
    pub async fn render_once(
        mut self,
        templates: Vec<Template>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), StartError> {
        let Fixed { server, tls, .. } = &self.fixed;
        let client = rendering::client(server, tls.as_ref(), self.doors.address())?;
        let ended = tokio::select! {
            ended = rendering::once(client, templates) => ended,
            () = stop => {
                let what = "stopped before every template was rendered".to_owned();
                Err(StartError::Render { exit: failure::OTHER, what })
            }
        };
        self.revoke_on_exit &= ended.is_err();
        self.drain().await;
        ended
    }

    /// Takes over a new configuration without dropping a connection. What needs a new listener
    /// waits for a restart, and the log says so.
    async fn reload(&mut self, checked: Checked) {
        let Checked { config, warnings } = checked;
        let waiting = self.fixed.differences(&Fixed::of(&config));
        if !waiting.is_empty() {
            tracing::warn!(sections = ?waiting, "these changes wait for a restart");
        }
        let plan = Plan::of(&config);
        let Config { vault, secrets, policy, audit, telemetry, .. } = config;
        if let Some(logs) = &self.logs
            && let Err(error) = logs.filter(&telemetry.log_filter)
        {
            tracing::error!(%error, "telemetry.log_filter stays as it was");
        }
        if let Err(error) = self.audit.reopen(audit) {
            tracing::error!(%error, "the audit log stays as it was");
        }
        self.revoke_on_exit = vault.as_ref().is_none_or(|vault| vault.revoke_on_exit);
        self.reconnect(vault);
        let count = secrets.len();
        let catalogue = stores::catalogue(secrets, self.vault.load().as_deref(), &self.around);
        self.edge.enforce(policy);
        self.broker.load(catalogue, BTreeMap::default()).await;
        self.following.follow(plan, &self.broker);
        ConfigLoaded { secrets: count, warnings: &warnings }.record(&self.around.metrics);
    }

    /// Connects to Vault anew where its settings changed; its leases are replaced then.
    fn reconnect(&mut self, vault: Option<Vault>) {
        if self.vault.load().as_ref().is_some_and(|server| server.is(vault.as_ref())) {
            return;
        }
        self.vaults += 1;
        match connect(vault, &self.around, self.vaults) {
            Ok(vault) => {
                keep_session(&mut self.tasks, vault.as_ref(), None);
                self.vault.store(vault.map(Arc::new));
            }
            Err(error) => tracing::error!(%error, "the connection to Vault stays as it was"),
        }
    }

    /// Looks at what nobody tells of.
    fn look(&self) {
        let Conditions { audit, certificate, secrets, startup } = &self.conditions;
        match self.audit.flush() {
            Err(error) => {
                tracing::error!(%error, "accesses are refused");
                audit.fails("");
            }
            Ok(()) => audit.holds(),
        }
        let now = self.around.clock.wall();
        let ended = self.doors.certificate_ends().is_some_and(|end| end <= now);
        if ended {
            certificate.fails("");
        } else {
            certificate.holds();
        }
        match self.broker.ended().as_slice() {
            [] => secrets.holds(),
            ended => secrets.fails(ended.join(", ")),
        }
        if let Some(reason) = self.vault.load().as_ref().and_then(|vault| vault.store.outage()) {
            tracing::debug!(
                reason = reason.name(),
                started = *startup.borrow(),
                "Vault can't be used"
            );
        }
    }
}

/// What everything is built on, and what an earlier run left.
async fn surroundings(
    state: Option<&config::StateFile>,
) -> Result<(Surroundings, Option<Saving>, Left), StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (file, mut left) = match state {
        Some(settings) => {
            let (file, left) = saving::open(settings, &clock).await?;
            (Some(file), left)
        }
        None => (None, Left::default()),
    };
    let versions = match left.version_key.take() {
        Some(key) => key,
        None => VersionKey::generate().map_err(StartError::Randomness)?,
    };
    let versions = Arc::new(versions);
    let saving = file.map(|file| Saving::new(file, Arc::clone(&clock), Arc::clone(&versions)));
    let seed = u64::try_from(clock.wall().as_nanosecond() & i128::from(u64::MAX)).unwrap_or(1);
    let metrics = Arc::new(Metrics::new());
    Ok((Surroundings { clock, metrics, versions, seed }, saving, left))
}

/// How many secrets are kept at most: room for each one's parameters.
fn capacity(secrets: usize) -> u64 {
    u64::try_from(secrets).unwrap_or(u64::MAX).saturating_mul(4).max(1024)
}

fn connect(
    vault: Option<Vault>,
    around: &Surroundings,
    mark: u64,
) -> Result<Option<Server>, StartError> {
    Ok(vault.map(|vault| Server::connect(vault, around, mark)).transpose()?)
}

/// Keeps Vault's session alive, the saved one if there is one.
fn keep_session(tasks: &mut JoinSet<()>, vault: Option<&Server>, saved: Option<&SavedSession>) {
    let Some(vault) = vault else { return };
    if let Some(saved) = saved
        && let Err(fault) = vault.store.import_session(&saved.content)
    {
        tracing::warn!(%fault, "the saved session is not used");
    }
    let store = Arc::clone(&vault.store);
    tasks.spawn(async move { store.run().await });
}

fn prefetched(catalogue: &Catalogue) -> Vec<String> {
    let prefetched = catalogue.iter().filter(|(_, entry)| entry.terms.prefetch);
    prefetched.map(|(name, _)| name.as_str().to_owned()).collect()
}

/// Blocks start-up for each secret until its first value is there. The receiver turns true when
/// all are.
async fn wait_for_secrets(
    tasks: &mut JoinSet<()>,
    broker: &Arc<Broker>,
    readiness: &Readiness,
    names: Vec<String>,
) -> watch::Receiver<bool> {
    let (here, all_here) = watch::channel(false);
    let waiting = FuturesUnordered::new();
    for name in names {
        let blocker = readiness.block_startup("a secret was not fetched yet", name.clone());
        if let Some(kept) = broker.secret(&name).await {
            waiting.push(async move {
                first_value(&kept).await;
                drop(blocker);
            });
        }
    }
    tasks.spawn(async move {
        waiting.collect::<()>().await;
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

/// What observers may read: whether and why it is not ready, and the metrics.
fn pages(around: &Surroundings, broker: &Arc<Broker>, readiness: &Readiness) -> Pages {
    let (around, broker, readiness) = (around.clone(), Arc::clone(broker), readiness.clone());
    Arc::new(move |path| {
        if path == "/readyz" {
            return http::ready_page(&readiness, true);
        }
        let now = broker.clock().now();
        let alive = broker.alive();
        let readings = alive
            .iter()
            .map(|kept| SecretReading::of(kept.name().clone(), &kept.snapshot().view, now));
        http::metrics_page(around.metrics.render(around.clock.wall(), readings))
    })
}

/// Answers probes and scrapes over plain HTTP, where an address is given; the listeners may wait for a certificate.
async fn tell_http(
    tasks: &mut JoinSet<()>,
    address: Option<SocketAddr>,
    readiness: Readiness,
) -> Result<(), StartError> {
    if let Some(address) = address {
        let socket = doors::tcp("telemetry.http", address).await?;
        tasks.spawn(async move {
            http::serve(socket, readiness).await;
        });
    }
    Ok(())
}

async fn tell_health(readiness: Readiness, health: HealthReporter) {
    health.set_service_status("", ServingStatus::Serving).await;
    let mut ready = readiness.subscribe();
    loop {
        let status = if *ready.borrow_and_update() {
            tracing::info!("ready");
            ServingStatus::Serving
        } else {
            // At the start they are as many as there are secrets.
            let reasons = readiness.reasons(readiness.has_started());
            let reasons = serde_json::to_string(&reasons).unwrap_or_default();
            tracing::info!(reasons, "not ready");
            ServingStatus::NotServing
        };
        health.set_service_status(READINESS, status).await;
        if ready.changed().await.is_err() {
            return;
        }
    }
}
