//! The secrets as the configuration describes them: where each comes from and how it is kept.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::Credential;
use super::Deployment;
use crate::domain::life::Terms;

/// One secret of the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub struct Secret {
    /// The category, such as `database`.
    pub category: String,
    /// Where it comes from.
    pub origin: SecretOrigin,
    /// How it is kept.
    pub terms: Terms,
}

/// Where a secret comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum SecretOrigin {
    /// Vault.
    Vault(VaultPath),
    /// Keys of a `.env` file.
    Dotenv {
        /// The file.
        file: PathBuf,
        /// The key to read for each field of the secret.
        fields: BTreeMap<String, String>,
    },
    /// Files of a directory: Docker secrets or a mounted Kubernetes Secret.
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The file to read for each field of the secret.
        fields: BTreeMap<String, String>,
    },
    /// A place in an encrypted file.
    Sealed {
        /// The file.
        file: PathBuf,
        /// The age identity that opens it.
        key: Credential,
        /// The place.
        place: String,
        /// Whom its labels have to be for.
        deployment: Deployment,
    },
    /// Generated values with leases, for development.
    Memory {
        /// The fields and what is generated for each.
        fields: BTreeMap<String, Generator>,
        /// The lease's time; without a lease when absent.
        ttl: Option<Duration>,
        /// The most that renewals can carry it.
        max_ttl: Option<Duration>,
    },
}

/// What the memory store generates for a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Generator {
    /// This text.
    Literal(String),
    /// This prefix and a random suffix of this many characters.
    Random {
        /// The prefix.
        prefix: String,
        /// Random characters after it.
        length: usize,
    },
}

/// A place in Vault and how to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultPath {
    /// The engine, which says how the answer is read.
    pub engine: VaultEngine,
    /// Our field names and the keys of the answer's data they come from; all keys as they are when empty.
    pub fields: BTreeMap<String, String>,
}

/// How a path of Vault is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VaultEngine {
    /// A key-value engine of version 1.
    KvV1 {
        /// The mount.
        mount: String,
        /// The path below it.
        path: String,
    },
    /// A key-value engine of version 2.
    KvV2 {
        /// The mount.
        mount: String,
        /// The path below it.
        path: String,
        /// Whom its labels have to be for.
        deployment: Deployment,
    },
    /// Any other engine: the path is called and the lifetime read from the answer.
    Generic {
        /// The whole path, such as `database/creds/app`.
        path: String,
        /// The HTTP method.
        method: VaultMethod,
        /// Parameters: the query of a GET, the body of a POST.
        parameters: BTreeMap<String, String>,
    },
}

impl VaultPath {
    /// The path below Vault's `/v1/` that is called.
    pub fn api_path(&self) -> String {
        match &self.engine {
            VaultEngine::KvV1 { mount, path } => format!("{mount}/{path}"),
            VaultEngine::KvV2 { mount, path, .. } => format!("{mount}/data/{path}"),
            VaultEngine::Generic { path, .. } => path.clone(),
        }
    }
}

/// The method of a generic Vault call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VaultMethod {
    /// Read.
    Get,
    /// Write.
    Post,
}
