//! The rules: which step comes next, and what its end means.
//!
//! Invariants, driven by property tests with crashes at any place: the old version is revoked only
//! after the new one was validated for everyone, an emergency that asks for it aside; a rotation
//! that goes back leaves the old version in force; one rotation never makes more values than its
//! terms allow; a rotation that revoked the old version never goes back.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Base, Candidate, Entry, Failure, Hold, Kind, Request, RotationId, Standing, Step, Terms, path,
};
use crate::domain::{labels::Audience, secret::SecretName};

/// The most entries that a rotation remembers; with more, the oldest failed attempts are left out.
const MAX_ENTRIES: usize = 200;

/// A rotation, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// Its name.
    pub id: RotationId,
    /// The secret.
    pub secret: SecretName,
    /// What kind it is.
    pub kind: Kind,
    /// Who asked for it.
    pub requested_by: String,
    /// Who agreed to it, where that was asked for.
    pub approved_by: Option<String>,
    /// Why.
    pub reason: String,
    /// The environment to stop after; the last when absent.
    pub until: Option<String>,
    /// The versions that it starts from.
    pub base: Base,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Where it stands.
    pub standing: Standing,
    /// Why it went back, or what it could not finish.
    pub trouble: Option<String>,
    /// The value on its way.
    pub candidate: Option<Candidate>,
    /// Values that are not used: the target refused them, or they were lost before they were stored.
    pub discarded: Vec<Candidate>,
    /// What was done and tried, oldest first.
    pub log: Vec<Entry>,
    /// When the overlap ends at the latest.
    pub overlap_ends_at: Option<Timestamp>,
    /// Before this, the old version is not revoked.
    pub settles_at: Option<Timestamp>,
    /// The part of a revocation that is due, for targets that need several.
    pub revocation: u32,
    /// The old version could not be revoked so far: it still works.
    pub exposed: bool,
    /// Versions besides the old one that have to be revoked with it.
    pub revoke_also: Vec<u64>,
    path: Vec<Step>,
    done: usize,
    begun: bool,
    attempts: u32,
    not_before: Option<Timestamp>,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This step. `again` says that its effects may be there already.
    Do {
        /// The step.
        step: Step,
        /// It was begun before.
        again: bool,
    },
    /// Nothing before then.
    Wait(Timestamp),
    /// Readers move over: their word ends it from `from` on, and time does at `until`.
    Overlap {
        /// The earliest end.
        from: Timestamp,
        /// The latest end.
        until: Timestamp,
    },
    /// Nothing until a person does something.
    Nobody,
    /// Nothing: it is over.
    Over,
}

impl Rotation {
    /// Opens a rotation.
    pub fn open(request: Request, terms: &Terms, now: Timestamp) -> Self {
        let path = path::forward(request.kind, terms);
        let candidate = request.base.target.map(|version| Candidate {
            version: Some(version),
            after: request.base.current,
            ..Candidate::default()
        });
        let standing =
            if terms.approval { Standing::Held(Hold::Approval) } else { Standing::Running };
        Self {
            id: request.id,
            secret: request.secret,
            kind: request.kind,
            requested_by: request.requested_by,
            approved_by: None,
            reason: request.reason,
            until: request.until,
            base: request.base,
            opened_at: now,
            ended_at: None,
            standing,
            trouble: None,
            candidate,
            discarded: Vec::new(),
            log: Vec::new(),
            overlap_ends_at: None,
            settles_at: None,
            revocation: 0,
            exposed: false,
            revoke_also: Vec::new(),
            path,
            done: 0,
            begun: false,
            attempts: 0,
            not_before: None,
        }
    }

    /// What comes next.
    pub fn next(&self, now: Timestamp) -> Next {
        match self.standing {
            Standing::Succeeded | Standing::RolledBack => return Next::Over,
            Standing::Held(_) | Standing::Parked(_) => return Next::Nobody,
            Standing::Running | Standing::GoingBack => {}
        }
        if let Some(at) = self.not_before.filter(|at| now < *at) {
            return Next::Wait(at);
        }
        match self.step() {
            None => Next::Over,
            Some(Step::Overlap) => {
                let until = self.overlap_ends_at.unwrap_or(now);
                Next::Overlap { from: self.settles_at.unwrap_or(until), until }
            }
            Some(step) => Next::Do { step: step.clone(), again: self.begun },
        }
    }

    /// The step that is due; `None` after the last one.
    pub fn step(&self) -> Option<&Step> {
        self.path.get(self.done)
    }

    /// The steps that are still to come, the one that is due among them.
    pub fn remaining(&self) -> &[Step] {
        self.path.get(self.done..).unwrap_or_default()
    }

    /// The version that it brings, once it is stored.
    pub fn new_version(&self) -> Option<u64> {
        self.candidate.as_ref().and_then(|candidate| candidate.version)
    }

    /// Notes that the step that is due begins. Has to be written down before its effects.
    pub fn begin(&mut self, latest: u64, now: Timestamp) {
        let Some(step) = self.step().cloned() else { return };
        if step == Step::Generate && self.candidate.is_none() {
            let number = u32::try_from(self.discarded.len()).unwrap_or(u32::MAX).saturating_add(1);
            self.candidate = Some(Candidate { number, after: latest, ..Candidate::default() });
        }
        self.begun = true;
        self.trim();
        let entry = Entry {
            step,
            started_at: now,
            ended_at: None,
            succeeded: false,
            evidence: String::new(),
        };
        self.log.push(entry);
    }

    /// Notes that the step that is due was done, with what was seen.
    pub fn done(&mut self, evidence: impl Into<String>, terms: &Terms, now: Timestamp) {
        let Some(step) = self.step().cloned() else { return };
        self.close(true, evidence.into(), now);
        if step == Step::Promote(Audience::Everyone) {
            self.settles_at = Some(later(now, terms.settle.min(terms.overlap)));
        }
        if step == Step::Revoke {
            self.exposed = false;
        }
        self.advance();
        if let Step::Promote(Audience::Environment(_) | Audience::Colour { .. }) = &step {
            self.not_before = Some(later(now, terms.soak)).filter(|_| !terms.soak.is_zero());
        }
        if let Step::Validate(Audience::Environment(environment)) = &step
            && self.until.as_ref() == Some(environment)
            && self.standing == Standing::Running
        {
            self.standing = Standing::Held(Hold::Environment(environment.clone()));
        }
        if self.step().is_none() {
            self.end(now);
        }
    }

    /// The end of the overlap, fixed when everybody is first served the new version.
    pub fn fix_overlap(&mut self, terms: &Terms, now: Timestamp) -> Option<Timestamp> {
        if !self.path.contains(&Step::Overlap) {
            return None;
        }
        Some(*self.overlap_ends_at.get_or_insert_with(|| later(now, terms.overlap)))
    }

    /// Notes that the overlap ended, and why.
    pub fn overlapped(&mut self, evidence: impl Into<String>, terms: &Terms, now: Timestamp) {
        if self.step() == Some(&Step::Overlap) {
            self.begin(0, now);
            self.done(evidence, terms, now);
        }
    }

    /// Notes that a part of a step is done and the next one is due after a wait.
    pub fn pause(&mut self, evidence: impl Into<String>, wait: Duration, now: Timestamp) {
        self.close(true, evidence.into(), now);
        self.revocation += 1;
        self.attempts = 0;
        self.not_before = Some(later(now, wait));
    }

    /// Notes that the step that is due can't be done without a person.
    pub fn hold(&mut self, hold: Hold, now: Timestamp) {
        self.close(true, hold.to_string(), now);
        self.standing = Standing::Held(hold);
    }

    /// Notes that the step that is due failed. `wait` draws the time before the next attempt from
    /// the ceiling that it is given.
    pub fn failed(
        &mut self,
        failure: &Failure,
        terms: &Terms,
        wait: impl FnOnce(Duration) -> Duration,
        now: Timestamp,
    ) {
        let Some(step) = self.step().cloned() else { return };
        self.close(false, failure.detail().to_owned(), now);
        self.attempts += 1;
        let may_help = matches!(failure, Failure::Transient(_));
        if may_help && self.attempts < terms.max_attempts {
            self.retry(terms, wait, now);
            return;
        }
        let trouble = format!("{step}: {}", failure.detail());
        match (&step, failure) {
            (_, Failure::Unknown(_)) => self.park(trouble),
            (Step::Generate | Step::Apply, Failure::Refused(_)) => self.refused(trouble, terms),
            (Step::Revoke, _) if !self.revokes_first() => {
                self.exposed = true;
                self.trouble = Some(trouble);
                self.retry(terms, wait, now);
            }
            (Step::Document, _) => {
                // A rotation that did its work is not failed by what follows it.
                self.trouble = Some(trouble);
                self.advance();
                self.end(now);
            }
            _ => {
                self.go_back(trouble, terms);
            }
        }
    }

    /// Gives the candidate up: it was lost before it was stored, so nobody saw it.
    pub fn lose_candidate(&mut self, latest: u64) {
        let number = self.candidate.as_ref().map_or(1, |candidate| candidate.number + 1);
        self.discarded.extend(self.candidate.take());
        self.candidate = Some(Candidate { number, after: latest, ..Candidate::default() });
    }

    /// Turns it back to the old version, unless that one is revoked already or must not be used
    /// again. Returns whether it goes back.
    pub fn go_back(&mut self, trouble: String, terms: &Terms) -> bool {
        if self.standing == Standing::GoingBack {
            self.park(trouble);
            return false;
        }
        let revoking = self.began(|step| *step == Step::Revoke);
        let applied = terms.held && self.began(|step| *step == Step::Apply);
        if revoking || applied || !matches!(self.kind, Kind::Routine) {
            self.park(trouble);
            return false;
        }
        let begun = self.path.get(..self.done + usize::from(self.begun)).unwrap_or_default();
        self.path = path::back(begun, terms.overlapping);
        self.done = 0;
        self.begun = false;
        self.attempts = 0;
        self.not_before = None;
        self.standing = Standing::GoingBack;
        self.trouble = Some(trouble);
        true
    }

    /// Ends it in favour of another one, which has to revoke the versions that are returned.
    pub fn supersede(&mut self, by: &RotationId, now: Timestamp) -> Vec<u64> {
        self.park(format!("superseded by {by}"));
        self.ended_at = Some(now);
        let versions = self.new_version().into_iter().chain([self.base.current]);
        versions.filter(|&version| version > 0).collect()
    }

    /// Takes it up after a person mended what held it. A hold that asks for more than the word to
    /// go on stays.
    pub fn resume(&mut self) {
        let going_back = self.path.iter().any(|step| matches!(step, Step::Demote | Step::Undo));
        match &self.standing {
            Standing::Parked(_) if going_back => self.standing = Standing::GoingBack,
            Standing::Parked(_) | Standing::Held(Hold::Environment(_)) => {
                self.standing = Standing::Running;
            }
            _ => {}
        }
        self.attempts = 0;
        self.not_before = None;
    }

    /// Joins a further request: it goes at least as far as that one asks.
    pub fn join(&mut self, until: Option<&str>, terms: &Terms) {
        let place = |name: Option<&str>| {
            name.and_then(|name| terms.environments.iter().position(|e| e == name))
                .unwrap_or(usize::MAX)
        };
        if place(until) > place(self.until.as_deref()) {
            self.until = until.map(str::to_owned);
            if matches!(self.standing, Standing::Held(Hold::Environment(_))) {
                self.standing = Standing::Running;
            }
        }
    }

    /// Notes that a second person agreed. Returns whether it was waited for, and from another one.
    pub fn approve(&mut self, by: &str) -> bool {
        let awaited = self.standing == Standing::Held(Hold::Approval) && by != self.requested_by;
        if awaited {
            self.approved_by = Some(by.to_owned());
            self.standing = Standing::Running;
        }
        awaited
    }

    /// Notes that the value was supplied by hand.
    pub fn supplied(&mut self) {
        if matches!(self.standing, Standing::Held(Hold::HandOver(_))) {
            self.standing = Standing::Running;
        }
    }

    /// Whether it goes on, or back, by itself.
    pub const fn is_moving(&self) -> bool {
        matches!(self.standing, Standing::Running | Standing::GoingBack)
    }

    /// Whether it ever began a step of this kind.
    pub fn began(&self, which: impl Fn(&Step) -> bool) -> bool {
        self.log.iter().any(|entry| which(&entry.step))
    }

    fn revokes_first(&self) -> bool {
        self.kind == Kind::Emergency { revoke_first: true }
    }

    /// The target does not accept the value: another one is made, or it goes back.
    fn refused(&mut self, trouble: String, terms: &Terms) {
        let generate = self.path.iter().position(|step| *step == Step::Generate);
        let tried = u32::try_from(self.discarded.len()).unwrap_or(u32::MAX).saturating_add(1);
        match generate {
            Some(at) if tried < terms.max_values => {
                self.discarded.extend(self.candidate.take());
                self.done = at;
                self.begun = false;
                self.attempts = 0;
            }
            _ => {
                self.go_back(trouble, terms);
            }
        }
    }

    fn park(&mut self, trouble: String) {
        self.trouble = Some(trouble.clone());
        self.standing = Standing::Parked(trouble);
    }

    fn retry(&mut self, terms: &Terms, wait: impl FnOnce(Duration) -> Duration, now: Timestamp) {
        let doubled = terms.retry_min.saturating_mul(2_u32.saturating_pow(self.attempts.min(16)));
        self.not_before = Some(later(now, wait(doubled.min(terms.retry_max))));
    }

    fn advance(&mut self) {
        self.done += 1;
        self.begun = false;
        self.attempts = 0;
        self.not_before = None;
    }

    fn end(&mut self, now: Timestamp) {
        self.ended_at = Some(now);
        self.standing = match self.standing {
            Standing::GoingBack => Standing::RolledBack,
            _ => Standing::Succeeded,
        };
    }

    /// Ends the entry of the step that is due.
    fn close(&mut self, succeeded: bool, evidence: String, now: Timestamp) {
        if let Some(entry) = self.log.last_mut().filter(|entry| entry.ended_at.is_none()) {
            entry.ended_at = Some(now);
            entry.succeeded = succeeded;
            entry.evidence = evidence;
        }
    }

    /// Makes room for one more entry.
    fn trim(&mut self) {
        if self.log.len() >= MAX_ENTRIES {
            let at = self.log.iter().position(|entry| !entry.succeeded).unwrap_or(0);
            self.log.remove(at);
        }
    }
}

fn later(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}
