//! Any sequence of events at any times: what holds of all of them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Answer {
    Leased { ttl: u64, renewable: bool, max_left: Option<u64> },
    Bare(u8, u8),
    Labelled { version: u8, before: Option<(u8, Option<u64>)> },
    Fails(Reason, Option<u64>),
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Wake,
    Answer(Answer),
    AnswerRevocation(bool),
    Wanted,
    Watched(bool),
    Changed,
    Announced,
    Delivered(u8),
    Acknowledged(u8),
    Refused,
    Moved,
    TermsChanged,
    Stopped(bool),
}

fn reason() -> impl Strategy<Value = Reason> {
    prop::sample::select(vec![
        Reason::Unavailable,
        Reason::Failed,
        Reason::Sealed,
        Reason::Throttled,
        Reason::Timeout,
        Reason::Forbidden,
        Reason::Unauthenticated,
        Reason::NotFound,
        Reason::Invalid,
        Reason::LeaseLost,
    ])
}

fn answer() -> impl Strategy<Value = Answer> {
    let millis = || prop_oneof![0_u64..2_000, 0_u64..7_200_000, Just(u64::MAX)];
    prop_oneof![
        3 => (millis(), any::<bool>(), prop::option::of(millis()))
            .prop_map(|(ttl, renewable, max_left)| Answer::Leased { ttl, renewable, max_left }),
        1 => (0_u8..4, 0_u8..3).prop_map(|(version, kind)| Answer::Bare(version, kind)),
        2 => (0_u8..4, prop::option::of((0_u8..4, prop::option::of(millis()))))
            .prop_map(|(version, before)| Answer::Labelled { version, before }),
        2 => (reason(), prop::option::of(millis())).prop_map(|(r, wait)| Answer::Fails(r, wait)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop_oneof![0_u64..3_000, 0_u64..5_000_000].prop_map(Step::Pass),
        6 => Just(Step::Wake),
        8 => answer().prop_map(Step::Answer),
        3 => any::<bool>().prop_map(Step::AnswerRevocation),
        2 => Just(Step::Wanted),
        1 => any::<bool>().prop_map(Step::Watched),
        1 => Just(Step::Changed),
        1 => Just(Step::Announced),
        1 => (0_u8..3).prop_map(Step::Delivered),
        1 => (0_u8..3).prop_map(Step::Acknowledged),
        1 => Just(Step::Refused),
        1 => Just(Step::Moved),
        1 => Just(Step::TermsChanged),
    ]
}

/// The store's side: what it was asked and what became of each lease.
struct World {
    bench: Bench,
    call: Option<(Effect, Moment)>,
    revocations: Vec<Lease>,
    /// The end of each lease that was given out and is not known to be gone.
    given: BTreeMap<Arc<str>, Moment>,
    minted: u64,
    forgiven: bool,
}

impl World {
    fn new(prefetch: bool, seed: u64) -> Self {
        let bench = Bench::new(Terms { prefetch, ..terms() }, seed);
        let given = BTreeMap::new();
        Self { bench, call: None, revocations: Vec::new(), given, minted: 0, forgiven: false }
    }

    fn take(&mut self, event: Event) {
        let effects = self.bench.on(event);
        let now = self.bench.now;
        for effect in effects {
            match effect {
                Effect::Publish(_) => {}
                Effect::Revoke(lease) => {
                    assert!(self.given.contains_key(&lease.id), "revoked twice or after its loss");
                    assert!(!self.revocations.contains(&lease), "two revocations at once");
                    self.revocations.push(lease);
                }
                call => {
                    assert!(self.call.is_none(), "two calls at once");
                    let retry_at = self.bench.view().retry_at;
                    assert!(retry_at.is_none_or(|at| at <= now), "called before the back-off");
                    self.call = Some((call, now));
                }
            }
        }
        self.check();
    }

    fn check(&self) {
        let (now, view) = (self.bench.now, self.bench.view());
        let held = view.held;
        assert!(held.as_ref().is_none_or(|held| held.is_live(now)), "served past its end");
        for overlap in &view.overlaps {
            assert!(now < overlap.until && overlap.held.is_live(now), "overlaps past its end");
            let newer = held.as_ref().is_none_or(|h| overlap.held.generation < h.generation);
            assert!(newer, "overlaps what came before it");
        }
        assert!(view.adopted || !view.overlaps.is_empty(), "waits for readers of nothing");
        if let Some(at) = self.bench.life.wake_at(now) {
            assert!(at > now, "would spin");
        }
        for (id, end) in &self.given {
            let known = self.bench.life.leases().any(|lease| lease.id == *id);
            assert!(known || now >= *end || self.forgiven, "lease {id} was lost");
        }
    }

    fn step(&mut self, step: Step) {
        let reader = |n: u8| Arc::from(format!("reader {n}"));
        match step {
            Step::Pass(millis) => {
                self.bench.now = self.bench.now + Duration::from_millis(millis);
                self.take(Event::Tick);
            }
            Step::Wake => {
                if let Some(at) = self.bench.life.wake_at(self.bench.now) {
                    self.bench.now = at;
                    self.take(Event::Tick);
                }
            }
            Step::Answer(answer) => self.answer(&answer),
            Step::AnswerRevocation(succeeds) => self.answer_revocation(succeeds),
            Step::Wanted => self.take(Event::Wanted),
            Step::Watched(watched) => self.take(Event::Watched(watched)),
            Step::Changed => self.take(Event::Changed),
            Step::Announced => self.take(Event::Announced),
            Step::Delivered(n) => {
                let generation = Generation(self.bench.generation());
                self.take(Event::Delivered(reader(n), generation));
            }
            Step::Acknowledged(n) => {
                let generation = Generation(self.bench.generation());
                self.take(Event::Acknowledged(reader(n), generation));
            }
            Step::Refused => self.take(Event::Refused(Generation(self.bench.generation()))),
            Step::Moved => self.take(Event::Moved(self.bench.life.terms.clone())),
            Step::TermsChanged => {
                self.take(Event::TermsChanged(self.bench.life.terms.clone()));
            }
            Step::Stopped(revoke) => {
                self.forgiven |= !revoke;
                self.take(Event::Stopped { revoke });
            }
        }
    }

    fn answer(&mut self, answer: &Answer) {
        let Some((call, since)) = self.call.take() else { return };
        let attempts = self.bench.view().attempts;
        let moved = self.bench.life.foreign || call == Effect::Fetch && self.is_outdated();
        let event = match (call, answer) {
            (Effect::Fetch, Answer::Fails(reason, wait)) => {
                Event::FetchFailed(failure(*reason, *wait))
            }
            (Effect::Renew(lease), Answer::Fails(reason, wait)) => {
                if *reason == Reason::LeaseLost {
                    self.given.remove(&lease.id);
                    self.revocations.retain(|revoked| *revoked != lease);
                }
                Event::RenewFailed(failure(*reason, *wait))
            }
            (Effect::Renew(lease), Answer::Leased { ttl, renewable, max_left }) => {
                let (ttl, max_left) = limits(*ttl, *max_left);
                let end = since + max_left.map_or(ttl, |max| max.min(ttl));
                self.given.entry(lease.id).and_modify(|known| *known = end);
                Event::RenewSucceeded(Renewed { ttl, renewable: *renewable, max_left })
            }
            (Effect::Renew(lease), Answer::Bare(..) | Answer::Labelled { .. }) => {
                self.given.entry(lease.id).and_modify(|known| *known = since + HOUR);
                Event::RenewSucceeded(renewed(HOUR))
            }
            (_, answer) => self.issue(answer, since),
        };
        self.take(event);
        self.follows_labels(answer, moved);
        let view = self.bench.view();
        let outdated = self.bench.life.foreign || self.bench.life.stopped;
        assert!(view.attempts > attempts || outdated, "the answer is not counted");
    }

    fn is_outdated(&self) -> bool {
        self.bench.life.busy.as_ref().is_some_and(|call| call.outdated)
    }

    /// After an answer with labels, the version that they name overlaps, once, and no other that
    /// labels had a say in.
    fn follows_labels(&self, answer: &Answer, moved: bool) {
        let Answer::Labelled { version, before } = answer else { return };
        let view = self.bench.view();
        let version = format!("v{version}");
        if moved || view.held.is_none_or(|held| *held.version.0 != *version) {
            return;
        }
        let named = before.map(|(before, _)| format!("v{before}")).filter(|v| *v != version);
        let count = |name: &str| {
            view.overlaps.iter().filter(|o| *o.held.version.0 == *name && o.is_of_store()).count()
        };
        let others = view.overlaps.iter().filter(|o| o.is_of_store()).count();
        let expected = named.as_deref().map_or(0, count);
        assert!(expected <= 1 && others == expected, "{named:?}: {:?}", view.overlaps);
    }

    fn issue(&mut self, answer: &Answer, since: Moment) -> Event {
        self.minted += 1;
        let generation = Generation(self.minted);
        let issued = match answer {
            Answer::Leased { ttl, renewable, max_left } => {
                let id = format!("lease {}", self.minted);
                let lease = Lease { id: id.as_str().into(), renewable: *renewable };
                let (ttl, max_left) = limits(*ttl, *max_left);
                let end = since + max_left.map_or(ttl, |max| max.min(ttl));
                self.given.insert(Arc::clone(&lease.id), end);
                Issued { max_left, ..issued(&id, Lifetime::Leased { lease, ttl }) }
            }
            Answer::Bare(version, kind) => {
                let lifetime = match kind {
                    0 => Lifetime::Unbounded,
                    1 => Lifetime::Rotates(SECOND * u32::from(*version) * 40),
                    _ => Lifetime::Ends(SECOND * u32::from(*version) * 100),
                };
                issued(&format!("v{version}"), lifetime)
            }
            Answer::Labelled { version, before } => {
                let accepted = before.map(|(before, lasts)| Accepted {
                    fields: issued(&format!("v{before}"), Lifetime::Unbounded).fields,
                    version: Version(format!("v{before}").into()),
                    lasts: lasts.map(Duration::from_millis),
                });
                Issued {
                    predecessor: accepted.map_or(Predecessor::Withdrawn, Predecessor::Accepted),
                    ..issued(&format!("v{version}"), Lifetime::Unbounded)
                }
            }
            Answer::Fails(..) => unreachable!("answered above"),
        };
        Event::Fetched(issued, generation)
    }

    fn answer_revocation(&mut self, succeeds: bool) {
        let Some(lease) = self.revocations.pop() else { return };
        if succeeds {
            self.given.remove(&lease.id);
            self.take(Event::Revoked(lease));
        } else {
            self.take(Event::RevokeFailed(lease, fault(Reason::Unavailable)));
        }
    }

    /// Lets time pass while the store answers everything well.
    fn recover(&mut self, by: Duration) {
        let end = self.bench.now + by;
        for _ in 0..2_000 {
            while self.call.is_some() || !self.revocations.is_empty() {
                let answer = Answer::Leased { ttl: 3_600_000, renewable: true, max_left: None };
                self.answer(&answer);
                self.answer_revocation(true);
            }
            match self.bench.life.wake_at(self.bench.now) {
                Some(at) if at <= end => self.step(Step::Wake),
                _ => return,
            }
        }
        panic!("woken 2,000 times within {by:?}");
    }
}

fn limits(ttl: u64, max_left: Option<u64>) -> (Duration, Option<Duration>) {
    (Duration::from_millis(ttl), max_left.map(Duration::from_millis))
}

fn failure(reason: Reason, wait: Option<u64>) -> Fault {
    let wait = wait.map(Duration::from_millis);
    wait.map_or(fault(reason), |wait| fault(reason).retry_after(wait))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_events_breaks_an_invariant(
        prefetch in any::<bool>(),
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(prefetch, seed);
        world.take(Event::Tick);
        for step in steps {
            world.step(step);
        }
        world.recover(Duration::ZERO);
        world.step(Step::Wanted);
        world.recover(HOUR * 4);
        prop_assert!(world.bench.view().held.is_some(), "who waits is given a value in the end");
        prop_assert!(world.bench.view().pending_revocations == 0);
    }

    #[test]
    fn no_lease_is_left_behind_when_a_secret_is_stopped(
        seed in any::<u64>(),
        revoke in any::<bool>(),
        before in prop::collection::vec(step(), 1..60),
        after in prop::collection::vec(step(), 1..20),
    ) {
        let mut world = World::new(true, seed);
        world.take(Event::Tick);
        for step in before.into_iter().chain([Step::Stopped(revoke)]).chain(after) {
            world.step(step);
        }
        world.recover(HOUR);
        prop_assert!(world.call.is_none());
        let now = world.bench.now;
        prop_assert!(!revoke || world.given.values().all(|end| *end <= now));
    }
}
