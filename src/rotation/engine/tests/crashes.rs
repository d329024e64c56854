//! A run that is cut anywhere goes on where it was, and ends with one working credential.

use super::{
    fakes::{World, secret, terms},
    latest, settle, wait_until, wish,
};
use crate::{
    domain::rotation::{Kind, Standing},
    rotation::engine::{Driven, Engine},
};

/// Cuts a rotation at each place in turn, goes on with another actor, and looks at how it ended.
async fn cut_everywhere(overlapping: bool, kind: Kind, expected: &Standing, setup: fn(&World)) {
    cut_each(overlapping, kind, expected, setup, false).await;
    // A target can't tell an effect that comes late from one in time. It does no harm where it is
    // the same that was done meanwhile, which an undone one is not: hence the bound on each step.
    if *expected == Standing::Succeeded {
        cut_each(overlapping, kind, expected, setup, true).await;
    }
}

/// As often as it takes to come to rest, or to find that somebody else took over.
async fn drive(engine: &Engine) {
    while let Ok(Driven::Waits(at) | Driven::Overlaps(at)) = engine.drive(&secret()).await {
        wait_until(engine, at).await;
    }
}

async fn cut_each(
    overlapping: bool,
    kind: Kind,
    expected: &Standing,
    setup: fn(&World),
    late: bool,
) {
    let mut places = 0;
    for n in 1.. {
        let world = World::new(overlapping);
        setup(&world);
        let first = world.engine("first", terms(overlapping));
        first.open(&secret(), wish(kind)).await.unwrap();
        world.crash.at(n);
        let mut run = Box::pin(drive(&first));
        let cut = tokio::select! {
            () = &mut run => false,
            () = world.crash.hit() => true,
        };
        if cut {
            let mut late = Some(run).filter(|_| late);
            let second = world.engine("second", terms(overlapping));
            settle(&second).await;
            if let Some(run) = late.take() {
                // What it was about to do happens after all, long after somebody else did it.
                world.crash.resume();
                run.await;
            }
        }
        let rotation = latest(&first).await;
        assert_eq!(&rotation.standing, expected, "place {n}: {rotation:#?}");
        let (current, accepted) = world.settled();
        assert!(accepted.contains(&current), "place {n}: {current} of {accepted:?}");
        assert_eq!(accepted.len(), 1, "place {n}: {accepted:?}");
        assert_eq!(current == "v1", *expected == Standing::RolledBack, "place {n}: {current}");
        world.with(|state| {
            assert_eq!(state.broken_invariants, Vec::<String>::new(), "place {n}");
            assert!(!state.records.is_empty(), "place {n}: it is documented");
            assert_eq!(state.labels.previous, None, "place {n}");
            assert_eq!(state.labels.pending, None, "place {n}");
            assert!(state.labels.audiences.is_empty(), "place {n}");
            assert!(state.made <= 2, "place {n}: at most the lost value and another");
        });
        if !cut {
            places = n;
            break;
        }
    }
    assert!(places > 30, "{places} places");
}

#[tokio::test(start_paused = true)]
async fn of_a_target_that_accepts_both_values() {
    cut_everywhere(true, Kind::Routine, &Standing::Succeeded, |_| {}).await;
}

#[tokio::test(start_paused = true)]
async fn of_a_target_that_accepts_one_value() {
    cut_everywhere(false, Kind::Routine, &Standing::Succeeded, |_| {}).await;
}

#[tokio::test(start_paused = true)]
async fn of_a_revocation_in_parts() {
    cut_everywhere(true, Kind::Routine, &Standing::Succeeded, |world| {
        world.with(|state| state.parts = 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn of_an_emergency() {
    let kind = Kind::Emergency { revoke_first: false };
    cut_everywhere(true, kind, &Standing::Succeeded, |_| {}).await;
}

#[tokio::test(start_paused = true)]
async fn of_one_that_goes_back() {
    cut_everywhere(true, Kind::Routine, &Standing::RolledBack, |world| {
        world.with(|state| state.broken = true);
    })
    .await;
    cut_everywhere(false, Kind::Routine, &Standing::RolledBack, |world| {
        world.with(|state| state.broken = true);
    })
    .await;
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(200))]

    /// Whatever fails and wherever it is cut, again and again: readers are served what works, and
    /// the end is one working credential, or a person is called.
    #[test]
    fn of_anything(
        overlapping: bool,
        emergency in proptest::option::weighted(0.3, proptest::prelude::Just(())),
        cuts in proptest::collection::vec(1_u64..60, 0..6),
        faults in 0_u32..5,
        refuses in 0_u32..5,
        revoke_faults in 0_u32..6,
        parts in 0_u32..3,
        broken in proptest::bool::weighted(0.3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let world = World::new(overlapping);
            world.with(|state| {
                (state.faults, state.refuses, state.broken) = (faults, refuses, broken);
                (state.revoke_faults, state.parts) = (revoke_faults, parts);
            });
            let kind = emergency.map_or(Kind::Routine, |()| Kind::Emergency { revoke_first: false });
            let engines: Vec<_> = (0..=cuts.len())
                .map(|n| world.engine(&format!("actor {n}"), terms(overlapping)))
                .collect();
            engines[0].open(&secret(), wish(kind)).await.unwrap();
            for (engine, cut) in engines.iter().zip(&cuts) {
                world.crash.at(*cut);
                tokio::select! {
                    () = settle(engine) => {}
                    () = world.crash.hit() => {}
                }
            }
            world.crash.at(0);
            settle(&engines[cuts.len()]).await;
            let rotation = latest(&engines[0]).await;
            let (current, accepted) = world.settled_or("v1");
            world.with(|state| assert_eq!(state.broken_invariants, Vec::<String>::new()));
            match rotation.standing {
                Standing::Succeeded | Standing::RolledBack => {
                    assert!(accepted.contains(&current), "{current} of {accepted:?}");
                    assert_eq!(accepted.len(), 1, "{accepted:?}");
                }
                Standing::Parked(_) => {
                    world.with(|state| assert!(state.alerts.iter().any(|a| a == "rotation_parked")));
                }
                standing => panic!("{standing:?}"),
            }
        });
    }
}
