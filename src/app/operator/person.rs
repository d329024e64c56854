//! Who types: the identity that Vault knows, and the user of this machine.

use crate::{domain::fault::Fault, store::vault::VaultStore};

/// The name under which a person's requests are recorded and approved.
pub(super) async fn of(vault: &VaultStore) -> Result<String, Fault> {
    Ok(format!("{} ({})", vault.identity().await?, of_this_machine()))
}

/// The user of this machine, where nobody else vouches for a person.
pub(super) fn of_this_machine() -> String {
    format!("uid {}", rustix::process::getuid().as_raw())
}
