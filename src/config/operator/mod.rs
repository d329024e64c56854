//! What the operator is told to do: one TOML file, checked as the sidecar's is.

pub mod alerts;
mod check;
pub mod checks;
pub mod kubernetes;
pub mod login;
mod policy;
pub mod raw;
pub mod targets;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_cloud;
pub mod validators;
pub mod webhook;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

pub use login::LoginSource;
pub use targets::Target;
pub use validators::Validator;

use super::{AuditSink, Environment, Mistake, Mistakes, Server, Telemetry, Tls, Vault, read};
use crate::domain::{
    policy::Policy,
    rotation::{Terms, schedule::Schedule},
    secret::SecretName,
};

/// A whole configuration of the operator.
#[derive(Debug)]
pub struct OperatorConfig {
    /// Where it is called.
    pub server: Option<Server>,
    /// Certificates of the TCP listener.
    pub tls: Option<Tls>,
    /// The Vault server.
    pub vault: Vault,
    /// Where rotations are written down.
    pub journal: KvPlace,
    /// The cluster, where one is used.
    pub kubernetes: Option<kubernetes::Kubernetes>,
    /// How long a claim holds.
    pub claim: Duration,
    /// The time for one attempt at one step.
    pub step: Duration,
    /// The secrets by name.
    pub secrets: BTreeMap<SecretName, Rotated>,
    /// Conditions around every secret.
    pub checks: Vec<checks::Check>,
    /// Who is called.
    pub alerts: Vec<alerts::AlertPlace>,
    /// Who may do what over gRPC.
    pub policy: Policy,
    /// How access is opened in emergencies; not at all when absent.
    pub break_glass: Option<BreakGlassTerms>,
    /// Where records are written for people.
    pub records: Option<PathBuf>,
    /// Where calls are recorded.
    pub audit: AuditSink,
    /// Logs and health.
    pub telemetry: Telemetry,
}

/// How access is opened in emergencies.
#[derive(Debug, PartialEq, Eq)]
pub struct BreakGlassTerms {
    /// The token role of Vault that makes the tokens.
    pub token_role: Option<String>,
}

/// A place in a key-value engine of version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvPlace {
    /// The mount.
    pub mount: String,
    /// The path below it.
    pub path: String,
}

/// A secret that is rotated.
#[derive(Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The category.
    pub category: String,
    /// The tier.
    pub tier: String,
    /// When it is due.
    pub schedule: Schedule,
    /// The secret that must not be rotated close to it.
    pub pair: Option<String>,
    /// Where it lies; nowhere when its target keeps it itself, or when it lies in Kubernetes.
    pub place: Option<KvPlace>,
    /// The Secret in which it lies.
    pub kubernetes: Option<kubernetes::SecretPlace>,
    /// The Secret that holds a copy of the version in force.
    pub backup: Option<kubernetes::SecretPlace>,
    /// How it is rotated.
    pub terms: Terms,
    /// Its target.
    pub target: Target,
    /// Further uses of a new value.
    pub validators: Vec<Validator>,
    /// Conditions around it.
    pub checks: Vec<checks::Check>,
}

impl OperatorConfig {
    /// Reads a whole TOML file. `origin` is its name in messages. The second part of the result is
    /// what is allowed but probably not meant.
    ///
    /// # Errors
    /// All mistakes of the file at once, in the order of their lines.
    pub fn parse(
        text: &str,
        origin: &str,
        env: Environment<'_>,
    ) -> Result<(Self, Vec<Mistake>), Mistakes> {
        super::check::checked(read::read(text), origin, env, check::file)
    }
}
