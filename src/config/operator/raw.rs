//! The operator's configuration as people write it: one TOML file, unknown keys refused.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{super::raw, alerts, checks, kubernetes, targets::Rotate, validators};
use crate::config::units::{Count, Span, days, hours, mins, secs};

pub(super) type Overlap = Span<{ hours(24) }, 0, { days(90) }>;
pub(super) type Settle = Span<{ mins(1) }, 0, { days(1) }>;
pub(super) type Soak = Span<0, 0, { days(7) }>;
pub(super) type RetryMin = Span<{ secs(2) }, 100, { hours(1) }>;
pub(super) type RetryMax = Span<{ mins(5) }, { secs(1) }, { days(1) }>;
pub(super) type Spread = Span<{ hours(4) }, 0, { days(14) }>;

/// The configuration of secret-operator.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// Where people and sidecars call the operator; needed by `run`.
    pub server: Option<raw::Server>,
    /// The certificates of its TCP listener.
    pub tls: Option<raw::Tls>,
    /// The Vault server that holds the secrets, their labels and the journal.
    pub vault: Option<raw::Vault>,
    /// Where rotations are written down.
    pub journal: Journal,
    /// The Kubernetes cluster, where one is used; empty for the one around this pod.
    pub kubernetes: Option<kubernetes::Raw>,
    /// Which of several operators acts.
    pub leadership: kubernetes::LeadershipRaw,
    /// Bounds of the operator's own work.
    pub engine: Limits,
    /// How secrets are rotated that do not say otherwise.
    pub defaults: Defaults,
    /// Tiers by name, in addition to `monthly`, `quarterly` and `half-yearly`.
    pub tiers: BTreeMap<String, Tier>,
    /// The secrets by name: what each is, where it lies, and how it is rotated and validated.
    pub secrets: BTreeMap<String, Secret>,
    /// Conditions that have to hold before and after each rotation: one check an entry.
    pub check: Vec<checks::Raw>,
    /// Who is called when something goes wrong; the log alone when empty.
    pub alerts: Vec<alerts::Raw>,
    /// Who may do what over gRPC; nothing is allowed that no entry allows. In patterns `*` stands for
    /// any run of characters except `/`, and `**` for any run at all.
    pub policy: Vec<Grant>,
    /// Access to secrets in emergencies; none is opened without it.
    pub break_glass: Option<BreakGlass>,
    /// Where records of rotations are written for people.
    pub records: Records,
    /// Where calls are recorded.
    pub audit: raw::Audit,
    /// Logs and health.
    pub telemetry: raw::Telemetry,
}

/// Where rotations are written down, in Vault.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    /// The mount of a key-value engine of version 2.
    pub mount: String,
    /// The path below it.
    pub path: String,
}

impl Default for Journal {
    fn default() -> Self {
        Self { mount: "secret".to_owned(), path: "secret-operator".to_owned() }
    }
}

/// Bounds of the operator's own work.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How long an operator that died keeps others out of what it worked on.
    pub claim: Span<{ secs(30) }, 100, { mins(10) }>,
    /// The time for one attempt at one step.
    pub step: Span<{ mins(5) }, { secs(1) }, { hours(2) }>,
}

/// How secrets are rotated that do not say otherwise.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// The environments, in the order in which they get a new version.
    pub environments: Vec<String>,
    /// The colours of the last environment that get it before everybody does.
    pub canaries: Vec<String>,
    /// How long an early audience uses a new version before it is validated there.
    pub soak: Soak,
    /// How long the old version lives on while its readers move over.
    pub overlap: Overlap,
    /// The least time that it lives on, however soon they did.
    pub settle: Settle,
    /// When the old version may be revoked.
    pub revoke: Revoke,
    /// Values to try before a target's refusal is taken as final.
    pub max_values: Count<3, 1, 10>,
    /// Attempts at one step before the rotation goes back.
    pub max_attempts: Count<5, 1, 100>,
    /// The first wait after a failed attempt; it doubles with each.
    pub retry_min: RetryMin,
    /// The longest wait after a failed attempt.
    pub retry_max: RetryMax,
    /// When rotations may begin by themselves; at any time when absent.
    pub window: Option<Window>,
    /// The time zone of days and windows, such as `Europe/Berlin`.
    pub time_zone: String,
    /// Secrets that are due at once are spread over this time.
    pub spread: Spread,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            environments: vec!["production".to_owned()],
            canaries: Vec::new(),
            soak: Soak::default(),
            overlap: Overlap::default(),
            settle: Settle::default(),
            revoke: Revoke::default(),
            max_values: Count::default(),
            max_attempts: Count::default(),
            retry_min: RetryMin::default(),
            retry_max: RetryMax::default(),
            window: None,
            time_zone: "UTC".to_owned(),
            spread: Spread::default(),
        }
    }
}

/// When a replaced version may be revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Revoke {
    /// Once all known sidecars said that their readers moved over, or at the end of the overlap.
    #[default]
    Acknowledged,
    /// At the end of the overlap.
    Overlapped,
}

/// A maintenance window. One whose end is not after its beginning goes on over midnight.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Window {
    /// The days on which it opens, `mon` to `sun`; every day when empty.
    pub days: Vec<Day>,
    /// When it opens, such as `22:00`.
    pub from: String,
    /// When it closes.
    pub to: String,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// How often the secrets of a tier are rotated: exactly one of both.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tier {
    /// Months of the calendar.
    pub months: Option<Count<1, 1, 60>>,
    /// Days.
    pub days: Option<Count<1, 1, 3650>>,
}

/// One secret: what it is, where it lies, and how it is rotated and validated.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Secret {
    /// The category, such as `database`.
    pub category: Option<String>,
    /// The tier, which says how often; `never` for one that is rotated only when somebody asks.
    pub tier: Option<String>,
    /// The secret that must not be rotated close to this one, such as the other credential of a
    /// pair: both are kept half a period apart.
    pub pair: Option<String>,
    /// The mount of the key-value engine of version 2 that holds it; `secret` when absent.
    pub mount: Option<String>,
    /// The path below the mount.
    pub path: Option<String>,
    /// The Secret of Kubernetes that holds it, in place of `path`: pods may mount it.
    pub kubernetes: Option<kubernetes::SecretRaw>,
    /// The Secret of Kubernetes that a copy of the version in force is kept in.
    pub backup: Option<kubernetes::SecretRaw>,
    /// The rotator and its settings.
    pub rotate: Rotate,
    /// Further ways of using a new value before and after it is in force: one validator an entry.
    pub validate: Vec<validators::Raw>,
    /// Conditions around this secret, besides those of all.
    pub check: Vec<checks::Raw>,
    /// Whether a second person has to agree to each rotation.
    pub approval: bool,
    /// In place of `defaults.environments`.
    pub environments: Option<Vec<String>>,
    /// In place of `defaults.canaries`.
    pub canaries: Option<Vec<String>>,
    /// In place of `defaults.soak`.
    pub soak: Option<Soak>,
    /// In place of `defaults.overlap`.
    pub overlap: Option<Overlap>,
    /// In place of `defaults.settle`.
    pub settle: Option<Settle>,
    /// In place of `defaults.revoke`.
    pub revoke: Option<Revoke>,
    /// In place of `defaults.window`.
    pub window: Option<Window>,
    /// In place of `defaults.time_zone`.
    pub time_zone: Option<String>,
}

/// Lets people and sidecars do something with secrets.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Grant {
    /// Patterns of identities: `spiffe://…`, `dns:NAME` or `unix:uid=UID,gid=GID`.
    pub identities: Vec<String>,
    /// Patterns of the names of secrets.
    pub secrets: Vec<String>,
    /// Patterns of categories.
    pub categories: Vec<String>,
    /// What is allowed.
    pub verbs: Vec<Verb>,
}

/// What a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Verb {
    /// See what is due, where rotations stand, and what became of earlier ones.
    View,
    /// Rotate, take up again, supply a value.
    Rotate,
    /// Go back to the last working version.
    Rollback,
    /// Replace what others may know.
    Compromise,
    /// Agree to what somebody else asked for.
    Approve,
    /// Open access in an emergency, and end it.
    BreakGlass,
    /// Use the current credentials.
    Validate,
    /// Be told of rotations, as a sidecar.
    Follow,
    /// Read metrics and the reasons of readiness.
    Observe,
}

/// Access to secrets in emergencies.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BreakGlass {
    /// The token role of Vault that makes its tokens, which should be orphan and allow policies of
    /// `break-glass-*`; the operator's own right to make orphans is used when absent.
    pub token_role: Option<String>,
}

/// Where records of rotations are written for people.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Records {
    /// The directory of Markdown and JSON files; records stay in the journal alone when absent.
    pub directory: Option<PathBuf>,
}
