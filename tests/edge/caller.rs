//! Callers with certificates of their own.

use std::{path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use secret_broker_client::{Client, Error, Event, Secret, Watch};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::pki::{Leaf, put};

/// A caller's certificate files.
pub struct Caller {
    directory: TempDir,
    address: String,
}

impl Caller {
    /// A caller with this certificate, who trusts those authorities.
    pub fn new(trusted: &str, leaf: &Leaf, address: String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        put(directory.path(), "ca.pem", trusted);
        leaf.install(directory.path(), "client");
        Self { directory, address }
    }

    pub fn client(&self) -> Client {
        client(&self.address, self.directory.path())
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

    /// The certificate that a new connection is shown.
    pub async fn shown(&self) -> Option<Vec<u8>> {
        let stream = self.connect(self.speaking(&rustls::version::TLS13)).await.ok()?;
        Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
    }

    pub fn address(&self) -> &str {
        &self.address
    }
}

/// A client of the broker at this loopback address, which it knows as `localhost`.
pub fn client(address: &str, certificates: &Path) -> Client {
    let address = format!("https://{}", address.replace("127.0.0.1", "localhost"));
    let client = Client::builder().address(address).cert_dir(certificates);
    client.deadline(Duration::from_secs(10)).build().unwrap()
}

/// The next version that a watch tells.
pub async fn next_value(watch: &mut Watch) -> String {
    let next = async {
        loop {
            let event = watch.next().await.expect("the watch goes on").expect("an event");
            if let Event::Current(secret) | Event::Rotated(secret) = event {
                return secret.text("value").unwrap().to_owned();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), next).await.expect("a value in time")
}
