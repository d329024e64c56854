//! The definition of the command line. Its comments are the help that people read.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};

/// Rotates secrets, proves the new ones, and never loses one.
#[derive(Debug, Parser)]
#[command(name = "secret-operator", version, after_help = EXIT_CODES)]
pub struct Args {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        env = "SECRET_OPERATOR_CONFIG",
        value_name = "FILE",
        default_value = "/etc/secret-operator.toml"
    )]
    pub config: PathBuf,
    /// Print JSON, one object a line.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 other, 2 usage or configuration, 3 unknown or refused, \
4 not available, 7 the rotation did not succeed, 8 annotations that differ.";

/// All commands.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Run the operator: schedules, the sidecars' feed, the admin service.
    Run,
    /// Check the configuration file and print a summary or all its mistakes.
    Check(Whose),
    /// Run the admission webhook that injects sidecars into pods; --config names its own configuration file.
    Inject,
    /// Translate vault.hashicorp.com annotations of manifests, and list what differs.
    Migrate(MigrateArgs),
    /// Print the JSON Schema of the configuration file.
    Schema(Whose),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Make what the operator and the sidecars need elsewhere.
    #[command(subcommand)]
    Bootstrap(Bootstrap),
    /// A command about secrets.
    #[command(flatten)]
    People(Command),
}

/// Whose configuration file is meant.
#[derive(Debug, clap::Args)]
pub struct Whose {
    /// The injection webhook's, in place of the operator's.
    #[arg(long)]
    pub webhook: bool,
}

/// What is made.
#[derive(Debug, Subcommand)]
pub enum Bootstrap {
    /// Make Vault's engines, policies and roles that the configuration needs, or show what is missing. Logs in with
    /// `VAULT_TOKEN`, or else as the configuration says.
    Vault(BootstrapVault),
}

/// What is made in Vault.
#[derive(Debug, clap::Args)]
pub struct BootstrapVault {
    /// Show what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Vault's address from here, in place of the configuration's.
    #[arg(long, env = "VAULT_ADDR", value_name = "URL")]
    pub address: Option<String>,
    /// The authorities of Vault's certificate, in place of the configuration's.
    #[arg(long, env = "VAULT_CACERT", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The injection webhook's configuration: its grants become roles and policies, too.
    #[arg(long, value_name = "FILE")]
    pub inject: Option<PathBuf>,
    /// Make the auth method this cluster's where another one's is configured.
    #[arg(long)]
    pub replace_auth: bool,
    /// Write the policies as files into this directory, ask no Vault, and do nothing else.
    #[arg(long, value_name = "DIR", conflicts_with = "dry_run")]
    pub policies: Option<PathBuf>,
}

/// What people ask for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what is due, when and why.
    Plan(PlanArgs),
    /// Show where rotations stand.
    Status(NamesArgs),
    /// Show the rotations of a secret that ended.
    History(NameArgs),
    /// Rotate a secret, or go on with the rotation under way.
    Rotate(RotateArgs),
    /// Take up a rotation that is held or parked.
    Resume(NameArgs),
    /// Return to the last working version.
    Rollback(ReasonArgs),
    /// Replace a secret that others may know: at once, without overlap.
    Compromise(CompromiseArgs),
    /// Walk through an outage that a credential caused: roll back, validate, post-mortem.
    Outage(ReasonArgs),
    /// Use the current credentials and say which work.
    Validate(ValidateArgs),
    /// Hand over the value that a guided rotation waits for; it is read from standard input.
    Supply(NameArgs),
    /// Agree, as a second person, to a rotation or an access that waits for it.
    Approve(ApproveArgs),
    /// Compare the copies in Kubernetes with what is in force.
    Backup(BackupArgs),
    /// Open access to a secret for a short time, recorded and told to people; prints a token of Vault.
    BreakGlass(BreakGlassArgs),
}

/// `migrate`.
#[derive(Debug, clap::Args)]
pub struct MigrateArgs {
    /// A manifest, YAML of one or more documents; - or none for standard input.
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Print the annotations alone, in place of whole manifests.
    #[arg(long)]
    pub annotations: bool,
}

/// An approval.
#[derive(Debug, clap::Args)]
pub struct ApproveArgs {
    /// The secret.
    pub name: String,
    /// The access; the rotation when absent.
    #[arg(long, value_name = "ID")]
    pub access: Option<String>,
}

/// Copies of secrets.
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// The secrets; all that have a copy when none is named.
    pub names: Vec<String>,
    /// Write anew whatever is not what is in force, also what somebody else changed.
    #[arg(long)]
    pub mend: bool,
}

/// Access in an emergency.
#[derive(Debug, clap::Args)]
pub struct BreakGlassArgs {
    /// The secret.
    pub name: String,
    /// Why, for the record.
    #[arg(long)]
    pub reason: Option<String>,
    /// For how long, at most 4h.
    #[arg(long = "for", default_value = "15m", value_parser = time, value_name = "TIME")]
    pub lasts: Duration,
    /// Open the access of this name, which a second person agreed to.
    #[arg(long, value_name = "ID")]
    pub open: Option<String>,
    /// End the access of this name now.
    #[arg(long, value_name = "ID", conflicts_with = "open")]
    pub end: Option<String>,
}

/// A secret.
#[derive(Debug, clap::Args)]
pub struct NameArgs {
    /// The secret.
    pub name: String,
}

/// Some secrets.
#[derive(Debug, clap::Args)]
pub struct NamesArgs {
    /// The secrets; all when none is named.
    pub names: Vec<String>,
}

/// A secret, and why.
#[derive(Debug, clap::Args)]
pub struct ReasonArgs {
    /// The secret.
    pub name: String,
    /// Why, for the record.
    #[arg(long)]
    pub reason: Option<String>,
}

/// What is planned.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// Only what is due within this time, such as 30d.
    #[arg(long, value_parser = time)]
    pub within: Option<Duration>,
}

/// A rotation.
#[derive(Debug, clap::Args)]
pub struct RotateArgs {
    /// The secret.
    pub name: String,
    /// How far to go: up to and including this environment.
    #[arg(long)]
    pub environment: Option<String>,
    /// Validate the secret again once the rotation is through.
    #[arg(long)]
    pub validate: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Why, for the record.
    #[arg(long)]
    pub reason: Option<String>,
    /// Stay until the overlap ended and the old version is revoked.
    #[arg(long)]
    pub wait: bool,
}

/// A compromise.
#[derive(Debug, clap::Args)]
pub struct CompromiseArgs {
    /// The secret.
    pub name: String,
    /// What happened, for the incident report.
    #[arg(long)]
    pub reason: Option<String>,
    /// Revoke before the successor is in force: everything that uses the secret fails until then.
    #[arg(long)]
    pub revoke_first: bool,
    /// How long its readers are watched closely afterwards: 24h to 48h.
    #[arg(long, default_value = "48h", value_parser = time)]
    pub monitoring: Duration,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
}

/// A validation.
#[derive(Debug, clap::Args)]
pub struct ValidateArgs {
    /// The environment whose version is used; the last when absent.
    #[arg(long)]
    pub environment: Option<String>,
    /// The secrets; all when none is named.
    pub names: Vec<String>,
}

fn time(text: &str) -> Result<Duration, String> {
    crate::config::units::millis(text)
        .map(Duration::from_millis)
        .ok_or_else(|| "expected a time such as 30s, 12h or 30d".to_owned())
}
