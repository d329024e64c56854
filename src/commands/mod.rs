//! The people's command line of the operator: what they type, and what they see.
//!
//! Commands write their request into the journal and drive it themselves; where another operator
//! works on the secret already, they look on. Exit codes are part of the interface: 0 done, 1 other,
//! 2 usage or configuration, 3 unknown or refused, 4 not available, 7 the rotation did not succeed.

pub mod args;
mod backup;
pub mod bootstrap;
mod glass;
pub mod migrate;
mod progress;
mod rotate;
mod tables;

use std::{fmt::Write, sync::Arc, time::Duration};

use jiff::Timestamp;

pub use args::{Args, Command};

use crate::{
    cli::{Console, Failure, failure},
    domain::{
        rotation::{Rotation, RotationId},
        secret::{Fields, SecretName, SecretValue},
    },
    report::Directory,
    rotation::{
        backup::Backups,
        engine::{DriveError, Engine, RequestError},
        ports::BreakGlass,
    },
};

/// The rotation did not succeed: it went back, or is parked.
pub const UNSUCCESSFUL: u8 = 7;

/// What the commands work with.
pub struct Desk {
    /// The engine.
    pub engine: Arc<Engine>,
    /// Who types.
    pub person: String,
    /// Opens access in emergencies, if that is wanted.
    pub glass: Option<Arc<dyn BreakGlass>>,
    /// Copies of what is in force.
    pub backups: Arc<Backups>,
    /// Where documents are written, if anywhere.
    pub documents: Option<Directory>,
    /// Makes the name of a rotation.
    pub name: fn(Timestamp) -> RotationId,
    /// Print JSON lines.
    pub json: bool,
}

/// Runs a command of the people to its end and returns the exit code.
pub async fn run(command: Command, desk: &Desk, console: &mut Console<'_>) -> u8 {
    let ended = match command {
        Command::Plan(args) => tables::plan(desk, &args, console).await,
        Command::Status(args) => tables::status(desk, &args.names, console).await,
        Command::History(args) => tables::history(desk, &args.name, console).await,
        Command::Rotate(args) => rotate::rotate(desk, args, console).await,
        Command::Resume(args) => rotate::resume(desk, &args.name, console).await,
        Command::Rollback(args) => rotate::rollback(desk, &args.name, args.reason, console).await,
        Command::Compromise(args) => rotate::compromise(desk, args, console).await,
        Command::Outage(args) => rotate::outage(desk, &args.name, args.reason, console).await,
        Command::Validate(args) => tables::validate(desk, &args, console).await,
        Command::Supply(args) => rotate::supply(desk, args, console).await,
        Command::Approve(args) => rotate::approve(desk, args, console).await,
        Command::Backup(args) => backup::backup(desk, &args, console).await,
        Command::BreakGlass(args) => glass::break_glass(desk, args, console).await,
    };
    console.end(ended)
}

impl Desk {
    fn secret(&self, name: &str) -> Result<SecretName, Failure> {
        let known = name.parse().ok().filter(|name| self.engine.catalogue().contains_key(name));
        known.ok_or_else(|| {
            let names = self.engine.catalogue().keys().map(SecretName::as_str);
            let names = names.collect::<Vec<_>>().join(", ");
            Failure::new(failure::DENIED, format!("no secret {name}; the catalogue has {names}"))
        })
    }

    /// The secrets of these names; all when there is none.
    fn secrets(&self, names: &[String]) -> Result<Vec<SecretName>, Failure> {
        if names.is_empty() {
            return Ok(self.engine.catalogue().keys().cloned().collect());
        }
        names.iter().map(|name| self.secret(name)).collect()
    }

    fn now(&self) -> Timestamp {
        self.engine.surroundings().clock.wall()
    }

    fn reason(reason: Option<String>) -> String {
        reason.unwrap_or_else(|| "asked for by hand".to_owned())
    }
}

impl From<DriveError> for Failure {
    fn from(error: DriveError) -> Self {
        let exit = match error {
            DriveError::Unknown(_) => failure::DENIED,
            _ => failure::UNAVAILABLE,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused(why) => Self::new(failure::DENIED, why),
            RequestError::Drive(error) => error.into(),
            RequestError::Fault(fault) => Self::new(failure::UNAVAILABLE, fault.to_string()),
        }
    }
}

/// A rotation as one line of JSON.
fn json_line(rotation: &Rotation) -> Result<String, Failure> {
    let json = serde_json::to_string(rotation)
        .map_err(|error| Failure::new(failure::OTHER, error.to_string()))?;
    Ok(json + "\n")
}

/// Rows in columns as wide as they need.
fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|h| h.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<_> =
            cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    };
    line(&mut head.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    text
}

fn shown(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "—".to_owned(), |at| at.strftime("%Y-%m-%d %H:%MZ").to_string())
}

/// Fields of the form `NAME=VALUE`, one a line; a single line without a name is the field `value`.
fn fields(text: &str) -> Fields {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let pairs = lines.iter().map(|line| line.split_once('=').filter(|(name, _)| is_name(name)));
    let pairs = pairs.collect::<Option<Vec<_>>>();
    match (pairs, lines.as_slice()) {
        // A URL with a query looks like a pair only by its `=`.
        (Some(pairs), _) if !lines.is_empty() => pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), SecretValue::new(value)))
            .collect(),
        (_, [single]) => Fields::single(SecretValue::new(single.trim())),
        _ => Fields::default(),
    }
}

const SPIN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_line_or_fields_by_name() {
        let names = |text: &str| {
            fields(text).iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>().join(",")
        };
        assert_eq!(names("https://hooks.example/a?b=c\n"), "value");
        assert_eq!(names("username=a\npassword=b=c\n"), "password,username");
        assert_eq!(names("two\nlines"), "");
    }

    #[test]
    fn columns_are_as_wide_as_they_need() {
        let rows = [vec!["a".to_owned(), "long".to_owned()]];
        assert_eq!(columns(&["NAME", "X"], &rows), "NAME  X\na     long\n");
    }
}
