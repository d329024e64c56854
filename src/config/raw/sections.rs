//! The sections about serving, recording and watching.

use super::{
    Address, CertificateTime, Count, Deserialize, JsonSchema, MaxStale, Overlap, PathBuf,
    PollInterval, RetryMax, RetryMin, Serialize, Span, StartupTimeout, days, hours, mins, secs,
};

/// Where and how calls are served.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// The TCP address that serves mTLS, such as `127.0.0.1:7443`.
    pub listen: Option<Address>,
    /// The path of the Unix socket that serves peers by their kernel credentials.
    pub socket: Option<PathBuf>,
    /// The permission bits of the Unix socket, in octal from `0000` to `0777`.
    pub socket_mode: String,
    /// How long calls may run on after SIGTERM.
    pub drain: Span<{ secs(10) }, 0, { mins(10) }>,
    /// Serve the gRPC reflection service, to the same authenticated callers.
    pub reflection: bool,
    /// Bounds on what callers can take.
    pub limits: Limits,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: None,
            socket: None,
            socket_mode: "0660".to_owned(),
            drain: Span::default(),
            reflection: true,
            limits: Limits::default(),
        }
    }
}

/// Bounds on what callers can take.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open connections; further ones are closed at once.
    pub connections: Count<1024, 1, 65_536>,
    /// TLS handshakes at once; further ones wait.
    pub handshakes: Count<64, 1, 4096>,
    /// The time for a TLS handshake, and for the first request of a connection.
    pub handshake_timeout: Span<{ secs(5) }, 100, { mins(1) }>,
    /// Calls at once on one connection.
    pub streams_per_connection: Count<256, 1, 65_535>,
    /// Calls that wait for a first value at once, over all connections.
    pub waiting_calls: Count<4096, 1, 1_000_000>,
    /// Open watch streams, over all connections.
    pub watches: Count<2048, 1, 100_000>,
    /// The largest request, in bytes.
    pub request_bytes: Count<65_536, 1024, 4_194_304>,
    /// Names in one request.
    pub names: Count<256, 1, 10_000>,
    /// The deadline of a call that states none, and the longest that one may state.
    pub deadline: Span<{ secs(30) }, 100, { mins(10) }>,
    /// A connection without traffic for this time is sent an HTTP/2 ping.
    pub keepalive: Span<{ secs(30) }, { secs(1) }, { hours(1) }>,
}

/// Where the server's certificate and the trusted authorities come from.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Which source: PEM files, a Vault PKI engine, the SPIFFE Workload API, or an authority made at start for this pod.
    pub source: Option<TlsSource>,
    /// `files`: the certificate chain, leaf first.
    pub cert: Option<PathBuf>,
    /// `files`: the private key.
    pub key: Option<PathBuf>,
    /// `files`: the authorities of client certificates. `vault-pki`: the same, in place of the issuing authority.
    pub ca: Option<PathBuf>,
    /// `files`: revocation lists of these authorities.
    pub crl: Option<PathBuf>,
    /// `vault-pki`: the issuing path, such as `pki/issue/broker`.
    pub path: Option<String>,
    /// `vault-pki`: the common name to ask for.
    pub common_name: Option<String>,
    /// `vault-pki`: the URI and DNS names to ask for.
    pub alt_names: Vec<String>,
    /// `spiffe`: the endpoint of the Workload API, as `unix:///PATH`; what `SPIFFE_ENDPOINT_SOCKET` says when absent.
    pub endpoint: Option<String>,
    /// `spiffe`: the SPIFFE ID or the hint of the SVID that serves; the first one when absent.
    pub svid: Option<String>,
    /// `spiffe`: the SPIFFE ID or the hint of the application's SVID; that which serves when absent.
    pub client_svid: Option<String>,
    /// `spiffe`: the DNS name that clients check; `localhost` when absent. An SVID without it does not serve where
    /// there is a `directory`.
    pub server_name: Option<String>,
    /// `spiffe`: how long the start waits for the first SVID.
    pub startup_timeout: StartupTimeout,
    /// `authority` and `spiffe`: where the files of clients are written: `ca.pem`, `client.pem`, `client.key`; none are by
    /// `spiffe` when absent.
    pub directory: Option<PathBuf>,
    /// `authority`: the SPIFFE ID of the application's certificate; `spiffe://secret-broker.local/application` when absent.
    pub client_id: Option<String>,
    /// `authority` and `spiffe`: the permission bits of these files, in octal: `0600`, or `0640` for an application of another user
    /// in the directory's group. `0600` when absent.
    pub file_mode: Option<String>,
    /// `vault-pki` and `authority`: how long certificates live; they are replaced at two thirds.
    pub ttl: CertificateTime,
}

/// Where certificates come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum TlsSource {
    /// PEM files.
    Files,
    /// A Vault PKI engine.
    VaultPki,
    /// The SPIFFE Workload API.
    Spiffe,
    /// An authority of this pod's own.
    Authority,
}

/// How secrets are kept that do not say otherwise.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// Fetch at start and keep trying, instead of waiting for the first reader.
    pub prefetch: bool,
    /// How often a value without an end of its own is read again, with jitter.
    pub poll_interval: PollInterval,
    /// How long a value that can't be confirmed is served after it was due, marked as stale.
    pub max_stale: MaxStale,
    /// How long a replaced version lives on while its readers move over.
    pub overlap: Overlap,
    /// The first wait after a failed call; it doubles with each failure.
    pub retry_min: RetryMin,
    /// The longest wait after a failed call.
    pub retry_max: RetryMax,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            prefetch: true,
            poll_interval: Span::default(),
            max_stale: Span::default(),
            overlap: Span::default(),
            retry_min: Span::default(),
            retry_max: Span::default(),
        }
    }
}

/// Lets workloads do something with secrets.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Grant {
    /// Patterns of identities: `spiffe://…`, `dns:NAME` or `unix:uid=UID,gid=GID`.
    pub identities: Vec<String>,
    /// Patterns of secret names.
    pub secrets: Vec<String>,
    /// Patterns of categories.
    pub categories: Vec<String>,
    /// What is allowed; `observe` is about metrics and the reasons of readiness, not about a secret.
    pub verbs: Vec<Verb>,
}

/// What a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Verb {
    /// Read a value.
    Get,
    /// See metadata.
    List,
    /// Be told of changes, values included.
    Watch,
    /// Say what became of a version.
    Report,
    /// Read metrics and the reasons of readiness.
    Observe,
}

/// Where accesses are recorded.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Standard output, or a file; `file` when a file is named, `stdout` when none is.
    pub sink: Option<AuditSink>,
    /// `file`: the file, opened anew on SIGHUP.
    pub file: Option<PathBuf>,
}

/// Where audit records go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum AuditSink {
    /// Standard output.
    #[default]
    Stdout,
    /// A file.
    File,
}

/// The encrypted local state.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// The file.
    pub path: Option<PathBuf>,
    /// The file of the age identity that encrypts it; must not lie in the state file's directory.
    pub key_file: Option<PathBuf>,
    /// The environment variable that holds the age identity, in place of `key_file`.
    pub key_env: Option<String>,
    /// Make the identity at the first start, when there is no `key_file` yet.
    pub generate_key: bool,
}

/// Logs and health.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// For people (in colour on a terminal), or one JSON object a line.
    pub log_format: LogFormat,
    /// The filter of log events, as `tracing` directives such as `info,secret_broker=debug`.
    pub log_filter: String,
    /// The plain HTTP address of `/livez`, `/readyz` and `/startupz`; not served when absent.
    pub http: Option<Address>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log_format: LogFormat::default(), log_filter: "info".to_owned(), http: None }
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    #[default]
    Json,
}

/// The limits of calls to Vault.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VaultBudget {
    /// Calls allowed in a minute, on average, over all secrets.
    pub calls_per_minute: Count<600, 1, 100_000>,
    /// Calls for secrets in flight at once; further ones wait.
    pub in_flight: Count<16, 1, 1000>,
    /// Calls allowed at once after a quiet time.
    pub burst: Count<200, 1, 100_000>,
    /// The shortest wait between two probes of a Vault that fails.
    pub probe_min: Span<{ secs(1) }, 100, { hours(1) }>,
    /// The longest wait between two probes.
    pub probe_max: Span<{ secs(30) }, { secs(1) }, { days(1) }>,
}
