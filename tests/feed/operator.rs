//! An operator of which only the feed is there: it speaks the contract over mTLS, and does what a
//! test tells it.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use futures_util::{Stream, stream};
use secret_broker::contract::operator::{
    ReportAdoptionRequest, ReportAdoptionResponse, WatchRotationsRequest, WatchRotationsResponse,
    rotation_feed_server::{RotationFeed, RotationFeedServer},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tonic::{
    Request, Response, Status,
    transport::{Certificate, Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

use crate::{pki::Authority, support::until};

type Message = Result<WatchRotationsResponse, Status>;

/// What the operator was told, over all its runs.
#[derive(Default)]
pub struct Heard {
    pub watches: Vec<WatchRotationsRequest>,
    pub reports: Vec<ReportAdoptionRequest>,
    /// The certificates that sidecars showed, one for each stream.
    pub certificates: Vec<Vec<u8>>,
    streams: Vec<mpsc::UnboundedSender<Message>>,
}

#[derive(Clone, Default)]
struct Feed(Arc<Mutex<Heard>>);

impl Feed {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().expect("what was heard")
    }
}

#[tonic::async_trait]
impl RotationFeed for Feed {
    type WatchRotationsStream = Pin<Box<dyn Stream<Item = Message> + Send>>;

    async fn watch_rotations(
        &self,
        request: Request<WatchRotationsRequest>,
    ) -> Result<Response<Self::WatchRotationsStream>, Status> {
        let (stream, messages) = mpsc::unbounded_channel();
        stream.send(Ok(WatchRotationsResponse::default())).expect("an open stream");
        let certificates = request.peer_certs().expect("mTLS");
        let mut heard = self.heard();
        heard.certificates.push(certificates.first().expect("a leaf").to_vec());
        heard.watches.push(request.into_inner());
        heard.streams.push(stream);
        let next = |mut messages: mpsc::UnboundedReceiver<Message>| async {
            messages.recv().await.map(|message| (message, messages))
        };
        Ok(Response::new(Box::pin(stream::unfold(messages, next))))
    }

    async fn report_adoption(
        &self,
        request: Request<ReportAdoptionRequest>,
    ) -> Result<Response<ReportAdoptionResponse>, Status> {
        self.heard().reports.push(request.into_inner());
        Ok(Response::new(ReportAdoptionResponse {}))
    }
}

/// The operator. It can be stopped and started again at its address.
pub struct Operator {
    feed: Feed,
    authority: Arc<Authority>,
    pub address: SocketAddr,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Operator {
    pub async fn start(authority: &Arc<Authority>) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = socket.local_addr().expect("its address");
        let authority = Arc::clone(authority);
        let mut operator = Self { feed: Feed::default(), authority, address, running: None };
        operator.serve(socket);
        operator
    }

    fn serve(&mut self, socket: TcpListener) {
        let leaf = self.authority.server();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(leaf.cert, leaf.key))
            .client_ca_root(Certificate::from_pem(&self.authority.pem));
        let (stop, stopped) = oneshot::channel();
        let server = Server::builder()
            .tls_config(tls)
            .expect("certificates")
            .add_service(RotationFeedServer::new(self.feed.clone()))
            .serve_with_incoming_shutdown(TcpIncoming::from(socket), async {
                let _ = stopped.await;
            });
        let task = tokio::spawn(async { server.await.expect("it serves") });
        self.running = Some((stop, task));
    }

    pub async fn stop(&mut self) {
        let (stop, task) = self.running.take().expect("it runs");
        let _ = stop.send(());
        self.heard().streams.clear();
        task.await.expect("it ended");
    }

    pub async fn restart(&mut self) {
        let bind = async || TcpListener::bind(self.address).await.ok();
        let socket = until("the port is free", bind).await;
        self.serve(socket);
    }

    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        self.feed.heard()
    }

    /// Tells all open streams that a path changed.
    pub fn announce(&self, path: &str, monitored_until: Option<prost_types::Timestamp>) {
        let message = WatchRotationsResponse {
            path: path.to_owned(),
            rotation_id: "r1".to_owned(),
            monitored_until,
        };
        for stream in &self.heard().streams {
            let _ = stream.send(Ok(message.clone()));
        }
    }

    /// Waits for this many streams since the beginning.
    pub async fn watched(&self, times: usize) {
        until("sidecars watch", async || (self.heard().watches.len() >= times).then_some(())).await;
    }

    /// Waits for a report that is as wanted; earlier ones are forgotten.
    pub async fn reported(
        &self,
        what: &str,
        mut wanted: impl FnMut(&ReportAdoptionRequest) -> bool,
    ) -> ReportAdoptionRequest {
        until(what, async || {
            let mut heard = self.heard();
            let found = heard.reports.iter().position(&mut wanted)?;
            heard.reports.drain(..=found).next_back()
        })
        .await
    }
}
