//! What happens, one struct per event: each writes its log line and its metric together.

use std::time::Duration;

use jiff::Timestamp;

use super::Metrics;
use crate::{
    config::{Mistake, Mistakes},
    domain::{fault::Fault, secret::SecretName},
};

/// The outcome of a call as labels tell it: `ok`, or the reason of its fault.
fn outcome<T>(result: &Result<T, &Fault>) -> &'static str {
    result.as_ref().map_or_else(|fault| fault.reason.name(), |_| "ok")
}

/// A store gave a value or failed to.
#[derive(Debug)]
pub struct SecretFetched<'a> {
    /// The secret.
    pub secret: &'a SecretName,
    /// The kind of store, such as `vault`.
    pub store: &'static str,
    /// The call's time.
    pub took: Duration,
    /// How it ended.
    pub result: Result<(), &'a Fault>,
}

impl SecretFetched<'_> {
    /// Writes the event.
    pub fn record(self, metrics: &Metrics) {
        let Self { secret, store, took, result } = self;
        let reason = outcome(&result);
        let labels = [
            ("store", store.into()),
            ("outcome", if result.is_ok() { "ok" } else { "failed" }.into()),
            ("reason", reason.into()),
        ];
        metrics.fetches.get_or_create(&labels).observe(took.as_secs_f64());
        let took_ms = took.as_millis();
        match result {
            Ok(()) => tracing::debug!(%secret, store, took_ms, "secret fetched"),
            Err(fault) => {
                tracing::warn!(%secret, store, took_ms, reason, detail = %fault.detail, "fetch failed");
            }
        }
    }
}

/// A lease was given more time, or not.
#[derive(Debug)]
pub struct LeaseRenewed<'a> {
    /// The secret.
    pub secret: &'a SecretName,
    /// The time that is left now.
    pub result: Result<Duration, &'a Fault>,
}

impl LeaseRenewed<'_> {
    /// Writes the event.
    pub fn record(self, metrics: &Metrics) {
        let Self { secret, result } = self;
        let reason = outcome(&result);
        let labels = [("secret", secret.as_str().to_owned().into()), ("outcome", reason.into())];
        metrics.renewals.get_or_create(&labels).inc();
        match result {
            Ok(ttl) => tracing::debug!(%secret, ttl_secs = ttl.as_secs(), "lease renewed"),
            Err(fault) => tracing::warn!(%secret, reason, detail = %fault.detail, "renewal failed"),
        }
    }
}

/// A lease was ended, or could not be.
#[derive(Debug)]
pub struct LeaseRevoked<'a> {
    /// The secret.
    pub secret: &'a SecretName,
    /// How it ended.
    pub result: Result<(), &'a Fault>,
}

impl LeaseRevoked<'_> {
    /// Writes the event.
    pub fn record(self, metrics: &Metrics) {
        let Self { secret, result } = self;
        let reason = outcome(&result);
        metrics.revocations.get_or_create(&[("outcome", reason.into())]).inc();
        match result {
            Ok(()) => tracing::info!(%secret, "lease revoked"),
            Err(fault) => {
                tracing::warn!(%secret, reason, detail = %fault.detail, "revocation failed");
            }
        }
    }
}

/// Vault was called, for a secret or for the broker's own login.
#[derive(Debug)]
pub struct VaultCalled<'a> {
    /// What was asked for, such as `read`, `renew`, `login`.
    pub operation: &'static str,
    /// How it ended.
    pub result: Result<(), &'a Fault>,
}

impl VaultCalled<'_> {
    /// Writes the event.
    pub fn record(self, metrics: &Metrics) {
        let (operation, outcome) = (self.operation, outcome(&self.result));
        let labels = [("operation", operation.into()), ("outcome", outcome.into())];
        metrics.vault_calls.get_or_create(&labels).inc();
        tracing::debug!(operation, outcome, "Vault called");
    }
}

/// A call had to wait for the budget.
#[derive(Debug)]
pub struct BudgetWaited {
    /// The wait.
    pub wait: Duration,
}

impl BudgetWaited {
    /// Writes the event.
    pub fn record(self, metrics: &Metrics) {
        metrics.budget_waits.observe(self.wait.as_secs_f64());
        tracing::debug!(wait_ms = self.wait.as_millis(), "call held back by the budget");
    }
}

/// A connection was closed before it was served.
#[derive(Debug)]
pub struct ConnectionRefused {
    /// Why, such as `limit` or `identity`.
    pub reason: &'static str,
}

impl ConnectionRefused {
    /// Writes the event.
    pub fn record(self, metrics: &Metrics) {
        let reason = self.reason;
        metrics.connections_refused.get_or_create(&[("reason", reason.into())]).inc();
        // Anybody can cause this as often as they like: the metric tells how often it was.
        tracing::debug!(reason, "connection refused");
    }
}

/// A TLS handshake failed.
#[derive(Debug)]
pub struct HandshakeFailed {
    /// Why, such as `expired`, `unknown_issuer`, `no_certificate`, `revoked`, `timeout`.
    pub reason: &'static str,
}

impl HandshakeFailed {
    /// Writes the event.
    pub fn record(self, metrics: &Metrics) {
        let reason = self.reason;
        metrics.handshake_failures.get_or_create(&[("reason", reason.into())]).inc();
        tracing::debug!(reason, "handshake failed");
    }
}

/// An audit record could not be written, so the call failed.
#[derive(Debug)]
pub struct AuditFailed<'a> {
    /// What the system said.
    pub error: &'a std::io::Error,
}

impl AuditFailed<'_> {
    /// Writes the event.
    pub fn record(self, metrics: &Metrics) {
        metrics.audit_failures.inc();
        tracing::error!(error = %self.error, "audit record not written; the call fails");
    }
}

/// A certificate came into use.
#[derive(Debug)]
pub struct CertificateLoaded {
    /// Whose: `server`, `authority` or `vault_client`.
    pub role: &'static str,
    /// When it ends.
    pub not_after: Timestamp,
}

impl CertificateLoaded {
    /// Writes the event.
    pub fn record(self, metrics: &Metrics) {
        metrics.certificate(self.role, self.not_after);
        tracing::info!(role = self.role, not_after = %self.not_after, "certificate in use");
    }
}

/// A configuration came into force.
#[derive(Debug)]
pub struct ConfigLoaded<'a> {
    /// How many secrets it has.
    pub secrets: usize,
    /// What is odd about it.
    pub warnings: &'a [Mistake],
}

impl ConfigLoaded<'_> {
    /// Writes the event.
    pub fn record(self, metrics: &Metrics) {
        metrics.config_reloads.get_or_create(&[("outcome", "ok".into())]).inc();
        tracing::info!(secrets = self.secrets, "configuration in force");
        for warning in self.warnings {
            tracing::warn!(%warning, "configuration");
        }
    }
}

/// A configuration with mistakes was refused; the one before stays in force.
#[derive(Debug)]
pub struct ConfigRefused<'a> {
    /// All that is wrong.
    pub mistakes: &'a Mistakes,
}

impl ConfigRefused<'_> {
    /// Writes the event, with one line for each mistake.
    pub fn record(self, metrics: &Metrics) {
        metrics.config_reloads.get_or_create(&[("outcome", "refused".into())]).inc();
        let Mistakes { origin, all } = self.mistakes;
        tracing::error!(
            file = origin,
            mistakes = all.len(),
            "configuration refused; nothing changes"
        );
        for mistake in all {
            tracing::error!(file = origin, %mistake, "configuration");
        }
    }
}
