//! A `ConfigMap` that says where each secret stands, and events of the rotations that ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::json;

use super::{
    Cluster, MANAGED_BY, OPERATOR,
    events::{Events, Happened},
};
use crate::{
    domain::{fault::Fault, rotation::RotationId, secret::SecretName},
    rotation::engine::{Engine, Status},
};

/// The most that the object holds; etcd takes 1.5 MiB and Kubernetes 1 MiB.
const MAX_BYTES: usize = 900 << 10;
/// Rotations that ended earlier than this were told by somebody else; events live an hour.
const RECENT: SignedDuration = SignedDuration::from_mins(30);

/// Writes where each secret stands.
pub struct StatusWriter {
    cluster: Cluster,
    name: Option<String>,
    events: Option<Arc<Events>>,
    told: Mutex<BTreeSet<RotationId>>,
}

impl StatusWriter {
    /// Into the `ConfigMap` of this name, if there is to be one, and as events.
    pub fn new(cluster: Cluster, name: Option<String>, events: Option<Arc<Events>>) -> Self {
        Self { cluster, name, events, told: Mutex::default() }
    }

    /// Looks at these secrets and writes what changed. The others, and what can't be looked at, stay
    /// as they were written.
    ///
    /// # Errors
    /// When the object can't be read or written.
    pub async fn write(
        &self,
        engine: &Engine,
        secrets: &BTreeSet<SecretName>,
    ) -> Result<(), Fault> {
        let mut standings = BTreeMap::new();
        for secret in secrets {
            match engine.status(secret).await {
                Ok(status) => {
                    standings.insert(key(secret), standing(&status));
                    self.tell_ended(&status, engine.surroundings().clock.wall()).await;
                }
                Err(error) => tracing::debug!(%secret, %error, "not looked at"),
            }
        }
        let Some(name) = &self.name else { return Ok(()) };
        self.put(name, standings, engine).await
    }

    async fn put(
        &self,
        name: &str,
        standings: BTreeMap<String, String>,
        engine: &Engine,
    ) -> Result<(), Fault> {
        let namespace = self.cluster.namespace();
        let found = self.cluster.get::<ConfigMap>(namespace, name).await?;
        let exists = found.is_some();
        let mut object = found.unwrap_or_else(|| {
            let labels = [(MANAGED_BY.to_owned(), OPERATOR.to_owned())];
            let metadata = ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(labels.into()),
                ..ObjectMeta::default()
            };
            ConfigMap { metadata, ..ConfigMap::default() }
        });
        let known: BTreeSet<_> = engine.catalogue().keys().map(key).collect();
        let before = object.data.take().unwrap_or_default();
        let mut data = before.clone();
        data.retain(|secret, _| known.contains(secret));
        data.extend(standings);
        let mut bytes = 0;
        data.retain(|secret, standing| {
            bytes += secret.len() + standing.len();
            bytes <= MAX_BYTES
        });
        if exists && data == before {
            return Ok(());
        }
        object.data = Some(data);
        let written = if exists {
            self.cluster.replace(namespace, &object).await
        } else {
            self.cluster.create(namespace, &object).await
        };
        written.map(drop)
    }

    async fn tell_ended(&self, status: &Status, now: Timestamp) {
        let Some(events) = &self.events else { return };
        let is_recent =
            |at: Option<Timestamp>| at.is_some_and(|at| now.duration_since(at) < RECENT);
        for rotation in status.book.past.iter().take_while(|past| is_recent(past.ended_at)) {
            if self.told().contains(&rotation.id) {
                continue;
            }
            let Some(happened) = Happened::ended(rotation) else { continue };
            match events.tell(&happened).await {
                Ok(()) => drop(self.told().insert(rotation.id.clone())),
                Err(fault) => {
                    tracing::warn!(rotation = %rotation.id, %fault, "no event was written");
                }
            }
        }
        let mut told = self.told();
        // Names begin with their time: the earliest goes first.
        while told.len() > 10_000 {
            told.pop_first();
        }
    }

    fn told(&self) -> std::sync::MutexGuard<'_, BTreeSet<RotationId>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of a secret as a key of the object, which can't have slashes; different names are different keys.
fn key(secret: &SecretName) -> String {
    secret.as_str().replace('.', ".-").replace('/', "._")
}

fn standing(status: &Status) -> String {
    let Status { book, labels } = status;
    let open = book.open.as_ref().map(|open| {
        json!({
            "id": open.id, "standing": open.standing.to_string(),
            "next": open.step().map(ToString::to_string), "openedAt": open.opened_at,
        })
    });
    let last = book.past.first().map(|last| {
        json!({
            "id": last.id, "standing": last.standing.to_string(),
            "version": last.new_version(), "endedAt": last.ended_at,
        })
    });
    json!({
        "current": labels.current, "pending": labels.pending, "previous": labels.previous,
        "previousUntil": labels.previous_until, "audiences": labels.audiences,
        "due": book.due, "rotation": open, "last": last,
        "monitoredUntil": book.monitored_until,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_names_are_different_keys_of_the_objects_form() {
        let names = ["JWT_SECRET", "a/b", "a__b", "a.b", "a._b", "a.-b", "a.-_b", "./b", ".b"];
        let keys: BTreeSet<_> = names.iter().map(|name| key(&name.parse().unwrap())).collect();
        assert_eq!(keys.len(), names.len(), "{keys:?}");
        assert!(keys.contains("JWT_SECRET") && keys.contains("a._b"));
        let known = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        assert!(keys.iter().all(|key| key.chars().all(known) && !key.starts_with("..")));
    }
}
