//! What Vault's answer says of a value and its life.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::client::Envelope;
use crate::{
    config::{VaultEngine, VaultPath},
    domain::{
        fault::{Fault, Reason},
        labels::Labels,
        life::{Issued, Lease, Lifetime, Predecessor},
        secret::{Fields, SecretValue, Version},
    },
    store::VersionKey,
};

/// Reads the answer of a path.
pub(super) fn issued(
    place: &VaultPath,
    envelope: Envelope,
    now: Timestamp,
    key: &VersionKey,
) -> Result<Issued, Fault> {
    let answer = (envelope.data, envelope.auth);
    let ((Some(Value::Object(data)), _) | (_, Some(Value::Object(data)))) = answer else {
        return Err(no_data());
    };
    match &place.engine {
        VaultEngine::KvV1 { .. } | VaultEngine::KvV2 { .. } => {
            let fields = fields(&place.fields, data)?;
            Ok(value(key.version(&fields), fields, Lifetime::Unbounded))
        }
        VaultEngine::Generic { .. } => {
            let ttl = Duration::from_secs(envelope.lease_duration);
            let lease = (!envelope.lease_id.is_empty())
                .then(|| Lease { id: envelope.lease_id.into(), renewable: envelope.renewable });
            generic(place, data, lease, ttl, now, key)
        }
    }
}

/// One version of a key-value secret, and the labels of all of them.
pub(super) struct Versioned {
    pub(super) number: u64,
    /// Absent when the version was deleted.
    data: Option<Map<String, Value>>,
    pub(super) labels: Labels,
}

impl Versioned {
    /// Reads the answer of a key-value engine of version 2.
    pub(super) fn read(envelope: Envelope) -> Result<Self, Fault> {
        let Some(Value::Object(mut answer)) = envelope.data else { return Err(no_data()) };
        let meta = answer.get("metadata");
        let number = meta.and_then(|meta| meta.get("version")).and_then(Value::as_u64);
        let number = number.ok_or_else(|| {
            Fault::new(
                Reason::Invalid,
                "the answer has no version: is the mount a KV engine of version 2?",
            )
        })?;
        let pairs = meta.and_then(|meta| meta.get("custom_metadata")).and_then(Value::as_object);
        let pairs = pairs.into_iter().flatten();
        let labels = Labels::from_pairs(pairs.filter_map(|(k, v)| Some((k.as_str(), v.as_str()?))));
        let data = match answer.remove("data") {
            Some(Value::Object(data)) => Some(data),
            _ => None,
        };
        Ok(Self { number, data, labels })
    }

    /// The wanted fields of this version.
    pub(super) fn fields(self, place: &VaultPath) -> Result<Arc<Fields>, Fault> {
        let Some(data) = self.data else {
            let detail = format!("version {} of the secret is deleted", self.number);
            return Err(Fault::new(Reason::NotFound, detail));
        };
        fields(&place.fields, data).map(Arc::new)
    }
}

fn no_data() -> Fault {
    Fault::new(Reason::Invalid, "Vault's answer has no data")
}

fn generic(
    place: &VaultPath,
    data: Map<String, Value>,
    lease: Option<Lease>,
    ttl: Duration,
    now: Timestamp,
    key: &VersionKey,
) -> Result<Issued, Fault> {
    let number = |key: &str| data.get(key).and_then(Value::as_u64);
    // In the order of what they promise: a lease can be revoked, a rotation is announced, an
    // expiry stands in a certificate.
    let (version, lifetime) = if let Some(lease) = lease {
        (Some(key.of_lease(&lease.id)), Lifetime::Leased { lease, ttl })
    } else if let (Some(Value::String(rotated)), Some(left)) =
        (data.get("last_vault_rotation"), number("ttl"))
    {
        (Some(Version(rotated.as_str().into())), Lifetime::Rotates(Duration::from_secs(left)))
    } else if let Some(expiration) = number("expiration") {
        let now = u64::try_from(now.as_second()).unwrap_or_default();
        (None, Lifetime::Ends(Duration::from_secs(expiration.saturating_sub(now))))
    } else if let Some(left) =
        number("lease_duration").or_else(|| number("ttl")).filter(|left| *left > 0)
    {
        (None, Lifetime::Ends(Duration::from_secs(left)))
    } else if !ttl.is_zero() {
        (None, Lifetime::Ends(ttl))
    } else {
        (None, Lifetime::Unbounded)
    };
    let fields = fields(&place.fields, data)?;
    Ok(value(version.unwrap_or_else(|| key.version(&fields)), fields, lifetime))
}

fn value(version: Version, fields: Fields, lifetime: Lifetime) -> Issued {
    Issued {
        fields: Arc::new(fields),
        version,
        lifetime,
        max_left: None,
        predecessor: Predecessor::Untold,
    }
}

/// Takes the wanted fields from the data, under our names; all of them when none is named.
fn fields(
    wanted: &BTreeMap<String, String>,
    mut data: Map<String, Value>,
) -> Result<Fields, Fault> {
    if wanted.is_empty() {
        return Ok(data.into_iter().map(|(key, value)| (key, text(value))).collect());
    }
    wanted
        .iter()
        .map(|(name, key)| match data.remove(key) {
            Some(value) => Ok((name.clone(), text(value))),
            None => Err(Fault::new(
                Reason::NotFound,
                format!("Vault's answer has no key {key:?}, which the field {name:?} is read from"),
            )),
        })
        .collect()
}

/// A string as it is; anything else as JSON.
fn text(value: Value) -> SecretValue {
    match value {
        Value::String(text) => SecretValue::new(text),
        other => SecretValue::new(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::VaultMethod;

    fn place(engine: VaultEngine) -> VaultPath {
        VaultPath { engine, fields: BTreeMap::new() }
    }

    fn generic_place() -> VaultPath {
        place(VaultEngine::Generic {
            path: "x/y".into(),
            method: VaultMethod::Get,
            parameters: BTreeMap::new(),
        })
    }

    fn answer(place: &VaultPath, json: Value) -> Result<Issued, Fault> {
        let envelope = serde_json::from_value(json).expect("an envelope");
        let key = VersionKey::generate().expect("randomness");
        issued(place, envelope, Timestamp::from_second(1000).expect("a time"), &key)
    }

    #[test]
    fn lifetimes_are_read_from_whatever_the_engine_tells() {
        let lease = Lease { id: "database/creds/app/1".into(), renewable: true };
        for (json, lifetime) in [
            (
                json!({"lease_id": "database/creds/app/1", "lease_duration": 3600, "renewable": true, "data": {"username": "u"}}),
                Lifetime::Leased { lease, ttl: Duration::from_hours(1) },
            ),
            (
                json!({"data": {"last_vault_rotation": "2026-01-01T00:00:00Z", "ttl": 90, "password": "p"}}),
                Lifetime::Rotates(Duration::from_secs(90)),
            ),
            (
                json!({"data": {"expiration": 1600, "certificate": "c"}}),
                Lifetime::Ends(Duration::from_mins(10)),
            ),
            (json!({"data": {"ttl": 30, "token": "t"}}), Lifetime::Ends(Duration::from_secs(30))),
            (
                json!({"auth": {"client_token": "t", "lease_duration": 60}, "data": null}),
                Lifetime::Ends(Duration::from_mins(1)),
            ),
            (json!({"data": {"code": "123456"}}), Lifetime::Unbounded),
        ] {
            let issued = answer(&generic_place(), json.clone()).expect("an issue");
            assert_eq!(issued.lifetime, lifetime, "{json}");
        }
    }

    #[test]
    fn a_kv_version_has_a_number_and_labels_and_a_deleted_one_is_not_found() {
        let read = |data: Value| Versioned::read(serde_json::from_value(data).expect("an answer"));
        let custom = json!({"current": "6", "at.staging": "7", "owner": "shop"});
        let meta = json!({"version": 7, "custom_metadata": custom});
        let data = json!({"data": {"data": {"a": 1, "b": "x"}, "metadata": meta}});
        let version = read(data).expect("a version");
        assert_eq!((version.number, version.labels.current), (7, Some(6)));
        let fields = version.fields(&generic_place()).expect("fields");
        assert_eq!(fields.field("a").map(SecretValue::expose), Some(b"1".as_slice()));
        let meta = json!({"version": 8, "custom_metadata": null});
        let deleted = read(json!({"data": {"data": null, "metadata": meta}})).expect("a version");
        assert!(deleted.labels.is_empty());
        let fault = deleted.fields(&generic_place()).expect_err("it is deleted");
        assert_eq!(fault.reason, Reason::NotFound);
        assert!(read(json!({"data": {"a": "of version 1"}})).is_err());
    }

    #[test]
    fn fields_are_renamed_and_a_missing_one_is_named() {
        let mut place = generic_place();
        place.fields = [("password".to_owned(), "pass".to_owned())].into();
        let issued =
            answer(&place, json!({"data": {"pass": "p", "other": "o"}})).expect("an issue");
        assert_eq!(issued.fields.iter().count(), 1);
        let missing = answer(&place, json!({"data": {"other": "hunter2"}})).expect_err("no key");
        assert!(missing.detail.contains("\"pass\"") && !missing.detail.contains("hunter2"));
    }
}
