//! People follow a rotation.

use secret_broker::server::operator::proto::{
    CompromiseRequest, FollowRotationRequest, HistoryRequest, ResumeRequest, RotateRequest,
    RotationKind, RotationState, RotationSummary,
};
use tonic::{Code, Streaming};

use crate::rig::{ANN, Rig, refused};

fn follow() -> FollowRotationRequest {
    FollowRotationRequest { name: "DB".into() }
}

async fn states(
    mut stream: Streaming<secret_broker::server::operator::proto::FollowRotationResponse>,
) -> Vec<RotationSummary> {
    let mut states = Vec::new();
    while let Some(state) = stream.message().await.unwrap() {
        states.extend(state.rotation);
    }
    states
}

#[tokio::test]
async fn a_rotation_is_followed_from_its_request_to_its_end() {
    let mut rig = Rig::start().await;
    let mut ann = rig.person(ANN).await;
    let rotate = RotateRequest { name: "DB".into(), ..Default::default() };
    let asked = ann.rotate(rotate).await.unwrap().into_inner();
    assert!(asked.planned_steps.iter().any(|step| step == "promote to everyone"));
    let mut stream = ann.follow_rotation(follow()).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().rotation.unwrap();
    assert_eq!(first.state(), RotationState::Running);
    assert!(first.steps.is_empty(), "it is only written down");
    rig.drive().await;
    let states = states(stream).await;
    let last = states.last().unwrap();
    assert_eq!(last.state(), RotationState::Succeeded);
    assert_eq!((last.old_version, last.new_version), (1, 2));
    assert!(last.end_time.is_some());
    assert!(states.iter().all(|state| state.id == first.id));
    let history = ann.history(HistoryRequest { name: "DB".into() }).await.unwrap().into_inner();
    assert_eq!(history.rotations.first(), Some(last));
    // One that follows too late is shown the last one, and no more.
    let late = ann.follow_rotation(follow()).await.unwrap().into_inner();
    assert_eq!(self::states(late).await.len(), 1);
}

#[tokio::test]
async fn following_ends_where_a_person_has_to_act() {
    let mut rig = Rig::start().await;
    rig.drive().await;
    let mut ann = rig.person(ANN).await;
    let rotate =
        RotateRequest { name: "DB".into(), environment: "staging".into(), ..Default::default() };
    ann.rotate(rotate).await.unwrap();
    let held = states(ann.follow_rotation(follow()).await.unwrap().into_inner()).await;
    let last = held.last().unwrap();
    assert_eq!(last.state(), RotationState::Held);
    assert!(last.detail.contains("staging"), "{}", last.detail);
    ann.resume(ResumeRequest { name: "DB".into() }).await.unwrap();
    let ended = states(ann.follow_rotation(follow()).await.unwrap().into_inner()).await;
    assert_eq!(ended.last().unwrap().state(), RotationState::Succeeded);
}

#[tokio::test]
async fn a_second_request_joins_the_rotation_under_way() {
    let rig = Rig::start().await;
    let mut ann = rig.person(ANN).await;
    let rotate = RotateRequest { name: "DB".into(), ..Default::default() };
    let one = ann.rotate(rotate.clone()).await.unwrap().into_inner().rotation.unwrap();
    let two = ann.rotate(rotate).await.unwrap().into_inner().rotation.unwrap();
    assert_eq!(one.id, two.id);
}

#[tokio::test]
async fn a_dry_run_says_the_steps_and_does_nothing() {
    let rig = Rig::start().await;
    let mut ann = rig.person(ANN).await;
    let request = RotateRequest { name: "DB".into(), dry_run: true, ..Default::default() };
    let planned = ann.rotate(request).await.unwrap().into_inner();
    assert!(planned.rotation.is_none() && planned.planned_steps.len() > 5);
    assert!(rig.paper.book("DB").open.is_none());
}

#[tokio::test]
async fn a_compromise_takes_the_place_of_what_is_under_way_and_says_what_breaks() {
    let mut rig = Rig::start().await;
    let mut ann = rig.person(ANN).await;
    ann.rotate(RotateRequest { name: "DB".into(), ..Default::default() }).await.unwrap();
    let request = CompromiseRequest {
        name: "DB".into(),
        reason: "found in a log".into(),
        ..Default::default()
    };
    let answer = ann.compromise(request).await.unwrap().into_inner();
    assert_eq!(answer.rotation.as_ref().unwrap().kind(), RotationKind::Emergency);
    assert!(!answer.breaks.is_empty());
    assert!(rig.paper.book("DB").monitored_until.is_some());
    rig.drive().await;
    let ended = states(ann.follow_rotation(follow()).await.unwrap().into_inner()).await;
    assert_eq!(ended.last().unwrap().state(), RotationState::Succeeded);
    assert_eq!(ended.last().unwrap().id, answer.rotation.unwrap().id);
}

#[tokio::test]
async fn followers_are_bounded_and_end_with_the_operator() {
    let rig = Rig::start().await;
    let mut ann = rig.person(ANN).await;
    refused(ann.follow_rotation(follow()).await, Code::FailedPrecondition, "NOT_APPLICABLE");
    ann.rotate(RotateRequest { name: "DB".into(), ..Default::default() }).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(ann.follow_rotation(follow()).await.unwrap().into_inner());
    }
    let fifth = ann.follow_rotation(follow()).await;
    refused(fifth, Code::ResourceExhausted, "LIMIT_EXCEEDED");
    rig.stop.send_replace(true);
    for stream in streams {
        assert!(states(stream).await.len() <= 1);
    }
}
