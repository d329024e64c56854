//! The form of a generated login: how long its password is, and what else goes into the secret.

use std::collections::BTreeMap;

use super::{Check, Key};
use crate::config::units::Count;

/// How many random characters a password has.
pub type Length = Count<40, 16, 128>;

/// Fields of one secret.
const MAX_FIELDS: usize = 100;
/// The fields that the rotator makes itself.
const OWN: [&str; 2] = ["username", "password"];

/// The form of a generated login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// How many random characters the password has.
    pub length: usize,
    /// Further fields of the secret.
    pub fields: BTreeMap<String, Template>,
}

/// A text with the name and the password in some places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(pub Vec<Part>);

/// A part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// This text.
    Text(String),
    /// The user's name.
    Username,
    /// The password.
    Password,
}

impl Template {
    /// Reads a text with `{username}` and `{password}` in it; `None` when it has other braces.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, tail) = after.split_once('}')?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(match name {
                "username" => Part::Username,
                "password" => Part::Password,
                _ => return None,
            });
            rest = tail;
        }
        parts.push(Part::Text(rest.to_owned()));
        let braces = |part: &Part| matches!(part, Part::Text(text) if text.contains(['{', '}']));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        (!parts.iter().any(braces)).then_some(Self(parts))
    }
}

/// Completes the form of a login.
pub(super) fn check(
    check: &mut Check<'_>,
    key: &Key,
    length: Length,
    fields: BTreeMap<String, String>,
) -> Option<Form> {
    let section = key.name("fields");
    if fields.len() > MAX_FIELDS {
        let found = format!("{} fields", fields.len());
        check.wrong(section, found, format!("expected at most {MAX_FIELDS}"));
        return None;
    }
    let (mut templates, mut fine) = (BTreeMap::new(), true);
    for (name, text) in fields {
        let place = section.name(&name);
        let template = Template::parse(&text);
        if OWN.contains(&name.as_str()) || name.is_empty() {
            check.wrong(place, "a field that the rotator makes", "expected another name");
            fine = false;
        } else if let Some(template) = template {
            templates.insert(name, template);
        } else {
            let accepted = "expected no braces but those of `{username}` and `{password}`";
            check.wrong(place, "a text with other braces", accepted);
            fine = false;
        }
    }
    fine.then_some(Form { length: length.size(), fields: templates })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_hold_the_name_or_the_password_only() {
        let text = |text: &str| Part::Text(text.to_owned());
        for (given, parts) in [
            ("db", Some(vec![text("db")])),
            ("", Some(vec![])),
            (
                "postgresql://{username}:{password}@db",
                Some(vec![
                    text("postgresql://"),
                    Part::Username,
                    text(":"),
                    Part::Password,
                    text("@db"),
                ]),
            ),
            ("{user}", None),
            ("{username", None),
            ("a}b", None),
            ("{{username}}", None),
        ] {
            assert_eq!(Template::parse(given).map(|template| template.0), parts, "{given}");
        }
    }
}
