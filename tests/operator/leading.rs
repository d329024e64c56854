//! The lead by a Lease on a real API server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rustix::process::{Pid, Signal, kill_process};
use secret_broker::{
    broker::ports::Clock,
    domain::time::Moment,
    kube::{
        events::{About, Events, Happened},
        lease::LeaseLock,
    },
    rotation::ports::Leadership,
};
use serde_json::json;
use tokio::process::Child;

use super::{
    cluster::InCluster,
    rig::Rig,
    support::{
        proxy::{Hold, Proxy},
        until,
    },
};

const TENURE: Duration = Duration::from_secs(15);

/// A clock that is set by hand, whose wall clock is wrong by this much.
struct Clocks {
    millis: AtomicU64,
    wrong_by: SignedDuration,
}

impl Clocks {
    fn wrong_by(wrong_by: SignedDuration) -> Arc<Self> {
        Arc::new(Self { millis: AtomicU64::new(1_000_000), wrong_by })
    }

    fn pass(&self, time: Duration) {
        self.millis.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for Clocks {
    fn now(&self) -> Moment {
        Moment::at(Duration::from_millis(self.millis.load(Ordering::Relaxed)))
    }

    fn wall(&self) -> Timestamp {
        Timestamp::now() + self.wrong_by
    }
}

#[tokio::test]
async fn a_lease_is_judged_by_the_own_clock_and_no_other() {
    let cluster = InCluster::start().await;
    let lock = |holder: &str, clock: &Arc<Clocks>| {
        let clock = Arc::clone(clock);
        LeaseLock::new(cluster.cluster(), "secret-operator".to_owned(), holder.to_owned(), clock)
    };
    // One lives in the past and the other in the future.
    let a_clock = Clocks::wrong_by(SignedDuration::from_hours(-30));
    let b_clock = Clocks::wrong_by(SignedDuration::from_hours(30));
    let (a, b) = (lock("a", &a_clock), lock("b", &b_clock));

    assert!(a.hold(TENURE).await.unwrap(), "nobody held it");
    assert!(!b.hold(TENURE).await.unwrap(), "it is seen for the first time");
    b_clock.pass(Duration::from_secs(14));
    assert!(!b.hold(TENURE).await.unwrap(), "14 s unchanged");
    assert!(a.hold(TENURE).await.unwrap(), "renewed");
    b_clock.pass(Duration::from_secs(14));
    assert!(!b.hold(TENURE).await.unwrap(), "renewed meanwhile");
    b_clock.pass(Duration::from_secs(15));
    assert!(b.hold(TENURE).await.unwrap(), "15 s unchanged");
    let lease = cluster.lease().await;
    assert_eq!((&lease["holderIdentity"], &lease["leaseTransitions"]), (&"b".into(), &1.into()));
    assert!(!a.hold(TENURE).await.unwrap(), "taken over");

    a.release().await.unwrap();
    assert_eq!(cluster.lease().await["holderIdentity"], "b", "only its holder gives it back");
    b.release().await.unwrap();
    assert!(a.hold(TENURE).await.unwrap(), "given back");
    assert_eq!(cluster.lease().await["leaseTransitions"], 2);
}

#[tokio::test]
async fn of_many_that_ask_at_once_one_leads() {
    let cluster = InCluster::start().await;
    let clock = Clocks::wrong_by(SignedDuration::ZERO);
    let locks: Vec<_> = (0..8)
        .map(|n| {
            let clock = Arc::clone(&clock) as Arc<dyn Clock>;
            LeaseLock::new(cluster.cluster(), "secret-operator".to_owned(), format!("{n}"), clock)
        })
        .collect();
    for round in 0..3 {
        let held = futures_util::future::join_all(locks.iter().map(|lock| lock.hold(TENURE))).await;
        let leaders = held.into_iter().filter(|held| *held.as_ref().unwrap()).count();
        assert_eq!(leaders, 1, "round {round}");
        futures_util::future::join_all(locks.iter().map(Leadership::release)).await;
    }
}

#[tokio::test]
async fn an_event_is_about_the_operators_deployment_and_told_once() {
    let cluster = InCluster::start().await;
    let deployments = format!("/apis/apps/v1/namespaces/{}/deployments", cluster.namespace);
    let labels = json!({ "app": "operator" });
    let container = json!({ "name": "operator", "image": "operator" });
    let deployment = json!({
        "metadata": { "name": "secret-operator" },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [container] } },
        },
    });
    let made = cluster.kubernetes.create(&deployments, deployment).await;
    let about = About::Deployment("secret-operator".to_owned());
    let clock = Clocks::wrong_by(SignedDuration::ZERO);
    let events = Events::new(cluster.cluster(), about, "operator-0".to_owned(), clock);
    let happened = Happened {
        is_warning: true,
        reason: "RotationParked".to_owned(),
        secret: "JWT_SECRET".parse().unwrap(),
        version: Some(3),
        note: "it can't go on".to_owned(),
    };
    for _ in 0..2 {
        events.tell(&happened).await.unwrap();
    }
    let told = cluster.events("RotationParked", "JWT_SECRET").await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["regarding"]["uid"], made["metadata"]["uid"]);
    assert_eq!(told[0]["type"], "Warning");
    assert_eq!(told[0]["note"], "JWT_SECRET: it can't go on");
}

#[tokio::test]
async fn a_leader_that_is_killed_in_mid_rotation_leaves_it_to_the_other_to_finish() {
    let (rig, cluster) = tokio::join!(Rig::start(), InCluster::start());
    let proxy = Proxy::start(rig.vault.port()).await;
    rig.configure_in(&cluster, &proxy.address(), "");
    // Leave something to go on with.
    proxy.hold(5, Hold::After);
    let mut command = rig.spawn_unheard(&["rotate", "API_KEY_MASTER"]);
    proxy.held().await;
    command.kill().await.unwrap();
    proxy.let_go();

    // Whoever leads is held in the middle, and killed there.
    proxy.hold(8, Hold::After);
    let mut operators: Vec<(&str, Child)> =
        ["first.log", "second.log"].map(|log| (log, rig.operate_as_commands(log))).into();
    proxy.held().await;
    let leading: Vec<_> = operators.iter().map(|(log, _)| rig.led(log)).collect();
    assert_eq!(leading.iter().filter(|led| **led).count(), 1, "{leading:?}");
    let first = cluster.lease().await["holderIdentity"].clone();
    let (_, mut killed) = operators.remove(leading.iter().position(|led| *led).unwrap());
    killed.kill().await.unwrap();
    proxy.let_go();

    rig.finished(1).await;
    let (log, mut other) = operators.remove(0);
    assert!(rig.led(log), "the other one leads now");
    let second = cluster.lease().await;
    assert_ne!(second["holderIdentity"], first);
    assert_eq!(second["leaseTransitions"], 1);
    let current = rig.current("shop/api-key").await;
    let value = current["value"].as_str().unwrap();
    assert!(value.starts_with("sbk_"));

    // What happened is told, and where things stand, and never a value.
    let events = until("an event of it", async || {
        let events = cluster.events("RotationSucceeded", "API_KEY_MASTER").await;
        (!events.is_empty()).then_some(events)
    })
    .await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["type"], "Normal");
    assert_eq!(events[0]["metadata"]["annotations"]["secretbroker.dev/version"], "2");
    let status = until("the status says so", async || {
        let status = cluster.status("API_KEY_MASTER").await;
        (status["last"]["standing"] == "succeeded").then_some(status)
    })
    .await;
    assert_eq!((&status["current"], &status["rotation"]), (&2.into(), &serde_json::Value::Null));
    assert!(!format!("{events:?}{status}").contains(value), "a value is told");

    // Left in order, the lead is free at once.
    kill_process(Pid::from_raw(other.id().unwrap().cast_signed()).unwrap(), Signal::TERM).unwrap();
    assert!(other.wait().await.unwrap().success());
    let holder = cluster.lease().await["holderIdentity"].clone();
    assert!(holder.as_str().is_none_or(str::is_empty), "{holder}");
}
