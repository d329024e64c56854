//! What holds the secrets, their labels and the journal: a Vault server or an encrypted file.

use std::sync::Arc;

use super::person;
use crate::{
    app::{
        StartError,
        stores::{Server, Surroundings},
    },
    config::operator::{self, BreakGlassTerms, KvPlace},
    domain::fault::Fault,
    rotation::ports::{BreakGlass, Journal, Leadership, Relay, Versions},
    store::sealed::SealedFile,
};

pub(super) enum Keeper {
    /// A server, and the place of the journal.
    Vault(Server, KvPlace),
    Sealed(Arc<SealedFile>),
}

impl Keeper {
    pub(super) fn new(
        settings: operator::Keeper,
        around: &Surroundings,
    ) -> Result<Self, StartError> {
        Ok(match settings {
            operator::Keeper::Vault { vault, journal } => {
                Self::Vault(Server::connect(*vault, around, 0)?, journal)
            }
            operator::Keeper::Sealed { file, key } => Self::Sealed(SealedFile::new(file, key)),
        })
    }

    pub(super) fn vault(&self) -> Option<&Server> {
        match self {
            Self::Vault(server, _) => Some(server),
            Self::Sealed(_) => None,
        }
    }

    pub(super) fn journal(&self) -> Arc<dyn Journal> {
        match self {
            Self::Vault(server, KvPlace { mount, path }) => {
                Arc::new(server.store.journal(mount, path))
            }
            Self::Sealed(file) => Arc::new(file.journal()),
        }
    }

    pub(super) fn versions(&self, KvPlace { mount, path }: KvPlace) -> Arc<dyn Versions> {
        match self {
            Self::Vault(server, _) => Arc::new(server.store.versions(&mount, &path)),
            Self::Sealed(file) => Arc::new(file.versions(path)),
        }
    }

    /// The lead of all that work on the same journal; `actor` differs for each process.
    pub(super) fn leadership(&self, actor: String) -> Arc<dyn Leadership> {
        match self {
            Self::Vault(server, KvPlace { mount, path }) => {
                Arc::new(server.store.lock(mount, path, actor))
            }
            Self::Sealed(file) => Arc::new(file.lead()),
        }
    }

    /// Word to the one that leads; none is needed where all read the same file.
    pub(super) fn relay(&self) -> Arc<dyn Relay> {
        match self {
            Self::Vault(server, KvPlace { mount, path }) => {
                Arc::new(server.store.relay(mount, path))
            }
            Self::Sealed(_) => Arc::new(()),
        }
    }

    pub(super) fn break_glass(&self, terms: &BreakGlassTerms) -> Option<Arc<dyn BreakGlass>> {
        let Self::Vault(server, _) = self else { return None };
        Some(Arc::new(server.store.break_glass(terms.token_role.as_deref())))
    }

    /// The name under which a person's requests are recorded and approved.
    pub(super) async fn person(&self) -> Result<String, Fault> {
        match self {
            Self::Vault(server, _) => person::of(&server.store).await,
            Self::Sealed(_) => Ok(person::of_this_machine()),
        }
    }
}
