//! The lead among several operators: one path of Vault that names who holds it and until when,
//! written with check-and-set.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;

use super::{VaultStore, document::Document};
use crate::{domain::fault::Fault, rotation::ports::Leadership};

/// A lock in Vault. Its holder's clock and those of the others may differ by less than a tenure.
pub struct VaultLock {
    page: Document,
    holder: String,
}

#[derive(Deserialize)]
struct Held {
    holder: String,
    until: Timestamp,
}

impl VaultStore {
    /// A lock below a path of a key-value engine of version 2. `holder` differs for each process.
    pub fn lock(self: &Arc<Self>, mount: &str, path: &str, holder: String) -> VaultLock {
        let path = format!("{mount}/data/{path}/~leader");
        VaultLock { page: Document::new(self, path, ("lock_read", "lock_write")), holder }
    }
}

impl VaultLock {
    async fn read(&self) -> Result<(Option<Held>, u64), Fault> {
        let (content, version) = self.page.read().await?;
        Ok((serde_json::from_value(content).ok(), version))
    }

    /// Writes who holds it; `false` when somebody else was faster.
    async fn write(&self, until: Timestamp, version: u64) -> Result<bool, Fault> {
        let held = json!({ "holder": self.holder, "until": until });
        Ok(self.page.replace(held, version).await?.is_some())
    }
}

#[async_trait]
impl Leadership for VaultLock {
    async fn hold(&self, tenure: Duration) -> Result<bool, Fault> {
        let (held, version) = self.read().await?;
        let now = self.page.store.clock.wall();
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
