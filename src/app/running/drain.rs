//! The end of a broker: calls drain, leases and token are revoked or kept.

use std::time::Duration;

use tokio::time::timeout;

use super::Running;
use crate::domain::fault::{Fault, Reason};

/// The longest time for revoking leases.
const REVOKE_TIME: Duration = Duration::from_secs(10);
/// The longest time for revoking the token, which takes with it what is left of its leases.
const TOKEN_TIME: Duration = Duration::from_secs(5);

impl Running {
    pub(super) async fn drain(mut self) {
        tracing::info!("stopping");
        let _stopping = self.readiness.block("stopping", "");
        self.broker.end_watches();
        self.doors.close().await;
        if let Err(error) = self.audit.flush() {
            tracing::error!(%error, "the last audit records are lost");
        }
        self.save().await;
        let revoked = self.revoked();
        self.broker.stop(self.revoke_on_exit).await;
        self.revoke(revoked).await;
        tracing::info!("stopped");
    }

    /// Saves for the last time: what is revoked from now on is not worth saving.
    async fn save(&self) {
        let Some((saving, task)) = &self.saving else { return };
        task.abort();
        let vault = self.vault.load_full();
        if let Err(error) = saving.save(&self.broker, vault.as_ref().map(|v| &*v.store)).await {
            tracing::error!(%error, "the state could not be saved; the one before stands");
        }
    }

    /// How many leases were revoked so far.
    fn revoked(&self) -> u64 {
        self.vault.load().as_ref().map_or(0, |vault| vault.store.revoked())
    }

    /// Waits until the keepers revoked what they should, then revokes the token. The state goes too, as the next start would
    /// serve from it what was revoked, unless nothing was: then it is true, and the next start takes the leases over.
    async fn revoke(mut self, revoked_before: u64) {
        let time = REVOKE_TIME.max(self.fixed.server.drain);
        let leases = timeout(time, &mut self.keepers).await;
        self.keepers.abort();
        if !self.revoke_on_exit {
            return;
        }
        let token = async {
            match self.vault.load_full() {
                Some(vault) => vault.store.close().await,
                None => Ok(false),
            }
        };
        let late = |_| Err(Fault::new(Reason::Timeout, "Vault does not answer"));
        let token = timeout(TOKEN_TIME, token).await.unwrap_or_else(late);
        if let Err(fault) = &token {
            tracing::warn!(%fault, "the token could not be revoked; it ends by itself");
        }
        if !matches!(leases, Ok(Ok(true))) {
            if token == Ok(true) {
                tracing::warn!("not all leases could be revoked; they end with the token");
            } else if self.revoked() > revoked_before {
                tracing::warn!("not all leases could be revoked; the others end by themselves");
            } else {
                tracing::warn!(
                    "no lease could be revoked; the state is kept, and they end by themselves"
                );
                return;
            }
        }
        if let Some((saving, _)) = self.saving
            && let Err(error) = saving.forget().await
        {
            tracing::error!(%error, "the state could not be removed");
        }
    }
}
