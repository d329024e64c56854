//! Who types: the identity that Vault knows, and the user of this machine.

use crate::{domain::fault::Fault, store::vault::VaultStore};

/// The name under which a person's requests are recorded and approved.
pub(super) async fn of(vault: &VaultStore) -> Result<String, Fault> {
    let name = vault.identity().await?;
    Ok(format!("{name} (uid {})", rustix::process::getuid().as_raw()))
}
