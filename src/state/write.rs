//! Files that are replaced whole, and the setting aside of those that can't be trusted.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

/// Files set aside that are kept for whoever looks into it; older ones go.
const KEPT_ASIDE: usize = 3;
/// Stands between the name of the file and the stamp of one set aside.
const REJECTED: &str = ".rejected-";

/// Puts the content in the place of the file. Readers, and a start after a loss of power, find the
/// old or the new content whole.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = beside(path, ".draft");
    // Left behind by a run that was killed while writing.
    forget(&draft)?;
    let written = write(&draft, content).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = forget(&draft);
        return written;
    }
    sync_parent(path)
}

fn write(draft: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Moves the file out of the way, for a look later. Returns where it lies now.
pub(super) fn set_aside(path: &Path, wall: Timestamp) -> Option<PathBuf> {
    // Later than any other, also when the wall clock jumped back: the newest is the last to go.
    let mut all = rejected(path);
    let stamp = all.last().map_or(0, |(last, _)| last + 1).max(wall.as_millisecond());
    let aside = beside(path, &format!("{REJECTED}{stamp}"));
    fs::rename(path, &aside).ok()?;
    let _ = sync_parent(path);
    all.push((stamp, aside.clone()));
    for (_, old) in all.iter().rev().skip(KEPT_ASIDE) {
        let _ = forget(old);
    }
    Some(aside)
}

/// The files set aside earlier with their stamps, oldest first.
fn rejected(path: &Path) -> Vec<(i64, PathBuf)> {
    let prefix = beside(path, REJECTED);
    let Some(prefix) = prefix.file_name().and_then(OsStr::to_str) else { return Vec::new() };
    let entries = path.parent().and_then(|parent| fs::read_dir(parent).ok());
    let stamped = |entry: fs::DirEntry| {
        let stamp = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
        Some((stamp, entry.path()))
    };
    let mut all = entries.into_iter().flatten().flatten().filter_map(stamped).collect::<Vec<_>>();
    all.sort();
    all
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
}
