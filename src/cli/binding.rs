//! What `exec` delivers where: a field of a secret, and the variable or file that it goes into.
//!
//! Names of secrets may hold dots, names of fields may not: the last dot parts the two.

use std::{path::Path, str::FromStr};

use secret_broker_client::Secret;

use super::failure::{Failure, USAGE};
use crate::domain::secret::{SINGLE_FIELD, SecretName};

/// A field of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRef {
    /// The secret.
    pub secret: String,
    /// The field.
    pub field: String,
}

/// A variable of the environment and what goes into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvBinding {
    /// The variable.
    pub variable: String,
    /// What it holds.
    pub from: FieldRef,
}

/// A file in the private directory and what goes into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileBinding {
    /// The file's name.
    pub file: String,
    /// What it holds.
    pub from: FieldRef,
}

impl FieldRef {
    /// The field's bytes in this version of the secret.
    pub(super) fn of<'s>(&self, secret: &'s Secret) -> Result<&'s [u8], Failure> {
        secret.field(&self.field).ok_or_else(|| missing(secret, &self.field))
    }
}

/// That a secret has no such field, and which it has.
pub(super) fn missing(secret: &Secret, field: &str) -> Failure {
    let present: Vec<_> = secret.fields().map(|(name, _)| name).collect();
    let message =
        format!("{} has no field `{field}`; it has {}", secret.name(), present.join(", "));
    Failure::new(USAGE, message)
}

impl FromStr for FieldRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (secret, field) = text.rsplit_once('.').unwrap_or((text, SINGLE_FIELD));
        secret.parse::<SecretName>().map_err(|error| error.to_string())?;
        if field.is_empty() {
            return Err("after the last dot stands the name of a field".to_owned());
        }
        Ok(Self { secret: secret.to_owned(), field: field.to_owned() })
    }
}

impl FromStr for EnvBinding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (variable, from) = text.split_once('=').ok_or("give NAME=SECRET.FIELD")?;
        let first = variable.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if !first || !variable.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(
                "a variable's name is made of A-Z a-z 0-9 _ and begins with no digit".into()
            );
        }
        Ok(Self { variable: variable.to_owned(), from: from.parse()? })
    }
}

impl FromStr for FileBinding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (file, from) = text.split_once('=').ok_or("give NAME=SECRET.FIELD")?;
        if Path::new(file).file_name() != Some(file.as_ref()) {
            return Err(
                "give a file's name without a directory: it is made in the private one that \
                        SECRET_BROKER_FILES names; `secret-broker render` writes to any path"
                    .to_owned(),
            );
        }
        Ok(Self { file: file.to_owned(), from: from.parse()? })
    }
}

/// The variable that `--all` gives a field: `db-main`, `password` → `DB_MAIN_PASSWORD`.
pub(super) fn variable(secret: &str, field: &str) -> String {
    let whole = if field == SINGLE_FIELD { secret.to_owned() } else { format!("{secret}_{field}") };
    let plain = whole.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    let name: String = plain.collect::<String>().to_ascii_uppercase();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(secret: &str, field: &str) -> FieldRef {
        FieldRef { secret: secret.into(), field: field.into() }
    }

    #[test]
    fn the_last_dot_parts_secret_and_field() {
        assert_eq!("db.main.password".parse(), Ok(field("db.main", "password")));
        assert_eq!("API_KEY".parse(), Ok(field("API_KEY", "value")));
        for bad in ["", ".x", "a b.c", "db."] {
            assert!(bad.parse::<FieldRef>().is_err(), "{bad}");
        }
    }

    #[test]
    fn variables_and_files_have_plain_names() {
        for bad in ["=A", "1A=B", "A-B=C", "A", "A="] {
            assert!(bad.parse::<EnvBinding>().is_err(), "{bad}");
        }
        for bad in ["=A", "/etc/x=A", "../x=A", "a/b=A", "..=A", "x"] {
            assert!(bad.parse::<FileBinding>().is_err(), "{bad}");
        }
        assert!("PGPASSWORD=db.password".parse::<EnvBinding>().is_ok());
        assert!("key.pem=tls.key".parse::<FileBinding>().is_ok());
    }

    #[test]
    fn all_names_variables_after_secret_and_field() {
        assert_eq!(variable("db-main", "password"), "DB_MAIN_PASSWORD");
        assert_eq!(variable("JWT_SECRET", "value"), "JWT_SECRET");
        assert_eq!(variable("3scale", "key"), "_3SCALE_KEY");
    }
}
