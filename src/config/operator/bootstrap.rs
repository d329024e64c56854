//! What `bootstrap vault` makes in Vault besides what the catalogue says: who logs in, and what the
//! database engine hands out.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pods::Pods;
use crate::{
    config::{
        Credential, Secret, SecretOrigin, VaultEngine,
        check::{Check, policy::patterns},
        mistake::Key,
        raw,
        units::{Span, days, hours, mins, secs},
    },
    domain::{policy::Pattern, secret::SecretName},
};

type TokenTime = Span<{ hours(1) }, { mins(1) }, { days(32) }>;
type LeaseTime = Span<{ hours(1) }, { secs(1) }, { days(366) }>;
type LongestLease = Span<{ days(1) }, { secs(1) }, { days(366) }>;
type Period = Span<{ days(1) }, { secs(5) }, { days(366) }>;

/// What `bootstrap vault` makes in Vault.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// The kubernetes auth method; none is made without it.
    pub kubernetes: Option<Kubernetes>,
    /// Who the operator is in Kubernetes.
    pub operator: OperatorAccount,
    /// The roles of sidecars, each with a policy of its own.
    pub sidecars: Vec<Sidecars>,
    /// Secrets that sidecars read and the operator does not rotate, in the form of the sidecar's own configuration.
    pub secrets: BTreeMap<String, raw::Secret>,
    /// Connections of Vault's database engine by name, with their roles.
    pub database: BTreeMap<String, Connection>,
}

/// Where the kubernetes auth method is mounted unless told.
pub const DEFAULT_MOUNT: &str = "kubernetes";

/// The kubernetes auth method.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Kubernetes {
    /// Its mount; the names of policies begin with it, unless it is the default.
    pub mount: String,
    /// The API server as Vault reaches it.
    pub host: String,
    /// Whether Vault runs outside of the cluster: then nothing is taken from its own pod.
    pub outside: bool,
    /// The API server's authorities; those of the pod that Vault runs in, or of its machine, when absent.
    pub ca: Option<PathBuf>,
    /// The token that Vault asks `TokenReview` with. When absent, that of its own pod, or from outside the very token
    /// that is reviewed, whose account has to be allowed to. It can't be read back, so it is
    /// written only when the method is made or another setting of it differs.
    pub reviewer_token_file: Option<PathBuf>,
    /// The audience that tokens have to be for.
    pub audience: String,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            mount: DEFAULT_MOUNT.to_owned(),
            host: "https://kubernetes.default.svc".to_owned(),
            outside: false,
            ca: None,
            reviewer_token_file: None,
            audience: "vault".to_owned(),
        }
    }
}

/// Who the operator is in Kubernetes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OperatorAccount {
    /// The name of its role and of its policy.
    pub role: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// How long its tokens live between two renewals.
    pub ttl: TokenTime,
}

impl Default for OperatorAccount {
    fn default() -> Self {
        Self {
            role: "secret-operator".to_owned(),
            namespace: "secret-broker".to_owned(),
            service_account: "secret-broker-operator".to_owned(),
            ttl: TokenTime::default(),
        }
    }
}

/// A role of sidecars.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sidecars {
    /// The name of the role and of its policy.
    pub role: Option<String>,
    /// The namespaces of the pods.
    pub namespaces: Vec<String>,
    /// The service accounts of the pods.
    pub service_accounts: Vec<String>,
    /// Patterns of the secrets that they read.
    pub secrets: Vec<String>,
    /// Patterns of the categories that they read.
    pub categories: Vec<String>,
    /// The paths of Vault PKI that issue their certificates, such as `pki/issue/shop`.
    pub pki: Vec<String>,
    /// How long their tokens live between two renewals.
    pub ttl: TokenTime,
}

/// A connection of Vault's database engine.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Connection {
    /// The mount of the engine; `database` when absent.
    pub mount: Option<String>,
    /// The plugin, such as `postgresql-database-plugin`.
    pub plugin: Option<String>,
    /// The address, with `{{username}}` and `{{password}}` in it.
    pub url: Option<String>,
    /// Vault's own user.
    pub username: Option<String>,
    /// The file of its password. It is written once, when the connection is made: Vault may have replaced it since.
    pub password_file: Option<PathBuf>,
    /// The variable of its password, in place of `password_file`.
    pub password_env: Option<String>,
    /// Roles that make a user for each lease.
    pub roles: BTreeMap<String, LeasedRole>,
    /// Roles of one user whose password Vault keeps.
    pub static_roles: BTreeMap<String, StaticRole>,
}

/// A role that makes a user for each lease.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LeasedRole {
    /// The statements that make a user.
    pub creation: Vec<String>,
    /// The statements that remove it; the plugin's own when empty.
    pub revocation: Vec<String>,
    /// How long a lease lives between two renewals.
    pub ttl: LeaseTime,
    /// How long renewals can carry it.
    pub max_ttl: LongestLease,
}

/// A role of one user whose password Vault keeps.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StaticRole {
    /// The user.
    pub username: Option<String>,
    /// How often Vault replaces the password by itself.
    pub period: Period,
}

/// What `bootstrap vault` makes, complete.
#[derive(Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// The kubernetes auth method.
    pub kubernetes: Option<KubernetesAuth>,
    /// The operator's role.
    pub operator: Role,
    /// The roles of sidecars.
    pub sidecars: Vec<SidecarRole>,
    /// What sidecars read and the operator does not rotate: the category and the place of each.
    pub secrets: BTreeMap<SecretName, (String, VaultEngine)>,
    /// Connections of Vault's database engine.
    pub connections: Vec<DatabaseConnection>,
    /// What injected pods read, where the webhook's configuration was given.
    pub pods: Pods,
}

impl Bootstrap {
    /// The names of the operator's role and those of sidecars.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let sidecars = self.sidecars.iter().map(|sidecars| &sidecars.role);
        std::iter::once(&self.operator).chain(sidecars).map(|role| role.name.as_str())
    }
}

/// The kubernetes auth method.
#[derive(Debug, PartialEq, Eq)]
pub struct KubernetesAuth {
    /// Its mount.
    pub mount: String,
    /// The API server as Vault reaches it.
    pub host: String,
    /// Whether Vault runs outside of the cluster.
    pub outside: bool,
    /// The API server's authorities.
    pub ca: Option<PathBuf>,
    /// The token that Vault asks `TokenReview` with.
    pub reviewer: Option<Credential>,
    /// The audience that tokens have to be for.
    pub audience: String,
}

/// Who logs in under which name.
#[derive(Debug, PartialEq, Eq)]
pub struct Role {
    /// The name of the role and of its policy.
    pub name: String,
    /// Namespaces.
    pub namespaces: Vec<String>,
    /// Service accounts.
    pub service_accounts: Vec<String>,
    /// How long tokens live between two renewals.
    pub ttl: Duration,
}

/// A role of sidecars and what they read.
#[derive(Debug, PartialEq, Eq)]
pub struct SidecarRole {
    /// Who logs in.
    pub role: Role,
    /// Patterns of secrets.
    pub secrets: Vec<Pattern>,
    /// Patterns of categories.
    pub categories: Vec<Pattern>,
    /// The paths that issue their certificates.
    pub pki: Vec<String>,
}

/// A connection of Vault's database engine.
#[derive(Debug, PartialEq, Eq)]
pub struct DatabaseConnection {
    /// Its name.
    pub name: String,
    /// The mount of the engine.
    pub mount: String,
    /// The plugin.
    pub plugin: String,
    /// The address.
    pub url: String,
    /// Vault's own user.
    pub username: String,
    /// Its password when the connection is made.
    pub password: Credential,
    /// Roles that make a user for each lease: statements that make and remove it, and its times.
    pub roles: BTreeMap<String, (Vec<String>, Vec<String>, Duration, Duration)>,
    /// Roles of one user: its name, and how often Vault replaces its password.
    pub static_roles: BTreeMap<String, (String, Duration)>,
}

pub(super) fn check(check: &mut Check<'_>, raw: Raw) -> Option<Bootstrap> {
    let key = Key::of("bootstrap");
    let Raw { kubernetes, operator, sidecars, secrets, database } = raw;
    let kubernetes = match kubernetes {
        Some(raw) => self::kubernetes(check, &key.name("kubernetes"), raw).map(Some),
        None => Some(None),
    };
    let place = key.name("operator");
    let OperatorAccount { role, namespace, service_account, ttl } = operator;
    let operator = name(check, &place.name("role"), Some(role)).map(|name| Role {
        name,
        namespaces: vec![namespace],
        service_accounts: vec![service_account],
        ttl: ttl.duration(),
    });
    let section = key.name("sidecars");
    let sidecars: Vec<_> = sidecars
        .into_iter()
        .enumerate()
        .map(|(i, raw)| self::sidecars(check, &section.index(i), raw))
        .collect();
    let section = key.name("secrets");
    let secrets = check.secrets_below(&section, &raw::Defaults::default(), secrets);
    let secrets = secrets.into_iter().filter_map(|(name, secret)| {
        let place = in_vault(secret);
        if place.is_none() {
            let key = section.name(name.as_str()).name("store");
            check.wrong(key, "not a place in Vault", "expected store = \"vault\"");
        }
        Some((name, place?))
    });
    let secrets = secrets.collect();
    let section = key.name("database");
    let connections: Vec<_> = database
        .into_iter()
        .map(|(name, raw)| connection(check, &section.name(&name), name, raw))
        .collect();
    let bootstrap = Bootstrap {
        kubernetes: kubernetes?,
        operator: operator?,
        sidecars: sidecars.into_iter().collect::<Option<_>>()?,
        secrets,
        connections: connections.into_iter().collect::<Option<_>>()?,
        pods: Pods::default(),
    };
    apart(check, &key.name("sidecars"), &bootstrap);
    Some(bootstrap)
}

/// No two roles have one name: their policy would be the last one's.
fn apart(check: &mut Check<'_>, key: &Key, bootstrap: &Bootstrap) {
    let mut names = BTreeSet::new();
    for (at, name) in bootstrap.names().enumerate() {
        if !names.insert(name) {
            let found = format!("`{name}` is another role, too");
            let accepted = "each role has one policy: give it another name";
            check.wrong(key.index(at.saturating_sub(1)).name("role"), found, accepted);
        }
    }
}

fn kubernetes(check: &mut Check<'_>, key: &Key, raw: Kubernetes) -> Option<KubernetesAuth> {
    let Kubernetes { mount, host, outside, ca, reviewer_token_file, audience } = raw;
    let mount = check.vault_path(&key.name("mount"), Some(mount), "bootstrap.kubernetes");
    let form = "expected https://HOST:PORT";
    let host = check.url(&key.name("host"), Some(host), false, "bootstrap.kubernetes", form);
    let ca = check.some_path(&key.name("ca"), ca);
    let reviewer = check.some_path(&key.name("reviewer_token_file"), reviewer_token_file);
    let audience = check.text(&key.name("audience"), Some(audience), "bootstrap.kubernetes");
    Some(KubernetesAuth {
        mount: mount?,
        host: host?,
        outside,
        ca: ca?,
        reviewer: reviewer?.map(Credential::File),
        audience: audience?,
    })
}

fn sidecars(check: &mut Check<'_>, key: &Key, raw: Sidecars) -> Option<SidecarRole> {
    let Sidecars { role, namespaces, service_accounts, secrets, categories, pki, ttl } = raw;
    let name = name(check, &key.name("role"), role);
    for (part, list) in [("namespaces", &namespaces), ("service_accounts", &service_accounts)] {
        if list.is_empty() {
            check.need::<()>(&key.name(part), None, "a role of sidecars");
        }
    }
    if secrets.is_empty() && categories.is_empty() {
        check.wrong(key.clone(), "about no secret", "needs secrets, categories, or both");
    }
    let place = key.name("pki");
    let pki: Vec<_> = pki
        .into_iter()
        .enumerate()
        .map(|(i, path)| check.vault_path(&place.index(i), Some(path), "a role of sidecars"))
        .collect();
    Some(SidecarRole {
        role: Role { name: name?, namespaces, service_accounts, ttl: ttl.duration() },
        secrets: patterns(secrets),
        categories: patterns(categories),
        pki: pki.into_iter().collect::<Option<_>>()?,
    })
}

fn connection(
    check: &mut Check<'_>,
    key: &Key,
    connection: String,
    raw: Connection,
) -> Option<DatabaseConnection> {
    let by = key.to_string();
    let mount = raw.mount.or_else(|| Some("database".to_owned()));
    let mount = check.vault_path(&key.name("mount"), mount, &by);
    let plugin = check.text(&key.name("plugin"), raw.plugin, &by);
    let url = check.text(&key.name("url"), raw.url, &by);
    let username = check.text(&key.name("username"), raw.username, &by);
    let password = check.credential(key, "password", (raw.password_file, raw.password_env), &by);
    let roles: Vec<_> = raw
        .roles
        .into_iter()
        .map(|(role, raw)| {
            let key = key.name("roles").name(&role);
            let role = name(check, &key, Some(role));
            let LeasedRole { creation, revocation, ttl, max_ttl } = raw;
            if creation.is_empty() {
                check.need::<()>(&key.name("creation"), None, "a role of leased users");
            }
            Some((role?, (creation, revocation, ttl.duration(), max_ttl.duration())))
        })
        .collect();
    let static_roles: Vec<_> = raw
        .static_roles
        .into_iter()
        .map(|(role, StaticRole { username, period })| {
            let key = key.name("static_roles").name(&role);
            let role = name(check, &key, Some(role));
            let username = check.text(&key.name("username"), username, "a static role");
            Some((role?, (username?, period.duration())))
        })
        .collect();
    Some(DatabaseConnection {
        name: name(check, key, Some(connection))?,
        mount: mount?,
        plugin: plugin?,
        url: url?,
        username: username?,
        password: password?,
        roles: roles.into_iter().collect::<Option<_>>()?,
        static_roles: static_roles.into_iter().collect::<Option<_>>()?,
    })
}

/// The category and the place of a secret that lies in Vault.
pub(super) fn in_vault(secret: Secret) -> Option<(String, VaultEngine)> {
    match secret.origin {
        SecretOrigin::Vault(place) => Some((secret.category, place.engine)),
        _ => None,
    }
}

/// The name of a role, policy or connection, as Vault allows it.
pub(super) fn name(check: &mut Check<'_>, key: &Key, text: Option<String>) -> Option<String> {
    let text = check.text(key, text, "a name in Vault")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    if text.bytes().all(plain) && edge(text.chars().next()) && edge(text.chars().next_back()) {
        return Some(text);
    }
    check.wrong(key.clone(), "not a name in Vault", "expected the characters A-Z a-z 0-9 - _ .");
    None
}
