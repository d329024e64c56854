//! A watch that never ends by itself: it reconnects and resumes from what it has seen.
//!
//! - Each version is yielded once, and none is missed but such as were replaced while the reader slept.
//! - An error is yielded only when trying again can't help; it ends the watch.
//! - Attempts are spread, and wait as long as the broker asks.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use tokio::time::{Sleep, sleep};
use tonic::{Response, Status, Streaming};

use crate::{
    Client, Error, Event, Secret,
    backoff::Backoff,
    proto::{WatchSecretsRequest, WatchSecretsResponse},
    watched::Ledger,
};

/// A stream of changes; nothing happens until it is polled.
#[must_use = "a watch does nothing until it is polled"]
pub struct Watch {
    client: Client,
    names: Vec<String>,
    seen: Ledger,
    ready: VecDeque<Event>,
    backoff: Backoff,
    phase: Phase,
}

type Opening = Pin<Box<dyn Future<Output = Result<Response<Messages>, Status>> + Send>>;
type Messages = Streaming<WatchSecretsResponse>;

enum Phase {
    Closed,
    Opening(Opening),
    Open(Box<Messages>),
    Waiting(Pin<Box<Sleep>>),
    Ended,
}

impl Watch {
    pub(crate) fn new(client: Client, names: Vec<String>) -> Self {
        Self {
            client,
            names,
            seen: Ledger::default(),
            ready: VecDeque::new(),
            backoff: Backoff::default(),
            phase: Phase::Closed,
        }
    }

    /// Versions that the caller holds already: the watch starts after them.
    pub fn holding<'a>(mut self, secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        secrets.into_iter().for_each(|secret| self.seen.note(secret));
        self
    }

    /// The next event. Loses nothing when dropped before it is ready.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn open(&self) -> Opening {
        let request = WatchSecretsRequest {
            names: self.names.clone(),
            seen_generations: self.seen.generations().collect(),
        };
        let mut stub = self.client.stub();
        Box::pin(async move { stub.watch_secrets(request).await })
    }

    /// Waits before the next attempt, or gives the error back where that is of no use.
    fn interrupted(&mut self, status: Option<&Status>) -> Option<Error> {
        let error = status.map(|status| self.client.explain(status));
        let wait = self.backoff.after(error.as_ref());
        if let Some(fatal) = error.filter(|error| !error.is_transient()) {
            self.phase = Phase::Ended;
            return Some(fatal);
        }
        self.phase = Phase::Waiting(Box::pin(sleep(wait)));
        None
    }
}

impl Stream for Watch {
    type Item = Result<Event, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let watch = self.get_mut();
        loop {
            if let Some(event) = watch.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            let interruption = match &mut watch.phase {
                Phase::Ended => return Poll::Ready(None),
                Phase::Waiting(wait) => {
                    ready!(wait.as_mut().poll(cx));
                    watch.phase = Phase::Closed;
                    continue;
                }
                Phase::Closed => {
                    watch.phase = Phase::Opening(watch.open());
                    continue;
                }
                Phase::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(opened) => {
                        watch.phase = Phase::Open(Box::new(opened.into_inner()));
                        continue;
                    }
                    Err(status) => Some(status),
                },
                Phase::Open(messages) => match ready!(Pin::new(messages).poll_next(cx)) {
                    Some(Ok(message)) => {
                        watch.backoff.reset();
                        watch.ready.extend(watch.seen.take(message));
                        continue;
                    }
                    Some(Err(status)) => Some(status),
                    None => None,
                },
            };
            if let Some(fatal) = watch.interrupted(interruption.as_ref()) {
                return Poll::Ready(Some(Err(fatal)));
            }
        }
    }
}
