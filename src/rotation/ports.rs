//! What the engine needs from outside: a target, a place for versions and their labels, a journal,
//! readers, and people.
//!
//! All methods may be dropped at any await and called again: each is idempotent for the same
//! arguments. No error and no evidence ever holds a value.

mod sidecars;

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{
    fault::{Fault, Reason},
    labels::Labels,
    rotation::{Failure, Rotation, RotationId, access::Access},
    secret::{Fields, SecretName, SecretValue},
};

pub use self::sidecars::{Adoption, Leadership, Readers, Relay};

/// What was seen, for records; never a value.
pub type Evidence = String;

/// Why a target did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It does not accept this value: a login was refused, or the value breaks one of its rules.
    #[error("{0}")]
    Refused(Cow<'static, str>),
    /// It could not be asked, or failed at it.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl TargetError {
    /// The target does not accept the value.
    pub fn refused(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused(detail.into())
    }

    /// The target can't be reached or failed at it.
    pub fn fault(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Fault(Fault::new(reason, detail))
    }
}

impl From<&TargetError> for Failure {
    fn from(error: &TargetError) -> Self {
        match error {
            TargetError::Refused(detail) => Self::Refused(detail.clone().into_owned()),
            TargetError::Fault(fault) => Self::from(fault),
        }
    }
}

impl From<&Fault> for Failure {
    fn from(fault: &Fault) -> Self {
        if fault.reason.is_transient() {
            Self::Transient(fault.to_string())
        } else {
            Self::Lasting(fault.to_string())
        }
    }
}

/// A new value, or how to get one.
pub enum Generated {
    /// The value.
    Value {
        /// Its fields.
        fields: Fields,
        /// What the rotator has to remember of it, such as a key's public id; never a value.
        facts: BTreeMap<String, String>,
    },
    /// A person has to make it and hand it over, as this text describes.
    HandOver(String),
    /// The target makes it when it is applied, and keeps it: nothing is stored and no label is
    /// moved, and readers have it from the target. [`Rotator::held`] tells what the target holds,
    /// which is what proofs and validators are given; [`Rotator::apply`] is given no fields, and
    /// [`Rotator::revoke`] none either, for the old value is gone with it. After a crash the engine
    /// applies again rather than proves, since what is held works before and after. Such a target
    /// never goes back to an earlier value: a failure is retried or parked.
    InPlace {
        /// What tells the value that is there from the one to come, such as the time of the last
        /// change, so that applying twice changes it once; never a value.
        facts: BTreeMap<String, String>,
    },
}

/// The values that a target is to be turned over between.
pub struct Change<'a> {
    /// The one in force; `None` when there is none yet.
    pub current: Option<&'a Fields>,
    /// The new one.
    pub new: &'a Fields,
    /// What [`Rotator::generate`] remembered of the new one.
    pub facts: &'a BTreeMap<String, String>,
}

/// How far a revocation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The target does not accept the value any more.
    Done(Evidence),
    /// A first part is done; the next one is due after a wait.
    Continue {
        /// What was done.
        evidence: Evidence,
        /// The wait.
        wait: Duration,
    },
}

/// How thoroughly a value is to be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Severity {
    /// Counts the parts of a revocation that needs several; the first is 0.
    pub part: u32,
    /// The value is in wrong hands: end what it opened, such as sessions, and skip all waits.
    pub compromised: bool,
}

/// Knows one kind of target.
///
/// The value that [`generate`](Self::generate) gives is stored by the engine before
/// [`apply`](Self::apply) sees it, and every later call gets it from there.
#[async_trait]
pub trait Rotator: Send + Sync {
    /// The kind, as in the catalogue, such as `postgres`.
    fn kind(&self) -> &'static str;

    /// Whether the target accepts the old and the new value at once.
    fn is_overlapping(&self) -> bool {
        true
    }

    /// Makes a new value. What an earlier, lost call made in the target is removed first.
    ///
    /// # Errors
    /// When the target is needed for it and can't be asked.
    async fn generate(&self, current: Option<&Fields>) -> Result<Generated, TargetError>;

    /// The value that a target which makes and keeps it itself holds now
    /// ([`Generated::InPlace`]); without fields where nobody but the target may know it.
    ///
    /// # Errors
    /// When the target can't be asked, or does not keep values.
    async fn held(&self) -> Result<Fields, TargetError> {
        Err(TargetError::fault(Reason::Invalid, "this target keeps no value itself"))
    }

    /// The same after the current value was compromised: nothing of it lives on in the new one,
    /// not even what it had prepared for its successor.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    async fn generate_afresh(&self, current: Option<&Fields>) -> Result<Generated, TargetError> {
        self.generate(current).await
    }

    /// Checks a value that a person supplied, before it is stored.
    ///
    /// # Errors
    /// [`TargetError::Refused`] that says what would be accepted.
    async fn inspect(&self, _supplied: &Fields) -> Result<(), TargetError> {
        Err(TargetError::refused("this secret is generated; no value can be supplied for it"))
    }

    /// Has the target accept the new value. Does nothing when it does already.
    ///
    /// # Errors
    /// [`TargetError::Refused`] when the target does not accept such a value.
    async fn apply(&self, change: &Change<'_>) -> Result<Evidence, TargetError>;

    /// Uses a value as its consumers do, with their rights, and says what was seen.
    ///
    /// # Errors
    /// [`TargetError::Refused`] when the target refuses the value.
    async fn prove(&self, value: &Fields) -> Result<Evidence, TargetError>;

    /// Has the target refuse `old` from now on; `kept` goes on working. Succeeds when it did so
    /// already. A target that accepts one value only proves here that `old` is refused.
    ///
    /// # Errors
    /// When it can't be made sure that `old` is refused.
    async fn revoke(
        &self,
        old: &Fields,
        kept: Option<&Fields>,
        severity: Severity,
    ) -> Result<Revocation, TargetError>;

    /// What stops working for how long when the value is revoked before its successor is in
    /// force, for people.
    fn breaks(&self) -> Cow<'static, str> {
        "every consumer fails until it has the new value".into()
    }
}

/// Uses a credential and says what it saw.
#[async_trait]
pub trait Validator: Send + Sync {
    /// The kind, as in the catalogue, such as `jwt`.
    fn kind(&self) -> &'static str;

    /// Uses the value; `previous` is the one before, while it overlaps.
    ///
    /// # Errors
    /// [`TargetError::Refused`] when the value does not do what it is for.
    async fn validate(
        &self,
        value: &Fields,
        previous: Option<&Fields>,
    ) -> Result<Evidence, TargetError>;
}

/// When a check is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before anything is changed.
    Before,
    /// After the new version is in force.
    After,
}

/// A condition of the system around a secret, such as "no alert is firing".
#[async_trait]
pub trait Check: Send + Sync {
    /// The kind, as in the catalogue, such as `alerts`.
    fn kind(&self) -> &'static str;

    /// Whether it holds.
    ///
    /// # Errors
    /// [`TargetError::Refused`] when it does not.
    async fn check(&self, subject: &Subject<'_>) -> Result<Evidence, TargetError>;
}

/// What a check is about.
pub struct Subject<'a> {
    /// The secret.
    pub secret: &'a SecretName,
    /// The rotation.
    pub id: &'a RotationId,
    /// When it is made.
    pub phase: Phase,
    /// The value in force; `None` when there is none yet.
    pub current: Option<&'a Fields>,
    /// Its version; 0 when there is none yet.
    pub version: u64,
}

/// The versions of one secret at its store, and their labels.
#[async_trait]
pub trait Versions: Send + Sync {
    /// Where readers find it, such as `secret/data/shop/jwt`.
    fn place(&self) -> &str;

    /// The number of the latest version; 0 when there is none.
    async fn latest(&self) -> Result<u64, Fault>;

    /// The value of a version.
    async fn read(&self, version: u64) -> Result<Arc<Fields>, Fault>;

    /// Stores a further version, if `after` is the latest one. A place forgets by itself the oldest of many
    /// versions, and none that a label names.
    ///
    /// # Errors
    /// [`Reason::Conflict`] when it is not.
    async fn append(&self, fields: &Fields, after: u64) -> Result<u64, Fault>;

    /// The labels.
    async fn labels(&self) -> Result<Labels, Fault>;

    /// Replaces the labels, and reads them back.
    ///
    /// # Errors
    /// [`Reason::Conflict`] when an actor of a higher epoch moved them.
    async fn label(&self, labels: &Labels) -> Result<(), Fault>;
}

/// What is written down of one secret's rotations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Book {
    /// Grows each time that somebody takes over.
    pub epoch: u64,
    /// Who works on it now.
    pub claim: Option<Claim>,
    /// When the secret is due next.
    pub due: Option<Timestamp>,
    /// The rotation under way.
    pub open: Option<Rotation>,
    /// Those that ended, newest first.
    pub past: Vec<Rotation>,
    /// Until when its readers are watched closely.
    pub monitored_until: Option<Timestamp>,
    /// What people still have to be told.
    pub alerts: Vec<Alert>,
    /// Access to it in emergencies, newest first.
    pub accesses: Vec<Access>,
}

/// Who works on a secret, and until when nobody else may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The actor.
    pub by: String,
    /// When it lapses unless it is prolonged.
    pub until: Timestamp,
}

/// The version of what the journal holds; 0 for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp(pub u64);

/// A book could not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaveError {
    /// Somebody else wrote it meanwhile.
    #[error("somebody else wrote the journal meanwhile")]
    Conflict,
    /// It could not be written.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Where rotations are written down.
#[async_trait]
pub trait Journal: Send + Sync {
    /// The book of a secret, and its stamp.
    async fn load(&self, secret: &SecretName) -> Result<(Book, Stamp), Fault>;

    /// Replaces a book if its stamp is still the one given.
    async fn save(
        &self,
        secret: &SecretName,
        book: &Book,
        stamp: Stamp,
    ) -> Result<Stamp, SaveError>;
}

/// How urgent an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// Worth knowing.
    Info,
    /// Somebody should look today.
    Warning,
    /// Somebody has to look now.
    Critical,
}

impl fmt::Display for Urgency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// Something that people have to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// How urgent it is.
    pub urgency: Urgency,
    /// The stable name of what happened, such as `rotation_parked`.
    pub name: Cow<'static, str>,
    /// The secret.
    pub secret: SecretName,
    /// The same for people; never a value.
    pub summary: String,
}

/// Calls people.
#[async_trait]
pub trait Alerts: Send + Sync {
    /// Raises an alert.
    ///
    /// # Errors
    /// When nobody could be told.
    async fn raise(&self, alert: &Alert) -> Result<(), Fault>;
}

/// Keeps the records of rotations for people.
#[async_trait]
pub trait Records: Send + Sync {
    /// Writes the record of a rotation; a second call replaces the first. Returns where it lies.
    async fn write(&self, rotation: &Rotation, place: &str) -> Result<Evidence, Fault>;
}

/// The operator's own rights in a target.
#[async_trait]
pub trait Login: Send + Sync {
    /// The credential that is valid now: `username` and `password`, or the fields of its source.
    async fn fields(&self) -> Result<Arc<Fields>, Fault>;
}

/// What a call to Vault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiMethod {
    /// Reads.
    Get,
    /// Writes, or has something done.
    Post,
}

/// Vault's answer to a call.
#[derive(Default)]
pub struct ApiAnswer {
    /// The data, which may hold values; null when there is none.
    pub data: serde_json::Value,
    /// The lease of what was minted.
    pub lease: Option<Arc<str>>,
}

impl fmt::Debug for ApiAnswer {
    /// Nothing of the data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiAnswer").finish_non_exhaustive()
    }
}

/// Vault's API, for targets that are Vault's own: logged in, and within its budget of calls.
#[async_trait]
pub trait VaultApi: Send + Sync {
    /// Calls a path below `/v1/`, with a body for [`ApiMethod::Post`]. A call that is dropped may
    /// have been carried out.
    ///
    /// # Errors
    /// What Vault's refusal means; never what it says.
    async fn call(
        &self,
        method: ApiMethod,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Result<ApiAnswer, Fault>;
}

/// Access that was opened.
pub struct Opened {
    /// Reads the place and nothing else.
    pub token: SecretValue,
    /// Ends the access; no secret.
    pub accessor: String,
    /// When it ends by itself, as the secrets manager counts it.
    pub ends_at: Timestamp,
}

/// Opens places of the secrets manager to people in an emergency.
#[async_trait]
pub trait BreakGlass: Send + Sync {
    /// Issues a token that reads one place, for `access.lasts()` at most; it can't be renewed.
    /// A token whose answer is lost ends by itself.
    async fn open(&self, place: &str, access: &Access) -> Result<Opened, Fault>;

    /// Ends an access now. Succeeds when it had ended already.
    async fn end(&self, accessor: &str) -> Result<(), Fault>;
}
