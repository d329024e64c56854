//! One connection's services: the contract, health, reflection, and the broker's own metrics.
//!
//! Callers are known before the first request, so each connection has services of its own and no
//! request carries its identity around.

use std::{
    convert::Infallible,
    future::{Future, poll_fn, ready},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use hyper::{Request, Response, body::Incoming};
use prost::bytes::Bytes;
use tokio::time::timeout;
use tonic::{Status, body::Body};
use tower::{Service, util::BoxCloneSyncService};

use crate::{
    broker::{Broker, observe::Method},
    config::Limits,
    domain::time::Moment,
};

use super::{
    calls::Calls,
    edge::Edge,
    errors::Refusal,
    listener::Caller,
    proto::{
        DESCRIPTORS, GetSecretRequest,
        secret_broker_server::{SERVICE_NAME, SecretBrokerServer},
    },
    unary::{self, Reply},
};

/// What observers may read beside the contract.
const PAGES: [&str; 2] = ["/metrics", "/readyz"];

type Answer = Pin<Box<dyn Future<Output = Result<Response<Reply>, Infallible>> + Send>>;
/// Renders one of the broker's own pages by its path.
pub type Pages = Arc<dyn Fn(&str) -> Response<String> + Send + Sync>;
type Standard = BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible>;

/// What all connections share.
#[derive(Clone)]
pub struct Services {
    edge: Arc<Edge>,
    health: Standard,
    reflection: Option<Standard>,
    pages: Pages,
}

impl Services {
    /// The services over an edge, and the pages for observers.
    ///
    /// # Errors
    /// When the contract's own descriptors can't be read, which only a broken build can cause.
    pub fn new(
        edge: Arc<Edge>,
        health: tonic_health::server::HealthReporter,
        reflection: bool,
        pages: Pages,
    ) -> Result<Self, tonic_reflection::server::Error> {
        let health = tonic_health::server::HealthService::from_health_reporter(health);
        let health = tonic_health::pb::health_server::HealthServer::new(health);
        let reflection = if reflection {
            let service = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .build_v1()?;
            Some(BoxCloneSyncService::new(service))
        } else {
            None
        };
        Ok(Self { edge, health: BoxCloneSyncService::new(health), reflection, pages })
    }

    /// The services for one connection.
    pub fn connect(&self, caller: Arc<Caller>) -> Connection {
        let calls = Calls { edge: Arc::clone(&self.edge), caller };
        let broker = SecretBrokerServer::new(calls.clone())
            .max_decoding_message_size(self.edge.limits.request_bytes);
        Connection { calls, broker, services: self.clone() }
    }
}

/// The services of one connection.
pub struct Connection {
    calls: Calls,
    broker: SecretBrokerServer<Calls>,
    services: Services,
}

impl hyper::service::Service<Request<Incoming>> for Connection {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        match service {
            Some((SERVICE_NAME, "GetSecret")) => self.get_secret(request),
            Some((SERVICE_NAME, "WatchSecrets")) => {
                let call = self.broker.clone().call(request);
                self.observed(Method::WatchSecrets, async move { call.await.map(wrap) })
            }
            Some((SERVICE_NAME, "BatchGetSecrets")) => self.unary(Method::BatchGetSecrets, request),
            Some((SERVICE_NAME, "ListSecrets")) => self.unary(Method::ListSecrets, request),
            Some((SERVICE_NAME, "ReportOutcome")) => self.unary(Method::ReportOutcome, request),
            Some(("grpc.health.v1.Health", _)) => other(self.services.health.clone().call(request)),
            Some(("grpc.reflection.v1.ServerReflection", _)) => match &self.services.reflection {
                Some(reflection) => other(reflection.clone().call(request)),
                None => answer(Reply::status(Status::unimplemented("reflection is off"))),
            },
            _ if PAGES.contains(&path) => answer(self.page(path)),
            _ => answer(Reply::status(Status::unimplemented("no such service"))),
        }
    }
}

impl Connection {
    /// What has to succeed each time before something is sent.
    pub(super) fn gate(&self) -> impl Fn() -> io::Result<()> + use<> {
        let Calls { edge, caller } = self.calls.clone();
        move || edge.settle(&caller).map_err(io::Error::other)
    }

    /// The call that applications make most: its reply is a shared buffer.
    fn get_secret(&self, request: Request<Incoming>) -> Answer {
        let calls = self.calls.clone();
        Box::pin(async move {
            let start = calls.edge.broker.clock().now();
            let response = match shared_reply(&calls, request).await {
                Ok(frame) => Reply::frame(frame),
                Err(refusal) => Reply::status(refusal.into()),
            };
            answered(&calls.edge.broker, Method::GetSecret, start, &response);
            Ok(response)
        })
    }

    /// Bounds the whole call, so that a request that arrives byte by byte ends too. The timer is
    /// armed only if the call has to wait.
    fn unary(&self, method: Method, request: Request<Incoming>) -> Answer {
        let bound = self.services.edge.limits.deadline;
        let call = self.broker.clone().call(request);
        self.observed(method, async move {
            match timeout(bound, call).await {
                Ok(response) => response.map(wrap),
                Err(_) => Ok(Reply::status(Refusal::deadline().into())),
            }
        })
    }

    /// Counts a call with its outcome and its time.
    fn observed(
        &self,
        method: Method,
        call: impl Future<Output = Result<Response<Reply>, Infallible>> + Send + 'static,
    ) -> Answer {
        let broker = Arc::clone(&self.services.edge.broker);
        Box::pin(async move {
            let start = broker.clock().now();
            let response = call.await?;
            answered(&broker, method, start, &response);
            Ok(response)
        })
    }

    fn page(&self, path: &str) -> Response<Reply> {
        if !self.services.edge.may_observe(&self.calls.caller) {
            return Reply::status(Refusal::denied().into());
        }
        (self.services.pages)(path).map(|text| Reply::Other(Body::new(text)))
    }
}

/// The frame that answers a `GetSecret`.
async fn shared_reply(calls: &Calls, request: Request<Incoming>) -> Result<Bytes, Refusal> {
    let Limits { request_bytes, deadline, .. } = calls.edge.limits;
    let left = calls.deadline(request.headers())?;
    let message = unary::message(request, request_bytes);
    let asked: GetSecretRequest = within(deadline, message).await??;
    let rendering = calls.edge.get(&calls.caller, &asked.name, left).await?;
    Ok(rendering.reply.clone())
}

/// Bounds a future that is mostly ready at once: only one that is not costs a timer.
async fn within<T>(bound: Duration, future: impl Future<Output = T>) -> Result<T, Refusal> {
    let mut future = pin!(future);
    if let Poll::Ready(value) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
        return Ok(value);
    }
    timeout(bound, future).await.map_err(|_| Refusal::deadline())
}

fn answered(broker: &Broker, method: Method, start: Moment, response: &Response<Reply>) {
    let took = broker.clock().now() - start;
    // Failures carry their status in the headers: such replies have no body.
    let status = response.headers().get("grpc-status").and_then(|s| s.to_str().ok());
    let code = status.and_then(|status| status.parse().ok()).unwrap_or(0);
    broker.observer().answered(method, code, took);
}

fn answer(response: Response<Reply>) -> Answer {
    Box::pin(ready(Ok(response)))
}

fn other(
    call: impl Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
) -> Answer {
    Box::pin(async move { call.await.map(wrap) })
}

fn wrap(response: Response<Body>) -> Response<Reply> {
    response.map(Reply::Other)
}
