//! One path of a key-value engine of version 2 that several processes write, with check-and-set.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use super::VaultStore;
use crate::domain::fault::{Fault, Reason};

/// A path, and the names of the calls that read and write it.
pub(super) struct Document {
    pub(super) store: Arc<VaultStore>,
    path: String,
    calls: (&'static str, &'static str),
}

impl Document {
    pub(super) fn new(
        store: &Arc<VaultStore>,
        path: String,
        calls: (&'static str, &'static str),
    ) -> Self {
        Self { store: Arc::clone(store), path, calls }
    }

    /// Its content and the version of it; `Null` and 0 where nothing was ever written.
    pub(super) async fn read(&self) -> Result<(Value, u64), Fault> {
        match self.store.request(self.calls.0, Method::GET, &self.path, &[], None).await {
            Ok(envelope) => {
                let mut data = envelope.data.unwrap_or_default();
                let version = data.pointer("/metadata/version").and_then(Value::as_u64);
                let version = version.ok_or_else(|| self.unreadable())?;
                Ok((data.get_mut("data").map(Value::take).unwrap_or_default(), version))
            }
            Err(fault) if fault.reason == Reason::NotFound => Ok((Value::Null, 0)),
            Err(fault) => Err(fault),
        }
    }

    /// Replaces the content if its version is still this one; returns the new version, or nothing if somebody else was
    /// faster.
    pub(super) async fn replace(&self, content: Value, version: u64) -> Result<Option<u64>, Fault> {
        let body = json!({ "options": { "cas": version }, "data": content });
        match self.store.request(self.calls.1, Method::POST, &self.path, &[], Some(body)).await {
            Ok(envelope) => {
                let version = envelope.data.as_ref().and_then(|data| data.get("version")?.as_u64());
                version.map(Some).ok_or_else(|| self.unreadable())
            }
            Err(fault) if fault.reason == Reason::Conflict => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Vault's answer, or what was written there, makes no sense.
    pub(super) fn unreadable(&self) -> Fault {
        Fault::new(Reason::Invalid, "what lies there can't be read").at(&self.path)
    }
}
