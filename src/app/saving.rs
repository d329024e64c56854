//! The encrypted state: what a run leaves for the next one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::StartError;
use crate::{
    broker::{
        Broker,
        ports::Clock,
        service::Restored,
        state::{
            Instants, Loaded, SavedSecret, SavedSession, SavedState, SavedVersion, StateStore,
        },
    },
    config,
    domain::secret::SecretName,
    state::StateFile,
    store::{VersionKey, vault::VaultStore},
};

/// The rest after a save, as a multiple of what it took: what changes meanwhile is saved together.
const REST: u32 = 20;
/// The shortest and the longest rest.
const RESTS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// The wait after the state could not be saved.
const RETRY: Duration = Duration::from_secs(10);

/// What an earlier run left.
#[derive(Default)]
pub(super) struct Left {
    pub(super) secrets: BTreeMap<SecretName, Restored>,
    pub(super) session: Option<SavedSession>,
    pub(super) version_key: Option<VersionKey>,
}

/// The state of this broker, where one is kept.
#[derive(Clone)]
pub(super) struct Saving {
    file: Arc<StateFile>,
    clock: Arc<dyn Clock>,
    versions: Arc<VersionKey>,
}

/// Reads what an earlier run left. What can't be trusted was set aside, and is told.
pub(super) async fn open(
    settings: &config::StateFile,
    clock: &Arc<dyn Clock>,
) -> Result<(Arc<StateFile>, Left), StartError> {
    let file = StateFile::open(settings, Arc::clone(clock))?;
    let left = match file.load().await? {
        Loaded::Nothing => Left::default(),
        Loaded::Rejected(rejected) => {
            let aside = rejected.set_aside.map(|path| path.display().to_string());
            tracing::error!(reason = %rejected.reason, set_aside = aside, "the state is not trusted");
            Left::default()
        }
        Loaded::State(state) => restore(state, clock.as_ref()),
    };
    Ok((Arc::new(file), left))
}

fn restore(state: SavedState, clock: &dyn Clock) -> Left {
    let SavedState { saved_at, secrets, session, version_key } = state;
    let instants = Instants { now: clock.now(), wall: clock.wall() };
    tracing::info!(%saved_at, secrets = secrets.len(), "going on from the saved state");
    let secrets = secrets.into_iter();
    Left {
        secrets: secrets.map(|(name, s)| (name, s.restore(saved_at, instants))).collect(),
        session,
        version_key: version_key.as_deref().and_then(VersionKey::from_saved),
    }
}

impl Saving {
    pub(super) fn new(
        file: Arc<StateFile>,
        clock: Arc<dyn Clock>,
        versions: Arc<VersionKey>,
    ) -> Self {
        Self { file, clock, versions }
    }

    /// Saves at each of `changes`, for ever: the first after a quiet time at once and others soon, so that a kill finds them
    /// saved, and for a small part of the time only. `vault` tells the store that is in use at the time.
    pub(super) async fn run(
        self,
        broker: Arc<Broker>,
        mut changes: watch::Receiver<()>,
        vault: impl Fn() -> Option<Arc<VaultStore>>,
    ) {
        // Fails only when the broker is gone.
        while changes.changed().await.is_ok() {
            let begun = Instant::now();
            while let Err(error) = self.save(&broker, vault().as_deref()).await {
                tracing::error!(%error, "the state could not be saved; the one before stands");
                sleep(RETRY).await;
            }
            let (least, most) = RESTS;
            sleep((begun.elapsed() * REST).clamp(least, most)).await;
        }
    }

    /// Removes what was saved, once none of it is of use any more.
    pub(super) async fn forget(&self) -> Result<(), crate::broker::state::StateError> {
        self.file.forget().await
    }

    /// Saves now.
    pub(super) async fn save(
        &self,
        broker: &Broker,
        vault: Option<&VaultStore>,
    ) -> Result<(), crate::broker::state::StateError> {
        let clock = Instants { now: self.clock.now(), wall: self.clock.wall() };
        let secrets = broker.alive().into_iter().filter_map(|kept| {
            let snapshot = kept.snapshot();
            let current = SavedVersion::of(snapshot.live(clock.now)?, clock);
            let overlaps = snapshot.view.overlaps.iter();
            let overlaps = overlaps
                .map(|o| (SavedVersion::of(&o.held, clock), clock.to_wall(o.until)))
                .collect();
            Some((kept.name().clone(), SavedSecret { current, overlaps }))
        });
        let session = vault.and_then(VaultStore::export_session);
        let state = SavedState {
            saved_at: clock.wall,
            secrets: secrets.collect(),
            session: session
                .map(|content| SavedSession { content: Arc::new(content), ends_at: None }),
            version_key: Some(Arc::new(self.versions.to_saved())),
        };
        self.file.save(state).await
    }
}
