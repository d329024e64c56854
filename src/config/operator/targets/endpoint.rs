//! Where a target's server is and how it proves itself, for all that are reached over TCP.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Key};
use crate::config::units::{Span, mins, secs};

/// Further servers of one target.
const MAX_REPLICAS: usize = 100;

/// A target's server: where it is and how it proves itself.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// Its host and port, such as `db.shop:5432`; the port may be left out where it is the usual one.
    pub address: Option<String>,
    /// Further servers where the credential has to work, in the same form. `PostgreSQL`: standbys, which follow the
    /// first server by themselves. Redis: all other nodes, each of which is changed, since they do not share users.
    pub replicas: Vec<String>,
    /// How its certificate is checked. Without TLS nothing but this machine can be reached.
    pub tls: TlsMode,
    /// Authorities of its certificate; the system's when absent.
    pub ca: Option<PathBuf>,
    /// The name that its certificate has to carry, if not the address's.
    pub server_name: Option<String>,
    /// The time for one login and what is done with it.
    pub timeout: Span<{ secs(10) }, 100, { mins(5) }>,
    /// How long a change may take until it has reached all replicas.
    pub replication_timeout: Span<{ secs(30) }, 0, { mins(30) }>,
}

/// How a server's certificate is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum TlsMode {
    /// TLS, with the certificate and its name checked.
    #[default]
    Verify,
    /// No TLS; for a server on this machine only.
    Disable,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The name or IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// How a server proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// By a certificate that is checked.
    Verify {
        /// Its authorities; the system's when absent.
        ca: Option<PathBuf>,
        /// The name that it has to carry, if not the address's.
        server_name: Option<String>,
    },
    /// Not at all: it runs on this machine.
    Disable,
}

/// A target's server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: HostPort,
    /// Further servers of the same target.
    pub replicas: Vec<HostPort>,
    /// How it proves itself.
    pub tls: Tls,
    /// The time for one login and what is done with it.
    pub timeout: Duration,
    /// How long a change may take until it has reached all replicas.
    pub replication_timeout: Duration,
}

/// Completes a server; `port` is the usual one of its kind.
pub(super) fn check(
    check: &mut Check<'_>,
    key: &Key,
    raw: Raw,
    port: u16,
    by: &str,
) -> Option<Endpoint> {
    let Raw { address, replicas, tls, ca, server_name, timeout, replication_timeout } = raw;
    let place = key.name("address");
    let address = check.need(&place, address, by);
    let address = address.and_then(|text| host_port(check, &place, &text, port, tls));
    let ca = check.some_path(&key.name("ca"), ca);
    let mut others = Vec::new();
    let mut fine = true;
    if replicas.len() > MAX_REPLICAS {
        let accepted = format!("expected at most {MAX_REPLICAS}");
        check.wrong(key.name("replicas"), format!("{} servers", replicas.len()), accepted);
        return None;
    }
    for (i, text) in replicas.iter().enumerate() {
        let place = key.name("replicas").index(i);
        match host_port(check, &place, text, port, tls) {
            Some(other) => others.push(other),
            None => fine = false,
        }
    }
    let tls = match tls {
        TlsMode::Verify => Tls::Verify { ca: ca?, server_name },
        TlsMode::Disable => {
            if ca?.is_some() || server_name.is_some() {
                let accepted = "expected neither `ca` nor `server_name`, or tls = \"verify\"";
                check.wrong(key.name("tls"), "a certificate's settings without TLS", accepted);
                return None;
            }
            Tls::Disable
        }
    };
    let (timeout, replication_timeout) = (timeout.duration(), replication_timeout.duration());
    let address = address.filter(|_| fine)?;
    Some(Endpoint { address, replicas: others, tls, timeout, replication_timeout })
}

fn host_port(
    check: &mut Check<'_>,
    key: &Key,
    text: &str,
    usual: u16,
    tls: TlsMode,
) -> Option<HostPort> {
    let Some(address) = parse(text, usual) else {
        check.wrong(key.clone(), "not a host and port", "expected HOST:PORT, without a scheme");
        return None;
    };
    if tls == TlsMode::Disable && !is_this_machine(&address.host) {
        let found = "another machine without TLS, where the credential could be read on the way";
        check.wrong(key.clone(), found, "expected tls = \"verify\", or an address of this machine");
        return None;
    }
    Some(address)
}

fn parse(text: &str, usual: u16) -> Option<HostPort> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
    } else {
        text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
    };
    let port = port.map_or(Some(usual), |port| port.parse().ok().filter(|port| *port != 0))?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
    let fits = matches!(host.len(), 1..=253) && host.bytes().all(plain);
    fits.then(|| HostPort { host: host.to_owned(), port })
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_come_in_the_usual_forms_only() {
        for (text, expected) in [
            ("db.shop", Some(("db.shop", 5432))),
            ("db.shop:6000", Some(("db.shop", 6000))),
            ("[::1]:6000", Some(("::1", 6000))),
            ("[::1]", Some(("::1", 5432))),
            ("127.0.0.1", Some(("127.0.0.1", 5432))),
            ("", None),
            ("db:0", None),
            ("db:x", None),
            ("::1", None),
            ("[db]:1", None),
            ("postgres://db", None),
            ("user@db", None),
        ] {
            let parsed = parse(text, 5432);
            let parsed = parsed.as_ref().map(|a| (a.host.as_str(), a.port));
            assert_eq!(parsed, expected, "{text}");
        }
    }
}
