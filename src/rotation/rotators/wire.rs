//! Connections to the servers of targets, in plain text where that is configured and never as a
//! fallback.

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, time::Instant};

use crate::{
    config::operator::targets::endpoint::{HostPort, Tls},
    domain::fault::{Fault, Reason},
    rotation::ports::TargetError,
    tls::client::client_config,
};

/// The first wait between two looks at whether a change arrived; it doubles up to the last.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How a server is checked by a handshake.
pub(super) struct Checked {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

/// How a server is to be checked; `None` for one on this machine without TLS.
pub(super) fn checked(tls: &Tls, address: &HostPort) -> Result<Option<Checked>, Fault> {
    let Tls::Verify { ca, server_name } = tls else { return Ok(None) };
    let config = client_config(ca.as_deref())
        .map_err(|error| Fault::new(Reason::Invalid, format!("{address}: {error}")))?;
    let name = server_name.as_ref().unwrap_or(&address.host).clone();
    let name = ServerName::try_from(name).map_err(|_| {
        let detail = format!("{address}: its name is not one that a certificate can carry");
        Fault::new(Reason::Invalid, detail)
    })?;
    Ok(Some(Checked { config, name }))
}

/// Opens a connection.
pub(super) async fn dial(address: &HostPort) -> Result<TcpStream, Fault> {
    let unreachable = |error: std::io::Error| {
        Fault::new(Reason::Unavailable, format!("no connection to {address}: {}", error.kind()))
    };
    let stream =
        TcpStream::connect((address.host.as_str(), address.port)).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    Ok(stream)
}

/// Bounds the work at one server.
pub(super) async fn within<T>(
    limit: Duration,
    address: &HostPort,
    work: impl Future<Output = Result<T, TargetError>>,
) -> Result<T, TargetError> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(TargetError::fault(Reason::Timeout, format!("{address} did not answer in time")))
    })
}

/// Waits for a change to arrive somewhere, for a while.
pub(super) struct Patience {
    deadline: Instant,
    wait: Duration,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Self { deadline: Instant::now() + limit, wait: LOOK_AGAIN.0 }
    }

    /// Waits before the next look, unless the time is over: then what was seen last is a transient
    /// fault, since the change may still arrive.
    pub(super) async fn after(&mut self, seen: TargetError) -> Result<(), TargetError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let detail = format!("the change did not arrive in time: {seen}");
            return Err(TargetError::fault(Reason::Timeout, detail));
        }
        tokio::time::sleep(self.wait.min(left)).await;
        self.wait = (self.wait * 2).min(LOOK_AGAIN.1);
        Ok(())
    }
}
