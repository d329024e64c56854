//! The whole chain: the operator runs, tells the sidecar, and an application's pool follows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use secret_broker::server::operator::proto::{
    FollowRotationRequest, RotateRequest, RotationState, RotationSummary,
    secret_operator_client::SecretOperatorClient,
};
use secret_broker_client::{
    Client,
    deadpool_postgres::{self, Config, NoTls},
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{
    rig::Rig,
    support::{broker::Broker, until},
};

const ROTATIONS: usize = 100;
const WORKERS: usize = 4;

/// The operator serves people and sidecars, with an authority of its own.
const SERVED: &str = r#"
[server]
listen = "127.0.0.1:0"

[tls]
source = "authority"
directory = "@DIR@/operator"

[[policy]]
identities = ["spiffe://**"]
secrets = ["**"]
verbs = ["follow", "rotate", "view"]
"#;

/// The address that the operator's log tells.
async fn address(rig: &Rig) -> String {
    until("the operator serves", async || {
        let log = std::fs::read_to_string(rig.directory.path().join("operator.log")).ok()?;
        log.lines().find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            (line["message"] == "serving").then(|| line["address"].as_str().map(str::to_owned))?
        })
    })
    .await
}

/// A sidecar that serves the secret to the application and listens to the operator.
async fn sidecar(rig: &Rig, operator: &str) -> Broker {
    let certs = rig.directory.path().join("operator");
    let certs = certs.display();
    let sections = format!(
        "[vault]\naddress = \"{}\"\nauth = {{ method = \"token\", token_env = \"VAULT_TOKEN\" }}\nbudget = {{ calls_per_minute = 100000, burst = 10000 }}\n\
         [operator]\naddress = \"https://{operator}\"\nca = \"{certs}/ca.pem\"\ncert = \"{certs}/client.pem\"\nkey = \"{certs}/client.key\"\n\
         [deployment]\nenvironment = \"production\"\n\
         [secrets.DB]\ncategory = \"database\"\nstore = \"vault\"\nengine = \"kv2\"\npath = \"shop/postgres\"\n",
        rig.vault.address()
    );
    Broker::start(&sections, &[("VAULT_TOKEN", &rig.vault.root)]).await
}

/// Rotates once, and looks on until it ended.
async fn rotate(operator: &mut SecretOperatorClient<Channel>) -> RotationSummary {
    let name = "POSTGRES_PASSWORD".to_owned();
    let request = RotateRequest { name: name.clone(), ..RotateRequest::default() };
    let asked = operator.rotate(request).await.unwrap().into_inner().rotation.unwrap();
    loop {
        let request = FollowRotationRequest { name: name.clone() };
        let mut states = operator.follow_rotation(request).await.unwrap().into_inner();
        while let Some(state) = states.message().await.unwrap() {
            let rotation = state.rotation.unwrap();
            assert_eq!(rotation.id, asked.id);
            if rotation.state() == RotationState::Succeeded {
                return rotation;
            }
            assert_eq!(rotation.state(), RotationState::Running, "{}", rotation.detail);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_queries_through_its_pool_sees_no_failed_query_in_a_hundred_rotations()
{
    let rig = Rig::start().await;
    rig.configure(&rig.vault.address(), SERVED);
    let _operator = rig.operate("operator.log");
    let address = address(&rig).await;
    let broker = sidecar(&rig, &address).await;
    let live = broker.client().live("DB").await.unwrap();
    let at = format!("postgresql://127.0.0.1:{}/postgres", rig.postgres.port);
    let config: Config = at.parse().unwrap();
    let pool = deadpool_postgres::pool(&live, config, NoTls, |pool| pool.max_size(6)).unwrap();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut load = JoinSet::new();
    for _ in 0..WORKERS {
        let (pool, stop, done) = (pool.clone(), Arc::clone(&stop), Arc::clone(&done));
        load.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let connection = pool.get().await.expect("a connection");
                connection.query("SELECT id FROM orders", &[]).await.expect("no query fails");
                done.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    let certs = rig.directory.path().join("operator");
    let client = Client::builder().address(format!("https://{address}")).cert_dir(certs);
    let mut operator = SecretOperatorClient::new(client.build().unwrap().channel());
    let (mut seen, mut waits) = (live.generation(), Vec::new());
    for n in 0..ROTATIONS {
        let rotation = rotate(&mut operator).await;
        let promoted = rotation.steps.iter().find(|step| step.name == "promote to everyone");
        let promoted = promoted.and_then(|step| step.end_time).unwrap();
        let newest = tokio::time::timeout(Duration::from_secs(5), live.after(seen)).await;
        let newest = newest.unwrap_or_else(|_| panic!("rotation {n}: {}", broker.log()));
        seen = newest.generation();
        let promoted = std::time::SystemTime::try_from(promoted).unwrap();
        waits.push(newest.issued_at().unwrap().duration_since(promoted).unwrap_or_default());
    }
    // One typed by a person works in a process of its own, which no sidecar is connected to.
    rig.succeed(&["rotate", "POSTGRES_PASSWORD"]).await;
    let newest = tokio::time::timeout(Duration::from_secs(2), live.after(seen)).await;
    newest.unwrap_or_else(|_| panic!("not told of the command: {}", broker.log()));
    stop.store(true, Ordering::Relaxed);
    while let Some(worker) = load.join_next().await {
        worker.expect("no query fails");
    }
    waits.sort();
    println!("{} queries, none failed", done.load(Ordering::Relaxed));
    println!("promotion to new value: p50 {:?}, p99 {:?}", waits[ROTATIONS / 2], waits[98]);
    assert!(done.load(Ordering::Relaxed) > 1000);
    assert!(waits[98] < Duration::from_secs(1), "{waits:?}");
}
