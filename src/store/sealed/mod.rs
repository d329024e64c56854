//! Secrets in one encrypted file: for emergencies, and for machines without a secrets manager.
//!
//! The file holds versions and their labels, and the journal of their rotations. Invariants: it is
//! replaced whole; who writes holds its lock; plain text exists in memory that is wiped only.

mod content;
#[cfg(feature = "operator")]
mod written;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
};

use async_trait::async_trait;

use self::content::Content;
use super::read::off_the_loop;
use crate::{
    broker::ports::Origin,
    config::{Credential, Deployment},
    domain::{
        fault::{Fault, Reason},
        labels::Labels,
        life::{Issued, Lifetime, Predecessor},
        secret::{Fields, Version},
    },
    files::{FileWatch, replace},
    sealing::{Key, SealError, refuse_beside},
};

/// No file of secrets comes near it.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// One encrypted file of secrets. Its key is read anew at each access.
pub struct SealedFile {
    path: PathBuf,
    key: Credential,
}

impl SealedFile {
    /// The file at this path, which need not exist yet.
    pub fn new(path: PathBuf, key: Credential) -> Arc<Self> {
        Arc::new(Self { path, key })
    }

    fn key(&self) -> Result<Key, Fault> {
        let fault = |error: SealError| Fault::new(Reason::Invalid, error.what);
        if let Credential::File(key) = &self.key {
            refuse_beside(key, &self.path).map_err(fault)?;
        }
        Key::read(&self.key).map_err(fault)
    }

    fn load(&self, key: &Key) -> Result<Content, Fault> {
        let file = match fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::default()),
            Err(error) => return Err(self.failed("reading", &error)),
        };
        let mut sealed = Vec::new();
        file.take(MAX_BYTES)
            .read_to_end(&mut sealed)
            .map_err(|error| self.failed("reading", &error))?;
        let untrusted = || {
            let detail =
                format!("{} is torn, altered or sealed for another key", self.path.display());
            Fault::new(Reason::Invalid, detail)
        };
        let plain = key.open(&sealed).ok_or_else(untrusted)?;
        serde_json::from_slice(&plain).map_err(|_| untrusted())
    }

    /// Puts the first version of each secret into a new file; one that is there stays as it is.
    ///
    /// # Errors
    /// When the key can't be used or the file can't be written.
    pub fn begin(&self, secrets: &BTreeMap<&str, Fields>) -> Result<(), Fault> {
        if self.path.exists() {
            return Ok(());
        }
        let mut content = Content::default();
        for (place, fields) in secrets {
            content.secrets.entry((*place).to_owned()).or_default().put(1, fields);
        }
        self.save(&self.key()?, &content)
    }

    fn save(&self, key: &Key, content: &Content) -> Result<(), Fault> {
        key.seal(|plain| serde_json::to_writer(plain, content).map_err(Into::into))
            .and_then(|sealed| replace(&self.path, &sealed))
            .map_err(|error| self.failed("writing", &error))
    }

    fn failed(&self, doing: &str, error: &io::Error) -> Fault {
        let detail = format!("{doing} {}: {}", self.path.display(), error.kind());
        Fault::new(Reason::Unavailable, detail)
    }

    /// The secret at a place of the file, as a sidecar of this environment and colour sees it.
    pub fn origin(self: &Arc<Self>, place: String, deployment: Deployment) -> Sealed {
        let watch = FileWatch::new([self.path.clone()]);
        Sealed { file: Arc::clone(self), place: Arc::new(place), deployment, watch }
    }
}

/// A secret of an encrypted file.
pub struct Sealed {
    file: Arc<SealedFile>,
    place: Arc<String>,
    deployment: Deployment,
    watch: FileWatch,
}

#[async_trait]
impl Origin for Sealed {
    async fn fetch(&self) -> Result<Issued, Fault> {
        let (file, place) = (Arc::clone(&self.file), Arc::clone(&self.place));
        let Deployment { environment, colour } = self.deployment.clone();
        off_the_loop(move || {
            let content = file.load(&file.key()?)?;
            let missing = || {
                let detail = format!("{} holds no version of {place}", file.path.display());
                Fault::new(Reason::NotFound, detail)
            };
            let secret = content.secrets.get(place.as_str()).ok_or_else(missing)?;
            let labels = secret.labels();
            let version = match labels.served(environment.as_deref(), colour.as_deref()) {
                Some(version) => version,
                None if labels == Labels::default() => secret.latest(),
                None => return Err(missing()),
            };
            Ok(Issued {
                fields: Arc::new(secret.read(version).ok_or_else(missing)?),
                version: Version(version.to_string().into()),
                lifetime: Lifetime::Unbounded,
                max_left: None,
                predecessor: Predecessor::Untold,
            })
        })
        .await
    }

    async fn changed(&self) {
        self.watch.changed().await;
    }
}
