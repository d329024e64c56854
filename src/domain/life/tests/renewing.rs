//! Renewal, replacement and polling while the store answers.

use super::*;

#[test]
fn a_prefetched_secret_is_fetched_at_once_and_another_when_it_is_wanted() {
    assert_eq!(Bench::new(terms(), 1).tick(), [Effect::Fetch]);
    let mut bench = Bench::new(Terms { prefetch: false, ..terms() }, 1);
    assert_eq!(bench.tick(), []);
    assert_eq!(bench.life.wake_at(bench.now), None);
    assert_eq!(bench.on(Event::Wanted), [Effect::Fetch]);
}

#[test]
fn a_lease_is_renewed_at_a_jittered_two_thirds_and_never_at_birth() {
    let mut shares = Vec::new();
    for seed in 0..200 {
        let mut bench = Bench::new(terms(), seed);
        bench.tick();
        assert_eq!(calls(bench.fetched(leased("a", HOUR))), []);
        let (after, call) = bench.next_call();
        assert_eq!(call, Effect::Renew(lease("a")));
        assert_share(after, HOUR, 0.6, 0.73);
        shares.push(after);
    }
    shares.sort();
    assert!(shares[150] - shares[50] > HOUR / 25, "the renewals are spread");
}

#[test]
fn a_renewal_lengthens_the_lease_from_the_moment_the_call_began() {
    let mut bench = Bench::holding(terms(), 1, leased("a", HOUR));
    bench.next_call();
    bench.now = bench.now + SECOND * 5;
    let effects = bench.on(Event::RenewSucceeded(renewed(HOUR)));
    assert_eq!(changes(&effects), [Change::Renewed]);
    assert_eq!(bench.ends_in(), Some(HOUR - SECOND * 5));
    assert_eq!(bench.generation(), 1);
    assert_share(bench.next_call().0 + SECOND * 5, HOUR, 0.6, 0.73);
}

#[test]
fn a_lease_that_a_renewal_no_longer_lengthens_is_replaced_before_its_end_with_overlap() {
    let mut bench = Bench::holding(terms(), 1, leased("a", HOUR));
    bench.on(Event::Delivered("app".into(), Generation(1)));
    bench.next_call();
    bench.on(Event::RenewSucceeded(renewed(HOUR * 4 / 5)));
    let (after, call) = bench.next_call();
    assert_eq!(call, Effect::Fetch);
    assert_share(after, HOUR * 4 / 5, 0.6, 0.73);
    let effects = bench.fetched(leased("b", HOUR));
    assert_eq!(changes(&effects), [Change::Rotated]);
    let view = bench.view();
    assert_eq!(view.overlaps.len(), 1);
    assert_eq!(view.overlaps[0].held.generation, Generation(1));
    assert_eq!(view.overlaps[0].until - bench.now, Duration::from_mins(10));
    assert_eq!(view.held.expect("b is held").lease, Some(lease("b")));
}

#[test]
fn a_lease_whose_renewals_are_over_is_replaced_and_not_renewed() {
    let rest = |renewed: Renewed| {
        let mut bench = Bench::holding(terms(), 1, leased("a", HOUR));
        bench.next_call();
        bench.on(Event::RenewSucceeded(renewed));
        bench.next_call().1
    };
    assert_eq!(rest(renewed(HOUR)), Effect::Renew(lease("a")));
    assert_eq!(rest(Renewed { renewable: false, ..renewed(HOUR) }), Effect::Fetch);
    assert_eq!(rest(Renewed { max_left: Some(HOUR), ..renewed(HOUR) }), Effect::Fetch);
}

#[test]
fn nothing_outlives_the_maximum_that_the_store_tells() {
    let first = Issued { max_left: Some(HOUR / 3), ..leased("a", HOUR) };
    let mut bench = Bench::holding(terms(), 1, first);
    assert_eq!(bench.ends_in(), Some(HOUR / 3));
    let (after, call) = bench.next_call();
    assert_eq!(call, Effect::Fetch);
    assert_share(after, HOUR / 3, 0.6, 0.73);
}

#[test]
fn a_lease_is_replaced_before_it_reaches_the_most_that_it_may_age() {
    let max_age = HOUR * 3 / 2;
    let mut bench =
        Bench::holding(Terms { max_age: Some(max_age), ..terms() }, 1, leased("a", HOUR));
    let (after, call) = bench.next_call();
    assert_eq!(call, Effect::Renew(lease("a")));
    bench.on(Event::RenewSucceeded(renewed(HOUR)));
    assert_eq!(bench.ends_in(), Some(max_age - after));
    assert_eq!(bench.next_call().1, Effect::Fetch);
}

#[test]
fn a_lease_that_cannot_be_renewed_is_replaced_at_two_thirds() {
    let lease = Lease { id: "a".into(), renewable: false };
    let first = issued("a", Lifetime::Leased { lease, ttl: HOUR });
    let (after, call) = Bench::holding(terms(), 1, first).next_call();
    assert_eq!(call, Effect::Fetch);
    assert_share(after, HOUR, 0.6, 0.73);
}

#[test]
fn an_unbounded_value_is_polled_and_compared_by_its_version() {
    let mut bench = Bench::holding(terms(), 3, issued("v1", Lifetime::Unbounded));
    assert_eq!(bench.ends_in(), None);
    let (after, call) = bench.next_call();
    assert_eq!(call, Effect::Fetch);
    assert_share(after, Duration::from_mins(5), 0.9, 1.1);
    assert_eq!(changes(&bench.fetched(issued("v1", Lifetime::Unbounded))), []);
    assert_eq!(bench.generation(), 1);
    bench.next_call();
    assert_eq!(changes(&bench.fetched(issued("v2", Lifetime::Unbounded))), [Change::Rotated]);
    assert_eq!(bench.generation(), 3);
    assert_eq!(bench.view().overlaps.len(), 1);
}

#[test]
fn a_rotating_value_is_read_again_right_after_its_rotation_and_does_not_overlap() {
    let rotates = |secs| Lifetime::Rotates(Duration::from_secs(secs));
    let mut bench = Bench::holding(terms(), 1, issued("v1", rotates(90)));
    assert_eq!(bench.next_call(), (SECOND * 91, Effect::Fetch));
    assert_eq!(changes(&bench.fetched(issued("v2", rotates(600)))), [Change::Rotated]);
    assert_eq!(bench.view().overlaps.len(), 0);
    let (after, _) = bench.next_call();
    assert_share(after, Duration::from_mins(5), 0.9, 1.1);
}

#[test]
fn a_rotation_that_is_overdue_is_asked_about_ever_more_slowly() {
    let overdue = || issued("v1", Lifetime::Rotates(Duration::ZERO));
    let mut bench = Bench::holding(terms(), 1, overdue());
    let waits: Vec<u64> = (0..7)
        .map(|_| {
            let (after, _) = bench.next_call();
            bench.fetched(overdue());
            after.as_secs()
        })
        .collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64]);
    bench.next_call();
    bench.fetched(issued("v2", Lifetime::Rotates(Duration::ZERO)));
    assert_eq!(bench.next_call().0, SECOND, "the next rotation starts anew");
}

#[test]
fn a_hint_checks_a_polled_value_and_a_lease_within_a_second() {
    let mut polled = Bench::holding(terms(), 1, issued("v1", Lifetime::Unbounded));
    polled.on(Event::Changed);
    assert!(matches!(polled.next_call(), (wait, Effect::Fetch) if wait <= SECOND));
    let mut held = Bench::holding(terms(), 1, leased("a", HOUR));
    held.on(Event::Changed);
    assert!(matches!(held.next_call(), (wait, Effect::Renew(_)) if wait <= SECOND));
}

#[test]
fn a_hint_that_comes_while_the_value_is_read_has_it_read_again() {
    let mut bench = Bench::holding(terms(), 1, issued("v1", Lifetime::Unbounded));
    bench.next_call();
    bench.on(Event::Changed);
    bench.fetched(issued("v1", Lifetime::Unbounded));
    assert!(bench.next_call().0 <= SECOND);
    bench.fetched(issued("v2", Lifetime::Unbounded));
    assert!(bench.next_call().0 > SECOND * 60, "once");
}

#[test]
fn a_refused_value_is_fetched_anew_once_in_ten_seconds() {
    let mut bench = Bench::holding(terms(), 1, leased("a", HOUR));
    assert_eq!(calls(bench.on(Event::Refused(Generation(1)))), [Effect::Fetch]);
    assert_eq!(calls(bench.on(Event::Refused(Generation(1)))), []);
    bench.fetched(leased("b", HOUR));
    assert_eq!(calls(bench.on(Event::Refused(Generation(1)))), [], "that one is gone already");
    assert_eq!(calls(bench.on(Event::Refused(Generation(2)))), []);
    bench.pass(SECOND * 10);
    assert_eq!(calls(bench.on(Event::Refused(Generation(2)))), [Effect::Fetch]);
}

#[test]
fn a_refusal_that_comes_during_a_renewal_is_not_forgotten() {
    let mut bench = Bench::holding(terms(), 1, leased("a", HOUR));
    bench.next_call();
    assert_eq!(calls(bench.on(Event::Refused(Generation(1)))), []);
    assert_eq!(calls(bench.on(Event::RenewSucceeded(renewed(HOUR)))), [Effect::Fetch]);
}

#[test]
fn a_secret_that_moved_is_fetched_soon_and_overlaps_even_if_the_versions_are_named_alike() {
    let v1 = |value: &str| Issued {
        fields: Arc::new(Fields::single(SecretValue::new(value))),
        ..issued("1", Lifetime::Unbounded)
    };
    let mut bench = Bench::holding(terms(), 1, v1("old place"));
    bench.on(Event::Moved(terms()));
    assert!(bench.next_call().0 <= SECOND);
    assert_eq!(changes(&bench.fetched(v1("new place"))), [Change::Rotated]);
    assert_eq!(bench.view().overlaps.len(), 1);
    bench.on(Event::Moved(terms()));
    bench.next_call();
    assert_eq!(changes(&bench.fetched(v1("new place"))), [], "only the terms were new");
}

#[test]
fn other_terms_check_what_is_held_and_replace_nothing() {
    let mut bench = Bench::holding(terms(), 1, leased("a", HOUR));
    let new = Terms { overlap: SECOND, ..terms() };
    assert_eq!(changes(&bench.on(Event::TermsChanged(new.clone()))), []);
    let (after, call) = bench.next_call();
    assert!(after <= SECOND);
    assert_eq!(call, Effect::Renew(lease("a")));
    assert_eq!(bench.life.terms, new);
}

#[test]
fn what_the_place_before_answers_after_the_move_is_not_served() {
    let mut bench = Bench::new(terms(), 1);
    bench.tick();
    bench.on(Event::Moved(terms()));
    let effects = bench.fetched(leased("old", HOUR));
    assert_eq!(calls(effects), [Effect::Revoke(lease("old")), Effect::Fetch]);
    assert!(bench.view().held.is_none());
    bench.on(Event::Moved(terms()));
    assert_eq!(calls(bench.on(Event::FetchFailed(fault(Reason::Forbidden)))), [Effect::Fetch]);
    bench.fetched(leased("new", HOUR));
    assert_eq!(bench.view().held.and_then(|held| held.lease), Some(lease("new")));
}

#[test]
fn a_move_ends_the_back_off_that_readers_see() {
    let mut bench = Bench::new(Terms { prefetch: false, ..terms() }, 1);
    bench.on(Event::Wanted);
    bench.on(Event::FetchFailed(fault(Reason::NotFound)));
    assert_eq!(bench.on(Event::Moved(terms()))[0], Effect::Publish(None));
    assert_eq!(bench.view().retry_at, None);
}
