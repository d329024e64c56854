//! The injection webhook's configuration as people write it: one TOML file, unknown keys refused.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::raw;
use crate::config::units::{Address, Count, Span, days, hours, mins, secs};

/// The configuration of the injection webhook.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// How the webhook is reached and trusted.
    pub webhook: Webhook,
    /// What pods get that do not say otherwise by annotation.
    pub sidecar: Sidecar,
    /// The catalogue that pods choose from, by name; the keys are those of the sidecar's own `[secrets.NAME]`.
    pub secrets: BTreeMap<String, raw::Secret>,
    /// Which service accounts may read which secrets; nothing is allowed that no entry allows. In patterns `*` stands
    /// for any run of characters except `/`, and `**` for any run at all.
    pub grant: Vec<Grant>,
    /// The cluster, in which the webhook keeps its certificate, tells the API server of it, and reads the annotations of
    /// namespaces. Empty inside of a pod; without it, pods speak for themselves and others hand over the certificate.
    pub kubernetes: Option<Cluster>,
    /// Logs, and the plain HTTP address of `/livez`, `/readyz`, `/startupz` and `/metrics`.
    pub telemetry: raw::Telemetry,
}

/// How the webhook is reached and trusted.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// The address that serves HTTPS.
    pub listen: Option<Address>,
    /// The name of its Kubernetes Service.
    pub service: Option<String>,
    /// The namespace that it runs in; pods there are never mutated.
    pub namespace: Option<String>,
    /// Further names and IP addresses that its certificate carries.
    pub names: Vec<String>,
    /// Namespaces whose pods are never mutated, besides its own.
    pub excluded_namespaces: Vec<String>,
    /// Whether pods that ask by `vault.hashicorp.com/agent-inject`, and not by an annotation of ours, are injected as
    /// `secret-operator migrate` would translate them; refused where that differs for the application.
    pub vault_annotations: bool,
    /// The `MutatingWebhookConfiguration` whose `caBundle` it keeps current.
    pub mutating_configuration: Option<String>,
    /// The `ValidatingWebhookConfiguration` whose `caBundle` it keeps current.
    pub validating_configuration: Option<String>,
    /// Its certificate, which it makes itself.
    pub certificate: Certificate,
    /// Bounds on what callers can take.
    pub limits: Limits,
}

impl Default for Webhook {
    fn default() -> Self {
        let excluded = ["kube-system", "kube-public", "kube-node-lease"];
        Self {
            listen: None,
            service: None,
            namespace: None,
            names: Vec::new(),
            excluded_namespaces: excluded.map(str::to_owned).to_vec(),
            vault_annotations: false,
            mutating_configuration: None,
            validating_configuration: None,
            certificate: Certificate::default(),
            limits: Limits::default(),
        }
    }
}

/// The webhook's certificate: exactly one of `directory` and `secret` says where it is kept.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Certificate {
    /// The directory that keeps it.
    pub directory: Option<PathBuf>,
    /// The Kubernetes Secret of the webhook's namespace that keeps it, shared by all replicas.
    pub secret: Option<String>,
    /// How long it lives; it is replaced at two thirds.
    pub ttl: Span<{ days(90) }, { mins(1) }, { days(366) }>,
}

/// How the API server is reached. Empty inside of a pod, whose service account is used then.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// Its address; that of the cluster around this pod when absent.
    pub server: Option<String>,
    /// The file of the token; needed by `server`.
    pub token_file: Option<PathBuf>,
    /// The authorities of its certificate, as PEM; those of this machine when absent.
    pub ca_file: Option<PathBuf>,
    /// The time for one call; an API server waits for the webhook meanwhile.
    pub timeout: Span<{ secs(3) }, 100, { secs(8) }>,
}

/// Bounds on what callers can take.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open connections; further ones wait.
    pub connections: Count<256, 1, 65_536>,
    /// The time for a TLS handshake, and for a request to arrive whole.
    pub request_timeout: Span<{ secs(5) }, 100, { mins(1) }>,
    /// The largest request, in bytes.
    pub request_bytes: Count<8_388_608, 1024, 67_108_864>,
    /// How long a connection may be open; the API server opens another.
    pub connection_time: Span<{ mins(10) }, { secs(1) }, { hours(24) }>,
}

/// What pods get that do not say otherwise by annotation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sidecar {
    /// The image, which holds the program as `/secret-broker`.
    pub image: Option<String>,
    /// When the image is pulled; as Kubernetes decides when absent.
    pub image_pull_policy: Option<PullPolicy>,
    /// How the sidecar runs.
    pub mode: Mode,
    /// The user that injected containers run as.
    pub run_as_user: Count<65_532, 1, 4_294_967_294>,
    /// The group that injected containers run as; the pod's containers get it as a supplemental one.
    pub run_as_group: Count<65_532, 1, 4_294_967_294>,
    /// What injected containers ask for and may take.
    pub resources: Resources,
    /// The level of log events.
    pub log_level: LogLevel,
    /// The SPIFFE trust domain of the applications' identities, `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
    pub trust_domain: String,
    /// The TCP port on the pod's loopback that serves mTLS.
    pub port: Count<7443, 1, 65_535>,
    /// The port of the kubelet's probes.
    pub probe_port: Count<7444, 1, 65_535>,
    /// The address that probes reach: the pod's, so all of them unless told.
    pub probe_address: IpAddr,
    /// How long a pod may wait for its secrets before its sidecar is restarted.
    pub startup_timeout: raw::StartupTimeout,
    /// The audience of the service account's token.
    pub audience: String,
    /// The life of the service account's token; the kubelet renews it.
    pub token_ttl: Span<{ mins(10) }, { mins(10) }, { hours(24) }>,
    /// The `ConfigMap` of the pod's namespace that holds Vault's authorities, as `NAME` or `NAME/KEY`; the key is `ca.crt`
    /// unless told.
    pub ca_config_map: Option<String>,
    /// Where the certificates of the broker and the application come from.
    pub tls: TlsSource,
    /// `vault-pki`: the issuing path, such as `pki/issue/broker`.
    pub tls_path: Option<String>,
    /// `spiffe`: the name of the Workload API's socket in the volume of the CSI driver `csi.spiffe.io`.
    pub spiffe_socket: String,
    /// Where files are delivered.
    pub files_directory: PathBuf,
    /// Vault and the login, as in the sidecar's `[vault]`. In `auth.role`, `{namespace}` and `{service_account}` stand
    /// for the pod's. The token's file is the injected one.
    pub vault: Option<raw::Vault>,
    /// How secrets are kept, as in the sidecar's `[defaults]`.
    pub defaults: raw::Defaults,
    /// The environment and colour, as in the sidecar's `[deployment]`.
    pub deployment: raw::Deployment,
    /// The operator that tells of rotations, as in the sidecar's `[operator]`.
    pub operator: Option<raw::Operator>,
}

impl Default for Sidecar {
    fn default() -> Self {
        Self {
            image: None,
            image_pull_policy: None,
            mode: Mode::default(),
            run_as_user: Count::default(),
            run_as_group: Count::default(),
            resources: Resources::default(),
            log_level: LogLevel::default(),
            trust_domain: "cluster.local".to_owned(),
            port: Count::default(),
            probe_port: Count::default(),
            probe_address: IpAddr::from([0, 0, 0, 0]),
            startup_timeout: Span::default(),
            audience: "vault".to_owned(),
            token_ttl: Span::default(),
            ca_config_map: None,
            tls: TlsSource::default(),
            tls_path: None,
            spiffe_socket: "spire-agent.sock".to_owned(),
            files_directory: PathBuf::from("/run/secrets/broker"),
            vault: None,
            defaults: raw::Defaults::default(),
            deployment: raw::Deployment::default(),
            operator: None,
        }
    }
}

/// How the sidecar runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Mode {
    /// As an init container that stays: Kubernetes 1.29 and later.
    #[default]
    Native,
    /// As a container beside the others, for earlier ones.
    Plain,
    /// As an init container that renders files and ends.
    Init,
}

/// Where the certificates come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum TlsSource {
    /// An authority of the pod's own.
    #[default]
    Authority,
    /// A Vault PKI engine.
    VaultPki,
    /// The SPIFFE Workload API.
    Spiffe,
    /// A Kubernetes Secret, such as cert-manager makes.
    Files,
}

/// The level of log events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
#[expect(missing_docs, reason = "the names say it")]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// What injected containers ask for and may take, as Kubernetes quantities; an empty text leaves one out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// The processor time asked for.
    pub cpu_request: String,
    /// The most processor time; unbounded when empty.
    pub cpu_limit: String,
    /// The memory asked for.
    pub memory_request: String,
    /// The most memory.
    pub memory_limit: String,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpu_request: "10m".to_owned(),
            cpu_limit: String::new(),
            memory_request: "32Mi".to_owned(),
            memory_limit: "128Mi".to_owned(),
        }
    }
}

/// Lets service accounts read secrets.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Grant {
    /// Patterns of namespaces.
    pub namespaces: Vec<String>,
    /// Patterns of service accounts.
    pub service_accounts: Vec<String>,
    /// Patterns of secret names.
    pub secrets: Vec<String>,
    /// Patterns of categories.
    pub categories: Vec<String>,
    /// Whether pods may bring a whole configuration of their own in a `ConfigMap`, which only Vault bounds then.
    pub own_configuration: bool,
}
