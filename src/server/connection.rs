//! One connection: HTTP/2 with bounds, ended when its peer loses trust or the broker stops.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use hyper::{Request, body::Incoming, rt::Executor, server::conn::http2, service::Service};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::sleep,
};
use zeroize::Zeroize;

use super::dispatch::Connection;
use crate::{broker::ports::Clock, config::Limits, tls::LiveTls};

/// The largest header list of a request, in bytes.
const HEADER_BYTES: u32 = 16 * 1024;
/// The most that waits for one slow reader, in bytes.
const SEND_BYTES: usize = 64 * 1024;
/// Streams that a peer may open and reset before they were served.
const PENDING_RESETS: usize = 20;
/// The longest sleep before the clock is read again.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// A byte stream that a connection runs on.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// Set once a connection has made its first request.
pub(super) type Spoke = Arc<AtomicBool>;

/// What a connection's peer was trusted on.
pub(super) struct Trust {
    pub(super) tls: Arc<LiveTls>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) ends_at: Timestamp,
}

impl Trust {
    /// Waits until the peer is not trusted any more: its certificate ended or was revoked, or its
    /// authority is gone.
    async fn lost(self, clock: Arc<dyn Clock>) {
        let mut versions = self.tls.changes();
        loop {
            let left = Duration::try_from(self.ends_at.duration_since(clock.wall()));
            let left = left.unwrap_or_default();
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = sleep(left.min(LONGEST_SLEEP)) => {}
                changed = versions.changed() => {
                    if changed.is_err() || !self.tls.accepts(&self.chain, clock.wall()) {
                        return;
                    }
                }
            }
        }
    }
}

/// Counts the first request, then serves.
struct Serve<C> {
    connection: C,
    spoke: Spoke,
}

impl<C: Connection> Service<Request<Incoming>> for Serve<C> {
    type Response = C::Response;
    type Error = C::Error;
    type Future = C::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.spoke.store(true, Ordering::Relaxed);
        self.connection.call(request)
    }
}

/// How a connection is bounded.
pub(super) struct Terms<'a> {
    pub(super) limits: &'a Limits,
    pub(super) drain: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) shutdown: watch::Receiver<bool>,
}

/// Serves one connection to its end.
pub(super) async fn serve(
    stream: impl Stream,
    connection: impl Connection,
    spoke: Spoke,
    trust: Option<Trust>,
    mut terms: Terms<'_>,
) {
    let turn = Turn::default();
    let io = TokioIo::new(Coalesced::new(stream, turn.clone(), connection.gate()));
    let service = Serve { connection, spoke: Arc::clone(&spoke) };
    let http = builder(terms.limits).serve_connection(io, service);
    let mut http = std::pin::pin!(http);
    let silent = async {
        sleep(terms.limits.handshake_timeout).await;
        if spoke.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let distrusted = async {
        match trust {
            Some(trust) => trust.lost(Arc::clone(&terms.clock)).await,
            None => std::future::pending().await,
        }
    };
    let ends = async {
        tokio::select! {
            () = stopped(&mut terms.shutdown) => {}
            () = silent => {}
            () = distrusted => tracing::info!("a connection is ended: its peer is trusted no more"),
        }
    };
    // Looked at only when woken, and not with each request.
    let mut ends = FuturesUnordered::from_iter([ends]);
    tokio::select! {
        biased;
        // A connection that breaks is its peer's affair.
        _ = turn.each(http.as_mut()) => return,
        _ = ends.next() => {}
    }
    drop(ends);
    http.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(terms.drain, turn.each(http)).await;
}

/// Waits until the broker stops.
pub(super) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Answers a request where it was read, if that needs no waiting, and in a task of its own if it
/// does.
#[derive(Clone, Copy)]
struct AtOnce;

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for AtOnce {
    fn execute(&self, call: F) {
        let mut call = Box::pin(call);
        if call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            TokioExecutor::new().execute(call);
        }
    }
}

fn builder(limits: &Limits) -> http2::Builder<AtOnce> {
    let mut builder = http2::Builder::new(AtOnce);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(HEADER_BYTES)
        .max_send_buf_size(SEND_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .keep_alive_interval(limits.keepalive)
        .keep_alive_timeout(limits.handshake_timeout)
        .auto_date_header(false);
    builder
}

/// Counts the turns in which a connection's task runs.
#[derive(Clone, Default)]
struct Turn(Arc<AtomicU32>);

impl Turn {
    /// A future whose polls are turns.
    fn each<F: Future>(&self, mut future: Pin<&mut F>) -> impl Future<Output = F::Output> {
        poll_fn(move |context| {
            self.0.fetch_add(1, Ordering::Relaxed);
            future.as_mut().poll(context)
        })
    }

    fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream that collects what is written until the turn after it was flushed.
///
/// HTTP/2 writes a reply in several steps, and flushes after each request that it took from what it
/// has read. Collected, the replies to all of them are one TLS record and one system call. What was
/// sent is wiped at once. Nothing is sent unless the gate lets it pass.
struct Coalesced<S, G> {
    stream: S,
    turn: Turn,
    /// The turn of the first flush that waits.
    flushed: Option<u32>,
    gate: G,
    pending: Vec<u8>,
    sent: usize,
}

/// Bytes that are collected before they are sent without a flush.
const COLLECT: usize = 16 * 1024;

impl<S: Stream, G: Fn() -> io::Result<()>> Coalesced<S, G> {
    const fn new(stream: S, turn: Turn, gate: G) -> Self {
        Self { stream, turn, flushed: None, gate, pending: Vec::new(), sent: 0 }
    }

    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.pending.is_empty() {
            (self.gate)()?;
        }
        while let Some(rest) = self.pending.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        self.pending.as_mut_slice().zeroize();
        self.pending.clear();
        self.sent = 0;
        self.flushed = None;
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream, G: Unpin> AsyncRead for Coalesced<S, G> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl<S: Stream, G: Fn() -> io::Result<()> + Unpin> AsyncWrite for Coalesced<S, G> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.pending.len() + buf.len() > COLLECT && !self.pending.is_empty() {
            ready!(self.poll_drain(context))?;
        }
        let taken = buf.len().min(COLLECT);
        self.pending.extend_from_slice(buf.get(..taken).unwrap_or(buf));
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = self.turn.now();
        if !self.pending.is_empty() && *self.flushed.get_or_insert(now) == now {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Writes and flushes in turns of its own.
    async fn in_turns<T>(turn: Turn, future: impl Future<Output = T>) -> T {
        turn.each(std::pin::pin!(future)).await
    }

    #[tokio::test]
    async fn what_is_written_goes_out_whole_in_the_turn_after_the_flush() -> io::Result<()> {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let turn = Turn::default();
        let mut stream = Coalesced::new(near, turn.clone(), || Ok(()));
        for part in ["headers", "data", "trailers"] {
            stream.write_all(part.as_bytes()).await?;
        }
        let mut flush = std::pin::pin!(stream.flush());
        for _ in 0..2 {
            let flushed = poll_fn(|cx| Poll::Ready(flush.as_mut().poll(cx))).await;
            assert!(flushed.is_pending(), "it is one turn still");
        }
        let mut seen = [0; 64];
        let nothing = tokio::time::timeout(Duration::from_millis(5), far.read(&mut seen)).await;
        assert!(nothing.is_err(), "nothing goes out in that turn");
        in_turns(turn, flush).await?;
        let len = far.read(&mut seen).await?;
        assert_eq!(&seen[..len], b"headersdatatrailers");
        Ok(())
    }

    #[tokio::test]
    async fn nothing_passes_a_closed_gate() -> io::Result<()> {
        let (near, mut far) = tokio::io::duplex(1000);
        let mut stream = Coalesced::new(near, Turn::default(), || Err(io::Error::other("closed")));
        stream.write_all(b"reply").await?;
        assert!(stream.shutdown().await.is_err());
        drop(stream);
        let mut seen = Vec::new();
        far.read_to_end(&mut seen).await?;
        assert!(seen.is_empty());
        Ok(())
    }

    #[tokio::test]
    async fn more_than_is_collected_arrives_in_order() -> io::Result<()> {
        let (near, mut far) = tokio::io::duplex(1000);
        let sent = (0..200_000_u32).map(|i| (i % 251) as u8).collect::<Vec<_>>();
        let expected = sent.clone();
        let writer = async move {
            let mut stream = Coalesced::new(near, Turn::default(), || Ok(()));
            stream.write_all(&sent).await?;
            stream.shutdown().await
        };
        let mut seen = Vec::new();
        let (written, read) = tokio::join!(writer, far.read_to_end(&mut seen));
        written?;
        read?;
        assert!(seen == expected);
        Ok(())
    }
}
