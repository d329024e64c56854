//! `bootstrap vault`: what Vault lacks, shown or made.

use std::{fmt::Write, fs, path::Path};

use serde_json::json;

use super::args::BootstrapVault;
use crate::{
    bootstrap::{self, Looked, State, WantedError},
    cli::{Console, Failure, failure},
    config::operator::OperatorConfig,
    rotation::ports::VaultApi,
};

/// Writes each policy into a file of its own, `NAME.hcl`.
///
/// # Errors
/// When a path would open too much, or a file can't be written.
pub fn write_policies(
    config: &OperatorConfig,
    directory: &Path,
    console: &mut Console<'_>,
) -> Result<u8, Failure> {
    let policies = bootstrap::policies(config).map_err(|error| wrong(&error.into()))?;
    for policy in policies {
        let path = directory.join(format!("{}.hcl", policy.name));
        fs::create_dir_all(directory).and_then(|()| fs::write(&path, &policy.text)).map_err(
            |error| Failure::new(failure::OTHER, format!("{}: {}", path.display(), error.kind())),
        )?;
        console.write(format!("{}\n", path.display()).as_bytes())?;
    }
    Ok(0)
}

/// Brings Vault to what the configuration needs, or shows what would be done.
///
/// # Errors
/// What Vault refuses.
pub async fn vault(
    config: &OperatorConfig,
    vault: &dyn VaultApi,
    args: &BootstrapVault,
    as_json: bool,
    console: &mut Console<'_>,
) -> Result<u8, Failure> {
    let dry_run = args.dry_run;
    let wanted = bootstrap::wanted(config, args.replace_auth).map_err(|error| wrong(&error))?;
    let mut looked = Vec::new();
    let ended = bootstrap::run(vault, &wanted, !dry_run, |one| looked.push(one.clone())).await;
    let mut text = String::new();
    for one in &looked {
        if as_json {
            let _ = writeln!(text, "{}", line(one));
        } else {
            text.push_str(&shown(one, console));
        }
    }
    if !as_json {
        text.push_str(&sum(&looked, dry_run));
        text.push_str(&advice(&looked, config));
        if bootstrap::is_audited(vault).await == Some(false) {
            text.push_str(
                "Vault has no audit device: vault audit enable file file_path=/vault/audit/audit.log\n",
            );
        }
    }
    console.write(text.as_bytes())?;
    ended.map_err(|fault| Failure::new(failure::UNAVAILABLE, fault.to_string()))?;
    let taken = looked.iter().any(|one| matches!(one.state, State::Taken(_)));
    Ok(if taken { failure::DENIED } else { 0 })
}

fn wrong(error: &WantedError) -> Failure {
    Failure::new(failure::USAGE, error.to_string())
}

fn shown(one: &Looked, console: &Console<'_>) -> String {
    let (mark, style, lines) = match &one.state {
        State::Right => ("=", "2", &[][..]),
        State::Missing(lines) => ("+", "32", &lines[..]),
        State::Different(lines) => ("~", "33", &lines[..]),
        State::Taken(found) => {
            let text = format!("! {}: {found}, and is left alone", one.what);
            return console.styled("31", &text) + "\n";
        }
    };
    let mut text = console.styled(style, &format!("{mark} {}", one.what)) + "\n";
    for line in lines {
        let _ = writeln!(text, "    {line}");
    }
    text
}

fn line(one: &Looked) -> serde_json::Value {
    let (state, lines) = match &one.state {
        State::Right => ("right", Vec::new()),
        State::Missing(lines) => ("missing", lines.clone()),
        State::Different(lines) => ("different", lines.clone()),
        State::Taken(found) => ("taken", vec![found.clone()]),
    };
    json!({ "what": one.what, "state": state, "lines": lines })
}

/// What to do about an auth method of another cluster's.
fn advice(looked: &[Looked], config: &OperatorConfig) -> String {
    let Some(kubernetes) = &config.bootstrap.kubernetes else { return String::new() };
    let path = format!("auth/{}/config", kubernetes.mount);
    let is_others = |one: &Looked| one.what == path && matches!(one.state, State::Taken(_));
    if !looked.iter().any(is_others) {
        return String::new();
    }
    format!(
        "auth/{}/ lets another cluster log in: give this one a mount of its own (bootstrap.kubernetes.mount), or make it this one's by --replace-auth\n",
        kubernetes.mount
    )
}

fn sum(looked: &[Looked], dry_run: bool) -> String {
    let count = |is: fn(&State) -> bool| looked.iter().filter(|one| is(&one.state)).count();
    let made = count(|state| matches!(state, State::Missing(_)));
    let changed = count(|state| matches!(state, State::Different(_)));
    let right = count(|state| *state == State::Right);
    let taken = match count(|state| matches!(state, State::Taken(_))) {
        0 => String::new(),
        taken => format!("; {taken} are somebody else's"),
    };
    if made + changed == 0 {
        return format!("nothing to do: {right} are as they should be{taken}\n");
    }
    if dry_run {
        return format!(
            "would make {made} and change {changed}; {right} are as they should be{taken}; nothing was changed\n"
        );
    }
    format!("made {made}, changed {changed}; {right} were as they should be{taken}\n")
}
