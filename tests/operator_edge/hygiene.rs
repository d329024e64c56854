//! No value leaves but to the one who asked for it.

use std::{
    cell::Cell,
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

use secret_broker::server::operator::proto::{
    BreakGlassRequest, FollowRotationRequest, RotateRequest, RotationState, SupplyRequest,
};
use tonic::Code;
use tracing_subscriber::{filter::dynamic_filter_fn, fmt, prelude::*};

use crate::rig::{ANN, EVE, Rig, refused, until};

const PLANTED: &str = "planted-4711-value";

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

thread_local! {
    static RECORDED: Cell<bool> = const { Cell::new(false) };
}

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes it possible to record what is logged. Before anything is logged at all: what nobody
/// listens to is switched off for good.
pub fn listen() {
    let recorded = dynamic_filter_fn(|_, _| RECORDED.get());
    let layer = fmt::layer().with_ansi(false).with_writer(|| Log).with_filter(recorded);
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
}

fn supply(name: &str, field: &str) -> SupplyRequest {
    let fields = [(field.to_owned(), PLANTED.as_bytes().to_vec())].into();
    SupplyRequest { name: name.into(), fields }
}

/// Client and server run on this one thread, so its log is all there is.
#[tokio::test(flavor = "current_thread")]
async fn a_supplied_value_reaches_the_store_and_no_log_record_or_error() {
    RECORDED.set(true);
    let mut rig = Rig::start().await;
    rig.drive().await;
    let (mut ann, mut eve) = (rig.person(ANN).await, rig.person(EVE).await);
    ann.rotate(RotateRequest { name: "HOOK".into(), ..Default::default() }).await.unwrap();
    until("it waits for the value", || {
        rig.paper.all().contains("make a webhook") && rig.paper.book("HOOK").claim.is_none()
    })
    .await;
    let mut said = Vec::new();
    said.push(refused(eve.supply(supply("HOOK", "value")).await, Code::PermissionDenied, "DENIED"));
    let (code, why) = (Code::FailedPrecondition, "NOT_APPLICABLE");
    said.push(refused(ann.supply(supply("HOOK", "uri")).await, code, why));
    said.push(refused(ann.supply(supply("DB", "value")).await, code, why));
    let many = SupplyRequest {
        name: "HOOK".into(),
        fields: (0..65).map(|n| (format!("f{n}"), PLANTED.into())).collect(),
    };
    said.push(refused(ann.supply(many).await, Code::InvalidArgument, "INVALID_REQUEST"));
    ann.supply(supply("HOOK", "value")).await.unwrap();
    let follow = FollowRotationRequest { name: "HOOK".into() };
    let mut states = ann.follow_rotation(follow).await.unwrap().into_inner();
    let mut last = None;
    while let Some(state) = states.message().await.unwrap() {
        last = state.rotation;
    }
    assert_eq!(last.as_ref().unwrap().state(), RotationState::Succeeded);
    assert_eq!(rig.targets["HOOK"].values().last().unwrap(), PLANTED);
    let token =
        BreakGlassRequest { name: "HOOK".into(), reason: "outage".into(), ..Default::default() };
    let token = ann.break_glass(token).await.unwrap().into_inner();
    let request = supply("HOOK", "value");
    let texts = [
        String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned(),
        rig.audit_text(),
        rig.paper.all(),
        format!("{said:?} {last:?} {request:?} {token:?}"),
        format!("{:?}", rig.people.alerts.lock().unwrap()),
    ];
    assert!(texts[0].len() > 10_000 && texts[1].contains("HOOK"), "they are read at all");
    for text in texts {
        assert!(!text.contains(PLANTED), "a value is in {text:.500}");
        assert!(!text.contains(&token.token), "a token is in {text:.500}");
        let bytes = format!("{:?}", PLANTED.as_bytes());
        assert!(!text.contains(bytes.trim_matches(['[', ']'])), "its bytes are in {text:.500}");
    }
}
