//! The operator's side of an encrypted file: versions, labels, the journal, and the lead.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{Content, SealedFile, off_the_loop};
use crate::{
    domain::{
        fault::{Fault, Reason},
        labels::Labels,
        secret::{Fields, SecretName},
    },
    files::beside,
    rotation::ports::{Book, Journal, Leadership, SaveError, Stamp, Versions},
};

/// Versions that are kept of a secret.
const MAX_VERSIONS: u64 = 10;

impl SealedFile {
    /// Changes the file under its lock.
    fn change<T>(&self, change: impl FnOnce(&mut Content) -> Result<T, Fault>) -> Result<T, Fault> {
        let lock = self.lock(".lock")?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| self.failed("locking", &error.into()))?;
        let key = self.key()?;
        let mut content = self.load(&key)?;
        let result = change(&mut content)?;
        self.save(&key, &content)?;
        Ok(result)
    }

    fn lock(&self, suffix: &str) -> Result<fs::File, Fault> {
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(beside(&self.path, suffix))
            .map_err(|error| self.failed("locking", &error))
    }

    /// The journal of the rotations of its secrets.
    pub fn journal(self: &Arc<Self>) -> SealedJournal {
        SealedJournal(Arc::clone(self))
    }

    /// The lead among the operators that work on it.
    pub fn lead(self: &Arc<Self>) -> SealedLead {
        SealedLead { file: Arc::clone(self), held: Mutex::default() }
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
}

/// The journal in an encrypted file.
pub struct SealedJournal(Arc<SealedFile>);

#[async_trait]
impl Journal for SealedJournal {
    async fn load(&self, secret: &SecretName) -> Result<(Book, Stamp), Fault> {
        let (file, secret) = (Arc::clone(&self.0), secret.clone());
        off_the_loop(move || {
            let content = file.load(&file.key()?)?;
            let Some((text, stamp)) = content.books.get(secret.as_str()) else {
                return Ok((Book::default(), Stamp(0)));
            };
            let book = serde_json::from_str(text)
                .map_err(|_| Fault::new(Reason::Invalid, "the journal can't be read"))?;
            Ok((book, Stamp(*stamp)))
        })
        .await
    }

    async fn save(
        &self,
        secret: &SecretName,
        book: &Book,
        stamp: Stamp,
    ) -> Result<Stamp, SaveError> {
        let text = serde_json::to_string(book)
            .map_err(|_| Fault::new(Reason::Failed, "the journal can't be written"))?;
        let (file, secret) = (Arc::clone(&self.0), secret.as_str().to_owned());
        let saved = off_the_loop(move || {
            file.change(|content| {
                let held = content.books.entry(secret).or_default();
                if held.1 != stamp.0 {
                    return Err(Fault::new(Reason::Conflict, "somebody else wrote it meanwhile"));
                }
                *held = (text, stamp.0 + 1);
                Ok(Stamp(stamp.0 + 1))
            })
        });
        saved.await.map_err(|fault| match fault.reason {
            Reason::Conflict => SaveError::Conflict,
            _ => SaveError::Fault(fault),
        })
    }
}

/// The lead among the operators of one machine: a lock that its holder's end gives back.
pub struct SealedLead {
    file: Arc<SealedFile>,
    held: Mutex<Option<fs::File>>,
}

#[async_trait]
impl Leadership for SealedLead {
    async fn hold(&self, _: Duration) -> Result<bool, Fault> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            let lock = self.file.lock(".leader")?;
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => *held = Some(lock),
                Err(Errno::WOULDBLOCK) => {}
                Err(error) => return Err(self.file.failed("locking", &error.into())),
            }
        }
        Ok(held.is_some())
    }

    async fn release(&self) -> Result<(), Fault> {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}
