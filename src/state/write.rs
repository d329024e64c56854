//! The setting aside of files that can't be trusted.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use crate::files::{beside, forget, sync_parent};

/// Files set aside that are kept for whoever looks into it; older ones go.
const KEPT_ASIDE: usize = 3;
/// Stands between the name of the file and the stamp of one set aside.
const REJECTED: &str = ".rejected-";

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
