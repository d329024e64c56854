//! Live handles: start-up, hooks, restarts, certificates, refusals.

use std::{future::IntoFuture, sync::Arc, time::Duration};

use secret_broker_client::{Client, Error, Reason, Standing};
use serde_json::json;
use tokio::sync::mpsc;

use super::{builder, client, soon};
use crate::{control::Controlled, harness::Tests, support::until};

pub fn add(tests: &mut Tests) {
    tests.add("rust_a_handle_waits_for_its_first_value_up_to_its_deadline", waits);
    tests.add("rust_hooks_hear_of_each_version_once_and_the_broker_of_them_after", hooks);
    tests.add("rust_a_handle_outlives_the_sidecar", outlives);
    tests.add("rust_a_handle_follows_new_certificates_without_a_restart", certificates);
    tests.add("rust_a_refusal_is_told_at_once_and_a_lost_right_shown", refusals);
}

async fn waits() {
    let rig = Controlled::start().await;
    rig.order("kill", json!({})).await;
    let start = std::time::Instant::now();
    let late = client(&rig).live("DB").deadline(Duration::from_millis(300)).await;
    let late = late.expect_err("nobody is there");
    assert!(matches!(late, Error::Unreachable { .. }), "{late:?}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let opening =
        tokio::spawn(client(&rig).live("DB").deadline(Duration::from_secs(30)).into_future());
    rig.order("start", json!({})).await;
    let live = soon("the first value", opening).await.expect("no panic").expect("a handle");
    assert!(live.current().text("password").is_some());
    assert!(matches!(live.standing(), Standing::Served));
    let hasty = client(&rig).live("SLOW").deadline(Duration::from_millis(300)).await;
    let hasty = hasty.expect_err("its source does not answer");
    assert!(hasty.is_transient(), "{hasty:?}");
    let missing = client(&rig).live("MISSING_AT_SOURCE").deadline(Duration::from_secs(1)).await;
    let missing = missing.expect_err("its source has none");
    // As the broker's snapshot told: that the source has none, or that it was not asked yet.
    let told = [Reason::SourceNotFound, Reason::SourceUnavailable].map(Some);
    assert!(told.contains(&missing.reason()), "{missing:?}");
}

async fn hooks() {
    let rig = Controlled::start().await;
    let client = client(&rig);
    let live = client.live("DB").await.expect("a handle");
    let same = client.clone().live("DB").await.expect("a handle");
    let (sender, mut changes) = mpsc::unbounded_channel();
    let (permit, permits) = tokio::sync::watch::channel(false);
    live.on_change(move |secret| {
        let _ = sender.send(Arc::clone(&secret));
        let mut permits = permits.clone();
        async move {
            permits.wait_for(|permitted| *permitted).await?;
            Ok(())
        }
    });
    let old_user = live.current().text("username").expect("a user").to_owned();
    let before = live.generation();
    let generation = rig.rotate("DB").await;
    let secret = soon("the hook", changes.recv()).await.expect("a version");
    assert_eq!(secret.generation(), generation);
    assert_eq!((live.generation(), same.generation()), (generation, generation));
    assert_eq!(secret.previous().expect("it overlaps").generation(), before);
    // Longer than the broker waits when everybody has acknowledged.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(users(&rig).await.contains(&old_user), "not acknowledged before the hook ended");
    permit.send_replace(true);
    until("the old user is gone", async || (!users(&rig).await.contains(&old_user)).then_some(()))
        .await;
    for _ in 0..5 {
        let generation = rig.rotate("DB").await;
        let secret = soon("the hook", changes.recv()).await.expect("a version");
        assert_eq!(secret.generation(), generation, "each version once");
        let shown = format!("{live:?} {secret:?}");
        assert!(!shown.contains(secret.text("password").expect("a password")), "{shown}");
    }
    assert_eq!(live.after(generation).await.generation(), live.generation());
}

async fn outlives() {
    let rig = Controlled::start().await;
    let live = client(&rig).live("CACHE").await.expect("a handle");
    let held = live.current();
    rig.order("kill", json!({})).await;
    assert_eq!(live.current().version(), held.version(), "it is there without the sidecar");
    rig.order("start", json!({})).await;
    let next = soon("the next version", live.after(held.generation())).await;
    assert_ne!(next.text("password"), held.text("password"));
    let generation = rig.rotate("CACHE").await;
    let rotated = soon("a rotation after the restart", live.after(generation - 1)).await;
    assert_eq!(rotated.generation(), generation);
}

async fn certificates() {
    let rig = Controlled::start().await;
    let client = client(&rig);
    let live = client.live("DB").await.expect("a handle");
    for forget in [false, true] {
        rig.order("certs", json!({ "forget_old": forget })).await;
        rig.order("restart", json!({})).await;
        let generation = rig.rotate("DB").await;
        soon("a version under the new certificates", live.after(generation - 1)).await;
        client.get("API_KEY").await.expect("calls go on");
    }
    let rejected = builder(&rig).cert_dir(rig.variable("RIG_WRONG_CERT_DIR")).build();
    let rejected = rejected.expect("a client").live("DB").deadline(Duration::from_secs(1)).await;
    let rejected = rejected.expect_err("a certificate of another authority");
    assert!(matches!(rejected, Error::Tls { .. }), "{rejected:?}");
}

async fn refusals() {
    let rig = Controlled::start().await;
    let start = std::time::Instant::now();
    let denied = client(&rig).live("FORBIDDEN").await.expect_err("no grant");
    assert_eq!(denied.reason(), Some(Reason::Denied), "{denied:?}");
    assert!(start.elapsed() < Duration::from_secs(3), "at once: {:?}", start.elapsed());
    let by_socket = Client::builder().address(rig.variable("RIG_SOCKET")).build();
    let live = by_socket.expect("a client").live("API_KEY").await.expect("a handle");
    rig.order("revoke-access", json!({ "name": "API_KEY" })).await;
    until("the loss is shown", async || {
        (!matches!(live.standing(), Standing::Served)).then_some(())
    })
    .await;
    rig.order("grant-access", json!({ "name": "API_KEY" })).await;
    until("it is served again", async || matches!(live.standing(), Standing::Served).then_some(()))
        .await;
}

async fn users(rig: &Controlled) -> Vec<String> {
    let users = rig.order("users", json!({})).await;
    serde_json::from_value(users["users"].clone()).expect("names")
}
