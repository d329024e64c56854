//! The yardstick: a tonic service that answers every call with the same reply, over tonic's own mTLS.

use std::{
    convert::Infallible,
    fs,
    future::{Ready, ready},
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::FutureExt;
use prost::Message;
use secret_broker_client::proto::{GetSecretRequest, GetSecretResponse};
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};
use tonic_prost::ProstCodec;
use tower::Service;

/// The first argument of the program as echo server; a flavor and a directory follow.
pub const ROLE: &str = "serve-echo";
pub const CURRENT_THREAD: &str = "current-thread";
pub const MULTI_THREAD: &str = "multi-thread";

#[derive(Clone)]
struct Echo(Arc<GetSecretResponse>);

impl UnaryService<GetSecretRequest> for Echo {
    type Response = GetSecretResponse;
    type Future = Ready<Result<Response<GetSecretResponse>, Status>>;

    fn call(&mut self, _: Request<GetSecretRequest>) -> Self::Future {
        ready(Ok(Response::new(GetSecretResponse::clone(&self.0))))
    }
}

impl Service<hyper::Request<Body>> for Echo {
    type Response = hyper::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: hyper::Request<Body>) -> Self::Future {
        let service = self.clone();
        async move {
            let codec = ProstCodec::<GetSecretResponse, GetSecretRequest>::default();
            Ok(Grpc::new(codec).unary(service, request).await)
        }
        .boxed()
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "secretbroker.v1.SecretBroker";
}

/// Serves `reply.bin` at the address in `echo-FLAVOR.address` until it is ended.
pub fn serve(flavor: &str, directory: &Path) {
    let runtime = match flavor {
        CURRENT_THREAD => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        _ => tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build(),
    };
    let read = |name: &str| fs::read(directory.join(name)).unwrap();
    let reply = GetSecretResponse::decode(&*read("reply.bin")).unwrap();
    let address = String::from_utf8(read(&format!("echo-{flavor}.address"))).unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read("server.pem"), read("server.key")))
        .client_ca_root(Certificate::from_pem(read("ca.pem")));
    let server = async {
        let mut server = Server::builder().tls_config(tls).unwrap();
        server.add_service(Echo(Arc::new(reply))).serve(address).await
    };
    runtime.unwrap().block_on(server).unwrap();
}
