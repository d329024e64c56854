//! Why a call failed: ours, the network's, or the broker's answer.
//!
//! No message ever holds a value: the broker's messages do not, and ours name files and addresses only.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{Reason, proto};

const DOMAIN: &str = "secretbroker.v1";

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client is told something that can't work: an address, a file, a name.
    #[error("{0}")]
    Configuration(String),
    /// The broker and this client do not accept each other's certificates.
    #[error("TLS with {address} failed: {detail}")]
    Tls {
        /// The broker.
        address: String,
        /// What was refused.
        detail: String,
    },
    /// The broker can't be reached, or the connection broke.
    #[error("{address} can't be reached: {detail}; is the broker running there?")]
    Unreachable {
        /// The broker.
        address: String,
        /// What happened.
        detail: String,
    },
    /// No answer came in time.
    #[error("no answer from {address} within {} s", deadline.as_secs_f64())]
    Deadline {
        /// The broker.
        address: String,
        /// The time that was given.
        deadline: Duration,
    },
    /// The broker answered with an error.
    #[error("{message} ({})", name(*reason))]
    Refused {
        /// Why.
        reason: Reason,
        /// The same for people.
        message: String,
        /// How long to wait before asking again; absent when that won't help.
        retry_after: Option<Duration>,
    },
}

impl Error {
    /// The broker's reason, where it answered.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused { reason, .. } => Some(*reason),
            _ => None,
        }
    }

    /// How long the broker asks to wait before the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the same call may succeed without anybody changing the request.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Configuration(_) => false,
            Self::Tls { .. } | Self::Unreachable { .. } | Self::Deadline { .. } => true,
            Self::Refused { reason, .. } => {
                !matches!(reason, Reason::Denied | Reason::InvalidRequest | Reason::Unauthenticated)
            }
        }
    }

    /// What the broker answered; `None` when it was not the broker that ended the call.
    pub(crate) fn answered(status: &Status) -> Option<Self> {
        let named = status
            .get_details_error_info()
            .filter(|info| info.domain == DOMAIN)
            .and_then(|info| Reason::from_str_name(&format!("ERROR_REASON_{}", info.reason)));
        let reason = named.or_else(|| by_code(status.code()))?;
        let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
        Some(Self::Refused { reason, message: status.message().to_owned(), retry_after })
    }
}

impl From<proto::SecretError> for Error {
    fn from(error: proto::SecretError) -> Self {
        Self::Refused {
            reason: error.reason(),
            retry_after: error.retry_after.and_then(|wait| Duration::try_from(wait).ok()),
            message: error.message,
        }
    }
}

/// The reason's name in the contract, without its prefix.
fn name(reason: Reason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

/// For answers of proxies and libraries that give no reason.
fn by_code(code: Code) -> Option<Reason> {
    match code {
        Code::Unauthenticated => Some(Reason::Unauthenticated),
        Code::PermissionDenied | Code::NotFound => Some(Reason::Denied),
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => {
            Some(Reason::InvalidRequest)
        }
        Code::ResourceExhausted => Some(Reason::LimitExceeded),
        Code::DeadlineExceeded => Some(Reason::DeadlineExceeded),
        Code::Internal | Code::DataLoss => Some(Reason::Internal),
        _ => None,
    }
}
