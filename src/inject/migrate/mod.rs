//! Annotations of the Vault Agent Injector (`vault.hashicorp.com/…`) → ours, and exactly what differs.

pub mod manifest;
mod template;

use std::collections::{BTreeMap, BTreeSet};

use template::{Called, translate};

use super::{annotations::whole, lists};
use crate::config::raw;

/// What the injector's annotations begin with.
pub const PREFIX: &str = "vault.hashicorp.com/";
/// Where the injector delivers files.
const DIRECTORY: &str = "/vault/secrets";
/// The permission bits that the injector gives them.
const PERMISSIONS: &str = "0644";

/// A value that says what is so anyway, and what differs under another one.
const ANYWAY: [(&str, &str, &str); 9] = [
    ("agent-pre-populate", "true", "the pod always waits for its secrets"),
    ("agent-revoke-on-shutdown", "true", "leases and token are always revoked at the end"),
    (
        "auth-type",
        "kubernetes",
        "only the Kubernetes login is set by annotation; the platform sets others in [sidecar.vault.auth]",
    ),
    (
        "tls-skip-verify",
        "false",
        "Vault's certificate is always checked; name its authorities by ca-config-map",
    ),
    ("agent-set-security-context", "true", "a restricted security context is always set"),
    ("agent-inject-token", "false", "no token of Vault is handed to the application"),
    (
        "agent-cache-enable",
        "false",
        "there is no listener that speaks Vault's API: read from the broker",
    ),
    (
        "agent-run-as-same-user",
        "false",
        "files are opened to the application by its supplemental group; run-as-user names a user",
    ),
    ("error-on-missing-key", "true", "a missing field is always an error and never an empty place"),
];

/// Something that can't be kept as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The annotation.
    pub annotation: String,
    /// What differs, and what to do about it.
    pub what: String,
}

/// A pod's annotations, translated.
#[derive(Debug, Default)]
pub struct Translation {
    /// Ours.
    pub annotations: BTreeMap<String, String>,
    /// The entries that the webhook's catalogue needs.
    pub secrets: BTreeMap<String, raw::Secret>,
    /// What differs.
    pub differences: Vec<Difference>,
}

/// Translates the annotations of a pod; `None` when it has none of the injector's.
pub fn translation(annotations: &BTreeMap<String, String>) -> Option<Translation> {
    let given: BTreeMap<&str, &str> = annotations
        .iter()
        .filter_map(|(name, text)| {
            Some((name.strip_prefix(PREFIX)?, text.trim_matches('\u{feff}')))
        })
        .collect();
    if given.is_empty() {
        return None;
    }
    let mut work =
        Work { given, done: BTreeSet::new(), names: BTreeMap::new(), to: Translation::default() };
    work.plain();
    work.choices();
    work.files();
    work.rest();
    Some(work.to)
}

struct Work<'a> {
    given: BTreeMap<&'a str, &'a str>,
    done: BTreeSet<&'a str>,
    /// The names that calls of Vault have got.
    names: BTreeMap<Called, String>,
    to: Translation,
}

impl<'a> Work<'a> {
    fn take(&mut self, name: &'a str) -> Option<&'a str> {
        self.done.insert(name);
        self.given.get(name).copied()
    }

    fn put(&mut self, name: &str, value: impl Into<String>) {
        self.to.annotations.insert(whole(name), value.into());
    }

    fn differs(&mut self, name: &str, what: impl Into<String>) {
        self.to
            .differences
            .push(Difference { annotation: format!("{PREFIX}{name}"), what: what.into() });
    }

    /// What means the same under another name.
    fn plain(&mut self) {
        const SAME: [(&str, &str); 13] = [
            ("agent-inject", "inject"),
            ("role", "role"),
            ("namespace", "vault-namespace"),
            ("service", "vault-address"),
            ("agent-limits-cpu", "cpu-limit"),
            ("agent-limits-mem", "memory-limit"),
            ("agent-requests-cpu", "cpu-request"),
            ("agent-requests-mem", "memory-request"),
            ("agent-run-as-user", "run-as-user"),
            ("agent-run-as-group", "run-as-group"),
            ("agent-inject-containers", "containers"),
            ("secret-volume-path", "files-directory"),
            ("template-static-secret-render-interval", "poll-interval"),
        ];
        for (theirs, ours) in SAME {
            let Some(text) = self.take(theirs) else { continue };
            if matches!(theirs, "agent-run-as-user" | "agent-run-as-group") && text == "0" {
                self.differs(theirs, "injected containers never run as root; the default is used");
            } else {
                self.put(ours, text);
            }
        }
        if let Some(path) = self.take("auth-path") {
            self.put("auth-path", path.trim_matches('/').trim_start_matches("auth/"));
        }
    }

    /// What is a choice: one value maps, others differ.
    fn choices(&mut self) {
        if let Some(level) = self.take("log-level") {
            match level.to_ascii_lowercase().as_str() {
                "err" | "error" => self.put("log-level", "error"),
                level @ ("warn" | "info" | "debug" | "trace") => self.put("log-level", level),
                _ => self.differs("log-level", "no such level; `info` is used"),
            }
        }
        if self.take("agent-pre-populate-only") == Some("true") {
            self.put("mode", "init");
        }
        for (name, value, otherwise) in ANYWAY {
            if self.take(name).is_some_and(|text| text != value) {
                self.differs(name, otherwise);
            }
        }
        // The broker is always first, and what it says of itself is its own.
        for name in
            ["agent-init-first", "agent-inject-status", "agent-request-namespace", "log-format"]
        {
            self.take(name);
        }
        if self.take("agent-image").is_some() {
            self.differs("agent-image", "that image is another program's; the platform's is used");
        }
    }

    /// The secrets, each a file.
    fn files(&mut self) {
        let each: Vec<(&'a str, &'a str, &'a str)> = self
            .given
            .iter()
            .filter_map(|(name, path)| {
                Some((*name, name.strip_prefix("agent-inject-secret-")?, *path))
            })
            .collect();
        let mut modes = BTreeSet::new();
        for (annotation, name, path) in each {
            self.done.insert(annotation);
            modes.insert(self.file(annotation, name, path));
        }
        if self.to.secrets.is_empty() {
            return;
        }
        if !self.given.contains_key("secret-volume-path") {
            self.put("files-directory", DIRECTORY);
        }
        let names = self.to.secrets.keys().cloned().collect::<Vec<_>>().join(",");
        self.put("secrets", names);
        if let (1, Some(mode)) = (modes.len(), modes.pop_first()) {
            self.put("files-mode", mode);
        } else {
            self.put("files-mode", PERMISSIONS);
            self.differs(
                "agent-inject-perms-*",
                "all files of a pod have one mode: files-mode is 0644",
            );
        }
    }

    /// One secret; its file's mode.
    fn file(&mut self, annotation: &'a str, name: &'a str, path: &'a str) -> String {
        let own =
            |kind: &str| self.given.get_key_value(format!("agent-inject-{kind}-{name}").as_str());
        let (file, source, mode) = (own("file"), own("template"), own("perms"));
        let (file, source, mode) = (file.map(pair), source.map(pair), mode.map(pair));
        let keeps_case = self.given.get("preserve-secret-case").copied() == Some("true");
        self.done.insert("preserve-secret-case");
        for (annotation, _) in [file, source, mode].into_iter().flatten() {
            self.done.insert(annotation);
        }
        let default = if keeps_case { name.to_owned() } else { name.to_ascii_lowercase() };
        let file = file.map_or(default, |(_, file)| file.to_owned());
        if !lists::is_file(&file) {
            self.differs(annotation, format!("`{file}` is no file's name here: 1 to 50 of A-Z a-z 0-9 - _ . without a directory"));
            return PERMISSIONS.to_owned();
        }
        let (whole, source) = match source {
            Some((annotation, source)) => (annotation, source.to_owned()),
            None => (annotation, default_template(path)),
        };
        if whole == annotation && is_kv2(path) {
            self.differs(annotation, "without a template, the injector writes `data: map[…]` for this engine; ours writes `FIELD: VALUE` lines");
        }
        let (names, secrets) = (&mut self.names, &mut self.to.secrets);
        let translated = translate(&source, |called| named(names, secrets, name, called));
        for left in translated.left {
            self.differs(whole, format!("`{left}` has no counterpart: write the template anew"));
        }
        self.put(&format!("template.{file}"), translated.text);
        mode.map_or_else(|| PERMISSIONS.to_owned(), |(_, mode)| mode.to_owned())
    }

    /// What is left has no counterpart.
    fn rest(&mut self) {
        let left: Vec<_> =
            self.given.keys().filter(|name| !self.done.contains(*name)).copied().collect();
        for name in left {
            let what = match name {
                _ if name.starts_with("agent-inject-command-") => {
                    "no command runs in the sidecar: have the application watch its file, or use env with on-rotation"
                }
                _ if name.starts_with("agent-inject-template-file-")
                    || name == "agent-extra-secret" =>
                {
                    "templates are annotations: template.FILE"
                }
                _ if name.starts_with("secret-volume-path-") => {
                    "all files of a pod lie in one directory: files-directory"
                }
                "agent-configmap" => {
                    "write the configuration for secret-broker and name its ConfigMap by config-map"
                }
                "ca-cert" | "tls-secret" => {
                    "put Vault's authorities into a ConfigMap, and name it by ca-config-map"
                }
                "tls-server-name" | "client-timeout" | "client-cert" | "client-key" => {
                    "the platform sets it in [sidecar.vault]"
                }
                "agent-inject-default-template" => "write the template out: template.FILE",
                _ => "has no counterpart",
            };
            self.differs(name, what);
        }
    }
}

fn pair<'a>((name, text): (&&'a str, &&'a str)) -> (&'a str, &'a str) {
    (name, text)
}

/// The name of what a call reads: the annotation's, told apart by a number where it reads several.
fn named(
    names: &mut BTreeMap<Called, String>,
    secrets: &mut BTreeMap<String, raw::Secret>,
    wanted: &str,
    called: Called,
) -> String {
    if let Some(name) = names.get(&called) {
        return name.clone();
    }
    let mut name = wanted.to_owned();
    let mut number = 2;
    while secrets.contains_key(&name) {
        name = format!("{wanted}-{number}");
        number += 1;
    }
    secrets.insert(name.clone(), entry(&called));
    names.insert(called, name.clone());
    name
}

fn is_kv2(path: &str) -> bool {
    path.trim_matches('/').split_once("/data/").is_some()
}

/// What the injector renders without a template.
fn default_template(path: &str) -> String {
    format!(
        "{{{{ with secret \"{path}\" }}}}{{{{ range $k, $v := .Data }}}}{{{{ $k }}}}: {{{{ $v }}}}\n{{{{ end }}}}{{{{ end }}}}"
    )
}

/// The entry of the catalogue for a call.
fn entry(called: &Called) -> raw::Secret {
    let base = raw::Secret {
        category: Some("migrated".to_owned()),
        store: Some(raw::Store::Vault),
        ..raw::Secret::default()
    };
    let path = called.path.as_str();
    let part = |mark: &str| {
        let (mount, rest) = path.split_once(mark)?;
        Some((Some(mount.to_owned()), Some(rest.to_owned())))
    };
    if !called.parameters.is_empty() {
        let parameters = called.parameters.iter().cloned().collect();
        let (engine, method) = (Some(raw::Engine::Generic), Some(raw::Method::Post));
        return raw::Secret { engine, method, path: Some(path.to_owned()), parameters, ..base };
    }
    if let Some((mount, path)) = part("/data/") {
        return raw::Secret { engine: Some(raw::Engine::Kv2), mount, path, ..base };
    }
    let is_database = path.split('/').next().is_some_and(|mount| mount.contains("database"));
    match (is_database, part("/creds/"), part("/static-creds/")) {
        (true, Some((mount, role)), _) => {
            raw::Secret { engine: Some(raw::Engine::Database), mount, role, ..base }
        }
        (true, _, Some((mount, static_role))) => {
            raw::Secret { engine: Some(raw::Engine::Database), mount, static_role, ..base }
        }
        _ => {
            raw::Secret { engine: Some(raw::Engine::Generic), path: Some(path.to_owned()), ..base }
        }
    }
}
