//! Annotations of the Vault Agent Injector (`vault.hashicorp.com/…`) → ours, and exactly what differs.

pub mod called;
mod difference;
pub mod manifest;
mod template;

use std::collections::{BTreeMap, BTreeSet};

use called::Called;
use difference::{ANYWAY, INNER};
pub use difference::{Difference, Felt};
use template::translate;

use super::{annotations::whole, lists, reader::quoted};

/// What the injector's annotations begin with.
pub const PREFIX: &str = "vault.hashicorp.com/";
/// Whether a pod asks the injector, after the prefix.
pub const INJECT: &str = "agent-inject";
/// Whether the injector has been there, after the prefix.
pub const STATUS: &str = "agent-inject-status";
/// Whether names of files keep their case, for all or, followed by its name, for one.
const KEEPS_CASE: &str = "preserve-secret-case";
/// The most secrets that one pod may read.
const MAX_SECRETS: usize = 100;
/// Where the injector delivers files.
const DIRECTORY: &str = "/vault/secrets";
/// The permission bits that the injector gives them.
const PERMISSIONS: &str = "0644";

/// A secret that a pod reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The annotation that asks for it.
    pub annotation: String,
    /// Where it lies.
    pub called: Called,
}

/// A pod's annotations, translated.
#[derive(Debug, Default)]
pub struct Translation {
    /// Ours.
    pub annotations: BTreeMap<String, String>,
    /// Which annotation of the injector each of ours was made from.
    pub origins: BTreeMap<String, String>,
    /// What the pod reads, by the names that its templates use.
    pub secrets: BTreeMap<String, Asked>,
    /// What differs.
    pub differences: Vec<Difference>,
}

impl Translation {
    /// Says which entries of a catalogue the secrets are, by the names that the templates use.
    pub fn name(&mut self, entries: &BTreeMap<String, String>) {
        let item = |(local, entry): (&String, &String)| {
            if local == entry { local.clone() } else { format!("{local}={entry}") }
        };
        let items: Vec<_> = entries.iter().map(item).collect();
        if !items.is_empty() {
            self.annotations.insert(whole("secrets"), items.join(","));
        }
    }
}

/// A switch as the injector reads it; `None` when it would not.
pub fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
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

    fn put(&mut self, name: &str, value: impl Into<String>, from: &str) {
        self.to.annotations.insert(whole(name), value.into());
        self.to.origins.insert(whole(name), theirs(from));
    }

    fn differs(&mut self, name: &str, felt: Felt, what: impl Into<String>) {
        let (annotation, what) = (theirs(name), what.into());
        self.to.differences.push(Difference { annotation, what, felt });
    }

    /// How a switch stands; one that stands nowhere is told.
    fn switched(&mut self, name: &'a str) -> Option<bool> {
        let text = self.take(name)?;
        let on = switch(text);
        if on.is_none() {
            self.differs(name, Felt::Yes, "neither true nor false");
        }
        on
    }

    /// What means the same under another name.
    fn plain(&mut self) {
        const SAME: [(&str, &str); 12] = [
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
                let what = "injected containers never run as root; the default is used";
                self.differs(theirs, Felt::No, what);
            } else {
                self.put(ours, text, theirs);
            }
        }
        if let Some(on) = self.switched(INJECT) {
            self.put("inject", on.to_string(), INJECT);
        }
        if let Some(path) = self.take("auth-path") {
            let mount = path.trim_matches('/').trim_start_matches("auth/");
            self.put("auth-path", mount, "auth-path");
        }
    }

    /// What is a choice: one value maps, others differ.
    fn choices(&mut self) {
        if let Some(level) = self.take("log-level") {
            match level.to_ascii_lowercase().as_str() {
                "err" | "error" => self.put("log-level", "error", "log-level"),
                level @ ("warn" | "info" | "debug" | "trace") => {
                    self.put("log-level", level, "log-level");
                }
                _ => self.differs("log-level", Felt::No, "no such level; `info` is used"),
            }
        }
        self.switched(KEEPS_CASE);
        if self.switched("agent-pre-populate-only") == Some(true) {
            self.put("mode", "init", "agent-pre-populate-only");
        }
        for (name, here, felt, otherwise) in ANYWAY {
            if self.switched(name).is_some_and(|on| on != here) {
                self.differs(name, felt, otherwise);
            }
        }
        if self.take("auth-type").is_some_and(|kind| kind != "kubernetes") {
            self.differs("auth-type", Felt::Yes, "only the Kubernetes login is set by annotation; the platform sets others in [sidecar.vault.auth]");
        }
        if self.switched("agent-run-as-same-user") == Some(true) {
            // Files that only their owner reads would be the sidecar's.
            let narrow = self.given.keys().any(|name| name.starts_with("agent-inject-perms-"));
            let felt = if narrow { Felt::Yes } else { Felt::No };
            self.differs("agent-run-as-same-user", felt, "files are opened to the application by its supplemental group; run-as-user names a user");
        }
        // The broker is always first, and what it says of itself is its own.
        for name in ["agent-init-first", STATUS, "agent-request-namespace", "log-format"] {
            self.take(name);
        }
        if self.take("agent-image").is_some() {
            let what = "that image is another program's; the platform's is used";
            self.differs("agent-image", Felt::No, what);
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
            self.put("files-directory", DIRECTORY, "secret-volume-path");
        }
        let perms = "agent-inject-perms-*";
        if let (1, Some(mode)) = (modes.len(), modes.pop_first()) {
            self.put("files-mode", mode, perms);
        } else {
            self.put("files-mode", PERMISSIONS, perms);
            let what = "all files of a pod have one mode: files-mode is 0644";
            self.differs(perms, Felt::Yes, what);
        }
    }

    /// One secret; its file's mode.
    fn file(&mut self, annotation: &'a str, name: &'a str, path: &'a str) -> String {
        let own =
            |kind: &str| self.given.get_key_value(format!("agent-inject-{kind}-{name}").as_str());
        let (file, source, mode) = (own("file"), own("template"), own("perms"));
        let (file, source, mode) = (file.map(pair), source.map(pair), mode.map(pair));
        let own_case = self.given.get_key_value(format!("{KEEPS_CASE}-{name}").as_str());
        let keeps_case = match own_case {
            Some((annotation, _)) => self.switched(annotation),
            None => self.given.get(KEEPS_CASE).and_then(|text| switch(text)),
        };
        let keeps_case = keeps_case == Some(true);
        for (annotation, _) in [file, source, mode].into_iter().flatten() {
            self.done.insert(annotation);
        }
        let default = if keeps_case { name.to_owned() } else { name.to_ascii_lowercase() };
        let file = file.map_or(default, |(_, file)| file.to_owned());
        if !lists::is_file(&file) {
            self.differs(annotation, Felt::Yes, format!("`{file}` is no file's name here: 1 to 50 of A-Z a-z 0-9 - _ . without a directory"));
            return PERMISSIONS.to_owned();
        }
        let (whole, source) = match source {
            Some((annotation, source)) => (annotation, source.to_owned()),
            None => (annotation, default_template(path)),
        };
        if whole == annotation && called::is_kv2(path) {
            self.differs(annotation, Felt::Yes, "without a template, the injector writes `data: map[…]` for this engine; ours writes `FIELD: VALUE` lines");
        }
        let (names, secrets) = (&mut self.names, &mut self.to.secrets);
        let translated = translate(&source, |called| named(names, secrets, (name, whole), called));
        for left in translated.left {
            let what = format!("{} has no counterpart: write the template anew", quoted(&left));
            self.differs(whole, Felt::Yes, what);
        }
        if self.to.secrets.len() > MAX_SECRETS {
            self.differs(whole, Felt::Yes, format!("a pod reads at most {MAX_SECRETS} secrets"));
        }
        self.put(&format!("template.{file}"), translated.text, whole);
        mode.map_or_else(|| PERMISSIONS.to_owned(), |(_, mode)| mode.to_owned())
    }

    /// What is left has no counterpart.
    fn rest(&mut self) {
        let left: Vec<_> =
            self.given.keys().filter(|name| !self.done.contains(*name)).copied().collect();
        for name in left {
            let (felt, what) = match name {
                _ if name.starts_with("agent-inject-command-") => (
                    Felt::Yes,
                    "no command runs in the sidecar: have the application watch its file, or use env with on-rotation",
                ),
                _ if name.starts_with("agent-inject-template-file-")
                    || name == "agent-extra-secret" =>
                {
                    (Felt::Yes, "templates are annotations: template.FILE")
                }
                _ if name.starts_with("secret-volume-path-") => {
                    (Felt::Yes, "all files of a pod lie in one directory: files-directory")
                }
                "agent-configmap" => (
                    Felt::Yes,
                    "write the configuration for secret-broker and name its ConfigMap by config-map",
                ),
                "ca-cert" | "tls-secret" => (
                    Felt::No,
                    "put Vault's authorities into a ConfigMap, and name it by ca-config-map",
                ),
                "tls-server-name" => (Felt::No, "the platform sets it in [sidecar.vault]"),
                "client-cert" | "client-key" => {
                    (Felt::Yes, "the platform sets it in [sidecar.vault]")
                }
                "agent-inject-default-template" => {
                    (Felt::Yes, "write the template out: template.FILE")
                }
                _ if INNER.contains(&name) || name.starts_with("agent-telemetry-") => {
                    (Felt::No, "has no counterpart, and concerns the injector's own container")
                }
                _ => (Felt::Yes, "has no counterpart"),
            };
            self.differs(name, felt, what);
        }
    }
}

fn theirs(name: &str) -> String {
    format!("{PREFIX}{name}")
}

fn pair<'a>((name, text): (&&'a str, &&'a str)) -> (&'a str, &'a str) {
    (name, text)
}

/// The name of what a call reads: the annotation's, told apart by a number where it reads several.
fn named(
    names: &mut BTreeMap<Called, String>,
    secrets: &mut BTreeMap<String, Asked>,
    (wanted, annotation): (&str, &str),
    called: Called,
) -> String {
    if let Some(name) = names.get(&called) {
        return name.clone();
    }
    if secrets.len() > MAX_SECRETS {
        // Told once, and refused: no name is looked for any more.
        return wanted.to_owned();
    }
    let name = free(wanted, |name| secrets.contains_key(name));
    secrets.insert(name.clone(), Asked { annotation: theirs(annotation), called: called.clone() });
    names.insert(called, name.clone());
    name
}

/// A name that is not taken: the wanted one, or that with a number.
fn free(wanted: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2..).map(|number| format!("{wanted}-{number}"));
    let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
    names.find(|name| !is_taken(name)).unwrap_or_default()
}

/// What the injector renders without a template.
fn default_template(path: &str) -> String {
    format!(
        "{{{{ with secret \"{path}\" }}}}{{{{ range $k, $v := .Data }}}}{{{{ $k }}}}: {{{{ $v }}}}\n{{{{ end }}}}{{{{ end }}}}"
    )
}
