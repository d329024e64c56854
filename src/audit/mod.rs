//! The audit log: one JSON line for each access, written before the reply.
//!
//! A record holds who, what, which version and the outcome, never a value. Records are gathered in
//! memory and written in their order, many at once; whoever sends what a record is about has to
//! have it [settled](AuditLog::settle) first. A line that could not be written whole is gone on with
//! where it broke off, so that none is lost or torn.
//! Writes are synchronous: to a file they end in the page cache within microseconds.

mod line;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
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
    /// The rotation, or the access in an emergency, that it is about.
    #[cfg(feature = "operator")]
    pub about: Option<&'a str>,
    /// Why, in the caller's own words.
    #[cfg(feature = "operator")]
    pub why: Option<&'a str>,
    /// How it ended.
    pub outcome: Outcome,
    /// Accesses to the secret are watched closely now.
    pub monitored: bool,
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
#[error("can't write the audit record to {sink}: {source}")]
pub struct AuditError {
    sink: String,
    #[source]
    source: io::Error,
}

/// The position of a record in the log: a later one has a higher number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

/// Writes audit records.
pub struct AuditLog {
    clock: Arc<dyn Clock>,
    /// Tells the records of this run from those of others: the start in microseconds.
    run: u64,
    /// All records up to this one are written.
    written: AtomicU64,
    failing: AtomicBool,
    writer: Mutex<Writer>,
}

struct Writer {
    target: AuditSink,
    file: File,
    /// Whole lines that wait.
    lines: Vec<u8>,
    /// How much of them is written.
    done: usize,
    /// The last record.
    entered: u64,
}

/// The bytes that are gathered at most before they are written without being asked for.
const GATHERED: usize = 16 * 1024;

impl AuditLog {
    /// Opens the sink.
    ///
    /// # Errors
    /// When the file can't be opened for appending.
    pub fn open(target: AuditSink, clock: Arc<dyn Clock>) -> Result<Self, AuditError> {
        let file = open(&target)?;
        let run = u64::try_from(clock.wall().as_microsecond()).unwrap_or_default();
        let writer = Writer { target, file, lines: Vec::new(), done: 0, entered: 0 };
        Ok(Self {
            clock,
            run,
            written: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            writer: Mutex::new(writer),
        })
    }

    /// Enters the record of one access. It counts as written once its position is settled.
    ///
    /// # Errors
    /// When earlier records can't be written. The access must not be given then.
    pub fn record(&self, access: &Access<'_>) -> Result<Position, AuditError> {
        let mut writer = self.writer();
        if self.is_failing() || writer.lines.len() >= GATHERED {
            self.write(&mut writer)?;
        }
        writer.entered += 1;
        let id = (self.run, writer.entered);
        line::write(&mut writer.lines, self.clock.wall(), id, access);
        Ok(Position(writer.entered))
    }

    /// Has all records up to `position` written.
    ///
    /// # Errors
    /// When they can't be. What they are about must not be sent then; they stay for the next try.
    pub fn settle(&self, position: Position) -> Result<(), AuditError> {
        if self.written.load(Ordering::Acquire) >= position.0 {
            return Ok(());
        }
        self.write(&mut self.writer())
    }

    /// Has all records written.
    ///
    /// # Errors
    /// When they can't be; they stay for the next try.
    pub fn flush(&self) -> Result<(), AuditError> {
        self.write(&mut self.writer())
    }

    /// Whether the last try to write failed.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Opens the file anew, after it was renamed away by a log rotation.
    ///
    /// # Errors
    /// When it can't be opened; the old one stays in use.
    pub fn reopen(&self, target: AuditSink) -> Result<(), AuditError> {
        let file = open(&target)?;
        let mut writer = self.writer();
        // What still fits goes to the old file, whose last line is whole then.
        let _ = self.write(&mut writer);
        (writer.file, writer.target) = (file, target);
        writer.rewind();
        Ok(())
    }

    fn write(&self, writer: &mut Writer) -> Result<(), AuditError> {
        let result = writer.write();
        self.failing.store(result.is_err(), Ordering::Relaxed);
        if result.is_ok() {
            self.written.store(writer.entered, Ordering::Release);
        }
        result.map_err(|source| AuditError { sink: name(&writer.target), source })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    fn write(&mut self) -> io::Result<()> {
        while let Some(rest) = self.lines.get(self.done..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.lines.clear();
        self.done = 0;
        Ok(())
    }

    /// Goes back to the start of a line that is half written: a new file has whole lines only.
    fn rewind(&mut self) {
        let written = self.lines.get(..self.done).unwrap_or_default();
        self.done = written.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    }
}

fn open(target: &AuditSink) -> Result<File, AuditError> {
    let file = match target {
        AuditSink::Stdout => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        AuditSink::File(path) => {
            OpenOptions::new().append(true).create(true).mode(0o600).open(path)
        }
    };
    file.map_err(|source| AuditError { sink: name(target), source })
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
        #[cfg(feature = "operator")]
        about: None,
        #[cfg(feature = "operator")]
        why: None,
        outcome: Outcome::Allowed,
        monitored: false,
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
        let denied = Outcome::Denied("DENIED");
        log.record(&Access { outcome: denied, version: None, monitored: true, ..ACCESS })?;
        log.flush()?;
        let text = std::fs::read_to_string(path)?;
        let lines = text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<Vec<serde_json::Value>, _>>()?;
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["outcome"], "allowed");
        assert_eq!(lines[0]["generation"], 7);
        assert_eq!(lines[1]["reason"], "DENIED");
        assert_eq!(lines[1]["monitored"], true);
        assert!(lines[0].get("monitored").is_none());
        assert_ne!(lines[0]["request_id"], lines[1]["request_id"]);
        Ok(())
    }

    #[test]
    fn a_full_disk_fails_the_access_and_says_so() -> Result<(), AuditError> {
        let log = log(AuditSink::File("/dev/full".into()))?;
        let position = log.record(&ACCESS)?;
        assert!(log.settle(position).is_err());
        assert!(log.is_failing());
        assert!(log.record(&ACCESS).is_err(), "no more are taken");
        Ok(())
    }

    #[test]
    fn what_could_not_be_written_is_written_later_whole_and_in_order()
    -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("audit.log");
        let log = log(AuditSink::File("/dev/full".into()))?;
        let first = log.record(&ACCESS)?;
        assert!(log.settle(first).is_err());
        log.writer().done = 10;
        log.reopen(AuditSink::File(path.clone()))?;
        let second = log.record(&Access { secret: "OTHER", ..ACCESS })?;
        assert!(second > first);
        log.settle(second)?;
        let text = std::fs::read_to_string(path)?;
        let lines = text.lines().map(serde_json::from_str::<serde_json::Value>);
        let secrets = lines.map(|line| line.map(|line| line["secret"].clone()));
        assert_eq!(secrets.collect::<Result<Vec<_>, _>>()?, ["DB", "OTHER"]);
        Ok(())
    }

    #[test]
    fn reopening_goes_on_in_the_new_file() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("audit.log");
        let renamed = dir.path().join("audit.log.1");
        let log = log(AuditSink::File(path.clone()))?;
        log.record(&ACCESS)?;
        std::fs::rename(&path, &renamed)?;
        log.reopen(AuditSink::File(path.clone()))?;
        log.record(&ACCESS)?;
        log.flush()?;
        for path in [path, renamed] {
            assert_eq!(std::fs::read_to_string(path)?.lines().count(), 1);
        }
        Ok(())
    }
}
