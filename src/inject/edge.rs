//! The webhook over HTTPS: `/mutate` and `/validate`, for the API server.
//!
//! Everything is bounded: connections, the time of a handshake and of a request, the size of a body, the life of a
//! connection. Who calls is not known: whoever reaches it can ask about any namespace and service account, and learns which
//! secrets they may have, how these are configured (names and paths, never values), and what the annotations of a namespace
//! have as defaults. A `NetworkPolicy` narrows who reaches it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::review::{Admission, Door};
use crate::{config::inject::Limits, tls::own::LiveServer};

/// The wait after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The time for calls that are under way at the end.
const DRAIN: Duration = Duration::from_secs(5);
/// The least time for a connection on which nothing comes: the API server keeps those for 90 seconds, and a review that it
/// sends while one is closed fails.
const IDLE: Duration = Duration::from_mins(2);
/// The largest request line and headers, in bytes.
const MAX_HEAD: usize = 32 * 1024;
const JSON: &str = "application/json";

/// The edge of the webhook.
pub struct Edge {
    admission: Admission,
    tls: Arc<LiveServer>,
    limits: Limits,
}

impl Edge {
    /// Answers by `admission`.
    pub fn new(admission: Admission, tls: Arc<LiveServer>, limits: Limits) -> Arc<Self> {
        Arc::new(Self { admission, tls, limits })
    }

    /// Serves until `stop` turns true or its sender is dropped, and then lets calls that are under way end.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let mut connections = JoinSet::new();
        let mut stopping = stop.clone();
        loop {
            let place = Arc::clone(&places).acquire_owned();
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => break,
                Some(_) = connections.join_next() => {}
                accepted = async { (place.await, listener.accept().await) } => match accepted {
                    (Ok(place), Ok((stream, _))) => {
                        connections.spawn(Arc::clone(&self).connection(stream, stop.clone(), place));
                    }
                    _ => sleep(ACCEPT_PAUSE).await,
                },
            }
        }
        drop(listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(DRAIN, drained).await;
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        mut stop: watch::Receiver<bool>,
        _place: OwnedSemaphorePermit,
    ) {
        let handshake = TlsAcceptor::from(self.tls.config()).accept(stream);
        let stream = match timeout(self.limits.request_timeout, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::info!(%error, "a TLS handshake failed"),
            Err(_) => return,
        };
        let edge = &self;
        let service = service_fn(async move |request: Request<Incoming>| {
            Ok::<_, Infallible>(edge.respond(request).await)
        });
        let mut server = http1::Builder::new();
        server
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.request_timeout.max(IDLE))
            .max_buf_size(MAX_HEAD);
        let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
        // A caller that breaks off harms nobody.
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = stop.wait_for(|stop| *stop) => {}
            () = sleep(self.limits.connection_time) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = timeout(DRAIN, connection).await;
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<String> {
        let door = match request.uri().path() {
            "/mutate" => Door::Mutate,
            "/validate" => Door::Validate,
            _ => return plain(StatusCode::NOT_FOUND, "not found: /mutate and /validate are here"),
        };
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "a review is posted");
        }
        let content = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if content.and_then(|value| value.split(';').next()).map(str::trim) != Some(JSON) {
            return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a review is application/json");
        }
        let body = match timeout(self.limits.request_timeout, self.body(request)).await {
            Ok(Ok(body)) => body,
            Ok(Err(refused)) => return refused,
            Err(_) => {
                return plain(StatusCode::REQUEST_TIMEOUT, "the review did not arrive in time");
            }
        };
        let begun = Instant::now();
        let answer = self.admission.answer(door, &body).await;
        let metrics = self.admission.metrics();
        metrics.took(begun.elapsed());
        match answer {
            Ok(review) => {
                let mut response = Response::new(review.to_string());
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                response
            }
            Err(malformed) => {
                metrics.malformed();
                tracing::warn!(%malformed, "a request was no review");
                plain(StatusCode::BAD_REQUEST, &malformed.to_string())
            }
        }
    }

    async fn body(&self, request: Request<Incoming>) -> Result<Bytes, Response<String>> {
        let body = Limited::new(request.into_body(), self.limits.request_bytes);
        body.collect().await.map(http_body_util::Collected::to_bytes).map_err(|error| {
            if error.is::<LengthLimitError>() {
                plain(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the review is larger than webhook.limits.request_bytes",
                )
            } else {
                plain(StatusCode::BAD_REQUEST, "the review did not arrive whole")
            }
        })
    }
}

fn plain(code: StatusCode, text: &str) -> Response<String> {
    let mut response = Response::new(text.to_owned());
    *response.status_mut() = code;
    response
}
