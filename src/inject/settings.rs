//! Annotations → what the pod gets, or every mistake at once.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Mistake,
    annotations::{self, Kind, PREFIX, whole},
    containers,
    lists::{self, FieldOf, is_file, is_variable, items},
    reader::{Reader, quoted},
};
use crate::{
    config::{
        inject::{Mode, Sidecar, TlsSource},
        raw::VaultAuthMethod,
    },
    domain::secret::{SINGLE_FIELD, SecretName},
};

/// Annotations that a configuration of one's own has no use for.
const NOT_WITH_OWN: [&str; 14] = [
    "secrets",
    "role",
    "auth-path",
    "vault-address",
    "vault-namespace",
    "tls",
    "tls-path",
    "tls-secret",
    "log-level",
    "environment",
    "colour",
    "poll-interval",
    "overlap",
    "max-stale",
];

/// The secret that is the application's certificate, where Vault issues it.
pub(super) const CLIENT_CERTIFICATE: &str = "secret-broker-client";

/// What a pod gets.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The platform's settings, with what the pod says in their place.
    pub sidecar: Sidecar,
    /// The secrets: the name that the application knows, and the catalogue's.
    pub secrets: BTreeMap<String, String>,
    /// The files to deliver, by name.
    pub files: BTreeMap<String, File>,
    /// Their permission bits.
    pub files_mode: u32,
    /// What goes into the environment.
    pub env: Vec<(String, FieldOf)>,
    /// The containers whose command is wrapped; the only one when absent.
    pub exec_containers: Option<BTreeSet<String>>,
    /// What follows a rotation of what is in the environment.
    pub on_rotation: String,
    /// The containers that reach the broker; all when absent.
    pub containers: Option<BTreeSet<String>>,
    /// The `ConfigMap` that holds the whole configuration, in place of `secrets`.
    pub config_map: Option<String>,
    /// The `ConfigMap` and key of Vault's authorities.
    pub ca: Option<(String, String)>,
    /// The Secret of the certificates.
    pub tls_secret: Option<String>,
    /// How the application reaches the broker.
    pub connect: Connect,
}

/// A file to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The annotation that holds the template, after the prefix.
    pub annotation: String,
    /// The template that the webhook writes, if people did not.
    pub generated: Option<String>,
    /// Where a certificate's part goes; other files go into the directory of files.
    pub output: Option<String>,
}

/// How the application reaches the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// By mTLS on the loopback.
    Port,
    /// By the Unix socket.
    Socket,
}

/// Whether these annotations ask for the sidecar.
///
/// # Errors
/// When the text is neither yes nor no.
pub fn asked(annotations: &BTreeMap<String, String>) -> Result<bool, Mistake> {
    match annotations.get(&whole("inject")).map(|text| text.trim()) {
        Some("true") => Ok(true),
        None | Some("false") => Ok(false),
        Some(other) => Err(Mistake {
            place: whole("inject"),
            found: quoted(other),
            accepted: "expected `true` or `false`".to_owned(),
        }),
    }
}

/// What holds for a pod: its own annotations before those of its namespace.
pub fn effective(
    pod: &BTreeMap<String, String>,
    namespace: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let is_default = |name: &str| {
        let known = name.strip_prefix(PREFIX).map(annotations::find);
        known.is_some_and(|known| known.is_none_or(|(a, _)| a.kind != Kind::Generated))
    };
    let mut all = namespace;
    all.retain(|name, _| is_default(name));
    all.extend(pod.iter().map(|(name, text)| (name.clone(), text.clone())));
    all
}

impl Settings {
    /// Reads what the annotations say over what the platform says. `host_network` tells whether the pod shares the
    /// network of its node.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn read(
        annotations: &BTreeMap<String, String>,
        sidecar: &Sidecar,
        host_network: bool,
    ) -> Result<Self, Vec<Mistake>> {
        let mut reader = Reader::new(annotations);
        let r = &mut reader;
        let mut sidecar = sidecar.clone();
        platform(r, &mut sidecar);
        vault(r, &mut sidecar);
        let config_map = r.object("config-map");
        let secrets = secrets(r, config_map.is_some());
        let known = config_map.is_none().then_some(&secrets);
        let mut files = files(r, known);
        let env = env(r, known);
        let files_mode = files_mode(r);
        let connect = connect(r, host_network);
        let issued = sidecar.tls == TlsSource::VaultPki && sidecar.mode != Mode::Init;
        if issued && connect == Connect::Port && config_map.is_none() {
            files.extend(client_files());
        }
        let tls_secret = r.object("tls-secret");
        let settings = Self {
            ca: ca(r, &mut sidecar),
            secrets,
            files,
            files_mode,
            env,
            exec_containers: r.names("exec-containers"),
            on_rotation: on_rotation(r),
            containers: r.names("containers"),
            config_map,
            tls_secret,
            connect,
            sidecar,
        };
        settings.agree(r);
        if reader.mistakes.is_empty() { Ok(settings) } else { Err(reader.mistakes) }
    }

    /// What annotations say about each other.
    fn agree(&self, r: &mut Reader<'_>) {
        let tls = self.sidecar.tls;
        if self.config_map.is_some() {
            for name in NOT_WITH_OWN {
                if r.has(name) {
                    r.wrong(
                        name,
                        "given beside config-map",
                        "say it in the ConfigMap's configuration",
                    );
                }
            }
        } else if self.secrets.is_empty() && !r.mistakes.iter().any(|m| m.place == whole("secrets"))
        {
            r.wrong("secrets", "missing", "name the secrets to serve, or a config-map");
        }
        if self.sidecar.mode == Mode::Init {
            if r.has("env") {
                r.wrong(
                    "env",
                    "given with mode `init`",
                    "`exec` needs a sidecar that stays: `native` or `plain`",
                );
            }
            if self.files.is_empty() && !r.has("files") {
                r.wrong("mode", "`init` without files", "add files or template.FILE");
            }
        }
        if r.has("exec-containers") && !r.has("env") {
            r.wrong("exec-containers", "given without env", "say what goes into the environment");
        }
        if r.has("on-rotation") && !r.has("env") {
            r.wrong("on-rotation", "given without env", "say what goes into the environment");
        }
        if tls == TlsSource::VaultPki
            && self.sidecar.tls_path.is_none()
            && self.connect == Connect::Port
        {
            r.wrong("tls-path", "missing", "`vault-pki` needs the issuing path");
        }
        if tls != TlsSource::VaultPki && r.has("tls-path") {
            r.wrong("tls-path", "given without tls `vault-pki`", "leave it out");
        }
        if tls == TlsSource::Files && self.tls_secret.is_none() {
            r.wrong("tls-secret", "missing", "`files` needs the Secret that holds them");
        }
        if tls != TlsSource::Files && r.has("tls-secret") {
            r.wrong("tls-secret", "given without tls `files`", "leave it out");
        }
        if self.sidecar.port.small() == self.sidecar.probe_port.small() {
            r.wrong("probe-port", "the port of the broker", "expected another");
        }
    }
}

/// What the platform's `[sidecar]` says too.
fn platform(r: &mut Reader<'_>, sidecar: &mut Sidecar) {
    r.value("mode", &mut sidecar.mode);
    r.option("image", &mut sidecar.image);
    r.value("log-level", &mut sidecar.log_level);
    r.number("run-as-user", &mut sidecar.run_as_user);
    r.number("run-as-group", &mut sidecar.run_as_group);
    r.quantity("cpu-request", &mut sidecar.resources.cpu_request);
    r.quantity("cpu-limit", &mut sidecar.resources.cpu_limit);
    r.quantity("memory-request", &mut sidecar.resources.memory_request);
    r.quantity("memory-limit", &mut sidecar.resources.memory_limit);
    r.number("port", &mut sidecar.port);
    r.number("probe-port", &mut sidecar.probe_port);
    r.value("startup-timeout", &mut sidecar.startup_timeout);
    r.value("token-ttl", &mut sidecar.token_ttl);
    r.value("tls", &mut sidecar.tls);
    r.option("tls-path", &mut sidecar.tls_path);
    r.option("environment", &mut sidecar.deployment.environment);
    r.option("colour", &mut sidecar.deployment.colour);
    r.value("poll-interval", &mut sidecar.defaults.poll_interval);
    r.value("overlap", &mut sidecar.defaults.overlap);
    r.value("max-stale", &mut sidecar.defaults.max_stale);
    if let Some(audience) = r.text("audience") {
        sidecar.audience = audience;
    }
    if let Some(directory) = r.text("files-directory") {
        let plain = directory.strip_prefix('/').is_some_and(|rest| {
            !rest.is_empty() && rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
        });
        if plain && !directory.contains(':') {
            sidecar.files_directory = directory.into();
        } else {
            r.refuse("files-directory", quoted(&directory));
        }
    }
}

fn vault(r: &mut Reader<'_>, sidecar: &mut Sidecar) {
    const NAMES: [&str; 4] = ["role", "auth-path", "vault-address", "vault-namespace"];
    if sidecar.vault.is_none() && !NAMES.iter().any(|name| r.has(name)) {
        return;
    }
    let vault = sidecar.vault.get_or_insert_default();
    r.option("role", &mut vault.auth.role);
    if r.has("role") && vault.auth.role.as_ref().is_some_and(|role| role.contains('{')) {
        r.wrong("role", "a role with a brace", "expected the role's name itself");
    }
    r.option("auth-path", &mut vault.auth.mount);
    r.option("vault-address", &mut vault.address);
    r.option("vault-namespace", &mut vault.namespace);
    vault.auth.method.get_or_insert(VaultAuthMethod::Kubernetes);
}

fn ca(r: &mut Reader<'_>, sidecar: &mut Sidecar) -> Option<(String, String)> {
    r.option("ca-config-map", &mut sidecar.ca_config_map);
    let text = sidecar.ca_config_map.as_ref()?;
    let (name, key) = text.split_once('/').unwrap_or((text, "ca.crt"));
    if !lists::is_object(name) || !is_file(key) {
        r.refuse("ca-config-map", quoted(text));
        return None;
    }
    Some((name.to_owned(), key.to_owned()))
}

fn secrets(r: &mut Reader<'_>, own: bool) -> BTreeMap<String, String> {
    let mut secrets = BTreeMap::new();
    let Some(text) = r.text("secrets").filter(|_| !own) else { return secrets };
    for item in items(&text) {
        let (local, name) = item.split_once('=').unwrap_or((item, item));
        if local.parse::<SecretName>().is_err() || name.parse::<SecretName>().is_err() {
            r.refuse("secrets", quoted(item));
        } else if secrets.insert(local.to_owned(), name.to_owned()).is_some() {
            r.wrong("secrets", format!("{} twice", quoted(local)), "name each once");
        }
    }
    secrets
}

/// A field that an item names: of the secrets asked for, or, where a configuration of one's own tells them, of any.
fn field(
    item: &str,
    known: Option<&BTreeMap<String, String>>,
) -> Option<(String, Result<FieldOf, String>)> {
    if let Some(known) = known {
        lists::binding(item, known.keys().map(String::as_str))
    } else {
        let (name, from) = item.split_once('=')?;
        let (secret, field) = from.rsplit_once('.').unwrap_or((from, SINGLE_FIELD));
        let field = FieldOf { secret: secret.to_owned(), field: field.to_owned() };
        Some((name.to_owned(), Ok(field)))
    }
}

fn unknown(r: &mut Reader<'_>, name: &str, from: &str, known: Option<&BTreeMap<String, String>>) {
    let names = known.into_iter().flatten().map(|(local, _)| local.as_str());
    let names = names.collect::<Vec<_>>().join(", ");
    let accepted =
        format!("expected one of {PREFIX}secrets ({names}), with .FIELD if it is not `value`");
    r.wrong(name, format!("{} is no secret of this pod", quoted(from)), accepted);
}

fn files(r: &mut Reader<'_>, known: Option<&BTreeMap<String, String>>) -> BTreeMap<String, File> {
    let mut files = BTreeMap::new();
    for (name, _) in r.each("template.") {
        let annotation = format!("template.{name}");
        let file = File { annotation, generated: None, output: None };
        files.insert(name.to_owned(), file);
    }
    let Some(text) = r.text("files") else { return files };
    for item in items(&text) {
        match field(item, known) {
            Some((name, Ok(field))) if is_file(&name) && is_plain(&field) => {
                let FieldOf { secret, field } = field;
                let template = format!("{{{{ secret(\"{secret}\")[\"{field}\"] }}}}");
                let annotation = format!("file.{name}");
                let file = File { annotation, generated: Some(template), output: None };
                if files.insert(name.clone(), file).is_some() {
                    r.wrong("files", format!("{} twice", quoted(&name)), "name each file once");
                }
            }
            Some((_, Err(from))) => unknown(r, "files", &from, known),
            _ => r.refuse("files", quoted(item)),
        }
    }
    files
}

/// The application's certificate, which the broker has issued as a secret of its own.
fn client_files() -> impl Iterator<Item = (String, File)> {
    let parts =
        [("ca.pem", "issuing_ca"), ("client.pem", "certificate"), ("client.key", "private_key")];
    parts.into_iter().map(|(file, field)| {
        let name = format!("{CLIENT_CERTIFICATE}.{file}");
        let template = format!("{{{{ secret(\"{CLIENT_CERTIFICATE}\")[\"{field}\"] }}}}\n");
        let output = Some(format!("{}/{file}", containers::RUN_DIRECTORY));
        let file = File { annotation: format!("file.{name}"), generated: Some(template), output };
        (name, file)
    })
}

/// Whether a field can stand in a template as it is.
fn is_plain(field: &FieldOf) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    !field.field.is_empty() && field.secret.bytes().chain(field.field.bytes()).all(allowed)
}

fn env(r: &mut Reader<'_>, known: Option<&BTreeMap<String, String>>) -> Vec<(String, FieldOf)> {
    let mut env = BTreeMap::new();
    let Some(text) = r.text("env") else { return Vec::new() };
    for item in items(&text) {
        match field(item, known) {
            Some((name, Ok(field))) if is_variable(&name) && is_plain(&field) => {
                if env.insert(name.clone(), field).is_some() {
                    r.wrong("env", format!("{} twice", quoted(&name)), "name each variable once");
                }
            }
            Some((_, Err(from))) => unknown(r, "env", &from, known),
            _ => r.refuse("env", quoted(item)),
        }
    }
    env.into_iter().collect()
}

fn files_mode(r: &mut Reader<'_>) -> u32 {
    let Some(text) = r.text("files-mode") else { return 0o440 };
    let octal = text.bytes().all(|b| matches!(b, b'0'..=b'7')) && matches!(text.len(), 3..=4);
    if let Some(mode) =
        u32::from_str_radix(&text, 8).ok().filter(|mode| octal && (0o400..=0o777).contains(mode))
    {
        mode
    } else {
        r.refuse("files-mode", quoted(&text));
        0
    }
}

fn connect(r: &mut Reader<'_>, host_network: bool) -> Connect {
    match r.text("connect").as_deref() {
        None if host_network => Connect::Socket,
        None | Some("port") => Connect::Port,
        Some("socket") => Connect::Socket,
        Some(other) => {
            r.refuse("connect", quoted(other));
            Connect::Port
        }
    }
}

fn on_rotation(r: &mut Reader<'_>) -> String {
    let text = r.text("on-rotation").unwrap_or_else(|| "restart".to_owned());
    let signal = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric()) && !name.is_empty();
    if !matches!(text.as_str(), "restart" | "ignore")
        && !text.strip_prefix("signal:").is_some_and(signal)
    {
        r.refuse("on-rotation", quoted(&text));
    }
    text
}
