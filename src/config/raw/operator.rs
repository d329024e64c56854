//! The sections about what the sidecar is part of, and who rotates its secrets.

use super::{Deserialize, JsonSchema, PathBuf, Serialize};

/// What this sidecar is part of.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Deployment {
    /// The environment, such as `production`: 1 to 63 of the characters `A-Z a-z 0-9 _ -`.
    pub environment: Option<String>,
    /// The colour in a blue-green deployment, such as `green`; of the same form, and only beside `environment`.
    pub colour: Option<String>,
}

/// The operator that tells of rotations.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Operator {
    /// Its address, `https://HOST:PORT`.
    pub address: Option<String>,
    /// The name that its certificate has to carry, if not the address's.
    pub server_name: Option<String>,
    /// A directory of `ca.pem`, `client.pem` and `client.key`, in place of `ca`, `cert` and `key`.
    pub cert_dir: Option<PathBuf>,
    /// The authorities of its certificate. All three files are read again whenever one changes.
    pub ca: Option<PathBuf>,
    /// The certificate chain to show it, leaf first; its SPIFFE ID or DNS name is what the operator knows the sidecar by.
    pub cert: Option<PathBuf>,
    /// The certificate's key.
    pub key: Option<PathBuf>,
}
