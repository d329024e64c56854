//! Who calls: the identity that a transport proved, never one that a caller claims.

use std::fmt;

/// The longest SPIFFE ID, in bytes.
const SPIFFE_BYTES: usize = 2048;

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Workload {
    /// The SPIFFE ID of the client certificate's one URI SAN, such as `spiffe://prod/ns/shop/sa/api`.
    Spiffe(String),
    /// The first DNS SAN of a client certificate without a SPIFFE ID.
    Dns(String),
    /// The peer of a Unix socket, as the kernel tells it.
    Unix {
        /// The user id.
        uid: u32,
        /// The group id.
        gid: u32,
    },
}

impl fmt::Display for Workload {
    /// The form that policies are matched against and that audit records carry:
    /// `spiffe://…`, `dns:NAME` or `unix:uid=UID,gid=GID`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(id) => f.write_str(id),
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Unix { uid, gid } => write!(f, "unix:uid={uid},gid={gid}"),
        }
    }
}

/// The trust domain of a SPIFFE ID.
pub fn trust_domain(id: &str) -> Option<&str> {
    let rest = id.strip_prefix("spiffe://").filter(|_| is_spiffe_id(id))?;
    rest.split('/').next()
}

/// Whether a text is a SPIFFE ID: by the standard, section 2, with a lower-case trust domain, no empty or dot segments, and no
/// query.
pub fn is_spiffe_id(id: &str) -> bool {
    let Some(rest) = id.strip_prefix("spiffe://").filter(|_| id.len() <= SPIFFE_BYTES) else {
        return false;
    };
    let (domain, path) = rest.split_once('/').map_or((rest, None), |(d, p)| (d, Some(p)));
    let domain_char = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    let path_char = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let segment = |s: &str| !matches!(s, "" | "." | "..") && s.bytes().all(path_char);
    matches!(domain.len(), 1..=255)
        && domain.bytes().all(domain_char)
        && path.is_none_or(|path| path.split('/').all(segment))
}
