//! One connection's services: the operator's two, and what every connection serves beside them.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hyper::{Request, Response, body::Incoming, service::Service as Served};
use tokio::time::timeout;
use tonic::body::Body;
use tower::Service;

use super::{
    Caller, Operator,
    proto::{
        DESCRIPTORS,
        rotation_feed_server::{self, RotationFeedServer},
        secret_operator_server::{self, SecretOperatorServer},
    },
    service::Calls,
};
use crate::{
    audit::Position,
    broker::observe::{Method, Observer},
    server::{
        deadline,
        dispatch::{Connect, Connection},
        errors::Refusal,
        standard::{self, Answer, Pages, Standard},
        unary::Reply,
    },
};

/// What all connections share.
#[derive(Clone)]
pub struct Services {
    operator: Arc<Operator>,
    standard: Standard,
    observer: Arc<dyn Observer>,
}

impl Services {
    /// The services over an operator. `metrics` renders the page for observers.
    ///
    /// # Errors
    /// When the contract's own descriptors can't be read, which only a broken build can cause.
    pub fn new(
        operator: Arc<Operator>,
        health: tonic_health::server::HealthReporter,
        reflection: bool,
        pages: Pages,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, tonic_reflection::server::Error> {
        let descriptors = [DESCRIPTORS];
        let standard = Standard::new(health, reflection.then_some(&descriptors), pages)?;
        Ok(Self { operator, standard, observer })
    }
}

impl Connect for Services {
    type Connection = OperatorConnection;

    fn connect(&self, caller: Arc<Caller>) -> OperatorConnection {
        let calls = Calls { operator: Arc::clone(&self.operator), caller };
        let most = self.operator.limits.request_bytes;
        OperatorConnection {
            operator: SecretOperatorServer::new(calls.clone()).max_decoding_message_size(most),
            feed: RotationFeedServer::new(calls.clone()).max_decoding_message_size(most),
            calls,
            services: self.clone(),
        }
    }
}

/// The services of one connection to the operator.
pub struct OperatorConnection {
    calls: Calls,
    operator: SecretOperatorServer<Calls>,
    feed: RotationFeedServer<Calls>,
    services: Services,
}

impl Connection for OperatorConnection {
    fn gate(&self) -> impl Fn() -> io::Result<()> + Send + Unpin + 'static {
        let Calls { operator, caller } = self.calls.clone();
        move || {
            let position = Position(caller.recorded.load(Ordering::Relaxed));
            operator.audit.settle(position).map_err(io::Error::other)
        }
    }
}

impl Served<Request<Incoming>> for OperatorConnection {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let limits = &self.services.operator.limits;
        let (quick, patient) = (limits.deadline, self.services.operator.patience);
        let Some((service, method)) = standard::service(&request) else {
            return self.other(request);
        };
        match (service, method) {
            (rotation_feed_server::SERVICE_NAME, "WatchRotations") => {
                let call = self.feed.clone().call(request);
                self.observed(Method::WatchRotations, call)
            }
            (rotation_feed_server::SERVICE_NAME, "ReportAdoption") => {
                let bound = deadline::stated(request.headers(), quick);
                let call = self.feed.clone().call(request);
                self.bounded(Method::ReportAdoption, bound, call)
            }
            (secret_operator_server::SERVICE_NAME, "FollowRotation") => {
                let call = self.operator.clone().call(request);
                self.observed(Method::FollowRotation, call)
            }
            (secret_operator_server::SERVICE_NAME, name) => match method_of(name) {
                Some((method, is_patient)) => {
                    let bound = if is_patient { patient } else { quick };
                    let bound = deadline::stated(request.headers(), bound);
                    let call = self.operator.clone().call(request);
                    self.bounded(method, bound, call)
                }
                None => self.other(request),
            },
            _ => self.other(request),
        }
    }
}

/// The unary method of a name, and whether it uses targets, which takes its time.
fn method_of(name: &str) -> Option<(Method, bool)> {
    Some(match name {
        "Plan" => (Method::Plan, false),
        "Status" => (Method::Status, false),
        "History" => (Method::History, false),
        "Rotate" => (Method::Rotate, false),
        "Resume" => (Method::Resume, false),
        "Rollback" => (Method::Rollback, false),
        "Compromise" => (Method::Compromise, false),
        "Validate" => (Method::Validate, true),
        "Supply" => (Method::Supply, true),
        "Approve" => (Method::Approve, false),
        "BreakGlass" => (Method::BreakGlass, true),
        "EndAccess" => (Method::EndAccess, true),
        _ => return None,
    })
}

type Answered = Result<Response<Body>, Infallible>;

impl OperatorConnection {
    fn other(&self, request: Request<Incoming>) -> Answer {
        let may_observe = || self.services.operator.may_observe(&self.calls.caller);
        self.services.standard.answer(request, may_observe)
    }

    /// Bounds a whole call, so that a request that arrives byte by byte ends too.
    fn bounded(
        &self,
        method: Method,
        bound: Result<Duration, Refusal>,
        call: impl Future<Output = Answered> + Send + 'static,
    ) -> Answer {
        self.observed(method, async move {
            let refusal = match bound {
                Ok(bound) => match timeout(bound, call).await {
                    Ok(response) => return response,
                    Err(_) => Refusal::deadline(),
                },
                Err(refusal) => refusal,
            };
            Ok(tonic::Status::from(refusal).into_http())
        })
    }

    /// Counts a call with its outcome and its time.
    fn observed(
        &self,
        method: Method,
        call: impl Future<Output = Answered> + Send + 'static,
    ) -> Answer {
        let observer = Arc::clone(&self.services.observer);
        let clock = Arc::clone(&self.services.operator.engine.surroundings().clock);
        Box::pin(async move {
            let start = clock.now();
            let response = standard::wrap(call.await?);
            observer.answered(method, standard::code(&response), clock.now() - start);
            Ok(response)
        })
    }
}
