//! The records of rotations for people: a Markdown and a JSON file each, and incident reports.
//!
//! A record holds who, why, each step with its time and evidence, and versions; never a value. A
//! file is replaced whole or not at all.

mod markdown;

use std::{
    io,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use serde_json::json;
use tokio::fs;

pub use markdown::markdown;

use crate::{
    domain::{
        fault::{Fault, Reason},
        rotation::Rotation,
    },
    rotation::ports::{Evidence, Records},
};

/// Records in a directory: `SECRET/ID.md` and `SECRET/ID.json`; those of emergencies are called
/// `SECRET/incident-ID`.
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// Records below this directory, which is made when it is missing.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Writes a further document about a rotation, such as a post-mortem. Returns its path.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn document(
        &self,
        rotation: &Rotation,
        kind: &str,
        text: &str,
    ) -> Result<PathBuf, Fault> {
        let path = self.folder(rotation).join(format!("{kind}-{}.md", rotation.id));
        replace(&path, text.as_bytes()).await.map_err(|error| unwritable(&path, &error))?;
        Ok(path)
    }

    fn folder(&self, rotation: &Rotation) -> PathBuf {
        // A name may have slashes, and dots that would lead elsewhere.
        self.root.join(rotation.secret.as_str().replace('/', "_").trim_start_matches('.'))
    }
}

#[async_trait]
impl Records for Directory {
    async fn write(&self, rotation: &Rotation, place: &str) -> Result<Evidence, Fault> {
        let name = if rotation.kind.is_emergency() {
            format!("incident-{}", rotation.id)
        } else {
            rotation.id.to_string()
        };
        let folder = self.folder(rotation);
        let text = markdown(rotation, place);
        let json = json!({ "place": place, "rotation": rotation });
        let json = serde_json::to_vec_pretty(&json)
            .map_err(|_| Fault::new(Reason::Failed, "the record can't be put into words"))?;
        for (ending, content) in [("json", json.as_slice()), ("md", text.as_bytes())] {
            let path = folder.join(format!("{name}.{ending}"));
            replace(&path, content).await.map_err(|error| unwritable(&path, &error))?;
        }
        Ok(format!("record written: {}", folder.join(format!("{name}.md")).display()))
    }
}

/// Records are in the journal alone.
#[async_trait]
impl Records for () {
    async fn write(&self, _: &Rotation, _: &str) -> Result<Evidence, Fault> {
        Ok("kept in the journal".to_owned())
    }
}

async fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).await?;
    let draft = path.with_extension("draft");
    fs::write(&draft, content).await?;
    fs::File::open(&draft).await?.sync_all().await?;
    fs::rename(&draft, path).await
}

fn unwritable(path: &Path, error: &io::Error) -> Fault {
    Fault::new(Reason::Unavailable, format!("{}: {}", path.display(), error.kind()))
}
