//! Logins as secrets: `username`, `password`, and what is made of both.

use crate::{
    config::operator::targets::form::{Form, Part, Template},
    domain::{
        fault::Fault,
        secret::{Fields, SecretValue},
    },
    rotation::{generate, ports::TargetError},
};

/// The field of the user's name.
pub(super) const USERNAME: &str = "username";
/// The field of the password.
pub(super) const PASSWORD: &str = "password";

/// A new login of a user.
pub(super) fn new_login(user: &str, form: &Form) -> Result<Fields, Fault> {
    let password = generate::characters("", form.length)?;
    let own = [
        (USERNAME.to_owned(), SecretValue::new(user)),
        (PASSWORD.to_owned(), SecretValue::new(password.expose())),
    ];
    let made = form.fields.iter().map(|(name, template)| {
        (name.clone(), filled(template, user.as_bytes(), password.expose()))
    });
    Ok(made.chain(own).collect())
}

fn filled(template: &Template, user: &[u8], password: &[u8]) -> SecretValue {
    let bytes = |part| match part {
        &Part::Username => user,
        &Part::Password => password,
        Part::Text(text) => text.as_bytes(),
    };
    // Room for all of it, since a buffer that grows leaves copies behind.
    let length = template.0.iter().map(|part| bytes(part).len()).sum();
    let mut text = Vec::with_capacity(length);
    template.0.iter().for_each(|part| text.extend_from_slice(bytes(part)));
    SecretValue::new(text)
}

/// A login that was read from a secret.
#[derive(Clone, Copy)]
pub(super) struct Login<'a> {
    pub(super) user: &'a str,
    pub(super) password: &'a SecretValue,
}

impl<'a> Login<'a> {
    pub(super) fn of(fields: &'a Fields) -> Result<Self, TargetError> {
        let user = user(fields)
            .ok_or_else(|| TargetError::refused("the value has no field `username`"))?;
        Ok(Self { user, password: password(fields)? })
    }
}

pub(super) fn user(fields: &Fields) -> Option<&str> {
    fields.field(USERNAME).and_then(|name| std::str::from_utf8(name.expose()).ok())
}

pub(super) fn password(fields: &Fields) -> Result<&SecretValue, TargetError> {
    fields
        .field(PASSWORD)
        .filter(|password| !password.expose().is_empty())
        .ok_or_else(|| TargetError::refused("the value has no field `password`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_login_has_its_name_a_password_and_what_is_made_of_both() {
        let template = |text| Template::parse(text).unwrap();
        let fields = [
            ("url".to_owned(), template("postgresql://{username}:{password}@db/shop")),
            ("host".to_owned(), template("db")),
        ];
        let form = Form { length: 24, fields: fields.into() };
        let made = new_login("shop_a", &form).unwrap();
        let login = Login::of(&made).unwrap();
        assert_eq!((login.user, login.password.expose().len()), ("shop_a", 24));
        let password = std::str::from_utf8(login.password.expose()).unwrap();
        let url = format!("postgresql://shop_a:{password}@db/shop");
        assert_eq!(made.field("url").map(SecretValue::expose), Some(url.as_bytes()));
        assert_eq!(made.field("host").map(SecretValue::expose), Some(b"db".as_slice()));
        let other = new_login("shop_a", &form).unwrap();
        assert!(other.field(PASSWORD) != made.field(PASSWORD), "never made twice");
    }
}
