//! What the broker is told to do: one TOML file, read once, checked whole.
//!
//! The types here are valid by construction; [`raw`] is what people write. [`Config::parse`] turns
//! the one into the other and reports every mistake at once, never with a credential's value.

mod catalogue;
mod check;
mod deployment;
#[cfg(feature = "operator")]
pub mod inject;
#[cfg(feature = "operator")]
pub mod minimal;
mod mistake;
#[cfg(feature = "operator")]
pub mod operator;
pub mod raw;
mod read;
pub mod reference;
pub mod reload;
mod summary;
#[cfg(test)]
mod tests;
pub mod units;
mod vault;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

pub use catalogue::{Generator, Secret, SecretOrigin, VaultEngine, VaultMethod, VaultPath};
pub use deployment::{Deployment, OperatorFeed};
pub use mistake::{Key, Mistake, Mistakes};
pub use summary::{check_file, environment};
pub use vault::{AuthMethod, Credential, Vault, VaultAuth};

use rustls::pki_types::ServerName;

use crate::domain::{policy::Policy, secret::SecretName};

/// Reads a variable of the environment; injected, so that tests bring their own.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A whole configuration.
#[derive(Debug)]
pub struct Config {
    /// Where and how calls are served.
    pub server: Server,
    /// Certificates of the TCP listener; present exactly when it listens on TCP.
    pub tls: Option<Tls>,
    /// The Vault server; present when a secret or the certificates come from it.
    pub vault: Option<Vault>,
    /// What this sidecar is part of.
    pub deployment: Deployment,
    /// The operator that tells of rotations; changes are found by polling alone without it.
    pub operator: Option<OperatorFeed>,
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

/// A configuration without mistakes, and what is nevertheless odd about it.
#[derive(Debug)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Mistake>,
}

impl Config {
    /// Reads a whole TOML file. `origin` is its name in messages.
    ///
    /// # Errors
    /// All mistakes of the file at once, in the order of their lines.
    pub fn parse(text: &str, origin: &str, env: Environment<'_>) -> Result<Checked, Mistakes> {
        let read = read::read(text);
        check::check(read, origin, env)
    }
}

/// Where and how calls are served.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// X.509-SVIDs of the SPIFFE Workload API, told on a stream.
    Spiffe {
        /// The endpoint's socket.
        endpoint: PathBuf,
        /// The SPIFFE ID or the hint of the SVID that serves; the first one when absent.
        svid: Option<String>,
        /// The SPIFFE ID or the hint of the application's; that which serves when absent.
        client_svid: Option<String>,
        /// The DNS name that clients check.
        server_name: ServerName<'static>,
        /// Where the application's files are written, and their permission bits.
        files: Option<(PathBuf, u32)>,
        /// How long the start waits for the first one.
        startup_timeout: Duration,
    },
    /// An authority that is made at start and lives in this pod only. It writes what a client
    /// needs into the directory: `ca.pem`, `client.pem`, `client.key`.
    Authority {
        /// Where the client's files are written.
        directory: PathBuf,
        /// The SPIFFE ID of the application's certificate.
        client_id: String,
        /// The permission bits of the files.
        mode: u32,
        /// How long certificates live; they are replaced at two thirds.
        ttl: Duration,
    },
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
    /// Whether the identity is made where its file is missing.
    pub generate_key: bool,
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
