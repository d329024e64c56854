//! A pool of sqlx whose connections follow a rotation.
//!
//! - A new connection logs in with the version of the moment; one of an older login is closed when it is next asked
//!   for or returned, and soon while it is idle. What is in use goes on until it is returned.
//! - A version is acknowledged when the database shows no session of an older login any more; at once where only the
//!   password changed, since that ends no session.
//!
//! ```no_run
//! # async fn example(client: secret_broker_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use secret_broker_client::sqlx::{PgConnectOptions, PgPoolOptions, pool};
//!
//! let database = PgConnectOptions::new_without_pgpass().host("127.0.0.1").database("postgres");
//! let pool = pool(&client.live("DB").await?, database, PgPoolOptions::new())?;
//! sqlx::query("SELECT 1").execute(&pool).await?;
//! # Ok(())
//! # }
//! ```

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use sqlx::{pool::PoolConnectionMetadata, query_scalar};
use tokio::time::{Instant, sleep};

use crate::{BoxError, Error, Live, Secret, login::Login};

/// How long after a change a connection may appear that began with the login before.
const MARGIN: Duration = Duration::from_millis(50);
/// The waits between looks at the sessions that are left; the last one repeats.
const LOOKS: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// Looks after which all connections up to then are taken for old ones, should old sessions be left: one may have
/// begun just before the change and appeared long after.
const SUSPECT_AT: [usize; 2] = [1, 6];

/// A pool over this secret, which has the fields `username` (or `database` names it) and `password`.
///
/// Takes `before_acquire` and `after_release` of `options` for itself. Close the pool when it is not used any more:
/// until then the secret is followed.
///
/// # Errors
/// [`Error::Configuration`] when the secret is no login.
pub fn pool(
    live: &Live,
    database: PgConnectOptions,
    options: PgPoolOptions,
) -> Result<PgPool, Error> {
    let logins = Arc::new(Logins::default());
    let first = live.current();
    let opened = logins.turn(&first, &database)?;
    let options = {
        let (acquired, released) = (Arc::clone(&logins), Arc::clone(&logins));
        // The pool holds the secret.
        let held = live.clone();
        options
            .before_acquire(move |_, meta| {
                let _ = &held;
                let fresh = acquired.is_fresh(&meta);
                Box::pin(async move { Ok(fresh) })
            })
            .after_release(move |_, meta| {
                let fresh = released.is_fresh(&meta);
                Box::pin(async move { Ok(fresh) })
            })
    };
    let pool = options.connect_lazy_with(opened);
    let follow = {
        let (pool, logins, database) = (pool.clone(), Arc::clone(&logins), database);
        move |secret: Arc<Secret>| {
            let turned = logins.turn(&secret, &database).map(|options| {
                pool.set_connect_options(options);
                logins.suspect_until(Instant::now() + MARGIN);
            });
            let (pool, logins) = (pool.clone(), Arc::clone(&logins));
            async move {
                turned?;
                logins.retire(&pool).await;
                Ok::<(), BoxError>(())
            }
        }
    };
    let hook = live.on_change(follow.clone());
    // It may have changed while nobody followed.
    let current = live.current();
    if current.generation() != first.generation() {
        tokio::spawn(follow(current));
    }
    let closed = pool.close_event();
    tokio::spawn(async move {
        closed.await;
        hook.remove();
    });
    Ok(pool)
}

/// The logins that a pool used.
#[derive(Default)]
struct Logins(Mutex<Used>);

#[derive(Default)]
struct Used {
    current: Option<String>,
    /// Those before, of which sessions may be left.
    before: BTreeSet<String>,
    /// Connections that appeared before this are of an older login.
    fresh_from: Option<Instant>,
}

impl Logins {
    /// Notes a version's login, and returns the options that log in with it.
    fn turn(
        &self,
        secret: &Secret,
        database: &PgConnectOptions,
    ) -> Result<PgConnectOptions, Error> {
        let login = Login::of(secret)?;
        let mut options = database.clone().password(login.password);
        if let Some(username) = login.username {
            options = options.username(username);
        }
        let mut used = self.lock();
        let username = options.get_username().to_owned();
        used.before.remove(&username);
        let before =
            used.current.replace(username).filter(|user| used.current.as_ref() != Some(user));
        used.before.extend(before);
        Ok(options)
    }

    fn suspect_until(&self, moment: Instant) {
        let mut used = self.lock();
        if !used.before.is_empty() {
            used.fresh_from = Some(moment);
        }
    }

    fn is_fresh(&self, meta: &PoolConnectionMetadata) -> bool {
        let appeared = Instant::now().checked_sub(meta.age);
        self.lock().fresh_from.is_none_or(|from| appeared.is_some_and(|at| at >= from))
    }

    /// Closes idle connections of older logins until the database shows no session of one.
    async fn retire(&self, pool: &PgPool) {
        for look in 0.. {
            if self.lock().before.is_empty() || pool.is_closed() {
                return;
            }
            cycle(pool).await;
            let wait = LOOKS.get(look).or(LOOKS.last()).copied().unwrap_or_default();
            sleep(wait).await;
            let before: Vec<String> = self.lock().before.iter().cloned().collect();
            // Who may not see it now asks again.
            if let Ok(left) = sessions(pool, &before).await {
                self.lock().before.retain(|user| left.contains(user) || !before.contains(user));
            }
            if SUSPECT_AT.contains(&look) {
                self.suspect_until(Instant::now());
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Used> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes each idle connection and gives it back, which closes those of an older login. They stand in a queue, so
/// that each comes up once.
async fn cycle(pool: &PgPool) {
    for _ in 0..pool.num_idle() {
        let Some(mut connection) = pool.try_acquire() else { return };
        connection.return_to_pool().await;
    }
}

/// Which of these users have sessions.
async fn sessions(pool: &PgPool, users: &[String]) -> Result<Vec<String>, sqlx::Error> {
    query_scalar(
        "SELECT DISTINCT usename::text FROM pg_stat_activity WHERE usename = ANY($1::name[])",
    )
    .bind(users)
    .fetch_all(pool)
    .await
}
