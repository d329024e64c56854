//! The journal of rotations: one path of a key-value engine of version 2 a secret, written with
//! check-and-set. It holds no value.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{VaultStore, document::Document};
use crate::{
    domain::{fault::Fault, secret::SecretName},
    rotation::ports::{Book, Journal, SaveError, Stamp},
};

/// The journal below one path.
pub struct VaultJournal {
    store: Arc<VaultStore>,
    prefix: String,
}

impl VaultStore {
    /// The journal below a path of a key-value engine of version 2.
    pub fn journal(self: &Arc<Self>, mount: &str, path: &str) -> VaultJournal {
        VaultJournal { store: Arc::clone(self), prefix: format!("{mount}/data/{path}") }
    }
}

impl VaultJournal {
    fn page(&self, secret: &SecretName) -> Document {
        let path = format!("{}/{secret}", self.prefix);
        Document::new(&self.store, path, ("journal_read", "journal_write"))
    }
}

#[async_trait]
impl Journal for VaultJournal {
    async fn load(&self, secret: &SecretName) -> Result<(Book, Stamp), Fault> {
        let page = self.page(secret);
        let (mut content, version) = page.read().await?;
        if version == 0 {
            return Ok((Book::default(), Stamp(0)));
        }
        let book = content.get_mut("book").map(Value::take).unwrap_or_default();
        let book = serde_json::from_value(book).map_err(|_| page.unreadable())?;
        Ok((book, Stamp(version)))
    }

    async fn save(
        &self,
        secret: &SecretName,
        book: &Book,
        stamp: Stamp,
    ) -> Result<Stamp, SaveError> {
        let saved = self.page(secret).replace(json!({ "book": book }), stamp.0).await?;
        saved.map(Stamp).ok_or(SaveError::Conflict)
    }
}
