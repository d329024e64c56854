//! The private directory in which `exec` puts secrets as files.
//!
//! It lies in memory unless told otherwise, only its owner can enter it, and it is removed when dropped. A reader
//! sees a file's old or new content, never half of one.

use std::{
    env, fs,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::super::{
    Failure,
    failure::{OTHER, USAGE},
    render::file,
};

const IN_MEMORY: &str = "/dev/shm";

/// A directory of files that hold secrets.
pub(super) struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    /// Makes one in this directory, or where files stay in memory.
    pub(super) fn make(parent: Option<&Path>) -> Result<Self, Failure> {
        let parent = parent.map(Path::to_owned).or_else(in_memory).ok_or_else(|| {
            let problem =
                "neither XDG_RUNTIME_DIR nor /dev/shm is there; name a directory with --files-in";
            Failure::new(USAGE, problem)
        })?;
        let unique = RandomState::new().build_hasher().finish();
        let path = parent.join(format!("secret-broker-{unique:016x}"));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) => Err(Failure::new(OTHER, format!("{}: {error}", path.display()))),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, or replaces it as a whole.
    pub(super) fn put(&self, name: &str, content: &[u8]) -> Result<(), Failure> {
        let path = self.0.join(name);
        let access = file::Access { mode: 0o600, owner: None };
        file::replace(&path, content, access)
            .map_err(|error: io::Error| Failure::new(OTHER, format!("{}: {error}", path.display())))
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A directory that is kept in memory.
fn in_memory() -> Option<PathBuf> {
    let of_user = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    of_user.into_iter().chain([PathBuf::from(IN_MEMORY)]).find(|path| path.is_dir())
}
