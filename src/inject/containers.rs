//! The containers and volumes that a pod gets. All pass the Pod Security profile "restricted".

use serde_json::{Map, Value, json};

use super::{
    annotations::whole,
    settings::{Connect, File, Settings},
};
use crate::config::inject::{Mode, Resources, TlsSource, raw::PullPolicy};

/// The sidecar's container.
pub(super) const SIDECAR: &str = "secret-broker";
/// The container that puts the program where the application's container finds it.
pub(super) const COPY: &str = "secret-broker-copy";
/// Where the socket and the application's certificate are.
pub(super) const RUN_DIRECTORY: &str = "/run/secret-broker";
/// The socket.
pub(super) const SOCKET: &str = "/run/secret-broker/broker.sock";
/// Where the configuration and the templates are mounted.
pub(super) const CONFIG_DIRECTORY: &str = "/etc/secret-broker";
/// Where Vault's authorities are mounted.
pub(super) const CA_DIRECTORY: &str = "/etc/secret-broker-ca";
/// Where certificates of a Secret are mounted, for the sidecar and the application.
pub(super) const TLS_DIRECTORY: &str = "/etc/secret-broker-tls";
/// Where the socket of the SPIFFE Workload API is mounted.
pub(super) const SPIFFE_DIRECTORY: &str = "/spiffe-workload-api";
/// The service account's token for Vault.
pub(super) const TOKEN_FILE: &str = "/var/run/secrets/secretbroker.dev/token";
/// The encrypted state, which lets leases survive a restart of the sidecar.
pub(super) const STATE_FILE: &str = "/run/secret-broker-state/state.age";
/// The state's key, in a volume of its own: no part of one holds both.
pub(super) const KEY_FILE: &str = "/run/secret-broker-key/key";
/// Where the program lies for `exec`.
pub(super) const BIN_DIRECTORY: &str = "/secret-broker-bin";

const TOKEN_DIRECTORY: &str = "/var/run/secrets/secretbroker.dev";
const STATE_DIRECTORY: &str = "/run/secret-broker-state";
const KEY_DIRECTORY: &str = "/run/secret-broker-key";
const RUN: &str = "secret-broker-run";
const CONFIG: &str = "secret-broker-config";
const TOKEN: &str = "secret-broker-token";
const STATE: &str = "secret-broker-state";
const KEY: &str = "secret-broker-key";
const FILES: &str = "secret-broker-files";
const BIN: &str = "secret-broker-bin";
const CA: &str = "secret-broker-ca";
const TLS: &str = "secret-broker-tls";
const SPIFFE: &str = "secret-broker-spiffe";
/// What gives a pod the Workload API without a path of its node, which the profile "restricted" refuses.
const SPIFFE_DRIVER: &str = "csi.spiffe.io";
/// Files of certificates: what reads them has the sidecar's group.
const CERTIFICATE_MODE: u32 = 0o440;
/// A Secret's files where the pod has no group for them: the kubelet leaves them to root's then, which nobody here is in.
/// The volume is mounted into no container but those that should read it.
const UNGROUPED_MODE: u32 = 0o444;
/// The program in the image.
const PROGRAM: &str = "/secret-broker";

impl Settings {
    fn files_directory(&self) -> String {
        self.sidecar.files_directory.display().to_string()
    }

    /// Whether the application is given files, besides its certificate.
    pub(super) fn has_files(&self) -> bool {
        self.files.values().any(|file| file.output.is_none())
    }

    /// Whether the sidecar stays, and goes on after a restart where it stood.
    pub(super) fn stays(&self) -> bool {
        self.sidecar.mode != Mode::Init
    }

    fn has_tls_secret(&self) -> bool {
        self.sidecar.tls == TlsSource::Files && self.connect == Connect::Port
    }

    fn has_workload_api(&self) -> bool {
        self.sidecar.tls == TlsSource::Spiffe
            && self.connect == Connect::Port
            && self.sidecar.mode != Mode::Init
    }

    /// The endpoint of the SPIFFE Workload API, as the sidecar sees it.
    pub(super) fn workload_api(&self) -> String {
        format!("unix://{SPIFFE_DIRECTORY}/{}", self.sidecar.spiffe_socket)
    }

    /// The sidecar, as it stands among init containers or containers.
    pub(super) fn sidecar_container(&self) -> Value {
        let sidecar = &self.sidecar;
        let mut args = vec![
            "serve".to_owned(),
            "--config".to_owned(),
            format!("{CONFIG_DIRECTORY}/config.toml"),
        ];
        for (name, file) in &self.files {
            args.push("--render".to_owned());
            args.push(self.render(name, file));
        }
        let mut container = self.container(SIDECAR, &[]);
        if self.stays() {
            self.probes(&mut container);
        } else {
            args.push("--once".to_owned());
        }
        container.insert("args".to_owned(), json!(args));
        let mut env = Vec::new();
        match sidecar.mode {
            Mode::Native => drop(container.insert("restartPolicy".to_owned(), json!("Always"))),
            Mode::Plain => {
                // The kubelet starts the next container when this hook has ended: that is the guard of the order.
                let wait =
                    json!([PROGRAM, "wait", "--timeout", format!("{}s", self.startup_secs())]);
                let hook = json!({ "postStart": { "exec": { "command": wait } } });
                container.insert("lifecycle".to_owned(), hook);
                env.push(variable("SECRET_BROKER_ADDRESS", &unix()));
            }
            Mode::Init => {}
        }
        if self.has_workload_api() {
            env.push(variable("SPIFFE_ENDPOINT_SOCKET", &self.workload_api()));
        }
        if !env.is_empty() {
            container.insert("env".to_owned(), Value::Array(env));
        }
        let mut mounts = vec![
            mount(CONFIG, CONFIG_DIRECTORY, true),
            mount(RUN, RUN_DIRECTORY, false),
            mount(TOKEN, TOKEN_DIRECTORY, true),
        ];
        if self.stays() {
            mounts.push(mount(STATE, STATE_DIRECTORY, false));
            mounts.push(mount(KEY, KEY_DIRECTORY, false));
        }
        if self.has_files() {
            mounts.push(mount(FILES, &self.files_directory(), false));
        }
        if self.ca.is_some() {
            mounts.push(mount(CA, CA_DIRECTORY, true));
        }
        if self.has_tls_secret() {
            mounts.push(mount(TLS, TLS_DIRECTORY, true));
        }
        if self.has_workload_api() {
            mounts.push(mount(SPIFFE, SPIFFE_DIRECTORY, true));
        }
        container.insert("volumeMounts".to_owned(), Value::Array(mounts));
        Value::Object(container)
    }

    /// The container that puts the program where wrapped containers find it.
    pub(super) fn copy_container(&self) -> Value {
        let mut container = self.container(COPY, &["copy", BIN_DIRECTORY]);
        container.insert("volumeMounts".to_owned(), json!([mount(BIN, BIN_DIRECTORY, false)]));
        Value::Object(container)
    }

    fn render(&self, name: &str, file: &File) -> String {
        let directory = self.files_directory();
        let (output, mode) = match &file.output {
            Some(output) => (output.clone(), CERTIFICATE_MODE),
            None => (format!("{directory}/{name}"), self.files_mode),
        };
        format!("{CONFIG_DIRECTORY}/templates/{name}:{output}:{mode:o}")
    }

    fn container(&self, name: &str, args: &[&str]) -> Map<String, Value> {
        let sidecar = &self.sidecar;
        let mut container = Map::new();
        let mut put = |key: &str, value: Value| drop(container.insert(key.to_owned(), value));
        put("name", json!(name));
        put("image", json!(sidecar.image));
        if let Some(policy) = sidecar.image_pull_policy {
            put("imagePullPolicy", json!(pull_policy(policy)));
        }
        put("command", json!([PROGRAM]));
        put("args", json!(args));
        put("resources", resources(&sidecar.resources));
        put(
            "securityContext",
            json!({
                "allowPrivilegeEscalation": false,
                "capabilities": { "drop": ["ALL"] },
                "privileged": false,
                "readOnlyRootFilesystem": true,
                "runAsNonRoot": true,
                "runAsUser": sidecar.run_as_user,
                "runAsGroup": sidecar.run_as_group,
                "seccompProfile": { "type": "RuntimeDefault" },
            }),
        );
        container
    }

    fn startup_secs(&self) -> u64 {
        self.sidecar.startup_timeout.duration().as_secs().max(1)
    }

    fn probes(&self, container: &mut Map<String, Value>) {
        let probe = |path: &str, period: u32, failures: u64| {
            json!({
                "httpGet": { "path": path, "port": SIDECAR },
                "periodSeconds": period,
                "timeoutSeconds": 3,
                "failureThreshold": failures,
            })
        };
        let mut put = |key: &str, value: Value| drop(container.insert(key.to_owned(), value));
        // Start-up means that the secrets are here.
        put("startupProbe", probe("/startupz", 1, self.startup_secs()));
        put("livenessProbe", probe("/livez", 10, 3));
        put("readinessProbe", probe("/readyz", 5, 2));
        put(
            "ports",
            json!([{ "name": SIDECAR, "containerPort": self.sidecar.probe_port, "protocol": "TCP" }]),
        );
    }

    /// The volumes of all that was injected. `wraps` tells whether a command is wrapped, `grouped` whether the kubelet
    /// gives volumes to a group of the pod's (`fsGroup`).
    pub(super) fn volumes(&self, wraps: bool, grouped: bool) -> Vec<Value> {
        let sidecar = &self.sidecar;
        let memory = |name: &str, size: &str| json!({ "name": name, "emptyDir": { "medium": "Memory", "sizeLimit": size } });
        let token = json!({
            "serviceAccountToken": {
                "audience": sidecar.audience,
                "expirationSeconds": sidecar.token_ttl.duration().as_secs(),
                "path": "token",
            }
        });
        let mut volumes = vec![
            self.config_volume(),
            memory(RUN, "1Mi"),
            json!({ "name": TOKEN, "projected": { "sources": [token] } }),
        ];
        if self.stays() {
            volumes.push(memory(STATE, "16Mi"));
            volumes.push(memory(KEY, "1Mi"));
        }
        if self.has_files() {
            volumes.push(memory(FILES, "4Mi"));
        }
        if wraps {
            volumes.push(memory(BIN, "64Mi"));
        }
        if let Some((name, key)) = &self.ca {
            let items = json!([{ "key": key, "path": key }]);
            volumes.push(json!({ "name": CA, "configMap": { "name": name, "items": items } }));
        }
        if let Some(secret) = self.tls_secret.as_ref().filter(|_| self.has_tls_secret()) {
            let items =
                [("tls.crt", "client.pem"), ("tls.key", "client.key"), ("ca.crt", "ca.pem")];
            let items = items.map(|(key, path)| json!({ "key": key, "path": path }));
            let mode = if grouped { CERTIFICATE_MODE } else { UNGROUPED_MODE };
            let secret = json!({ "secretName": secret, "items": items, "defaultMode": mode });
            volumes.push(json!({ "name": TLS, "secret": secret }));
        }
        if self.has_workload_api() {
            let driver = json!({ "driver": SPIFFE_DRIVER, "readOnly": true });
            volumes.push(json!({ "name": SPIFFE, "csi": driver }));
        }
        volumes
    }

    fn config_volume(&self) -> Value {
        let item = |path: String, annotation: &str| {
            let field = format!("metadata.annotations['{}']", whole(annotation));
            json!({ "path": path, "fieldRef": { "fieldPath": field } })
        };
        let mut items = Vec::new();
        if self.config_map.is_none() {
            items.push(item("config.toml".to_owned(), "config"));
        }
        let templates = self.files.iter();
        items.extend(
            templates.map(|(name, file)| item(format!("templates/{name}"), &file.annotation)),
        );
        match &self.config_map {
            None => json!({ "name": CONFIG, "downwardAPI": { "items": items } }),
            Some(name) => {
                let file = json!([{ "key": "config.toml", "path": "config.toml" }]);
                let mut sources = vec![json!({ "configMap": { "name": name, "items": file } })];
                if !items.is_empty() {
                    sources.push(json!({ "downwardAPI": { "items": items } }));
                }
                json!({ "name": CONFIG, "projected": { "sources": sources } })
            }
        }
    }

    /// What an application's container mounts.
    pub(super) fn application_mounts(&self, wrapped: bool) -> Vec<Value> {
        let mut mounts = Vec::new();
        if self.stays() {
            mounts.push(mount(RUN, RUN_DIRECTORY, true));
            if self.has_tls_secret() {
                mounts.push(mount(TLS, TLS_DIRECTORY, true));
            }
        }
        if self.has_files() {
            mounts.push(mount(FILES, &self.files_directory(), true));
        }
        if wrapped {
            mounts.push(mount(BIN, BIN_DIRECTORY, true));
        }
        mounts
    }

    /// What tells the application's clients where the broker is.
    pub(super) fn application_variables(&self) -> Vec<(&'static str, String)> {
        if !self.stays() {
            return Vec::new();
        }
        let port = self.sidecar.port.small();
        let directory = if self.has_tls_secret() { TLS_DIRECTORY } else { RUN_DIRECTORY };
        // What others register or order for the pod carries the name alone.
        let by_name = self.has_workload_api() || self.has_tls_secret();
        let host = if by_name { "localhost" } else { "127.0.0.1" };
        match self.connect {
            Connect::Socket => vec![("SECRET_BROKER_ADDRESS", unix())],
            Connect::Port => vec![
                ("SECRET_BROKER_ADDRESS", format!("https://{host}:{port}")),
                ("SECRET_BROKER_CERT_DIR", directory.to_owned()),
            ],
        }
    }
}

fn unix() -> String {
    format!("unix://{SOCKET}")
}

pub(super) fn variable(name: &str, value: &str) -> Value {
    json!({ "name": name, "value": value })
}

fn mount(volume: &str, path: &str, read_only: bool) -> Value {
    if read_only {
        json!({ "name": volume, "mountPath": path, "readOnly": true })
    } else {
        json!({ "name": volume, "mountPath": path })
    }
}

fn resources(resources: &Resources) -> Value {
    let some = |pairs: [(&str, &String); 2]| {
        let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        pairs.map(|(key, value)| (key.to_owned(), json!(value))).collect::<Map<_, _>>()
    };
    let requests = some([("cpu", &resources.cpu_request), ("memory", &resources.memory_request)]);
    let limits = some([("cpu", &resources.cpu_limit), ("memory", &resources.memory_limit)]);
    let both = [("requests", requests), ("limits", limits)];
    let both = both.into_iter().filter(|(_, map)| !map.is_empty());
    Value::Object(both.map(|(key, map)| (key.to_owned(), Value::Object(map))).collect())
}

const fn pull_policy(policy: PullPolicy) -> &'static str {
    match policy {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    }
}
