//! Certificates of the TCP listener.

use std::path::{Path, PathBuf};

use rustls::pki_types::ServerName;

use super::{Check, Key, raw, server::MAX_SOCKET_PATH};
use crate::{config::Tls, domain::workload::is_spiffe_id};

const DEFAULT_CLIENT_ID: &str = "spiffe://secret-broker.local/application";

/// Where the SPIFFE Workload Endpoint has its address told.
const SPIFFE_ENDPOINT: &str = "SPIFFE_ENDPOINT_SOCKET";

const TLS_KEYS: [(&str, &[&str]); 16] = [
    ("cert", &["files"]),
    ("key", &["files"]),
    ("ca", &["files", "vault-pki"]),
    ("crl", &["files"]),
    ("path", &["vault-pki"]),
    ("common_name", &["vault-pki"]),
    ("alt_names", &["vault-pki"]),
    ("endpoint", &["spiffe"]),
    ("svid", &["spiffe"]),
    ("client_svid", &["spiffe"]),
    ("server_name", &["spiffe"]),
    ("startup_timeout", &["spiffe"]),
    ("directory", &["authority", "spiffe"]),
    ("client_id", &["authority"]),
    ("file_mode", &["authority", "spiffe"]),
    ("ttl", &["vault-pki", "authority"]),
];

impl Check<'_> {
    pub(in crate::config) fn tls(
        &mut self,
        listens: bool,
        tls: Option<raw::Tls>,
    ) -> Option<Option<Tls>> {
        let key = Key::of("tls");
        let Some(tls) = tls else {
            if listens {
                self.need::<()>(&key, None, "server.listen");
            }
            return (!listens).then_some(None);
        };
        if !listens && !self.lines.is_refused(&Key::of("server").name("listen")) {
            self.wrong(
                key.clone(),
                "certificates without a TCP listener",
                "set server.listen, or leave [tls] out",
            );
        }
        let source = self.need(&key.name("source"), tls.source, "[tls]")?;
        let name = match source {
            raw::TlsSource::Files => "files",
            raw::TlsSource::VaultPki => "vault-pki",
            raw::TlsSource::Spiffe => "spiffe",
            raw::TlsSource::Authority => "authority",
        };
        self.only(&key, name, &TLS_KEYS);
        match source {
            raw::TlsSource::Files => self.files(&key, tls),
            raw::TlsSource::VaultPki => self.pki(&key, tls),
            raw::TlsSource::Spiffe => self.spiffe(&key, tls),
            raw::TlsSource::Authority => self.authority(&key, tls),
        }
        .map(Some)
    }

    fn files(&mut self, key: &Key, tls: raw::Tls) -> Option<Tls> {
        let by = "source = \"files\"";
        let cert = self.path(&key.name("cert"), tls.cert, by);
        let private = self.path(&key.name("key"), tls.key, by);
        let ca = self.path(&key.name("ca"), tls.ca, by);
        let crl = self.some_path(&key.name("crl"), tls.crl);
        Some(Tls::Files { cert: cert?, key: private?, ca: ca?, crl: crl? })
    }

    fn pki(&mut self, key: &Key, tls: raw::Tls) -> Option<Tls> {
        let by = "source = \"vault-pki\"";
        let path = self.vault_path(&key.name("path"), tls.path, by);
        let common_name = self.text(&key.name("common_name"), tls.common_name, by);
        let client_ca = self.some_path(&key.name("ca"), tls.ca);
        Some(Tls::VaultPki {
            path: path?,
            common_name: common_name?,
            alt_names: tls.alt_names,
            ttl: tls.ttl.duration(),
            client_ca: client_ca?,
        })
    }

    fn spiffe(&mut self, key: &Key, tls: raw::Tls) -> Option<Tls> {
        let about_files =
            [("client_svid", tls.client_svid.is_some()), ("file_mode", tls.file_mode.is_some())];
        let endpoint = self.endpoint(&key.name("endpoint"), tls.endpoint);
        let svid = self.svid(&key.name("svid"), tls.svid);
        let client_svid = self.svid(&key.name("client_svid"), tls.client_svid);
        let name = tls.server_name.unwrap_or_else(|| "localhost".to_owned());
        let server_name = ServerName::try_from(name).ok();
        if server_name.is_none() {
            self.wrong(key.name("server_name"), "not a name", "expected a DNS name");
        }
        let directory = self.some_path(&key.name("directory"), tls.directory);
        if matches!(directory, Some(None)) {
            for (name, given) in about_files {
                if given {
                    let accepted = "it needs directory, where the files go";
                    self.wrong(key.name(name), "given without files", accepted);
                }
            }
        }
        let mode = self.file_mode(&key.name("file_mode"), tls.file_mode);
        Some(Tls::Spiffe {
            endpoint: endpoint?,
            svid: svid?,
            client_svid: client_svid?,
            server_name: server_name?,
            files: directory?.zip(mode),
            startup_timeout: tls.startup_timeout.duration(),
        })
    }

    /// The socket of the Workload API: the key's, or that of the environment.
    fn endpoint(&mut self, key: &Key, endpoint: Option<String>) -> Option<PathBuf> {
        let accepted = format!("expected unix:///PATH, of at most {MAX_SOCKET_PATH} bytes");
        let (found, text) = match endpoint {
            Some(text) => ("not an endpoint of this machine".to_owned(), text),
            None if self.lines.is_refused(key) => return None,
            None => {
                let text = (self.env)(SPIFFE_ENDPOINT).filter(|text| !text.is_empty());
                let missing = "source = \"spiffe\", where SPIFFE_ENDPOINT_SOCKET is not set";
                (format!("{SPIFFE_ENDPOINT} is not one"), self.need(key, text, missing)?)
            }
        };
        let path = unix_path(&text).map(Path::to_owned);
        if path.is_none() {
            self.wrong(key.clone(), found, accepted);
        }
        path
    }

    /// The name of an SVID, if there is one.
    fn svid(&mut self, key: &Key, name: Option<String>) -> Option<Option<String>> {
        let is_wrong = |name: &String| {
            let is_id = name.contains("://");
            name.trim().is_empty() || is_id && !is_spiffe_id(name)
        };
        if name.as_ref().is_some_and(is_wrong) {
            let accepted = "expected spiffe://TRUST-DOMAIN/PATH, or a hint";
            self.wrong(key.clone(), "not the name of an SVID", accepted);
            return None;
        }
        Some(name)
    }

    /// The permission bits of files that hold a key: nothing for others.
    fn file_mode(&mut self, key: &Key, text: Option<String>) -> Option<u32> {
        let Some(text) = text else { return Some(0o600) };
        let mode = self.mode(key, &text)?;
        if mode & 0o400 == 0 || mode & 0o137 != 0 {
            let accepted = "expected \"0600\", \"0640\", \"0400\" or \"0440\"";
            self.wrong(key.clone(), "not a mode for a private key", accepted);
            return None;
        }
        Some(mode)
    }

    fn authority(&mut self, key: &Key, tls: raw::Tls) -> Option<Tls> {
        let directory = self.path(&key.name("directory"), tls.directory, "source = \"authority\"");
        let client_id = tls.client_id.unwrap_or_else(|| DEFAULT_CLIENT_ID.to_owned());
        if !is_spiffe_id(&client_id) {
            let accepted = "expected spiffe://TRUST-DOMAIN/PATH";
            self.wrong(key.name("client_id"), "not a SPIFFE ID", accepted);
            return None;
        }
        let mode = self.file_mode(&key.name("file_mode"), tls.file_mode)?;
        Some(Tls::Authority { directory: directory?, client_id, mode, ttl: tls.ttl.duration() })
    }
}

/// SPIFFE Workload Endpoint, section 4: `unix` without an authority, and an absolute path.
fn unix_path(endpoint: &str) -> Option<&Path> {
    let rest = endpoint.strip_prefix("unix:")?;
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let plain = path.starts_with('/') && !path.ends_with('/') && !path.contains(['?', '#']);
    (plain && path.len() <= MAX_SOCKET_PATH).then_some(Path::new(path))
}
