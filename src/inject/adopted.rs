//! Pods that ask the Vault Agent Injector: what they get here, where the platform has them adopted.
//!
//! The annotations that they mean are put beside their own, so that all that follows is as for any other pod. A pod that
//! the other injector has been at is left to it, and one that was adopted is marked so that it leaves that alone.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Mistake,
    annotations::whole,
    configuration::Identity,
    grants::Granted,
    migrate::{self, Asked, Felt, INJECT, STATUS, Translation, switch},
    pod,
};
use crate::config::inject::InjectConfig;

/// What the API server takes of annotations in the end, in bytes; it asks webhooks before it looks.
const ANNOTATIONS: usize = 256 * 1024;
/// The containers of the other injector.
const THEIRS: [&str; 2] = ["vault-agent", "vault-agent-init"];

/// What a pod that asks the other injector gets.
#[derive(Debug, Default)]
pub(super) struct Adopted {
    /// What is put beside the pod's annotations.
    annotations: BTreeMap<String, String>,
    origins: BTreeMap<String, String>,
    /// What differs, and no application can tell.
    pub(super) warnings: Vec<String>,
}

impl Adopted {
    /// What this pod gets; nothing if it asks nobody, us, or was injected already.
    ///
    /// # Errors
    /// With the code of the answer, everything in which it would differ.
    pub(super) fn of(
        pod: &Value,
        identity: &Identity,
        config: &InjectConfig,
    ) -> Result<Self, (u16, Vec<Mistake>)> {
        let given = pod::annotations(pod);
        let is_left = !config.webhook.vault_annotations
            || config.webhook.excluded.contains(&identity.namespace)
            || given.contains_key(&whole("inject"))
            || is_theirs(pod, &given);
        let text = given.get(&theirs(INJECT)).filter(|_| !is_left);
        if text.is_none_or(|text| switch(text) == Some(false)) {
            return Ok(Self::default());
        }
        let bytes: usize = given.iter().map(|(name, text)| name.len() + text.len()).sum();
        if bytes > ANNOTATIONS {
            let place = "metadata.annotations".to_owned();
            let (found, accepted) =
                (format!("{bytes} bytes"), format!("expected at most {ANNOTATIONS}"));
            return Err((400, vec![Mistake { place, found, accepted }]));
        }
        let mut translation = migrate::translation(&given).unwrap_or_default();
        let warnings = settled(&translation).map_err(|all| (400, all))?;
        let entries = entries(&translation.secrets, &Granted::to(identity, config), config);
        translation.name(&entries.map_err(|all| (403, all))?);
        let Translation { mut annotations, origins, .. } = translation;
        // What the pod says itself stands; what it reads besides, it reads besides.
        let secrets = whole("secrets");
        if let (Some(own), Some(theirs)) = (given.get(&secrets), annotations.get_mut(&secrets)) {
            *theirs = format!("{own} {theirs}");
        }
        annotations.retain(|name, _| *name == secrets || !given.contains_key(name));
        annotations.insert(theirs(STATUS), "injected".to_owned());
        Ok(Self { annotations, origins, warnings })
    }

    /// The annotations of ours that it has besides.
    pub(super) fn beside(&self, own: &mut BTreeMap<String, String>) {
        own.extend(self.annotations.clone());
    }

    /// Mistakes at the annotations that people wrote.
    pub(super) fn told(&self, mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
        for mistake in &mut mistakes {
            if let Some(origin) = self.origins.get(&mistake.place) {
                mistake.place.clone_from(origin);
            }
        }
        mistakes
    }
}

fn theirs(name: &str) -> String {
    format!("{}{name}", migrate::PREFIX)
}

/// Whether the other injector has been here: its mark, and a container of its.
fn is_theirs(pod: &Value, given: &BTreeMap<String, String>) -> bool {
    let has = |list: &str| {
        let list = pod.pointer(list).and_then(Value::as_array).into_iter().flatten();
        let mut names = list.filter_map(|one| one.get("name")?.as_str());
        names.any(|name| THEIRS.contains(&name))
    };
    given.get(&theirs(STATUS)).is_some_and(|status| status == "injected")
        && (has("/spec/initContainers") || has("/spec/containers"))
}

/// What differs without anybody noticing, as warnings; what somebody would, as mistakes.
fn settled(translation: &Translation) -> Result<Vec<String>, Vec<Mistake>> {
    let (felt, other): (Vec<_>, Vec<_>) =
        translation.differences.iter().partition(|one| one.felt == Felt::Yes);
    let mistakes: Vec<_> = felt
        .into_iter()
        .map(|one| Mistake {
            place: one.annotation.clone(),
            found: "it would not mean the same here".to_owned(),
            accepted: one.what.clone(),
        })
        .collect();
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    Ok(other.into_iter().map(|one| format!("{}: {}", one.annotation, one.what)).collect())
}

/// The entries of the catalogue that lie where the pod reads: those that it was granted, whatever their names.
fn entries(
    asked: &BTreeMap<String, Asked>,
    granted: &Granted<'_>,
    config: &InjectConfig,
) -> Result<BTreeMap<String, String>, Vec<Mistake>> {
    let (mut entries, mut mistakes) = (BTreeMap::new(), Vec::new());
    for (local, Asked { annotation, called }) in asked {
        let there = config.places.iter().filter(|(_, place)| called.is_at(place));
        let there: Vec<_> = there.map(|(name, _)| name).collect();
        if let Some(name) = there.iter().find(|name| granted.has(name)) {
            entries.insert(local.clone(), (*name).clone());
        } else {
            let (place, is_known) = (annotation.clone(), !there.is_empty());
            mistakes.push(granted.refusal(place, &called.path, is_known));
        }
    }
    if mistakes.is_empty() { Ok(entries) } else { Err(mistakes) }
}
