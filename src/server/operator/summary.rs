//! Rotations and times in the words of the contract.

use std::time::Duration;

use jiff::Timestamp;

use super::{errors::OperatorError, proto};
use crate::{
    domain::rotation::{Entry, Kind, Next, Rotation, Standing},
    server::wire::timestamp,
};

/// A rotation as it stands at `now`.
pub(super) fn rotation(rotation: &Rotation, now: Timestamp) -> proto::RotationSummary {
    let waits = match rotation.next(now) {
        Next::Wait(at) | Next::Overlap { until: at, .. } => Some(at),
        _ => None,
    };
    let mut summary = proto::RotationSummary {
        id: rotation.id.0.clone(),
        name: rotation.secret.as_str().to_owned(),
        requested_by: rotation.requested_by.clone(),
        reason: rotation.reason.clone(),
        start_time: Some(timestamp(rotation.opened_at)),
        end_time: rotation.ended_at.map(timestamp),
        steps: rotation.log.iter().map(step).collect(),
        old_version: rotation.base.current,
        new_version: rotation.new_version().unwrap_or_default(),
        detail: detail(rotation),
        wait_until: waits.map(timestamp),
        ..Default::default()
    };
    summary.set_kind(match rotation.kind {
        Kind::Routine => proto::RotationKind::Routine,
        Kind::Emergency { .. } => proto::RotationKind::Emergency,
        Kind::Rollback => proto::RotationKind::Rollback,
    });
    summary.set_state(match rotation.standing {
        Standing::Running => proto::RotationState::Running,
        Standing::GoingBack => proto::RotationState::RollingBack,
        Standing::Held(_) => proto::RotationState::Held,
        Standing::Parked(_) => proto::RotationState::Parked,
        Standing::Succeeded => proto::RotationState::Succeeded,
        Standing::RolledBack => proto::RotationState::RolledBack,
    });
    summary
}

fn detail(rotation: &Rotation) -> String {
    match &rotation.standing {
        Standing::Held(hold) => hold.to_string(),
        Standing::Parked(why) => why.clone(),
        _ => rotation.trouble.clone().unwrap_or_default(),
    }
}

fn step(entry: &Entry) -> proto::RotationStep {
    let outcome = match (entry.ended_at, entry.succeeded) {
        (None, _) => "",
        (Some(_), true) => "succeeded",
        (Some(_), false) => "failed",
    };
    proto::RotationStep {
        name: entry.step.to_string(),
        start_time: Some(timestamp(entry.started_at)),
        end_time: entry.ended_at.map(timestamp),
        outcome: outcome.to_owned(),
        evidence: entry.evidence.clone(),
    }
}

/// A time of the contract.
pub(super) fn time(time: prost_types::Timestamp) -> Result<Timestamp, OperatorError> {
    Timestamp::new(time.seconds, time.nanos)
        .map_err(|_| OperatorError::invalid("a time is not one of the years 1 to 9999"))
}

/// A duration of the contract within bounds.
pub(super) fn duration(
    name: &str,
    stated: Option<prost_types::Duration>,
    usual: Duration,
    (least, most): (Duration, Duration),
) -> Result<Duration, OperatorError> {
    let Some(stated) = stated else { return Ok(usual) };
    let duration = Duration::try_from(stated).ok();
    duration.filter(|duration| (least..=most).contains(duration)).ok_or_else(|| {
        OperatorError::invalid(format!("{name} is at least {least:?} and at most {most:?}"))
    })
}
