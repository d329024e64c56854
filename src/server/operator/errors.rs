//! The one place where what the operator can't do becomes a gRPC status.
//!
//! As at the sidecar, every status carries an `ErrorInfo` with a machine-readable reason, and
//! unknown and forbidden give the same status.

use std::{borrow::Cow, fmt, time::Duration};

use tonic::{Code, Status};

use super::proto::OperatorErrorReason;
use crate::{
    domain::{
        fault::{Fault, Reason},
        rotation::access::AccessRefusal,
    },
    rotation::engine::{AccessError, DriveError, RequestError},
    server::{
        errors::{self, Refusal},
        proto::ErrorReason,
    },
};

/// How long to wait for somebody else to be done with a secret.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// Why, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// As at the sidecar.
    Common(ErrorReason),
    /// Known to the operator alone.
    Own(OperatorErrorReason),
}

/// Why the operator does not do what it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorError {
    why: Why,
    /// The same for people.
    pub message: Cow<'static, str>,
    /// How long to wait before asking again; `None` when that won't help.
    pub retry_after: Option<Duration>,
}

impl OperatorError {
    /// The secret does not exist, or the caller may not do this with it.
    pub(super) fn denied() -> Self {
        let message =
            "no such secret, rotation or access, or no policy lets this caller do this with it";
        Self::common(ErrorReason::Denied, message)
    }

    /// A malformed request: what would be accepted.
    pub(super) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::common(ErrorReason::InvalidRequest, message)
    }

    /// A named limit is reached.
    pub(super) fn limit(setting: &'static str) -> Self {
        Refusal::limit(setting).into()
    }

    /// What is there does not allow it.
    pub(super) fn not_applicable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::own(OperatorErrorReason::NotApplicable, message)
    }

    /// The one who asked can't agree as well.
    pub(super) fn same_person() -> Self {
        let message = "the one who asked for it can't agree to it as well";
        Self::own(OperatorErrorReason::SamePerson, message)
    }

    /// The operator is stopping.
    pub(super) fn stopping() -> Self {
        let retry_after = Some(BUSY_WAIT);
        Self { retry_after, ..Self::common(ErrorReason::ShuttingDown, "the operator is stopping") }
    }

    /// Another operator leads, and hears the sidecars.
    pub(super) fn standby() -> Self {
        let message = "another operator leads: a new connection may reach it";
        Self { retry_after: Some(BUSY_WAIT), ..Self::common(ErrorReason::ShuttingDown, message) }
    }

    /// The call could not be recorded.
    pub(super) fn unrecorded() -> Self {
        let message = "the call could not be recorded, so it is not answered";
        Self::common(ErrorReason::AuditUnavailable, message)
    }

    fn common(reason: ErrorReason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { why: Why::Common(reason), message: message.into(), retry_after: None }
    }

    fn own(reason: OperatorErrorReason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { why: Why::Own(reason), message: message.into(), retry_after: None }
    }

    /// Whether a policy stands in the way, or there is no such thing.
    pub fn is_denied(&self) -> bool {
        self.why == Why::Common(ErrorReason::Denied)
    }

    /// The name of the reason, as `ErrorInfo` and audit records carry it.
    pub fn name(&self) -> &'static str {
        match self.why {
            Why::Common(reason) => Refusal::new(reason, "").name(),
            Why::Own(reason) => {
                let name = reason.as_str_name();
                name.strip_prefix("OPERATOR_ERROR_REASON_").unwrap_or(name)
            }
        }
    }

    /// Whose fault it is, as gRPC says it.
    pub fn code(&self) -> Code {
        match self.why {
            Why::Common(reason) => errors::code(reason),
            Why::Own(OperatorErrorReason::NotApplicable) => Code::FailedPrecondition,
            Why::Own(OperatorErrorReason::SamePerson) => Code::PermissionDenied,
            Why::Own(OperatorErrorReason::Busy) => Code::Aborted,
            Why::Own(OperatorErrorReason::Unspecified) => Code::Internal,
        }
    }
}

impl fmt::Display for OperatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for OperatorError {}

impl From<OperatorError> for Status {
    fn from(error: OperatorError) -> Self {
        let (code, name) = (error.code(), error.name());
        errors::status(code, name, error.message, error.retry_after)
    }
}

impl From<Refusal> for OperatorError {
    fn from(refusal: Refusal) -> Self {
        let Refusal { reason, message, retry_after } = refusal;
        Self { why: Why::Common(reason), message, retry_after }
    }
}

impl From<Fault> for OperatorError {
    fn from(fault: Fault) -> Self {
        if fault.reason == Reason::Conflict {
            return Self::busy(fault.to_string());
        }
        let wait = fault.retry_after.unwrap_or(BUSY_WAIT);
        let retry_after = fault.reason.is_transient().then_some(wait);
        Self { retry_after, ..Self::common(errors::reason(fault.reason), fault.detail) }
    }
}

impl OperatorError {
    fn busy(message: impl Into<Cow<'static, str>>) -> Self {
        Self { retry_after: Some(BUSY_WAIT), ..Self::own(OperatorErrorReason::Busy, message) }
    }
}

impl From<DriveError> for OperatorError {
    fn from(error: DriveError) -> Self {
        match error {
            DriveError::Unknown(_) => Self::denied(),
            DriveError::Claimed { .. } | DriveError::TakenOver => Self::busy(error.to_string()),
            DriveError::Journal(fault) => fault.into(),
        }
    }
}

impl From<RequestError> for OperatorError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused(message) => Self::not_applicable(message),
            RequestError::Drive(error) => error.into(),
            RequestError::Fault(fault) => fault.into(),
        }
    }
}

impl From<AccessError> for OperatorError {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Refused(AccessRefusal::SamePerson) => Self::same_person(),
            AccessError::Refused(AccessRefusal::NotHolder) | AccessError::Unknown => Self::denied(),
            AccessError::Refused(refusal) => Self::not_applicable(refusal.to_string()),
            AccessError::TooMany => Self::not_applicable(error.to_string()),
            AccessError::Request(error) => error.into(),
        }
    }
}
