//! Files that hold secrets: replaced as a whole, under their final mode and owner from the first byte.

use std::{
    fs::{self, File, OpenOptions},
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{Gid, Mode, Uid, fchmod, fchown};

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Its permission bits.
    pub mode: u32,
    /// Its owner, if not whoever runs this, and its group.
    pub owner: Option<(u32, Option<u32>)>,
}

/// Puts the content at the path: beside it first, then renamed over it.
pub(in super::super) fn replace(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    put(path, access, |file| file.write_all(content))
}

/// The same with whatever `write` writes.
pub(in super::super) fn put(
    path: &Path,
    access: Access,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let unfinished = Unfinished::beside(path)?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished.0)?;
    if let Some((uid, gid)) = access.owner {
        fchown(&file, Some(Uid::from_raw(uid)), gid.map(Gid::from_raw))?;
    }
    fchmod(&file, Mode::from_raw_mode(access.mode))?;
    write(&mut file)?;
    file.sync_all()?;
    fs::rename(&unfinished.0, path)?;
    // The rename lasts once its directory is on disk.
    File::open(directory(path))?.sync_all()
}

/// A file that is removed unless it was renamed.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        let unique = RandomState::new().build_hasher().finish();
        Ok(Self(directory(path).join(format!(".{name}.{unique:016x}"))))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
