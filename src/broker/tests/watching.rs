//! Watching: what is told, in which order, and what a slow reader costs.

use std::sync::Arc;

use tokio::time::sleep;

use super::fakes::*;
use crate::{
    broker::watch::Occurrence,
    domain::{fault::Reason, life::Change},
};

fn told(name: &str, change: Change) -> (String, Option<Change>) {
    (name.into(), Some(change))
}

#[tokio::test(start_paused = true)]
async fn a_watch_begins_with_the_state_and_tells_each_change_in_order() {
    let rig = Rig::new();
    rig.load(&[("db", rig.leased("db"))]).await;
    rig.secret("db").await.current().await.expect("a value");
    let (mut watch, states) = rig.watch().await;
    assert_eq!(states, 1);
    assert_eq!(next(&mut watch).await, told("db", Change::Renewed));
    rig.store.ledger().fault = Some(Reason::Unavailable);
    assert_eq!(next(&mut watch).await, told("db", Change::Stale));
    rig.store.ledger().fault = None;
    assert_eq!(next(&mut watch).await, told("db", Change::Recovered));
    rig.store.ledger().fault = Some(Reason::Failed);
    for change in [Change::Stale, Change::Expiring, Change::Revoked] {
        assert_eq!(next(&mut watch).await, told("db", change));
    }
    rig.store.ledger().fault = None;
    assert_eq!(next(&mut watch).await, told("db", Change::Rotated));
}

#[tokio::test(start_paused = true)]
async fn a_secret_on_demand_is_tried_again_as_long_as_somebody_watches() {
    let rig = Rig::new();
    rig.store.ledger().fault = Some(Reason::Unavailable);
    rig.load(&[("db", on_demand(rig.leased("db")))]).await;
    let (mut watch, _) = rig.watch().await;
    assert_eq!(rig.secret("db").await.watches(), 1);
    sleep(MINUTE).await;
    rig.store.ledger().fault = None;
    assert_eq!(next(&mut watch).await, told("db", Change::Rotated));
    drop(watch);
    assert_eq!(rig.secret("db").await.watches(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_watcher_is_told_the_latest_of_each_once_and_holds_no_old_value() {
    let rig = Rig::new();
    rig.load(&[("a", rig.polled("a")), ("b", rig.polled("b")), ("c", rig.polled("c"))]).await;
    let [a, b] = [rig.secret("a").await, rig.secret("b").await];
    rig.secret("c").await.current().await.expect("a value");
    b.current().await.expect("a value");
    let first = Arc::downgrade(
        &a.current().await.expect("a value").view.held.as_ref().expect("held").fields,
    );
    let (mut watch, _) = rig.watch().await;
    for n in 0..300 {
        rig.store.ledger().versions.insert("a".into(), format!("a{n}"));
        rig.store.ledger().versions.insert("b".into(), format!("b{n}"));
        for kept in [&a, &b] {
            kept.refused(kept.snapshot().generation());
        }
        sleep(SECOND * 11).await;
    }
    sleep(MINUTE * 11).await;
    assert!(first.upgrade().is_none(), "a watch holds no value");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let Some(Occurrence::Changed(kept, change, state)) = watch.next().await else {
            panic!("a change");
        };
        let version = state.view.held.as_ref().expect("held").version.0.to_string();
        seen.push((kept.name().to_string(), change, version));
    }
    let rotated = |name: &str| (name.to_owned(), Change::Rotated, format!("{name}299"));
    assert_eq!(seen, [rotated("a"), rotated("b")]);
    assert!(is_quiet(&mut watch, HOUR).await);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_falls_behind_a_little_is_told_the_latest_once() {
    let rig = Rig::new();
    rig.load(&[("db", rig.leased("db"))]).await;
    let kept = rig.secret("db").await;
    kept.current().await.expect("a value");
    let (mut watch, _) = rig.watch().await;
    kept.refused(kept.snapshot().generation());
    sleep(MINUTE).await;
    rig.store.ledger().fault = Some(Reason::Unavailable);
    rig.store.hints.notify_waiters();
    sleep(MINUTE).await;
    rig.store.ledger().fault = None;
    sleep(MINUTE).await;
    assert_eq!(next(&mut watch).await, told("db", Change::Rotated));
    assert!(is_quiet(&mut watch, MINUTE).await);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_fell_behind_ends_too_when_watches_end() {
    let rig = Rig::new();
    rig.load(&[("db", rig.leased("db"))]).await;
    let (mut watch, _) = rig.watch().await;
    rig.broker.end_watches();
    for _ in 0..300 {
        rig.broker.policies_changed();
    }
    assert!(watch.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_when_the_broker_stops() {
    let rig = Rig::new();
    rig.load(&[("db", rig.leased("db"))]).await;
    rig.secret("db").await.current().await.expect("a value");
    let (mut watch, _) = rig.watch().await;
    rig.broker.stop(true).await;
    assert!(watch.next().await.is_none());
    assert!(watch.next().await.is_none());
}
