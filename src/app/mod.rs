//! The composition root: the only place that constructs adapters and spawns long tasks.

mod certificates;
pub mod clock;
mod dev;
mod dev_vault;
mod doors;
mod feed;
#[cfg(feature = "operator")]
pub mod operator;
mod rendering;
pub mod running;
mod saving;
mod stores;

use std::{
    ffi::OsStr,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use self::running::Running;
use crate::{
    cli::{self, Args, Command, Console, args::ServeArgs, failure},
    config::{self, Mistakes, reference, reload::ConfigSource},
    lockdown::{Lockdown, Outcome, lock_down, raise_file_limit},
    sealing,
    store::vault::SetupError,
    telemetry::logs::InvalidFilter,
    tls::{self, TlsError},
};

/// Why the broker can't start. The message says what would help.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has mistakes.
    #[error("{0}")]
    Configuration(Mistakes),
    /// The log filter is not one.
    #[error("telemetry.log_filter: {0}")]
    Log(#[from] InvalidFilter),
    /// Certificates can't be had.
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
    /// Vault can't be set up as configured.
    #[error("{0}")]
    Vault(#[from] SetupError),
    /// Certificates are to come from Vault, and there is none.
    #[error("tls.source is \"vault-pki\", which needs a [vault] section")]
    NoVault,
    /// The audit log can't be opened.
    #[error("audit: {0}")]
    Audit(#[from] crate::audit::AuditError),
    /// The state file or its key can't be used.
    #[error("state: {0}")]
    State(#[from] crate::broker::state::StateError),
    /// The Vault for `dev --vault` can't be used.
    #[error("{0}")]
    DevVault(String),
    /// The encrypted file for `dev` can't be used.
    #[error("{0}")]
    DevSealed(crate::domain::fault::Fault),
    /// The operator can't be set up as configured.
    #[error("{0}")]
    Operator(crate::domain::fault::Fault),
    /// A Vault is to be set up, and the operator keeps nothing in one.
    #[error("bootstrap sets a Vault up, and the configuration has no [vault]")]
    OperatorVault,
    /// The operator is to run in a cluster, and there is none.
    #[error("[kubernetes] is there, and its cluster can't be used: see the warning before")]
    NoCluster,
    /// No randomness can be had.
    #[error("{0}")]
    Randomness(crate::domain::fault::Fault),
    /// An address or a socket can't be listened on.
    #[error("{setting}: can't listen on {address}: {source}")]
    Listen {
        /// The setting that names it.
        setting: &'static str,
        /// The address or path.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// A template can't be rendered.
    #[error("{what}")]
    Render {
        /// The exit code.
        exit: u8,
        /// Why.
        what: String,
    },
    /// The reflection service can't be built.
    #[error("the contract's descriptors can't be read")]
    Descriptors(#[from] tonic_reflection::server::Error),
    /// The system refuses something that every process needs.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// The whole program: the command line in, the exit code out.
pub fn main() -> ExitCode {
    let Args { command } = Args::parse();
    let lockdown = matches!(command, Command::Serve(_) | Command::Dev(_)).then(lock_down);
    if lockdown.is_some() {
        raise_file_limit();
    }
    // One thread: the sidecar shares its pod's cores with an application, and one is enough.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error, failure::OTHER),
    };
    // Only a second provider could refuse this, and there is none.
    let _ = tls::provider().as_ref().clone().install_default();
    runtime.block_on(async {
        match command {
            Command::Serve(args) => ended(serve(args, lockdown).await),
            Command::Schema => print(&reference::schema()),
            Command::Keygen => keygen(),
            Command::Client(command) => {
                let (mut out, mut err) = (io::stdout(), io::stderr());
                let mut console = Console::of_process(&mut out, &mut err);
                ExitCode::from(cli::run(command, &mut console, config::check_file).await)
            }
            Command::Dev(args) => ended(dev::run(args).await),
        }
    })
}

async fn serve(args: ServeArgs, lockdown: Option<Lockdown>) -> Result<(), StartError> {
    let ServeArgs { config: path, render, once } = args;
    let environment = Box::new(|name: &str| config::environment(name));
    let mut source = ConfigSource::open(path, environment)?;
    let checked = source.load().await.map_err(StartError::Configuration)?;
    let (kept, single) = if once { (Vec::new(), render) } else { (render, Vec::new()) };
    let mut stop = std::pin::pin!(stopped()?);
    let running = tokio::select! {
        running = Running::start(checked, kept) => running?,
        // It may wait for its certificate, and the first process of a container ends by no signal that it does not take.
        () = &mut stop => {
            let what = "it was stopped before it rendered".to_owned();
            return if once { Err(StartError::Render { exit: failure::OTHER, what }) } else { Ok(()) };
        }
    };
    for (measure, outcome) in lockdown.iter().flat_map(Lockdown::measures) {
        match outcome {
            Outcome::Held => tracing::info!(measure, "locked down"),
            Outcome::Refused(why) => tracing::warn!(measure, why, "not locked down"),
        }
    }
    if once {
        return running.render_once(single, stop).await;
    }
    running.serve(&mut source, stop).await;
    Ok(())
}

/// Resolves at SIGTERM or SIGINT.
fn stopped() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn ended(result: Result<(), StartError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ StartError::Configuration(_)) => complain(&error, failure::USAGE),
        Err(ref error @ StartError::Render { exit, .. }) => complain(error, exit),
        Err(error) => complain(&error, failure::OTHER),
    }
}

/// Says on standard error why the program ends; a closed one is nobody's failure.
fn complain(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    let program = std::env::args_os().next().map(PathBuf::from);
    let program = program.as_deref().and_then(Path::file_name).and_then(OsStr::to_str);
    let _ = writeln!(io::stderr(), "{}: {error}", program.unwrap_or("secret-broker"));
    ExitCode::from(code)
}

/// Prints a new key; it is meant to be redirected into a file.
fn keygen() -> ExitCode {
    let key = sealing::generate_key();
    let mut out = io::stdout();
    let printed = out.write_all(key.expose()).and_then(|()| out.write_all(b"\n"));
    if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(json: &serde_json::Value) -> ExitCode {
    let printed = serde_json::to_writer_pretty(io::stdout(), json).is_ok();
    if printed && writeln!(io::stdout()).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
