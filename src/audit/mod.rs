//! The audit log: one JSON line for each access, written before the reply.
//!
//! A record holds who, what, which version and the outcome, never a value. Each line is one write,
//! so that lines of several writers don't mix; a line that broke off is ended before the next.
//! Writes are synchronous: to a file they end in the page cache within microseconds.

mod line;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{
    broker::ports::Clock,
    config::AuditSink,
    domain::{policy::Verb, secret::Generation},
};

/// One access to a secret, as it is recorded.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// The caller's identity.
    pub caller: &'a str,
    /// What the caller did.
    pub verb: Verb,
    /// The secret's name, as far as the caller gave one.
    pub secret: &'a str,
    /// The version and generation that were given.
    pub version: Option<(&'a str, Generation)>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an access ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The value, or the list, was given.
    Allowed,
    /// The caller may not; the reason is the one the caller got.
    Denied(&'static str),
    /// The caller may, but it could not be given, for this reason.
    Failed(&'static str),
    /// The caller reported this of a version.
    Reported(&'static str),
}

/// An access could not be recorded, so it must not be given.
#[derive(Debug, thiserror::Error)]
#[error("can't write the audit record to {sink}")]
pub struct AuditError {
    sink: String,
    #[source]
    source: io::Error,
}

/// Writes audit records.
pub struct AuditLog {
    clock: Arc<dyn Clock>,
    /// Tells the records of this run from those of others: the start in microseconds.
    run: u64,
    requests: AtomicU64,
    failing: AtomicBool,
    writer: Mutex<Writer>,
}

struct Writer {
    target: AuditSink,
    sink: Sink,
    line: Vec<u8>,
    /// The line before broke off: what is written next starts on a line of its own.
    torn: bool,
}

enum Sink {
    Stdout(io::Stdout),
    File(File),
}

impl AuditLog {
    /// Opens the sink.
    ///
    /// # Errors
    /// When the file can't be opened for appending.
    pub fn open(target: AuditSink, clock: Arc<dyn Clock>) -> Result<Self, AuditError> {
        let sink = Sink::open(&target)?;
        let run = u64::try_from(clock.wall().as_microsecond()).unwrap_or_default();
        let writer = Writer { target, sink, line: Vec::with_capacity(512), torn: false };
        Ok(Self {
            clock,
            run,
            requests: AtomicU64::new(1),
            failing: AtomicBool::new(false),
            writer: Mutex::new(writer),
        })
    }

    /// Writes the record of one access.
    ///
    /// # Errors
    /// When it could not be written whole. The access must not be given then.
    pub fn record(&self, access: &Access<'_>) -> Result<(), AuditError> {
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        let mut writer = self.writer();
        let Writer { line, .. } = &mut *writer;
        line.clear();
        line::write(line, self.clock.wall(), (self.run, request), access);
        let written = writer.write();
        self.failing.store(written.is_err(), Ordering::Relaxed);
        written
    }

    /// Whether the last record could not be written.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Opens the file anew, after it was renamed away by a log rotation.
    ///
    /// # Errors
    /// When it can't be opened; the old one stays in use.
    pub fn reopen(&self, target: AuditSink) -> Result<(), AuditError> {
        let sink = Sink::open(&target)?;
        let mut writer = self.writer();
        (writer.sink, writer.target, writer.torn) = (sink, target, false);
        Ok(())
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    fn write(&mut self) -> Result<(), AuditError> {
        if std::mem::take(&mut self.torn) {
            self.line.insert(0, b'\n');
        }
        let written = match &mut self.sink {
            Sink::Stdout(stdout) => stdout.write_all(&self.line).and_then(|()| stdout.flush()),
            Sink::File(file) => file.write_all(&self.line),
        };
        written.map_err(|source| {
            self.torn = true;
            AuditError { sink: name(&self.target), source }
        })
    }
}

impl Sink {
    fn open(target: &AuditSink) -> Result<Self, AuditError> {
        match target {
            AuditSink::Stdout => Ok(Self::Stdout(io::stdout())),
            AuditSink::File(path) => open(path)
                .map(Self::File)
                .map_err(|source| AuditError { sink: name(target), source }),
        }
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn name(target: &AuditSink) -> String {
    match target {
        AuditSink::Stdout => "standard output".to_owned(),
        AuditSink::File(path) => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{app::clock::SystemClock, domain::policy::Verb};

    const ACCESS: Access<'_> = Access {
        caller: "spiffe://prod/ns/shop/sa/api",
        verb: Verb::Get,
        secret: "DB",
        version: Some(("v1", Generation(7))),
        outcome: Outcome::Allowed,
    };

    fn log(target: AuditSink) -> Result<AuditLog, AuditError> {
        AuditLog::open(target, Arc::new(SystemClock))
    }

    #[test]
    fn each_record_is_one_json_line() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("audit.log");
        let log = log(AuditSink::File(path.clone()))?;
        log.record(&ACCESS)?;
        log.record(&Access { outcome: Outcome::Denied("DENIED"), version: None, ..ACCESS })?;
        let text = std::fs::read_to_string(path)?;
        let lines = text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<Vec<serde_json::Value>, _>>()?;
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["outcome"], "allowed");
        assert_eq!(lines[0]["generation"], 7);
        assert_eq!(lines[1]["reason"], "DENIED");
        assert_ne!(lines[0]["request_id"], lines[1]["request_id"]);
        Ok(())
    }

    #[test]
    fn a_full_disk_fails_the_access_and_says_so() -> Result<(), AuditError> {
        let log = log(AuditSink::File("/dev/full".into()))?;
        assert!(log.record(&ACCESS).is_err());
        assert!(log.is_failing());
        Ok(())
    }

    #[test]
    fn reopening_goes_on_in_the_new_file() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("audit.log");
        let log = log(AuditSink::File(path.clone()))?;
        log.record(&ACCESS)?;
        std::fs::rename(&path, dir.path().join("audit.log.1"))?;
        log.reopen(AuditSink::File(path.clone()))?;
        log.record(&ACCESS)?;
        assert_eq!(std::fs::read_to_string(path)?.lines().count(), 1);
        Ok(())
    }
}
