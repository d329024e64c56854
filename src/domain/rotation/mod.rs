//! One rotation of one secret: its words here, its rules in [`Rotation`].
//!
//! A rotation is a list of steps, fixed when it opens. It is written down before and after each
//! step, so that a run that was killed goes on where it was.

pub mod access;
mod machine;
mod path;
pub mod schedule;

use std::{collections::BTreeMap, fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use machine::{Next, Rotation};

use super::{labels::Audience, secret::SecretName};

/// The name of a rotation; it is the idempotency key of all that the rotation does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RotationId(pub String);

impl fmt::Display for RotationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a rotation is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// On schedule or by hand.
    Routine,
    /// Others may know the value: no overlap, no way back to it.
    Emergency {
        /// Revoke before the successor is in force.
        revoke_first: bool,
    },
    /// Back to a version that worked.
    Rollback,
}

impl Kind {
    /// Whether others may know the value that it replaces.
    pub const fn is_emergency(self) -> bool {
        matches!(self, Self::Emergency { .. })
    }
}

/// What a rotation does, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Runs the checks that come before.
    Precheck,
    /// Makes the new value and stores it as pending.
    Generate,
    /// Has the target accept the new value.
    Apply,
    /// Uses the new value, which nobody is served yet.
    Prove,
    /// Serves the new version to an audience.
    Promote(Audience),
    /// Uses the new version as this audience does.
    Validate(Audience),
    /// Waits until the readers moved over.
    Overlap,
    /// Has the target refuse the old value.
    Revoke,
    /// Serves the old version again to everybody.
    Demote,
    /// Has the target accept the old value, and not the new one.
    Undo,
    /// Writes the record.
    Document,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Precheck => f.write_str("precheck"),
            Self::Generate => f.write_str("generate and store as pending"),
            Self::Apply => f.write_str("apply in the target"),
            Self::Prove => f.write_str("prove in the target"),
            Self::Promote(audience) => write!(f, "promote to {audience}"),
            Self::Validate(audience) => write!(f, "validate for {audience}"),
            Self::Overlap => f.write_str("overlap"),
            Self::Revoke => f.write_str("revoke the old version"),
            Self::Demote => f.write_str("serve the old version again"),
            Self::Undo => f.write_str("undo in the target"),
            Self::Document => f.write_str("document"),
        }
    }
}

/// When a replaced version may be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokeWhen {
    /// Once every known sidecar said that its readers moved over, or at the end of the overlap.
    Acknowledged,
    /// At the end of the overlap.
    Overlapped,
}

/// How a secret is rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The environments, in the order in which they get the new version.
    pub environments: Vec<String>,
    /// The colours of the last environment that get it before everybody does.
    pub canaries: Vec<String>,
    /// Whether the target accepts the old and the new value at once.
    pub overlapping: bool,
    /// Whether the target makes and keeps the value itself: nothing is stored, labelled or revoked,
    /// and there is no way back.
    pub held: bool,
    /// How long an early audience uses the new version before it is validated there.
    pub soak: Duration,
    /// How long the old version lives on.
    pub overlap: Duration,
    /// The least time that it lives on, however soon its readers moved over.
    pub settle: Duration,
    /// When it may be revoked.
    pub revoke: RevokeWhen,
    /// Whether a second person has to agree.
    pub approval: bool,
    /// Values to try before the target's refusal is taken as final.
    pub max_values: u32,
    /// Attempts at one step.
    pub max_attempts: u32,
    /// The first wait after a failed attempt; it doubles with each.
    pub retry_min: Duration,
    /// The longest wait after a failed attempt.
    pub retry_max: Duration,
}

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The rotation's name.
    pub id: RotationId,
    /// The secret.
    pub secret: SecretName,
    /// What kind it is.
    pub kind: Kind,
    /// Who asks.
    pub requested_by: String,
    /// Why.
    pub reason: String,
    /// The environment to stop after; the last when absent.
    pub until: Option<String>,
    /// The version that is in force, and the one to go back to for [`Kind::Rollback`].
    pub base: Base,
}

/// The versions that a rotation starts from, as the store counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The one in force; 0 when there is none yet.
    pub current: u64,
    /// The one to go back to, for a rollback.
    pub target: Option<u64>,
}

/// The new value on its way. The value itself is in the store alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Counts the values of this rotation.
    pub number: u32,
    /// The latest version of the store before this one.
    pub after: u64,
    /// Its salted digest, known before it is stored: tells it from what others wrote.
    pub digest: Option<String>,
    /// Its version, once it is stored.
    pub version: Option<u64>,
    /// What the rotator has to remember of it, such as a key's public id; never a value.
    pub facts: BTreeMap<String, String>,
}

/// What a rotation waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// Somebody makes the value by hand and supplies it, as described.
    HandOver(String),
    /// A second person agrees.
    Approval,
    /// The word to go on after this environment.
    Environment(String),
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandOver(how) => write!(f, "waits for the value: {how}"),
            Self::Approval => f.write_str("waits for the approval of a second person"),
            Self::Environment(name) => write!(f, "held after {name}; rotate further to go on"),
        }
    }
}

/// Where a rotation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It goes on by itself.
    Running,
    /// It goes back.
    GoingBack,
    /// It waits for a person.
    Held(Hold),
    /// It can't go on by itself: why.
    Parked(String),
    /// The new version is in force.
    Succeeded,
    /// The old version is in force.
    RolledBack,
}

impl Standing {
    /// Whether nothing follows.
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Succeeded | Self::RolledBack)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("goes on"),
            Self::GoingBack => f.write_str("goes back"),
            Self::Held(hold) => hold.fmt(f),
            Self::Parked(why) => write!(f, "is parked: {why}"),
            Self::Succeeded => f.write_str("succeeded"),
            Self::RolledBack => f.write_str("was rolled back"),
        }
    }
}

/// One attempt at a step, as the record tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The step.
    pub step: Step,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; `None` while it goes on, or when the run was killed in it.
    pub ended_at: Option<Timestamp>,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// What was seen, or why it failed; never a value.
    pub evidence: String,
}

/// Why a step failed, as far as the rules care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The target, or a validator, does not accept the value.
    Refused(String),
    /// It may succeed soon without anybody changing anything.
    Transient(String),
    /// Somebody has to change something first.
    Lasting(String),
    /// What is there can't be explained; going on or back could do harm.
    Unknown(String),
}

impl Failure {
    /// What happened.
    pub fn detail(&self) -> &str {
        match self {
            Self::Refused(detail)
            | Self::Transient(detail)
            | Self::Lasting(detail)
            | Self::Unknown(detail) => detail,
        }
    }
}
