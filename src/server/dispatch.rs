//! One connection's services: the contract, health, reflection, and the broker's own metrics.
//!
//! Callers are known before the first request, so each connection has services of its own and no
//! request carries its identity around.

use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::{Request, Response, body::Incoming, header::CONTENT_TYPE};
use tokio::time::timeout;
use tonic::{Status, body::Body};
use tower::{Service, util::BoxCloneSyncService};

use super::{
    calls::Calls,
    edge::Edge,
    errors::Refusal,
    listener::Caller,
    proto::{
        DESCRIPTORS,
        secret_broker_server::{SERVICE_NAME, SecretBrokerServer},
    },
};

const METRICS_PATH: &str = "/metrics";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;
type Standard = BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible>;

/// What all connections share.
#[derive(Clone)]
pub struct Services {
    edge: Arc<Edge>,
    health: Standard,
    reflection: Option<Standard>,
    metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl Services {
    /// The services over an edge. `metrics` renders the page for observers.
    ///
    /// # Errors
    /// When the contract's own descriptors can't be read, which only a broken build can cause.
    pub fn new(
        edge: Arc<Edge>,
        health: tonic_health::server::HealthReporter,
        reflection: bool,
        metrics: Arc<dyn Fn() -> String + Send + Sync>,
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
        Ok(Self { edge, health: BoxCloneSyncService::new(health), reflection, metrics })
    }

    /// The services for one connection.
    pub fn connect(&self, caller: Arc<Caller>) -> Connection {
        let calls = Calls { edge: Arc::clone(&self.edge), caller: Arc::clone(&caller) };
        let broker = SecretBrokerServer::new(calls)
            .max_decoding_message_size(self.edge.limits.request_bytes);
        Connection { caller, broker, services: self.clone() }
    }
}

/// The services of one connection.
#[derive(Clone)]
pub struct Connection {
    caller: Arc<Caller>,
    broker: SecretBrokerServer<Calls>,
    services: Services,
}

impl Service<Request<Incoming>> for Connection {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        match service {
            Some((SERVICE_NAME, "WatchSecrets")) => self.broker.call(request),
            Some((SERVICE_NAME, _)) => self.unary(request),
            Some(("grpc.health.v1.Health", _)) => self.services.health.call(request),
            Some(("grpc.reflection.v1.ServerReflection", _)) => {
                match &mut self.services.reflection {
                    Some(reflection) => reflection.call(request),
                    None => answer(Status::unimplemented("reflection is off").into_http()),
                }
            }
            _ if path == METRICS_PATH => answer(self.metrics()),
            _ => answer(Status::unimplemented("no such service").into_http()),
        }
    }
}

impl Connection {
    /// Bounds the whole call, so that a request that arrives byte by byte ends too. The timer is
    /// armed only if the call has to wait.
    fn unary(&mut self, request: Request<Incoming>) -> Answer {
        let deadline = self.services.edge.limits.deadline;
        let call = self.broker.call(request);
        Box::pin(async move {
            match timeout(deadline, call).await {
                Ok(response) => response,
                Err(_) => Ok(Status::from(Refusal::deadline()).into_http()),
            }
        })
    }

    fn metrics(&self) -> Response<Body> {
        if !self.services.edge.may_observe(&self.caller) {
            return Status::from(Refusal::denied()).into_http();
        }
        let mut response = Response::new(Body::new((self.services.metrics)()));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(OPENMETRICS));
        response
    }
}

fn answer(response: Response<Body>) -> Answer {
    Box::pin(ready(Ok(response)))
}
