//! The one place where a refusal becomes a gRPC status.
//!
//! Every status carries an `ErrorInfo` whose reason is machine-readable, and a `RetryInfo` where
//! asking again can help. Unknown and forbidden give the same status.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{
    proto::{self, ErrorReason},
    wire,
};
use crate::{broker::kept::Unserved, domain::fault::Reason};

const DOMAIN: &str = "secretbroker.v1";

/// Why a call, or one name of a batch, is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The machine-readable reason.
    pub reason: ErrorReason,
    /// The same for people.
    pub message: Cow<'static, str>,
    /// How long to wait before asking again; `None` when that won't help.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal that asking again doesn't change.
    pub fn new(reason: ErrorReason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into(), retry_after: None }
    }

    /// The secret does not exist, or the caller may not do this with it.
    pub const fn denied() -> Self {
        Self {
            reason: ErrorReason::Denied,
            message: Cow::Borrowed("no such secret, or no policy lets this caller do this with it"),
            retry_after: None,
        }
    }

    /// A malformed request: what is wrong and what would be accepted.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorReason::InvalidRequest, message)
    }

    /// The caller's time ran out.
    pub const fn deadline() -> Self {
        Self {
            reason: ErrorReason::DeadlineExceeded,
            message: Cow::Borrowed("the deadline passed before a value could be had"),
            retry_after: None,
        }
    }

    /// A named limit is reached.
    pub fn limit(setting: &'static str) -> Self {
        Self {
            reason: ErrorReason::LimitExceeded,
            message: Cow::Owned(format!("the limit `{setting}` is reached")),
            retry_after: Some(Duration::from_secs(1)),
        }
    }

    /// The same in the form of a batch result.
    pub fn into_result(self, name: String) -> proto::SecretResult {
        let error = proto::SecretError {
            reason: self.reason.into(),
            message: self.message.into_owned(),
            retry_after: self.retry_after.map(wire::duration),
        };
        proto::SecretResult { name, outcome: Some(proto::secret_result::Outcome::Error(error)) }
    }

    /// The name of the reason without the enum's prefix, as `ErrorInfo` and audit records carry it.
    pub fn name(&self) -> &'static str {
        let name = self.reason.as_str_name();
        name.strip_prefix("ERROR_REASON_").unwrap_or(name)
    }
}

impl From<Unserved> for Refusal {
    fn from(unserved: Unserved) -> Self {
        match unserved {
            Unserved::Fault(fault) => {
                let wait = fault.retry_after.unwrap_or(Duration::from_secs(1));
                Self {
                    reason: reason(fault.reason),
                    retry_after: fault.reason.is_transient().then_some(wait),
                    message: fault.detail,
                }
            }
            Unserved::Expired => Self {
                reason: ErrorReason::Expired,
                message: "the value expired and its source gives no other yet".into(),
                retry_after: Some(Duration::from_secs(1)),
            },
            Unserved::Revoked => Self {
                reason: ErrorReason::Revoked,
                message: "the value was revoked and its source gives no other yet".into(),
                retry_after: Some(Duration::from_secs(1)),
            },
            Unserved::Withdrawn => Self::denied(),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = code(refusal.reason);
        status(code, refusal.name(), refusal.message, refusal.retry_after)
    }
}

/// A status with its machine-readable reason, and when to ask again where that can help.
pub(super) fn status(
    code: Code,
    reason: &str,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    Status::with_error_details(code, message, details)
}

/// The contract's word for a source's fault.
pub(super) const fn reason(reason: Reason) -> ErrorReason {
    match reason {
        Reason::Unavailable | Reason::Failed => ErrorReason::SourceUnavailable,
        Reason::Sealed => ErrorReason::SourceSealed,
        Reason::Throttled => ErrorReason::SourceThrottled,
        Reason::Timeout => ErrorReason::SourceTimeout,
        Reason::Forbidden => ErrorReason::SourceForbidden,
        Reason::Unauthenticated => ErrorReason::SourceUnauthenticated,
        Reason::NotFound => ErrorReason::SourceNotFound,
        Reason::Invalid => ErrorReason::SourceInvalid,
        Reason::LeaseLost => ErrorReason::Revoked,
        // Readers write nothing.
        Reason::Conflict => ErrorReason::Internal,
    }
}

/// Whose fault it is, as gRPC says it: the caller's, the operator's, or nobody's for now.
pub(super) const fn code(reason: ErrorReason) -> Code {
    match reason {
        ErrorReason::Unauthenticated => Code::Unauthenticated,
        ErrorReason::Denied | ErrorReason::Withdrawn => Code::PermissionDenied,
        ErrorReason::InvalidRequest => Code::InvalidArgument,
        ErrorReason::SourceUnavailable
        | ErrorReason::SourceSealed
        | ErrorReason::SourceThrottled
        | ErrorReason::SourceTimeout
        | ErrorReason::Expired
        | ErrorReason::Revoked
        | ErrorReason::AuditUnavailable
        | ErrorReason::ShuttingDown => Code::Unavailable,
        ErrorReason::SourceForbidden
        | ErrorReason::SourceUnauthenticated
        | ErrorReason::SourceNotFound
        | ErrorReason::SourceInvalid => Code::FailedPrecondition,
        ErrorReason::LimitExceeded => Code::ResourceExhausted,
        ErrorReason::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorReason::Unspecified | ErrorReason::Internal => Code::Internal,
    }
}
