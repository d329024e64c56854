//! Files that are watched for change, and files that are replaced whole.
//!
//! The directories are watched, not the files, so that atomic renames and the `..data` links of
//! mounted Kubernetes volumes are seen. A slow poll stands behind the watch, for file systems
//! that tell nothing.

mod whole;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{self, Arc, MutexGuard, PoisonError, Weak},
    thread,
    time::Duration,
};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};
use tokio::{
    sync::{Mutex, watch},
    time::{sleep, timeout},
};

pub use whole::replace;
pub(crate) use whole::{beside, forget, sync_parent};

/// The quiet time after a change before the files are looked at: writers need several steps.
const SETTLE: Duration = Duration::from_millis(100);
/// How often the files are looked at where nothing is told.
const POLL: Duration = Duration::from_secs(10);

/// What makes a file another one. Writes alone are left out: a log beside a watched file would
/// tell of each of its lines.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::ONLYDIR);

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

/// The one watcher of the process: a user may have few on one machine, pods of one node included.
struct Shared {
    inotify: Arc<OwnedFd>,
    /// The watch descriptor of each directory, and how many watches it has.
    directories: sync::Mutex<BTreeMap<PathBuf, (Option<i32>, usize)>>,
    news: watch::Sender<()>,
}

static SHARED: sync::Mutex<Weak<Shared>> = sync::Mutex::new(Weak::new());

impl Shared {
    fn of_process() -> Option<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = shared.upgrade() {
            return Some(shared);
        }
        let first = Arc::new(Self {
            inotify: Arc::new(inotify::init(CreateFlags::CLOEXEC).ok()?),
            directories: sync::Mutex::default(),
            news: watch::Sender::new(()),
        });
        let (inotify, watcher) = (Arc::clone(&first.inotify), Arc::downgrade(&first));
        let thread = thread::Builder::new().name("files".into()).stack_size(64 * 1024);
        thread.spawn(move || tell(&inotify, &watcher)).ok()?;
        *shared = Arc::downgrade(&first);
        Some(first)
    }

    fn directories(&self) -> MutexGuard<'_, BTreeMap<PathBuf, (Option<i32>, usize)>> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, directories: &BTreeSet<PathBuf>) {
        let mut watched = self.directories();
        for directory in directories {
            let (descriptor, count) = watched.entry(directory.clone()).or_default();
            // Each time, for one that was made anew is another one. One that can't be watched is
            // polled.
            *descriptor = inotify::add_watch(&self.inotify, directory, CHANGES).ok();
            *count += 1;
        }
    }

    fn forget(&self, directories: &BTreeSet<PathBuf>) {
        let mut watched = self.directories();
        for directory in directories {
            let Some((descriptor, count)) = watched.get_mut(directory) else { continue };
            *count -= 1;
            if *count == 0 {
                let _ = descriptor.map(|it| inotify::remove_watch(&self.inotify, it));
                watched.remove(directory);
            }
        }
    }

    #[cfg(test)]
    fn is_watched(&self, directory: &Path) -> bool {
        self.directories().contains_key(directory)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A watch that is removed is an event: it wakes the thread, which ends.
        if let Ok(last) = inotify::add_watch(&self.inotify, "/", WatchFlags::DELETE_SELF) {
            let _ = inotify::remove_watch(&self.inotify, last);
        }
    }
}

/// Tells of events for as long as somebody watches.
fn tell(inotify: &OwnedFd, watcher: &Weak<Shared>) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(inotify, &mut buffer);
    loop {
        match events.next().map(drop) {
            // Without events, the poll remains.
            Err(error) if error != Errno::INTR => return,
            _ => {}
        }
        let Some(shared) = watcher.upgrade() else { return };
        shared.news.send_replace(());
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
