//! The operator's composition: from its command line and configuration to an engine at work.

mod cluster;
mod compose;
mod inject;
mod person;
mod serve;
mod targets;

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use aws_lc_rs::rand;
use clap::{CommandFactory, Parser};
use jiff::Timestamp;

use self::compose::Composed;
use super::{StartError, complain, print};
use crate::{
    cli::{Console, failure},
    commands::{self, Args, Command, Desk, args::Action},
    config::{
        self,
        operator::{OperatorConfig, raw},
    },
    domain::rotation::RotationId,
    lockdown::lock_down,
    report::Directory,
    rotation::ports::BreakGlass,
    telemetry::Logs,
    tls,
};

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
            Action::Schema => print(&schemars::schema_for!(raw::File).to_value()),
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
            Action::Check => check(&args.config),
            Action::Run => match load(&args.config) {
                Ok(config) => match serve::run(config).await {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => complain(&error, failure::OTHER),
                },
                Err(error) => complain(&error, failure::USAGE),
            },
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
    let quiet = config::Telemetry { log_filter: "error".to_owned(), ..config.telemetry.clone() };
    if let Err(error) = Logs::install(&quiet) {
        return complain(&error, failure::USAGE);
    }
    let documents = config.records.clone().map(Directory::new);
    let glass = config.break_glass.take();
    let composed = match Composed::new(config, Arc::new(compose::NoReaders)) {
        Ok(composed) => composed,
        Err(error) => return complain(&error, failure::OTHER),
    };
    let person = match person::of(&composed.vault.store).await {
        Ok(person) => person,
        Err(fault) => return complain(&fault, failure::UNAVAILABLE),
    };
    let glass = glass.map(|terms| composed.vault.store.break_glass(terms.token_role.as_deref()));
    let glass = glass.map(|glass| Arc::new(glass) as Arc<dyn BreakGlass>);
    let backups = composed.backups;
    let desk = Desk { engine: composed.engine, person, glass, backups, documents, name, json };
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let mut console = Console::of_process(&mut out, &mut err).of("secret-operator");
    let code = commands::run(command, &desk, &mut console).await;
    ExitCode::from(code)
}

fn load(path: &Path) -> Result<OperatorConfig, StartError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        StartError::System(io::Error::new(
            error.kind(),
            format!("{}: {}; --config names another file", path.display(), error.kind()),
        ))
    })?;
    let environment = |name: &str| config::environment(name);
    OperatorConfig::parse(&text, &path.display().to_string(), &environment)
        .map(|(config, _)| config)
        .map_err(StartError::Configuration)
}

fn check(path: &Path) -> ExitCode {
    match load(path) {
        Ok(config) => {
            let said = writeln!(
                io::stdout(),
                "{}: {} secrets; Vault at {}; journal at {}/{}",
                path.display(),
                config.secrets.len(),
                config.vault.address,
                config.journal.mount,
                config.journal.path
            );
            if said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => complain(&error, failure::USAGE),
    }
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    clap_complete::generate(shell, &mut Args::command(), "secret-operator", &mut io::stdout());
    ExitCode::SUCCESS
}
