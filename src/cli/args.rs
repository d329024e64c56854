//! The definition of the command line. Its comments are the help that people read.

#![allow(clippy::doc_markdown, rustdoc::bare_urls, reason = "a terminal shows these as they stand")]

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use secret_broker_client::{Client, Error};

use super::{
    binding::{EnvBinding, FileBinding},
    on_rotation::OnRotation,
    render::spec::Template,
};

/// Fetches leased credentials, keeps them fresh and serves them over mTLS gRPC.
#[derive(Debug, Parser)]
#[command(name = "secret-broker", version, after_help = EXIT_CODES)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 other, 2 usage or configuration, 3 unknown or not granted, \
4 unavailable, 5 no answer in time, 6 not authenticated or TLS failed; `exec` ends with its command's code.";

/// All commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the broker.
    Serve(ServeArgs),
    /// Run a broker with generated secrets of short life, to try it out.
    Dev(DevArgs),
    /// Print the JSON Schema of the configuration file.
    Schema,
    /// Make a key for the encrypted local state and print it.
    Keygen,
    /// A command that is a client of a running broker.
    #[command(flatten)]
    Client(ClientCommand),
}

/// The commands that are clients of a running broker.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Print a secret. Its value is what is asked for, so it is shown.
    Get(GetArgs),
    /// List what may be read, without values.
    List(ListArgs),
    /// Print changes as they happen.
    Watch(WatchArgs),
    /// Run a command with secrets in its environment or in files, and follow their rotation.
    Exec(ExecArgs),
    /// Render templates with secrets to files, and again at each rotation.
    Render(RenderArgs),
    /// Wait until the running broker is ready: it serves all that it should have.
    Wait(WaitArgs),
    /// Copy this program into a directory, as a whole and with mode 0755, for containers that lack it.
    Copy(CopyArgs),
    /// Check a configuration file, or whether the running broker is ready.
    Check(CheckArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// How the broker is reached.
#[derive(Clone, Debug, clap::Args)]
pub struct Connection {
    /// The broker: https://HOST:PORT or unix:///PATH.
    #[arg(long, env = secret_broker_client::ADDRESS_VARIABLE, value_name = "URL",
          default_value = "https://127.0.0.1:7443", help_heading = "Connection")]
    pub address: String,
    /// The directory of ca.pem, client.pem and client.key.
    #[arg(long, env = secret_broker_client::CERT_DIR_VARIABLE, value_name = "DIR",
          help_heading = "Connection")]
    pub cert_dir: Option<PathBuf>,
    /// The time for one call, such as 500ms, 10s or 1m.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time,
          help_heading = "Connection")]
    pub timeout: Duration,
}

impl Connection {
    pub(super) fn client(&self) -> Result<Client, Error> {
        let builder = Client::builder().address(&self.address).deadline(self.timeout);
        match &self.cert_dir {
            Some(directory) => builder.cert_dir(directory).build(),
            None => builder.build(),
        }
    }
}

/// `serve`.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// The configuration file.
    #[arg(
        long,
        env = "SECRET_BROKER_CONFIG",
        value_name = "FILE",
        default_value = "/etc/secret-broker/config.toml"
    )]
    pub config: PathBuf,
    /// Render a template with the broker's own secrets: before start-up is complete, and again at each rotation. The
    /// file's octal mode is 600 unless told, its owner UID or UID:GID. The broker reads as a client of its Unix
    /// socket, else of its pod-local authority.
    #[arg(long, value_name = "IN:OUT[:MODE[:OWNER]]")]
    pub render: Vec<Template>,
    /// Render once and end; leases live on until they end by themselves.
    #[arg(long, requires = "render")]
    pub once: bool,
}

/// `dev`.
#[derive(Debug, clap::Args)]
pub struct DevArgs {
    /// Take the secrets from a Vault server: the one that VAULT_ADDR and VAULT_TOKEN name, or a
    /// development server on this machine.
    #[arg(long)]
    pub vault: bool,
    /// The TCP address to serve mTLS on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7443")]
    pub listen: SocketAddr,
    /// Where certificates and the socket go; a directory below the user's runtime directory unless told.
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// `get`.
#[derive(Debug, clap::Args)]
pub struct GetArgs {
    /// The secret.
    pub name: String,
    /// Print this field only: its bytes as they are, with a newline on a terminal.
    #[arg(long, value_name = "FIELD", conflicts_with = "json")]
    pub field: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "would replace the command's own help")]
    pub connection: Connection,
}

/// `list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Only secrets of this category.
    #[arg(long)]
    pub category: Option<String>,
    /// Print a JSON array.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "would replace the command's own help")]
    pub connection: Connection,
}

/// `watch`.
#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    /// The secrets; all that may be read when none is named.
    pub names: Vec<String>,
    /// Show values as well.
    #[arg(long)]
    pub values: bool,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// End after this many events.
    #[arg(long, value_name = "N")]
    pub count: Option<usize>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "would replace the command's own help")]
    pub connection: Connection,
}

/// `exec`.
#[derive(Debug, clap::Args)]
pub struct ExecArgs {
    /// Put a field into a variable of the environment; without .FIELD the field `value`.
    #[arg(long, value_name = "NAME=SECRET.FIELD")]
    pub env: Vec<EnvBinding>,
    /// Put a field into a file of this name in a private directory, which SECRET_BROKER_FILES names.
    #[arg(long, value_name = "NAME=SECRET.FIELD")]
    pub file: Vec<FileBinding>,
    /// Put all fields that may be read into variables named SECRET_FIELD, upper case (SECRET for `value`).
    #[arg(long)]
    pub all: bool,
    /// What follows a rotation: restart, signal:NAME such as signal:SIGHUP, or ignore. Files are
    /// replaced in any case; an environment changes by a restart only.
    #[arg(long, value_name = "ACTION", default_value = "restart")]
    pub on_rotation: OnRotation,
    /// The time between SIGTERM and SIGKILL at a restart.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    pub grace: Duration,
    /// Where the private directory is made; XDG_RUNTIME_DIR or /dev/shm unless told, which are in memory.
    #[arg(long, value_name = "DIR")]
    pub files_in: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "would replace the command's own help")]
    pub connection: Connection,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<std::ffi::OsString>,
}

/// `render`.
#[derive(Debug, clap::Args)]
pub struct RenderArgs {
    /// A template, the file to write, its octal mode (600 unless told) and its owner as UID or UID:GID. In
    /// the template, {{ secret("NAME").field }} is a field.
    #[arg(long, required = true, value_name = "IN:OUT[:MODE[:OWNER]]")]
    pub template: Vec<Template>,
    /// Render once and end.
    #[arg(long)]
    pub once: bool,
    /// Run this with `sh -c` whenever a file changed.
    #[arg(long, value_name = "CMD")]
    pub on_change: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "would replace the command's own help")]
    pub connection: Connection,
}

/// `wait`.
#[derive(Debug, clap::Args)]
pub struct WaitArgs {
    /// The broker: https://HOST:PORT or unix:///PATH.
    #[arg(long, env = secret_broker_client::ADDRESS_VARIABLE, value_name = "URL",
          default_value = "https://127.0.0.1:7443")]
    pub address: String,
    /// The directory of ca.pem, client.pem and client.key, which need not be there yet.
    #[arg(long, env = secret_broker_client::CERT_DIR_VARIABLE, value_name = "DIR")]
    pub cert_dir: Option<PathBuf>,
    /// The longest time to wait.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = time)]
    pub timeout: Duration,
}

/// `copy`.
#[derive(Debug, clap::Args)]
pub struct CopyArgs {
    /// The directory, in which the program is called secret-broker.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// `check`.
#[derive(Debug, clap::Args)]
#[group(id = "checked", required = true, multiple = false, args = ["config", "ready"])]
pub struct CheckArgs {
    /// Check this configuration file and print all its mistakes, or a summary.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Ask the running broker whether it is ready: 0 when it is, 4 when not.
    #[arg(long)]
    pub ready: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "would replace the command's own help")]
    pub connection: Connection,
}

/// A time such as `500ms`, `10s`, `1m` or `2h`; a bare number means seconds.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis)) {
        Some(millis) if millis > 0 => Ok(Duration::from_millis(millis)),
        _ => Err("give a time such as 500ms, 10s, 1m or 2h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn times_need_a_number_and_a_known_unit() {
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(time("7"), Ok(Duration::from_secs(7)));
        assert_eq!(time("2h"), Ok(Duration::from_hours(2)));
        for bad in ["", "s", "0s", "-1s", "1d", "1.5s", "99999999999999999999s"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
