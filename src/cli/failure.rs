//! How a command ends: its exit code, and what it says on standard error.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | anything else |
//! | 2 | wrong usage or configuration |
//! | 3 | the secret is unknown or not granted |
//! | 4 | the broker or the secret's source is not available |
//! | 5 | no answer in time |
//! | 6 | no identity that the broker accepts, or TLS failed |
//!
//! `exec` ends with its command's code, 128 + n when signal n ended it, 127 when there is no such command and 126
//! when it can't be run.

use std::io;

use secret_broker_client::{Error, Reason};

/// Done.
pub const OK: u8 = 0;
/// Anything that has no code of its own.
pub const OTHER: u8 = 1;
/// Wrong usage or configuration.
pub const USAGE: u8 = 2;
/// The secret is unknown or not granted.
pub const DENIED: u8 = 3;
/// The broker or the secret's source is not available.
pub const UNAVAILABLE: u8 = 4;
/// No answer in time.
pub const DEADLINE: u8 = 5;
/// No identity that the broker accepts, or TLS failed.
pub const UNAUTHENTICATED: u8 = 6;

/// Why a command ends before it is done.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: u8,
    /// What, where, and what would help; nothing when nobody reads it.
    pub message: Option<String>,
}

impl Failure {
    /// A failure with its message.
    pub fn new(exit: u8, message: impl Into<String>) -> Self {
        Self { exit, message: Some(message.into()) }
    }

    /// The same failure of a named secret.
    pub(super) fn of(name: &str, error: &Error) -> Self {
        Self::new(exit_of(error), format!("{name}: {}", told(error)))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(exit_of(&error), told(&error))
    }
}

impl From<io::Error> for Failure {
    /// A reader that has seen enough, such as `head`, is no failure.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { exit: OK, message: None },
            _ => Self::new(OTHER, error.to_string()),
        }
    }
}

fn exit_of(error: &Error) -> u8 {
    match error {
        Error::Configuration(_) => USAGE,
        Error::Tls { .. } => UNAUTHENTICATED,
        Error::Unreachable { .. } => UNAVAILABLE,
        Error::Deadline { .. } => DEADLINE,
        Error::Refused { reason, .. } => match reason {
            Reason::Unauthenticated => UNAUTHENTICATED,
            Reason::Denied | Reason::Withdrawn => DENIED,
            Reason::InvalidRequest => USAGE,
            Reason::DeadlineExceeded => DEADLINE,
            Reason::Internal | Reason::Unspecified => OTHER,
            _ => UNAVAILABLE,
        },
        _ => OTHER,
    }
}

fn told(error: &Error) -> String {
    let hint = match error.reason() {
        Some(Reason::Denied) => "; `secret-broker list` shows what this identity may read",
        Some(Reason::Unauthenticated) => "; check --cert-dir and the broker's policy",
        _ if matches!(error, Error::Tls { .. }) => "; check ca.pem, client.pem and client.key",
        _ if matches!(error, Error::Deadline { .. }) => "; --timeout gives it longer",
        _ => "",
    };
    format!("{error}{hint}")
}
