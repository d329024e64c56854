//! What the injection webhook is told: one TOML file, checked as the sidecar's is.

mod check;
pub mod raw;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

pub use raw::{LogLevel, Mode, Resources, Sidecar, TlsSource};

use super::{
    Environment, Mistake, Mistakes, Telemetry, VaultPath, operator::kubernetes::Kubernetes,
    raw::Secret, read,
};
use crate::domain::policy::Pattern;

/// A whole configuration of the webhook.
#[derive(Debug)]
pub struct InjectConfig {
    /// How it is reached and trusted.
    pub webhook: Webhook,
    /// What pods get that do not say otherwise.
    pub sidecar: Sidecar,
    /// The catalogue, by name.
    pub secrets: BTreeMap<String, Secret>,
    /// Where each of those that are Vault's lies.
    pub places: BTreeMap<String, VaultPath>,
    /// Who may read what of it.
    pub grants: Vec<Grant>,
    /// The cluster, if the webhook may use it.
    pub kubernetes: Option<Kubernetes>,
    /// Logs and health.
    pub telemetry: Telemetry,
}

/// How the webhook is reached and trusted.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The address that serves HTTPS.
    pub listen: SocketAddr,
    /// The namespace that it runs in.
    pub namespace: String,
    /// The names that its certificate carries.
    pub names: Vec<String>,
    /// Namespaces whose pods are never mutated, its own among them.
    pub excluded: Vec<String>,
    /// Whether pods annotated for the Vault Agent Injector are injected.
    pub vault_annotations: bool,
    /// The `MutatingWebhookConfiguration` to keep current.
    pub mutating: Option<String>,
    /// The `ValidatingWebhookConfiguration` to keep current.
    pub validating: Option<String>,
    /// Where its certificate is kept.
    pub kept: Kept,
    /// How long a certificate lives.
    pub ttl: Duration,
    /// What is bounded.
    pub limits: Limits,
}

/// Where the webhook's certificate is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In a directory.
    Directory(PathBuf),
    /// In a Kubernetes Secret of the webhook's namespace.
    Secret(String),
}

/// Bounds on what callers can take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// The time for a handshake, and for a request to arrive.
    pub request_timeout: Duration,
    /// The largest request, in bytes.
    pub request_bytes: usize,
    /// How long a connection may be open.
    pub connection_time: Duration,
}

/// Lets service accounts read secrets.
#[derive(Debug)]
pub struct Grant {
    /// The namespaces.
    pub namespaces: Vec<Pattern>,
    /// The service accounts.
    pub service_accounts: Vec<Pattern>,
    /// The secrets by name.
    pub secrets: Vec<Pattern>,
    /// The secrets by category.
    pub categories: Vec<Pattern>,
    /// Whether a configuration of one's own is allowed.
    pub own_configuration: bool,
}

impl InjectConfig {
    /// Reads a whole TOML file. `origin` is its name in messages. The second part of the result is what is allowed but
    /// probably not meant.
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
