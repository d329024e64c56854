//! Reads small files whole: regular ones only, up to a limit, and never waiting for a writer.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::domain::fault::{Fault, Reason};

/// The most that a file of secrets may hold.
pub(super) const MAX_BYTES: u64 = 1024 * 1024;

/// How files are opened: a pipe in the place of a file must not hold the reader up.
pub(super) const OPEN: OFlags =
    OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// The content of an open file; `path` is for the error.
pub(super) fn whole(file: OwnedFd, path: &Path) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let mut file = File::from(file);
    let meta = file.metadata().map_err(|error| unreadable(path, &error))?;
    if !meta.is_file() {
        let detail = format!("{} is not a regular file", path.display());
        return Err(Fault::new(Reason::Invalid, detail));
    }
    // One byte more than allowed tells a file that is too large. The buffer is never moved, which
    // would leave copies behind.
    let room = meta.len().min(MAX_BYTES) + 1;
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(room).unwrap_or(0)));
    file.by_ref().take(room).read_to_end(&mut content).map_err(|error| unreadable(path, &error))?;
    if content.len() as u64 >= room {
        return Err(if room > MAX_BYTES {
            let detail = format!("{} is larger than {MAX_BYTES} bytes", path.display());
            Fault::new(Reason::Invalid, detail)
        } else {
            let detail = format!("{} was being written while it was read", path.display());
            Fault::new(Reason::Failed, detail)
        });
    }
    Ok(content)
}

/// The fault for a file that can't be opened or read.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Fault {
    let (reason, what) = match error.kind() {
        io::ErrorKind::NotFound => (Reason::NotFound, "does not exist"),
        io::ErrorKind::PermissionDenied => (Reason::Forbidden, "may not be read by the broker"),
        _ => return Fault::new(Reason::Failed, format!("{}: {}", path.display(), error.kind())),
    };
    Fault::new(reason, format!("{} {what}", path.display()))
}

/// Runs file work where it may block. Dropping the future leaves the work to end by itself.
pub(super) async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Fault::new(Reason::Failed, "reading the file was cut short")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let file = rustix::fs::open(path, OPEN, rustix::fs::Mode::empty())
            .map_err(|error| unreadable(path, &error.into()))?;
        whole(file, path)
    }

    #[test]
    fn the_limit_is_held_to_the_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let limit = usize::try_from(MAX_BYTES).unwrap();
        std::fs::write(&path, vec![b'x'; limit]).unwrap();
        assert_eq!(read(&path).unwrap().len(), limit);
        std::fs::write(&path, vec![b'x'; limit + 1]).unwrap();
        assert_eq!(read(&path).unwrap_err().reason, Reason::Invalid);
    }

    #[test]
    fn what_is_not_a_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        assert_eq!(read(&pipe).unwrap_err().reason, Reason::Invalid);
        assert_eq!(read(dir.path()).unwrap_err().reason, Reason::Invalid);
        assert_eq!(read(&dir.path().join("none")).unwrap_err().reason, Reason::NotFound);
    }
}
