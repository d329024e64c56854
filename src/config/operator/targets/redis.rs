//! The settings of the rotator and of the validator `redis`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Check, Key,
    endpoint::{self, Endpoint},
    form::{self, Form},
};
use crate::config::operator::login::{self, LoginSource};

const PORT: u16 = 6379;
/// Parts of one command.
const MAX_PARTS: usize = 100;

/// The settings as people write them. Exactly one of `user`, `users` and `requirepass`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// The server; all further nodes of it are `replicas`, since users are not replicated.
    pub server: endpoint::Raw,
    /// One ACL user, which accepts the old and the new password until the old one is revoked.
    pub user: Option<String>,
    /// Two ACL users that take turns, so that the sessions of a compromised one can be ended without touching those of
    /// the other. Both have to have the same rights.
    pub users: Vec<String>,
    /// The password of the server itself (`requirepass`), in place of a user.
    pub requirepass: bool,
    /// Users that versions from before name, and that may be switched off once they are replaced.
    pub former: Vec<String>,
    /// What the application does, such as `["GET", "health"]`; `PING` when empty.
    pub command: Vec<String>,
    /// How many random characters a password has.
    pub length: form::Length,
    /// Further fields of the secret by name, such as `url = "rediss://{username}:{password}@cache.shop"`.
    pub fields: BTreeMap<String, String>,
    /// The login of the operator, which must not be one of the users. It needs `+acl`, and `+config|rewrite`,
    /// `+config|set` and `+client|kill` where these are used. With `requirepass` and without it, the operator logs in
    /// with the password that it replaces.
    pub login: Option<login::Raw>,
}

/// What a validator needs, as people write it.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawUse {
    /// The server and further nodes.
    pub server: endpoint::Raw,
    /// What the application does, such as `["GET", "health"]`; `PING` when empty.
    pub command: Vec<String>,
}

/// The settings.
#[derive(Debug, PartialEq, Eq)]
pub struct Redis {
    /// How a consumer uses the credential.
    pub usage: Use,
    /// Whose password is replaced.
    pub turn: Turn,
    /// Users that versions from before name.
    pub former: Vec<String>,
    /// The form of a new value.
    pub form: Form,
    /// The login of the operator; the secret itself when absent.
    pub login: Option<LoginSource>,
}

/// Whose password is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// That of one ACL user, which accepts two for a while.
    Shared(String),
    /// That of the ACL user which nobody uses.
    Alternating([String; 2]),
    /// That of the server itself.
    Requirepass,
}

/// How a consumer uses the credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The servers.
    pub endpoint: Endpoint,
    /// What the application does; `PING`, whether or not it is allowed, when empty.
    pub command: Vec<String>,
}

pub(super) fn check(check: &mut Check<'_>, key: &Key, raw: Raw) -> Option<Redis> {
    let by = key.to_string();
    let form = form::check(check, key, raw.length, raw.fields);
    let turn = turn(check, key, (raw.user, raw.users, raw.requirepass));
    let login = match (raw.login, &turn) {
        (None, Some(Turn::Requirepass)) => Some(None),
        (login, _) => login::check(check, &key.name("login"), login, &by).map(Some),
    };
    let usage = check_use(check, key, RawUse { server: raw.server, command: raw.command });
    let former = raw.former;
    if !former.iter().all(|name| is_name(name)) {
        wrong_name(check, key.name("former"));
        return None;
    }
    Some(Redis { usage: usage?, turn: turn?, former, form: form?, login: login? })
}

/// Completes the settings of a validator.
pub(in crate::config::operator) fn check_use(
    check: &mut Check<'_>,
    key: &Key,
    raw: RawUse,
) -> Option<Use> {
    let by = key.to_string();
    let endpoint = endpoint::check(check, &key.name("server"), raw.server, PORT, &by);
    let command = raw.command;
    if command.len() > MAX_PARTS || command.first().is_some_and(|name| name.trim().is_empty()) {
        let accepted = "expected a command and its arguments, such as [\"GET\", \"health\"]";
        check.wrong(key.name("command"), "not a command", accepted);
        return None;
    }
    Some(Use { endpoint: endpoint?, command })
}

fn turn(
    check: &mut Check<'_>,
    key: &Key,
    (user, users, requirepass): (Option<String>, Vec<String>, bool),
) -> Option<Turn> {
    let given = [user.is_some(), !users.is_empty(), requirepass];
    if given.iter().filter(|given| **given).count() != 1 {
        let accepted = "expected exactly one of `user`, `users` and `requirepass`";
        check.wrong(key.clone(), "not one kind of user", accepted);
        return None;
    }
    let turn = match (user, <[String; 2]>::try_from(users)) {
        (Some(user), _) => Turn::Shared(user),
        (None, Ok(users)) if users[0] != users[1] => Turn::Alternating(users),
        (None, Err(users)) if users.is_empty() => return Some(Turn::Requirepass),
        _ => {
            check.wrong(key.name("users"), "not two users", "expected two different names");
            return None;
        }
    };
    let names = match &turn {
        Turn::Shared(user) => std::slice::from_ref(user),
        Turn::Alternating(users) => users.as_slice(),
        Turn::Requirepass => &[],
    };
    if !names.iter().all(|name| is_name(name)) {
        wrong_name(check, key.clone());
        return None;
    }
    Some(turn)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains([' ', '\0'])
}

fn wrong_name(check: &mut Check<'_>, key: Key) {
    check.wrong(key, "not a user's name", "expected a text without spaces");
}
