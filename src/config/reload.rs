//! New configurations over time: from SIGHUP and from changes of the file.
//!
//! A change is found by comparing the text, so the swap of a config map's `..data` link, an editor's
//! rename and a plain write are all the same. A file with mistakes changes nothing.

use std::{io, path::PathBuf};

use futures_util::{
    StreamExt,
    stream::{BoxStream, poll_fn},
};
use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
};

use super::{Checked, Config, Key, Mistake, Mistakes};
use crate::files::FileWatch;

/// The largest configuration file.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

type Environment = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Publishes configurations read from one file.
pub struct ConfigSource {
    path: PathBuf,
    env: Environment,
    text: Option<String>,
    hangups: BoxStream<'static, ()>,
    watch: FileWatch,
    follows_file: bool,
    /// A trigger whose text was not read yet.
    pending: Option<Trigger>,
}

/// Why a configuration is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// SIGHUP, whether the file changed or not.
    Hangup,
    /// The file changed.
    FileChanged,
}

impl ConfigSource {
    /// A source over the file at `path`. Needs a runtime; takes SIGHUP over from its default.
    ///
    /// # Errors
    /// When no signal handler can be had.
    pub fn open(path: impl Into<PathBuf>, env: Environment) -> io::Result<Self> {
        let mut hangup = signal(SignalKind::hangup())?;
        let hangups = poll_fn(move |cx| hangup.poll_recv(cx)).boxed();
        Ok(Self::over(path.into(), env, hangups))
    }

    fn over(path: PathBuf, env: Environment, hangups: BoxStream<'static, ()>) -> Self {
        let watch = FileWatch::new([path.clone()]);
        Self { path, env, text: None, hangups, watch, follows_file: true, pending: None }
    }

    /// Reads the file now.
    ///
    /// # Errors
    /// All mistakes at once; one that says so if the file can't be read.
    pub async fn load(&mut self) -> Result<Checked, Mistakes> {
        let text = self.read().await;
        self.parse(text)
    }

    /// Waits until there is reason to read the file again, and reads it. After an error the caller
    /// goes on with what it has. Cancel safe.
    pub async fn next(&mut self) -> (Trigger, Result<Checked, Mistakes>) {
        loop {
            let trigger = if let Some(trigger) = self.pending {
                trigger
            } else {
                tokio::select! {
                    Some(()) = self.hangups.next() => Trigger::Hangup,
                    () = self.watch.changed(), if self.follows_file => Trigger::FileChanged,
                }
            };
            self.pending = Some(trigger);
            let text = self.read().await;
            self.pending = None;
            // An unreadable file is in the middle of a swap, or its loss is told by SIGHUP.
            let changed = text.as_ref().is_ok_and(|text| self.text.as_ref() != Some(text));
            if changed || trigger == Trigger::Hangup {
                return (trigger, self.parse(text));
            }
        }
    }

    async fn read(&self) -> io::Result<String> {
        let mut text = String::new();
        let file = tokio::fs::File::open(&self.path).await?;
        file.take(MAX_BYTES + 1).read_to_string(&mut text).await?;
        if text.len() as u64 > MAX_BYTES {
            return Err(io::Error::other(format!("larger than {MAX_BYTES} bytes")));
        }
        Ok(text)
    }

    fn parse(&mut self, text: io::Result<String>) -> Result<Checked, Mistakes> {
        let origin = self.path.display().to_string();
        let text = text.map_err(|error| unreadable(&origin, &error))?;
        let parsed = Config::parse(&text, &origin, &*self.env);
        self.text = Some(text);
        if let Ok(checked) = &parsed {
            self.follows_file = checked.config.watch_file;
        }
        parsed
    }
}

fn unreadable(origin: &str, error: &io::Error) -> Mistakes {
    let mistake = Mistake {
        key: Key::default(),
        line: None,
        found: format!("the file can't be read: {error}"),
        accepted: format!("expected a readable TOML file in UTF-8 of at most {MAX_BYTES} bytes"),
    };
    Mistakes { origin: origin.to_owned(), all: vec![mistake] }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

    use futures_util::stream;
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn config(drain: &str) -> String {
        format!("[server]\nsocket = \"/run/b.sock\"\ndrain = \"{drain}\"\n")
    }

    fn open(path: &Path) -> ConfigSource {
        ConfigSource::over(path.to_owned(), Box::new(|_| None), stream::pending().boxed())
    }

    async fn next(source: &mut ConfigSource) -> (Trigger, Result<Duration, Mistakes>) {
        let (trigger, read) = timeout(SOON, source.next()).await.unwrap();
        (trigger, read.map(|checked| checked.config.server.drain))
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again_and_one_with_mistakes_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("broker.toml");
        fs::write(&path, config("1s")).unwrap();
        let mut source = open(&path);
        assert_eq!(source.load().await.unwrap().config.server.drain, Duration::from_secs(1));
        fs::write(&path, config("2s")).unwrap();
        assert_eq!(next(&mut source).await, (Trigger::FileChanged, Ok(Duration::from_secs(2))));
        fs::write(&path, config("never")).unwrap();
        let (_, read) = next(&mut source).await;
        assert_eq!(read.unwrap_err().all.len(), 1);
        fs::write(&path, config("3s")).unwrap();
        assert_eq!(next(&mut source).await, (Trigger::FileChanged, Ok(Duration::from_secs(3))));
    }

    #[tokio::test]
    async fn the_swap_of_a_config_map_is_a_change() {
        let mount = tempfile::tempdir().unwrap();
        let mount = mount.path();
        for (version, drain) in [("..1", "1s"), ("..2", "2s")] {
            fs::create_dir(mount.join(version)).unwrap();
            fs::write(mount.join(version).join("broker.toml"), config(drain)).unwrap();
        }
        symlink("..1", mount.join("..data")).unwrap();
        symlink("..data/broker.toml", mount.join("broker.toml")).unwrap();
        let mut source = open(&mount.join("broker.toml"));
        source.load().await.unwrap();
        symlink("..2", mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        assert_eq!(next(&mut source).await, (Trigger::FileChanged, Ok(Duration::from_secs(2))));
    }

    #[tokio::test]
    async fn a_hangup_reads_the_file_even_if_it_is_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("broker.toml");
        fs::write(&path, format!("watch_file = false\n{}", config("1s"))).unwrap();
        let mut source = open(&path);
        source.load().await.unwrap();
        source.hangups = stream::iter([()]).chain(stream::pending()).boxed();
        assert_eq!(next(&mut source).await, (Trigger::Hangup, Ok(Duration::from_secs(1))));
        fs::remove_file(&path).unwrap();
        let read = source.load().await.unwrap_err();
        assert!(read.to_string().contains("can't be read"), "{read}");
    }
}
