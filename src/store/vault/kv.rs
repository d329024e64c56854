//! The versions of one secret in a key-value engine of version 2, and their labels, which are the
//! path's custom metadata.
//!
//! Vault has no check-and-set for metadata: labels carry the epoch of the actor that moved them,
//! which is compared before each write and read back after it.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{Call, Doing, Envelope, Session, VaultStore};
use crate::{
    domain::{
        fault::{Fault, Reason},
        labels::Labels,
        secret::{Fields, SecretValue},
    },
    rotation::ports::Versions,
};

/// How often labels that were moved are read back before they count as not moved: a replica may
/// lag behind.
const READ_BACK: u32 = 5;
/// The wait between two of these reads.
const READ_BACK_WAIT: std::time::Duration = std::time::Duration::from_millis(200);

impl VaultStore {
    /// One call that is not about a lease, with a body of its own.
    pub(super) async fn request(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Envelope, Fault> {
        let doing = if method == Method::GET { Doing::Read } else { Doing::Write };
        let call = |session: Arc<Session>| {
            let (method, body) = (method.clone(), body.clone());
            async move {
                let call = Call { operation, method, path, query, body, doing };
                self.client.call(&session.token, call).await
            }
        };
        let located =
            |fault: Fault| if fault.reason.is_store_wide() { fault } else { fault.at(path) };
        let answer = self.with_session(std::time::Duration::ZERO, call).await;
        answer.map(|(envelope, _)| envelope).map_err(located)
    }

    /// The name that Vault knows the holder of our token by, such as `userpass-ann`.
    ///
    /// # Errors
    /// When Vault can't be asked.
    pub async fn identity(&self) -> Result<String, Fault> {
        let answer =
            self.request("token_lookup", Method::GET, "auth/token/lookup-self", &[], None).await?;
        let name = answer.data.as_ref().and_then(|data| data.get("display_name")?.as_str());
        Ok(name.unwrap_or("unnamed").to_owned())
    }

    /// The versions of a path of a key-value engine of version 2.
    pub fn versions(self: &Arc<Self>, mount: &str, path: &str) -> KvVersions {
        KvVersions {
            store: Arc::clone(self),
            data: format!("{mount}/data/{path}"),
            metadata: format!("{mount}/metadata/{path}"),
        }
    }
}

/// The versions of one secret.
pub struct KvVersions {
    store: Arc<VaultStore>,
    data: String,
    metadata: String,
}

/// Versions that Vault keeps unless told.
const KEPT: u64 = 10;

struct Metadata {
    current_version: u64,
    max_versions: u64,
    custom: BTreeMap<String, String>,
}

impl KvVersions {
    /// Has Vault keep every version that a label names when this one is written.
    async fn make_room(&self, version: u64) -> Result<(), Fault> {
        let metadata = self.metadata().await?;
        let Some(oldest) = metadata.labels().versions().min() else { return Ok(()) };
        let span = version.saturating_sub(oldest).saturating_add(1);
        let kept = if metadata.max_versions == 0 { KEPT } else { metadata.max_versions };
        if span <= kept {
            return Ok(());
        }
        let body = json!({ "max_versions": span.saturating_add(KEPT) });
        let written =
            self.store.request("kv_keep", Method::POST, &self.metadata, &[], Some(body)).await;
        written.map(drop)
    }

    /// What Vault knows of the path; nothing of one that does not exist yet.
    async fn metadata(&self) -> Result<Metadata, Fault> {
        let answer =
            self.store.request("kv_metadata", Method::GET, &self.metadata, &[], None).await;
        let data = match answer {
            Ok(envelope) => envelope.data.unwrap_or_default(),
            Err(fault) if fault.reason == Reason::NotFound => Value::Null,
            Err(fault) => return Err(fault),
        };
        let custom = data.get("custom_metadata").and_then(Value::as_object);
        let pairs = custom
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        Ok(Metadata {
            current_version: data.get("current_version").and_then(Value::as_u64).unwrap_or(0),
            max_versions: data.get("max_versions").and_then(Value::as_u64).unwrap_or(0),
            custom: pairs.collect(),
        })
    }
}

impl Metadata {
    fn labels(&self) -> Labels {
        Labels::from_pairs(self.custom.iter().map(|(key, value)| (key.as_str(), value.as_str())))
    }
}

#[async_trait]
impl Versions for KvVersions {
    fn place(&self) -> &str {
        &self.data
    }

    async fn latest(&self) -> Result<u64, Fault> {
        Ok(self.metadata().await?.current_version)
    }

    async fn read(&self, version: u64) -> Result<Arc<Fields>, Fault> {
        let version = version.to_string();
        let query = [("version", version.as_str())];
        let envelope = self.store.request("kv_read", Method::GET, &self.data, &query, None).await?;
        let Some(Value::Object(data)) =
            envelope.data.and_then(|mut data| data.get_mut("data").map(Value::take))
        else {
            let detail = format!("version {version} of {} is deleted", self.data);
            return Err(Fault::new(Reason::NotFound, detail));
        };
        Ok(Arc::new(fields(data)))
    }

    async fn append(&self, fields: &Fields, after: u64) -> Result<u64, Fault> {
        self.make_room(after.saturating_add(1)).await?;
        let data: Map<String, Value> = fields
            .iter()
            .map(|(name, value)| {
                (name.to_owned(), String::from_utf8_lossy(value.expose()).into_owned().into())
            })
            .collect();
        let body = json!({ "options": { "cas": after }, "data": data });
        let envelope =
            self.store.request("kv_write", Method::POST, &self.data, &[], Some(body)).await?;
        let version = envelope.data.as_ref().and_then(|data| data.get("version")?.as_u64());
        version.ok_or_else(|| Fault::new(Reason::Invalid, "Vault's answer has no version"))
    }

    async fn labels(&self) -> Result<Labels, Fault> {
        Ok(self.metadata().await?.labels())
    }

    async fn label(&self, labels: &Labels) -> Result<(), Fault> {
        let metadata = self.metadata().await?;
        if metadata.labels().epoch > labels.epoch {
            let detail = format!("somebody else moved the labels of {} meanwhile", self.data);
            return Err(Fault::new(Reason::Conflict, detail));
        }
        let mut custom = metadata.custom;
        custom.retain(|key, _| !Labels::is_label(key));
        custom.extend(labels.to_pairs());
        let body = json!({ "custom_metadata": custom });
        self.store.request("kv_label", Method::POST, &self.metadata, &[], Some(body)).await?;
        for _ in 0..READ_BACK {
            if self.labels().await? == *labels {
                return Ok(());
            }
            tokio::time::sleep(READ_BACK_WAIT).await;
        }
        let detail = format!("the labels of {} are not what was written", self.data);
        Err(Fault::new(Reason::Conflict, detail))
    }
}

/// Texts as they are, anything else as JSON.
fn fields(data: Map<String, Value>) -> Fields {
    data.into_iter()
        .map(|(name, value)| match value {
            Value::String(text) => (name, SecretValue::new(text)),
            other => (name, SecretValue::new(other.to_string())),
        })
        .collect()
}
