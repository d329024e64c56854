//! Overlaps, revocation, restoring and stopping.

use super::*;

/// A lease `a` that was read by `readers` and then replaced by `b`.
fn replaced(readers: &[&str]) -> Bench {
    let mut bench = Bench::holding(terms(), 1, leased("a", HOUR));
    for reader in readers {
        bench.on(Event::Delivered((*reader).into(), Generation(1)));
    }
    bench.on(Event::Refused(Generation(1)));
    assert_eq!(calls(bench.fetched(leased("b", HOUR))), []);
    bench
}

fn revoke(id: &str) -> Effect {
    Effect::Revoke(lease(id))
}

#[test]
fn a_replaced_lease_that_nobody_read_is_revoked_after_a_second() {
    let mut bench = replaced(&[]);
    assert_eq!(bench.wait(), SECOND);
    assert_eq!(bench.wake(), [revoke("a"), Effect::Publish(None)]);
    assert_eq!(bench.view().overlaps.len(), 0);
    assert_eq!(bench.view().pending_revocations, 1);
    bench.on(Event::Revoked(lease("a")));
    assert_eq!(bench.view().pending_revocations, 0);
}

#[test]
fn a_replaced_lease_is_kept_until_all_its_readers_acknowledged() {
    let mut bench = replaced(&["x", "y"]);
    bench.pass(SECOND);
    bench.on(Event::Acknowledged("x".into(), Generation(2)));
    bench.on(Event::Acknowledged("y".into(), Generation(1)));
    assert_eq!(bench.view().overlaps.len(), 1, "y acknowledged no later version");
    let effects = bench.on(Event::Acknowledged("y".into(), Generation(2)));
    assert_eq!(calls(effects), [revoke("a")]);
    assert_eq!(calls(bench.pass(SECOND)), [], "revoked once");
}

#[test]
fn a_reader_of_the_last_instant_is_waited_for() {
    let mut bench = replaced(&[]);
    bench.pass(SECOND / 2);
    bench.on(Event::Delivered("late".into(), Generation(1)));
    assert_eq!(calls(bench.pass(SECOND)), []);
    assert_eq!(calls(bench.on(Event::Acknowledged("late".into(), Generation(2)))), [revoke("a")]);
}

#[test]
fn an_acknowledgement_within_the_first_second_waits_for_its_end() {
    let mut bench = replaced(&["x"]);
    assert_eq!(calls(bench.on(Event::Acknowledged("x".into(), Generation(2)))), []);
    assert_eq!(bench.wait(), SECOND);
    assert_eq!(calls(bench.wake()), [revoke("a")]);
}

#[test]
fn a_replaced_lease_that_is_not_acknowledged_is_revoked_at_the_deadline() {
    let mut bench = replaced(&["x"]);
    assert_eq!(bench.next_call(), (Duration::from_mins(10), revoke("a")));
}

#[test]
fn an_overlap_never_outlasts_the_lease() {
    let mut bench = Bench::holding(terms(), 1, leased("a", SECOND * 100));
    bench.on(Event::Delivered("x".into(), Generation(1)));
    bench.pass(SECOND * 50);
    bench.on(Event::Refused(Generation(1)));
    bench.fetched(leased("b", HOUR));
    assert_eq!(bench.view().overlaps[0].until - bench.now, SECOND * 50);
    assert_eq!(calls(bench.pass(SECOND * 50)), [], "its end needs no revocation");
    assert_eq!(bench.view().pending_revocations, 0);
}

#[test]
fn a_lease_that_outlives_what_our_terms_let_it_age_is_revoked_when_its_overlap_ends() {
    let terms = Terms { max_age: Some(SECOND * 100), ..terms() };
    let mut bench = Bench::holding(terms, 1, leased("a", HOUR));
    bench.on(Event::Delivered("x".into(), Generation(1)));
    bench.pass(SECOND * 50);
    bench.on(Event::Refused(Generation(1)));
    bench.fetched(leased("b", HOUR));
    assert_eq!(calls(bench.pass(SECOND * 50)), [revoke("a")]);
    bench.on(Event::RevokeFailed(lease("a"), fault(Reason::Unavailable)));
    bench.pass(SECOND * 5);
    assert_eq!(bench.view().pending_revocations, 1, "an exposure until its store says otherwise");
}

#[test]
fn stopping_has_no_revocation_wait_for_its_next_attempt() {
    let mut bench = replaced(&[]);
    bench.next_call();
    bench.on(Event::RevokeFailed(lease("a"), fault(Reason::Unavailable)));
    let calls = calls(bench.on(Event::Stopped { revoke: true }));
    assert!(calls.contains(&revoke("a")) && calls.contains(&revoke("b")), "{calls:?}");
}

#[test]
fn a_failed_revocation_is_repeated_with_growing_waits_until_the_lease_ends_by_itself() {
    let mut bench = replaced(&[]);
    let (mut ceiling, mut attempts) = (2.0, 0);
    bench.next_call();
    while bench.view().pending_revocations > 0 {
        attempts += 1;
        bench.on(Event::RevokeFailed(lease("a"), fault(Reason::Unavailable)));
        let start = bench.now;
        while bench.view().pending_revocations > 0 && !bench.wake().contains(&revoke("a")) {}
        if bench.view().pending_revocations > 0 {
            assert_share(bench.now - start, secs(ceiling), 0.5, 1.0);
        }
        ceiling = (ceiling * 2.0_f64).min(300.0);
    }
    assert!((12..=40).contains(&attempts), "{attempts} attempts in an hour");
}

#[test]
fn two_quick_rotations_keep_both_versions_before() {
    let mut bench = replaced(&["x"]);
    bench.on(Event::Delivered("x".into(), Generation(2)));
    bench.pass(SECOND * 10);
    bench.on(Event::Refused(Generation(2)));
    bench.fetched(leased("c", HOUR));
    let generations = |bench: &Bench| {
        bench.view().overlaps.iter().map(|o| o.held.generation.0).collect::<Vec<_>>()
    };
    assert_eq!(generations(&bench), [1, 2]);
    bench.pass(SECOND);
    assert_eq!(
        calls(bench.on(Event::Acknowledged("x".into(), Generation(2)))),
        [revoke("a")],
        "the one is not waited for with the other"
    );
    assert_eq!(generations(&bench), [2]);
    assert_eq!(calls(bench.on(Event::Acknowledged("x".into(), Generation(3)))), [revoke("b")]);
}

#[test]
fn the_oldest_of_too_many_overlaps_ends_early() {
    let mut bench = Bench::holding(terms(), 1, leased("l0", HOUR));
    let mut revoked = Vec::new();
    for n in 1..=9 {
        bench.on(Event::Delivered("x".into(), Generation(n)));
        bench.pass(SECOND * 10);
        bench.on(Event::Refused(Generation(n)));
        revoked.extend(calls(bench.fetched(leased(&format!("l{n}"), HOUR))));
    }
    assert_eq!(revoked, [revoke("l0")]);
    assert_eq!(bench.view().overlaps.len(), 8);
}

#[test]
fn a_lease_renewed_after_its_value_had_ended_is_revoked_and_not_lost() {
    let mut bench = Bench::holding(terms(), 1, leased("a", HOUR));
    bench.next_call();
    assert_eq!(changes(&bench.pass(HOUR)), [Change::Revoked]);
    let effects = bench.on(Event::RenewSucceeded(renewed(HOUR * 2)));
    assert_eq!(calls(effects), [revoke("a"), Effect::Fetch]);
    assert!(bench.view().held.is_none());
}

fn restored(lease: Option<Lease>, ends_in: Option<Duration>) -> (Bench, Held) {
    let bench = Bench::new(terms(), 1);
    let held = Held {
        fields: Arc::new(Fields::single(SecretValue::new("kept"))),
        version: Version("kept".into()),
        generation: Generation(41),
        issued_at: Moment::default(),
        ends_at: ends_in.map(|left| bench.now + left),
        lease,
    };
    (bench, held)
}

#[test]
fn a_restored_lease_is_served_at_once_and_checked_within_ten_seconds() {
    let (mut bench, held) = restored(Some(lease("kept")), Some(HOUR / 2));
    let effects = bench.on(Event::Restored(held, Vec::new()));
    assert_eq!(effects, [Effect::Publish(Some(Change::Rotated))]);
    assert_eq!(bench.generation(), 41);
    let (after, call) = bench.next_call();
    assert!(after <= SECOND * 10);
    assert_eq!(call, Effect::Renew(lease("kept")));
    bench.on(Event::RenewSucceeded(renewed(HOUR)));
    assert_eq!(bench.next_call().1, Effect::Renew(lease("kept")), "it is not taken for capped");
}

#[test]
fn a_restored_lease_that_cannot_be_renewed_is_replaced_and_warned_of_in_its_time() {
    let fixed = Lease { id: "kept".into(), renewable: false };
    let (mut bench, held) = restored(Some(fixed), Some(HOUR));
    bench.on(Event::Restored(held, Vec::new()));
    let (after, call) = bench.next_call();
    assert_eq!(call, Effect::Fetch);
    assert_share(after, HOUR, 0.6, 0.73);
    assert_eq!(changes(&bench.pass(HOUR * 9 / 10 - after)), [Change::Expiring]);
}

#[test]
fn a_restored_lease_about_to_end_is_renewed_before_it() {
    for seed in 0..20 {
        let (_, held) = restored(Some(lease("kept")), Some(SECOND * 3));
        let mut bench = Bench::new(terms(), seed);
        bench.on(Event::Restored(held, Vec::new()));
        let (after, call) = bench.next_call();
        assert!(after < SECOND * 3);
        assert_eq!(call, Effect::Renew(lease("kept")));
    }
}

#[test]
fn a_restored_value_past_its_end_is_not_served_and_its_overlaps_still_end() {
    let (mut bench, held) = restored(Some(lease("kept")), Some(Duration::ZERO));
    let (_, mut before) = restored(Some(lease("before")), Some(HOUR));
    before.generation = Generation(40);
    let until = bench.now + Duration::from_mins(2);
    let effects = bench.on(Event::Restored(held, vec![(before, until)]));
    assert_eq!(calls(effects), [Effect::Fetch]);
    assert!(bench.view().held.is_none());
    assert_eq!(bench.next_call(), (Duration::from_mins(2), revoke("before")));
}

#[test]
fn stopping_revokes_the_held_and_the_overlapping_leases() {
    let mut bench = replaced(&["x"]);
    let effects = bench.on(Event::Stopped { revoke: true });
    assert_eq!(changes(&effects), [Change::Revoked]);
    assert_eq!(calls(effects), [revoke("a"), revoke("b")]);
    assert!(bench.view().held.is_none());
    assert_eq!(bench.life.wake_at(bench.now), None);
}

#[test]
fn stopping_without_revocation_leaves_the_leases_alone() {
    let mut bench = replaced(&["x"]);
    assert_eq!(calls(bench.on(Event::Stopped { revoke: false })), []);
    assert_eq!(calls(bench.pass(HOUR * 2)), []);
}

#[test]
fn a_value_minted_while_stopping_is_revoked() {
    for revoked in [true, false] {
        let mut bench = Bench::new(terms(), 1);
        bench.tick();
        bench.on(Event::Stopped { revoke: revoked });
        assert_eq!(calls(bench.fetched(leased("a", HOUR))), [revoke("a")]);
    }
}

#[test]
fn a_stopped_secret_is_never_fetched_again() {
    let mut bench = Bench::holding(terms(), 1, leased("a", HOUR));
    bench.on(Event::Stopped { revoke: true });
    bench.on(Event::Revoked(lease("a")));
    let terms_changed = Event::TermsChanged(terms());
    let events =
        [Event::Wanted, Event::Changed, Event::Moved(terms()), Event::Watched(true), terms_changed];
    for event in events {
        assert_eq!(calls(bench.on(event)), []);
    }
}
