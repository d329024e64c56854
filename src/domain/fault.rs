//! Why a value can't be had: one vocabulary for all stores.
//!
//! A fault answers three questions: the reason, whether asking again can help, and a detail for
//! people. The detail is written by us and never holds anything that a store sent back.

use std::{borrow::Cow, fmt, time::Duration};

/// The longest wait that a source can ask for.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// Why a source did not give what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It can't be reached.
    Unavailable,
    /// It is reached and fails at this one call.
    Failed,
    /// It is sealed, in standby, or not ready to serve.
    Sealed,
    /// It, or our own budget of calls, asks to slow down.
    Throttled,
    /// It did not answer in time.
    Timeout,
    /// It refuses us this secret.
    Forbidden,
    /// It refuses our login.
    Unauthenticated,
    /// It has no such secret.
    NotFound,
    /// Its answer can't be understood.
    Invalid,
    /// It does not know the lease any more: the credential is dead.
    LeaseLost,
    /// Somebody else wrote meanwhile.
    Conflict,
}

impl Reason {
    /// The stable name used in logs, metrics and audit records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
            Self::Sealed => "sealed",
            Self::Throttled => "throttled",
            Self::Timeout => "timeout",
            Self::Forbidden => "forbidden",
            Self::Unauthenticated => "unauthenticated",
            Self::NotFound => "not_found",
            Self::Invalid => "invalid",
            Self::LeaseLost => "lease_lost",
            Self::Conflict => "conflict",
        }
    }

    /// Whether the same call may succeed soon without anybody changing anything.
    pub const fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Unavailable | Self::Failed | Self::Sealed | Self::Throttled | Self::Timeout
        )
    }

    /// Whether any other call to the same store would now fail for the same reason.
    pub const fn is_store_wide(self) -> bool {
        matches!(self, Self::Unavailable | Self::Sealed | Self::Throttled | Self::Unauthenticated)
    }
}

/// A failure of a source, safe to log and to return.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// Why.
    pub reason: Reason,
    /// What was being done and what would mend it; never anything that the source sent.
    pub detail: Cow<'static, str>,
    /// How long the source asked us to wait, where it said so.
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// A fault with a detail for people.
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, detail: detail.into(), retry_after: None }
    }

    /// The same fault, with the place in the store that it is about.
    #[must_use]
    pub fn at(mut self, place: &str) -> Self {
        self.detail = format!("{place}: {}", self.detail).into();
        self
    }

    /// The same fault, with the wait that the source asked for: an hour of it at most.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait.min(LONGEST_WAIT));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.name(), self.detail)
    }
}
