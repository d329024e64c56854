//! Where the broker listens: TCP with mTLS, or a Unix socket.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::Error;

/// The address of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// mTLS on TCP: `https://host:port`.
    Tls {
        /// The host name or IP address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket, whose peer is known by its credentials: `unix:///path`.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parsed = match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Some(Self::Unix(path.into())),
            Some(("https", authority)) => tls(authority),
            _ => None,
        };
        parsed.ok_or_else(|| {
            Error::Configuration(format!(
                "the address `{text}` is none: give https://HOST:PORT or unix:///PATH"
            ))
        })
    }
}

fn tls(authority: &str) -> Option<Address> {
    let (host, port) = authority.trim_end_matches('/').rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let well_formed = !host.is_empty() && !host.contains(['/', '@', ' ']);
    well_formed.then_some(Address::Tls { host: host.to_owned(), port: port.parse().ok()? })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls { host, port } if host.contains(':') => write!(f, "https://[{host}]:{port}"),
            Self::Tls { host, port } => write!(f, "https://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_printed_alike() {
        for text in ["https://127.0.0.1:7443", "https://[::1]:7443", "unix:///run/broker.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_would_be_one() {
        for bad in ["", "http://localhost:1", "https://", "https://:1", "https://h", "unix://rel"] {
            let error = bad.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("https://HOST:PORT"), "{bad}: {error}");
        }
    }
}
