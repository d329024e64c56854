//! Files of a directory: Docker secrets and mounted Kubernetes Secrets.
//!
//! Invariants: all fields come from one generation of the volume (its `..data` link is resolved
//! once); nothing outside the directory is read through a name or a link in it; values are bytes,
//! of which one newline at the end is no part, for people write files with editors.

use std::{
    collections::BTreeMap,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2, readlinkat},
    io::Errno,
};

use super::{
    VersionKey,
    read::{OPEN, off_the_loop, unreadable, whole},
};
use crate::{
    broker::ports::Origin,
    domain::{
        fault::{Fault, Reason},
        life::{Issued, Lifetime, Predecessor},
        secret::{Fields, SecretValue},
    },
    files::FileWatch,
};

/// The link that Kubernetes swaps when it updates a volume.
const GENERATION: &str = "..data";
/// A volume that is swapped this often during one read is not read.
const ATTEMPTS: usize = 5;

/// A secret whose fields are files of one directory.
pub struct Directory {
    place: Arc<Place>,
    key: Arc<VersionKey>,
    watch: FileWatch,
}

struct Place {
    directory: PathBuf,
    /// The file of each field.
    files: BTreeMap<String, String>,
}

impl Directory {
    /// The secret with these fields, each from the file of the directory that it names.
    pub fn new(directory: PathBuf, files: BTreeMap<String, String>, key: Arc<VersionKey>) -> Self {
        let watch = FileWatch::new(files.values().map(|file| directory.join(file)));
        Self { place: Arc::new(Place { directory, files }), key, watch }
    }
}

#[async_trait]
impl Origin for Directory {
    async fn fetch(&self) -> Result<Issued, Fault> {
        let place = Arc::clone(&self.place);
        let fields = off_the_loop(move || place.read()).await?;
        Ok(Issued {
            version: self.key.version(&fields),
            fields: Arc::new(fields),
            lifetime: Lifetime::Unbounded,
            max_left: None,
            predecessor: Predecessor::Untold,
        })
    }

    async fn changed(&self) {
        self.watch.changed().await;
    }
}

impl Place {
    fn read(&self) -> Result<Fields, Fault> {
        for _ in 0..ATTEMPTS {
            let root = self.open_root()?;
            let generation = generation(&root);
            match self.read_generation(&root, generation.as_deref()) {
                // Kubernetes removes a generation that was swapped away: read the one after it.
                Err(_) if self::generation(&root) != generation => {}
                read => return read,
            }
        }
        let detail = format!("{} was swapped again and again", self.directory.display());
        Err(Fault::new(Reason::Failed, detail))
    }

    fn open_root(&self) -> Result<OwnedFd, Fault> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, &self.directory, flags, Mode::empty())
            .map_err(|error| unreadable(&self.directory, &error.into()))
    }

    fn read_generation(&self, root: &OwnedFd, generation: Option<&[u8]>) -> Result<Fields, Fault> {
        let pinned;
        let directory = match generation {
            None => root,
            Some(target) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                pinned = open_beneath(root, target, flags)
                    .map_err(|error| unreadable(&self.directory.join(GENERATION), &error))?;
                &pinned
            }
        };
        let field = |(field, file): (&String, &String)| {
            Ok((field.clone(), self.read_file(directory, file)?))
        };
        self.files.iter().map(field).collect()
    }

    fn read_file(&self, directory: &OwnedFd, name: &str) -> Result<SecretValue, Fault> {
        let path = self.directory.join(name);
        if !is_file_name(name) {
            let detail = format!("{name} is not the name of a file in a directory");
            return Err(Fault::new(Reason::Invalid, detail));
        }
        let file = open_beneath(directory, name.as_bytes(), OPEN)
            .map_err(|error| outside(&path, &error))?;
        let content = whole(file, &path)?;
        let value = content.strip_suffix(b"\n").unwrap_or(&content);
        Ok(SecretValue::new(
            value.strip_suffix(b"\r").filter(|_| value.len() < content.len()).unwrap_or(value),
        ))
    }
}

fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

/// The generation that the volume shows now; `None` for a plain directory.
fn generation(root: &OwnedFd) -> Option<Vec<u8>> {
    readlinkat(root, GENERATION, Vec::new()).ok().map(std::ffi::CString::into_bytes)
}

/// Opens what lies below the directory, links included as long as they stay there. An older
/// kernel, or a sandbox without `openat2`, gets no links at all.
fn open_beneath(directory: &OwnedFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match openat2(directory, path, flags, Mode::empty(), resolve) {
        Err(Errno::NOSYS | Errno::PERM) if !path.contains(&b'/') => {
            Ok(openat(directory, path, flags | OFlags::NOFOLLOW, Mode::empty())?)
        }
        opened => Ok(opened?),
    }
}

fn outside(path: &Path, error: &io::Error) -> Fault {
    let escapes = [Errno::XDEV, Errno::LOOP].map(Errno::raw_os_error);
    if error.raw_os_error().is_some_and(|code| escapes.contains(&code)) {
        let detail = format!("{} is a link that leads out of its directory", path.display());
        return Fault::new(Reason::Invalid, detail);
    }
    unreadable(path, error)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn place(dir: &Path, files: &[&str]) -> Place {
        let files = files.iter().map(|f| ((*f).to_owned(), (*f).to_owned())).collect();
        Place { directory: dir.to_owned(), files }
    }

    fn value(fields: &Fields, name: &str) -> Vec<u8> {
        fields.field(name).unwrap().expose().to_vec()
    }

    #[test]
    fn one_newline_at_the_end_is_no_part_of_a_value() {
        let dir = tempfile::tempdir().unwrap();
        for (content, expected) in [
            (&b"v\n"[..], &b"v"[..]),
            (b"v\r\n", b"v"),
            (b"v\n\n", b"v\n"),
            (b"v\r", b"v\r"),
            (b"v", b"v"),
            (b"", b""),
            (b"\x00\xff\n", b"\x00\xff"),
        ] {
            fs::write(dir.path().join("f"), content).unwrap();
            let fields = place(dir.path(), &["f"]).read().unwrap();
            assert_eq!(value(&fields, "f"), expected, "{content:?}");
        }
    }

    #[test]
    fn names_and_links_reach_nothing_outside() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("in");
        fs::create_dir(&dir).unwrap();
        fs::write(outer.path().join("other"), "planted").unwrap();
        symlink("../other", dir.join("relative")).unwrap();
        symlink(outer.path().join("other"), dir.join("absolute")).unwrap();
        symlink("/proc/self/environ", dir.join("magic")).unwrap();
        for name in ["../other", "relative", "absolute", "magic", "..", ".", "", "a/b"] {
            let fault = place(&dir, &[name]).read().unwrap_err();
            assert_eq!(fault.reason, Reason::Invalid, "{name}: {fault}");
        }
        fs::write(dir.join("v2"), "inside").unwrap();
        symlink("v2", dir.join("link")).unwrap();
        assert_eq!(value(&place(&dir, &["link"]).read().unwrap(), "link"), b"inside");
    }

    #[test]
    fn all_fields_come_from_one_generation() {
        let dir = tempfile::tempdir().unwrap();
        let swap = |generation: u32| {
            let data = dir.path().join(format!("..{generation}"));
            fs::create_dir(&data).unwrap();
            for file in ["id", "key"] {
                fs::write(data.join(file), generation.to_string()).unwrap();
            }
            symlink(format!("..{generation}"), dir.path().join("..data_tmp")).unwrap();
            fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
            if generation > 0 {
                fs::remove_dir_all(dir.path().join(format!("..{}", generation - 1))).unwrap();
            }
        };
        swap(0);
        for file in ["id", "key"] {
            symlink(format!("..data/{file}"), dir.path().join(file)).unwrap();
        }
        let place = place(dir.path(), &["id", "key"]);
        std::thread::scope(|scope| {
            let swaps = scope.spawn(|| (1..300).for_each(swap));
            let mut read = 0;
            while !swaps.is_finished() {
                // A reader that is outrun five times says so; it never mixes.
                let Ok(fields) = place.read() else { continue };
                assert_eq!(value(&fields, "id"), value(&fields, "key"));
                read += 1;
            }
            assert!(read > 10, "{read} reads");
        });
        assert_eq!(value(&place.read().unwrap(), "key"), b"299");
    }
}
