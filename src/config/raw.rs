//! The configuration as people write it: one TOML file, unknown keys refused.
//!
//! Each key's type carries its default and range; its doc comment is what the JSON Schema and the
//! reference say about it.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod operator;
mod sections;
mod sources;

pub use operator::*;
pub use sections::*;
pub use sources::*;

use super::units::{Address, Count, Span, days, hours, mins, secs};

pub(super) type PollInterval = Span<{ mins(5) }, { secs(1) }, { days(1) }>;
pub(super) type MaxStale = Span<{ hours(1) }, 0, { days(30) }>;
pub(super) type Overlap = Span<{ mins(5) }, 0, { days(1) }>;
pub(super) type RetryMin = Span<{ secs(1) }, 100, { hours(1) }>;
pub(super) type RetryMax = Span<{ mins(5) }, { secs(1) }, { days(1) }>;
pub(super) type MaxAge = Span<{ days(30) }, { secs(1) }, { days(3660) }>;
pub(super) type LeaseTime = Span<{ mins(5) }, { secs(1) }, { days(366) }>;
pub(super) type StartupTimeout = Span<{ mins(5) }, { secs(5) }, { hours(24) }>;
pub(super) type CertificateTime = Span<{ hours(24) }, { secs(30) }, { days(366) }>;

/// The configuration of secret-broker.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// Where and how calls are served. At least one of `listen` and `socket` is needed.
    pub server: Server,
    /// The certificates of the TCP listener; needed exactly when there is a `server.listen`.
    pub tls: Option<Tls>,
    /// The Vault server; needed when a secret or the certificates come from it.
    pub vault: Option<Vault>,
    /// What this sidecar is part of. The labels of a secret's versions in a `kv2` engine say what it is served:
    /// `at.ENVIRONMENT.COLOUR`, else `at.ENVIRONMENT`, else `current`; the latest version where nothing is labelled.
    pub deployment: Deployment,
    /// The operator, which tells of rotations at once. Without it, and whenever it is away, changes are found by
    /// polling; nothing that is served waits for it.
    pub operator: Option<Operator>,
    /// How secrets are kept that do not say otherwise.
    pub defaults: Defaults,
    /// The secrets by name, each with where it comes from and how it is kept. A name is 1 to 253 of the characters `A-Z a-z 0-9 _ - . /`; at most 10000.
    pub secrets: BTreeMap<String, Secret>,
    /// Who may do what; nothing is allowed that no entry allows. At most 1000 entries. In patterns `*` stands for
    /// any run of characters except `/`, and `**` for any run at all.
    pub policy: Vec<Grant>,
    /// Where accesses are recorded.
    pub audit: Audit,
    /// The encrypted local state, which lets leases survive a restart; none is kept without it.
    pub state: Option<State>,
    /// Logs and health.
    pub telemetry: Telemetry,
    /// Reload when this file changes, and not on SIGHUP alone.
    #[serde(default = "yes")]
    #[schemars(default = "yes")]
    pub watch_file: Option<bool>,
}

#[expect(clippy::unnecessary_wraps, reason = "the default of an optional key")]
fn yes() -> Option<bool> {
    Some(true)
}
