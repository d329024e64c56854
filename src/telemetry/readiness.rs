//! Whether the broker can do its work, and if not, why.
//!
//! Whoever stands in the way holds a [`Blocker`]; dropping it is the only way to clear it. The
//! reason is fixed text and may be told to anybody; the detail may name secrets and is for
//! observers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use tokio::sync::watch;

/// What stands between the broker and its work, shared by all who know.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    blocks: Mutex<Blocks>,
    /// Whether it is ready; told only when that changes.
    ready: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Blocks {
    next: u64,
    standing: BTreeMap<u64, Block>,
    /// Start-up is over once, and never comes back.
    has_started: bool,
}

#[derive(Debug)]
struct Block {
    is_startup: bool,
    reason: &'static str,
    detail: String,
}

/// One reason and how many times it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What is the matter.
    pub reason: &'static str,
    /// How many times.
    pub count: usize,
    /// About what; left out for those who may not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

impl Readiness {
    /// A broker that is starting. Start-up is over when the blocker returned here and all others
    /// from [`block_startup`](Self::block_startup) are dropped.
    pub fn starting() -> (Self, Blocker) {
        let shared = Shared { blocks: Mutex::default(), ready: watch::Sender::new(false) };
        let readiness = Self(Arc::new(shared));
        let blocker = readiness.block_startup("starting", "");
        (readiness, blocker)
    }

    /// Blocks start-up, and with it readiness, until the guard is dropped.
    pub fn block_startup(&self, reason: &'static str, detail: impl Into<String>) -> Blocker {
        self.add(Block { is_startup: true, reason, detail: detail.into() })
    }

    /// Blocks readiness until the guard is dropped.
    pub fn block(&self, reason: &'static str, detail: impl Into<String>) -> Blocker {
        self.add(Block { is_startup: false, reason, detail: detail.into() })
    }

    /// A condition that may come and go; it is good at first.
    pub fn condition(&self, reason: &'static str) -> Condition {
        Condition { readiness: self.clone(), reason, standing: Mutex::default() }
    }

    /// Whether nothing stands in the way.
    pub fn is_ready(&self) -> bool {
        self.0.blocks().standing.is_empty()
    }

    /// Whether start-up is over. Once it is, it stays so.
    pub fn has_started(&self) -> bool {
        self.0.blocks().has_started
    }

    /// All reasons in alphabetical order, with details only if asked for.
    pub fn reasons(&self, with_details: bool) -> Vec<Reason> {
        let mut reasons = BTreeMap::<&'static str, Reason>::new();
        for Block { reason, detail, .. } in self.0.blocks().standing.values() {
            let entry =
                reasons.entry(reason).or_insert(Reason { reason, count: 0, details: Vec::new() });
            entry.count += 1;
            if with_details && !detail.is_empty() {
                entry.details.push(detail.clone());
            }
        }
        reasons.into_values().collect()
    }

    /// Whether it is ready, now and at each change; for the standard health service.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.0.ready.subscribe()
    }

    fn add(&self, block: Block) -> Blocker {
        let mut blocks = self.0.blocks();
        let id = blocks.next;
        blocks.next += 1;
        blocks.standing.insert(id, block);
        self.0.tell(&blocks);
        Blocker { shared: Arc::clone(&self.0), id }
    }
}

impl Shared {
    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Told under the lock, so that the last word is the true one.
    fn tell(&self, blocks: &Blocks) {
        let ready = blocks.standing.is_empty();
        self.ready.send_if_modified(|told| std::mem::replace(told, ready) != ready);
    }
}

/// Stands in the way until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it clears the way"]
pub struct Blocker {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Blocker {
    fn drop(&mut self) {
        let mut blocks = self.shared.blocks();
        blocks.standing.remove(&self.id);
        blocks.has_started |= !blocks.standing.values().any(|block| block.is_startup);
        self.shared.tell(&blocks);
    }
}

/// Something that has to be well, such as the way to the audit log.
#[derive(Debug)]
pub struct Condition {
    readiness: Readiness,
    reason: &'static str,
    standing: Mutex<Option<Blocker>>,
}

impl Condition {
    /// It is not well.
    pub fn fails(&self, detail: impl Into<String>) {
        let blocker = self.readiness.block(self.reason, detail);
        // The new one stands before the old one falls: it is never ready in between.
        let _before = self.standing().replace(blocker);
    }

    /// It is well again.
    pub fn holds(&self) {
        let _before = self.standing().take();
    }

    fn standing(&self) -> MutexGuard<'_, Option<Blocker>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
