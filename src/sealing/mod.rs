//! Encrypted files: age, one key that does not lie beside them.

mod key;
mod seal;

use std::{io, path::Path};

use age::x25519::Identity;

pub use key::{generate_key, refuse_beside};

/// A key that seals and opens files.
pub struct Key(Identity);

/// Why a sealed file or its key can't be used. Holds paths and kinds of errors, never content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct SealError {
    /// What failed, at which path, and what would be accepted.
    pub what: String,
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> SealError {
    SealError { what: format!("{doing} {}: {}", path.display(), error.kind()) }
}
