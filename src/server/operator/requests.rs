//! What people ask of rotations. Each request is written down, and whoever drives is told.

use std::time::Duration;

use jiff::SignedDuration;
use zeroize::Zeroizing;

use super::{Caller, Operator, errors::OperatorError, gate::Record, proto, summary};
use crate::{
    domain::{
        policy::Verb,
        rotation::{Kind, Rotation},
        secret::{Fields, SecretName, SecretValue},
    },
    rotation::engine::{DriveError, RequestError, Wish},
};

/// How long readers are watched closely after a compromise, unless stated.
const MONITORING: Duration = Duration::from_hours(48);
/// The bounds of what can be stated.
const MONITORING_BOUNDS: (Duration, Duration) =
    (Duration::from_hours(24), Duration::from_hours(24 * 90));
/// The most fields of a value, and the longest name of one in bytes.
const FIELDS: usize = 64;
const FIELD_NAME_BYTES: usize = 253;
/// Attempts to write a request down while the rotation is driven at the same time.
const ATTEMPTS: u32 = 8;
/// The wait after the first of them; it grows with each.
const PAUSE: Duration = Duration::from_millis(20);

impl Operator {
    /// Opens a rotation, or joins the one under way; for a dry run says what it would do.
    ///
    /// # Errors
    /// When it is not the caller's to ask for, or does not fit what is there.
    pub async fn rotate(
        &self,
        caller: &Caller,
        request: proto::RotateRequest,
    ) -> Result<proto::RotateResponse, OperatorError> {
        let mut record = Record::begin(self, caller, Verb::Rotate, &request.name, &request.reason)?;
        let asked = async {
            let (name, _) = self.secret(caller, Verb::Rotate, &request.name)?;
            let until = Some(request.environment).filter(|until| !until.is_empty());
            let wish = Wish { until, ..self.wish(caller, Kind::Routine, &request.reason) };
            if request.dry_run {
                let steps = self.engine.dry_run(name, wish).await?;
                let planned_steps = steps.iter().map(ToString::to_string).collect();
                return Ok((proto::RotateResponse { rotation: None, planned_steps }, None));
            }
            let rotation = self.open(name, &wish).await?;
            let planned_steps = rotation.remaining().iter().map(ToString::to_string).collect();
            let summary = Some(self.summary(&rotation));
            Ok((proto::RotateResponse { rotation: summary, planned_steps }, Some(rotation)))
        };
        let result = asked.await;
        if let Ok((_, Some(rotation))) = &result {
            record.about.clone_from(&rotation.id.0);
        }
        record.end(result.map(|(response, _)| response))
    }

    /// Takes up a rotation that is held or parked.
    ///
    /// # Errors
    /// When it is not the caller's to ask for, or none is.
    pub async fn resume(
        &self,
        caller: &Caller,
        request: proto::ResumeRequest,
    ) -> Result<proto::ResumeResponse, OperatorError> {
        let record = Record::begin(self, caller, Verb::Rotate, &request.name, "")?;
        let asked = async {
            let (name, _) = self.secret(caller, Verb::Rotate, &request.name)?;
            let rotation = again(|| self.engine.resume(name)).await?;
            Ok(self.woken(name, rotation))
        };
        let rotation = Some(self.ended(record, asked.await)?);
        Ok(proto::ResumeResponse { rotation })
    }

    /// Returns to the last working version.
    ///
    /// # Errors
    /// When it is not the caller's to ask for, or there is no such version.
    pub async fn rollback(
        &self,
        caller: &Caller,
        request: proto::RollbackRequest,
    ) -> Result<proto::RollbackResponse, OperatorError> {
        let record = Record::begin(self, caller, Verb::Rollback, &request.name, &request.reason)?;
        let asked = async {
            let (name, _) = self.secret(caller, Verb::Rollback, &request.name)?;
            self.open(name, &self.wish(caller, Kind::Rollback, &request.reason)).await
        };
        let rotation = Some(self.ended(record, asked.await)?);
        Ok(proto::RollbackResponse { rotation })
    }

    /// Replaces a secret that others may know.
    ///
    /// # Errors
    /// When it is not the caller's to ask for, or no reason is stated.
    pub async fn compromise(
        &self,
        caller: &Caller,
        request: proto::CompromiseRequest,
    ) -> Result<proto::CompromiseResponse, OperatorError> {
        let verb = Verb::Compromise;
        let record = Record::begin(self, caller, verb, &request.name, &request.reason)?;
        let mut breaks = Vec::new();
        let asked = async {
            let (name, _) = self.secret(caller, verb, &request.name)?;
            stated(&request.reason)?;
            let monitoring =
                summary::duration("monitoring", request.monitoring, MONITORING, MONITORING_BOUNDS)?;
            let monitoring = SignedDuration::try_from(monitoring).unwrap_or(SignedDuration::MAX);
            let kind = Kind::Emergency { revoke_first: request.revoke_first };
            let wish = self.wish(caller, kind, &request.reason);
            let opened = again(|| self.engine.compromise(name, wish.clone(), monitoring)).await?;
            breaks = opened.1;
            Ok(self.woken(name, opened.0))
        };
        let asked = asked.await;
        let rotation = Some(self.ended(record, asked)?);
        Ok(proto::CompromiseResponse { rotation, breaks })
    }

    /// Hands over the value that a guided manual rotation waits for.
    ///
    /// # Errors
    /// When it is not the caller's to hand over, none is waited for, or it is not of the right form.
    pub async fn supply(
        &self,
        caller: &Caller,
        request: proto::SupplyRequest,
    ) -> Result<proto::SupplyResponse, OperatorError> {
        let proto::SupplyRequest { name, fields } = request;
        // First of all, so that the bytes are wiped whatever follows.
        let fields = fields.into_iter().map(|(field, bytes)| (field, Zeroizing::new(bytes)));
        let fields = fields.collect::<Vec<_>>();
        let record = Record::begin(self, caller, Verb::Rotate, &name, "")?;
        let asked = async {
            let (name, _) = self.secret(caller, Verb::Rotate, &name)?;
            let fields = value(fields)?;
            let by = &caller.identity;
            let rotation = again(|| self.engine.supply(name, &fields, by)).await?;
            Ok(self.woken(name, rotation))
        };
        let rotation = Some(self.ended(record, asked.await)?);
        Ok(proto::SupplyResponse { rotation })
    }

    pub(super) fn summary(&self, rotation: &Rotation) -> proto::RotationSummary {
        summary::rotation(rotation, self.now())
    }

    async fn open(&self, name: &SecretName, wish: &Wish) -> Result<Rotation, OperatorError> {
        let rotation = again(|| self.engine.open(name, wish.clone())).await?;
        Ok(self.woken(name, rotation))
    }

    fn wish(&self, caller: &Caller, kind: Kind, reason: &str) -> Wish {
        Wish {
            id: (self.name)(self.now()),
            kind,
            by: caller.identity.as_ref().to_owned(),
            reason: reason.to_owned(),
            until: None,
        }
    }

    /// Tells whoever drives that something was written down.
    pub(super) fn woken<T>(&self, name: &SecretName, result: T) -> T {
        self.waker.wake(name.clone());
        result
    }

    /// Ends a call that came to be about a rotation.
    fn ended(
        &self,
        mut record: Record<'_>,
        result: Result<Rotation, OperatorError>,
    ) -> Result<proto::RotationSummary, OperatorError> {
        if let Ok(rotation) = &result {
            record.about.clone_from(&rotation.id.0);
        }
        record.end(result.map(|rotation| self.summary(&rotation)))
    }
}

/// Does what is lost to somebody who wrote meanwhile again: the driver of the same rotation writes
/// at each step.
pub(super) async fn again<T, F>(request: impl Fn() -> F) -> Result<T, RequestError>
where
    F: Future<Output = Result<T, RequestError>>,
{
    for attempt in 1..ATTEMPTS {
        match request().await {
            Err(RequestError::Drive(DriveError::TakenOver)) => {
                tokio::time::sleep(PAUSE * attempt).await;
            }
            result => return result,
        }
    }
    request().await
}

/// A reason has to be given.
pub(super) fn stated(reason: &str) -> Result<(), OperatorError> {
    if reason.trim().is_empty() {
        return Err(OperatorError::invalid("a reason is needed: say what happened"));
    }
    Ok(())
}

fn value(fields: Vec<(String, Zeroizing<Vec<u8>>)>) -> Result<Fields, OperatorError> {
    let is_odd = |name: &String| name.is_empty() || name.len() > FIELD_NAME_BYTES;
    if fields.is_empty() || fields.len() > FIELDS || fields.iter().any(|(name, _)| is_odd(name)) {
        let accepted = format!(
            "a value has 1 to {FIELDS} fields, each with a name of 1 to {FIELD_NAME_BYTES} bytes"
        );
        return Err(OperatorError::invalid(accepted));
    }
    let taken = fields.into_iter().map(|(name, mut bytes)| {
        let bytes: &mut Vec<u8> = &mut bytes;
        (name, SecretValue::new(std::mem::take(bytes)))
    });
    Ok(taken.collect())
}
