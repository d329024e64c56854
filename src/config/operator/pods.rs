//! What the injection webhook's configuration says of Vault: which service account reads which secrets of
//! its catalogue, and by which role. All else in that file is the webhook's own business.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::bootstrap::{Bootstrap, Role, SidecarRole, in_vault, name};
use crate::{
    config::{
        Environment, Mistake, Mistakes, VaultEngine,
        check::{Check, checked, policy::patterns},
        mistake::Key,
        raw, read,
    },
    domain::{policy::Pattern, secret::SecretName},
};

/// What stands for the pod's namespace and service account in the name of a role.
const NAMESPACE: &str = "{namespace}";
const ACCOUNT: &str = "{service_account}";
/// How long tokens live between two renewals.
const TTL: Duration = Duration::from_hours(1);

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    sidecar: Sidecar,
    secrets: BTreeMap<String, raw::Secret>,
    grant: Vec<Grant>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Sidecar {
    vault: Vault,
    tls_path: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Vault {
    auth: Auth,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    role: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Grant {
    namespaces: Vec<String>,
    service_accounts: Vec<String>,
    secrets: Vec<String>,
    categories: Vec<String>,
}

/// What injected pods read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pods {
    /// The catalogue: the category and the place of each secret that lies in Vault.
    pub secrets: BTreeMap<SecretName, (String, VaultEngine)>,
    /// A role for each service account, or one for all.
    pub roles: Vec<SidecarRole>,
}

impl Pods {
    /// Reads what is of interest here of the webhook's file. The second part of the result is what no role can be made
    /// of.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn parse(
        text: &str,
        origin: &str,
        env: Environment<'_>,
    ) -> Result<(Self, Vec<Mistake>), Mistakes> {
        checked(read::read(text), origin, env, pods)
    }

    /// The roles that somebody else has in `[bootstrap]`: one would read what the other may.
    pub fn clashes(&self, bootstrap: &Bootstrap) -> Vec<Mistake> {
        let theirs: Vec<_> = bootstrap.names().collect();
        let clashing = self.roles.iter().filter(|role| theirs.contains(&role.role.name.as_str()));
        clashing
            .map(|role| Mistake {
                key: Key::of("sidecar").name("vault").name("auth").name("role"),
                line: None,
                found: format!("`{}` is a role of [bootstrap], too", role.role.name),
                accepted: "each role has one policy: give one of them another name".to_owned(),
            })
            .collect()
    }
}

/// What the pods of one role were granted, by namespace and service account.
type Granted = BTreeMap<(String, String), (Vec<Pattern>, Vec<Pattern>)>;

fn pods(check: &mut Check<'_>, file: File) -> Option<Pods> {
    let File { sidecar, secrets, grant } = file;
    let secrets = check.secrets_below(&Key::of("secrets"), &raw::Defaults::default(), secrets);
    let secrets = secrets.into_iter().filter_map(|(name, secret)| Some((name, in_vault(secret)?)));
    let secrets = secrets.collect();
    let auth = Key::of("sidecar").name("vault").name("auth");
    let template = check.text(&auth.name("role"), sidecar.vault.auth.role, "bootstrap")?;
    let mut roles: BTreeMap<String, SidecarRole> = BTreeMap::new();
    let mut granted: BTreeMap<String, Granted> = BTreeMap::new();
    for (i, grant) in grant.into_iter().enumerate() {
        let key = Key::of("grant").index(i);
        let chosen = (patterns(grant.secrets), patterns(grant.categories));
        for namespace in &grant.namespaces {
            for account in &grant.service_accounts {
                let pod = (namespace.as_str(), account.as_str());
                let Some(role) = add(check, &key, &template, pod, &chosen, &mut roles) else {
                    continue;
                };
                let pods = granted.entry(role).or_default();
                let all = pods.entry((namespace.clone(), account.clone())).or_default();
                all.0.extend(chosen.0.iter().cloned());
                all.1.extend(chosen.1.iter().cloned());
            }
        }
    }
    for (role, pods) in granted {
        let mut all = pods.values();
        if let Some(first) = all.next()
            && all.any(|other| other != first)
        {
            let found = format!("pods of different grants log in by the role `{role}`");
            let accepted = format!(
                "expected {NAMESPACE} and {ACCOUNT} in it: each of them can read what any of them may"
            );
            check.warn(auth.name("role"), found, accepted);
        }
    }
    let pki = Vec::from_iter(sidecar.tls_path);
    let roles = roles.into_values().map(|role| SidecarRole { pki: pki.clone(), ..role });
    Some(Pods { secrets, roles: roles.collect() })
}

fn add(
    check: &mut Check<'_>,
    key: &Key,
    template: &str,
    (namespace, account): (&str, &str),
    (secrets, categories): &(Vec<Pattern>, Vec<Pattern>),
    roles: &mut BTreeMap<String, SidecarRole>,
) -> Option<String> {
    for (part, text) in [(NAMESPACE, namespace), (ACCOUNT, account)] {
        if text.contains('*') && template.contains(part) {
            let found = format!("no role can be made of the pattern `{text}`");
            check.warn(key.clone(), found, format!("name them, or leave {part} out of the role"));
            return None;
        }
    }
    let text = template.replace(NAMESPACE, namespace).replace(ACCOUNT, account);
    let name = name(check, key, Some(text))?;
    let role = roles.entry(name.clone()).or_insert_with(|| SidecarRole {
        role: Role {
            name: name.clone(),
            namespaces: Vec::new(),
            service_accounts: Vec::new(),
            ttl: TTL,
        },
        secrets: Vec::new(),
        categories: Vec::new(),
        pki: Vec::new(),
    });
    let note = |list: &mut Vec<String>, text: &str| {
        // Vault has one kind of star.
        let text = text.replace("**", "*");
        if !list.contains(&text) {
            list.push(text);
        }
    };
    note(&mut role.role.namespaces, namespace);
    note(&mut role.role.service_accounts, account);
    role.secrets.extend(secrets.iter().cloned());
    role.categories.extend(categories.iter().cloned());
    Some(name)
}
