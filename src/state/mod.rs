//! The encrypted local state: one age file.
//!
//! Invariants: the file is whole or it is the one before; what does not decrypt under our key is
//! set aside and never read again; the key does not lie beside the file; plain text exists in
//! memory that is wiped only.

mod record;
mod write;

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    broker::{
        ports::Clock,
        state::{Distrust, Loaded, Rejected, SavedState, StateError, StateStore},
    },
    config::{self, Credential},
    files,
    sealing::{self, Key, SealError},
};

/// No state comes near it: 1,000 secrets take less than a megabyte.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The state in an encrypted file.
pub struct StateFile {
    file: Arc<File>,
    clock: Arc<dyn Clock>,
    begun: AtomicU64,
}

struct File {
    path: PathBuf,
    key: Key,
    /// The number of the save that the file holds, or of its removal.
    written: Mutex<u64>,
}

impl StateFile {
    /// Takes the key, which is made if the settings say so and it is missing; the file is not touched.
    ///
    /// # Errors
    /// When the key can't be read or made, is not an age identity, or lies beside the file.
    pub fn open(settings: &config::StateFile, clock: Arc<dyn Clock>) -> Result<Self, StateError> {
        let path = std::path::absolute(&settings.path)
            .map_err(|error| failed("resolving", &settings.path, &error))?;
        if let Credential::File(key) = &settings.key {
            if settings.generate_key {
                make_key(key)?;
            }
            sealing::refuse_beside(key, &path)?;
        }
        let key = Key::read(&settings.key)?;
        let file = Arc::new(File { path, key, written: Mutex::default() });
        Ok(Self { file, clock, begun: AtomicU64::new(0) })
    }
}

#[async_trait]
impl StateStore for StateFile {
    async fn load(&self) -> Result<Loaded, StateError> {
        let file = Arc::clone(&self.file);
        let wall = self.clock.wall();
        off_the_loop(move || file.load(wall)).await
    }

    async fn save(&self, state: SavedState) -> Result<(), StateError> {
        let file = Arc::clone(&self.file);
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        off_the_loop(move || file.save(number, &state)).await
    }

    async fn forget(&self) -> Result<(), StateError> {
        let file = Arc::clone(&self.file);
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        off_the_loop(move || file.forget(number)).await
    }
}

impl File {
    fn load(&self, wall: Timestamp) -> Result<Loaded, StateError> {
        let _whole = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let error = |error: &io::Error| failed("reading", &self.path, error);
        let file = match fs::File::open(&self.path) {
            Ok(file) => file,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                return Ok(Loaded::Nothing);
            }
            Err(other) => return Err(error(&other)),
        };
        let mut sealed = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut sealed).map_err(|e| error(&e))?;
        let opened = if sealed.len() as u64 > MAX_BYTES {
            Err(Distrust::TooLarge)
        } else {
            let plain = self.key.open(&sealed).ok_or(Distrust::Sealed);
            plain.and_then(|plain| record::decode(&plain))
        };
        Ok(match opened {
            Ok(state) => Loaded::State(state),
            Err(reason) => {
                let set_aside = write::set_aside(&self.path, wall);
                Loaded::Rejected(Rejected { reason, set_aside })
            }
        })
    }

    /// Writes, unless a save that was begun later was there first.
    fn save(&self, number: u64, state: &SavedState) -> Result<(), StateError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written > number {
            return Ok(());
        }
        let error = |error: io::Error| failed("writing", &self.path, &error);
        let sealed = self.key.seal(|plain| record::encode(state, plain)).map_err(error)?;
        files::replace(&self.path, &sealed).map_err(error)?;
        *written = number;
        Ok(())
    }

    fn forget(&self, number: u64) -> Result<(), StateError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        files::forget(&self.path).map_err(|error| failed("removing", &self.path, &error))?;
        *written = number.max(*written);
        Ok(())
    }
}

impl From<SealError> for StateError {
    fn from(error: SealError) -> Self {
        Self { what: error.what }
    }
}

/// Puts a new key where there is none, for its owner alone. One that is there stays, whatever it holds.
fn make_key(path: &Path) -> Result<(), StateError> {
    let error = |error| failed("making the key", path, &error);
    if path.try_exists().map_err(error)? {
        return Ok(());
    }
    files::replace(path, sealing::generate_key().expose()).map_err(error)
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> StateError {
    StateError { what: format!("{doing} {}: {}", path.display(), error.kind()) }
}

async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
) -> Result<T, StateError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        Err(StateError { what: "the work on the state file was cut short".to_owned() })
    })
}

#[cfg(test)]
mod tests;
