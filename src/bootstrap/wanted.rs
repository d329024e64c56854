//! What has to be in Vault, in the order in which it can be made.

use std::{collections::BTreeSet, fs, io, path::Path};

use serde_json::{Map, Value, json};

use super::{
    policy::{self, Policy, WideError},
    reach,
};
use crate::config::{
    Credential, VaultEngine,
    operator::{
        OperatorConfig,
        bootstrap::{DatabaseConnection, KubernetesAuth, Role},
    },
};

/// One thing.
#[derive(Debug, PartialEq)]
pub enum Wanted<'a> {
    /// A secrets engine.
    Engine {
        /// The mount.
        mount: String,
        /// Its type, such as `kv`.
        kind: &'static str,
        /// Its version, for `kv`.
        version: Option<&'static str>,
    },
    /// An auth method.
    Auth {
        /// The mount.
        mount: String,
        /// Its type.
        kind: &'static str,
    },
    /// The policy of those who log in.
    Policy(Policy),
    /// Anything that is read and written under one path.
    Object(Object<'a>),
}

/// Anything that is read and written under one path.
#[derive(Debug, Default, PartialEq)]
pub struct Object<'a> {
    /// The path.
    pub path: String,
    /// What it has to hold.
    pub fields: Map<String, Value>,
    /// Fields that are answered below this key.
    pub nested: Option<(&'static str, &'static [&'static str])>,
    /// The field that says whose it is: with another value there it is somebody else's, and so is all below its path.
    pub owner: Option<&'static str>,
    /// The list that others may have a part in, which stays.
    pub shared: Option<&'static str>,
    /// A credential that can't be read back.
    pub credential: Option<Hidden<'a>>,
}

/// A credential that is written with an object, and can't be read back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hidden<'a> {
    /// The name of its field.
    pub name: &'static str,
    /// Where it is read from.
    pub value: &'a Credential,
    /// Whether it is written with every change, since Vault forgets it otherwise, and not only when the object is made.
    pub on_change: bool,
}

/// What can't be made out.
#[derive(Debug, thiserror::Error)]
pub enum WantedError {
    /// A path would open too much.
    #[error(transparent)]
    Wide(#[from] WideError),
    /// A file can't be read.
    #[error("{0}: {1}")]
    File(String, io::ErrorKind),
}

/// The policies of the operator and of each role of sidecars.
///
/// # Errors
/// When a path would open more than one secret.
pub fn policies(config: &OperatorConfig) -> Result<Vec<Policy>, WideError> {
    let mut policies = vec![policy::operator(config)?];
    for role in &config.bootstrap.sidecars {
        policies.push(policy::sidecar(config, role, reach::of_sidecars(config, role))?);
    }
    for role in &config.bootstrap.pods.roles {
        policies.push(policy::sidecar(config, role, reach::of_pods(config, role))?);
    }
    Ok(policies)
}

/// All of it. `replaces` says that an auth method of another cluster's is to become this one's.
///
/// # Errors
/// When a path would open more than one secret, or a file can't be read.
pub fn wanted(config: &OperatorConfig, replaces: bool) -> Result<Vec<Wanted<'_>>, WantedError> {
    let bootstrap = &config.bootstrap;
    let mut all = engines(config);
    if let Some(kubernetes) = &bootstrap.kubernetes {
        all.push(Wanted::Auth { mount: kubernetes.mount.clone(), kind: "kubernetes" });
        all.push(method(kubernetes, replaces)?);
    }
    all.extend(policies(config)?.into_iter().map(Wanted::Policy));
    if let Some(kubernetes) = &bootstrap.kubernetes {
        all.push(login(kubernetes, &bootstrap.operator));
        let roles = bootstrap.sidecars.iter().chain(&bootstrap.pods.roles);
        all.extend(roles.map(|sidecars| login(kubernetes, &sidecars.role)));
    }
    for connection in &bootstrap.connections {
        database(connection, &mut all);
    }
    if let Some(role) = config.break_glass.as_ref().and_then(|glass| glass.token_role.as_ref()) {
        let fields = json!({
            "orphan": true,
            "renewable": false,
            "allowed_policies_glob": ["break-glass-*"],
            "token_no_default_policy": true,
        });
        all.push(object(format!("auth/token/roles/{role}"), fields));
    }
    Ok(all)
}

impl Wanted<'_> {
    /// What it is, for people.
    pub(super) fn what(&self) -> String {
        match self {
            Self::Engine { mount, kind, version: Some(version) } => {
                format!("secrets engine {mount}/ ({kind}, version {version})")
            }
            Self::Engine { mount, kind, version: None } => {
                format!("secrets engine {mount}/ ({kind})")
            }
            Self::Auth { mount, kind } => format!("auth method {mount}/ ({kind})"),
            Self::Policy(Policy { name, .. }) => format!("policy {name}"),
            Self::Object(object) => object.path.clone(),
        }
    }

    /// What all paths below it begin with, if it has any.
    pub(super) fn below(&self) -> Option<String> {
        match self {
            Self::Engine { mount, .. } => Some(format!("{mount}/")),
            Self::Auth { mount, .. } => Some(format!("auth/{mount}/")),
            Self::Object(object) => object.path.strip_suffix("config").map(str::to_owned),
            Self::Policy(_) => None,
        }
    }
}

impl Object<'_> {
    /// Its fields, with what others have in the list that they share.
    pub(super) fn beside(&self, there: &Map<String, Value>) -> Map<String, Value> {
        let mut fields = self.fields.clone();
        let Some(name) = self.shared else { return fields };
        let theirs = there.get(name).and_then(Value::as_array);
        if let (Some(theirs), Some(Value::Array(ours))) = (theirs, fields.get_mut(name)) {
            if theirs.iter().any(|one| one == "*") {
                ours.clone_from(theirs);
            } else {
                let new: Vec<_> =
                    theirs.iter().filter(|one| !ours.contains(one)).cloned().collect();
                ours.extend(new);
            }
        }
        fields
    }
}

fn engines(config: &OperatorConfig) -> Vec<Wanted<'static>> {
    let mut keyed: BTreeSet<_> =
        config.journal().map(|place| place.mount.clone()).into_iter().collect();
    keyed.extend(config.secrets.values().filter_map(|s| s.place.as_ref()).map(|p| p.mount.clone()));
    let mut old = BTreeSet::new();
    let further = config.bootstrap.secrets.values().chain(config.bootstrap.pods.secrets.values());
    for (_, engine) in further {
        match engine {
            VaultEngine::KvV2 { mount, .. } => drop(keyed.insert(mount.clone())),
            VaultEngine::KvV1 { mount, .. } => drop(old.insert(mount.clone())),
            // Whose engine it is can't be told from its path.
            VaultEngine::Generic { .. } => {}
        }
    }
    let databases: BTreeSet<_> =
        config.bootstrap.connections.iter().map(|c| c.mount.clone()).collect();
    let engine = |kind, version| move |mount| Wanted::Engine { mount, kind, version };
    let keyed = keyed.into_iter().map(engine("kv", Some("2")));
    let old = old.into_iter().map(engine("kv", Some("1")));
    keyed.chain(old).chain(databases.into_iter().map(engine("database", None))).collect()
}

fn object(path: String, fields: Value) -> Wanted<'static> {
    let fields = match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    Wanted::Object(Object { path, fields, ..Object::default() })
}

fn method(kubernetes: &KubernetesAuth, replaces: bool) -> Result<Wanted<'_>, WantedError> {
    let mut fields = Map::from_iter([
        ("kubernetes_host".to_owned(), json!(kubernetes.host)),
        ("disable_local_ca_jwt".to_owned(), json!(kubernetes.outside)),
    ]);
    if let Some(path) = &kubernetes.ca {
        fields.insert("kubernetes_ca_cert".to_owned(), json!(read(path)?.trim()));
    }
    Ok(Wanted::Object(Object {
        path: format!("auth/{}/config", kubernetes.mount),
        fields,
        owner: (!replaces).then_some("kubernetes_host"),
        credential: kubernetes.reviewer.as_ref().map(|value| Hidden {
            name: "token_reviewer_jwt",
            value,
            on_change: true,
        }),
        ..Object::default()
    }))
}

fn login(kubernetes: &KubernetesAuth, role: &Role) -> Wanted<'static> {
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        names
    };
    let fields = json!({
        "bound_service_account_names": sorted(&role.service_accounts),
        "bound_service_account_namespaces": sorted(&role.namespaces),
        "audience": kubernetes.audience,
        "token_policies": [policy::name(Some(kubernetes), role)],
        "token_no_default_policy": true,
        "token_ttl": role.ttl.as_secs(),
    });
    object(format!("auth/{}/role/{}", kubernetes.mount, role.name), fields)
}

fn database<'a>(connection: &'a DatabaseConnection, all: &mut Vec<Wanted<'a>>) {
    let DatabaseConnection { name, mount, plugin, url, username, password, .. } = connection;
    let mut allowed: Vec<_> =
        connection.roles.keys().chain(connection.static_roles.keys()).collect();
    allowed.sort_unstable();
    let fields = json!({
        "plugin_name": plugin,
        "connection_url": url,
        "username": username,
        "allowed_roles": allowed,
    });
    let Value::Object(fields) = fields else { return };
    all.push(Wanted::Object(Object {
        path: format!("{mount}/config/{name}"),
        fields,
        nested: Some(("connection_details", &["connection_url", "username"])),
        shared: Some("allowed_roles"),
        // Vault may have replaced it since the connection was made.
        credential: Some(Hidden { name: "password", value: password, on_change: false }),
        ..Object::default()
    }));
    for (role, (creation, revocation, ttl, max_ttl)) in &connection.roles {
        let fields = json!({
            "db_name": name,
            "creation_statements": creation,
            "revocation_statements": revocation,
            "default_ttl": ttl.as_secs(),
            "max_ttl": max_ttl.as_secs(),
        });
        all.push(object(format!("{mount}/roles/{role}"), fields));
    }
    for (role, (username, period)) in &connection.static_roles {
        let fields =
            json!({ "db_name": name, "username": username, "rotation_period": period.as_secs() });
        all.push(object(format!("{mount}/static-roles/{role}"), fields));
    }
}

fn read(path: &Path) -> Result<String, WantedError> {
    let failed = |error: io::Error| WantedError::File(path.display().to_string(), error.kind());
    fs::read_to_string(path).map_err(failed)
}
