//! A handle that always holds the current version of a secret.
//!
//! - A read is a read of a pointer: no call, no lock.
//! - Hooks are told of each new version once, and the broker of it once all hooks took it over.
//! - What was held last stays when the broker goes away, and when it can give none: [`Live::standing`] says so.
//! - One task a secret watches the broker; it ends with the last handle.

use std::{
    collections::HashMap,
    fmt,
    future::{Future, IntoFuture},
    pin::{Pin, pin},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::stream::{FuturesOrdered, Stream, StreamExt, unfold};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use crate::{
    BoxError, Client, Error, Event, Hook, Outcome, Reason, Secret, Watch,
    backoff::{Backoff, LAST_BOUND},
    hooks::Hooks,
};

/// The current version of one secret, at any time.
///
/// Cheap to clone; clones are the same handle. It is closed when the last one is dropped.
#[derive(Clone)]
pub struct Live {
    current: Arc<ArcSwap<Secret>>,
    kept: Arc<Kept>,
}

/// How a live secret stands at the broker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Standing {
    /// The broker serves the version that is held.
    Served,
    /// The version that is held must not be used any more.
    Revoked(Reason),
    /// The broker can give no value now; the version that is held may have ended.
    Unavailable(Error),
}

/// A handle on its way: awaits the first version.
#[must_use = "await it"]
pub struct Opening {
    client: Client,
    name: String,
    deadline: Duration,
    acknowledge: bool,
}

/// The live secrets of a client and its clones, by name.
#[derive(Clone, Default)]
pub(crate) struct Lives(Arc<Mutex<HashMap<String, Weak<Kept>>>>);

/// What all handles of one secret share; its end is the end of the task.
struct Kept {
    name: String,
    client: Client,
    board: Arc<Board>,
    task: AbortHandle,
}

/// Where the task writes and handles read.
#[derive(Default)]
struct Board {
    current: OnceLock<Arc<ArcSwap<Secret>>>,
    hooks: Arc<Hooks>,
    told: watch::Sender<Told>,
}

#[derive(Clone, Default)]
struct Told {
    generation: u64,
    /// `None` before anything was heard of the secret.
    standing: Option<Standing>,
    /// Waiting on is of no use.
    fatal: bool,
}

impl Live {
    /// The name in the broker's catalogue.
    pub fn name(&self) -> &str {
        &self.kept.name
    }

    /// The current version. Holding on to it keeps it from being wiped.
    pub fn current(&self) -> Arc<Secret> {
        self.current.load_full()
    }

    /// Reads the current version where it is: the cheapest read of all.
    pub fn with<R>(&self, read: impl FnOnce(&Secret) -> R) -> R {
        read(&self.current.load())
    }

    /// The current generation.
    pub fn generation(&self) -> u64 {
        self.current.load().generation()
    }

    /// How the secret stands at the broker.
    pub fn standing(&self) -> Standing {
        self.kept.board.told.borrow().standing.clone().unwrap_or(Standing::Served)
    }

    /// Waits for a version later than this generation. Cancel safe.
    pub async fn after(&self, generation: u64) -> Arc<Secret> {
        let mut told = self.kept.board.told.subscribe();
        // The sender lives in `self`, so this can't end early.
        let _ = told.wait_for(|told| told.generation > generation).await;
        self.current()
    }

    /// Tells the broker that the target refused a version, and what it said, so that the broker fetches a fresh one;
    /// waits for that until the client's deadline. Whether there is another.
    pub async fn refused(&self, secret: &Secret, detail: &str) -> bool {
        let client = &self.kept.client;
        if client.report(secret, Outcome::Refused(detail)).await.is_ok() {
            let _ = timeout(client.deadline(), self.after(secret.generation())).await;
        }
        self.generation() > secret.generation()
    }

    /// Calls `hook` with each new version, from now on. It is called at the change, must not block, and returns
    /// a future that ends once the application uses nothing older any more. The version is acknowledged when
    /// the futures of all hooks ended well: then the broker may revoke its predecessors. Hooks skip no version;
    /// of those that a slow one keeps waiting only the latest is acknowledged, and none is held for it here.
    pub fn on_change<F, R>(&self, hook: F) -> Hook
    where
        F: Fn(Arc<Secret>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.kept.board.hooks.add(hook)
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("current", &self.current.load())
            .field("standing", &self.standing())
            .finish_non_exhaustive()
    }
}

impl Opening {
    pub(crate) fn new(client: Client, name: String, deadline: Duration) -> Self {
        Self { client, name, deadline, acknowledge: true }
    }

    /// The time to wait for the first version; the client's deadline unless told.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Leaves it to the caller to report what became of versions by [`Client::report`]. Of handles that are the same, the
    /// first one decides.
    pub fn without_reports(mut self) -> Self {
        self.acknowledge = false;
        self
    }

    async fn first(self) -> Result<Live, Error> {
        let client = self.client.with_deadline(self.deadline);
        let kept = client.lives.clone().get_or_keep(&self.name, || {
            let board = Arc::new(Board::default());
            let keeping =
                keep(self.client.clone(), self.name.clone(), Arc::clone(&board), self.acknowledge);
            let task = tokio::spawn(keeping).abort_handle();
            Kept { name: self.name.clone(), client: self.client.clone(), board, task }
        });
        let mut told = kept.board.told.subscribe();
        let settled = told.wait_for(|told| told.generation > 0 || told.fatal);
        let _ = timeout(self.deadline, settled).await;
        if let Some(current) = kept.board.current.get() {
            return Ok(Live { current: Arc::clone(current), kept });
        }
        let standing = kept.board.told.borrow().standing.clone();
        Err(match standing {
            Some(Standing::Unavailable(error)) => error,
            Some(Standing::Revoked(reason)) => Error::Refused {
                reason,
                message: format!("{} was withdrawn before it could be read", self.name),
                retry_after: None,
            },
            // Nothing came, so the way to the broker is what there is to tell of.
            _ => client.unheard(),
        })
    }
}

impl IntoFuture for Opening {
    type Output = Result<Live, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.first())
    }
}

impl Lives {
    fn get_or_keep(&self, name: &str, keep: impl FnOnce() -> Kept) -> Arc<Kept> {
        let mut lives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = lives.get(name).and_then(Weak::upgrade)
            && !kept.task.is_finished()
        {
            return kept;
        }
        lives.retain(|_, kept| kept.strong_count() > 0);
        let kept = Arc::new(keep());
        lives.insert(name.to_owned(), Arc::downgrade(&kept));
        kept
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Board {
    /// Shows what an event tells; returns a version that hooks have to take over.
    fn show(&self, event: Event) -> Option<Arc<Secret>> {
        let standing = match event {
            Event::Revoked { reason, .. } => Standing::Revoked(reason),
            Event::Unavailable { error, .. } => Standing::Unavailable(error),
            Event::Current(secret)
            | Event::Rotated(secret)
            | Event::Renewed(secret)
            | Event::Expiring(secret)
            | Event::Stale(secret)
            | Event::Recovered(secret) => return self.hold(secret),
        };
        self.told.send_modify(|told| told.standing = Some(standing));
        None
    }

    fn hold(&self, secret: Secret) -> Option<Arc<Secret>> {
        let secret = Arc::new(secret);
        let generation = secret.generation();
        let before = self.current.get().map(|current| current.swap(Arc::clone(&secret)));
        if before.is_none() {
            let _ = self.current.set(Arc::new(ArcSwap::new(Arc::clone(&secret))));
        }
        let standing = Some(Standing::Served);
        self.told.send_replace(Told { generation, standing, fatal: false });
        before.filter(|before| before.generation() != generation).map(|_| secret)
    }

    /// The version of this generation, while it is the current one.
    fn still(&self, generation: u64) -> Option<Arc<Secret>> {
        let current = self.current.get().map(|current| current.load_full());
        current.filter(|current| current.generation() == generation)
    }

    /// The watch ended: the broker will not serve this secret to us as things are.
    fn ended(&self, error: Error) {
        self.told.send_modify(|told| {
            told.standing = Some(Standing::Unavailable(error));
            told.fatal = true;
        });
    }

    fn watch(&self, client: &Client, name: &str) -> Watch {
        let watch = client.watch([name]);
        // Of a version that is not served the watch has to tell that it is served again.
        match self.current.get().filter(|_| !self.told.borrow().fatal) {
            Some(current) => watch.holding([&**current.load()]),
            None => watch,
        }
    }
}

/// Follows one secret for as long as it is wanted.
async fn keep(client: Client, name: String, board: Arc<Board>, acknowledge: bool) {
    // In the order of the versions: an acknowledgement speaks for all that came before it.
    let mut takings = FuturesOrdered::new();
    let mut reports = JoinSet::new();
    let mut events = pin!(events(&client, &name, &board));
    loop {
        tokio::select! {
            Some(event) = events.next() => match event {
                Ok(event) => {
                    if let Some(secret) = board.show(event) {
                        takings.push_back(board.hooks.begin(&secret));
                    }
                }
                Err(error) => board.ended(error),
            },
            Some(taken) = takings.next(), if !takings.is_empty() => {
                if let Some(secret) = taken.filter(|_| acknowledge).and_then(|taken| board.still(taken)) {
                    reports.spawn(report(client.clone(), secret, Arc::clone(&board)));
                }
            }
            Some(_) = reports.join_next(), if !reports.is_empty() => {}
            else => return,
        }
    }
}

/// What the broker tells of one secret, without an end.
fn events(client: &Client, name: &str, board: &Board) -> impl Stream<Item = Result<Event, Error>> {
    unfold(board.watch(client, name), move |mut watch| async move {
        loop {
            if let Some(event) = watch.next().await {
                return Some((event, watch));
            }
            // The broker ended it for good, such as by a grant taken away; that may come back.
            sleep(LAST_BOUND).await;
            watch = board.watch(client, name);
        }
    })
}

/// Lets the broker revoke the versions before, however often it has to be told.
async fn report(client: Client, secret: Arc<Secret>, board: Arc<Board>) {
    let mut backoff = Backoff::default();
    while board.told.borrow().generation == secret.generation() {
        match client.report(&secret, Outcome::Applied).await {
            Err(error) if error.is_transient() => sleep(backoff.after(Some(&error))).await,
            _ => return,
        }
    }
}
