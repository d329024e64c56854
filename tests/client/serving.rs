//! Serves the test's broker over a Unix socket and over mTLS; it can be cut off and started again.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use futures_util::stream;
use secret_broker::server::proto::secret_broker_server::SecretBrokerServer;
use secret_broker_client::Client;
use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tonic::transport::Server;

use crate::broker::Broker;

/// A listener that serves a broker until it is dropped; then its connections are cut as well.
pub(crate) struct Serving {
    broker: Broker,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.broker.cut.send(());
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Readiness as the test wants it.
pub(crate) async fn health(
    ready: bool,
) -> tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health> {
    let (reporter, service) = tonic_health::server::health_reporter();
    if ready {
        reporter.set_serving::<SecretBrokerServer<Broker>>().await;
    } else {
        reporter.set_not_serving::<SecretBrokerServer<Broker>>().await;
    }
    service
}

/// Serves the connections that come in; each can be cut.
async fn serve(broker: Broker, ready: bool) -> (mpsc::Sender<UnixStream>, JoinHandle<()>) {
    let (accepted, incoming) = mpsc::channel::<UnixStream>(16);
    let incoming = stream::unfold(incoming, |mut incoming| async {
        Some((Ok::<_, std::io::Error>(incoming.recv().await?), incoming))
    });
    let server = Server::builder()
        .add_service(health(ready).await)
        .add_service(SecretBrokerServer::new(broker));
    let task = tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
    (accepted, task)
}

/// Passes a connection's bytes to the server until either ends or the broker is cut off.
fn relay<S>(broker: &Broker, mut outside: S, accepted: &mpsc::Sender<UnixStream>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut inside, served) = UnixStream::pair().unwrap();
    let mut cut = broker.cut.subscribe();
    let accepted = accepted.clone();
    tokio::spawn(async move {
        accepted.send(served).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut outside, &mut inside) => {}
            _ = cut.recv() => {}
        }
    });
}

/// Serves on a Unix socket.
pub(crate) async fn on_socket(broker: &Broker, path: &Path, ready: bool) -> Serving {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).unwrap();
    let (accepted, serving) = serve(broker.clone(), ready).await;
    let relayed = broker.clone();
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            relay(&relayed, stream, &accepted);
        }
    });
    Serving { broker: broker.clone(), tasks: vec![serving, accepting] }
}

/// Serves mTLS on a free port; the second value hears each client's certificate.
pub(crate) async fn on_tls(
    broker: &Broker,
    acceptor: TlsAcceptor,
) -> (Serving, SocketAddr, mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (accepted, serving) = serve(broker.clone(), true).await;
    let (peers, seen) = mpsc::unbounded_channel();
    let relayed = broker.clone();
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
                let _ = peers.send(leaf);
                relay(&relayed, stream, &accepted);
            }
        }
    });
    (Serving { broker: broker.clone(), tasks: vec![serving, accepting] }, address, seen)
}

/// A broker on a socket in a directory of its own.
pub(crate) struct Fixture {
    pub(crate) broker: Broker,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) serving: Option<Serving>,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let (broker, directory) = (Broker::new(), tempfile::tempdir().unwrap());
        let serving = on_socket(&broker, &directory.path().join("broker.sock"), true).await;
        Self { broker, directory, serving: Some(serving) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.path("broker.sock").display())
    }

    pub(crate) fn client(&self) -> Client {
        Client::builder().address(self.address()).build().unwrap()
    }

    /// Ends the broker and all its connections, and starts it again.
    pub(crate) async fn restart(&mut self) {
        self.serving = None;
        self.serving = Some(on_socket(&self.broker, &self.path("broker.sock"), true).await);
    }
}
