//! The broker: the catalogue of secrets and the keepers of those that are alive.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::{future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use moka::future::Cache;
use tokio::{
    sync::{broadcast, mpsc, watch},
    task::JoinSet,
};

use super::{
    keeper::Keeper,
    kept::Kept,
    monitoring::Monitoring,
    observe::Observer,
    ports::{Clock, Origin},
    snapshot::{Shared, Snapshot},
    watch::{BACKLOG, Notice, Scope, Watch},
};
use crate::domain::{
    life::{Event, Held, Life, Terms},
    secret::{Generation, SecretName},
    time::{Jitter, Moment},
};

/// A secret of the catalogue with the place it comes from.
#[derive(Clone)]
pub struct Entry {
    /// Its category.
    pub category: Arc<str>,
    /// How it is kept.
    pub terms: Terms,
    /// Where it comes from.
    pub origin: Arc<dyn Origin>,
    /// Changes exactly when `origin` leads elsewhere than the one before, under the same name.
    pub place: u64,
}

/// The secrets by name.
pub type Catalogue = BTreeMap<SecretName, Entry>;

/// What an earlier run held of one secret: the current version and those that overlapped it.
pub type Restored = (Held, Vec<(Held, Moment)>);

/// Keeps and serves the secrets of a catalogue.
pub struct Broker {
    catalogue: ArcSwap<Catalogue>,
    alive: Cache<SecretName, Arc<Kept>>,
    clock: Arc<dyn Clock>,
    seed: AtomicU64,
    notices: broadcast::Sender<Notice>,
    /// Takes keepers until the broker stops.
    keepers: ArcSwapOption<mpsc::UnboundedSender<BoxFuture<'static, bool>>>,
    changes: watch::Sender<()>,
    monitoring: Monitoring,
    observer: Arc<dyn Observer>,
    watches_ended: AtomicBool,
}

/// Runs the keepers.
pub struct Keepers(mpsc::UnboundedReceiver<BoxFuture<'static, bool>>);

impl Keepers {
    /// Runs every keeper until the broker is stopped, or dropped, and all have left. Answers whether those that were
    /// there at the end left no lease behind.
    pub async fn run(mut self) -> bool {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                keeper = self.0.recv() => match keeper {
                    Some(keeper) => drop(tasks.spawn(keeper)),
                    None => break,
                },
                Some(_) = tasks.join_next() => {}
            }
        }
        let mut clean = true;
        while let Some(left) = tasks.join_next().await {
            clean &= left.unwrap_or(false);
        }
        clean
    }
}

impl Broker {
    /// A broker of at most `capacity` live secrets, with an empty catalogue. `seed` makes its
    /// jitter differ from that of other pods.
    pub fn new(
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
        capacity: u64,
        seed: u64,
    ) -> (Arc<Self>, Keepers) {
        let (keepers, running) = mpsc::unbounded_channel();
        let broker = Self {
            catalogue: ArcSwap::default(),
            alive: Cache::builder()
                .max_capacity(capacity)
                .eviction_policy(moka::policy::EvictionPolicy::lru())
                .eviction_listener(|_, kept: Arc<Kept>, _| kept.inbox.stop(true))
                .build(),
            clock,
            seed: AtomicU64::new(seed),
            notices: broadcast::Sender::new(BACKLOG),
            keepers: ArcSwapOption::from_pointee(keepers),
            changes: watch::Sender::new(()),
            monitoring: Monitoring::default(),
            observer,
            watches_ended: AtomicBool::new(false),
        };
        (Arc::new(broker), Keepers(running))
    }

    /// Takes over a catalogue: secrets that left it are withdrawn, those that moved are fetched
    /// from their new place while the old version overlaps, the others keep what they hold.
    pub async fn load(&self, catalogue: Catalogue, mut restored: BTreeMap<SecretName, Restored>) {
        let catalogue = Arc::new(catalogue);
        let before = self.catalogue.swap(Arc::clone(&catalogue));
        for (name, old) in before.iter() {
            let Some(kept) = self.alive.get(name).await else { continue };
            match catalogue.get(name) {
                Some(new) if new.category != old.category => self.alive.invalidate(name).await,
                Some(new) => follow(&kept, old, new),
                None => self.alive.invalidate(name).await,
            }
        }
        for (name, entry) in catalogue.iter() {
            let first = restored.remove(name);
            if entry.terms.prefetch || first.is_some() {
                self.keep(name, entry, first).await;
            }
        }
        let _ = self.notices.send(Notice::Catalogue);
    }

    /// The secret of this name, alive from now on; `None` when the catalogue has none.
    pub async fn secret(&self, name: &str) -> Option<Arc<Kept>> {
        if let Some(kept) = self.alive.get(name).await {
            return Some(kept);
        }
        let catalogue = self.catalogue.load_full();
        let (name, entry) = catalogue.get_key_value(name)?;
        self.kept(&catalogue, name, entry).await
    }

    /// The name and category of a secret of the catalogue, alive or not.
    pub fn entry(&self, name: &str) -> Option<(SecretName, Arc<str>)> {
        let catalogue = self.catalogue.load();
        let (name, entry) = catalogue.get_key_value(name)?;
        Some((name.clone(), Arc::clone(&entry.category)))
    }

    /// All secrets of the catalogue by name, with the state of those that are alive.
    pub async fn list(&self) -> Vec<(SecretName, Arc<str>, Option<Shared>)> {
        let catalogue = self.catalogue.load_full();
        let mut list = Vec::with_capacity(catalogue.len());
        for (name, entry) in catalogue.iter() {
            let state = self.alive.get(name).await.map(|kept| kept.snapshot());
            list.push((name.clone(), Arc::clone(&entry.category), state));
        }
        list
    }

    /// Watches the secrets that `scope` covers: their state now, then each change.
    pub async fn watch(
        self: &Arc<Self>,
        scope: Box<dyn Scope>,
    ) -> (Watch, Vec<(Arc<Kept>, Shared)>) {
        Watch::start(Arc::clone(self), scope, self.notices.subscribe()).await
    }

    /// Has all watches ask their scope anew, after policies changed.
    pub fn policies_changed(&self) {
        let _ = self.notices.send(Notice::Catalogue);
    }

    /// The clock that all moments are measured with.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Who hears what happens.
    pub fn observer(&self) -> &Arc<dyn Observer> {
        &self.observer
    }

    /// Ends all watches, so that their connections can drain.
    pub fn end_watches(&self) {
        self.watches_ended.store(true, Ordering::Release);
        let _ = self.notices.send(Notice::Stopped);
    }

    /// Tells whenever something changed in a secret that is alive.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The secret of this name if it is alive.
    pub async fn kept_now(&self, name: &SecretName) -> Option<Arc<Kept>> {
        self.alive.get(name).await
    }

    /// Who rotates a secret says that it changed: it is read at once, if it is alive.
    pub async fn announced(&self, name: &SecretName) {
        if let Some(kept) = self.kept_now(name).await {
            kept.announced();
        }
    }

    /// Has accesses to these secrets marked until then; without a time, no more.
    pub fn monitor(&self, names: &[SecretName], until: Option<Timestamp>) {
        self.monitoring.set(names, until, self.clock.wall());
    }

    /// Whether accesses to a secret are to be marked now.
    pub fn is_monitored(&self, name: &str) -> bool {
        self.monitoring.covers(name, || self.clock.wall())
    }

    /// Whether all watches have to end. A watch that fell behind may never see the notice of it.
    pub(super) fn has_ended_watches(&self) -> bool {
        self.watches_ended.load(Ordering::Acquire)
    }

    /// Ends all watches and stops all keepers, which revoke what they hold if `revoke` says so.
    pub async fn stop(&self, revoke: bool) {
        self.keepers.store(None);
        self.end_watches();
        let catalogue = self.catalogue.swap(Arc::default());
        for name in catalogue.keys() {
            if let Some(kept) = self.alive.get(name).await {
                kept.inbox.stop(revoke);
            }
        }
    }

    /// The secrets that are alive.
    pub fn alive(&self) -> Vec<Arc<Kept>> {
        self.alive.iter().map(|(_, kept)| kept).collect()
    }

    /// The secrets that should always have a value, had one, and have none now.
    pub fn ended(&self) -> Vec<String> {
        let catalogue = self.catalogue.load();
        let always = |name: &str| catalogue.get(name).is_some_and(|entry| entry.terms.prefetch);
        let alive =
            self.alive.iter().filter(|(name, kept)| always(name.as_str()) && kept.has_ended());
        alive.map(|(name, _)| name.as_str().to_owned()).collect()
    }

    /// The secrets that a scope covers, all of them alive from now on.
    pub(super) async fn covered(&self, scope: &dyn Scope) -> BTreeMap<SecretName, Arc<Kept>> {
        let catalogue = self.catalogue.load_full();
        let mut covered = BTreeMap::new();
        for (name, entry) in
            catalogue.iter().filter(|(name, entry)| scope.covers(name, &entry.category))
        {
            if let Some(kept) = self.kept(&catalogue, name, entry).await {
                covered.insert(name.clone(), kept);
            }
        }
        covered
    }

    /// The live secret of a catalogue; `None` when a later catalogue has it no more.
    async fn kept(
        &self,
        catalogue: &Arc<Catalogue>,
        name: &SecretName,
        entry: &Entry,
    ) -> Option<Arc<Kept>> {
        let kept = self.keep(name, entry, None).await;
        let latest = self.catalogue.load_full();
        if Arc::ptr_eq(&latest, catalogue) {
            return Some(kept);
        }
        // A catalogue was loaded meanwhile, which may have missed this keeper.
        match latest.get(name) {
            Some(new) if new.category == entry.category => {
                follow(&kept, entry, new);
                Some(kept)
            }
            _ => {
                self.alive.invalidate(name).await;
                None
            }
        }
    }

    /// The live secret; concurrent callers share one keeper.
    async fn keep(
        &self,
        name: &SecretName,
        entry: &Entry,
        restored: Option<Restored>,
    ) -> Arc<Kept> {
        self.alive.get_with_by_ref(name, async { self.hire(name.clone(), entry, restored) }).await
    }

    /// Sets a keeper to work.
    fn hire(&self, name: SecretName, entry: &Entry, restored: Option<Restored>) -> Arc<Kept> {
        let seed = self.seed.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        let life = Life::new(entry.terms.clone(), Jitter::seeded(seed));
        let now = self.clock.now();
        let first = Snapshot::new(life.view(now), 0, 0, (now, self.clock.wall()));
        let kept =
            Arc::new(Kept::new(name, Arc::clone(&entry.category), Arc::clone(&self.clock), first));
        let mut keeper = Box::new(Keeper {
            kept: Arc::clone(&kept),
            origin: Arc::clone(&entry.origin),
            life,
            clock: Arc::clone(&self.clock),
            notices: self.notices.clone(),
            former: HashMap::new(),
            calls: FuturesUnordered::new(),
            sequence: 0,
            announced: 0,
            generation: Generation(0),
            changes: self.changes.clone(),
            observer: Arc::clone(&self.observer),
        });
        keeper
            .take(restored.map_or(Event::Tick, |(held, overlaps)| Event::Restored(held, overlaps)));
        // Fails only when the runner is gone, and then nobody serves either.
        if let Some(keepers) = &*self.keepers.load() {
            let _ = keepers.send(Box::pin(keeper.run()));
        }
        kept
    }
}

/// Tells a keeper what changed in its entry of the catalogue.
fn follow(kept: &Kept, old: &Entry, new: &Entry) {
    if new.place != old.place {
        kept.inbox.move_to(new.terms.clone(), Arc::clone(&new.origin));
    } else if new.terms != old.terms {
        kept.inbox.keep_under(new.terms.clone());
    }
}
