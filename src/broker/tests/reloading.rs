//! Catalogues and policies that change, restarts, and the end.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::time::sleep;

use super::fakes::*;
use crate::{
    broker::{Entry, watch::Scope},
    domain::{fault::Reason, life::Change, secret::SecretName},
};

fn moved(entry: Entry) -> Entry {
    Entry { place: 2, ..entry }
}

#[tokio::test(start_paused = true)]
async fn a_secret_taken_out_is_withdrawn_and_revoked_and_the_others_go_on() {
    let rig = Rig::new();
    let keep = rig.leased("keep");
    rig.load(&[("gone", rig.leased("gone")), ("keep", keep.clone())]).await;
    sleep(SECOND).await;
    let (mut watch, _) = rig.watch().await;
    rig.load(&[("keep", keep)]).await;
    assert_eq!(next(&mut watch).await, ("gone".into(), None));
    assert!(is_quiet(&mut watch, MINUTE).await);
    assert_eq!(rig.store.revocations().len(), 1);
    assert_eq!(rig.store.count(Kind::Fetch), 2);
}

#[tokio::test(start_paused = true)]
async fn a_secret_put_in_is_picked_up_by_an_open_watch() {
    let rig = Rig::new();
    rig.load(&[]).await;
    let (mut watch, states) = rig.watch().await;
    assert_eq!(states, 0);
    rig.load(&[("new", on_demand(rig.leased("new")))]).await;
    assert_eq!(next(&mut watch).await, ("new".into(), Some(Change::Rotated)));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_moved_is_replaced_with_overlap_and_its_old_lease_revoked_where_it_came_from()
{
    let rig = Rig::new();
    rig.load(&[("db", rig.leased("old"))]).await;
    let kept = rig.secret("db").await;
    let first = kept.current().await.expect("a value").generation();
    kept.delivered(&"app".into(), first);
    let (mut watch, _) = rig.watch().await;
    rig.load(&[("db", moved(rig.leased("new")))]).await;
    assert_eq!(next(&mut watch).await, ("db".into(), Some(Change::Rotated)));
    let previous = kept.snapshot().view.overlaps.first().map(|o| o.held.generation);
    assert_eq!(previous, Some(first));
    sleep(MINUTE * 11).await;
    assert_eq!(rig.store.revocations(), ["old#1"]);
}

#[tokio::test(start_paused = true)]
async fn other_terms_leave_the_lease_as_it_is() {
    let rig = Rig::new();
    let mut entry = rig.leased("db");
    rig.load(&[("db", entry.clone())]).await;
    let kept = rig.secret("db").await;
    let first = kept.current().await.expect("a value").generation();
    entry.terms.overlap *= 2;
    rig.load(&[("db", entry)]).await;
    sleep(MINUTE).await;
    assert_eq!(kept.current().await.expect("a value").generation(), first);
    assert_eq!(rig.store.count(Kind::Fetch), 1);
}

#[tokio::test(start_paused = true)]
async fn a_move_during_a_fetch_serves_only_what_the_new_place_gives() {
    let rig = Rig::new();
    rig.store.ledger().latency = SECOND * 10;
    rig.load(&[("db", rig.leased("old"))]).await;
    sleep(SECOND * 5).await;
    rig.load(&[("db", moved(rig.leased("new")))]).await;
    let state = rig.secret("db").await.current().await.expect("a value");
    let lease = state.view.held.as_ref().and_then(|held| held.lease.clone()).expect("leased");
    assert_eq!(&*lease.id, "new#2");
    sleep(MINUTE).await;
    assert_eq!(rig.store.revocations(), ["old#1"]);
}

struct Switch(Arc<AtomicBool>);

impl Scope for Switch {
    fn covers(&self, _: &SecretName, _: &str) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_loses_its_grant_is_told_nothing_more_of_the_secret() {
    let rig = Rig::new();
    rig.load(&[("db", rig.leased("db"))]).await;
    let kept = rig.secret("db").await;
    kept.current().await.expect("a value");
    let allowed = Arc::new(AtomicBool::new(true));
    let (mut watch, _) = rig.broker.watch(Box::new(Switch(Arc::clone(&allowed)))).await;
    allowed.store(false, Ordering::Relaxed);
    rig.broker.policies_changed();
    assert_eq!(next(&mut watch).await, ("db".into(), None));
    kept.refused(kept.snapshot().generation());
    assert!(is_quiet(&mut watch, HOUR).await);
    allowed.store(true, Ordering::Relaxed);
    rig.broker.policies_changed();
    assert_eq!(next(&mut watch).await, ("db".into(), Some(Change::Rotated)));
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_has_the_old_lease_revoked_early() {
    let rig = Rig::new();
    rig.load(&[("db", rig.leased("db"))]).await;
    let kept = rig.secret("db").await;
    let app = Arc::from("app");
    kept.delivered(&app, kept.current().await.expect("a value").generation());
    kept.refused(kept.snapshot().generation());
    sleep(SECOND * 5).await;
    assert_eq!(rig.store.revocations(), Vec::<String>::new());
    kept.acknowledged(&app, kept.snapshot().generation());
    sleep(SECOND).await;
    assert_eq!(rig.store.revocations(), ["db#1"]);
    sleep(HOUR).await;
    assert_eq!(rig.store.revocations(), ["db#1"], "once");
}

#[tokio::test(start_paused = true)]
async fn stopping_revokes_everything_and_lets_the_keepers_leave() {
    let rig = Rig::new();
    let entries = ["a", "b", "c"].map(|path| (path, rig.leased(path)));
    rig.load(&entries).await;
    sleep(SECOND).await;
    rig.broker.stop(true).await;
    sleep(SECOND).await;
    assert_eq!(rig.store.revocations(), ["a#1", "b#2", "c#3"]);
    sleep(HOUR * 3).await;
    assert_eq!(rig.store.ledger().calls.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_run_held_is_served_while_the_store_is_down() {
    let rig = Rig::new();
    rig.load(&[("db", rig.leased("db"))]).await;
    let kept = rig.secret("db").await;
    let held = kept.current().await.expect("a value").view.held.clone().expect("held");
    rig.broker.stop(false).await;
    sleep(SECOND).await;
    rig.store.ledger().fault = Some(Reason::Unavailable);
    let restored = BTreeMap::from([(name("db"), (held.clone(), Vec::new()))]);
    let (broker, keepers) = crate::broker::Broker::new(
        Arc::<TokioClock>::clone(&rig.clock),
        Arc::new(crate::broker::observe::Unobserved),
        10,
        2,
    );
    tokio::spawn(keepers.run());
    broker.load(BTreeMap::from([(name("db"), rig.leased("db"))]), restored).await;
    let again = broker.secret("db").await.expect("kept");
    let state = again.current().await.expect("a value");
    assert_eq!(state.generation(), held.generation);
    rig.store.ledger().fault = None;
    sleep(HOUR).await;
    assert_eq!(again.snapshot().generation(), held.generation, "renewed, not minted again");
    assert_eq!(rig.store.count(Kind::Fetch), 1);
}
