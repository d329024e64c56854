//! Brings Vault to what a configuration needs: engines, policies, roles.
//!
//! Invariants: nothing is removed, and nothing is changed that is as it should be, so that a second
//! run does nothing; what was made for something else is left alone and told, and so is all below it;
//! what others put into a list of roles stays there; no credential is in a difference.

mod difference;
pub mod policy;
pub mod reach;
mod wanted;

use serde_json::{Map, Value, json};

pub use self::{
    policy::{Policy, WideError},
    wanted::{Hidden, Object, Wanted, WantedError, policies, wanted},
};
use crate::{
    config::Credential,
    domain::fault::{Fault, Reason},
    rotation::ports::{ApiMethod, VaultApi},
};

/// One thing, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// What it is, for people, such as `policy secret-operator`.
    pub what: String,
    /// How it is.
    pub state: State,
}

/// How a thing is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Right,
    /// Not there; the lines that it will have.
    Missing(Vec<String>),
    /// Different: lines to go begin with `-`, lines to come with `+`.
    Different(Vec<String>),
    /// Something else has its name, and is left alone: what there is.
    Taken(String),
}

impl State {
    /// Whether there is something to do.
    pub const fn is_due(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Different(_))
    }
}

/// What Vault says of its engines and auth methods.
struct Mounts {
    engines: Value,
    auths: Value,
}

/// Looks at everything, and makes or changes what is due when `apply` says so. Stops at the first
/// failure; what was done until then stays, and a further run goes on from there.
///
/// # Errors
/// What Vault refuses, with the path.
pub async fn run(
    vault: &dyn VaultApi,
    all: &[Wanted<'_>],
    apply: bool,
    mut told: impl FnMut(&Looked),
) -> Result<(), Fault> {
    let mounts = Mounts {
        engines: vault.call(ApiMethod::Get, "sys/mounts", None).await?.data,
        auths: vault.call(ApiMethod::Get, "sys/auth", None).await?.data,
    };
    let mut others: Vec<String> = Vec::new();
    for wanted in all {
        let above = match wanted {
            Wanted::Object(Object { path, .. }) => {
                others.iter().find(|above| path.starts_with(above.as_str()))
            }
            // Those who log in there may have a policy of this name.
            Wanted::Policy(_) => others.iter().find(|above| above.starts_with("auth/")),
            _ => None,
        };
        if let Some(above) = above {
            let state = State::Taken(format!("{above} is somebody else's"));
            told(&Looked { what: wanted.what(), state });
            continue;
        }
        let (state, fields) = look(vault, &mounts, wanted).await?;
        match &state {
            State::Taken(_) => others.extend(wanted.below()),
            state if apply && state.is_due() => {
                make(vault, wanted, fields, matches!(state, State::Missing(_))).await?;
            }
            _ => {}
        }
        told(&Looked { what: wanted.what(), state });
    }
    Ok(())
}

/// Whether Vault writes an audit log; `None` when we may not know.
pub async fn is_audited(vault: &dyn VaultApi) -> Option<bool> {
    let devices = vault.call(ApiMethod::Get, "sys/audit", None).await.ok()?.data;
    devices.as_object().map(|devices| !devices.is_empty())
}

/// How it is, and the fields that it shall have.
async fn look(
    vault: &dyn VaultApi,
    mounts: &Mounts,
    wanted: &Wanted<'_>,
) -> Result<(State, Map<String, Value>), Fault> {
    let state = match wanted {
        Wanted::Engine { mount, kind, version } => mounted(&mounts.engines, mount, kind, *version),
        Wanted::Auth { mount, kind } => mounted(&mounts.auths, mount, kind, None),
        Wanted::Policy(Policy { name, text }) => {
            let there = read(vault, &format!("sys/policies/acl/{name}")).await?;
            let there = there.as_ref().and_then(|data| data.get("policy")?.as_str());
            difference::of_texts(there, text)
        }
        Wanted::Object(object) => {
            let there = read(vault, &object.path).await?.map(|data| flat(&data, object));
            let fields = object.beside(there.as_ref().unwrap_or(&Map::new()));
            return Ok((difference::of_fields(there.as_ref(), &fields, object), fields));
        }
    };
    Ok((state, Map::new()))
}

fn mounted(mounts: &Value, mount: &str, kind: &str, version: Option<&str>) -> State {
    let Some(there) = mounts.get(format!("{mount}/")) else { return State::Missing(Vec::new()) };
    let found = there.get("type").and_then(Value::as_str).unwrap_or("unknown");
    let found_version = there.pointer("/options/version").and_then(Value::as_str);
    // Key-value engines without a version are of the first.
    let same = version.is_none_or(|version| found_version.unwrap_or("1") == version);
    if found == kind && same {
        return State::Right;
    }
    State::Taken(match found_version {
        Some(version) => format!("{found}, version {version} is there"),
        None => format!("{found} is there"),
    })
}

/// What is there; `None` when nothing is.
async fn read(vault: &dyn VaultApi, path: &str) -> Result<Option<Value>, Fault> {
    match vault.call(ApiMethod::Get, path, None).await {
        Ok(answer) => Ok(Some(answer.data).filter(|data| !data.is_null())),
        Err(fault) if fault.reason == Reason::NotFound => Ok(None),
        Err(fault) => Err(fault),
    }
}

async fn make(
    vault: &dyn VaultApi,
    wanted: &Wanted<'_>,
    fields: Map<String, Value>,
    is_new: bool,
) -> Result<(), Fault> {
    let (path, body) = match wanted {
        Wanted::Engine { mount, kind, version } => {
            let options = version.map(|version| json!({ "version": version }));
            (format!("sys/mounts/{mount}"), json!({ "type": kind, "options": options }))
        }
        Wanted::Auth { mount, kind } => (format!("sys/auth/{mount}"), json!({ "type": kind })),
        Wanted::Policy(Policy { name, text }) => {
            (format!("sys/policies/acl/{name}"), json!({ "policy": text }))
        }
        Wanted::Object(object) => {
            let mut body = fields;
            if let Some(hidden) = object.credential.filter(|hidden| is_new || hidden.on_change) {
                body.insert(hidden.name.to_owned(), text(hidden.value)?.into());
            }
            (object.path.clone(), Value::Object(body))
        }
    };
    vault.call(ApiMethod::Post, &path, Some(body)).await?;
    // A key-value engine answers a moment after it was made; until then it refuses.
    if let Wanted::Engine { mount, kind: "kv", version: Some("2") } = wanted {
        settle(vault, mount).await?;
    }
    Ok(())
}

/// How often a new engine is asked whether it is ready, and how long is waited in between.
const SETTLE: (u32, std::time::Duration) = (50, std::time::Duration::from_millis(100));

async fn settle(vault: &dyn VaultApi, mount: &str) -> Result<(), Fault> {
    let mut last = Ok(());
    for _ in 0..SETTLE.0 {
        match vault.call(ApiMethod::Get, &format!("{mount}/config"), None).await {
            Ok(_) => return Ok(()),
            Err(fault) if matches!(fault.reason, Reason::NotFound) => return Ok(()),
            Err(fault) => last = Err(fault),
        }
        tokio::time::sleep(SETTLE.1).await;
    }
    last
}

fn text(credential: &Credential) -> Result<String, Fault> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match credential {
        Credential::Value(value) => Ok(text(value.expose())),
        Credential::File(path) => match std::fs::read(path).map(zeroize::Zeroizing::new) {
            Ok(content) => Ok(text(content.trim_ascii())),
            Err(error) => {
                let detail = format!("{}: {}", path.display(), error.kind());
                Err(Fault::new(Reason::Invalid, detail))
            }
        },
    }
}

/// The fields of an object as Vault answers them, without its nesting.
fn flat(data: &Value, object: &Object<'_>) -> Map<String, Value> {
    let field = |name: &String| {
        let below = object.nested.filter(|(_, names)| names.contains(&name.as_str()));
        let data = below.map_or(Some(data), |(key, _)| data.get(key));
        Some((name.clone(), data?.get(name)?.clone()))
    };
    object.fields.keys().filter_map(field).collect()
}
