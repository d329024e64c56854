//! Who calls: the identity that a transport proved, never one that a caller claims.

use std::fmt;

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
