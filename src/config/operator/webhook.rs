//! Addresses that messages are posted to; many of them are secrets.

use std::path::PathBuf;

use super::{super::Key, LoginSource};
use crate::config::check::Check;

/// An address that messages are posted to.
#[derive(Debug, PartialEq, Eq)]
pub enum Webhook {
    /// One that anybody may know.
    Url(String),
    /// One that is a secret: the password of this source.
    Secret(LoginSource),
}

/// The keys that people write for it.
pub(super) struct Given {
    pub(super) url: Option<String>,
    pub(super) url_file: Option<PathBuf>,
    pub(super) url_env: Option<String>,
    pub(super) allow_plaintext: bool,
}

/// Completes an address that `by` needs.
pub(super) fn check(check: &mut Check<'_>, key: &Key, given: Given, by: &str) -> Option<Webhook> {
    let Given { url, url_file, url_env, allow_plaintext } = given;
    if url.is_some() && (url_file.is_some() || url_env.is_some()) {
        let accepted = "expected one of url, url_file and url_env";
        check.wrong(key.name("url"), "given twice", accepted);
        return None;
    }
    if url.is_some() {
        let form = "expected https://HOST/PATH; one that is a secret goes to url_file";
        let url = check.url(&key.name("url"), url, allow_plaintext, by, form)?;
        return Some(Webhook::Url(url));
    }
    let password = check.credential(key, "url", (url_file, url_env), by)?;
    Some(Webhook::Secret(LoginSource::Given { username: None, password }))
}
