//! Files that are watched for change.
//!
//! The directories are watched, not the files, so that atomic renames and the `..data` links of
//! mounted Kubernetes volumes are seen. A slow poll stands behind the watch, for file systems
//! that tell nothing.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{
    sync::{Mutex, Notify},
    time::{sleep, timeout},
};

/// The quiet time after a change before the files are looked at: writers need several steps.
const SETTLE: Duration = Duration::from_millis(100);
/// How often the files are looked at where nothing is told.
const POLL: Duration = Duration::from_secs(10);

/// What tells one state of a file from another: device, inode, size, modification time.
type Mark = Option<(u64, u64, u64, i64, i64)>;

/// A watch on some files.
pub struct FileWatch {
    paths: Vec<PathBuf>,
    seen: Mutex<Vec<Mark>>,
    news: Arc<Notify>,
    /// Ends with the watch. Absent where the system gives none; the poll remains.
    _watcher: Option<RecommendedWatcher>,
}

impl FileWatch {
    /// Watches these paths, which need not exist yet.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let paths = paths.into_iter().collect::<Vec<_>>();
        let news = Arc::new(Notify::new());
        let seen = Mutex::new(marks(&paths));
        let _watcher = watcher(&paths, Arc::clone(&news));
        Self { paths, seen, news, _watcher }
    }

    /// Waits until one of the files is another one, or has other content, than at the last return.
    /// Cancel safe: a change that was not returned is returned by the next call.
    pub async fn changed(&self) {
        loop {
            {
                let mut seen = self.seen.lock().await;
                let now = marks(&self.paths);
                if *seen != now {
                    sleep(SETTLE).await;
                    *seen = marks(&self.paths);
                    return;
                }
            }
            let _ = timeout(POLL, self.news.notified()).await;
        }
    }
}

fn marks(paths: &[PathBuf]) -> Vec<Mark> {
    let mark = |path: &PathBuf| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
    };
    paths.iter().map(mark).collect()
}

fn watcher(paths: &[PathBuf], news: Arc<Notify>) -> Option<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |_| news.notify_one()).ok()?;
    let here = Path::new(".");
    let directories = paths
        .iter()
        .map(|path| path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(here))
        .collect::<BTreeSet<_>>();
    for directory in directories {
        // One that can't be watched is polled.
        let _ = watcher.watch(directory, RecursiveMode::NonRecursive);
    }
    Some(watcher)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_write_a_rename_and_a_link_swap_are_seen() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("one"))?;
        fs::create_dir(at("two"))?;
        fs::write(at("one/file"), "1")?;
        fs::write(at("two/file"), "2")?;
        std::os::unix::fs::symlink("one", at("..data"))?;
        std::os::unix::fs::symlink("..data/file", at("file"))?;
        let watch = FileWatch::new([at("file")]);

        fs::write(at("one/file"), "11")?;
        watch.changed().await;

        std::os::unix::fs::symlink("two", at("..next"))?;
        fs::rename(at("..next"), at("..data"))?;
        watch.changed().await;
        assert_eq!(fs::read_to_string(at("file"))?, "2");

        fs::remove_file(at("file"))?;
        fs::write(at("new"), "3")?;
        fs::rename(at("new"), at("file"))?;
        watch.changed().await;
        Ok(())
    }
}
