//! What asks for two persons, and access in emergencies.

use std::time::Duration;

use jiff::Timestamp;
use secret_broker::rotation::ports::Claim;
use secret_broker::server::operator::proto::{
    ApproveRequest, BreakGlassRequest, EndAccessRequest, FollowRotationRequest, RotateRequest,
    RotationState,
};
use tonic::Code;

use crate::rig::{ANN, BOB, Rig, refused, until};

fn rotate(name: &str) -> RotateRequest {
    RotateRequest { name: name.into(), ..Default::default() }
}

fn glass(name: &str) -> BreakGlassRequest {
    BreakGlassRequest { name: name.into(), reason: "the shop is down".into(), ..Default::default() }
}

#[tokio::test]
async fn a_second_person_has_to_agree_who_is_not_the_first() {
    let mut rig = Rig::start().await;
    rig.drive().await;
    let (mut ann, mut bob) = (rig.person(ANN).await, rig.person(BOB).await);
    let rotation = ann.rotate(rotate("KEY")).await.unwrap().into_inner().rotation.unwrap();
    assert_eq!(rotation.state(), RotationState::Held);
    let id = rotation.id;
    let same = ann.approve(ApproveRequest { id: id.clone() }).await;
    refused(same, Code::PermissionDenied, "SAME_PERSON");
    assert_eq!(rig.targets["KEY"].values().len(), 1, "nothing was done");
    let approved = bob.approve(ApproveRequest { id: id.clone() }).await.unwrap().into_inner();
    assert!(approved.approved.contains("KEY") && approved.approved.contains(ANN));
    let follow = FollowRotationRequest { name: "KEY".into() };
    let mut states = ann.follow_rotation(follow).await.unwrap().into_inner();
    let mut last = None;
    while let Some(state) = states.message().await.unwrap() {
        last = state.rotation;
    }
    assert_eq!(last.unwrap().state(), RotationState::Succeeded);
    let book = rig.paper.book("KEY");
    assert_eq!(book.past[0].approved_by.as_deref(), Some(BOB));
    refused(bob.approve(ApproveRequest { id }).await, Code::PermissionDenied, "DENIED");
}

#[tokio::test]
async fn an_approval_is_for_one_rotation_and_no_other() {
    let rig = Rig::start().await;
    let (mut ann, mut bob) = (rig.person(ANN).await, rig.person(BOB).await);
    ann.rotate(rotate("KEY")).await.unwrap();
    let other = bob.approve(ApproveRequest { id: "another".into() }).await;
    refused(other, Code::PermissionDenied, "DENIED");
    assert!(rig.paper.book("KEY").open.unwrap().approved_by.is_none());
}

#[tokio::test]
async fn access_in_an_emergency_is_for_one_place_and_a_short_time_and_people_are_called() {
    let mut rig = Rig::start().await;
    rig.drive().await;
    let mut ann = rig.person(ANN).await;
    let opened = ann.break_glass(glass("DB")).await.unwrap().into_inner();
    assert!(!opened.awaiting_approval);
    assert_eq!(opened.token, "hvs.planted-token");
    {
        let given = rig.tokens.given.lock().unwrap();
        let (place, lasts, lives) = given.values().next().unwrap();
        assert_eq!((place.as_str(), *lasts), ("secret/data/db", Duration::from_mins(15)));
        assert!(lives);
    }
    until("people are called", || rig.people.called().iter().any(|n| n == "access_opened")).await;
    let access = &rig.paper.book("DB").accesses[0];
    assert_eq!((access.holder.as_str(), access.reason.as_str()), (ANN, "the shop is down"));
    assert!(access.accessor.is_some() && access.ends_at.is_some());
    let record = rig.audit().pop().unwrap();
    assert_eq!((&record["verb"], &record["about"]), (&"break_glass".into(), &opened.id.into()));
}

#[tokio::test]
async fn access_waits_for_a_second_person_and_opens_once_for_the_first() {
    let rig = Rig::start().await;
    let (mut ann, mut bob) = (rig.person(ANN).await, rig.person(BOB).await);
    let asked = ann.break_glass(glass("KEY")).await.unwrap().into_inner();
    assert!(asked.awaiting_approval && asked.token.is_empty());
    let take = || BreakGlassRequest { id: asked.id.clone(), ..glass("KEY") };
    refused(ann.break_glass(take()).await, Code::FailedPrecondition, "NOT_APPLICABLE");
    let same = ann.approve(ApproveRequest { id: asked.id.clone() }).await;
    refused(same, Code::PermissionDenied, "SAME_PERSON");
    bob.approve(ApproveRequest { id: asked.id.clone() }).await.unwrap();
    refused(bob.break_glass(take()).await, Code::PermissionDenied, "DENIED");
    assert!(rig.tokens.living().is_empty());
    let opened = ann.break_glass(take()).await.unwrap().into_inner();
    assert!(!opened.token.is_empty());
    assert_eq!(rig.tokens.living(), ["secret/data/key"]);
    refused(ann.break_glass(take()).await, Code::FailedPrecondition, "NOT_APPLICABLE");
}

#[tokio::test]
async fn access_can_be_ended_before_its_time_by_somebody_else() {
    let rig = Rig::start().await;
    let (mut ann, mut bob) = (rig.person(ANN).await, rig.person(BOB).await);
    let id = ann.break_glass(glass("DB")).await.unwrap().into_inner().id;
    let ended = bob.end_access(EndAccessRequest { id: id.clone() }).await.unwrap().into_inner();
    assert!(ended.ended.contains(&id));
    assert!(rig.tokens.living().is_empty());
    let again = bob.end_access(EndAccessRequest { id }).await;
    refused(again, Code::FailedPrecondition, "NOT_APPLICABLE");
    let access = &rig.paper.book("DB").accesses[0];
    assert_eq!(access.ended.as_ref().map(|(by, _)| by.as_str()), Some(BOB));
}

#[tokio::test]
async fn access_in_an_emergency_does_not_wait_for_who_works_on_the_secret() {
    let rig = Rig::start().await;
    let mut ann = rig.person(ANN).await;
    let until = Timestamp::now().checked_add(Duration::from_hours(1)).unwrap();
    rig.paper.claim("DB", Claim { by: "another operator".into(), until });
    let opened = ann.break_glass(glass("DB")).await.unwrap().into_inner();
    assert!(!opened.token.is_empty());
    assert_eq!(rig.paper.book("DB").claim.unwrap().by, "another operator");
}

#[tokio::test]
async fn access_is_never_longer_than_allowed() {
    let rig = Rig::start().await;
    let mut ann = rig.person(ANN).await;
    for seconds in [0, -1, 4 * 3600 + 1] {
        let duration = Some(prost_types::Duration { seconds, nanos: 0 });
        let request = BreakGlassRequest { duration, ..glass("DB") };
        refused(ann.break_glass(request).await, Code::InvalidArgument, "INVALID_REQUEST");
    }
    assert!(rig.tokens.living().is_empty());
}
