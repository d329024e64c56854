//! The parts of a secret that log in to a database.
//!
//! `username` may be missing where the application knows it; the password is `password`, or `value` where the secret
//! has one part only.

use crate::{Error, Secret};

/// What logs in.
pub(crate) struct Login<'a> {
    pub(crate) username: Option<&'a str>,
    pub(crate) password: &'a str,
}

impl<'a> Login<'a> {
    /// The login that a secret holds.
    ///
    /// # Errors
    /// [`Error::Configuration`] when it holds none.
    pub(crate) fn of(secret: &'a Secret) -> Result<Self, Error> {
        let password = secret.text("password").or_else(|| secret.text("value"));
        match password {
            Some(password) => Ok(Self { username: secret.text("username"), password }),
            None => Err(Error::Configuration(format!(
                "{} has no field `password` or `value` with text, so it is no database login",
                secret.name()
            ))),
        }
    }
}
