//! Word between operators: one path of Vault that names the places where something moved lately,
//! written with check-and-set.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{VaultStore, document::Document};
use crate::{
    domain::fault::{Fault, Reason},
    rotation::ports::Relay,
};

/// How often a post is tried while others post.
const ATTEMPTS: usize = 5;
/// How long a word stands: longer than any leader takes to hear of it.
const STANDS: SignedDuration = SignedDuration::from_mins(10);

/// A path of Vault that carries word.
pub struct VaultRelay {
    page: Document,
}

/// By place.
#[derive(Default, Serialize, Deserialize)]
struct Words(BTreeMap<String, Word>);

#[derive(Serialize, Deserialize)]
struct Word {
    at: Timestamp,
    /// The version of the path by which it was posted.
    version: u64,
}

impl VaultStore {
    /// Word between operators below a path of a key-value engine of version 2.
    pub fn relay(self: &Arc<Self>, mount: &str, path: &str) -> VaultRelay {
        let path = format!("{mount}/data/{path}/~words");
        VaultRelay { page: Document::new(self, path, ("relay_read", "relay_write")) }
    }
}

impl VaultRelay {
    async fn read(&self) -> Result<(Words, u64), Fault> {
        let (mut content, version) = self.page.read().await?;
        let words = content.get_mut("words").map(Value::take).unwrap_or_default();
        Ok((serde_json::from_value(words).unwrap_or_default(), version))
    }
}

#[async_trait]
impl Relay for VaultRelay {
    async fn post(&self, place: &str) -> Result<(), Fault> {
        for _ in 0..ATTEMPTS {
            let (Words(mut words), version) = self.read().await?;
            let at = self.page.store.clock.wall();
            words.retain(|_, word| at.duration_since(word.at) < STANDS);
            words.insert(place.to_owned(), Word { at, version: version + 1 });
            if self.page.replace(json!({ "words": words }), version).await?.is_some() {
                return Ok(());
            }
        }
        Err(Fault::new(Reason::Conflict, "others post all the time"))
    }

    async fn posted(&self, seen: u64) -> Result<(Vec<String>, u64), Fault> {
        let (Words(words), version) = self.read().await?;
        let new = words.into_iter().filter(|(_, word)| word.version > seen);
        Ok((new.map(|(place, _)| place).collect(), version))
    }
}
