//! The operator's side of an encrypted file: versions, labels, the journal, and the lead.

use std::{fs, sync::Arc, time::Duration};

use async_trait::async_trait;
use rustix::fs::{FlockOperation, flock};

use super::{Content, SealedFile, off_the_loop};
use crate::{
    domain::{
        fault::{Fault, Reason},
        labels::Labels,
        secret::{Fields, SecretName},
    },
    rotation::ports::{Book, Journal, Leadership, SaveError, Stamp, Versions},
    sealing::{beside, replace},
};

/// Versions that are kept of a secret.
const MAX_VERSIONS: u64 = 10;

impl SealedFile {
    /// Changes the file under its lock.
    fn change<T>(&self, change: impl FnOnce(&mut Content) -> Result<T, Fault>) -> Result<T, Fault> {
        let lock = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(beside(&self.path, ".lock"))
            .map_err(|error| self.failed("locking", &error))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| self.failed("locking", &error.into()))?;
        let key = self.key()?;
        let mut content = self.load(&key)?;
        let result = change(&mut content)?;
        let written = key
            .seal(|plain| serde_json::to_writer(plain, &content).map_err(Into::into))
            .and_then(|sealed| replace(&self.path, &sealed));
        written.map_err(|error| self.failed("writing", &error))?;
        Ok(result)
    }

    /// The versions of a place of the file.
    pub fn versions(self: &Arc<Self>, place: String) -> SealedVersions {
        SealedVersions { file: Arc::clone(self), place }
    }
}

/// The versions of one secret of an encrypted file.
pub struct SealedVersions {
    file: Arc<SealedFile>,
    place: String,
}

impl SealedVersions {
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&super::content::Kept) -> Option<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let (file, place) = (Arc::clone(&self.file), self.place.clone());
        off_the_loop(move || {
            let content = file.load(&file.key()?)?;
            let nothing = super::content::Kept::default();
            look(content.secrets.get(&place).unwrap_or(&nothing)).ok_or_else(|| {
                Fault::new(Reason::NotFound, format!("there is no such version of {place}"))
            })
        })
        .await
    }

    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut super::content::Kept) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let (file, place) = (Arc::clone(&self.file), self.place.clone());
        off_the_loop(move || {
            file.change(|content| change(content.secrets.entry(place).or_default()))
        })
        .await
    }
}

#[async_trait]
impl Versions for SealedVersions {
    fn place(&self) -> &str {
        &self.place
    }

    async fn latest(&self) -> Result<u64, Fault> {
        self.look(|kept| Some(kept.latest())).await
    }

    async fn read(&self, version: u64) -> Result<Arc<Fields>, Fault> {
        self.look(move |kept| kept.read(version).map(Arc::new)).await
    }

    async fn append(&self, fields: &Fields, after: u64) -> Result<u64, Fault> {
        let mut copy = super::content::Kept::default();
        copy.put(after + 1, fields);
        self.change(move |kept| {
            if kept.latest() != after {
                return Err(Fault::new(Reason::Conflict, "another version is the latest"));
            }
            kept.take(copy, (after + 1).saturating_sub(MAX_VERSIONS));
            Ok(after + 1)
        })
        .await
    }

    async fn labels(&self) -> Result<Labels, Fault> {
        self.look(|kept| Some(kept.labels())).await
    }

    async fn label(&self, labels: &Labels) -> Result<(), Fault> {
        let labels = labels.clone();
        self.change(move |kept| {
            if kept.labels().epoch > labels.epoch {
                return Err(Fault::new(Reason::Conflict, "somebody else moved the labels"));
            }
            kept.relabel(&labels);
            Ok(())
        })
        .await
    }

    async fn destroy(&self, version: u64) -> Result<(), Fault> {
        self.change(move |kept| {
            kept.destroy(version);
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Journal for SealedFile {
    async fn load(&self, secret: &SecretName) -> Result<(Book, Stamp), Fault> {
        let content = Self::load(self, &self.key()?)?;
        let Some((text, stamp)) = content.books.get(secret.as_str()) else {
            return Ok((Book::default(), Stamp(0)));
        };
        let book = serde_json::from_str(text)
            .map_err(|_| Fault::new(Reason::Invalid, "the journal can't be read"))?;
        Ok((book, Stamp(*stamp)))
    }

    async fn save(
        &self,
        secret: &SecretName,
        book: &Book,
        stamp: Stamp,
    ) -> Result<Stamp, SaveError> {
        let text = serde_json::to_string(book)
            .map_err(|_| Fault::new(Reason::Failed, "the journal can't be written"))?;
        let saved = self.change(|content| {
            let held = content.books.entry(secret.as_str().to_owned()).or_default();
            if held.1 != stamp.0 {
                return Err(Fault::new(Reason::Conflict, "somebody else wrote it meanwhile"));
            }
            *held = (text, stamp.0 + 1);
            Ok(Stamp(stamp.0 + 1))
        });
        saved.map_err(|fault| match fault.reason {
            Reason::Conflict => SaveError::Conflict,
            _ => SaveError::Fault(fault),
        })
    }
}

/// Whoever works on a file of this machine leads; claims keep two of them apart.
#[async_trait]
impl Leadership for SealedFile {
    async fn hold(&self, _: Duration) -> Result<bool, Fault> {
        Ok(true)
    }

    async fn release(&self) -> Result<(), Fault> {
        Ok(())
    }
}
