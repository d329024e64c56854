//! Two hundred sidecars at once, each with its own connections to Vault and to the operator.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use secret_broker::{
    app::clock::SystemClock,
    broker::{
        Broker, Entry,
        observe::Unobserved,
        ports::Clock,
        watch::{Occurrence, Scope, Watch},
    },
    config::{
        self, AuthMethod, Credential, Deployment, OperatorFeed, VaultAuth, VaultEngine, VaultPath,
    },
    domain::{
        budget::BudgetTerms,
        life::Terms,
        secret::{SecretName, SecretValue},
        time::Jitter,
    },
    feed::Feed,
    store::{VersionKey, vault::VaultStore},
};
use tokio::task::JoinSet;

use crate::{
    pki::put,
    rig::{PATH, Rig},
    support::until,
};

const SIDECARS: u64 = 200;
const SECOND: Duration = Duration::from_secs(1);

struct All;

impl Scope for All {
    fn covers(&self, _: &SecretName, _: &str) -> bool {
        true
    }
}

fn terms() -> Terms {
    Terms {
        prefetch: true,
        poll_interval: SECOND * 3600,
        max_stale: SECOND * 3600,
        overlap: SECOND * 3600,
        max_age: None,
        retry_min: SECOND,
        retry_max: SECOND,
    }
}

fn store(rig: &Rig, seed: u64) -> Arc<VaultStore> {
    let token = Credential::Value(SecretValue::new(rig.vault.root.clone()));
    let vault = config::Vault {
        address: rig.vault.address(),
        namespace: None,
        ca: None,
        client_cert: None,
        server_name: None,
        timeout: SECOND * 30,
        auth: VaultAuth { mount: "token".into(), method: AuthMethod::Token { token } },
        budget: BudgetTerms {
            calls_per_minute: 600,
            burst: 200,
            probe_min: SECOND,
            probe_max: SECOND,
        },
        in_flight: 16,
        revoke_on_exit: true,
    };
    let versions = Arc::new(VersionKey::generate().unwrap());
    VaultStore::new(&Arc::new(vault), Arc::new(SystemClock), Arc::new(()), versions, seed).unwrap()
}

/// A sidecar that keeps one secret, and a watch on it.
async fn sidecar(rig: &Rig, seed: u64, settings: OperatorFeed, tasks: &mut JoinSet<()>) -> Watch {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (broker, keepers) = Broker::new(clock, Arc::new(Unobserved), 8, seed);
    tasks.spawn(async {
        keepers.run().await;
    });
    let deployment = Deployment { environment: Some("production".into()), colour: None };
    let engine = VaultEngine::KvV2 {
        mount: "secret".into(),
        path: "shop/jwt".into(),
        deployment: deployment.clone(),
    };
    let origin = store(rig, seed).origin(VaultPath { engine, fields: BTreeMap::new() });
    let name: SecretName = "JWT_SECRET".parse().unwrap();
    let entry = Entry { category: "application".into(), terms: terms(), origin, place: 1 };
    broker.load([(name.clone(), entry)].into(), BTreeMap::new()).await;
    let paths = [(PATH.to_owned(), vec![name.clone()])].into();
    let (instance, jitter) = (format!("sidecar-{seed}"), Jitter::seeded(seed));
    let feed = Feed::new(settings, deployment, paths, instance, Arc::clone(&broker), jitter);
    tasks.spawn(feed.run());
    broker.secret(name.as_str()).await.unwrap().current().await.unwrap();
    broker.watch(Box::new(All)).await.0
}

/// When each watch is told of a version.
async fn arrivals(watches: Vec<Watch>, version: &'static str) -> (Vec<Watch>, Vec<Instant>) {
    let mut telling = JoinSet::new();
    for mut watch in watches {
        telling.spawn(async move {
            loop {
                let Some(Occurrence::Changed(_, _, state)) = watch.next().await else { continue };
                let held = state.view.held.as_ref();
                if held.is_some_and(|held| *held.version.0 == *version) {
                    return (watch, Instant::now());
                }
            }
        });
    }
    let all = tokio::time::timeout(SECOND * 30, telling.join_all()).await;
    all.expect("all are told").into_iter().unzip()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_reaches_the_watchers_of_two_hundred_sidecars_within_a_second() {
    let rig = Rig::start().await;
    let directory = tempfile::tempdir().unwrap();
    put(directory.path(), "ca.pem", &rig.authority.pem);
    rig.authority.client().install(directory.path(), "client");
    let settings = OperatorFeed {
        address: format!("https://{}", rig.operator.address),
        server_name: None,
        ca: directory.path().join("ca.pem"),
        cert: directory.path().join("client.pem"),
        key: directory.path().join("client.key"),
    };
    let mut tasks = JoinSet::new();
    let mut watches = Vec::new();
    for seed in 0..SIDECARS {
        watches.push(sidecar(&rig, seed, settings.clone(), &mut tasks).await);
    }
    rig.operator.watched(usize::try_from(SIDECARS).unwrap()).await;
    until("all have told where they are", async || {
        let heard = rig.operator.heard();
        let told: std::collections::BTreeSet<_> =
            heard.reports.iter().map(|report| &report.instance).collect();
        (told.len() as u64 == SIDECARS).then_some(())
    })
    .await;
    let mut lags = Vec::new();
    for (number, version) in [(2, "2"), (3, "3"), (4, "4")] {
        rig.store(number).await;
        let promoted = Instant::now();
        rig.label(serde_json::json!({ "current": version })).await;
        rig.operator.announce(PATH, None);
        let (again, times) = arrivals(watches, version).await;
        watches = again;
        lags.extend(times.into_iter().map(|time| time.duration_since(promoted)));
    }
    lags.sort();
    let p99 = lags[lags.len() * 99 / 100];
    println!("p50 {:?}, p99 {p99:?}, most {:?}", lags[lags.len() / 2], lags[lags.len() - 1]);
    assert!(p99 < SECOND, "{p99:?}");
}
