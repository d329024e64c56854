//! What Vault's failures mean.
//!
//! Nothing that Vault sent goes into a [`Fault`]: error bodies are read for their kind only, and
//! the errors of `vaultrs` and `rustify`, whose text holds bodies and tokens, are dropped here.

use std::time::Duration;

use vaultrs::error::ClientError;

use crate::domain::fault::{Fault, Reason};

/// The wait after 412, by which a replica catches up with the token or secret that was written.
const CATCH_UP: Duration = Duration::from_millis(500);
/// The wait after 429 without a `Retry-After`.
const THROTTLED: Duration = Duration::from_secs(5);

/// What was being done when Vault refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Login,
    Read,
    Lease,
    Write,
}

/// The meaning of a status that is not a success. `said` is for telling kinds apart.
pub(super) fn status(code: u16, said: &str, wait: Option<Duration>, doing: Doing) -> Fault {
    let fault = Fault::new;
    match code {
        400 if doing == Doing::Lease
            && (said.contains("lease not found") || said.contains("invalid lease")) =>
        {
            fault(Reason::LeaseLost, "Vault does not know the lease any more")
        }
        400 if doing == Doing::Write && said.contains("check-and-set") => {
            fault(Reason::Conflict, "somebody else wrote this path meanwhile")
        }
        403 if doing == Doing::Write => fault(
            Reason::Forbidden,
            "Vault's policies do not let the operator write this path: check the role's policies",
        ),
        400 | 403 if doing == Doing::Login => fault(
            Reason::Unauthenticated,
            "Vault refuses the login: check [vault.auth] and the role behind it",
        ),
        400 if said.contains("role") || said.contains("unknown") => {
            fault(Reason::NotFound, "Vault has nothing at this path: check the path and its role")
        }
        400 | 405 => fault(
            Reason::Invalid,
            "Vault refuses the request as malformed: check the path, the method and its parameters",
        ),
        403 => fault(
            Reason::Forbidden,
            "Vault's policies do not let the broker read this path: check the role's policies",
        ),
        404 => fault(Reason::NotFound, "Vault has nothing at this path, or it was deleted"),
        412 => fault(Reason::Failed, "Vault's replica has not caught up yet").retry_after(CATCH_UP),
        429 => fault(Reason::Throttled, "Vault asks to slow down")
            .retry_after(wait.unwrap_or(THROTTLED)),
        472 | 473 => fault(Reason::Sealed, "Vault is a standby that does not serve"),
        502 | 504 => fault(Reason::Unavailable, "no Vault server answers behind the address"),
        503 => fault(Reason::Sealed, "Vault is sealed or in maintenance"),
        _ => fault(Reason::Failed, "Vault failed at this call"),
    }
}

/// A call that got no whole answer.
pub(super) fn transport(error: &reqwest::Error) -> Fault {
    if error.is_timeout() {
        Fault::new(Reason::Timeout, "Vault did not answer within vault.timeout")
    } else if error.is_redirect() {
        Fault::new(Reason::Invalid, "Vault redirects where the broker does not follow")
    } else if error.is_connect() {
        Fault::new(
            Reason::Unavailable,
            "no connection to Vault: check vault.address, vault.ca and vault.server_name",
        )
    } else {
        Fault::new(Reason::Unavailable, "the connection to Vault broke off")
    }
}

/// An answer that is not what Vault's API promises.
pub(super) fn garbled() -> Fault {
    Fault::new(Reason::Invalid, "the answer is not one that Vault gives: is vault.address Vault's?")
}

/// The meaning of an error of the client library.
pub(super) fn library(error: &ClientError, doing: Doing) -> Fault {
    use rustify::errors::ClientError as Rest;
    match error {
        ClientError::APIError { code, errors } => status(*code, &errors.join(" "), None, doing),
        ClientError::RestClientError { source } => match source {
            Rest::ServerResponseError { code, .. } => status(*code, "", None, doing),
            Rest::RequestError { source, .. } | Rest::ResponseError { source } => {
                source.downcast_ref::<reqwest::Error>().map_or_else(garbled, transport)
            }
            _ => garbled(),
        },
        ClientError::WrapInvalidError => status(400, "", None, Doing::Login),
        _ => garbled(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_mean_what_vault_means_by_them() {
        for (code, said, doing, reason) in [
            (400, "lease not found", Doing::Lease, Reason::LeaseLost),
            (400, "invalid lease ID", Doing::Lease, Reason::LeaseLost),
            (400, "invalid role or secret ID", Doing::Login, Reason::Unauthenticated),
            (403, "permission denied", Doing::Login, Reason::Unauthenticated),
            (400, "unknown role: x", Doing::Read, Reason::NotFound),
            (400, "bad", Doing::Read, Reason::Invalid),
            (403, "permission denied", Doing::Read, Reason::Forbidden),
            (403, "permission denied", Doing::Lease, Reason::Forbidden),
            (400, "check-and-set parameter did not match", Doing::Write, Reason::Conflict),
            (403, "permission denied", Doing::Write, Reason::Forbidden),
            (404, "", Doing::Read, Reason::NotFound),
            (405, "", Doing::Read, Reason::Invalid),
            (412, "", Doing::Read, Reason::Failed),
            (429, "", Doing::Read, Reason::Throttled),
            (473, "", Doing::Read, Reason::Sealed),
            (500, "", Doing::Read, Reason::Failed),
            (502, "", Doing::Read, Reason::Unavailable),
            (503, "Vault is sealed", Doing::Read, Reason::Sealed),
        ] {
            assert_eq!(status(code, said, None, doing).reason, reason, "{code} {said}");
        }
    }

    #[test]
    fn what_vault_says_is_not_passed_on() {
        let fault = status(400, "role hunter2", None, Doing::Read);
        assert!(!format!("{fault} {fault:?}").contains("hunter2"));
    }

    #[test]
    fn the_wait_that_vault_asks_for_is_kept() {
        let wait = Some(Duration::from_secs(9));
        assert_eq!(status(429, "", wait, Doing::Read).retry_after, wait);
    }
}
