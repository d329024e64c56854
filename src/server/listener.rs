//! The accept loops: who gets a connection, and for how long.
//!
//! Invariants: a connection has an identity before its first request; one that says nothing is
//! closed, the oldest first when there are many, so that silence can't keep others out; one whose
//! peer is no longer trusted is ended; on shutdown calls in flight may finish within the drain time.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    connection::{self, Spoke, Trust},
    dispatch::Connect,
};
use crate::{
    broker::{
        observe::{Lasting, Lasts, Observer, Refused},
        ports::Clock,
    },
    config::Limits,
    domain::workload::Workload,
    identity::{self, certificate},
    tls::LiveTls,
};

/// The wait after the system refused a connection, for descriptors to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The authenticated peer of a connection.
#[derive(Debug)]
pub struct Caller {
    /// The identity in the form that policies match and records carry.
    pub identity: Arc<str>,
    /// The position of the last record about this connection.
    pub(super) recorded: AtomicU64,
}

impl Caller {
    /// The caller that a workload is.
    pub fn new(workload: &Workload) -> Self {
        Self { identity: workload.to_string().into(), recorded: AtomicU64::new(0) }
    }
}

/// Accepts connections and serves them.
pub struct Listener<S> {
    services: S,
    limits: Limits,
    drain: Duration,
    clock: Arc<dyn Clock>,
    places: Arc<Semaphore>,
    observer: Arc<dyn Observer>,
    shutdown: watch::Receiver<bool>,
}

impl<S: Connect> Listener<S> {
    /// A listener that stops when `shutdown` turns true or its sender is dropped.
    pub fn new(
        services: S,
        limits: Limits,
        drain: Duration,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
        shutdown: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(limits.connections));
        Arc::new(Self { services, limits, drain, clock, places, observer, shutdown })
    }

    /// Serves mTLS on a socket until shutdown, and returns when every connection is done.
    pub async fn serve_tls(self: Arc<Self>, socket: TcpListener, tls: Arc<LiveTls>) {
        let accept = || async { socket.accept().await };
        let serve = |(stream, peer): (TcpStream, SocketAddr), spoke| {
            Arc::clone(&self).tls(stream, peer, Arc::clone(&tls), spoke)
        };
        self.run(accept, serve).await;
    }

    /// Serves a Unix socket until shutdown, and returns when every connection is done.
    pub async fn serve_unix(self: Arc<Self>, socket: UnixListener) {
        let accept = || async { socket.accept().await };
        let serve = |(stream, _): (UnixStream, _), spoke| Arc::clone(&self).unix(stream, spoke);
        self.run(accept, serve).await;
    }

    async fn run<T, A, F>(&self, accept: impl Fn() -> A, serve: impl Fn(T, Spoke) -> F)
    where
        A: Future<Output = io::Result<T>>,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        let mut newcomers = Newcomers::new(self.limits.handshakes);
        let mut shutdown = self.shutdown.clone();
        loop {
            tokio::select! {
                () = connection::stopped(&mut shutdown) => break,
                Some(_) = tasks.join_next() => {}
                accepted = accept() => match accepted {
                    Ok(stream) => {
                        let spoke = Spoke::default();
                        let task = tasks.spawn(serve(stream, Arc::clone(&spoke)));
                        newcomers.admit(task, spoke);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn tls(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        tls: Arc<LiveTls>,
        spoke: Spoke,
    ) {
        let handshake = async {
            stream.set_nodelay(true)?;
            TlsAcceptor::from(tls.config()).accept(stream).await
        };
        let stream = match timeout(self.limits.handshake_timeout, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return self.unauthenticated(Some(address), Refused::Handshake, &error.to_string());
            }
            Err(_) => {
                return self.unauthenticated(
                    Some(address),
                    Refused::Silent,
                    "no TLS handshake in time",
                );
            }
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let leaf = chain.first().map(AsRef::as_ref).unwrap_or_default();
        let peer = match certificate::peer(leaf) {
            Ok(peer) => peer,
            Err(error) => {
                return self.unauthenticated(Some(address), Refused::Identity, &error.to_string());
            }
        };
        let chain = chain.iter().map(|c| c.clone().into_owned()).collect();
        let trust = Trust { tls, chain, ends_at: peer.not_after };
        self.serve(stream, &peer.workload, Some(trust), spoke).await;
    }

    async fn unix(self: Arc<Self>, stream: UnixStream, spoke: Spoke) {
        match stream.peer_cred() {
            Ok(credentials) => {
                self.serve(stream, &identity::unix_peer(&credentials), None, spoke).await;
            }
            Err(error) => self.unauthenticated(None, Refused::Identity, &error.to_string()),
        }
    }

    async fn serve(
        &self,
        stream: impl connection::Stream,
        workload: &Workload,
        trust: Option<Trust>,
        spoke: Spoke,
    ) {
        let Some(_place) = self.place() else {
            self.observer.refused(Refused::Limit);
            tracing::warn!(caller = %workload, "server.limits.connections is reached");
            return;
        };
        let _lasts = Lasts::begin(Arc::clone(&self.observer), Lasting::Connection);
        let caller = Arc::new(Caller::new(workload));
        let services = self.services.connect(caller);
        let terms = connection::Terms {
            limits: &self.limits,
            drain: self.drain,
            clock: Arc::clone(&self.clock),
            shutdown: self.shutdown.clone(),
        };
        connection::serve(stream, services, spoke, trust, terms).await;
    }

    fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    fn unauthenticated(&self, address: Option<SocketAddr>, kind: Refused, why: &str) {
        self.observer.refused(kind);
        let address = address.map(|a| a.to_string()).unwrap_or_default();
        tracing::info!(peer = address, why, "a connection was refused");
    }
}

/// Connections that did not speak yet, oldest first. One more than there is room for ends the
/// oldest, so that many silent ones can't keep out one that speaks.
struct Newcomers {
    room: usize,
    waiting: VecDeque<(AbortHandle, Spoke)>,
}

impl Newcomers {
    const fn new(room: usize) -> Self {
        Self { room, waiting: VecDeque::new() }
    }

    fn admit(&mut self, task: AbortHandle, spoke: Spoke) {
        self.waiting.push_back((task, spoke));
        if self.waiting.len() > self.room {
            self.waiting
                .retain(|(task, spoke)| !task.is_finished() && !spoke.load(Ordering::Relaxed));
        }
        while self.waiting.len() > self.room {
            if let Some((oldest, _)) = self.waiting.pop_front() {
                oldest.abort();
            }
        }
    }
}
