//! Who calls, as the transport proved it.

pub mod certificate;

use tokio::net::unix::UCred;

use crate::domain::workload::Workload;

/// The workload behind a Unix socket, by the kernel's word.
pub fn unix_peer(credentials: &UCred) -> Workload {
    Workload::Unix { uid: credentials.uid(), gid: credentials.gid() }
}
