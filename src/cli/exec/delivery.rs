//! What a command is given: variables and files, taken from the versions that are held.
//!
//! A delivery is whole or not made: every field is looked up before anything is replaced.

use std::{collections::BTreeMap, ffi::OsString, os::unix::ffi::OsStringExt};

use secret_broker_client::Secret;
use tokio::process::Command;
use zeroize::Zeroizing;

use super::{
    super::{
        args::ExecArgs,
        binding::{FieldRef, variable},
        failure::USAGE,
    },
    Failure,
    files::PrivateDirectory,
};

/// The variable that names the private directory.
const FILES_VARIABLE: &str = "SECRET_BROKER_FILES";

type Held = BTreeMap<String, Secret>;
type Variables = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// Variables and files of a command.
pub(super) struct Delivery {
    variables: Variables,
    files: Option<PrivateDirectory>,
}

impl Delivery {
    pub(super) fn new(args: &ExecArgs, held: &Held) -> Result<Self, Failure> {
        let variables = variables(args, held)?;
        let files = if args.file.is_empty() {
            None
        } else {
            Some(PrivateDirectory::make(args.files_in.as_deref())?)
        };
        let mut delivery = Self { variables, files };
        delivery.renew(args, held)?;
        Ok(delivery)
    }

    /// Replaces the files, and the variables for the next start.
    pub(super) fn renew(&mut self, args: &ExecArgs, held: &Held) -> Result<(), Failure> {
        let variables = variables(args, held)?;
        let contents =
            args.file.iter().map(|binding| Ok((&binding.file, value(&binding.from, held)?)));
        let contents: Vec<_> = contents.collect::<Result<_, Failure>>()?;
        if let Some(files) = &self.files {
            for (file, content) in contents {
                files.put(file, content)?;
            }
        }
        self.variables = variables;
        Ok(())
    }

    /// Adds the variables to a command.
    pub(super) fn provide(&self, command: &mut Command) {
        for (name, value) in &self.variables {
            command.env(name, OsString::from_vec(value.to_vec()));
        }
        if let Some(files) = &self.files {
            command.env(FILES_VARIABLE, files.path());
        }
    }
}

/// All variables; no two fields may go into one.
fn variables(args: &ExecArgs, held: &Held) -> Result<Variables, Failure> {
    let mut variables = Variables::new();
    if args.all {
        for secret in held.values() {
            for (field, value) in secret.fields() {
                add(&mut variables, &variable(secret.name(), field), value)?;
            }
        }
    }
    for binding in &args.env {
        add(&mut variables, &binding.variable, value(&binding.from, held)?)?;
    }
    Ok(variables)
}

fn add(variables: &mut Variables, name: &str, value: &[u8]) -> Result<(), Failure> {
    if value.contains(&0) {
        let problem = "the value holds a NUL byte, which no variable can; use --file";
        return Err(Failure::new(USAGE, format!("{name}: {problem}")));
    }
    if variables.insert(name.to_owned(), Zeroizing::new(value.to_vec())).is_some() {
        let problem = "two fields would go into this variable; name them apart with --env";
        return Err(Failure::new(USAGE, format!("{name}: {problem}")));
    }
    Ok(())
}

fn value<'h>(from: &FieldRef, held: &'h Held) -> Result<&'h [u8], Failure> {
    match held.get(&from.secret) {
        Some(secret) => from.of(secret),
        None => Err(Failure::new(USAGE, format!("{} is not held", from.secret))),
    }
}
