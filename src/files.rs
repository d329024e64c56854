//! Files that are watched for change.
//!
//! The directories are watched, not the files, so that atomic renames and the `..data` links of
//! mounted Kubernetes volumes are seen. A slow poll stands behind the watch, for file systems
//! that tell nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{self, Arc, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{
    sync::{Mutex, watch},
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
    directories: BTreeSet<PathBuf>,
    /// Absent where the system gives no watcher; the poll remains.
    shared: Option<Arc<Shared>>,
}

impl FileWatch {
    /// Watches these paths, which need not exist yet.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let paths = paths.into_iter().collect::<Vec<_>>();
        let directories = paths.iter().map(|path| directory(path).to_owned()).collect();
        let shared = Shared::of_process();
        if let Some(shared) = &shared {
            shared.watch(&directories);
        }
        let seen = Mutex::new(marks(&paths));
        Self { paths, seen, directories, shared }
    }

    /// Waits until one of the files is another one, or has other content, than at the last return.
    /// Cancel safe: a change that was not returned is returned by the next call.
    pub async fn changed(&self) {
        loop {
            // Before the look: what happens after it is told.
            let news = self.shared.as_ref().map(|shared| shared.news.subscribe());
            {
                let mut seen = self.seen.lock().await;
                let now = marks(&self.paths);
                if *seen != now {
                    sleep(SETTLE).await;
                    *seen = marks(&self.paths);
                    return;
                }
            }
            match news {
                Some(mut news) => drop(timeout(POLL, news.changed()).await),
                None => sleep(POLL).await,
            }
        }
    }
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.forget(&self.directories);
        }
    }
}

/// The one watcher of the process: each takes a thread, and a user may have few on one machine.
struct Shared {
    watched: sync::Mutex<Watched>,
    news: watch::Sender<()>,
}

struct Watched {
    watcher: RecommendedWatcher,
    /// How many watches each directory has.
    directories: BTreeMap<PathBuf, usize>,
}

static SHARED: sync::Mutex<Weak<Shared>> = sync::Mutex::new(Weak::new());

impl Shared {
    fn of_process() -> Option<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = shared.upgrade() {
            return Some(shared);
        }
        let news = watch::Sender::new(());
        let told = news.clone();
        let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is no change, and we read ourselves.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                told.send_replace(());
            }
        });
        let first = Watched { watcher: made.ok()?, directories: BTreeMap::new() };
        let first = Arc::new(Self { watched: sync::Mutex::new(first), news });
        *shared = Arc::downgrade(&first);
        Some(first)
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, directories: &BTreeSet<PathBuf>) {
        let mut watched = self.watched();
        for directory in directories {
            // Each time, for one that was made anew is another one. One that can't be watched is
            // polled.
            let _ = watched.watcher.watch(directory, RecursiveMode::NonRecursive);
            *watched.directories.entry(directory.clone()).or_default() += 1;
        }
    }

    fn forget(&self, directories: &BTreeSet<PathBuf>) {
        let mut watched = self.watched();
        for directory in directories {
            let Some(count) = watched.directories.get_mut(directory) else { continue };
            *count -= 1;
            if *count == 0 {
                watched.directories.remove(directory);
                let _ = watched.watcher.unwatch(directory);
            }
        }
    }

    #[cfg(test)]
    fn is_watched(&self, directory: &Path) -> bool {
        self.watched().directories.contains_key(directory)
    }
}

/// The directory that holds the path.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn marks(paths: &[PathBuf]) -> Vec<Mark> {
    let mark = |path: &PathBuf| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
    };
    paths.iter().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn watches_of_one_directory_each_see_a_change_and_leave_nothing_behind()
    -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("file");
        fs::write(&file, "1")?;
        let watches = [FileWatch::new([file.clone()]), FileWatch::new([file.clone()])];
        let shared = watches[0].shared.clone().expect("the system watches");
        assert!(shared.is_watched(dir.path()));
        fs::write(&file, "22")?;
        for watch in &watches {
            watch.changed().await;
        }
        let [one, other] = watches;
        drop(one);
        assert!(shared.is_watched(dir.path()));
        fs::write(&file, "333")?;
        other.changed().await;
        drop(other);
        assert!(!shared.is_watched(dir.path()));
        Ok(())
    }

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
