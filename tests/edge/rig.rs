//! A broker with certificates from files, and callers with certificates of their own.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use secret_broker_client::{Client, Error, Secret};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    pki::{Authority, Leaf, put},
    support::broker::Broker,
};

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
socket = "DIR/broker.sock"
socket_mode = "0600"
drain = "3s"
[server.limits]
handshake_timeout = "1s"
handshakes = 64
LIMITS
[tls]
source = "files"
cert = "DIR/server.pem"
key = "DIR/server.key"
ca = "DIR/ca.pem"
CRL
[audit]
file = "DIR/audit.log"
[telemetry]
log_filter = "debug"
[[policy]]
identities = ["spiffe://test/ns/shop/sa/api", "unix:**"]
secrets = ["**"]
verbs = ["get", "list", "watch", "report", "observe"]
[secrets.KEY]
category = "application"
store = "dotenv"
file = "DIR/secrets.env"
key = "KEY"
"#;

/// A broker and the authority that it trusts.
pub struct Rig {
    pub authority: Authority,
    pub broker: Broker,
}

/// A caller's certificate files.
pub struct Caller {
    directory: TempDir,
    address: String,
}

impl Rig {
    pub async fn start() -> Self {
        Self::with("", false).await
    }

    /// A broker with more settings under `[server.limits]`, and with a revocation list or not.
    pub async fn with(limits: &str, revocation: bool) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let authority = Authority::new("the authority");
        let mut broker = Broker::bare(&[]);
        let crl = if revocation { "crl = \"DIR/crl.pem\"" } else { "" };
        broker.write(&CONFIG.replace("LIMITS", limits).replace("CRL", crl));
        let directory = broker.path("");
        put(&directory, "ca.pem", &authority.pem);
        put(&directory, "crl.pem", &authority.revoke(&[]));
        put(&directory, "secrets.env", "KEY=first\n");
        authority.server().install(&directory, "server");
        broker.run();
        broker.wait().await;
        Self { authority, broker }
    }

    pub fn directory(&self) -> PathBuf {
        self.broker.path("")
    }

    /// Gives the secret another value.
    pub fn set(&self, value: &str) {
        put(&self.directory(), "secrets.env", &format!("KEY={value}\n"));
    }

    /// A caller whom the broker trusts.
    pub fn caller(&self) -> Caller {
        self.caller_as(&self.authority.client())
    }

    pub fn caller_as(&self, leaf: &Leaf) -> Caller {
        let directory = tempfile::tempdir().unwrap();
        put(directory.path(), "ca.pem", &self.authority.pem);
        leaf.install(directory.path(), "client");
        Caller { directory, address: self.broker.address() }
    }

    /// How many accesses were recorded.
    pub fn recorded(&self) -> usize {
        self.broker.audit().len()
    }
}

impl Caller {
    pub fn client(&self) -> Client {
        let address = format!("https://{}", self.address);
        let client = Client::builder().address(address).cert_dir(self.directory.path());
        client.deadline(Duration::from_secs(10)).build().unwrap()
    }

    /// Reads the secret on a new connection.
    pub async fn get(&self) -> Result<Secret, Error> {
        self.client().get("KEY").await
    }

    pub async fn value(&self) -> String {
        self.get().await.expect("a secret").text("value").unwrap().to_owned()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(self.directory.path().join("ca.pem")).unwrap() {
            roots.add(root.unwrap()).unwrap();
        }
        roots
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        let path = self.directory.path().join("client.pem");
        CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap).collect()
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(self.directory.path().join("client.key")).unwrap()
    }

    /// TLS without a certificate of the caller's.
    pub fn anonymous(&self) -> ClientConfig {
        ClientConfig::builder().with_root_certificates(self.roots()).with_no_client_auth()
    }

    /// TLS of one version, with the caller's certificate.
    pub fn speaking(&self, version: &'static rustls::SupportedProtocolVersion) -> ClientConfig {
        let mut config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(self.roots())
            .with_client_auth_cert(self.chain(), self.key())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    /// A bare TLS connection.
    pub async fn connect(&self, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(&self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }

    pub fn address(&self) -> &str {
        &self.address
    }
}
