//! What the broker is told to do: one TOML file, read once, checked whole.
//!
//! The types here are valid by construction; [`raw`] is what people write.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use crate::domain::{
    budget::BudgetTerms,
    life::Terms,
    policy::Policy,
    secret::{SecretName, SecretValue},
};

/// A whole configuration.
#[derive(Debug)]
pub struct Config {
    /// Where and how calls are served.
    pub server: Server,
    /// Certificates of the TCP listener; present exactly when it listens on TCP.
    pub tls: Option<Tls>,
    /// The Vault server; present when a secret or the certificates come from it.
    pub vault: Option<Vault>,
    /// The secrets by name.
    pub secrets: BTreeMap<SecretName, Secret>,
    /// Who may do what.
    pub policy: Policy,
    /// Where accesses are recorded.
    pub audit: AuditSink,
    /// The encrypted local state; none is kept without it.
    pub state: Option<StateFile>,
    /// Logs and metrics.
    pub telemetry: Telemetry,
    /// Reload when the configuration file changes, not on SIGHUP alone.
    pub watch_file: bool,
}

/// Where and how calls are served.
#[derive(Clone, Debug)]
pub struct Server {
    /// The TCP address that serves mTLS.
    pub listen: Option<SocketAddr>,
    /// The Unix socket that serves peers by their credentials, and its mode.
    pub socket: Option<UnixSocket>,
    /// What is bounded, and how tightly.
    pub limits: Limits,
    /// How long calls may run on after SIGTERM.
    pub drain: Duration,
    /// Serve the reflection service.
    pub reflection: bool,
}

/// A Unix socket to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocket {
    /// Its path.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
}

/// Bounds on what callers can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// TLS handshakes at once.
    pub handshakes: usize,
    /// The time for a TLS handshake and for the first request of a connection.
    pub handshake_timeout: Duration,
    /// Calls at once on one connection.
    pub streams_per_connection: u32,
    /// Calls that wait for a first value at once, over all connections.
    pub waiting_calls: usize,
    /// Open watch streams.
    pub watches: usize,
    /// The largest request, in bytes.
    pub request_bytes: usize,
    /// Names in one request.
    pub names: usize,
    /// The deadline of a call that states none, and the longest that one may state.
    pub deadline: Duration,
    /// An HTTP/2 ping is sent after this time without traffic.
    pub keepalive: Duration,
}

/// Where the server's certificate and the trusted authorities come from.
#[derive(Clone, Debug)]
pub enum Tls {
    /// PEM files, read again when they change.
    Files {
        /// The certificate chain, leaf first.
        cert: PathBuf,
        /// The private key.
        key: PathBuf,
        /// The authorities of client certificates.
        ca: PathBuf,
        /// Revocation lists of these authorities.
        crl: Option<PathBuf>,
    },
    /// Issued and renewed by Vault's PKI engine.
    VaultPki {
        /// The issuing path, such as `pki/issue/broker`.
        path: String,
        /// The common name to ask for.
        common_name: String,
        /// The URI and DNS names to ask for.
        alt_names: Vec<String>,
        /// The lifetime to ask for.
        ttl: Duration,
        /// The authorities of client certificates; the issuing one when absent.
        client_ca: Option<PathBuf>,
    },
    /// An authority that is made at start and lives in this pod only. It writes what a client
    /// needs into the directory: `ca.pem`, `client.pem`, `client.key`.
    Authority {
        /// Where the client's files are written.
        directory: PathBuf,
        /// The SPIFFE ID of the application's certificate.
        client_id: String,
        /// How long certificates live; they are replaced at two thirds.
        ttl: Duration,
    },
}

/// A Vault server and how to log in to it.
#[derive(Debug)]
pub struct Vault {
    /// Its base address, `https://host:port`.
    pub address: String,
    /// The namespace of all calls.
    pub namespace: Option<String>,
    /// Authorities of its certificate; the system's when absent.
    pub ca: Option<PathBuf>,
    /// A client certificate and its key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// The name that its certificate has to carry, if not the address's.
    pub server_name: Option<String>,
    /// The time for one call.
    pub timeout: Duration,
    /// The login.
    pub auth: VaultAuth,
    /// How often it may be called.
    pub budget: BudgetTerms,
    /// Revoke leases and the token when the broker exits.
    pub revoke_on_exit: bool,
}

/// A way to log in to Vault.
#[derive(Debug)]
pub struct VaultAuth {
    /// The mount of the auth method, such as `kubernetes`.
    pub mount: String,
    /// The method and what it needs.
    pub method: AuthMethod,
}

/// What an auth method needs. Files are read anew at each login.
#[derive(Debug)]
pub enum AuthMethod {
    /// A Kubernetes service account's token.
    Kubernetes {
        /// The role.
        role: String,
        /// The token's file.
        token_file: PathBuf,
    },
    /// A role id and a secret id.
    AppRole {
        /// The role id.
        role_id: Credential,
        /// The secret id.
        secret_id: Credential,
        /// Whether the secret id is a response-wrapping token that holds it.
        wrapped: bool,
    },
    /// A JSON web token.
    Jwt {
        /// The role.
        role: String,
        /// The token's file.
        token_file: PathBuf,
    },
    /// The client certificate of the connection.
    Cert {
        /// The certificate role; any that matches when absent.
        name: Option<String>,
    },
    /// A user name and password.
    Userpass {
        /// The user name.
        username: String,
        /// The password.
        password: Credential,
    },
    /// A token from elsewhere.
    Token {
        /// The token.
        token: Credential,
    },
}

/// Where a credential for a login is read from.
#[derive(Debug)]
pub enum Credential {
    /// A file, read anew each time, without surrounding white space.
    File(PathBuf),
    /// An environment variable of the broker, taken at start.
    Value(SecretValue),
}

/// One secret of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The category, such as `database`.
    pub category: String,
    /// Where it comes from.
    pub origin: SecretOrigin,
    /// How it is kept.
    pub terms: Terms,
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretOrigin {
    /// Vault.
    Vault(VaultPath),
    /// Keys of a `.env` file.
    Dotenv {
        /// The file.
        file: PathBuf,
        /// The key to read for each field of the secret.
        fields: BTreeMap<String, String>,
    },
    /// Files of a directory: Docker secrets or a mounted Kubernetes Secret.
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The file to read for each field of the secret.
        fields: BTreeMap<String, String>,
    },
    /// Generated values with leases, for development.
    Memory {
        /// The fields and what is generated for each.
        fields: BTreeMap<String, Generator>,
        /// The lease's time; without a lease when absent.
        ttl: Option<Duration>,
        /// The most that renewals can carry it.
        max_ttl: Option<Duration>,
    },
}

/// What the memory store generates for a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Generator {
    /// This text.
    Literal(String),
    /// This prefix and a random suffix of this many characters.
    Random {
        /// The prefix.
        prefix: String,
        /// Random characters after it.
        length: usize,
    },
}

/// A place in Vault and how to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultPath {
    /// The engine, which says how the answer is read.
    pub engine: VaultEngine,
    /// Our field names and the keys of the answer's data they come from; all keys as they are when empty.
    pub fields: BTreeMap<String, String>,
}

/// How a path of Vault is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VaultEngine {
    /// A key-value engine of version 1.
    KvV1 {
        /// The mount.
        mount: String,
        /// The path below it.
        path: String,
    },
    /// A key-value engine of version 2.
    KvV2 {
        /// The mount.
        mount: String,
        /// The path below it.
        path: String,
    },
    /// Any other engine: the path is called and the lifetime read from the answer.
    Generic {
        /// The whole path, such as `database/creds/app`.
        path: String,
        /// The HTTP method.
        method: VaultMethod,
        /// Parameters: the query of a GET, the body of a POST.
        parameters: BTreeMap<String, String>,
    },
}

/// The method of a generic Vault call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VaultMethod {
    /// Read.
    Get,
    /// Write.
    Post,
}

/// Where audit records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditSink {
    /// Standard output.
    Stdout,
    /// A file, opened anew on SIGHUP.
    File(PathBuf),
}

/// The encrypted local state.
#[derive(Debug)]
pub struct StateFile {
    /// The file.
    pub path: PathBuf,
    /// The age identity that encrypts it; must not lie in the same directory.
    pub key: Credential,
}

/// Logs and metrics.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// The filter of log events, as `tracing` directives.
    pub log_filter: String,
    /// The form of log lines.
    pub log_format: LogFormat,
    /// Where metrics, liveness, readiness and start-up state are served over HTTP.
    pub http: Option<SocketAddr>,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
