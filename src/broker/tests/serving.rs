//! Reading: coalesced misses, shared errors, the negative cache, clocks that jump.

use jiff::SignedDuration;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::fakes::*;
use crate::{broker::kept::Unserved, domain::fault::Reason};

/// Has `callers` read a secret at once, and says how many got a value and how many an error.
async fn read_at_once(rig: &Rig, callers: usize) -> (usize, usize) {
    let mut reads = JoinSet::new();
    for _ in 0..callers {
        let kept = rig.secret("db").await;
        reads.spawn(async move { kept.current().await.is_ok() });
    }
    let served = reads.join_all().await.into_iter().filter(|ok| *ok).count();
    (served, callers - served)
}

async fn on_demand_rig() -> Rig {
    let rig = Rig::new();
    rig.store.ledger().latency = SECOND;
    rig.load(&[("db", on_demand(rig.leased("db")))]).await;
    rig
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_of_one_missing_secret_cost_exactly_one_fetch() {
    let rig = on_demand_rig().await;
    assert_eq!(read_at_once(&rig, 1000).await, (1000, 0));
    assert_eq!(rig.store.count(Kind::Fetch), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_share_one_error_and_later_ones_get_it_without_a_call() {
    let rig = on_demand_rig().await;
    rig.store.ledger().fault = Some(Reason::Forbidden);
    assert_eq!(read_at_once(&rig, 1000).await, (0, 1000));
    assert_eq!(read_at_once(&rig, 1000).await, (0, 1000));
    assert_eq!(rig.store.count(Kind::Fetch), 1);
    sleep(SECOND * 5).await;
    rig.store.ledger().fault = None;
    assert_eq!(rig.store.count(Kind::Fetch), 1, "nobody reads, so nobody asks");
    assert_eq!(read_at_once(&rig, 10).await, (10, 0));
    assert_eq!(rig.store.count(Kind::Fetch), 2);
}

#[tokio::test(start_paused = true)]
async fn the_others_are_served_when_the_first_caller_goes_away() {
    let rig = on_demand_rig().await;
    let kept = rig.secret("db").await;
    let leader = {
        let kept = rig.secret("db").await;
        tokio::spawn(async move { kept.current().await.is_ok() })
    };
    sleep(SECOND / 2).await;
    leader.abort();
    assert!(kept.current().await.is_ok());
    assert_eq!(rig.store.count(Kind::Fetch), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_may_stop_waiting_at_its_deadline() {
    let rig = on_demand_rig().await;
    rig.store.ledger().latency = MINUTE;
    let kept = rig.secret("db").await;
    assert!(timeout(SECOND, kept.current()).await.is_err());
    assert!(timeout(MINUTE, kept.current()).await.expect("the call goes on").is_ok());
    assert_eq!(rig.store.count(Kind::Fetch), 1);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_was_taken_out_answers_its_late_readers() {
    let rig = on_demand_rig().await;
    let kept = rig.secret("db").await;
    rig.load(&[]).await;
    sleep(SECOND).await;
    let late = timeout(SECOND, kept.current()).await.expect("an answer");
    assert_eq!(late.err(), Some(Unserved::Withdrawn));
    assert!(rig.broker.secret("db").await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_the_wall_clock_moves_no_lease_and_keeps_generations_growing() {
    let rig = Rig::new();
    rig.load(&[("db", rig.leased("db"))]).await;
    let kept = rig.secret("db").await;
    let mut before = kept.current().await.expect("a value").generation();
    for jump in [SignedDuration::from_hours(24), SignedDuration::from_hours(-48)] {
        rig.clock.jump_wall(jump);
        let calls = rig.store.ledger().calls.len();
        sleep(MINUTE).await;
        assert!(kept.current().await.is_ok());
        assert_eq!(rig.store.ledger().calls.len(), calls);
        kept.refused(kept.snapshot().generation());
        sleep(MINUTE).await;
        let after = kept.snapshot().generation();
        assert!(after > before, "{after:?} follows {before:?}");
        before = after;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_served_past_its_end_after_the_machine_was_suspended() {
    let rig = Rig::new();
    rig.load(&[("db", rig.leased("db"))]).await;
    let kept = rig.secret("db").await;
    let first = kept.current().await.expect("a value").generation();
    rig.clock.suspend(HOUR * 2);
    rig.store.ledger().fault = Some(Reason::Unavailable);
    assert!(kept.current().await.is_err(), "although no timer has fired");
    rig.store.ledger().fault = None;
    sleep(MINUTE).await;
    assert!(kept.current().await.expect("a new value").generation() > first);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_machine_renews_within_a_minute_of_waking_up() {
    let rig = Rig::new();
    rig.load(&[("db", rig.leased("db"))]).await;
    let kept = rig.secret("db").await;
    kept.current().await.expect("a value");
    rig.clock.suspend(MINUTE * 50);
    sleep(MINUTE + SECOND).await;
    assert_eq!(rig.store.count(Kind::Renew), 1);
}
