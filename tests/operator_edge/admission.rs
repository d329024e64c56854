//! Who may do what: default deny, one face for unknown and forbidden, one record a call.

use secret_broker::{
    domain::policy::Policy,
    server::operator::proto::{
        ApproveRequest, BreakGlassRequest, CompromiseRequest, EndAccessRequest,
        FollowRotationRequest, HistoryRequest, PlanRequest, ReportAdoptionRequest, ResumeRequest,
        RollbackRequest, RotateRequest, StatusRequest, SupplyRequest, ValidateRequest,
        WatchRotationsRequest,
    },
};
use tonic::Code;

use crate::rig::{ANN, EVE, GUEST, Rig, SIDECAR, refused};

const DENIED: (Code, &str) = (Code::PermissionDenied, "DENIED");

fn db() -> String {
    "DB".to_owned()
}

#[tokio::test]
async fn nobody_may_do_anything_that_no_grant_allows() {
    let rig = Rig::start().await;
    let mut eve = rig.person(EVE).await;
    let (code, why) = DENIED;
    refused(eve.plan(PlanRequest::default()).await, code, why);
    refused(eve.status(StatusRequest { names: vec![db()] }).await, code, why);
    refused(eve.history(HistoryRequest { name: db() }).await, code, why);
    refused(eve.rotate(RotateRequest { name: db(), ..Default::default() }).await, code, why);
    refused(eve.resume(ResumeRequest { name: db() }).await, code, why);
    refused(eve.rollback(RollbackRequest { name: db(), reason: "x".into() }).await, code, why);
    let compromise = CompromiseRequest { name: db(), reason: "x".into(), ..Default::default() };
    refused(eve.compromise(compromise).await, code, why);
    refused(eve.follow_rotation(FollowRotationRequest { name: db() }).await, code, why);
    refused(eve.validate(ValidateRequest::default()).await, code, why);
    let fields = [("value".to_owned(), b"x".to_vec())].into();
    refused(eve.supply(SupplyRequest { name: db(), fields }).await, code, why);
    refused(eve.approve(ApproveRequest { id: "x".into() }).await, code, why);
    let glass = BreakGlassRequest { name: db(), reason: "x".into(), ..Default::default() };
    refused(eve.break_glass(glass).await, code, why);
    refused(eve.end_access(EndAccessRequest { id: "x".into() }).await, code, why);
    let mut feed = rig.sidecar(EVE).await;
    let watch = WatchRotationsRequest { instance: "a".into(), ..Default::default() };
    refused(feed.watch_rotations(watch).await, code, why);
    let report = ReportAdoptionRequest { path: "secret/data/db".into(), ..Default::default() };
    refused(feed.report_adoption(report).await, code, why);
    let audit = rig.audit();
    assert_eq!(audit.len(), 15, "one record a call: {audit:#?}");
    for record in audit {
        assert_eq!((&record["outcome"], &record["reason"]), (&"denied".into(), &"DENIED".into()));
        assert_eq!(record["caller"], EVE);
    }
    assert!(rig.paper.all().is_empty(), "nothing was written down");
}

#[tokio::test]
async fn unknown_and_forbidden_look_the_same() {
    let rig = Rig::start().await;
    let mut guest = rig.person(GUEST).await;
    let mut said = Vec::new();
    for name in ["KEY", "NO_SUCH_SECRET", "", "not a name"] {
        let request = StatusRequest { names: vec![name.to_owned()] };
        let status = refused(guest.status(request).await, DENIED.0, DENIED.1);
        said.push((status.message().to_owned(), status.details().to_owned()));
    }
    said.dedup();
    assert_eq!(said.len(), 1, "{said:?}");
}

#[tokio::test]
async fn a_grant_gives_its_verbs_on_its_secrets_and_no_more() {
    let rig = Rig::start().await;
    let mut guest = rig.person(GUEST).await;
    let status = guest.status(StatusRequest::default()).await.unwrap().into_inner();
    let names: Vec<_> = status.secrets.iter().map(|secret| secret.name.as_str()).collect();
    assert_eq!(names, ["DB"]);
    let plan = guest.plan(PlanRequest::default()).await.unwrap().into_inner();
    assert_eq!(plan.rotations.len(), 1);
    let rotate = RotateRequest { name: db(), ..Default::default() };
    refused(guest.rotate(rotate).await, DENIED.0, DENIED.1);
}

#[tokio::test]
async fn policies_that_are_taken_back_end_open_streams() {
    let rig = Rig::start().await;
    let mut feed = rig.sidecar(SIDECAR).await;
    let watch = WatchRotationsRequest {
        paths: vec!["secret/data/db".into()],
        instance: "a".into(),
        ..Default::default()
    };
    let mut stream = feed.watch_rotations(watch.clone()).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().path, "");
    rig.operator.enforce(Policy::default());
    let id = secret_broker::domain::rotation::RotationId("r".into());
    rig.engine.surroundings().readers.announce("secret/data/db", &id, None);
    refused(feed.watch_rotations(watch).await, DENIED.0, DENIED.1);
    rig.stop.send_replace(true);
    assert_eq!(stream.message().await.unwrap(), None, "it ends without having told anything");
}

#[tokio::test]
async fn each_call_leaves_one_record_that_says_who_what_and_why() {
    let rig = Rig::start().await;
    let mut ann = rig.person(ANN).await;
    let request =
        RotateRequest { name: db(), reason: "the key was old".into(), ..Default::default() };
    let rotation = ann.rotate(request).await.unwrap().into_inner().rotation.unwrap();
    let audit = rig.audit();
    assert_eq!(audit.len(), 1);
    let record = &audit[0];
    assert_eq!(record["caller"], ANN);
    assert_eq!(record["verb"], "rotate");
    assert_eq!(record["secret"], "DB");
    assert_eq!(record["about"], rotation.id);
    assert_eq!(record["why"], "the key was old");
    assert_eq!(record["outcome"], "allowed");
}

#[tokio::test]
async fn requests_out_of_bounds_are_refused_by_name() {
    let rig = Rig::start().await;
    let mut ann = rig.person(ANN).await;
    let (code, why) = (Code::InvalidArgument, "INVALID_REQUEST");
    let long = RotateRequest { name: db(), reason: "x".repeat(1025), ..Default::default() };
    refused(ann.rotate(long).await, code, why);
    let many = StatusRequest { names: vec![db(); 11] };
    refused(ann.status(many).await, code, why);
    let silent = CompromiseRequest { name: db(), ..Default::default() };
    refused(ann.compromise(silent).await, code, why);
    let nowhere = RotateRequest { name: db(), environment: "mars".into(), ..Default::default() };
    let status = refused(ann.rotate(nowhere).await, Code::FailedPrecondition, "NOT_APPLICABLE");
    assert!(status.message().contains("staging, production"), "{status}");
}

#[tokio::test]
async fn health_and_reflection_are_those_of_every_listener() {
    let rig = Rig::start().await;
    let channel = rig.channel(EVE).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let request = tonic_health::pb::HealthCheckRequest::default();
    health.check(request).await.unwrap();
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(channel);
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        message_request: Some(
            tonic_reflection::pb::v1::server_reflection_request::MessageRequest::ListServices(
                String::new(),
            ),
        ),
        ..Default::default()
    };
    let answers = reflection.server_reflection_info(tokio_stream_of(request)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let text = format!("{answer:?}");
    assert!(text.contains("SecretOperator") && text.contains("RotationFeed"), "{text}");
}

fn tokio_stream_of<T: Send + 'static>(item: T) -> impl futures_util::Stream<Item = T> + Send {
    futures_util::stream::iter([item])
}
