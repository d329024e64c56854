//! ACL users of one server: what they are, and what is changed of them.
//!
//! Passwords go to the server as SHA-256 digests, the form in which it keeps them, so that neither
//! its logs nor its monitor can show one.

use std::{collections::BTreeMap, fmt::Write};

use aws_lc_rs::digest::{SHA256, digest};
use redis::Value;

use super::session::{Session, Trouble};
use crate::{
    domain::{
        fault::{Fault, Reason},
        secret::SecretValue,
    },
    rotation::ports::TargetError,
};

/// The digest of a password, as ACL rules take it.
pub(super) fn digested(password: &SecretValue) -> String {
    let digest = digest(&SHA256, password.expose());
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An ACL user as a server describes it.
#[derive(Debug, PartialEq)]
pub(super) struct User {
    is_on: bool,
    passwords: Vec<String>,
    /// Everything else, in the server's words.
    rights: BTreeMap<String, String>,
}

impl User {
    /// Whether this password opens it.
    pub(super) fn accepts(&self, digest: &str) -> bool {
        self.is_on && self.passwords.iter().any(|known| known == digest)
    }

    /// In which of its rights it differs from another one.
    pub(super) fn difference<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let names = self.rights.keys().chain(other.rights.keys());
        let differ = |name: &&String| self.rights.get(*name) != other.rights.get(*name);
        let mut names = names.filter(differ).map(String::as_str).collect::<Vec<_>>();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// What the server knows of a user, whom a change would otherwise make.
pub(super) async fn existing(session: &mut Session, name: &str) -> Result<User, TargetError> {
    let answer = session.ask(&[b"ACL", b"GETUSER", name.as_bytes()]).await;
    match answer.map_err(Trouble::of_operator)? {
        Value::Nil => {
            let detail = format!("Redis has no user {name}: ACL SETUSER {name} makes it");
            Err(Fault::new(Reason::NotFound, detail).into())
        }
        answer => parse(&answer).ok_or_else(|| {
            TargetError::fault(Reason::Invalid, "Redis's description of a user can't be read")
        }),
    }
}

/// Changes a user by ACL rules.
pub(super) async fn change(
    session: &mut Session,
    name: &str,
    rules: &[&str],
) -> Result<(), TargetError> {
    let mut parts: Vec<&[u8]> = vec![b"ACL", b"SETUSER", name.as_bytes()];
    parts.extend(rules.iter().map(|rule| rule.as_bytes()));
    session.ask(&parts).await.map(drop).map_err(Trouble::of_operator)
}

/// Takes one of a user's passwords away, if it has it.
pub(super) async fn forget(
    session: &mut Session,
    name: &str,
    digest: &str,
) -> Result<(), TargetError> {
    if existing(session, name).await?.passwords.iter().any(|known| known == digest) {
        change(session, name, &[&format!("!{digest}")]).await?;
    }
    Ok(())
}

/// Has the server write its users down, where it has a place for it. Returns which.
pub(super) async fn keep(session: &mut Session) -> Result<&'static str, TargetError> {
    match session.ask(&[b"ACL", b"SAVE"]).await {
        Ok(_) => return Ok("saved in its ACL file"),
        Err(trouble) if trouble.is_lacking() => {}
        Err(trouble) => return Err(trouble.of_keeping()),
    }
    match session.ask(&[b"CONFIG", b"REWRITE"]).await {
        Ok(_) => Ok("saved in its configuration file"),
        Err(trouble) if trouble.is_lacking() => {
            Ok("NOT saved, for the server has no file for it or the operator may not write it: a \
                restart brings the one before back")
        }
        Err(trouble) => Err(trouble.of_keeping()),
    }
}

/// Ends the sessions of a user. Returns how many.
pub(super) async fn end_sessions(session: &mut Session, name: &str) -> Result<i64, TargetError> {
    match session.ask(&[b"CLIENT", b"KILL", b"USER", name.as_bytes()]).await {
        Ok(Value::Int(n)) => Ok(n),
        Ok(_) => Ok(0),
        // The sessions of one that is gone ended with it.
        Err(trouble) if trouble.is_no_user() => Ok(0),
        Err(trouble) => Err(trouble.of_operator()),
    }
}

fn parse(answer: &Value) -> Option<User> {
    let pairs: Vec<(&Value, &Value)> = match answer {
        Value::Array(items) => {
            items.chunks_exact(2).filter_map(|pair| Some((pair.first()?, pair.get(1)?))).collect()
        }
        Value::Map(pairs) => pairs.iter().map(|(key, value)| (key, value)).collect(),
        _ => return None,
    };
    let mut user = User { is_on: false, passwords: Vec::new(), rights: BTreeMap::new() };
    for (key, value) in pairs {
        let key = text(key)?;
        match (key.as_str(), value) {
            ("passwords", Value::Array(items) | Value::Set(items)) => {
                user.passwords = items.iter().filter_map(text).collect();
            }
            ("flags", Value::Array(items) | Value::Set(items)) => {
                let mut flags = items.iter().filter_map(text).collect::<Vec<_>>();
                user.is_on = flags.iter().any(|flag| flag == "on");
                flags.retain(|flag| flag != "on" && flag != "off");
                flags.sort_unstable();
                user.rights.insert(key, flags.join(" "));
            }
            (_, value) => {
                user.rights.insert(key, shown(value));
            }
        }
    }
    Some(user)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// A right, in one text, to compare.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) | Value::Set(items) => {
            items.iter().map(shown).collect::<Vec<_>>().join("\n")
        }
        value => text(value).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str]) -> Value {
        Value::Array(items.iter().map(|text| one(text)).collect())
    }

    fn one(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn user(flags: &[&str], passwords: &[&str], keys: &str) -> User {
        let pairs = [("flags", list(flags)), ("passwords", list(passwords)), ("keys", one(keys))];
        let items = pairs.into_iter().flat_map(|(key, value)| [one(key), value]).collect();
        parse(&Value::Array(items)).unwrap()
    }

    #[test]
    fn a_user_differs_by_its_rights_and_not_by_its_passwords_or_whether_it_is_on() {
        let one = user(&["on"], &["aa"], "~shop:*");
        assert!(one.accepts("aa") && !one.accepts("bb"));
        assert_eq!(one.difference(&user(&["off"], &[], "~shop:*")), Vec::<&str>::new());
        assert_eq!(one.difference(&user(&["on", "nopass"], &[], "~*")), ["flags", "keys"]);
        assert!(!user(&["off"], &["aa"], "").accepts("aa"));
    }
}
