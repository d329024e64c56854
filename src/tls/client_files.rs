//! What the application's clients read: `ca.pem`, `client.pem` and `client.key` in one directory.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::TlsError;
use crate::files::forget;

/// The directory, and the permission bits of its files.
#[derive(Clone, Debug)]
pub struct ClientFiles {
    directory: PathBuf,
    mode: u32,
}

impl ClientFiles {
    /// Makes the directory, which opens to the group where the files' `mode` does.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn in_directory(directory: PathBuf, mode: u32) -> Result<Self, TlsError> {
        DirBuilder::new()
            .recursive(true)
            .mode(if mode & 0o040 == 0 { 0o700 } else { 0o750 })
            .create(&directory)
            .map_err(|error| file_error(&directory, &error))?;
        Ok(Self { directory, mode })
    }

    /// Replaces the three, once all of them are written aside. Readers take no pair that does not match.
    ///
    /// # Errors
    /// Which can't be written; what was there before stands then.
    pub fn write(&self, authorities: &str, chain: &str, key: &str) -> Result<(), TlsError> {
        let files = [("ca.pem", authorities), ("client.pem", chain), ("client.key", key)];
        for (name, pem) in files {
            let draft = self.draft(name);
            self.write_aside(&draft, pem).map_err(|error| file_error(&draft, &error))?;
        }
        // The key last: who finds it finds the certificate that belongs to it.
        for (name, _) in files {
            let path = self.directory.join(name);
            fs::rename(self.draft(name), &path).map_err(|error| file_error(&path, &error))?;
        }
        Ok(())
    }

    fn draft(&self, name: &str) -> PathBuf {
        self.directory.join(format!(".{name}.new"))
    }

    fn write_aside(&self, draft: &Path, pem: &str) -> io::Result<()> {
        forget(draft)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
        // Not at its creation, where the umask would take bits away.
        file.set_permissions(Permissions::from_mode(self.mode))?;
        file.write_all(pem.as_bytes())
    }
}

fn file_error(path: &Path, error: &io::Error) -> TlsError {
    TlsError::File { path: path.display().to_string(), what: error.to_string() }
}
