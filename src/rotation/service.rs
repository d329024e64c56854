//! The operator at work: opens what is due, drives what is open, while it leads.
//!
//! Invariants: a run that was missed is caught up once; the two of a pair are never turned over at
//! once; what one secret's rotation meets holds up no other one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::{
    engine::{DriveError, Driven, Engine, RequestError, Wish},
    ports::{Alert, Book, Leadership, Relay, Urgency},
};
use crate::domain::{
    fault::{Fault, Reason},
    rotation::{Kind, RotationId},
    secret::SecretName,
};

/// Rotations that are driven at once.
const AT_ONCE: usize = 16;
/// What was written down by somebody else is noticed after this time at the latest.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);
/// The wait after an attempt that the journal or another actor stood in the way of.
const BUSY_WAIT: Duration = Duration::from_secs(2);
/// Until when a leader that died keeps others from leading.
pub const TENURE: Duration = Duration::from_secs(15);

/// What other processes post is heard of after this time at the latest.
const HEAR_INTERVAL: Duration = Duration::from_millis(500);

/// The wait after the first of several words from readers.
const WORD_PAUSE: Duration = Duration::from_millis(200);

/// What attending to a secret came to.
struct Attended {
    name: SecretName,
    /// When to look again.
    next: Timestamp,
    /// Word from readers brings that forward.
    overlaps: bool,
}

/// Tells the service that something was asked for.
#[derive(Default)]
pub struct Waker {
    asked: Mutex<Vec<SecretName>>,
    told: Notify,
}

impl Waker {
    /// Has the service look at a secret now.
    pub fn wake(&self, secret: SecretName) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(secret);
        self.told.notify_one();
    }

    fn take(&self) -> Vec<SecretName> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Opens what is due and drives what is open.
pub struct Service {
    engine: Arc<Engine>,
    leadership: Arc<dyn Leadership>,
    relay: Arc<dyn Relay>,
    waker: Arc<Waker>,
    leading: watch::Sender<bool>,
    /// Makes the name of a rotation from its secret and the time.
    name: fn(Timestamp) -> RotationId,
}

impl Service {
    /// A service over an engine.
    pub fn new(
        engine: Arc<Engine>,
        leadership: Arc<dyn Leadership>,
        relay: Arc<dyn Relay>,
        waker: Arc<Waker>,
        name: fn(Timestamp) -> RotationId,
    ) -> Self {
        Self { engine, leadership, relay, waker, leading: watch::Sender::new(false), name }
    }

    /// Whether it leads.
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// Works until it is dropped; whatever is under way then goes on at the next start, or at
    /// another operator.
    pub async fn run(&self) {
        loop {
            match self.hold().await {
                Ok(true) => {
                    tracing::info!("leads");
                    self.engine.surroundings().readers.gather();
                    self.leading.send_replace(true);
                    self.lead().await;
                    self.leading.send_replace(false);
                    tracing::warn!("leads no more");
                }
                Ok(false) => self.stand_by().await,
                Err(fault) => {
                    tracing::warn!(%fault, "the lead could not be asked for");
                    self.stand_by().await;
                }
            }
        }
    }

    /// Takes or keeps the lead, in time for the next attempt to come before it lapses.
    async fn hold(&self) -> Result<bool, Fault> {
        let late = || Fault::new(Reason::Unavailable, "the lead was not given in time");
        timeout(TENURE / 3, self.leadership.hold(TENURE)).await.unwrap_or_else(|_| Err(late()))
    }

    /// Hands what it is asked for to the one that leads, until it is time to ask for the lead.
    async fn stand_by(&self) {
        let hand_over = async {
            loop {
                self.waker.told.notified().await;
                for name in self.waker.take() {
                    let Some(managed) = self.engine.catalogue().get(&name) else { continue };
                    // The leader finds what it is not told at its next look.
                    if let Err(fault) = self.relay.post(managed.versions.place()).await {
                        tracing::warn!(secret = %name, %fault, "the leader could not be told");
                    }
                }
            }
        };
        let _ = tokio::time::timeout(TENURE / 3, hand_over).await;
    }

    /// Works as long as it leads.
    async fn lead(&self) {
        let keep = async {
            loop {
                tokio::time::sleep(TENURE / 3).await;
                match self.hold().await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(fault) => {
                        tracing::warn!(%fault, "the lead could not be kept");
                        return;
                    }
                }
            }
        };
        tokio::select! {
            () = keep => {}
            () = self.hear() => {}
            () = self.work() => {}
        }
    }

    /// Passes on what other processes post, and whom earlier leaders had watched closely.
    async fn hear(&self) {
        // By place, and whether it is told also where nothing is watched closely.
        let places = self.engine.catalogue().values().map(|managed| managed.versions.place());
        let mut pending: BTreeMap<String, bool> =
            places.map(|place| (place.to_owned(), false)).collect();
        let (mut seen, mut is_told) = (0, false);
        loop {
            match self.relay.posted(seen).await {
                Ok((places, now)) => {
                    (seen, is_told) = (now, false);
                    pending.extend(places.into_iter().map(|place| (place, true)));
                }
                Err(fault) if !std::mem::replace(&mut is_told, true) => {
                    tracing::warn!(%fault, "others can't be heard");
                }
                Err(_) => {}
            }
            for (place, always) in std::mem::take(&mut pending) {
                if self.announce(&place, always).await.is_err() {
                    pending.insert(place, always);
                }
            }
            tokio::time::sleep(HEAR_INTERVAL).await;
        }
    }

    /// Tells readers of the last rotation at a place that is watched closely, or `always`; then the
    /// secret is looked at, too.
    async fn announce(&self, place: &str, always: bool) -> Result<(), DriveError> {
        let mut all = self.engine.catalogue().iter();
        let Some((name, _)) = all.find(|(_, managed)| managed.versions.place() == place) else {
            return Ok(());
        };
        let book = self.engine.book(name).await?;
        let until = book.monitored_until.filter(|until| *until > self.now());
        let Some(rotation) = book.open.as_ref().or(book.past.first()) else { return Ok(()) };
        if always || until.is_some() {
            self.engine.surroundings().readers.announce(place, &rotation.id, until);
        }
        if always {
            self.waker.wake(name.clone());
        }
        Ok(())
    }

    /// Looks at each secret when its time comes, or when somebody asks for it.
    async fn work(&self) {
        let now = self.now();
        let mut at: BTreeMap<SecretName, Timestamp> =
            self.engine.catalogue().keys().map(|name| (name.clone(), now)).collect();
        let mut overlapping = BTreeSet::new();
        let mut driven = FuturesUnordered::new();
        loop {
            let now = self.now();
            let ready: Vec<_> = at
                .iter()
                .filter(|(_, at)| **at <= now)
                .map(|(name, _)| name.clone())
                .take(AT_ONCE.saturating_sub(driven.len()))
                .collect();
            for name in ready {
                at.remove(&name);
                driven.push(self.attend(name));
            }
            let next = at.values().min().copied();
            let pause = next.map_or(LOOK_INTERVAL, |next| {
                Duration::try_from(next.duration_since(now)).unwrap_or_default()
            });
            let full = driven.len() >= AT_ONCE;
            tokio::select! {
                Some(Attended { name, next, overlaps }) = driven.next() => {
                    if overlaps {
                        overlapping.insert(name.clone());
                    } else {
                        overlapping.remove(&name);
                    }
                    at.insert(name, next);
                }
                () = self.waker.told.notified() => {
                    for name in self.waker.take() {
                        at.entry(name).and_modify(|at| *at = now);
                    }
                }
                () = self.word_from_readers(), if !overlapping.is_empty() => {
                    for name in &overlapping {
                        at.entry(name.clone()).and_modify(|at| *at = now);
                    }
                }
                () = tokio::time::sleep(pause.min(LOOK_INTERVAL)), if !full => {}
            }
        }
    }

    /// Resolves some time after readers reported something, so that many reports cost one look.
    async fn word_from_readers(&self) {
        self.engine.surroundings().readers.changed().await;
        tokio::time::sleep(WORD_PAUSE).await;
    }

    /// Opens a secret's rotation if it is due, and drives it.
    async fn attend(&self, name: SecretName) -> Attended {
        let (next, overlaps) = match self.turn(&name).await {
            Ok(Driven::Waits(at)) => (at, false),
            Ok(Driven::Overlaps(at)) => (at, true),
            Ok(Driven::Rests | Driven::Idle) => (self.after(LOOK_INTERVAL), false),
            Err(RequestError::Drive(DriveError::Claimed { until, .. })) => {
                (until.min(self.after(BUSY_WAIT)), false)
            }
            Err(error) => {
                tracing::warn!(secret = %name, %error, "a rotation could not go on");
                (self.after(BUSY_WAIT), false)
            }
        };
        Attended { name, next: next.min(self.after(LOOK_INTERVAL)), overlaps }
    }

    async fn turn(&self, name: &SecretName) -> Result<Driven, RequestError> {
        let book = self.engine.book(name).await?;
        if book.open.is_none()
            && let Some(due) = self.open_if_due(name, &book).await?
        {
            if !book.alerts.is_empty() {
                // Nothing is to be done, but people are to be told.
                self.engine.drive(name).await?;
            }
            return Ok(Driven::Waits(due));
        }
        Ok(self.engine.drive(name).await?)
    }

    /// Opens the rotation of a secret that is due; returns when it will be if it is not.
    async fn open_if_due(
        &self,
        name: &SecretName,
        book: &Book,
    ) -> Result<Option<Timestamp>, RequestError> {
        let Some(managed) = self.engine.catalogue().get(name) else { return Ok(None) };
        let now = self.now();
        let Some(due) = book.due else {
            // The first time that the operator sees it: its age is not known.
            let due = self.first_due(name, now).await?;
            if due.is_some() {
                self.engine.set_due(name, due).await?;
            }
            return Ok(Some(due.unwrap_or_else(|| self.after(LOOK_INTERVAL))));
        };
        let opens = managed.schedule.opens(due.max(now));
        if now < opens {
            return Ok(Some(opens));
        }
        if let Some(later) = self.pair_stands_in_the_way(name, now).await? {
            self.engine.set_due(name, Some(later)).await?;
            return Ok(Some(later));
        }
        let wish = Wish {
            id: (self.name)(now),
            kind: Kind::Routine,
            by: "schedule".to_owned(),
            reason: format!("due since {due}, tier {}", managed.tier),
            until: None,
        };
        let rotation = self.engine.open(name, wish).await?;
        let summary = format!("rotation {} began: due since {due}", rotation.id);
        let alert = Alert {
            urgency: Urgency::Info,
            name: "rotation_began".into(),
            secret: name.clone(),
            summary,
        };
        if let Err(fault) = self.engine.surroundings().alerts.raise(&alert).await {
            tracing::warn!(%fault, "nobody could be told");
        }
        Ok(None)
    }

    async fn first_due(
        &self,
        name: &SecretName,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, DriveError> {
        let Some(managed) = self.engine.catalogue().get(name) else { return Ok(None) };
        let draw = self.engine.draw();
        let Some(due) = managed.schedule.next(now, draw) else { return Ok(None) };
        let Some(pair) = managed.pair.as_ref().and_then(|pair| pair.parse::<SecretName>().ok())
        else {
            return Ok(Some(due));
        };
        let other = self.engine.book(&pair).await?.due;
        Ok(match other {
            Some(other) if name.as_str() > pair.as_str() => {
                managed.schedule.halfway(other).or(Some(due))
            }
            _ => Some(due),
        })
    }

    /// When a secret may be turned over whose pair was, or is being, turned over just now.
    async fn pair_stands_in_the_way(
        &self,
        name: &SecretName,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, DriveError> {
        let Some(managed) = self.engine.catalogue().get(name) else { return Ok(None) };
        let Some(pair) = managed.pair.as_ref().and_then(|pair| pair.parse::<SecretName>().ok())
        else {
            return Ok(None);
        };
        let book = self.engine.book(&pair).await?;
        if book.open.is_some() {
            return Ok(managed.schedule.halfway(now));
        }
        let last = book.past.first().and_then(|rotation| rotation.ended_at);
        let Some(later) = last.and_then(|last| managed.schedule.halfway(last)) else {
            return Ok(None);
        };
        // A quarter of the period keeps them apart; further than that, they are apart already.
        let quarter = last.map(|last| later.duration_since(last) / 2);
        let near =
            last.zip(quarter).is_some_and(|(last, quarter)| now.duration_since(last) < quarter);
        Ok(near.then_some(later))
    }

    fn now(&self) -> Timestamp {
        self.engine.surroundings().clock.wall()
    }

    fn after(&self, wait: Duration) -> Timestamp {
        let wait = jiff::SignedDuration::try_from(wait).unwrap_or_default();
        self.now().checked_add(wait).unwrap_or(Timestamp::MAX)
    }
}
