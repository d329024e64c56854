//! `migrate`: annotations of the Vault Agent Injector to ours.
//!
//! The manifests go to standard output, what differs to standard error. Exit codes: 0 when everything means the same, 8 when
//! something differs, 2 when there is nothing to read or it is not YAML.

use std::{fmt::Write, fs, io::Read, path::Path};

use super::args::MigrateArgs;
use crate::{
    cli::{
        Console, Failure,
        failure::{OK, USAGE},
    },
    config::minimal,
    inject::migrate::manifest::Migrated,
};

/// Something differs.
pub const DIFFERS: u8 = 8;

/// Runs it; returns the exit code.
pub fn run(args: &MigrateArgs, input: &mut impl Read, console: &mut Console<'_>) -> u8 {
    match migrate(args, input, console) {
        Ok(code) => code,
        Err(failure) => {
            if let Some(message) = &failure.message {
                console.complain(message);
            }
            failure.exit
        }
    }
}

fn migrate(
    args: &MigrateArgs,
    input: &mut impl Read,
    console: &mut Console<'_>,
) -> Result<u8, Failure> {
    let mut migrated = Migrated::default();
    let standard = [Path::new("-").to_owned()];
    let files = if args.files.is_empty() { &standard[..] } else { &args.files };
    for file in files {
        let named = |why: String| Failure::new(USAGE, format!("{}: {why}", file.display()));
        let mut text = String::new();
        let read = if file.as_os_str() == "-" {
            input.read_to_string(&mut text).map(drop)
        } else {
            fs::read_to_string(file).map(|read| text = read)
        };
        read.map_err(|error| named(error.to_string()))?;
        migrated.read(&text).map_err(named)?;
    }
    console.write(printed(args, &migrated)?.as_bytes())?;
    for (place, difference) in &migrated.differences {
        console.complain(&format!("{place}: {}: {}", difference.annotation, difference.what));
    }
    Ok(if migrated.differences.is_empty() { OK } else { DIFFERS })
}

fn printed(args: &MigrateArgs, migrated: &Migrated) -> Result<String, Failure> {
    let yaml = |value: &serde_json::Value| {
        serde_saphyr::to_string(value)
            .map_err(|error| Failure::new(super::failure::OTHER, error.to_string()))
    };
    let mut out = needs(migrated);
    if args.annotations {
        for (place, annotations) in &migrated.annotations {
            let value = serde_json::json!({ "metadata": { "annotations": annotations } });
            // Writing to a string does not fail.
            let _ = write!(out, "---\n# {place}\n{}", yaml(&value)?);
        }
        return Ok(out);
    }
    for document in &migrated.documents {
        let _ = write!(out, "---\n{}", yaml(document)?);
    }
    Ok(out)
}

/// What the webhook's configuration needs, as comments.
fn needs(migrated: &Migrated) -> String {
    let mut out = String::new();
    if migrated.secrets.is_empty() {
        return out;
    }
    let mut text = String::new();
    for (name, secret) in &migrated.secrets {
        let keys = minimal::secret(secret).unwrap_or_default();
        let _ = writeln!(text, "[secrets.\"{name}\"]\n{keys}");
    }
    for ((namespace, account), names) in &migrated.grants {
        let names: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
        let names = names.join(", ");
        let _ = writeln!(
            text,
            "[[grant]]\nnamespaces = [\"{namespace}\"]\nservice_accounts = [\"{account}\"]\nsecrets = [{names}]"
        );
    }
    let _ = writeln!(out, "# The webhook's configuration needs (check mounts and engines):");
    for line in text.lines() {
        let _ = writeln!(out, "# {line}");
    }
    out
}
