//! What a sidecar is part of, and the operator that tells it of rotations.

use std::{collections::BTreeMap, path::PathBuf};

use super::{Secret, SecretOrigin, VaultEngine, VaultPath};
use crate::domain::secret::SecretName;

/// What a sidecar is part of: the labels of a secret's versions say what it is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deployment {
    /// The environment, such as `production`.
    pub environment: Option<String>,
    /// The colour of a blue-green deployment, such as `green`.
    pub colour: Option<String>,
}

impl Deployment {
    /// Has these secrets read as this deployment is served them.
    pub(super) fn receives(&self, secrets: &mut BTreeMap<SecretName, Secret>) {
        for secret in secrets.values_mut() {
            if let SecretOrigin::Sealed { deployment, .. }
            | SecretOrigin::Vault(VaultPath {
                engine: VaultEngine::KvV2 { deployment, .. },
                ..
            }) = &mut secret.origin
            {
                deployment.clone_from(self);
            }
        }
    }
}

/// The operator that tells of rotations, and as whom it is called. Files are read anew at each
/// connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorFeed {
    /// Its address, `https://HOST:PORT`.
    pub address: String,
    /// The name that its certificate has to carry, if not the address's.
    pub server_name: Option<String>,
    /// The authorities of its certificate.
    pub ca: PathBuf,
    /// The certificate chain to show it, leaf first.
    pub cert: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
}
