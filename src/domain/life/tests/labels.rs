//! What a store says of the version before: it overlaps as long as the store says so.

use super::*;

const MINUTE: Duration = Duration::from_mins(1);

fn value(version: &str) -> Arc<Fields> {
    Arc::new(Fields::single(SecretValue::new(version)))
}

/// Version `version`, with `before` still accepted for `lasts`.
fn over(version: &str, before: &str, lasts: Option<Duration>) -> Issued {
    let (fields, version_before) = (value(before), Version(before.into()));
    let accepted = Accepted { fields, version: version_before, lasts };
    Issued { predecessor: Predecessor::Accepted(accepted), ..issued(version, Lifetime::Unbounded) }
}

fn alone(version: &str) -> Issued {
    Issued { predecessor: Predecessor::Withdrawn, ..issued(version, Lifetime::Unbounded) }
}

impl Bench {
    /// Reads the secret again, and is given this.
    fn read(&mut self, issued: Issued) -> Vec<Effect> {
        assert_eq!(calls(self.on(Event::Announced)), [Effect::Fetch]);
        self.fetched(issued)
    }

    /// The versions that overlap, with the time that is left of each.
    fn overlaps(&self) -> Vec<(String, Duration)> {
        let overlaps = self.view().overlaps.into_iter();
        overlaps.map(|o| (o.held.version.0.to_string(), o.until - self.now)).collect()
    }
}

fn overlap(version: &str, left: Duration) -> Vec<(String, Duration)> {
    vec![(version.to_owned(), left)]
}

#[test]
fn a_life_that_starts_within_an_overlap_takes_it_over_until_its_end() {
    let mut bench = Bench::holding(terms(), 1, over("4", "3", Some(HOUR)));
    assert_eq!(bench.overlaps(), overlap("3", HOUR));
    let view = bench.view();
    let before = view.overlaps[0].held.generation;
    assert!(before < view.held.expect("a version").generation);
    assert!(!view.adopted, "who reads the version before is unknown");
    bench.pass(HOUR - SECOND);
    bench.fetched(over("4", "3", Some(SECOND)));
    assert_eq!(bench.overlaps(), overlap("3", SECOND));
    bench.pass(SECOND);
    assert!(bench.overlaps().is_empty() && bench.view().adopted);
}

#[test]
fn an_overlap_that_the_store_withdraws_ends_at_once() {
    for withdrawn in [alone("4"), issued("4", Lifetime::Unbounded)] {
        let mut bench = Bench::holding(terms(), 1, over("4", "3", Some(HOUR)));
        let effects = bench.read(withdrawn);
        assert!(effects.contains(&Effect::Publish(None)), "{effects:?}");
        assert!(bench.overlaps().is_empty());
        assert_eq!(bench.generation(), 1, "the current version is what it was");
    }
}

#[test]
fn a_version_that_was_held_overlaps_once_and_as_long_as_the_store_says() {
    for lasts in [MINUTE, HOUR] {
        let mut bench = Bench::holding(terms(), 1, alone("3"));
        bench.on(Event::Delivered("api".into(), Generation(1)));
        assert_eq!(changes(&bench.read(over("4", "3", Some(lasts)))), [Change::Rotated]);
        assert_eq!(bench.overlaps(), overlap("3", lasts));
        assert_eq!(bench.view().overlaps[0].held.generation, Generation(1));
        bench.read(over("4", "3", Some(lasts)));
        assert_eq!(bench.overlaps(), overlap("3", lasts));
    }
}

#[test]
fn readers_that_moved_on_adopt_a_version_while_the_one_before_still_overlaps() {
    let mut bench = Bench::holding(terms(), 1, alone("3"));
    bench.on(Event::Delivered("api".into(), Generation(1)));
    bench.read(over("4", "3", Some(HOUR)));
    bench.pass(SECOND * 2);
    assert!(!bench.view().adopted);
    let effects = bench.on(Event::Acknowledged("api".into(), Generation(2)));
    assert_eq!(effects, [Effect::Publish(None)], "that it is adopted is published");
    assert!(bench.view().adopted);
    assert_eq!(bench.overlaps().len(), 1, "it is accepted until the store says otherwise");
}

#[test]
fn a_version_that_nobody_read_is_left_as_soon_as_its_last_instant_is_over() {
    let mut bench = Bench::holding(terms(), 1, alone("3"));
    bench.read(over("4", "3", Some(HOUR)));
    assert!(!bench.view().adopted);
    assert_eq!(bench.wait(), SECOND);
    assert_eq!(bench.wake(), [Effect::Publish(None)]);
    assert!(bench.view().adopted);
}

#[test]
fn unknown_readers_of_the_version_before_are_those_who_show_up_and_have_to_acknowledge() {
    let mut bench = Bench::holding(terms(), 1, over("4", "3", Some(HOUR)));
    for workload in ["api", "worker"] {
        bench.on(Event::Delivered(workload.into(), Generation(1)));
    }
    bench.on(Event::Acknowledged("api".into(), Generation(1)));
    assert!(!bench.view().adopted);
    bench.on(Event::Acknowledged("worker".into(), Generation(1)));
    assert!(bench.view().adopted);
}

#[test]
fn a_version_that_the_labels_pass_over_does_not_overlap() {
    let mut bench = Bench::holding(terms(), 1, alone("4"));
    bench.on(Event::Delivered("api".into(), Generation(1)));
    assert_eq!(changes(&bench.read(alone("3"))), [Change::Rotated], "it was rolled back");
    assert!(bench.overlaps().is_empty());
    bench.read(over("5", "2", Some(HOUR)));
    assert_eq!(bench.overlaps(), overlap("2", HOUR));
}

#[test]
fn an_overlap_without_an_end_is_confirmed_by_each_read() {
    let mut bench = Bench::holding(terms(), 1, over("4", "3", None));
    let lasts = terms().poll_interval * 2;
    assert_eq!(bench.overlaps(), overlap("3", lasts));
    let (_, call) = bench.next_call();
    assert_eq!(call, Effect::Fetch);
    assert_eq!(bench.overlaps().len(), 1, "it is still accepted when the next read begins");
    bench.fetched(over("4", "3", None));
    assert_eq!(bench.overlaps(), overlap("3", lasts));
}

#[test]
fn a_restored_overlap_goes_when_the_store_says_that_it_is_accepted_no_more() {
    for (answer, left) in [
        (alone("4"), None),
        (over("4", "3", Some(HOUR)), Some(HOUR)),
        (issued("4", Lifetime::Unbounded), Some(MINUTE * 30)),
    ] {
        let mut bench = Bench::new(terms(), 1);
        let held = |version: &str, generation| Held {
            fields: value(version),
            version: Version(version.into()),
            generation: Generation(generation),
            issued_at: bench.now,
            ends_at: None,
            lease: None,
        };
        let until = bench.now + MINUTE * 30;
        let restored = Event::Restored(held("4", 7), vec![(held("3", 6), until)]);
        bench.on(restored);
        bench.read(answer);
        assert_eq!(bench.overlaps(), left.map(|left| overlap("3", left)).unwrap_or_default());
    }
}

#[test]
fn an_announcement_is_followed_at_once_and_a_hint_within_a_second() {
    for seed in 0..50 {
        let mut bench = Bench::holding(terms(), seed, alone("3"));
        assert_eq!(bench.on(Event::Announced), [Effect::Fetch]);
        assert_eq!(bench.on(Event::Announced), [], "one call at a time");
        let effects = bench.fetched(alone("3"));
        assert_eq!(calls(effects), [Effect::Fetch], "the first may have come before the change");
        bench.fetched(alone("4"));
        assert_eq!(bench.on(Event::Changed), []);
        assert!(bench.wait() < SECOND);
    }
}

#[test]
fn an_announcement_cuts_a_back_off_short() {
    let mut bench = Bench::holding(terms(), 1, alone("3"));
    bench.on(Event::Announced);
    bench.on(Event::FetchFailed(fault(Reason::Forbidden)));
    assert!(calls(bench.tick()).is_empty());
    assert_eq!(calls(bench.on(Event::Announced)), [Effect::Fetch]);
}
