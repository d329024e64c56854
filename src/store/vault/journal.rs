//! The journal of rotations: one path of a key-value engine of version 2 a secret, written with
//! check-and-set. It holds no value.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};

use super::VaultStore;
use crate::{
    domain::{
        fault::{Fault, Reason},
        secret::SecretName,
    },
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

#[async_trait]
impl Journal for VaultJournal {
    async fn load(&self, secret: &SecretName) -> Result<(Book, Stamp), Fault> {
        let path = format!("{}/{secret}", self.prefix);
        let envelope = match self.store.request("journal_read", Method::GET, &path, &[], None).await
        {
            Ok(envelope) => envelope,
            Err(fault) if fault.reason == Reason::NotFound => {
                return Ok((Book::default(), Stamp(0)));
            }
            Err(fault) => return Err(fault),
        };
        let unreadable = || Fault::new(Reason::Invalid, "the journal can't be read").at(&path);
        let mut data = envelope.data.ok_or_else(unreadable)?;
        let stamp = data.pointer("/metadata/version").and_then(Value::as_u64);
        let book = data.pointer_mut("/data/book").map(Value::take).ok_or_else(unreadable)?;
        let book = serde_json::from_value(book).map_err(|_| unreadable())?;
        Ok((book, Stamp(stamp.ok_or_else(unreadable)?)))
    }

    async fn save(
        &self,
        secret: &SecretName,
        book: &Book,
        stamp: Stamp,
    ) -> Result<Stamp, SaveError> {
        let path = format!("{}/{secret}", self.prefix);
        let body = json!({ "options": { "cas": stamp.0 }, "data": { "book": book } });
        match self.store.request("journal_write", Method::POST, &path, &[], Some(body)).await {
            Ok(envelope) => {
                let version = envelope.data.as_ref().and_then(|data| data.get("version")?.as_u64());
                let missing = || Fault::new(Reason::Invalid, "Vault's answer has no version");
                Ok(Stamp(version.ok_or_else(missing)?))
            }
            Err(fault) if fault.reason == Reason::Conflict => Err(SaveError::Conflict),
            Err(fault) => Err(fault.into()),
        }
    }
}
