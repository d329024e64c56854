//! The annotations that pods and namespaces carry: the one table that is read, documented and checked against.

use std::fmt::Write;

/// What all names begin with.
pub const PREFIX: &str = "secretbroker.dev/";

/// One annotation.
#[derive(Clone, Copy, Debug)]
pub struct Annotation {
    /// Its name after the prefix; one that ends in `.` is followed by a file's name.
    pub name: &'static str,
    /// What holds when it is absent, as Markdown.
    pub default: &'static str,
    /// What is accepted, as Markdown.
    pub accepted: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// Who writes it, and when.
    pub kind: Kind,
}

/// Who writes an annotation, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// People, before the pod is made.
    Settled,
    /// People; a change reaches the running sidecar.
    Live,
    /// The webhook.
    Generated,
}

const fn settled(
    name: &'static str,
    default: &'static str,
    accepted: &'static str,
    meaning: &'static str,
) -> Annotation {
    Annotation { name, default, accepted, meaning, kind: Kind::Settled }
}

const fn live(
    name: &'static str,
    default: &'static str,
    accepted: &'static str,
    meaning: &'static str,
) -> Annotation {
    Annotation { kind: Kind::Live, ..settled(name, default, accepted, meaning) }
}

const fn generated(name: &'static str, meaning: &'static str) -> Annotation {
    Annotation { kind: Kind::Generated, ..settled(name, "", "", meaning) }
}

/// All annotations.
pub const ALL: [Annotation; 43] = [
    settled(
        "inject",
        "`false`",
        "`true`, `false`",
        "Whether the pod gets the sidecar. On a namespace: whether its pods do.",
    ),
    settled(
        "mode",
        "`sidecar.mode`: `native`",
        "`native`, `plain`, `init`",
        "How the sidecar runs: an init container that stays, a container beside the others, or an init container that renders files and ends.",
    ),
    live(
        "secrets",
        "none",
        "a list of `NAME` or `LOCAL=NAME`",
        "The secrets of the catalogue to serve, and the names that the application knows them by.",
    ),
    settled(
        "files",
        "none",
        "a list of `FILE=SECRET` or `FILE=SECRET.FIELD`",
        "Fields to deliver as files; without a field, `value`.",
    ),
    live(
        "template.",
        "none",
        "a template: `{{ secret(\"SECRET\").FIELD }}`",
        "The file of this name, rendered from a template. Followed by the file's name.",
    ),
    settled(
        "files-directory",
        "`sidecar.files_directory`: `/run/secrets/broker`",
        "an absolute path",
        "Where files are delivered, in memory and read-only for the application.",
    ),
    settled(
        "files-mode",
        "`0440`",
        "octal, `0400` to `0777`",
        "The permission bits of the files; the application reads them through its supplemental group.",
    ),
    settled(
        "env",
        "none",
        "a list of `VARIABLE=SECRET` or `VARIABLE=SECRET.FIELD`",
        "Fields to put into the environment: the command is wrapped by `secret-broker exec`. Each container that is wrapped needs an explicit `command`.",
    ),
    settled(
        "exec-containers",
        "the only container of the pod",
        "a list of containers",
        "The containers whose command is wrapped.",
    ),
    settled(
        "on-rotation",
        "`restart`",
        "`restart`, `ignore`, `signal:NAME`",
        "What `exec` does when a secret in the environment changes.",
    ),
    settled(
        "containers",
        "all",
        "a list of containers and init containers",
        "Those that reach the broker and the files.",
    ),
    settled(
        "config-map",
        "none",
        "`NAME`",
        "A ConfigMap of the pod's namespace whose `config.toml` is the sidecar's whole configuration, in place of `secrets`. Needs a grant with `own_configuration`.",
    ),
    settled("role", "`sidecar.vault.auth.role`", "text", "The role to log in to Vault with."),
    settled(
        "auth-path",
        "`sidecar.vault.auth.mount`: `kubernetes`",
        "a path",
        "The mount of Vault's auth method.",
    ),
    settled("vault-address", "`sidecar.vault.address`", "`https://HOST:PORT`", "Vault's address."),
    settled("vault-namespace", "`sidecar.vault.namespace`", "text", "Vault's namespace."),
    settled(
        "ca-config-map",
        "`sidecar.ca_config_map`",
        "`NAME` or `NAME/KEY`",
        "The ConfigMap of the pod's namespace with Vault's authorities; the key is `ca.crt` unless told.",
    ),
    settled(
        "audience",
        "`sidecar.audience`: `vault`",
        "text",
        "The audience of the service account's token.",
    ),
    settled(
        "token-ttl",
        "`sidecar.token_ttl`: `10m`",
        "a time from 10m to 24h",
        "The life of the service account's token.",
    ),
    settled(
        "tls",
        "`sidecar.tls`: `authority`",
        "`authority`, `vault-pki`, `spiffe`, `files`",
        "Where certificates come from: an authority of the pod's own, Vault's PKI engine, the SPIFFE Workload API through the CSI driver `csi.spiffe.io`, or a Secret.",
    ),
    settled(
        "tls-path",
        "`sidecar.tls_path`",
        "a path",
        "`vault-pki`: the issuing path, which issues for `localhost`, `127.0.0.1` and the application's SPIFFE ID.",
    ),
    settled(
        "tls-secret",
        "none",
        "`NAME`",
        "`files`: a Secret with `tls.crt`, `tls.key` and `ca.crt`, such as cert-manager makes, for `localhost` and the application's SPIFFE ID.",
    ),
    settled(
        "connect",
        "`port`; `socket` on the host's network",
        "`port`, `socket`",
        "How the application reaches the broker: mTLS on the loopback, or the Unix socket alone.",
    ),
    settled("port", "`sidecar.port`: `7443`", "a port", "The port on the pod's loopback."),
    settled(
        "probe-port",
        "`sidecar.probe_port`: `7444`",
        "a port",
        "The port of the kubelet's probes.",
    ),
    settled(
        "startup-timeout",
        "`sidecar.startup_timeout`: `5m`",
        "a time from 5s to 24h",
        "How long the pod may wait for its secrets before its sidecar is restarted.",
    ),
    settled("image", "`sidecar.image`", "text", "The sidecar's image."),
    live(
        "log-level",
        "`sidecar.log_level`: `info`",
        "`error`, `warn`, `info`, `debug`, `trace`",
        "The level of log events.",
    ),
    settled(
        "run-as-user",
        "`sidecar.run_as_user`: `65532`",
        "a number from 1 to 4294967294",
        "The user that injected containers run as.",
    ),
    settled(
        "run-as-group",
        "`sidecar.run_as_group`: `65532`",
        "a number from 1 to 4294967294",
        "Their group, which the pod's containers get as a supplemental one.",
    ),
    settled(
        "cpu-request",
        "`sidecar.resources`: `10m`",
        "a quantity or nothing",
        "The processor time asked for.",
    ),
    settled(
        "cpu-limit",
        "`sidecar.resources`: nothing",
        "a quantity or nothing",
        "The most processor time.",
    ),
    settled(
        "memory-request",
        "`sidecar.resources`: `32Mi`",
        "a quantity or nothing",
        "The memory asked for.",
    ),
    settled(
        "memory-limit",
        "`sidecar.resources`: `128Mi`",
        "a quantity or nothing",
        "The most memory.",
    ),
    live(
        "environment",
        "`sidecar.deployment`",
        "1 to 63 of `A-Z a-z 0-9 _ -`",
        "The environment whose versions are served.",
    ),
    live(
        "colour",
        "`sidecar.deployment`",
        "1 to 63 of `A-Z a-z 0-9 _ -`",
        "The colour, in a blue-green deployment.",
    ),
    live(
        "poll-interval",
        "`sidecar.defaults`: `5m`",
        "a time from 1s to 1d",
        "How often values without an end of their own are read again.",
    ),
    live(
        "overlap",
        "`sidecar.defaults`: `5m`",
        "a time from 0s to 1d",
        "How long a replaced version lives on.",
    ),
    live(
        "max-stale",
        "`sidecar.defaults`: `1h`",
        "a time from 0s to 30d",
        "How long a value is served that can't be confirmed.",
    ),
    generated("status", "`injected`, once the pod was."),
    generated("version", "The version of the webhook that injected it."),
    generated("config", "The sidecar's configuration."),
    generated("file.", "The template made from an entry of `files`."),
];

/// The annotation's whole name.
pub fn whole(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// The annotation that a name after the prefix means, and the file it names, if it does.
pub fn find(name: &str) -> Option<(&'static Annotation, Option<&str>)> {
    ALL.iter().find_map(|annotation| {
        if annotation.name.ends_with('.') {
            let file = name.strip_prefix(annotation.name)?;
            Some((annotation, Some(file)))
        } else {
            (annotation.name == name).then_some((annotation, None))
        }
    })
}

/// What an unknown name was probably meant to be.
pub(super) fn nearest(name: &str) -> String {
    let best = ALL
        .iter()
        .filter(|annotation| annotation.kind != Kind::Generated)
        .map(|annotation| (strsim::damerau_levenshtein(name, annotation.name), annotation.name))
        .min()
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4);
    match best {
        Some((_, known)) => format!("did you mean `{PREFIX}{known}`?"),
        None => "no annotation of this prefix has such a name".to_owned(),
    }
}

/// The table of all annotations, as Markdown.
pub fn reference() -> String {
    let mut out = String::new();
    let mut rows = |title: &str, kinds: &[Kind]| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{title}");
        for a in ALL.iter().filter(|a| kinds.contains(&a.kind)) {
            let name =
                if a.name.ends_with('.') { format!("{}FILE", a.name) } else { a.name.to_owned() };
            let live = if a.kind == Kind::Live { "yes" } else { "no" };
            let _ = match a.kind {
                Kind::Generated => writeln!(out, "| `{PREFIX}{name}` | {} |", a.meaning),
                _ => writeln!(
                    out,
                    "| `{PREFIX}{name}` | {} | {} | {live} | {} |",
                    a.default, a.accepted, a.meaning
                ),
            };
        }
    };
    rows(
        "| annotation | default | accepted | live | meaning |\n|---|---|---|---|---|",
        &[Kind::Settled, Kind::Live],
    );
    rows("\nWritten by the webhook:\n\n| annotation | meaning |\n|---|---|", &[Kind::Generated]);
    out
}
