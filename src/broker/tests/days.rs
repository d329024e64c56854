//! A day in the life of a hundred leases, and what a failing store is spared.

use std::sync::{Arc, Mutex};

use tokio::time::{sleep, timeout};

use super::fakes::*;
use crate::{
    broker::{Entry, ports::Clock},
    domain::{
        budget::{Budget, BudgetTerms},
        fault::Reason,
        time::{Jitter, Moment},
    },
};

const BUDGET: BudgetTerms = BudgetTerms {
    calls_per_minute: 600,
    burst: 100,
    probe_min: SECOND,
    probe_max: std::time::Duration::from_secs(30),
};

/// Puts secrets behind one budget, by path and lease time.
async fn load(rig: &Rig, places: Vec<FakeOrigin>) {
    let budget = Budget::new(BUDGET, Jitter::seeded(3));
    let budget = Arc::new((Mutex::new(budget), tokio::sync::Mutex::new(())));
    let entry = |inner: FakeOrigin| -> (String, Entry) {
        (inner.path.clone(), entry(WithBudget { inner, budget: Arc::clone(&budget) }))
    };
    let entries = places.into_iter().map(entry).collect::<Vec<_>>();
    rig.load(&entries.iter().map(|(n, e)| (n.as_str(), e.clone())).collect::<Vec<_>>()).await;
}

/// The minute of the day at which each fault begins and ends.
const OUTAGE: (u64, u64) = (600, 660);
const PATH_FAULT: (u64, u64) = (900, 920);
/// The minutes after a fault in which values that ended during it may still be missing.
const RECOVERY: u64 = 6;

fn a_hundred_places(rig: &Rig) -> Vec<FakeOrigin> {
    (0..100)
        .map(|n| {
            let (group, ttl) = match n {
                0..20 => ("short", MINUTE * 10),
                20..50 => ("flaky", HOUR),
                _ => ("plain", HOUR),
            };
            let max_ttl = if n % 2 == 0 { HOUR * 24 } else { HOUR * 6 };
            FakeOrigin { ttl: Some((ttl, max_ttl)), ..rig.origin(&format!("{group}/{n}"), None) }
        })
        .collect()
}

/// Reads all secrets once; what is served has to be good at the store.
async fn read_all(rig: &Rig, places: &[FakeOrigin], minute: u64) {
    let within = |(from, to): (u64, u64)| (from..to + RECOVERY).contains(&minute);
    for place in places {
        let kept = rig.secret(&place.path).await;
        let Ok(Ok(state)) = timeout(SECOND / 10, kept.current()).await else {
            let excused = within(OUTAGE) || (within(PATH_FAULT) && place.path.starts_with("flaky"));
            assert!(excused, "{} was not served in minute {minute}", place.path);
            continue;
        };
        let now = rig.clock.now();
        let held = state.live(now).expect("a live value");
        let id = &held.lease.as_ref().expect("leased").id;
        let ledger = rig.store.ledger();
        let granted = &ledger.leases[id];
        assert!(granted.revocations == 0 && now < granted.ends_at, "{id} is dead at the store");
        assert!(held.ends_at.is_some_and(|end| end <= granted.ends_at), "{id} ends too late");
    }
}

#[tokio::test(start_paused = true)]
async fn a_day_with_a_hundred_leases_costs_two_calls_a_renewal_period_and_fails_no_read() {
    let rig = Rig::new();
    rig.store.ledger().latency = std::time::Duration::from_millis(20);
    let places = a_hundred_places(&rig);
    load(&rig, places.clone()).await;
    sleep(MINUTE).await;
    rig.store.ledger().one_fails_in = Some(10);
    for minute in 1..24 * 60 {
        {
            let mut ledger = rig.store.ledger();
            let during = |(from, to): (u64, u64)| (from..to).contains(&minute);
            ledger.fault = during(OUTAGE).then_some(Reason::Unavailable);
            ledger.path_fault = during(PATH_FAULT).then_some(("flaky".to_owned(), Reason::Failed));
        }
        read_all(&rig, &places, minute).await;
        sleep(MINUTE).await;
    }
    for place in &places {
        let calls = rig.store.ledger().calls.iter().filter(|call| call.2 == place.path).count();
        let ttl = place.ttl.expect("leased").0;
        let periods = HOUR.as_secs_f64() * 24.0 / (ttl.as_secs_f64() * 2.0 / 3.0);
        let calls = f64::from(u32::try_from(calls).expect("few"));
        assert!(calls <= 2.0 * periods, "{}: {calls} calls in {periods} periods", place.path);
    }
}

/// The most calls in any whole minute of a stretch of time.
fn most_in_a_minute(rig: &Rig, from: Moment) -> usize {
    let mut minutes = std::collections::BTreeMap::new();
    for (at, ..) in rig.store.ledger().calls.iter().filter(|(at, ..)| *at >= from) {
        *minutes.entry((*at - from).as_secs() / 60).or_insert(0) += 1;
    }
    minutes.into_values().max().unwrap_or(0)
}

/// A thousand leases at a store that begins to fail: the most calls a minute, at first and after
/// it failed for twenty minutes.
async fn calls_to_a_store_that_fails(reason: Reason) -> (usize, usize) {
    let rig = Rig::new();
    let origin = |n| rig.origin(&format!("p/{n}"), Some(MINUTE * 10));
    load(&rig, (0..1000).map(origin).collect()).await;
    sleep(MINUTE * 3).await;
    rig.store.ledger().fault = Some(reason);
    let start = rig.clock.now();
    sleep(MINUTE * 20).await;
    let late = rig.clock.now();
    sleep(MINUTE * 5).await;
    (most_in_a_minute(&rig, start), most_in_a_minute(&rig, late))
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_as_a_whole_is_only_probed() {
    for reason in [Reason::Unavailable, Reason::Sealed, Reason::Throttled, Reason::Unauthenticated]
    {
        let (most, late) = calls_to_a_store_that_fails(reason).await;
        assert!(most <= 20 && late <= 5, "{reason:?}: {most} and then {late} a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_each_call_is_asked_ever_less() {
    for reason in [Reason::Failed, Reason::Timeout] {
        let (most, late) = calls_to_a_store_that_fails(reason).await;
        assert!(most <= 700 && late <= 400, "{reason:?}: {most} and then {late} a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_each_call_is_left_alone() {
    for reason in [Reason::Forbidden, Reason::NotFound, Reason::Invalid, Reason::LeaseLost] {
        let (most, late) = calls_to_a_store_that_fails(reason).await;
        assert!(most <= 700 && late <= 350, "{reason:?}: {most} and then {late} a minute");
    }
}
