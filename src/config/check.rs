//! [`raw::File`] → [`Config`]: what one key's type can't say, and what keys say about each other.
//!
//! Every check goes on after a mistake; a key that was refused while reading is not reported again
//! as missing.

#![expect(clippy::option_option, reason = "a key that is absent is not one that is wrong")]

mod operator;
pub(super) mod policy;
mod secrets;
mod server;
mod tls;
mod vault;

use std::path::{Component, Path, PathBuf};

use super::{
    AuditSink, Checked, Config, Credential, Environment, Key, LogFormat, Mistake, Mistakes,
    StateFile, Telemetry, raw,
    read::{Lines, Read},
    units::Address,
};
use crate::domain::secret::SecretValue;

/// Collects what is wrong.
pub(super) struct Check<'a> {
    lines: Lines,
    env: Environment<'a>,
    mistakes: Vec<Mistake>,
    warnings: Vec<Mistake>,
    /// Whether the file may name places of a Vault.
    #[cfg(feature = "operator")]
    pub(super) has_vault: bool,
    /// Whether it may name places of a cluster.
    #[cfg(feature = "operator")]
    pub(super) has_cluster: bool,
}

/// Checks a file that was read, and completes it to a configuration.
pub(super) fn check(
    read: Read<raw::File>,
    origin: &str,
    env: Environment<'_>,
) -> Result<Checked, Mistakes> {
    let (config, warnings) = checked(read, origin, env, Check::file)?;
    Ok(Checked { config, warnings })
}

/// Completes a file that was read by `complete`, and reports every mistake of both at once.
pub(super) fn checked<'a, R, C>(
    read: Read<R>,
    origin: &str,
    env: Environment<'a>,
    complete: impl FnOnce(&mut Check<'a>, R) -> Option<C>,
) -> Result<(C, Vec<Mistake>), Mistakes> {
    let Read { file, mistakes, lines, is_whole } = read;
    let mut check = Check {
        lines,
        env,
        mistakes,
        warnings: Vec::new(),
        #[cfg(feature = "operator")]
        has_vault: true,
        #[cfg(feature = "operator")]
        has_cluster: false,
    };
    let config = if is_whole { complete(&mut check, file) } else { None };
    let Check { mut mistakes, warnings, .. } = check;
    match config {
        Some(config) if mistakes.is_empty() => Ok((config, warnings)),
        _ => {
            mistakes.sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
            Err(Mistakes { origin: origin.to_owned(), all: mistakes })
        }
    }
}

impl Check<'_> {
    fn file(&mut self, file: raw::File) -> Option<Config> {
        let raw::File {
            server,
            tls,
            vault,
            deployment,
            operator,
            defaults,
            secrets,
            policy,
            audit,
            state,
            telemetry,
            ..
        } = file;
        let wants_vault = self.wants_vault(&secrets, tls.as_ref());
        let http = telemetry.http;
        let server = self.server(server, http);
        let tls = self.tls(server.as_ref().and_then(|s| s.listen).is_some(), tls);
        let vault = self.vault(wants_vault, vault, state.is_some());
        let deployment = self.deployment(deployment);
        let operator = self.operator(operator);
        let mut secrets = self.secrets(&defaults, secrets);
        if let Some(deployment) = &deployment {
            deployment.receives(&mut secrets);
        }
        let policy = self.policy(policy, &secrets);
        let audit = self.audit(audit);
        let state = self.state(state);
        let telemetry = self.telemetry(telemetry);
        Some(Config {
            server: server?,
            tls: tls?,
            vault: vault?,
            deployment: deployment?,
            operator: operator?,
            secrets,
            policy,
            audit: audit?,
            state: state?,
            telemetry: telemetry?,
            watch_file: file.watch_file.unwrap_or(true),
        })
    }

    pub(super) fn audit(&mut self, audit: raw::Audit) -> Option<AuditSink> {
        let key = Key::of("audit");
        match audit.sink {
            Some(raw::AuditSink::Stdout) if audit.file.is_some() => {
                self.wrong(
                    key.name("file"),
                    "a file for the sink `stdout`",
                    "set sink = \"file\", or leave it out",
                );
                None
            }
            None if audit.file.is_none() => Some(AuditSink::Stdout),
            Some(raw::AuditSink::Stdout) => Some(AuditSink::Stdout),
            None | Some(raw::AuditSink::File) => {
                self.path(&key.name("file"), audit.file, "sink = \"file\"").map(AuditSink::File)
            }
        }
    }

    fn state(&mut self, state: Option<raw::State>) -> Option<Option<StateFile>> {
        let Some(state) = state else { return Some(None) };
        let key = Key::of("state");
        let raw::State { path, key_file, key_env, generate_key } = state;
        if generate_key && key_env.is_some() {
            self.wrong(
                key.name("generate_key"),
                "a key to be made, beside key_env",
                "name the file to put it into as key_file",
            );
        }
        let path = self.path(&key.name("path"), path, "[state]");
        let (path, key) = self.sealed(&key, path, (key_file, key_env), "[state]")?;
        Some(Some(StateFile { path, key, generate_key }))
    }

    /// An encrypted file with the key under `key_file` or `key_env`, which does not lie beside it.
    pub(super) fn sealed(
        &mut self,
        section: &Key,
        path: Option<PathBuf>,
        key: (Option<PathBuf>, Option<String>),
        by: &str,
    ) -> Option<(PathBuf, Credential)> {
        let key = self.credential(section, "key", key, by);
        if let (Some(path), Some(Credential::File(file))) = (&path, &key) {
            self.apart(section.name("key_file"), file, path)?;
        }
        Some((path?, key?))
    }

    pub(super) fn telemetry(&mut self, telemetry: raw::Telemetry) -> Option<Telemetry> {
        let raw::Telemetry { log_format, log_filter, http } = telemetry;
        if log_filter.parse::<tracing_subscriber::filter::Targets>().is_err() {
            self.wrong(
                Key::of("telemetry").name("log_filter"),
                "a filter that can't be read",
                "expected `tracing` directives, such as \"info,secret_broker=debug\"",
            );
            return None;
        }
        let log_format = match log_format {
            raw::LogFormat::Text => LogFormat::Text,
            raw::LogFormat::Json => LogFormat::Json,
        };
        Some(Telemetry { log_filter, log_format, http: http.map(|Address(http)| http) })
    }

    /// Refuses a key in the directory of what it encrypts.
    fn apart(&mut self, place: Key, key: &Path, file: &Path) -> Option<()> {
        if !lies_below(key, file.parent().unwrap_or(Path::new(""))) {
            return Some(());
        }
        self.wrong(
            place,
            "a key in the directory of the file that it encrypts",
            "expected a file on another volume, such as a mounted secret",
        );
        None
    }

    /// A key that is of use beside `[vault]` only.
    #[cfg(feature = "operator")]
    pub(super) fn of_vault(&mut self, key: Key) {
        if !self.has_vault {
            self.wrong(key, "asks for a Vault", "leave it out, or keep the secrets in [vault]");
        }
    }

    pub(super) fn wrong(
        &mut self,
        key: Key,
        found: impl Into<String>,
        accepted: impl Into<String>,
    ) {
        let line = self.lines.line(&key);
        let (found, accepted) = (found.into(), accepted.into());
        self.mistakes.push(Mistake { key, line, found, accepted });
    }

    pub(super) fn warn(&mut self, key: Key, found: impl Into<String>, accepted: impl Into<String>) {
        let line = self.lines.line(&key);
        let (found, accepted) = (found.into(), accepted.into());
        self.warnings.push(Mistake { key, line, found, accepted });
    }

    /// A value that something else asks for.
    pub(super) fn need<T>(&mut self, key: &Key, value: Option<T>, by: &str) -> Option<T> {
        if value.is_none() && !self.lines.is_refused(key) {
            self.wrong(key.clone(), "missing", format!("needed by {by}"));
        }
        value
    }

    pub(super) fn path(&mut self, key: &Key, value: Option<PathBuf>, by: &str) -> Option<PathBuf> {
        let path = self.need(key, value, by)?;
        self.some_path(key, Some(path))?
    }

    /// A path that may be absent; the outer `None` says that it was wrong.
    pub(super) fn some_path(
        &mut self,
        key: &Key,
        value: Option<PathBuf>,
    ) -> Option<Option<PathBuf>> {
        if value.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            self.wrong(key.clone(), "an empty path", "expected the path of a file or directory");
            return None;
        }
        Some(value)
    }

    pub(super) fn text(&mut self, key: &Key, value: Option<String>, by: &str) -> Option<String> {
        let text = self.need(key, value, by)?;
        if text.trim().is_empty() {
            self.wrong(key.clone(), "an empty text", format!("needed by {by}"));
            return None;
        }
        Some(text)
    }

    /// A credential under `NAME_file` or `NAME_env`, exactly one of which has to be there.
    pub(super) fn credential(
        &mut self,
        section: &Key,
        name: &str,
        (file, variable): (Option<PathBuf>, Option<String>),
        by: &str,
    ) -> Option<Credential> {
        let (file_key, env_key) =
            (section.name(&format!("{name}_file")), section.name(&format!("{name}_env")));
        match (file, variable) {
            (Some(_), Some(_)) => {
                self.wrong(
                    env_key,
                    "given twice",
                    format!("expected either {name}_file or {name}_env"),
                );
                None
            }
            (Some(file), None) => self.path(&file_key, Some(file), by).map(Credential::File),
            (None, Some(variable)) => self.variable(env_key, &variable),
            (None, None) => {
                if !self.lines.is_refused(&file_key) && !self.lines.is_refused(&env_key) {
                    self.wrong(
                        file_key,
                        "missing",
                        format!("{by} needs {name}_file or {name}_env"),
                    );
                }
                None
            }
        }
    }

    /// A credential from the environment. Neither the variable's name nor its value is repeated:
    /// the name may be a credential that was written in the wrong place.
    pub(super) fn variable(&mut self, key: Key, variable: &str) -> Option<Credential> {
        let form = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        if variable.is_empty() || variable.len() > 128 || !variable.bytes().all(form) {
            self.wrong(
                key,
                "not a variable's name",
                "expected 1 to 128 of the characters A-Z 0-9 _",
            );
            return None;
        }
        let value = (self.env)(variable).filter(|value| !value.is_empty());
        if value.is_none() {
            let accepted = "set it in the broker's environment";
            self.wrong(key, "the variable is not set or empty", accepted);
        }
        value.map(|value| Credential::Value(SecretValue::new(value)))
    }

    /// Reports the keys of a section that belong to other choices than the one that was made.
    pub(super) fn only(&mut self, section: &Key, choice: &str, keys: &[(&str, &[&str])]) {
        for (name, choices) in keys {
            let key = section.name(name);
            if !choices.contains(&choice) && self.lines.has(&key) && !self.lines.is_refused(&key) {
                let belongs = choices.join("` and `");
                self.wrong(
                    key,
                    format!("not a key of `{choice}`"),
                    format!("it belongs to `{belongs}`"),
                );
            }
        }
    }
}

/// Whether a path lies in a directory or below it, as far as the texts of both tell.
fn lies_below(path: &Path, directory: &Path) -> bool {
    let plain = |path: &Path| {
        let mut parts = Vec::new();
        for part in path.components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir if matches!(parts.last(), Some(Component::Normal(_))) => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        parts.iter().collect::<PathBuf>()
    };
    let (path, directory) = (plain(path), plain(directory));
    if directory.parent().is_none() {
        // The root, or the working directory: all else would lie below it.
        return path.parent() == Some(&directory);
    }
    path.starts_with(&directory)
}
