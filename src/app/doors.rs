//! Where callers come in: the listeners, and the certificates of the one on TCP.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    sync::Arc,
};

use jiff::Timestamp;
use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
};

use super::{
    StartError, certificates,
    stores::{Server, Surroundings},
};
use crate::{
    config::{self, Tls, UnixSocket},
    server::{dispatch::Connect, listener::Listener},
    telemetry::{Metrics, events::CertificateLoaded},
    tls::LiveTls,
};

/// The open listeners.
pub(super) struct Doors {
    tls: Option<Arc<LiveTls>>,
    address: Option<SocketAddr>,
    listeners: JoinSet<()>,
    shutdown: watch::Sender<bool>,
}

impl Doors {
    /// Listens wherever the configuration says. What keeps the certificates current joins `tasks`.
    pub(super) async fn open(
        server: config::Server,
        tls: Option<Tls>,
        services: impl Connect,
        vault: Option<&Server>,
        around: &Surroundings,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, StartError> {
        let (shutdown, stop) = watch::channel(false);
        let clock = Arc::clone(&around.clock);
        let observer = Arc::clone(&around.metrics) as _;
        let listener = Listener::new(services, server.limits, server.drain, clock, observer, stop);
        let mut doors = Self { tls: None, address: None, listeners: JoinSet::new(), shutdown };
        if let (Some(address), Some(settings)) = (server.listen, tls) {
            let clock = Arc::clone(&around.clock);
            let (live, keep) = certificates::keep(settings, vault, clock, around.seed).await?;
            tasks.spawn(keep);
            tasks.spawn(tell_certificates(Arc::clone(&live), Arc::clone(&around.metrics)));
            let socket = tcp("server.listen", address).await?;
            doors.address = socket.local_addr().ok();
            doors.listeners.spawn(Arc::clone(&listener).serve_tls(socket, Arc::clone(&live)));
            doors.tls = Some(live);
        }
        if let Some(settings) = server.socket {
            let socket = unix(&settings).await.map_err(|source| StartError::Listen {
                setting: "server.socket",
                address: settings.path.display().to_string(),
                source,
            })?;
            doors.listeners.spawn(async move {
                listener.serve_unix(socket).await;
                // A socket that nobody listens on tells its peers at once that it is gone.
                let _ = fs::remove_file(&settings.path);
            });
        }
        Ok(doors)
    }

    /// The TCP address that is served.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// When the certificate that is served ends.
    pub(super) fn certificate_ends(&self) -> Option<Timestamp> {
        self.tls.as_ref().map(|tls| tls.not_after())
    }

    /// Takes no more callers, and waits until those that are there have left or were sent away.
    pub(super) async fn close(&mut self) {
        self.shutdown.send_replace(true);
        while self.listeners.join_next().await.is_some() {}
    }
}

/// Listens on TCP at the address that `setting` names.
pub(super) async fn tcp(
    setting: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, StartError> {
    let failed = |source| StartError::Listen { setting, address: address.to_string(), source };
    TcpListener::bind(address).await.map_err(failed)
}

/// Listens on a Unix socket. One that was left behind by a run that is gone is replaced; one that
/// somebody listens on is not.
async fn unix(settings: &UnixSocket) -> io::Result<UnixListener> {
    let UnixSocket { path, mode } = settings;
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        if UnixStream::connect(path).await.is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        fs::remove_file(path)?;
    }
    let socket = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(*mode))?;
    Ok(socket)
}

async fn tell_certificates(tls: Arc<LiveTls>, metrics: Arc<Metrics>) {
    let mut changes = tls.changes();
    loop {
        CertificateLoaded { role: "server", not_after: tls.not_after() }.record(&metrics);
        if changes.changed().await.is_err() {
            return;
        }
    }
}
