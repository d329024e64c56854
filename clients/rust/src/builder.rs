//! How a client is told where the broker is and who it is itself.

use std::{env, ffi::OsString, path::PathBuf, time::Duration};

use tonic::transport::Endpoint;

use crate::{Address, Client, Error, connect::Connector, tls::Certificates};

/// Names the broker's address; `https://127.0.0.1:7443` when it is not set.
pub const ADDRESS_VARIABLE: &str = "SECRET_BROKER_ADDRESS";
/// Names the directory of `ca.pem`, `client.pem` and `client.key`; needed for `https` addresses.
pub const CERT_DIR_VARIABLE: &str = "SECRET_BROKER_CERT_DIR";

const DEADLINE: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Collects the settings of a [`Client`].
#[derive(Clone, Debug)]
pub struct Builder {
    address: Option<String>,
    cert_dir: Option<PathBuf>,
    cert_files: Option<[PathBuf; 3]>,
    server_name: Option<String>,
    deadline: Duration,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            address: None,
            cert_dir: None,
            cert_files: None,
            server_name: None,
            deadline: DEADLINE,
        }
    }
}

impl Builder {
    /// Takes both settings from the variables of this process, where they are set.
    #[must_use]
    pub fn env(mut self) -> Self {
        let set = |name| env::var_os(name).filter(|value: &OsString| !value.is_empty());
        if let Some(address) = set(ADDRESS_VARIABLE) {
            self.address = Some(address.to_string_lossy().into_owned());
        }
        if let Some(directory) = set(CERT_DIR_VARIABLE) {
            self.cert_dir = Some(directory.into());
        }
        self
    }

    /// The broker's address: `https://HOST:PORT` or `unix:///PATH`.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// The directory of `ca.pem`, `client.pem` and `client.key`.
    #[must_use]
    pub fn cert_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cert_dir = Some(directory.into());
        self
    }

    /// The authorities of the broker's certificate, the certificate chain to show it and the chain's key, each a PEM
    /// file, in place of a directory of files that are named as the broker names them.
    #[must_use]
    pub fn cert_files(
        mut self,
        ca: impl Into<PathBuf>,
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.cert_files = Some([ca.into(), chain.into(), key.into()]);
        self
    }

    /// The name that the broker's certificate has to carry, if not the address's host.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// The time for one call, connecting included; 10 seconds unless told.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// A client that connects at its first call. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Configuration`] when the address is none, or needs certificates and no directory is named.
    pub fn build(self) -> Result<Client, Error> {
        let address = self.address.as_deref().unwrap_or("https://127.0.0.1:7443").parse()?;
        let certificates = match (&address, self.cert_files, &self.cert_dir) {
            (Address::Unix(_), ..) => None,
            (_, Some([ca, chain, key]), _) => Some(Certificates::of_files(ca, chain, key)),
            (_, None, Some(directory)) => Some(Certificates::in_directory(directory)),
            (_, None, None) => return Err(without_certificates(&address)),
        };
        let connector =
            Connector::new(address.clone(), self.server_name, certificates, CONNECT_TIMEOUT)?;
        let failures = connector.failures();
        // The connector knows the address; to HTTP/2 the broker is always the same authority.
        let channel = Endpoint::from_static("http://secret-broker")
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connector);
        Ok(Client::new(channel, address, failures, self.deadline))
    }
}

fn without_certificates(address: &Address) -> Error {
    Error::Configuration(format!(
        "{address} needs certificates: set {CERT_DIR_VARIABLE} to the directory of ca.pem, \
         client.pem and client.key, or use a unix:///PATH address"
    ))
}
