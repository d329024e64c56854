//! A closed loop of reads over TLS connections: each caller asks again once it was answered.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request,
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::{
    Message,
    bytes::{BufMut, Bytes, BytesMut},
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{certificates, process};

/// What is asked for.
#[derive(Clone)]
pub enum Ask {
    /// A gRPC method with its framed request.
    Grpc { method: &'static str, frame: Bytes },
    /// A path of Vault's API.
    Http { path: String },
}

impl Ask {
    pub fn grpc(method: &'static str, message: &impl Message) -> Self {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.encoded_len()).unwrap());
        message.encode(&mut frame).unwrap();
        Self::Grpc { method, frame: frame.freeze() }
    }

    fn request(&self, address: SocketAddr) -> Request<Full<Bytes>> {
        match self {
            Self::Grpc { method, frame } => Request::builder()
                .method(Method::POST)
                .uri(format!("https://localhost/secretbroker.v1.SecretBroker/{method}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Full::new(frame.clone())),
            Self::Http { path } => Request::builder()
                .uri(format!("https://{address}/v1/{path}"))
                .header("host", address.to_string())
                .body(Full::default()),
        }
        .unwrap()
    }
}

/// Whom to ask.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: Arc<ClientConfig>,
    pub ask: Ask,
}

impl Target {
    pub fn new(address: SocketAddr, directory: &Path, ask: Ask) -> Self {
        let protocols: &[&str] = match ask {
            Ask::Grpc { .. } => &["h2"],
            Ask::Http { .. } => &["h2", "http/1.1"],
        };
        Self { address, tls: certificates::client(directory, protocols), ask }
    }

    pub async fn connect(&self) -> Result<Connection, Box<dyn std::error::Error>> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await?;
        let multiplexed = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(tls);
        Ok(if multiplexed {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Connection::Many(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            Connection::One(sender)
        })
    }

    /// Asks once, on a connection of its own.
    pub async fn once(&self) -> Result<Bytes, Box<dyn std::error::Error>> {
        self.connect().await?.read(self).await
    }
}

pub enum Connection {
    /// HTTP/1.1: one call at a time.
    One(http1::SendRequest<Full<Bytes>>),
    /// HTTP/2: many calls.
    Many(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// One more caller on the same connection, where the protocol has that.
    pub fn share(&self) -> Option<Self> {
        match self {
            Self::One(_) => None,
            Self::Many(sender) => Some(Self::Many(sender.clone())),
        }
    }

    pub async fn open(&mut self, target: &Target) -> hyper::Result<hyper::Response<Incoming>> {
        let request = target.ask.request(target.address);
        match self {
            Self::One(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Many(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Asks, and reads the whole answer. Anything but success is an error.
    pub async fn read(&mut self, target: &Target) -> Result<Bytes, Box<dyn std::error::Error>> {
        let response = self.open(target).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().and_then(|t| t.get("grpc-status")).cloned();
        let code = head.headers.get("grpc-status").cloned().or(trailers);
        let grpc = matches!(target.ask, Ask::Grpc { .. });
        if !head.status.is_success() || (grpc && code.is_none_or(|code| code != "0")) {
            return Err(format!("{} {:?}", head.status, body.to_bytes()).into());
        }
        Ok(body.to_bytes())
    }
}

/// How the callers are spread.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    pub connections: usize,
    pub in_flight: usize,
}

pub struct Sample {
    pub reads: usize,
    pub cpu: Duration,
    pub wall: Duration,
    /// Sorted.
    pub latencies: Vec<Duration>,
}

impl Sample {
    pub fn cpu_per_read(&self) -> Duration {
        self.cpu / u32::try_from(self.reads.max(1)).unwrap()
    }

    pub fn quantile(&self, q: f64) -> Duration {
        let last = self.latencies.len() - 1;
        self.latencies[(last as f64 * q).round() as usize]
    }
}

/// Loads a server for a time, after a shorter time that is not counted. Where a connection carries
/// one call at a time, each call in flight has a connection of its own.
pub async fn load(target: &Target, pid: u32, pattern: Pattern, time: Duration) -> Sample {
    let mut callers = Vec::new();
    for _ in 0..pattern.connections {
        let first = target.connect().await.expect("a connection");
        for _ in 1..pattern.in_flight {
            callers.push(match first.share() {
                Some(shared) => shared,
                None => target.connect().await.expect("a connection"),
            });
        }
        callers.push(first);
    }
    let warm = Instant::now() + time / 4;
    let end = warm + time;
    let callers = callers.into_iter().map(|mut caller| {
        let target = target.clone();
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let asked = Instant::now();
                if asked >= end {
                    return latencies;
                }
                caller.read(&target).await.expect("an answer");
                if asked >= warm {
                    latencies.push(asked.elapsed());
                }
            }
        })
    });
    let callers = callers.collect::<Vec<_>>();
    tokio::time::sleep_until(warm.into()).await;
    let (began, before) = (Instant::now(), process::cpu(pid));
    tokio::time::sleep_until(end.into()).await;
    let (wall, cpu) = (began.elapsed(), process::cpu(pid) - before);
    let mut latencies = Vec::new();
    for caller in callers {
        latencies.extend(caller.await.unwrap());
    }
    latencies.sort_unstable();
    Sample { reads: latencies.len(), cpu, wall, latencies }
}
