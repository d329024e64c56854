//! Failures: back-off, staleness, and what ends a renewal.

use super::*;

/// Fails the call in flight and says how long until the next one.
fn fail(bench: &mut Bench, fault: Fault) -> Duration {
    let event = match bench.view().state {
        State::Renewing => Event::RenewFailed(fault),
        _ => Event::FetchFailed(fault),
    };
    bench.on(event);
    bench.next_call().0
}

#[test]
fn the_back_off_doubles_with_jitter_up_to_its_bound() {
    for seed in 0..50 {
        let mut bench = Bench::new(terms(), seed);
        bench.tick();
        for failures in 0..12 {
            let wait = fail(&mut bench, fault(Reason::Unavailable));
            let ceiling = secs(f64::from(2_u32.pow(failures).min(60)));
            assert_share(wait, ceiling, 0.5, 1.0);
        }
    }
}

#[test]
fn a_fault_that_waiting_does_not_mend_is_asked_about_more_slowly() {
    for reason in [Reason::Forbidden, Reason::NotFound, Reason::Invalid] {
        let mut bench = Bench::new(terms(), 1);
        bench.tick();
        assert_share(fail(&mut bench, fault(reason)), SECOND * 5, 0.5, 1.0);
    }
}

#[test]
fn the_wait_that_the_store_asks_for_is_kept_and_does_not_lengthen_the_next() {
    let mut bench = Bench::new(terms(), 1);
    bench.tick();
    for _ in 0..10 {
        let throttled = fault(Reason::Throttled).retry_after(Duration::from_mins(7));
        assert_share(fail(&mut bench, throttled), Duration::from_mins(7), 1.0, 1.2);
    }
    assert_share(fail(&mut bench, fault(Reason::Failed)), SECOND, 0.5, 1.0);
}

#[test]
fn a_store_cannot_ask_for_a_wait_without_bound() {
    let mut bench = Bench::new(terms(), 1);
    bench.tick();
    let wait = fail(&mut bench, fault(Reason::Throttled).retry_after(Duration::MAX));
    assert_share(wait, HOUR, 1.0, 1.2);
}

#[test]
fn a_lease_that_could_not_be_renewed_is_stale_once_and_recovers() {
    let mut bench = Bench::holding(terms(), 1, leased("a", HOUR));
    bench.next_call();
    let effects = bench.on(Event::RenewFailed(fault(Reason::Unavailable)));
    assert_eq!(changes(&effects), [Change::Stale]);
    assert_eq!(bench.view().state, State::Stale);
    bench.next_call();
    assert_eq!(changes(&bench.on(Event::RenewFailed(fault(Reason::Timeout)))), []);
    bench.next_call();
    let effects = bench.on(Event::RenewSucceeded(renewed(HOUR)));
    assert_eq!(changes(&effects), [Change::Recovered]);
    assert_eq!((bench.view().state, bench.view().fault), (State::Fresh, None));
}

#[test]
fn a_lease_is_never_served_past_its_end_whatever_max_stale_says() {
    let mut bench = Bench::holding(terms(), 1, leased("a", HOUR));
    let end = bench.now + HOUR;
    bench.next_call();
    bench.on(Event::RenewFailed(fault(Reason::Unavailable)));
    bench.now = end;
    assert!(bench.view().held.is_none(), "even before the table is told the time");
    let effects = bench.tick();
    assert_eq!(changes(&effects), [Change::Revoked]);
    assert_eq!(bench.view().state, State::Expired);
}

#[test]
fn a_refused_renewal_is_not_repeated_and_the_lease_is_replaced_in_its_time() {
    let mut bench = Bench::holding(terms(), 1, leased("a", HOUR));
    let end = bench.now + HOUR;
    for _ in 0..10 {
        bench.next_call();
        bench.on(Event::RenewFailed(fault(Reason::Unavailable)));
    }
    bench.next_call();
    let left = end - bench.now;
    bench.on(Event::RenewFailed(fault(Reason::Forbidden)));
    assert_eq!(bench.ends_in(), Some(left), "the value lives to its end");
    let (after, call) = bench.next_call();
    assert_eq!(call, Effect::Fetch);
    assert_share(after, left, 0.1, 0.73);
}

#[test]
fn a_lost_lease_ends_the_value_and_a_new_one_is_fetched_at_once() {
    let mut bench = Bench::holding(terms(), 1, leased("a", HOUR));
    bench.next_call();
    let effects = bench.on(Event::RenewFailed(fault(Reason::LeaseLost)));
    assert_eq!(changes(&effects), [Change::Revoked]);
    assert_eq!(calls(effects), [Effect::Fetch]);
    assert_eq!(bench.view().state, State::Revoked);
    assert_eq!(changes(&bench.fetched(leased("b", HOUR))), [Change::Rotated]);
    assert_eq!(bench.view().overlaps.len(), 0);
}

#[test]
fn a_polled_value_is_served_for_max_stale_after_it_was_due_and_warned_of_once() {
    let mut bench = Bench::holding(terms(), 1, issued("v1", Lifetime::Unbounded));
    bench.next_call();
    let due = bench.now;
    let effects = bench.on(Event::FetchFailed(fault(Reason::Sealed)));
    assert_eq!(changes(&effects), [Change::Stale]);
    assert_eq!(bench.ends_in(), Some(Duration::from_mins(30)));
    let mut seen = Vec::new();
    while bench.now - due < Duration::from_mins(40) {
        let effects = bench.wake();
        seen.extend(changes(&effects).into_iter().map(|change| (change, bench.now - due)));
        if calls(effects) == [Effect::Fetch] {
            let failed = bench.on(Event::FetchFailed(fault(Reason::Sealed)));
            assert_eq!(changes(&failed), []);
        }
    }
    let (warned, ended) = (Duration::from_mins(27), Duration::from_mins(30));
    assert_eq!(seen, [(Change::Expiring, warned), (Change::Revoked, ended)]);
}

#[test]
fn a_polled_value_that_is_confirmed_again_has_no_end() {
    let mut bench = Bench::holding(terms(), 1, issued("v1", Lifetime::Unbounded));
    bench.next_call();
    bench.on(Event::FetchFailed(fault(Reason::Failed)));
    bench.next_call();
    let effects = bench.fetched(issued("v1", Lifetime::Unbounded));
    assert_eq!(changes(&effects), [Change::Recovered]);
    assert_eq!(bench.ends_in(), None);
}

#[test]
fn expiring_is_told_once_at_nine_tenths_and_the_renewal_given_up_for_a_replacement() {
    let mut bench = Bench::holding(terms(), 1, leased("a", HOUR));
    let start = bench.now;
    let mut expiring = Vec::new();
    let mut last = Effect::Fetch;
    while bench.now - start < HOUR - SECOND * 61 {
        let effects = bench.wake();
        if changes(&effects).contains(&Change::Expiring) {
            expiring.push(bench.now - start);
        }
        if let Some(call) = calls(effects).pop() {
            last = call.clone();
            bench.on(match call {
                Effect::Renew(_) => Event::RenewFailed(fault(Reason::Failed)),
                _ => Event::FetchFailed(fault(Reason::Failed)),
            });
        }
    }
    assert_eq!(expiring, [HOUR * 9 / 10]);
    assert_eq!(last, Effect::Fetch);
}

#[test]
fn a_value_that_ended_before_it_arrived_is_a_failure_that_is_backed_off_from() {
    for dead in [leased("a", Duration::ZERO), issued("a", Lifetime::Ends(Duration::ZERO))] {
        let mut bench = Bench::new(terms(), 1);
        bench.tick();
        let effects = bench.fetched(dead);
        assert_eq!(effects, [Effect::Publish(None)]);
        assert_eq!(bench.view().fault.map(|f| f.reason), Some(Reason::Invalid));
        assert!(bench.next_call().0 >= SECOND * 2);
    }
}

#[test]
fn a_lease_too_short_for_its_own_call_is_revoked() {
    let mut bench = Bench::new(terms(), 1);
    bench.tick();
    bench.now = bench.now + SECOND * 3;
    let first = Issued { max_left: Some(SECOND * 2), ..leased("a", HOUR) };
    assert_eq!(calls(bench.fetched(first)), [Effect::Revoke(lease("a"))]);
}

#[test]
fn a_secret_on_demand_is_not_retried_unless_somebody_reads_or_watches() {
    let on_demand = Terms { prefetch: false, ..terms() };
    let mut bench = Bench::new(on_demand, 1);
    bench.on(Event::Wanted);
    bench.on(Event::FetchFailed(fault(Reason::Unavailable)));
    assert_eq!(bench.life.wake_at(bench.now), None);
    assert_eq!(bench.on(Event::Wanted), [], "not before the back-off is over");
    assert_eq!(bench.next_call().1, Effect::Fetch);
    bench.on(Event::Watched(true));
    bench.on(Event::FetchFailed(fault(Reason::Unavailable)));
    assert_eq!(bench.next_call().1, Effect::Fetch);
    bench.on(Event::Watched(false));
    bench.on(Event::FetchFailed(fault(Reason::Unavailable)));
    assert_eq!(bench.life.wake_at(bench.now), None);
}

#[test]
fn a_hint_shortens_the_back_off_and_a_storm_of_hints_costs_a_call_in_ten_seconds() {
    let mut bench = Bench::new(terms(), 1);
    bench.tick();
    let start = bench.now;
    let mut fetches = 0;
    bench.on(Event::FetchFailed(fault(Reason::Forbidden)));
    while bench.now - start < Duration::from_mins(10) {
        bench.now = bench.now + Duration::from_millis(100);
        if calls(bench.on(Event::Changed)) == [Effect::Fetch] {
            fetches += 1;
            bench.on(Event::FetchFailed(fault(Reason::Forbidden)));
        }
    }
    assert!((55..=75).contains(&fetches), "{fetches} calls in ten minutes");
}
