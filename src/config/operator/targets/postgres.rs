//! The settings of the rotator and of the validator `postgres`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Check, Key,
    endpoint::{self, Endpoint},
    form::{self, Form},
};
use crate::config::operator::login::{self, LoginSource};

const PORT: u16 = 5432;
/// The longest name that `PostgreSQL` keeps whole, in bytes.
const MAX_NAME: usize = 63;

/// The settings as people write them. Either `user`, or `users` and `owner`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// The server.
    pub server: endpoint::Raw,
    /// The database to log in to.
    pub database: Option<String>,
    /// Two users that take turns: a new password goes to the one that nobody uses, so that both the old and the new
    /// version work while readers move over. Both have to be members of `owner` and act as it by default
    /// (`ALTER ROLE ... SET role`).
    pub users: Vec<String>,
    /// The role without login that the users act as and that owns what they make; needed with `users`.
    pub owner: Option<String>,
    /// One user whose password is replaced, in place of `users`: from then on until its readers have the new version,
    /// new connections with the old one fail.
    pub user: Option<String>,
    /// Users that versions from before name, and that may be switched off once they are replaced.
    pub former: Vec<String>,
    /// What the application does, such as `SELECT 1 FROM orders LIMIT 1`; it is rolled back. Nothing is asked when absent.
    pub query: Option<String>,
    /// End the sessions of a replaced user; those of a compromised one are ended always.
    pub end_sessions: bool,
    /// How many random characters a password has.
    pub length: form::Length,
    /// Further fields of the secret by name, such as `url = "postgresql://{username}:{password}@db.shop/shop"`.
    pub fields: BTreeMap<String, String>,
    /// The login of the operator, which must not be one of the users. It needs to be allowed to alter them, and to end
    /// their sessions.
    pub login: Option<login::Raw>,
}

/// What a validator needs, as people write it.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawUse {
    /// The server.
    pub server: endpoint::Raw,
    /// The database to log in to.
    pub database: Option<String>,
    /// The role that the user has to act as after its login.
    pub owner: Option<String>,
    /// What the application does, such as `SELECT 1 FROM orders LIMIT 1`; it is rolled back. Nothing is asked when absent.
    pub query: Option<String>,
}

/// The settings.
#[derive(Debug, PartialEq, Eq)]
pub struct Postgres {
    /// How a consumer uses the credential.
    pub usage: Use,
    /// Whose password is replaced.
    pub turn: Turn,
    /// Users that versions from before name.
    pub former: Vec<String>,
    /// End the sessions of a replaced user.
    pub end_sessions: bool,
    /// The form of a new value.
    pub form: Form,
    /// The login of the operator.
    pub login: LoginSource,
}

/// Whose password is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// That of the user which nobody uses.
    Alternating([String; 2]),
    /// That of the only one.
    InPlace(String),
}

/// How a consumer uses the credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The server.
    pub endpoint: Endpoint,
    /// The database to log in to.
    pub database: String,
    /// The role that the user acts as after its login.
    pub owner: Option<String>,
    /// Users that have to have the same rights.
    pub alike: Vec<String>,
    /// What the application does.
    pub query: Option<String>,
}

pub(super) fn check(check: &mut Check<'_>, key: &Key, raw: Raw) -> Option<Postgres> {
    let by = key.to_string();
    let form = form::check(check, key, raw.length, raw.fields);
    let login = login::check(check, &key.name("login"), raw.login, &by);
    let turn = turn(check, key, raw.users, raw.user);
    let usage =
        RawUse { server: raw.server, database: raw.database, owner: raw.owner, query: raw.query };
    let mut usage = check_use(check, key, usage);
    let mut fine = names(check, &key.name("former"), &raw.former);
    if let (Some(usage), Some(Turn::Alternating(users))) = (&mut usage, &turn) {
        usage.alike = users.to_vec();
        fine &= check.need(&key.name("owner"), usage.owner.as_ref(), "`users`").is_some();
        if usage.owner.as_ref().is_some_and(|owner| users.contains(owner)) {
            let accepted = "expected a role without login that both users are members of";
            check.wrong(key.name("owner"), "one of the users", accepted);
            fine = false;
        }
    }
    let (form, login, turn, usage) = (form?, login?, turn?, usage?);
    let former = raw.former;
    let end_sessions = raw.end_sessions;
    fine.then_some(Postgres { usage, turn, former, end_sessions, form, login })
}

/// Completes the settings of a validator.
pub(in crate::config::operator) fn check_use(
    check: &mut Check<'_>,
    key: &Key,
    raw: RawUse,
) -> Option<Use> {
    let by = key.to_string();
    let endpoint = endpoint::check(check, &key.name("server"), raw.server, PORT, &by);
    let database = check.text(&key.name("database"), raw.database, &by);
    let owner = match raw.owner {
        Some(owner) if !is_name(&owner) => {
            wrong_name(check, key.name("owner"));
            return None;
        }
        owner => owner,
    };
    let query = match raw.query {
        Some(query) => Some(check.text(&key.name("query"), Some(query), &by)?),
        None => None,
    };
    let (endpoint, database) = (endpoint?, database?);
    Some(Use { endpoint, database, owner, alike: Vec::new(), query })
}

fn turn(
    check: &mut Check<'_>,
    key: &Key,
    users: Vec<String>,
    user: Option<String>,
) -> Option<Turn> {
    match (user, <[String; 2]>::try_from(users)) {
        (Some(user), Err(users)) if users.is_empty() => {
            names(check, &key.name("user"), std::slice::from_ref(&user))
                .then_some(Turn::InPlace(user))
        }
        (None, Ok(users)) if users[0] != users[1] => {
            names(check, &key.name("users"), &users).then_some(Turn::Alternating(users))
        }
        (None, Err(users)) if users.is_empty() => {
            check.wrong(key.clone(), "no user", "expected either `users` or `user`");
            None
        }
        (Some(_), _) => {
            check.wrong(key.name("user"), "given beside `users`", "expected one of both");
            None
        }
        _ => {
            check.wrong(key.name("users"), "not two users", "expected two different names");
            None
        }
    }
}

fn names(check: &mut Check<'_>, key: &Key, names: &[String]) -> bool {
    let fine = names.iter().all(|name| is_name(name));
    if !fine {
        wrong_name(check, key.clone());
    }
    fine
}

fn wrong_name(check: &mut Check<'_>, key: Key) {
    check.wrong(key, "not a role's name", format!("expected 1 to {MAX_NAME} bytes of text"));
}

fn is_name(name: &str) -> bool {
    matches!(name.len(), 1..=MAX_NAME) && !name.contains(char::is_control)
}
