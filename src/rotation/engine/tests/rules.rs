//! The rules of rotation, one test each.

use std::time::Duration;

use jiff::SignedDuration;

use super::{
    fakes::{World, secret, terms},
    latest, settle, wish,
};
use crate::{
    domain::{
        rotation::{Hold, Kind, RotationId, Standing, Step, Terms},
        secret::{Fields, SecretValue},
    },
    rotation::{
        engine::{DriveError, Driven, RequestError, Wish},
        ports::Adoption,
    },
};

fn fields(value: &str) -> Fields {
    Fields::single(SecretValue::new(value))
}

#[tokio::test(start_paused = true)]
async fn a_rotation_takes_every_step_and_leaves_one_credential_and_a_record() {
    let world = World::new(true);
    let engine = world.engine("a", terms(true));
    let opened = engine.open(&secret(), wish(Kind::Routine)).await.unwrap();
    let planned: Vec<_> = opened.remaining().iter().map(ToString::to_string).collect();
    settle(&engine).await;
    let rotation = latest(&engine).await;
    let taken: Vec<_> = rotation.log.iter().map(|entry| entry.step.to_string()).collect();
    assert_eq!(taken, planned);
    assert_eq!(
        planned,
        [
            "precheck",
            "generate and store as pending",
            "apply in the target",
            "prove in the target",
            "promote to staging",
            "validate for staging",
            "promote to production (green)",
            "validate for production (green)",
            "promote to everyone",
            "validate for everyone",
            "overlap",
            "revoke the old version",
            "document",
        ]
    );
    assert!(rotation.log.iter().all(|entry| entry.succeeded && entry.ended_at.is_some()));
    assert_eq!(world.settled(), ("v2".to_owned(), ["v2".to_owned()].into()));
    let book = engine.book(&secret()).await.unwrap();
    assert!(book.due.is_some_and(|due| due > engine.now()), "the next one is written down");
}

#[tokio::test(start_paused = true)]
async fn a_value_that_the_target_refuses_is_made_anew_and_the_old_one_recorded() {
    let world = World::new(true);
    world.with(|state| state.refuses = 2);
    let engine = world.engine("a", terms(true));
    engine.open(&secret(), wish(Kind::Routine)).await.unwrap();
    settle(&engine).await;
    let rotation = latest(&engine).await;
    assert_eq!(rotation.standing, Standing::Succeeded);
    assert_eq!(rotation.discarded.len(), 2);
    assert_eq!(world.settled().0, "v4");
}

#[tokio::test(start_paused = true)]
async fn refusals_are_bounded_and_then_it_goes_back_and_calls_somebody() {
    let world = World::new(true);
    world.with(|state| state.refuses = 100);
    let engine = world.engine("a", terms(true));
    engine.open(&secret(), wish(Kind::Routine)).await.unwrap();
    settle(&engine).await;
    assert_eq!(latest(&engine).await.standing, Standing::RolledBack);
    world.with(|state| {
        assert_eq!(state.refuses, 97, "three values were tried");
        assert_eq!(state.alerts, ["rotation_goes_back"]);
    });
    assert_eq!(world.settled().0, "v1");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_down_for_a_while_is_waited_for() {
    let world = World::new(true);
    world.with(|state| state.faults = 3);
    let engine = world.engine("a", terms(true));
    engine.open(&secret(), wish(Kind::Routine)).await.unwrap();
    settle(&engine).await;
    assert_eq!(latest(&engine).await.standing, Standing::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn the_old_version_lives_until_its_readers_moved_over() {
    let world = World::new(true);
    let engine = world.engine("a", terms(true));
    world
        .with(|state| state.adoption = Adoption { sidecars: 2, adopted: 1, ..Adoption::default() });
    engine.open(&secret(), wish(Kind::Routine)).await.unwrap();
    let Driven::Overlaps(until) = engine.drive(&secret()).await.unwrap() else {
        panic!("it waits")
    };
    assert_eq!(until.duration_since(engine.now()).as_secs(), 600);
    assert_eq!(world.settled().1.len(), 2, "both work");
    let labels = world.with(|state| state.labels.clone());
    assert_eq!((labels.current, labels.previous), (Some(2), Some(1)));
    world.with(|state| state.adoption.adopted = 2);
    settle(&engine).await;
    let waited = latest(&engine).await;
    let overlap = waited.log.iter().find(|entry| entry.step == Step::Overlap).unwrap();
    assert!(overlap.evidence.contains("2 sidecars"), "{}", overlap.evidence);
    assert!(waited.ended_at.unwrap() < until);
    assert_eq!(world.settled().1.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn readers_that_are_refused_turn_it_back_within_the_overlap() {
    let world = World::new(true);
    let engine = world.engine("a", terms(true));
    engine.open(&secret(), wish(Kind::Routine)).await.unwrap();
    assert!(matches!(engine.drive(&secret()).await, Ok(Driven::Overlaps(_))));
    world.with(|state| state.adoption.refused = 3);
    settle(&engine).await;
    let rotation = latest(&engine).await;
    assert_eq!(rotation.standing, Standing::RolledBack);
    assert!(rotation.trouble.unwrap().contains("3 reports"));
    assert_eq!(world.settled(), ("v1".to_owned(), ["v1".to_owned()].into()));
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_fails_is_tried_until_it_succeeds_and_somebody_is_called() {
    let world = World::new(true);
    world.with(|state| state.revoke_faults = 40);
    let engine = world.engine("a", terms(true));
    engine.open(&secret(), wish(Kind::Routine)).await.unwrap();
    settle(&engine).await;
    let rotation = latest(&engine).await;
    assert_eq!(rotation.standing, Standing::Succeeded);
    assert!(!rotation.exposed);
    world.with(|state| assert_eq!(state.alerts, ["revocation_failed"]));
    assert_eq!(world.settled().1.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn it_stops_after_the_environment_asked_for_and_goes_on_when_asked_further() {
    let world = World::new(true);
    let engine = world.engine("a", terms(true));
    let staging = Wish { until: Some("staging".into()), ..wish(Kind::Routine) };
    engine.open(&secret(), staging).await.unwrap();
    settle(&engine).await;
    let held = latest(&engine).await;
    assert_eq!(held.standing, Standing::Held(Hold::Environment("staging".into())));
    let labels = world.with(|state| state.labels.clone());
    assert_eq!(labels.served(Some("staging"), None), Some(2));
    assert_eq!(labels.served(Some("production"), None), Some(1));
    let further = Wish { until: Some("production".into()), ..wish(Kind::Routine) };
    let joined = engine.open(&secret(), further).await.unwrap();
    assert_eq!(joined.id, held.id, "the second trigger joins the first");
    settle(&engine).await;
    assert_eq!(latest(&engine).await.standing, Standing::Succeeded);
    let unknown = Wish { until: Some("moon".into()), ..wish(Kind::Routine) };
    let refused = engine.open(&secret(), unknown).await.unwrap_err();
    assert_eq!(refused.to_string(), "no environment moon; this secret has staging, production");
}

#[tokio::test(start_paused = true)]
async fn a_second_person_has_to_agree_where_that_is_asked_for() {
    let world = World::new(true);
    let engine = world.engine("a", Terms { approval: true, ..terms(true) });
    engine.open(&secret(), wish(Kind::Routine)).await.unwrap();
    settle(&engine).await;
    assert_eq!(latest(&engine).await.standing, Standing::Held(Hold::Approval));
    assert!(matches!(engine.approve(&secret(), "ann").await, Err(RequestError::Refused(_))));
    assert!(engine.resume(&secret()).await.is_err(), "a resumption is no approval");
    engine.approve(&secret(), "bob").await.unwrap();
    settle(&engine).await;
    let rotation = latest(&engine).await;
    assert_eq!(rotation.standing, Standing::Succeeded);
    assert_eq!(rotation.approved_by.as_deref(), Some("bob"));
}

#[tokio::test(start_paused = true)]
async fn a_value_made_by_hand_is_waited_for_inspected_and_taken_over() {
    let world = World::new(true);
    world.with(|state| state.by_hand = true);
    let engine = world.engine("a", terms(true));
    engine.open(&secret(), wish(Kind::Routine)).await.unwrap();
    settle(&engine).await;
    assert!(matches!(latest(&engine).await.standing, Standing::Held(Hold::HandOver(_))));
    let refused = engine.supply(&secret(), &fields("wrong"), "ann").await.unwrap_err();
    assert_eq!(refused, RequestError::Refused("a value begins with v".into()));
    engine.supply(&secret(), &fields("v9"), "ann").await.unwrap();
    settle(&engine).await;
    assert_eq!(latest(&engine).await.standing, Standing::Succeeded);
    assert_eq!(world.settled().0, "v9");
}

#[tokio::test(start_paused = true)]
async fn an_emergency_leaves_no_overlap_and_supersedes_what_is_under_way() {
    let world = World::new(true);
    let engine = world.engine("a", terms(true));
    engine.open(&secret(), wish(Kind::Routine)).await.unwrap();
    assert!(matches!(engine.drive(&secret()).await, Ok(Driven::Overlaps(_))), "v2 overlaps v1");
    let kind = Kind::Emergency { revoke_first: false };
    let wish = Wish { id: RotationId("r2".into()), ..wish(kind) };
    let began = engine.now();
    let (_, breaks) =
        engine.compromise(&secret(), wish, SignedDuration::from_hours(48)).await.unwrap();
    assert_eq!(breaks, ["logins fail until the new value is served"]);
    settle(&engine).await;
    assert_eq!(world.settled(), ("v3".to_owned(), ["v3".to_owned()].into()));
    assert!(engine.now().duration_since(began).as_secs() < 60);
    let book = engine.book(&secret()).await.unwrap();
    assert!(book.monitored_until.is_some_and(|until| until > engine.now()));
    assert_eq!(book.past.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_emergency_may_revoke_first() {
    let world = World::new(true);
    let engine = world.engine("a", terms(true));
    let opened =
        engine.open(&secret(), wish(Kind::Emergency { revoke_first: true })).await.unwrap();
    assert_eq!(opened.remaining().first(), Some(&Step::Revoke));
    settle(&engine).await;
    assert_eq!(world.settled().0, "v2");
    assert_eq!(world.settled().1.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_emergency_never_goes_back_to_what_others_know() {
    let world = World::new(true);
    world.with(|state| state.broken = true);
    let engine = world.engine("a", terms(true));
    engine.open(&secret(), wish(Kind::Emergency { revoke_first: false })).await.unwrap();
    settle(&engine).await;
    assert!(matches!(latest(&engine).await.standing, Standing::Parked(_)));
    world.with(|state| assert_eq!(state.alerts, ["rotation_parked"]));
    world.with(|state| state.broken = false);
    engine.resume(&secret()).await.unwrap();
    settle(&engine).await;
    assert_eq!(world.settled().0, "v2");
    let back = Wish { id: RotationId("r2".into()), ..wish(Kind::Rollback) };
    assert!(matches!(engine.open(&secret(), back).await, Err(RequestError::Refused(_))));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_after_the_end_brings_the_version_before_into_force_again() {
    let world = World::new(true);
    let engine = world.engine("a", terms(true));
    engine.open(&secret(), wish(Kind::Routine)).await.unwrap();
    settle(&engine).await;
    assert_eq!(world.settled().0, "v2");
    let back = Wish { id: RotationId("r2".into()), ..wish(Kind::Rollback) };
    engine.open(&secret(), back).await.unwrap();
    settle(&engine).await;
    assert_eq!(latest(&engine).await.standing, Standing::Succeeded);
    assert_eq!(world.settled(), ("v1".to_owned(), ["v1".to_owned()].into()));
}

#[tokio::test(start_paused = true)]
async fn two_actors_never_work_on_one_secret() {
    let world = World::new(true);
    let (first, second) = (world.engine("a", terms(true)), world.engine("b", terms(true)));
    first.open(&secret(), wish(Kind::Routine)).await.unwrap();
    world.crash.at(12);
    tokio::select! {
        () = settle(&first) => panic!("it is cut"),
        () = world.crash.hit() => {}
    }
    let busy = second.drive(&secret()).await.unwrap_err();
    assert!(matches!(busy, DriveError::Claimed { ref by, .. } if by == "a"), "{busy}");
    tokio::time::sleep(Duration::from_secs(31)).await;
    settle(&second).await;
    assert_eq!(latest(&second).await.standing, Standing::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_wrote_is_not_taken_for_ours() {
    let world = World::new(true);
    let engine = world.engine("a", terms(true));
    engine.open(&secret(), wish(Kind::Routine)).await.unwrap();
    // Claim, begin, digest and label are written; the run is cut before the value is stored.
    let mut n = 1;
    while world.with(|state| state.labels.pending.is_none()) {
        world.crash.at(n);
        tokio::select! {
            () = settle(&engine) => {}
            () = world.crash.hit() => {}
        }
        n += 1;
    }
    world.with(|state| {
        state.versions.truncate(1);
        state.versions.push("foreign".into());
    });
    world.crash.at(0);
    settle(&engine).await;
    let rotation = latest(&engine).await;
    assert!(matches!(rotation.standing, Standing::Parked(_)), "{:?}", rotation.standing);
    assert_eq!(world.settled().0, "v1");
}

#[tokio::test(start_paused = true)]
async fn a_request_never_joins_a_rotation_that_is_over() {
    let world = World::new(true);
    let engine = world.engine("a", terms(true));
    let first = engine.open(&secret(), wish(Kind::Routine)).await.unwrap();
    settle(&engine).await;
    // As it is written down for a moment, before it is put to the others.
    world.with(|state| {
        let (book, _) = state.books.get_mut(&secret()).unwrap();
        book.open = Some(book.past.remove(0));
    });
    let again = Wish { id: RotationId("r2".into()), ..wish(Kind::Routine) };
    let second = engine.open(&secret(), again).await.unwrap();
    assert_ne!(second.id, first.id);
    settle(&engine).await;
    assert_eq!(world.settled().0, "v3");
    assert_eq!(engine.book(&secret()).await.unwrap().past.len(), 2);
}
