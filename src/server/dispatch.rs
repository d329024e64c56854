//! One connection's services: the contract, and what every connection serves beside it.
//!
//! Callers are known before the first request, so each connection has services of its own and no
//! request carries its identity around.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use hyper::{Request, Response, body::Incoming, service::Service as Served};
use prost::bytes::Bytes;
use tokio::time::timeout;
use tower::Service;

use crate::{
    broker::{Broker, observe::Method},
    config::Limits,
    domain::time::Moment,
};

pub use super::standard::Pages;
use super::{
    calls::Calls,
    edge::Edge,
    errors::Refusal,
    listener::Caller,
    proto::{
        DESCRIPTORS, GetSecretRequest,
        secret_broker_server::{SERVICE_NAME, SecretBrokerServer},
    },
    standard::{self, Answer, Standard, wrap},
    unary::{self, Reply},
};

/// Makes the services of a connection, once its caller is known.
pub trait Connect: Send + Sync + 'static {
    /// The services of one connection.
    type Connection: Connection;

    /// The services for one caller.
    fn connect(&self, caller: Arc<Caller>) -> Self::Connection;
}

/// The services of one connection.
pub trait Connection:
    Served<
        Request<Incoming>,
        Response = Response<Reply>,
        Error = Infallible,
        Future: Send + 'static,
    > + Send
    + Sync
    + 'static
{
    /// What has to succeed each time before something is sent.
    fn gate(&self) -> impl Fn() -> io::Result<()> + Send + Unpin + 'static;
}

/// What all connections share.
#[derive(Clone)]
pub struct Services {
    edge: Arc<Edge>,
    standard: Standard,
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
        let descriptors = [DESCRIPTORS];
        let standard = Standard::new(health, reflection.then_some(&descriptors), pages)?;
        Ok(Self { edge, standard })
    }
}

impl Connect for Services {
    type Connection = BrokerConnection;

    fn connect(&self, caller: Arc<Caller>) -> BrokerConnection {
        let calls = Calls { edge: Arc::clone(&self.edge), caller };
        let broker = SecretBrokerServer::new(calls.clone())
            .max_decoding_message_size(self.edge.limits.request_bytes);
        BrokerConnection { calls, broker, services: self.clone() }
    }
}

/// The services of one connection to the broker.
pub struct BrokerConnection {
    calls: Calls,
    broker: SecretBrokerServer<Calls>,
    services: Services,
}

impl Served<Request<Incoming>> for BrokerConnection {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        match standard::service(&request) {
            Some((SERVICE_NAME, "GetSecret")) => self.get_secret(request),
            Some((SERVICE_NAME, "WatchSecrets")) => {
                let call = self.broker.clone().call(request);
                self.observed(Method::WatchSecrets, async move { call.await.map(wrap) })
            }
            Some((SERVICE_NAME, "BatchGetSecrets")) => self.unary(Method::BatchGetSecrets, request),
            Some((SERVICE_NAME, "ListSecrets")) => self.unary(Method::ListSecrets, request),
            Some((SERVICE_NAME, "ReportOutcome")) => self.unary(Method::ReportOutcome, request),
            _ => {
                let may_observe = || self.services.edge.may_observe(&self.calls.caller);
                self.services.standard.answer(request, may_observe)
            }
        }
    }
}

impl Connection for BrokerConnection {
    fn gate(&self) -> impl Fn() -> io::Result<()> + Send + Unpin + 'static {
        let Calls { edge, caller } = self.calls.clone();
        move || edge.settle(&caller).map_err(io::Error::other)
    }
}

impl BrokerConnection {
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
    broker.observer().answered(method, standard::code(response), took);
}
