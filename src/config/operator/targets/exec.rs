//! The settings of the rotator `exec`.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Key};
use crate::config::{
    operator::{LoginSource, login},
    units::{Count, Span, hours, mins},
};

/// The settings as people write them.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// The program, by its path, and its arguments. It is run once for each step, without a shell.
    pub command: Vec<String>,
    /// The program's variables; of the operator's own it gets `PATH`, `HOME`, `LANG` and `TZ` only.
    pub environment: BTreeMap<String, String>,
    /// The operator's own login, which the program gets as `login`.
    pub login: Option<login::Raw>,
    /// The time for one step, after which the program and all that it started is killed.
    pub timeout: Span<{ mins(1) }, 100, { hours(1) }>,
    /// The most that the program may answer, in bytes.
    pub answer_bytes: Count<1_048_576, 1024, 16_777_216>,
    /// The target accepts one value at a time: the old one is dead as soon as the new one is set.
    pub single: bool,
    /// What stops working when the value is revoked at once, for people.
    pub breaks: Option<String>,
}

/// The settings.
#[derive(Debug, PartialEq, Eq)]
pub struct Exec {
    /// The program.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its variables.
    pub environment: BTreeMap<String, String>,
    /// The operator's own login.
    pub login: Option<LoginSource>,
    /// The time for one step.
    pub timeout: Duration,
    /// The most that it may answer, in bytes.
    pub answer_bytes: usize,
    /// Whether the target accepts one value at a time.
    pub single: bool,
    /// What stops working when the value is revoked at once.
    pub breaks: Option<String>,
}

pub(super) fn check(check: &mut Check<'_>, key: &Key, raw: Raw) -> Option<Exec> {
    let Raw { command, environment, login, timeout, answer_bytes, single, breaks } = raw;
    let mut command = command.into_iter();
    let program = command.next().filter(|program| !program.is_empty());
    let program = check.need(&key.name("command"), program, "rotate.exec");
    let login = match login {
        None => Some(None),
        login => login::check(check, &key.name("login"), login, "rotate.exec").map(Some),
    };
    let bad = environment.keys().any(|name| name.is_empty() || name.contains(['=', '\0']));
    if bad {
        check.wrong(key.name("environment"), "not a variable's name", "expected NAME = \"text\"");
    }
    Some(Exec {
        program: program?,
        arguments: command.collect(),
        environment: Some(environment).filter(|_| !bad)?,
        login: login?,
        timeout: timeout.duration(),
        answer_bytes: answer_bytes.size(),
        single,
        breaks,
    })
}
