//! What the application's clients read: `ca.pem`, `client.pem` and `client.key` in one directory.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::TlsError;

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

    /// Replaces the three, each whole or not at all. Readers take no pair that does not match.
    ///
    /// # Errors
    /// Which can't be written.
    pub fn write(&self, authorities: &str, chain: &str, key: &str) -> Result<(), TlsError> {
        // The key last: who finds it finds the certificate that belongs to it.
        for (name, pem) in [("ca.pem", authorities), ("client.pem", chain), ("client.key", key)] {
            let path = self.directory.join(name);
            self.replace(&path, name, pem.as_bytes()).map_err(|error| file_error(&path, &error))?;
        }
        Ok(())
    }

    fn replace(&self, path: &Path, name: &str, content: &[u8]) -> io::Result<()> {
        let fresh = self.directory.join(format!(".{name}.new"));
        let _ = fs::remove_file(&fresh);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        // Not at its creation, where the umask would take bits away.
        file.set_permissions(Permissions::from_mode(self.mode))?;
        file.write_all(content)?;
        fs::rename(&fresh, path)
    }
}

fn file_error(path: &Path, error: &io::Error) -> TlsError {
    TlsError::File { path: path.display().to_string(), what: error.to_string() }
}
