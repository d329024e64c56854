//! Keys of a `.env` file.
//!
//! Invariants: the file is data, never put into a process environment and never mixed with one;
//! an error names the file, the line and the key, never what is written there; a key that is read
//! and set twice is an error, for readers of such files disagree on which one counts.

mod parse;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use rustix::fs::{Mode, open};

use super::{
    VersionKey,
    read::{OPEN, off_the_loop, unreadable, whole},
};
use crate::{
    broker::ports::Origin,
    domain::{
        fault::{Fault, Reason},
        life::{Issued, Lifetime, Predecessor},
        secret::{Fields, SecretValue},
    },
    files::FileWatch,
};

/// A secret whose fields are keys of one `.env` file.
pub struct Dotenv {
    place: Arc<Place>,
    key: Arc<VersionKey>,
    watch: FileWatch,
}

struct Place {
    file: PathBuf,
    /// The key of each field.
    keys: BTreeMap<String, String>,
}

impl Dotenv {
    /// The secret with these fields, each from the key of the file that it names.
    pub fn new(file: PathBuf, keys: BTreeMap<String, String>, key: Arc<VersionKey>) -> Self {
        let watch = FileWatch::new([file.clone()]);
        Self { place: Arc::new(Place { file, keys }), key, watch }
    }
}

#[async_trait]
impl Origin for Dotenv {
    async fn fetch(&self) -> Result<Issued, Fault> {
        let place = Arc::clone(&self.place);
        let fields = off_the_loop(move || place.read()).await?;
        Ok(Issued {
            version: self.key.version(&fields),
            fields: Arc::new(fields),
            lifetime: Lifetime::Unbounded,
            max_left: None,
            predecessor: Predecessor::Untold,
        })
    }

    async fn changed(&self) {
        self.watch.changed().await;
    }
}

impl Place {
    fn read(&self) -> Result<Fields, Fault> {
        let path = self.file.as_path();
        let file =
            open(path, OPEN, Mode::empty()).map_err(|error| unreadable(path, &error.into()))?;
        let content = whole(file, path)?;
        let entries = parse::entries(&content).map_err(|error| {
            let detail = format!("{}, line {}: {}", path.display(), error.line, error.what);
            Fault::new(Reason::Invalid, detail)
        })?;
        let field =
            |(field, key): (&String, &String)| Ok((field.clone(), pick(path, &entries, key)?));
        self.keys.iter().map(field).collect()
    }
}

fn pick(path: &Path, entries: &[parse::Entry<'_>], key: &str) -> Result<SecretValue, Fault> {
    let mut found = entries.iter().filter(|entry| entry.key == key.as_bytes());
    let Some(entry) = found.next() else {
        let detail = format!("{} has no key {key}", path.display());
        return Err(Fault::new(Reason::NotFound, detail));
    };
    if let Some(again) = found.next() {
        let (first, second) = (entry.line, again.line);
        let detail = format!("{} sets {key} twice, in lines {first} and {second}", path.display());
        return Err(Fault::new(Reason::Invalid, detail));
    }
    Ok(SecretValue::new(entry.value.as_slice()))
}
