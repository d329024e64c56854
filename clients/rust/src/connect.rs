//! Opens connections to the broker for the HTTP/2 channel: mTLS on TCP, or a Unix socket.
//!
//! A broker that refuses our certificate says so after the handshake, when HTTP/2 runs already and swallows the
//! cause; the connector therefore keeps the last failure of its streams for [`Failures::last`]. It is forgotten when the
//! broker answers, not when the next attempt begins: that may be before anybody asked.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::transport::Uri;
use tower::Service;

use crate::{Address, Error, tls::Certificates};

/// Why the last connection could not be made or broke.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The two sides do not accept each other.
    Tls(String),
    /// The network's or the broker's doing.
    Network(String),
}

/// The last failure of a connector's streams.
#[derive(Clone, Default)]
pub(crate) struct Failures(Arc<Mutex<Option<Failure>>>);

impl Failures {
    pub(crate) fn last(&self) -> Option<Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, failure: Option<Failure>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    fn observe(&self, error: &io::Error) {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        self.set(Some(match tls {
            Some(error) => Failure::Tls(error.to_string()),
            None => Failure::Network(error.to_string()),
        }));
    }
}

/// Opens connections to one address.
#[derive(Clone)]
pub(crate) struct Connector {
    target: Arc<Target>,
    failures: Failures,
}

struct Target {
    address: Address,
    tls: Option<(ServerName<'static>, Arc<Certificates>)>,
    timeout: Duration,
}

impl Connector {
    pub(crate) fn new(
        address: Address,
        server_name: Option<String>,
        certificates: Option<Certificates>,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let tls = match (&address, certificates) {
            (Address::Tls { host, .. }, Some(certificates)) => {
                let name = server_name.unwrap_or_else(|| host.clone());
                let name = ServerName::try_from(name.clone()).map_err(|_| {
                    Error::Configuration(format!("`{name}` is no DNS name and no IP address"))
                })?;
                Some((name, Arc::new(certificates)))
            }
            _ => None,
        };
        let target = Arc::new(Target { address, tls, timeout });
        Ok(Self { target, failures: Failures::default() })
    }

    pub(crate) fn failures(&self) -> Failures {
        self.failures.clone()
    }
}

impl Target {
    async fn open(&self) -> io::Result<Box<dyn Stream>> {
        match &self.address {
            Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Address::Tls { host, port } => {
                let tcp = TcpStream::connect((host.as_str(), *port)).await?;
                tcp.set_nodelay(true)?;
                let (name, certificates) = self.tls.as_ref().ok_or(io::ErrorKind::Unsupported)?;
                let certificates = Arc::clone(certificates);
                let config = tokio::task::spawn_blocking(move || certificates.current())
                    .await
                    .map_err(io::Error::other)?
                    .map_err(|detail| io::Error::other(rustls::Error::General(detail)))?;
                Ok(Box::new(TlsConnector::from(config).connect(name.clone(), tcp).await?))
            }
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Observed>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { target, failures } = self.clone();
        Box::pin(async move {
            let opened = timeout(target.timeout, target.open()).await;
            let tls = target.tls.is_some();
            match opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => Ok(TokioIo::new(Observed { stream, failures, answered: false, tls })),
                Err(error) => {
                    failures.observe(&error);
                    Err(error)
                }
            }
        })
    }
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A stream whose failure is kept.
pub(crate) struct Observed {
    stream: Box<dyn Stream>,
    failures: Failures,
    /// The broker sent something, so it accepts us.
    answered: bool,
    tls: bool,
}

impl Observed {
    fn note(&mut self, polled: &Poll<io::Result<()>>, received: bool) {
        match polled {
            Poll::Ready(Err(error)) => self.broke(error),
            Poll::Ready(Ok(())) if received && !self.answered => {
                self.answered = true;
                self.failures.set(None);
            }
            _ => {}
        }
    }

    /// A write fails when the other side went away: why it did may be there to be read.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled {
            let mut rest = [0; 64];
            match Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut rest)) {
                Poll::Ready(Err(reason)) => self.broke(&reason),
                _ => self.broke(error),
            }
        }
        polled
    }

    /// A broker that refuses our certificate closes the connection, and its alert may be lost over that; one that
    /// accepts it says something first.
    fn broke(&self, error: &io::Error) {
        let closed = matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        );
        if self.tls && !self.answered && closed {
            let detail = "the broker closed the connection after the handshake, as it does when it \
                          does not accept the certificate";
            self.failures.set(Some(Failure::Tls(detail.to_owned())));
        } else {
            self.failures.observe(error);
        }
    }
}

impl AsyncRead for Observed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.note(&polled, buf.filled().len() > before);
        polled
    }
}

impl AsyncWrite for Observed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
