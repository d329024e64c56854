//! `/livez`, `/readyz` and `/startupz` over plain HTTP, for the kubelet.
//!
//! Anybody can reach this port: it tells fixed reasons and counts, no names and no metrics. It has
//! its own small limits, so that it answers while the gRPC listener is full.

use std::{convert::Infallible, future::ready, io, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use super::readiness::{Readiness, Reason};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Connections at once; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 32;
/// The life of a connection, which serves one request.
const CONNECTION_TIME: Duration = Duration::from_secs(5);
/// The largest request line and headers, in bytes.
const MAX_HEAD: usize = 8 * 1024;
/// The wait after a failure to accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The body of an answer.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<Reason>,
}

/// Serves health for as long as it is polled.
pub async fn serve(listener: TcpListener, readiness: Readiness) -> Infallible {
    serve_with(listener, readiness, || None).await
}

/// The same with a page of metrics, for a program whose metrics name nobody.
pub async fn serve_with(
    listener: TcpListener,
    readiness: Readiness,
    metrics: impl Fn() -> Option<String>,
) -> Infallible {
    let mut connections = FuturesUnordered::new();
    loop {
        let has_room = connections.len() < MAX_CONNECTIONS;
        tokio::select! {
            accepted = accept(&listener), if has_room => {
                if let Ok(stream) = accepted {
                    connections.push(timeout(CONNECTION_TIME, answer(stream, &readiness, &metrics)));
                }
            }
            Some(_) = connections.next() => {}
        }
    }
}

async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => Ok(stream),
        Err(error) => {
            sleep(ACCEPT_PAUSE).await;
            Err(error)
        }
    }
}

async fn answer(stream: TcpStream, readiness: &Readiness, metrics: &impl Fn() -> Option<String>) {
    let service = service_fn(|request: Request<Incoming>| {
        ready(Ok::<_, Infallible>(respond(
            request.method(),
            request.uri().path(),
            readiness,
            metrics,
        )))
    });
    let mut server = http1::Builder::new();
    server.keep_alive(false).max_buf_size(MAX_HEAD);
    // A client that breaks off harms nobody.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

fn respond(
    method: &Method,
    path: &str,
    readiness: &Readiness,
    metrics: &impl Fn() -> Option<String>,
) -> Response<String> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return reply(StatusCode::METHOD_NOT_ALLOWED, "method not allowed", Vec::new());
    }
    let reasons = || readiness.reasons(false);
    match path {
        // Answered by the runtime that serves the secrets: stuck with it, well with it.
        "/livez" => reply(StatusCode::OK, "alive", Vec::new()),
        "/readyz" => ready_page(readiness, false),
        "/startupz" if readiness.has_started() => reply(StatusCode::OK, "started", Vec::new()),
        "/startupz" => reply(StatusCode::SERVICE_UNAVAILABLE, "starting", reasons()),
        "/metrics" => match metrics() {
            Some(page) => metrics_page(page),
            None => reply(StatusCode::NOT_FOUND, "not found", Vec::new()),
        },
        _ => reply(StatusCode::NOT_FOUND, "not found", Vec::new()),
    }
}

/// Whether the broker is ready and why not; the details are for observers only.
pub fn ready_page(readiness: &Readiness, with_details: bool) -> Response<String> {
    if readiness.is_ready() {
        return reply(StatusCode::OK, "ready", Vec::new());
    }
    reply(StatusCode::SERVICE_UNAVAILABLE, "not ready", readiness.reasons(with_details))
}

/// The page of metrics.
pub fn metrics_page(text: String) -> Response<String> {
    let mut page = Response::new(text);
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OPENMETRICS));
    page
}

fn reply(code: StatusCode, status: &'static str, reasons: Vec<Reason>) -> Response<String> {
    // Static texts and numbers always serialise.
    let body = serde_json::to_string(&Health { status, reasons }).unwrap_or_default();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
