//! What every connection of ours serves beside its own contract: health, reflection, and pages for observers.

use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
};

use hyper::{Request, Response, body::Incoming};
use tonic::{Status, body::Body};
use tower::{Service, util::BoxCloneSyncService};

use super::{errors::Refusal, unary::Reply};

/// What observers may read beside the contract.
const PAGES: [&str; 2] = ["/metrics", "/readyz"];

/// An answer in the making.
pub(super) type Answer = Pin<Box<dyn Future<Output = Result<Response<Reply>, Infallible>> + Send>>;
type Shared = BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible>;

/// Renders one of our own pages by its path.
pub type Pages = Arc<dyn Fn(&str) -> Response<String> + Send + Sync>;

/// The standard services, shared by all connections.
#[derive(Clone)]
pub(super) struct Standard {
    health: Shared,
    reflection: Option<Shared>,
    pages: Pages,
}

impl Standard {
    /// The standard services; reflection shows the contracts of `descriptors`, if there are any.
    pub(super) fn new(
        health: tonic_health::server::HealthReporter,
        descriptors: Option<&[&[u8]]>,
        pages: Pages,
    ) -> Result<Self, tonic_reflection::server::Error> {
        let health = tonic_health::server::HealthService::from_health_reporter(health);
        let health = tonic_health::pb::health_server::HealthServer::new(health);
        let reflection = match descriptors {
            Some(descriptors) => {
                let mut builder = tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
                for encoded in descriptors.iter().copied() {
                    builder = builder.register_encoded_file_descriptor_set(encoded);
                }
                Some(BoxCloneSyncService::new(builder.build_v1()?))
            }
            None => None,
        };
        Ok(Self { health: BoxCloneSyncService::new(health), reflection, pages })
    }

    /// Answers a request that is for none of the contract's own services.
    pub(super) fn answer(
        &self,
        request: Request<Incoming>,
        may_observe: impl FnOnce() -> bool,
    ) -> Answer {
        match service(&request) {
            Some(("grpc.health.v1.Health", _)) => other(self.health.clone().call(request)),
            Some(("grpc.reflection.v1.ServerReflection", _)) => match &self.reflection {
                Some(reflection) => other(reflection.clone().call(request)),
                None => now(Reply::status(Status::unimplemented("reflection is off"))),
            },
            _ if PAGES.contains(&request.uri().path()) => now(if may_observe() {
                let page = (self.pages)(request.uri().path());
                page.map(|text| Reply::Other(Body::new(text)))
            } else {
                Reply::status(Refusal::denied().into())
            }),
            _ => now(Reply::status(Status::unimplemented("no such service"))),
        }
    }
}

/// The service and the method that a request is for.
pub(super) fn service<B>(request: &Request<B>) -> Option<(&str, &str)> {
    request.uri().path().strip_prefix('/')?.split_once('/')
}

/// The number of the gRPC status that a response begins with.
pub(super) fn code(response: &Response<Reply>) -> usize {
    // Failures carry their status in the headers: such replies have no body.
    let status = response.headers().get("grpc-status").and_then(|s| s.to_str().ok());
    status.and_then(|status| status.parse().ok()).unwrap_or(0)
}

pub(super) fn wrap(response: Response<Body>) -> Response<Reply> {
    response.map(Reply::Other)
}

fn now(response: Response<Reply>) -> Answer {
    Box::pin(ready(Ok(response)))
}

fn other(
    call: impl Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
) -> Answer {
    Box::pin(async move { call.await.map(wrap) })
}
