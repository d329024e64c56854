//! What each step does. All of them may be done again after a crash.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{Engine, Managed};
use crate::{
    domain::{
        fault::Fault,
        labels::{Audience, Labels},
        rotation::{Failure, Hold, Kind, Rotation, Step},
        secret::Fields,
    },
    rotation::ports::{Change, Evidence, Phase, Revocation, Severity, Subject, TargetError},
};

/// What became of a step that did not fail.
pub(super) enum Outcome {
    Done(Evidence),
    Pause(Evidence, Duration),
    Hold(Hold),
}

impl Managed {
    /// The value of a version; `None` for version 0.
    pub(super) async fn value(&self, version: u64) -> Result<Option<Arc<Fields>>, Fault> {
        match version {
            0 => Ok(None),
            version => self.versions.read(version).await.map(Some),
        }
    }
}

impl Engine {
    pub(super) async fn perform(
        &self,
        managed: &Managed,
        rotation: &Rotation,
        step: &Step,
        (epoch, again): (u64, bool),
        monitored: Option<Timestamp>,
    ) -> Result<Outcome, Failure> {
        let work = Work { engine: self, managed, rotation, epoch, monitored };
        let evidence = match step {
            Step::Precheck => work.check(Phase::Before).await?,
            Step::Apply => work.apply(again).await?,
            Step::Prove => {
                managed.rotator.prove(&*work.candidate().await?).await.map_err(failure)?
            }
            Step::Promote(audience) => work.promote(audience).await?,
            Step::Validate(audience) => work.validate(audience).await?,
            Step::Revoke => return work.revoke().await,
            Step::Demote => work.demote().await?,
            Step::Undo => return work.undo().await,
            Step::Document => self
                .around
                .records
                .write(rotation, managed.versions.place())
                .await
                .map_err(|fault| Failure::from(&fault))?,
            // The engine drives these two itself.
            Step::Generate | Step::Overlap => Evidence::new(),
        };
        Ok(Outcome::Done(evidence))
    }
}

struct Work<'a> {
    engine: &'a Engine,
    managed: &'a Managed,
    rotation: &'a Rotation,
    epoch: u64,
    monitored: Option<Timestamp>,
}

impl Work<'_> {
    /// The new value; what the target holds, where that makes and keeps it itself.
    async fn candidate(&self) -> Result<Arc<Fields>, Failure> {
        if self.managed.terms.held {
            return self.managed.rotator.held().await.map(Arc::new).map_err(failure);
        }
        let version = self.rotation.new_version().unwrap_or_default();
        let value = self.managed.value(version).await.map_err(|fault| Failure::from(&fault))?;
        value.ok_or_else(|| Failure::Unknown("the new value is not stored".to_owned()))
    }

    async fn current(&self) -> Result<Option<Arc<Fields>>, Failure> {
        let current = self.managed.value(self.rotation.base.current).await;
        current.map_err(|fault| Failure::from(&fault))
    }

    async fn check(&self, phase: Phase) -> Result<Evidence, Failure> {
        let (current, version) = match phase {
            Phase::Before => (self.current().await?, self.rotation.base.current),
            Phase::After => {
                let version = self.rotation.new_version().unwrap_or_default();
                (Some(self.candidate().await?), version)
            }
        };
        let subject = Subject {
            secret: &self.rotation.secret,
            id: &self.rotation.id,
            phase,
            current: current.as_deref(),
            version,
        };
        let mut seen = Vec::new();
        for check in &self.managed.checks {
            let evidence = check.check(&subject).await.map_err(failure)?;
            seen.push(format!("{}: {evidence}", check.kind()));
        }
        if phase == Phase::Before {
            seen.push(match &current {
                None => "there is no version yet".to_owned(),
                Some(value) => match self.managed.rotator.prove(value).await {
                    Ok(evidence) => format!("the current version works: {evidence}"),
                    // A rotation may be just what mends it.
                    Err(error) => format!("the current version does not work: {error}"),
                },
            });
        }
        Ok(seen.join("; "))
    }

    async fn apply(&self, again: bool) -> Result<Evidence, Failure> {
        let (new, current) = (self.candidate().await?, self.current().await?);
        let rotator = &self.managed.rotator;
        if again && !rotator.is_overlapping() && !self.managed.terms.held {
            // It is not known whether the target saw it; what it accepts tells.
            match rotator.prove(&new).await {
                Ok(evidence) => return Ok(format!("found applied: {evidence}")),
                Err(TargetError::Fault(fault)) => return Err(Failure::from(&fault)),
                Err(TargetError::Refused(_)) => self.know_current(current.as_deref()).await?,
            }
        }
        let none = std::collections::BTreeMap::new();
        let facts = self.rotation.candidate.as_ref().map_or(&none, |candidate| &candidate.facts);
        let change = Change { current: current.as_deref(), new: &new, facts };
        let applied = rotator.apply(&change).await.map_err(failure)?;
        if self.managed.terms.held {
            let place = self.managed.versions.place();
            self.engine.around.readers.announce(place, &self.rotation.id, self.monitored);
        }
        Ok(applied)
    }

    /// Makes sure that a target which refuses the new value accepts the current one.
    async fn know_current(&self, current: Option<&Fields>) -> Result<(), Failure> {
        let Some(current) = current else { return Ok(()) };
        match self.managed.rotator.prove(current).await {
            Ok(_) => Ok(()),
            Err(TargetError::Fault(fault)) => Err(Failure::from(&fault)),
            Err(TargetError::Refused(_)) => Err(Failure::Unknown(
                "the target accepts neither the new nor the current version".to_owned(),
            )),
        }
    }

    async fn promote(&self, audience: &Audience) -> Result<Evidence, Failure> {
        let version = self.rotation.new_version().unwrap_or_default();
        let base = self.rotation.base.current;
        let until = self.rotation.overlap_ends_at;
        let mut labels = self.labels().await?;
        let expected = [base, version, 0];
        if let Some(current) = labels.current.filter(|current| !expected.contains(current)) {
            let detail = format!("somebody else moved the label `current` to version {current}");
            return Err(Failure::Unknown(detail));
        }
        labels.promote(version, audience, until);
        self.label(labels).await?;
        Ok(format!("version {version} is served to {audience}"))
    }

    async fn validate(&self, audience: &Audience) -> Result<Evidence, Failure> {
        let (new, current) = (self.candidate().await?, self.current().await?);
        let previous = current.as_deref().filter(|_| self.rotation.overlap_ends_at.is_some());
        let proof = self.managed.rotator.prove(&new).await.map_err(failure)?;
        let mut seen = vec![proof];
        for validator in &self.managed.validators {
            let evidence = validator.validate(&new, previous).await.map_err(failure)?;
            seen.push(format!("{}: {evidence}", validator.kind()));
        }
        let version = self.rotation.new_version().unwrap_or_default();
        let adoption = self.engine.around.readers.adoption(self.managed.versions.place(), version);
        if adoption.refused > 0 {
            let detail = format!("{} reports say that the target refuses it", adoption.refused);
            return Err(Failure::Refused(detail));
        }
        if adoption.worked > 0 {
            seen.push(format!("{} reports say that it works", adoption.worked));
        }
        if *audience == Audience::Everyone {
            let checked = self.check(Phase::After).await?;
            seen.extend((!checked.is_empty()).then_some(checked));
        }
        Ok(seen.join("; "))
    }

    async fn revoke(&self) -> Result<Outcome, Failure> {
        let Some(old) = self.current().await? else {
            return Ok(Outcome::Done("there was no version before".to_owned()));
        };
        let compromised = matches!(self.rotation.kind, Kind::Emergency { .. });
        let kept = match self.rotation.new_version() {
            Some(_) => Some(self.candidate().await?),
            None => None,
        };
        let severity = Severity { part: self.rotation.revocation, compromised };
        // Nobody may be served as `previous` what works no more.
        let mut labels = self.labels().await?;
        if labels.previous.is_some() {
            labels.withdraw();
            self.label(labels).await?;
        }
        let revoked = self.managed.rotator.revoke(&old, kept.as_deref(), severity).await;
        match revoked.map_err(failure)? {
            Revocation::Continue { evidence, wait } => Ok(Outcome::Pause(evidence, wait)),
            Revocation::Done(evidence) => {
                for &version in &self.rotation.revoke_also {
                    let other = self.managed.value(version).await;
                    if let Some(other) = other.map_err(|fault| Failure::from(&fault))? {
                        let revoked =
                            self.managed.rotator.revoke(&other, kept.as_deref(), severity);
                        revoked.await.map_err(failure)?;
                    }
                }
                Ok(Outcome::Done(evidence))
            }
        }
    }

    async fn demote(&self) -> Result<Evidence, Failure> {
        let base = self.rotation.base.current;
        let mut labels = self.labels().await?;
        labels.demote(base);
        self.label(labels).await?;
        Ok(format!("version {base} is served to everyone again"))
    }

    async fn undo(&self) -> Result<Outcome, Failure> {
        if self.rotation.new_version().is_none() {
            return Ok(Outcome::Done("nothing was applied".to_owned()));
        }
        let (new, current) = (self.candidate().await?, self.current().await?);
        let rotator = &self.managed.rotator;
        if rotator.is_overlapping() {
            let severity = Severity { part: self.rotation.revocation, compromised: false };
            let revoked = rotator.revoke(&new, current.as_deref(), severity).await;
            return Ok(match revoked.map_err(failure)? {
                Revocation::Continue { evidence, wait } => Outcome::Pause(evidence, wait),
                Revocation::Done(evidence) => Outcome::Done(evidence),
            });
        }
        let Some(current) = current else {
            return Ok(Outcome::Done("there is no version to go back to".to_owned()));
        };
        let facts = std::collections::BTreeMap::new();
        let change = Change { current: Some(&new), new: &current, facts: &facts };
        rotator.apply(&change).await.map(Outcome::Done).map_err(failure)
    }

    async fn labels(&self) -> Result<Labels, Failure> {
        self.managed.versions.labels().await.map_err(|fault| Failure::from(&fault))
    }

    /// Moves the labels, and tells the sidecars.
    async fn label(&self, mut labels: Labels) -> Result<(), Failure> {
        labels.rotation = Some(self.rotation.id.0.clone());
        labels.epoch = self.epoch;
        let versions = &self.managed.versions;
        versions.label(&labels).await.map_err(|fault| Failure::from(&fault))?;
        self.engine.around.readers.announce(versions.place(), &self.rotation.id, self.monitored);
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn failure(error: TargetError) -> Failure {
    Failure::from(&error)
}
