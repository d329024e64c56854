//! Pools of connections under load while their login is replaced a hundred times and the sidecar dies.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use secret_broker_client::{
    Live,
    deadpool_postgres::{self, Config, NoTls},
    sqlx::{self as broker_sqlx, PgConnectOptions, PgPool, PgPoolOptions},
};
use serde_json::json;
use tokio::task::JoinSet;

use super::{client, soon};
use crate::{control::Controlled, harness::Tests, support::until};

const ROTATIONS: usize = 100;
const WORKERS: usize = 4;

pub fn add(tests: &mut Tests) {
    tests.add("rust_pools_lose_no_query_over_a_hundred_rotations", rotations);
    tests.add("rust_pools_lose_no_query_while_the_sidecar_is_killed_and_restarted", restarts);
    tests.add("rust_a_login_that_the_database_refuses_is_tried_again_with_a_fresh_one", refused);
    tests.add("rust_a_long_transaction_keeps_its_login_until_it_ends", long_transaction);
}

struct Pools {
    sqlx: PgPool,
    deadpool: deadpool_postgres::Pool,
}

impl Pools {
    fn over(rig: &Controlled, live: &Live) -> Self {
        let address: PgConnectOptions = rig.variable("RIG_PG").parse().expect("an address");
        let sized = PgPoolOptions::new().max_connections(6);
        let sqlx = broker_sqlx::pool(live, address, sized).expect("a pool");
        let config: Config = rig.variable("RIG_PG").parse().expect("an address");
        let deadpool = deadpool_postgres::pool(live, config, NoTls, |pool| pool.max_size(6));
        Self { sqlx, deadpool: deadpool.expect("a pool") }
    }
}

/// Queries without a pause; any failure fails the test.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<[Done; 2]>,
    workers: JoinSet<()>,
}

/// The queries through one pool, and the users that they ran as.
#[derive(Default)]
struct Done {
    queries: AtomicU64,
    users: Mutex<BTreeSet<String>>,
}

impl Done {
    fn note(&self, user: Option<String>) {
        self.queries.fetch_add(1, Ordering::Relaxed);
        self.users.lock().expect("the users").extend(user);
    }

    fn counts(&self) -> (u64, usize) {
        (self.queries.load(Ordering::Relaxed), self.users.lock().expect("the users").len())
    }
}

impl Load {
    fn start(pools: &Pools) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::<[Done; 2]>::default());
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            let (sqlx, deadpool) = (pools.sqlx.clone(), pools.deadpool.clone());
            let (stops, notes) = (Arc::clone(&stop), Arc::clone(&done));
            workers.spawn(async move {
                while !stops.load(Ordering::Relaxed) {
                    let user = by_sqlx(&sqlx, worker).await.expect("no query fails through sqlx");
                    notes[0].note(user);
                }
            });
            let (stops, notes) = (Arc::clone(&stop), Arc::clone(&done));
            workers.spawn(async move {
                while !stops.load(Ordering::Relaxed) {
                    let user = by_deadpool(&deadpool, worker).await;
                    notes[1].note(user.expect("no query fails through deadpool"));
                }
            });
        }
        Self { stop, done, workers }
    }

    /// Queries and users, by sqlx and by deadpool.
    async fn end(mut self) -> [(u64, usize); 2] {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.workers.join_next().await {
            ended.expect("no query fails");
        }
        self.done.each_ref().map(Done::counts)
    }
}

/// Reads who it is, or writes in a transaction that takes a while.
async fn by_sqlx(pool: &PgPool, worker: usize) -> Result<Option<String>, sqlx::Error> {
    if worker == 0 {
        let mut transaction = pool.begin().await?;
        sqlx::query("INSERT INTO notes (text) VALUES ('sqlx')").execute(&mut *transaction).await?;
        sqlx::query("SELECT pg_sleep(0.02)").execute(&mut *transaction).await?;
        return transaction.commit().await.map(|()| None);
    }
    let user = sqlx::query_scalar("SELECT current_user::text").fetch_one(pool).await?;
    tokio::time::sleep(Duration::from_millis(2)).await;
    Ok(Some(user))
}

async fn by_deadpool(
    pool: &deadpool_postgres::Pool,
    worker: usize,
) -> Result<Option<String>, Box<dyn std::error::Error + Send + Sync>> {
    let mut connection = pool.get().await?;
    if worker == 0 {
        let transaction = connection.transaction().await?;
        transaction.execute("INSERT INTO notes (text) VALUES ('deadpool')", &[]).await?;
        transaction.execute("SELECT pg_sleep(0.02)", &[]).await?;
        transaction.commit().await?;
        return Ok(None);
    }
    let user = connection.query_one("SELECT current_user::text", &[]).await?.get(0);
    drop(connection);
    tokio::time::sleep(Duration::from_millis(2)).await;
    Ok(Some(user))
}

async fn rotations() {
    let rig = Controlled::start().await;
    let live = client(&rig).live("DB").await.expect("a handle");
    let pools = Pools::over(&rig, &live);
    let hooks = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&hooks);
    live.on_change(move |_| {
        counts.fetch_add(1, Ordering::Relaxed);
        async { Ok(()) }
    });
    let load = Load::start(&pools);
    let start = std::time::Instant::now();
    for _ in 0..ROTATIONS {
        let generation = rig.rotate("DB").await;
        soon("the version is held", live.after(generation - 1)).await;
    }
    let took = start.elapsed();
    let pools = load.end().await;
    for (name, (queries, users)) in ["sqlx", "deadpool"].into_iter().zip(pools) {
        println!(
            "{name}: {queries} queries as {users} users over {ROTATIONS} rotations in {:.0} s, none failed",
            took.as_secs_f64()
        );
        assert!(users > ROTATIONS / 2, "{name} follows the rotations");
    }
    assert_eq!(hooks.load(Ordering::Relaxed), ROTATIONS as u64, "a hook hears each version once");
    // Acknowledged as the pools let go of them, long before an overlap of 30 s ends.
    let start = std::time::Instant::now();
    until("old users are gone", async || (users(&rig).await.len() == 1).then_some(())).await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

async fn restarts() {
    let rig = Controlled::start().await;
    let live = client(&rig).live("DB").await.expect("a handle");
    let pools = Pools::over(&rig, &live);
    let load = Load::start(&pools);
    for _ in 0..3 {
        let before = live.generation();
        rig.order("kill", json!({})).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        rig.order("start", json!({})).await;
        soon("the version after the restart", live.after(before)).await;
        let generation = rig.rotate("DB").await;
        soon("a rotation after it", live.after(generation - 1)).await;
    }
    for (queries, users) in load.end().await {
        println!("{queries} queries as {users} users over 3 restarts, none failed");
        assert!(users > 3);
    }
}

/// sqlx lets nobody in on a failed login; there the next one is good.
async fn refused() {
    let rig = Controlled::start().await;
    let live = client(&rig).live("DB").await.expect("a handle");
    let pools = Pools::over(&rig, &live);
    let before = live.generation();
    rig.order("drop-users", json!({})).await;
    let connection = pools.deadpool.get().await.expect("a fresh login");
    connection.query_one("SELECT 1", &[]).await.expect("a query");
    assert!(live.generation() > before);
    sqlx::query("SELECT 1").execute(&pools.sqlx).await.expect("a query");
}

async fn long_transaction() {
    let rig = Controlled::start().await;
    let live = client(&rig).live("DB").await.expect("a handle");
    let pools = Pools::over(&rig, &live);
    let first = live.current().text("username").expect("a user").to_owned();
    let mut by_sqlx = pools.sqlx.begin().await.expect("a transaction");
    sqlx::query("SELECT 1").execute(&mut *by_sqlx).await.expect("a query");
    let by_deadpool = pools.deadpool.get().await.expect("a connection");
    rig.rotate("DB").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(users(&rig).await.contains(&first), "two connections use it");
    sqlx::query("INSERT INTO notes (text) VALUES ('late')")
        .execute(&mut *by_sqlx)
        .await
        .expect("the old login works on");
    by_sqlx.commit().await.expect("a commit");
    by_deadpool.query("SELECT * FROM notes", &[]).await.expect("the old login works on");
    drop(by_deadpool);
    until("the first user is gone", async || (!users(&rig).await.contains(&first)).then_some(()))
        .await;
}

async fn users(rig: &Controlled) -> Vec<String> {
    let users = rig.order("users", json!({})).await;
    serde_json::from_value(users["users"].clone()).expect("names")
}
