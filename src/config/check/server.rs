//! Listeners, and what they bear.

use super::{Check, Key, raw};
use crate::config::{Limits, Server, UnixSocket, units::Address};

/// The longest path that the kernel takes for a Unix socket.
pub(super) const MAX_SOCKET_PATH: usize = 107;

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

    pub(super) fn mode(&mut self, key: &Key, text: &str) -> Option<u32> {
        let octal = matches!(text.len(), 3..=4) && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o777);
        if mode.is_none() {
            let accepted = "expected octal permission bits from \"0000\" to \"0777\"";
            self.wrong(key.clone(), "not permission bits", accepted);
        }
        mode
    }
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
