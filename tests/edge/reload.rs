//! Certificates that turn over while the broker serves.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::{
    caller::next_value,
    pki::{Authority, put},
    rig::Rig,
    support::until,
};

#[tokio::test]
async fn a_new_leaf_serves_new_connections_and_open_streams_go_on() {
    let rig = Rig::start().await;
    let caller = rig.caller();
    let client = caller.client();
    let mut watch = client.watch(["KEY"]);
    assert_eq!(next_value(&mut watch).await, "first");
    let streams = rig.broker.log().matches("a connection is ended").count();

    let leaf = rig.authority.server();
    leaf.install(&rig.directory(), "server");
    until("the new leaf is shown", async || (caller.shown().await? == leaf.der()).then_some(()))
        .await;
    rig.set("second");
    assert_eq!(next_value(&mut watch).await, "second", "on the stream opened before");
    assert_eq!(rig.broker.log().matches("a connection is ended").count(), streams);
}

#[tokio::test]
async fn a_torn_pair_is_not_taken_and_the_one_before_serves_on() {
    let rig = Rig::start().await;
    let caller = rig.caller();
    let before = caller.shown().await.unwrap();
    let leaf = rig.authority.server();
    put(&rig.directory(), "server.pem", &leaf.cert);
    until("the log says so", async || {
        rig.broker.log().contains("new certificates refused").then_some(())
    })
    .await;
    assert_eq!(caller.shown().await.unwrap(), before);
    assert_eq!(caller.value().await, "first");
    put(&rig.directory(), "server.key", &leaf.key);
    until("the whole pair is shown", async || (caller.shown().await? == leaf.der()).then_some(()))
        .await;
}

#[tokio::test]
async fn the_authority_turns_over_by_a_bundle_of_both() {
    let rig = Rig::start().await;
    let old = rig.caller();
    let next = Authority::new("the next authority");
    let new = rig.caller_as(&next.client());
    assert!(new.get().await.is_err(), "not trusted yet");

    put(&rig.directory(), "ca.pem", &format!("{}{}", rig.authority.pem, next.pem));
    until("the next authority's callers are let in", async || new.get().await.ok()).await;
    assert_eq!(old.value().await, "first", "so are those of the one before");

    put(&rig.directory(), "ca.pem", &next.pem);
    until("the old authority's callers are refused", async || old.get().await.err()).await;
    assert_eq!(new.value().await, "first");
}

#[tokio::test]
async fn certificates_replaced_under_load_cost_no_call() {
    let rig = Rig::start().await;
    let caller = rig.caller();
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = (0..8).map(|i| {
        let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
        // The last ones connect anew for each call.
        let clients = if i < 6 { vec![caller.client()] } else { Vec::new() };
        let directory = rig.caller();
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                match clients.first() {
                    Some(client) => client.get("KEY").await.expect("no call fails"),
                    None => directory.get().await.expect("no connection fails"),
                };
                calls.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let load = load.collect::<Vec<_>>();
    for _ in 0..10 {
        let leaf = rig.authority.server();
        leaf.install(&rig.directory(), "server");
        until("the new leaf is shown", async || {
            (caller.shown().await? == leaf.der()).then_some(())
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    for load in load {
        load.await.expect("no call failed");
    }
    assert!(calls.load(Ordering::Relaxed) > 100, "there was load");
}
