//! Listeners and their certificates.

use super::{Check, Key, raw};
use crate::config::{Limits, Server, Tls, UnixSocket, units::Address};

/// The longest path that the kernel takes for a Unix socket.
const MAX_SOCKET_PATH: usize = 107;
const DEFAULT_CLIENT_ID: &str = "spiffe://secret-broker.local/application";

const TLS_KEYS: [(&str, &[&str]); 11] = [
    ("cert", &["files"]),
    ("key", &["files"]),
    ("ca", &["files", "vault-pki"]),
    ("crl", &["files"]),
    ("path", &["vault-pki"]),
    ("common_name", &["vault-pki"]),
    ("alt_names", &["vault-pki"]),
    ("directory", &["authority"]),
    ("client_id", &["authority"]),
    ("file_mode", &["authority"]),
    ("ttl", &["vault-pki", "authority"]),
];

impl Check<'_> {
    pub(in crate::config) fn server(
        &mut self,
        server: raw::Server,
        http: Option<Address>,
    ) -> Option<Server> {
        let key = Key::of("server");
        let listen = server.listen.map(|Address(listen)| listen);
        if listen.is_none()
            && server.socket.is_none()
            && !self.lines.is_refused(&key.name("listen"))
            && !self.lines.is_refused(&key.name("socket"))
        {
            self.wrong(
                key.clone(),
                "no listener",
                "needs listen = \"ADDRESS:PORT\", socket = \"PATH\", or both",
            );
        }
        if listen.is_some_and(|listen| listen.port() != 0 && Some(Address(listen)) == http) {
            self.wrong(
                Key::of("telemetry").name("http"),
                "the address of server.listen",
                "expected an address of its own",
            );
        }
        let mode = self.mode(&key.name("socket_mode"), &server.socket_mode);
        let path = self.some_path(&key.name("socket"), server.socket)?;
        if path.as_ref().is_some_and(|path| path.as_os_str().len() > MAX_SOCKET_PATH) {
            self.wrong(
                key.name("socket"),
                "a path too long for a socket",
                format!("expected at most {MAX_SOCKET_PATH} bytes"),
            );
        }
        let mode = mode?;
        Some(Server {
            listen,
            socket: path.map(|path| UnixSocket { path, mode }),
            limits: limits(&server.limits),
            drain: server.drain.duration(),
            reflection: server.reflection,
        })
    }

    fn mode(&mut self, key: &Key, text: &str) -> Option<u32> {
        let octal = matches!(text.len(), 3..=4) && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o777);
        if mode.is_none() {
            let accepted = "expected octal permission bits from \"0000\" to \"0777\"";
            self.wrong(key.clone(), "not permission bits", accepted);
        }
        mode
    }

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
            raw::TlsSource::Authority => "authority",
        };
        self.only(&key, name, &TLS_KEYS);
        match source {
            raw::TlsSource::Files => self.files(&key, tls),
            raw::TlsSource::VaultPki => self.pki(&key, tls),
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

fn is_spiffe_id(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/');
    text.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')).is_some_and(
        |(domain, path)| {
            !domain.is_empty()
                && !path.is_empty()
                && domain.bytes().chain(path.bytes()).all(allowed)
        },
    )
}

fn limits(limits: &raw::Limits) -> Limits {
    Limits {
        connections: limits.connections.size(),
        handshakes: limits.handshakes.size(),
        handshake_timeout: limits.handshake_timeout.duration(),
        streams_per_connection: limits.streams_per_connection.small(),
        waiting_calls: limits.waiting_calls.size(),
        watches: limits.watches.size(),
        request_bytes: limits.request_bytes.size(),
        names: limits.names.size(),
        deadline: limits.deadline.duration(),
        keepalive: limits.keepalive.duration(),
    }
}
