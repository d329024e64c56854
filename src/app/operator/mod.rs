//! The operator's composition: from its command line and configuration to an engine at work.

mod bootstrap;
mod cluster;
mod compose;
mod inject;
mod keeper;
mod person;
mod serve;
mod targets;

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use aws_lc_rs::rand;
use clap::{CommandFactory, Parser};
use jiff::Timestamp;
use tokio::time::timeout;

use self::compose::{Composed, Relayed};
use super::{StartError, complain, print};
use crate::{
    cli::{Console, failure},
    commands::{
        self, Args, Command, Desk,
        args::{self, Action},
    },
    config::{
        self,
        operator::{Keeper, OperatorConfig, raw},
    },
    domain::rotation::RotationId,
    lockdown::lock_down,
    report::Directory,
    telemetry::Logs,
    tls,
};

/// The time for word to the operator that leads, when a command ends.
const LAST_POSTS: Duration = Duration::from_secs(5);

/// The whole program: the command line in, the exit code out.
pub fn main() -> ExitCode {
    let args = Args::parse();
    // Every command may hold values, so every one is locked down.
    let _measures = lock_down();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error, failure::OTHER),
    };
    // Only a second provider could refuse this, and there is none.
    let _ = tls::provider().as_ref().clone().install_default();
    runtime.block_on(async {
        match args.action {
            Action::Schema(args::Whose { webhook: false }) => {
                print(&schemars::schema_for!(raw::File).to_value())
            }
            Action::Schema(args::Whose { webhook: true }) => {
                print(&schemars::schema_for!(config::inject::raw::File).to_value())
            }
            Action::Completions { shell } => completions(shell),
            Action::Inject => match inject::run(&args.config).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error @ StartError::Configuration(_)) => complain(&error, failure::USAGE),
                Err(error) => complain(&error, failure::OTHER),
            },
            Action::Migrate(args) => {
                let (mut out, mut err) = (io::stdout(), io::stderr());
                let mut console = Console::of_process(&mut out, &mut err).of("secret-operator");
                ExitCode::from(commands::migrate::run(&args, &mut io::stdin(), &mut console))
            }
            Action::Check(args::Whose { webhook: false }) => check(&args.config),
            Action::Check(args::Whose { webhook: true }) => inject::check(&args.config),
            Action::Run => match load(&args.config) {
                Ok(config) => match serve::run(config).await {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => complain(&error, failure::OTHER),
                },
                Err(error) => complain(&error, failure::USAGE),
            },
            Action::Bootstrap(args::Bootstrap::Vault(given)) => {
                bootstrap::bootstrap(&args.config, given, args.json).await
            }
            Action::People(command) => people(&args.config, command, args.json).await,
        }
    })
}

/// The name of a rotation: its time, for people, and a random part.
pub(super) fn name(now: Timestamp) -> RotationId {
    let mut random = [0_u8; 4];
    // Without randomness the time still tells names apart, but for those of one second.
    let _ = rand::fill(&mut random);
    let random = u32::from_be_bytes(random);
    RotationId(format!("{}-{random:08x}", now.strftime("%Y%m%dT%H%M%SZ")))
}

async fn people(path: &Path, command: Command, json: bool) -> ExitCode {
    let mut config = match load(path) {
        Ok(config) => config,
        Err(error) => return complain(&error, failure::USAGE),
    };
    if let Err(error) = hush(&config) {
        return complain(&error, failure::USAGE);
    }
    let documents = config.records.clone().map(Directory::new);
    let glass = config.break_glass.take();
    let mut posting = None;
    let composed = Composed::new(config, |keeper| {
        let (readers, posts) = Relayed::new(keeper.relay());
        posting = Some(tokio::spawn(posts));
        readers
    });
    let composed = match composed {
        Ok(composed) => composed,
        Err(error) => return complain(&error, failure::OTHER),
    };
    let person = match composed.keeper.person().await {
        Ok(person) => person,
        Err(fault) => return complain(&fault, failure::UNAVAILABLE),
    };
    let glass = glass.and_then(|terms| composed.keeper.break_glass(&terms));
    let backups = composed.backups;
    let desk = Desk { engine: composed.engine, person, glass, backups, documents, name, json };
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let mut console = Console::of_process(&mut out, &mut err).of("secret-operator");
    let code = commands::run(command, &desk, &mut console).await;
    drop(desk);
    if let Some(posting) = posting {
        // What is not posted by then is found by polling.
        let _ = timeout(LAST_POSTS, posting).await;
    }
    ExitCode::from(code)
}

/// What helps where a configuration can't be read.
const ANOTHER_FILE: &str = "; --config names another file";

/// The text of a configuration; `hint` tells what helps if it can't be read.
fn read(path: &Path, hint: &str) -> Result<String, StartError> {
    std::fs::read_to_string(path).map_err(|error| {
        let kind = error.kind();
        StartError::System(io::Error::new(kind, format!("{}: {kind}{hint}", path.display())))
    })
}

/// Has a command of people log what went wrong, and nothing else.
fn hush(config: &OperatorConfig) -> Result<(), StartError> {
    let quiet = config::Telemetry { log_filter: "error".to_owned(), ..config.telemetry.clone() };
    Logs::install(&quiet)?;
    Ok(())
}

fn load(path: &Path) -> Result<OperatorConfig, StartError> {
    let text = read(path, ANOTHER_FILE)?;
    let environment = |name: &str| config::environment(name);
    OperatorConfig::parse(&text, &path.display().to_string(), &environment)
        .map(|(config, _)| config)
        .map_err(StartError::Configuration)
}

fn check(path: &Path) -> ExitCode {
    match load(path) {
        Ok(config) => {
            let (file, secrets) = (path.display(), config.secrets.len());
            let said = match config.keeper {
                Keeper::Vault { vault, journal } => writeln!(
                    io::stdout(),
                    "{file}: {secrets} secrets; Vault at {}; journal at {}/{}",
                    vault.address,
                    journal.mount,
                    journal.path
                ),
                Keeper::Sealed { file: kept, .. } => {
                    writeln!(io::stdout(), "{file}: {secrets} secrets in {}", kept.display())
                }
            };
            if said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => complain(&error, failure::USAGE),
    }
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    clap_complete::generate(shell, &mut Args::command(), "secret-operator", &mut io::stdout());
    ExitCode::SUCCESS
}
