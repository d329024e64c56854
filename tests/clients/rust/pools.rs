//! Pools of connections under load while their login is replaced a hundred times and the sidecar dies.

use std::{
    sync::{
        Arc,
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
    done: Arc<AtomicU64>,
    workers: JoinSet<()>,
}

impl Load {
    fn start(pools: &Pools) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            let (sqlx, deadpool) = (pools.sqlx.clone(), pools.deadpool.clone());
            let (stops, counts) = (Arc::clone(&stop), Arc::clone(&done));
            workers.spawn(async move {
                while !stops.load(Ordering::Relaxed) {
                    by_sqlx(&sqlx, worker).await.expect("no query fails through sqlx");
                    counts.fetch_add(1, Ordering::Relaxed);
                }
            });
            let (stops, counts) = (Arc::clone(&stop), Arc::clone(&done));
            workers.spawn(async move {
                while !stops.load(Ordering::Relaxed) {
                    by_deadpool(&deadpool, worker).await.expect("no query fails through deadpool");
                    counts.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { stop, done, workers }
    }

    async fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.workers.join_next().await {
            ended.expect("no query fails");
        }
        self.done.load(Ordering::Relaxed)
    }
}

/// Reads, or writes in a transaction that takes a while.
async fn by_sqlx(pool: &PgPool, worker: usize) -> Result<(), sqlx::Error> {
    if worker == 0 {
        let mut transaction = pool.begin().await?;
        sqlx::query("INSERT INTO notes (text) VALUES ('sqlx')").execute(&mut *transaction).await?;
        sqlx::query("SELECT pg_sleep(0.02)").execute(&mut *transaction).await?;
        return transaction.commit().await;
    }
    sqlx::query("SELECT count(*) FROM notes WHERE id = 1").execute(pool).await?;
    tokio::time::sleep(Duration::from_millis(2)).await;
    Ok(())
}

async fn by_deadpool(
    pool: &deadpool_postgres::Pool,
    worker: usize,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut connection = pool.get().await?;
    if worker == 0 {
        let transaction = connection.transaction().await?;
        transaction.execute("INSERT INTO notes (text) VALUES ('deadpool')", &[]).await?;
        transaction.execute("SELECT pg_sleep(0.02)", &[]).await?;
        return Ok(transaction.commit().await?);
    }
    connection.query("SELECT count(*) FROM notes WHERE id = 1", &[]).await?;
    drop(connection);
    tokio::time::sleep(Duration::from_millis(2)).await;
    Ok(())
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
    let queries = load.end().await;
    println!(
        "{queries} queries over {ROTATIONS} rotations in {:.0} s, none failed",
        took.as_secs_f64()
    );
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
    let queries = load.end().await;
    println!("{queries} queries over 3 restarts, none failed");
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
