//! A small HTTP server whose answers a test decides, which remembers what it was asked.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

use http_body_util::{BodyExt, Collected, Full};
use hyper::{Request, Response, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Call {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn query(&self, name: &str) -> &str {
        self.query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// A status and a body.
pub type Reply = (u16, String);

pub struct Api {
    pub port: u16,
    calls: Arc<Mutex<Vec<Call>>>,
    broken: Arc<AtomicU16>,
    task: JoinHandle<()>,
}

impl Api {
    pub async fn start(answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let broken = Arc::new(AtomicU16::new(0));
        let answer = Arc::new(answer);
        let (seen, status) = (Arc::clone(&calls), Arc::clone(&broken));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen, status) =
                    (Arc::clone(&answer), Arc::clone(&seen), Arc::clone(&status));
                let service = service_fn(move |request| {
                    let (answer, seen, status) =
                        (Arc::clone(&answer), Arc::clone(&seen), Arc::clone(&status));
                    async move {
                        let call = read(request).await;
                        seen.lock().expect("the calls").push(call.clone());
                        let (code, body) = match status.load(Ordering::SeqCst) {
                            0 => answer(&call),
                            code => (code, String::new()),
                        };
                        let response = Response::builder().status(code);
                        let body = Full::new(Bytes::from(body));
                        Ok::<_, Infallible>(response.body(body).expect("a response"))
                    }
                });
                let serve = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                // Connections end with the server.
                connections.spawn(async move { drop(serve.await) });
            }
        });
        Self { port, calls, broken, task }
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Answers everything with this status; 0 to be well again.
    pub fn breaks(&self, status: u16) {
        self.broken.store(status, Ordering::SeqCst);
    }

    /// What it was asked so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("the calls").clone()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(request: Request<hyper::body::Incoming>) -> Call {
    let (head, body) = request.into_parts();
    let url = reqwest::Url::parse(&format!("http://here{}", head.uri)).expect("a URL");
    let headers = head.headers.iter();
    let headers = headers.map(|(name, value)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let headers = headers.collect();
    let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    Call {
        method: head.method.to_string(),
        path: url.path().to_owned(),
        query: url.query_pairs().into_owned().collect(),
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}
