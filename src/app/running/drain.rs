//! The end of a broker: calls drain, leases and token are revoked or kept.

use std::time::Duration;

use tokio::time::timeout;

use super::Running;

/// The longest time for revoking leases and the token.
const REVOKE_TIME: Duration = Duration::from_secs(10);

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
        self.broker.stop(self.revoke_on_exit).await;
        self.revoke().await;
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

    /// Waits until the keepers revoked what they should, then revokes the token. A state that holds nothing live any more
    /// goes too: the next start would serve from it what was revoked.
    async fn revoke(self) {
        let vault = self.vault.load_full().filter(|_| self.revoke_on_exit);
        let revoke = async {
            let _ = self.keepers.await;
            match vault {
                Some(vault) => vault.store.close().await,
                None => Ok(()),
            }
        };
        match timeout(REVOKE_TIME.max(self.fixed.server.drain), revoke).await {
            Err(_) => {
                tracing::warn!("not all leases could be revoked in time; they end by themselves");
            }
            Ok(Err(fault)) => {
                tracing::warn!(%fault, "the token could not be revoked; it ends by itself");
            }
            Ok(Ok(())) => {
                if let Some((saving, _)) = self.saving.filter(|_| self.revoke_on_exit)
                    && let Err(error) = saving.forget().await
                {
                    tracing::error!(%error, "the state could not be removed");
                }
            }
        }
    }
}
