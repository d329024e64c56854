//! Plans, states, validation, and the same operations without a socket.

use std::sync::atomic::Ordering;

use secret_broker::server::operator::proto::{
    PlanRequest, RollbackRequest, RotateRequest, StatusRequest, ValidateRequest,
};
use tonic::Code;

use crate::rig::{ANN, EVE, GUEST, Rig, refused, until};

#[tokio::test]
async fn validation_uses_every_credential_and_says_which_work() {
    let rig = Rig::start().await;
    let mut ann = rig.person(ANN).await;
    rig.targets["HOOK"].works.store(false, Ordering::Relaxed);
    let request = ValidateRequest { environment: "production".into(), names: Vec::new() };
    let results = ann.validate(request).await.unwrap().into_inner().results;
    let seen: Vec<_> = results.iter().map(|r| (r.name.as_str(), r.passed, r.version)).collect();
    assert_eq!(seen, [("DB", true, 1), ("HOOK", false, 1), ("KEY", true, 1)]);
    let nowhere = ValidateRequest { environment: "mars".into(), names: vec!["DB".into()] };
    refused(ann.validate(nowhere).await, Code::InvalidArgument, "INVALID_REQUEST");
}

#[tokio::test]
async fn plans_say_what_is_due_when_and_why() {
    let rig = Rig::start().await;
    let mut ann = rig.person(ANN).await;
    let plan = ann.plan(PlanRequest::default()).await.unwrap().into_inner();
    assert_eq!(plan.rotations.len(), 3);
    for planned in &plan.rotations {
        assert!(planned.due.is_some() && !planned.reason.is_empty() && planned.tier == "monthly");
    }
    let before = Some(prost_types::Timestamp { seconds: 0, nanos: 0 });
    let plan = ann.plan(PlanRequest { before }).await.unwrap().into_inner();
    assert!(plan.rotations.is_empty());
}

#[tokio::test]
async fn the_same_operations_work_without_a_socket() {
    let mut rig = Rig::start().await;
    rig.drive().await;
    let (ann, eve) = (Rig::local(ANN), Rig::local(EVE));
    let rotate = RotateRequest { name: "DB".into(), ..Default::default() };
    let refusal = rig.operator.rotate(&eve, rotate.clone()).await.unwrap_err();
    assert!(refusal.is_denied());
    rig.operator.rotate(&ann, rotate).await.unwrap();
    until("it is driven", || rig.paper.book("DB").past.len() == 1).await;
    let request = StatusRequest { names: vec!["DB".into()] };
    let status = rig.operator.status(&Rig::local(GUEST), request).await.unwrap();
    assert_eq!((status.secrets[0].current_version, &*status.secrets[0].trouble), (2, ""));
    let back = RollbackRequest { name: "DB".into(), reason: "it fails".into() };
    let back = rig.operator.rollback(&ann, back).await.unwrap().rotation.unwrap();
    assert_eq!((back.old_version, back.new_version), (2, 1));
    until("it went back", || rig.targets["DB"].labels.lock().unwrap().current == Some(1)).await;
    assert_eq!(rig.audit().len(), 4, "calls without a socket are recorded as well");
}
