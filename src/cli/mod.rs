//! The command line: what people and scripts type, and the commands that are clients of a running broker.
//!
//! - Nothing is printed but through a [`Console`], so that tests read what people would.
//! - Values go to standard output and to the places that were asked for; never to standard error, a log or an argument.
//! - Exit codes are part of the interface: see [`failure`].

pub mod args;
mod binding;
mod check;
mod console;
mod copy;
mod exec;
pub mod failure;
mod get;
mod list;
mod on_rotation;
mod output;
pub(crate) mod render;
mod signals;
mod wait;
pub(crate) mod watch;

use std::path::Path;

pub use args::{Args, ClientCommand, Command};
use clap::CommandFactory;
pub use console::Console;
pub use failure::Failure;

/// Checks a configuration file: a summary of it, or all its mistakes.
pub type CheckConfiguration = fn(&Path) -> Result<String, String>;

/// Runs a client-side command to its end and returns the exit code.
///
/// `exec`, `watch` and `render` end by their child, a signal or a fatal error.
pub async fn run(
    command: ClientCommand,
    console: &mut Console<'_>,
    check_configuration: CheckConfiguration,
) -> u8 {
    let ended = match command {
        ClientCommand::Get(args) => get::run(args, console).await,
        ClientCommand::List(args) => list::run(args, console).await,
        ClientCommand::Watch(args) => watch::run(args, console).await,
        ClientCommand::Exec(args) => exec::run(args, console).await,
        ClientCommand::Render(args) => render::run(args, console).await,
        ClientCommand::Wait(args) => wait::run(args).await,
        ClientCommand::Copy(args) => copy::run(&args),
        ClientCommand::Check(args) => check::run(args, console, check_configuration).await,
        ClientCommand::Completions { shell } => completions(shell, console),
    };
    console.end(ended)
}

fn completions(shell: clap_complete::Shell, console: &mut Console<'_>) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "secret-broker", &mut script);
    console.write(&script)?;
    Ok(failure::OK)
}
