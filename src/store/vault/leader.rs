//! The lead among several operators: one path of Vault that names who holds it and until when,
//! written with check-and-set.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::VaultStore;
use crate::{
    domain::fault::{Fault, Reason},
    rotation::ports::Leadership,
};

/// A lock in Vault. Its holder's clock and those of the others may differ by less than a tenure.
pub struct VaultLock {
    store: Arc<VaultStore>,
    path: String,
    holder: String,
}

#[derive(Serialize, Deserialize)]
struct Held {
    holder: String,
    until: Timestamp,
}

impl VaultStore {
    /// A lock below a path of a key-value engine of version 2. `holder` differs for each process.
    pub fn lock(self: &Arc<Self>, mount: &str, path: &str, holder: String) -> VaultLock {
        VaultLock { store: Arc::clone(self), path: format!("{mount}/data/{path}/~leader"), holder }
    }
}

impl VaultLock {
    async fn read(&self) -> Result<(Option<Held>, u64), Fault> {
        match self.store.request("lock_read", Method::GET, &self.path, &[], None).await {
            Ok(envelope) => {
                let data = envelope.data.unwrap_or_default();
                let version = data.pointer("/metadata/version").and_then(serde_json::Value::as_u64);
                let held = data.get("data").cloned().unwrap_or_default();
                Ok((serde_json::from_value(held).ok(), version.unwrap_or(0)))
            }
            Err(fault) if fault.reason == Reason::NotFound => Ok((None, 0)),
            Err(fault) => Err(fault),
        }
    }

    /// Writes who holds it; `false` when somebody else was faster.
    async fn write(&self, until: Timestamp, version: u64) -> Result<bool, Fault> {
        let held = Held { holder: self.holder.clone(), until };
        let body = json!({ "options": { "cas": version }, "data": held });
        match self.store.request("lock_write", Method::POST, &self.path, &[], Some(body)).await {
            Ok(_) => Ok(true),
            Err(fault) if fault.reason == Reason::Conflict => Ok(false),
            Err(fault) => Err(fault),
        }
    }
}

#[async_trait]
impl Leadership for VaultLock {
    async fn hold(&self, tenure: Duration) -> Result<bool, Fault> {
        let (held, version) = self.read().await?;
        let now = self.store.clock.wall();
        if held.is_some_and(|held| held.holder != self.holder && now < held.until) {
            return Ok(false);
        }
        let tenure = SignedDuration::try_from(tenure).unwrap_or(SignedDuration::MAX);
        self.write(now.checked_add(tenure).unwrap_or(Timestamp::MAX), version).await
    }

    async fn release(&self) -> Result<(), Fault> {
        let (held, version) = self.read().await?;
        if held.is_some_and(|held| held.holder == self.holder) {
            self.write(Timestamp::UNIX_EPOCH, version).await?;
        }
        Ok(())
    }
}
