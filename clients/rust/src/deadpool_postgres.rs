//! A pool of deadpool whose connections follow a rotation.
//!
//! - A new connection logs in with the version of the moment; one of an older version is replaced when it is next
//!   asked for, and closed at once while it is idle. What is in use goes on until it is returned.
//! - A version is acknowledged when no connection of an older one is left.
//! - A login that the database refuses is reported, and tried again with the version that the broker then serves.
//!
//! ```no_run
//! # async fn example(client: secret_broker_client::Client) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! use secret_broker_client::deadpool_postgres::{Config, NoTls, pool};
//!
//! let mut config = Config::new();
//! config.host("127.0.0.1").dbname("postgres");
//! let pool = pool(&client.live("DB").await?, config, NoTls, |pool| pool.max_size(16))?;
//! let row = pool.get().await?.query_one("SELECT 1", &[]).await?;
//! # let _ = row;
//! # Ok(())
//! # }
//! ```

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use deadpool::{
    Runtime,
    managed::{self, Metrics, PoolBuilder, RecycleError, RecycleResult, WeakPool},
};
use deadpool_postgres::{ClientWrapper, ManagerConfig};
use tokio::{sync::watch, time::sleep};
pub use tokio_postgres::{Config, NoTls};
use tokio_postgres::{
    Socket,
    error::SqlState,
    tls::{MakeTlsConnect, TlsConnect},
};

use crate::{BoxError, Live, Secret, login::Login};

/// How often idle connections of an older version are looked for while one is in use.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often a login is tried while the credential changes under it.
const ATTEMPTS: u32 = 3;
/// The SQLSTATE class of an invalid authorization.
const AUTHORIZATION: &str = "28";

/// A pool of connections that log in with a live secret.
pub type Pool = managed::Pool<Manager>;

/// Opens connections with the login of the moment.
pub struct Manager {
    live: Live,
    config: Config,
    opener: Opener,
    /// Checks connections before they are used again.
    checker: deadpool_postgres::Manager,
    open: Arc<Open>,
}

type Opener = Box<dyn Fn(Config) -> deadpool_postgres::Manager + Send + Sync>;

/// A connection and the version that it logged in with.
pub struct Connection {
    client: ClientWrapper,
    counted: Counted,
}

/// Why no connection could be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The secret is no login.
    #[error(transparent)]
    Secret(#[from] crate::Error),
    /// The database refused or could not be reached.
    #[error(transparent)]
    Database(#[from] tokio_postgres::Error),
}

/// A pool over this secret, which has the fields `username` (or `config` names it) and `password`. `sized` sets the
/// pool's size and timeouts.
///
/// # Errors
/// When the pool's settings can't work.
pub fn pool<T>(
    live: &Live,
    config: Config,
    tls: T,
    sized: impl FnOnce(PoolBuilder<Manager>) -> PoolBuilder<Manager>,
) -> Result<Pool, managed::BuildError>
where
    T: MakeTlsConnect<Socket> + Clone + Sync + Send + 'static,
    T::Stream: Sync + Send,
    T::TlsConnect: Sync + Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    let opener = move |config| deadpool_postgres::Manager::new(config, tls.clone());
    let checker =
        deadpool_postgres::Manager::from_config(Config::new(), NoTls, ManagerConfig::default());
    let open = Arc::new(Open::default());
    let manager = Manager {
        live: live.clone(),
        config,
        opener: Box::new(opener),
        checker,
        open: open.clone(),
    };
    let pool = sized(Pool::builder(manager).runtime(Runtime::Tokio1)).build()?;
    // The pool holds the secret, not the other way round.
    let weak = Arc::new(pool.weak());
    live.on_change(move |secret| {
        let retired = retire(Arc::clone(&weak), Arc::clone(&open), secret.generation());
        async move {
            retired.await;
            Ok::<(), BoxError>(())
        }
    });
    Ok(pool)
}

/// Closes idle connections of older versions until none is left, in use or idle.
fn retire(
    pool: Arc<WeakPool<Manager>>,
    open: Arc<Open>,
    generation: u64,
) -> impl Future<Output = ()> + Send {
    let mut closed = open.closed.subscribe();
    async move {
        loop {
            closed.mark_unchanged();
            if let Some(pool) = pool.upgrade() {
                pool.retain(|connection, _| connection.counted.generation >= generation);
            }
            if open.none_before(generation) {
                return;
            }
            tokio::select! {
                _ = closed.changed() => {}
                () = sleep(LOOK_INTERVAL) => {}
            }
        }
    }
}

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = PoolError;

    async fn create(&self) -> Result<Connection, PoolError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let secret = self.live.current();
            let counted = Open::count(&self.open, secret.generation());
            let login = Login::of(&secret)?;
            let mut config = self.config.clone();
            if let Some(username) = login.username {
                config.user(username);
            }
            config.password(login.password);
            match managed::Manager::create(&(self.opener)(config)).await {
                Ok(client) => return Ok(Connection { client, counted }),
                Err(error) if attempt == ATTEMPTS || !self.has_successor(&secret, &error).await => {
                    return Err(error.into());
                }
                Err(_) => {}
            }
        }
    }

    async fn recycle(
        &self,
        connection: &mut Connection,
        metrics: &Metrics,
    ) -> RecycleResult<PoolError> {
        if connection.counted.generation != self.live.generation() {
            return Err(RecycleError::message("its login was replaced"));
        }
        let checked = managed::Manager::recycle(&self.checker, &mut connection.client, metrics);
        checked.await.map_err(|error| match error {
            RecycleError::Message(message) => RecycleError::Message(message),
            RecycleError::Backend(error) => RecycleError::Backend(error.into()),
        })
    }
}

impl Manager {
    /// Whether another version can be tried after a failed login.
    async fn has_successor(&self, tried: &Secret, error: &tokio_postgres::Error) -> bool {
        let state = error.code().map_or("", SqlState::code);
        let refused = state.starts_with(AUTHORIZATION);
        self.live.generation() != tried.generation()
            || (refused && self.live.refused(tried, &format!("SQLSTATE {state}")).await)
    }
}

impl Deref for Connection {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.client
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        &mut self.client
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("live", &self.live).finish_non_exhaustive()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generation = &self.counted.generation;
        f.debug_struct("Connection").field("generation", generation).finish_non_exhaustive()
    }
}

/// How many connections of each version are open or being opened.
#[derive(Default)]
struct Open {
    by_generation: Mutex<BTreeMap<u64, usize>>,
    closed: watch::Sender<()>,
}

struct Counted {
    generation: u64,
    open: Arc<Open>,
}

impl Open {
    fn count(open: &Arc<Self>, generation: u64) -> Counted {
        let mut counts = open.by_generation.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(generation).or_default() += 1;
        drop(counts);
        Counted { generation, open: Arc::clone(open) }
    }

    fn none_before(&self, generation: u64) -> bool {
        let counts = self.by_generation.lock().unwrap_or_else(PoisonError::into_inner);
        counts.range(..generation).next().is_none()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.open.by_generation.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.generation) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.generation);
            }
        }
        drop(counts);
        self.open.closed.send_replace(());
    }
}
