//! The loop: asks the rules what comes next, has it done, and writes down what became of it.

use std::time::Duration;

use jiff::Timestamp;

use super::{DriveError, Engine, MAX_PAST, Managed, desk::Desk, steps::Outcome};
use crate::{
    domain::{
        labels::Audience,
        rotation::{Failure, Next, RevokeWhen, Rotation, Standing, Step},
        secret::SecretName,
    },
    rotation::ports::{Alert, Book, Urgency},
};

/// A wait that is longer is left to whoever drives the secret next.
const PATIENCE: Duration = Duration::from_secs(10);
/// The full jitter of the wait before the next attempt.
const RETRY_SPREAD: (f64, f64) = (0.5, 1.0);

/// Where driving a secret came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driven {
    /// No rotation is open.
    Idle,
    /// The rotation ended, is held, or is parked.
    Rests,
    /// Nothing is to be done before then.
    Waits(Timestamp),
    /// Readers move over: nothing is to be done before then, or before word from them.
    Overlaps(Timestamp),
}

impl Engine {
    /// Drives the open rotation of a secret until it ends, waits for a person, or has to wait for
    /// longer than some seconds. May be dropped at any await: the next call goes on from there.
    ///
    /// # Errors
    /// When somebody else works on the secret, or the journal can't be used.
    pub async fn drive(&self, secret: &SecretName) -> Result<Driven, DriveError> {
        let managed = self.managed(secret)?;
        if let Some(driven) = self.peek(managed, &self.book(secret).await?) {
            return Ok(driven);
        }
        let mut desk = self.claim(secret).await?;
        self.deliver(&mut desk).await;
        loop {
            let now = self.now();
            let Some(rotation) = &desk.book.open else {
                desk.release().await?;
                return Ok(Driven::Idle);
            };
            match rotation.next(now) {
                Next::Over => {
                    self.archive(&mut desk, managed, now);
                    desk.release().await?;
                    return Ok(Driven::Rests);
                }
                Next::Nobody => {
                    desk.release().await?;
                    return Ok(Driven::Rests);
                }
                Next::Wait(at) => {
                    if !self.waited(at, now).await {
                        desk.release().await?;
                        return Ok(Driven::Waits(at));
                    }
                }
                Next::Overlap { from, until } => {
                    let rotation = rotation.clone();
                    let ended = self.overlap(managed, &rotation, (from, until), now);
                    if let Some(at) = self.take_overlap(&mut desk, managed, ended).await? {
                        desk.release().await?;
                        return Ok(Driven::Overlaps(at));
                    }
                }
                Next::Do { step, again } => self.step(&mut desk, managed, &step, again).await?,
            }
        }
    }

    /// What driving would come to without anything being done: then nobody has to claim the book.
    fn peek(&self, managed: &Managed, book: &Book) -> Option<Driven> {
        let now = self.now();
        if !book.alerts.is_empty() {
            return None;
        }
        let Some(rotation) = &book.open else { return Some(Driven::Idle) };
        match rotation.next(now) {
            Next::Nobody => Some(Driven::Rests),
            Next::Wait(at) if !self.is_short(at, now) => Some(Driven::Waits(at)),
            Next::Overlap { from, until } => {
                match self.overlap(managed, rotation, (from, until), now) {
                    Overlapping::Goes(at) if !self.is_short(at, now) => Some(Driven::Overlaps(at)),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn is_short(&self, at: Timestamp, now: Timestamp) -> bool {
        left(at, now) <= PATIENCE.min(self.limits.claim / 2)
    }

    /// Waits, if the wait is short.
    async fn waited(&self, at: Timestamp, now: Timestamp) -> bool {
        let short = self.is_short(at, now);
        if short {
            tokio::time::sleep(left(at, now)).await;
        }
        short
    }

    async fn step(
        &self,
        desk: &mut Desk<'_>,
        managed: &Managed,
        step: &Step,
        again: bool,
    ) -> Result<(), DriveError> {
        let terms = &managed.terms;
        let outcome = if *step == Step::Generate {
            self.generate(desk, managed, again).await?
        } else {
            if let Some(rotation) = &mut desk.book.open {
                let now = self.now();
                if *step == Step::Promote(Audience::Everyone) {
                    rotation.fix_overlap(terms, now);
                }
                rotation.begin(0, now);
            }
            desk.save().await?;
            let Some(rotation) = desk.book.open.clone() else { return Ok(()) };
            let (epoch, monitored) = (desk.book.epoch, desk.book.monitored_until);
            let work = self.perform(managed, &rotation, step, (epoch, again), monitored);
            desk.while_claimed(work).await?.unwrap_or_else(|| Err(late()))
        };
        let now = self.now();
        let Some(rotation) = &mut desk.book.open else { return Ok(()) };
        let before = rotation.clone();
        match outcome {
            Ok(Outcome::Done(evidence)) => rotation.done(evidence, terms, now),
            Ok(Outcome::Pause(evidence, wait)) => rotation.pause(evidence, wait, now),
            Ok(Outcome::Hold(hold)) => rotation.hold(hold, now),
            Err(failure) => {
                tracing::warn!(
                    secret = %rotation.secret,
                    rotation = %rotation.id,
                    step = %step,
                    failure = failure.detail(),
                    "a step of a rotation failed"
                );
                let wait = |ceiling| self.spread(ceiling, RETRY_SPREAD.0, RETRY_SPREAD.1);
                rotation.failed(&failure, terms, wait, now);
            }
        }
        desk.book.alerts.extend(alert(&before, rotation));
        desk.save().await?;
        self.deliver(desk).await;
        Ok(())
    }

    /// How an overlap goes on: what ended it, or until when it goes on.
    fn overlap(
        &self,
        managed: &Managed,
        rotation: &Rotation,
        (from, until): (Timestamp, Timestamp),
        now: Timestamp,
    ) -> Overlapping {
        let Some(version) = rotation.new_version() else { return Overlapping::Goes(until) };
        let adoption = self.around.readers.adoption(managed.versions.place(), version);
        if adoption.refused > 0 {
            let n = adoption.refused;
            return Overlapping::Refused(format!("{n} reports say that the target refuses it"));
        }
        if now >= until {
            return Overlapping::Ended("its time passed".to_owned());
        }
        let acknowledged = adoption.sidecars > 0 && adoption.adopted == adoption.sidecars;
        if managed.terms.revoke == RevokeWhen::Acknowledged && acknowledged && now >= from {
            let n = adoption.sidecars;
            return Overlapping::Ended(format!("the readers of all {n} sidecars moved over"));
        }
        Overlapping::Goes(if acknowledged && now < from { from } else { until })
    }

    /// Takes the state of an overlap over. Returns until when there is nothing to do.
    async fn take_overlap(
        &self,
        desk: &mut Desk<'_>,
        managed: &Managed,
        state: Overlapping,
    ) -> Result<Option<Timestamp>, DriveError> {
        let now = self.now();
        let Some(rotation) = &mut desk.book.open else { return Ok(None) };
        let before = rotation.clone();
        match state {
            Overlapping::Goes(until) => {
                return Ok(if self.waited(until, now).await { None } else { Some(until) });
            }
            Overlapping::Ended(why) => rotation.overlapped(why, &managed.terms, now),
            Overlapping::Refused(why) => {
                rotation.go_back(why, &managed.terms);
            }
        }
        desk.book.alerts.extend(alert(&before, rotation));
        desk.save().await?;
        self.deliver(desk).await;
        Ok(None)
    }

    /// Puts a rotation that is over to the others, and says when the secret is due next.
    pub(super) fn archive(&self, desk: &mut Desk<'_>, managed: &Managed, now: Timestamp) {
        let Some(rotation) = desk.book.open.take() else { return };
        if rotation.standing == Standing::Succeeded || desk.book.due.is_some_and(|due| due <= now) {
            desk.book.due = managed.schedule.next(now, self.draw());
        }
        desk.book.past.insert(0, rotation);
        desk.book.past.truncate(MAX_PAST);
    }

    /// Tells people what is written down for them. What nobody could be told stays there, and is
    /// told at the next occasion.
    async fn deliver(&self, desk: &mut Desk<'_>) {
        let mut left = Vec::new();
        for alert in std::mem::take(&mut desk.book.alerts) {
            if let Err(fault) = self.around.alerts.raise(&alert).await {
                let Alert { name, secret, summary, .. } = &alert;
                tracing::error!(alert = %name, %secret, summary, %fault, "nobody could be told");
                left.push(alert);
            }
        }
        desk.book.alerts = left;
    }
}

/// What people have to know of a change.
fn alert(before: &Rotation, after: &Rotation) -> Option<Alert> {
    let trouble = after.trouble.as_deref().unwrap_or("no reason is known");
    let newly = |which: fn(&Standing) -> bool| which(&after.standing) && !which(&before.standing);
    let (name, urgency, what) = if newly(|s| matches!(s, Standing::Parked(_))) {
        ("rotation_parked", Urgency::Critical, format!("can't go on: {trouble}"))
    } else if after.exposed && !before.exposed {
        let what = format!("could not revoke the old version, which still works: {trouble}");
        ("revocation_failed", Urgency::Critical, what)
    } else if newly(|s| *s == Standing::GoingBack) {
        ("rotation_goes_back", Urgency::Warning, format!("goes back: {trouble}"))
    } else if newly(|s| *s == Standing::Succeeded) && after.trouble != before.trouble {
        ("rotation_not_documented", Urgency::Warning, format!("succeeded, but {trouble}"))
    } else if newly(|s| matches!(s, Standing::Held(_))) {
        ("rotation_held", Urgency::Info, after.standing.to_string())
    } else {
        return None;
    };
    let summary = format!("rotation {} {what}", after.id);
    Some(Alert { urgency, name: name.into(), secret: after.secret.clone(), summary })
}

enum Overlapping {
    Goes(Timestamp),
    Ended(String),
    Refused(String),
}

fn left(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

pub(super) fn late() -> Failure {
    Failure::Transient("it took longer than a step may".to_owned())
}
