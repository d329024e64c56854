//! Streams: the states of one rotation for people, and what moved for sidecars.
//!
//! Both end when the operator stops, and give nothing that the caller's policy lets go no more.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{
    Caller, Operator,
    errors::OperatorError,
    feed::Following,
    gate::Record,
    proto::{
        FollowRotationRequest, FollowRotationResponse, ReportAdoptionRequest,
        ReportAdoptionResponse, RotationSummary, WatchRotationsRequest, WatchRotationsResponse,
    },
};
use crate::{
    domain::{
        policy::Verb,
        rotation::{Rotation, RotationId, Standing},
        secret::SecretName,
    },
    rotation::{engine::Written, ports::Book},
};

/// What another operator wrote down is noticed after this time.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The least time between two looks into the journal.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// The states of a rotation: now, at each change, and the last one.
pub type States = Pin<Box<dyn Stream<Item = Result<FollowRotationResponse, OperatorError>> + Send>>;

/// The places that have to be looked at; the first message names none.
pub type Changes =
    Pin<Box<dyn Stream<Item = Result<WatchRotationsResponse, OperatorError>> + Send>>;

struct Followed {
    operator: Arc<Operator>,
    caller: Arc<Caller>,
    secret: SecretName,
    id: RotationId,
    changes: watch::Receiver<Written>,
    stop: watch::Receiver<bool>,
    last: Option<RotationSummary>,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

impl Operator {
    /// Follows the rotation of a secret that is under way, or shows the last one.
    ///
    /// # Errors
    /// When the secret is not the caller's to see, or was never rotated.
    pub async fn follow(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        request: FollowRotationRequest,
    ) -> Result<States, OperatorError> {
        let mut record = Record::begin(self, caller, Verb::View, &request.name, "")?;
        let begun = self.followed(caller, &request.name).await;
        if let Ok(followed) = &begun {
            record.about.clone_from(&followed.id.0);
        }
        let followed = record.end(begun)?;
        let states = stream::unfold(followed, |mut followed| async move {
            let state = followed.next().await?;
            Some((state, followed))
        });
        Ok(states.boxed())
    }

    async fn followed(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        name: &str,
    ) -> Result<Followed, OperatorError> {
        let (secret, _) = self.secret(caller, Verb::View, name)?;
        let place = Arc::clone(&self.followers).try_acquire_owned();
        let place = place.map_err(|_| OperatorError::limit("server.limits.watches"))?;
        // Before the look, so that nothing is missed after it.
        let changes = self.engine.changes();
        let book = self.engine.book(secret).await?;
        let found = book.open.as_ref().or(book.past.first());
        let never = || OperatorError::not_applicable("this secret was never rotated");
        Ok(Followed {
            operator: Arc::clone(self),
            caller: Arc::clone(caller),
            secret: secret.clone(),
            id: found.ok_or_else(never)?.id.clone(),
            changes,
            stop: self.stop.clone(),
            last: None,
            is_over: false,
            _place: place,
        })
    }

    /// Tells a sidecar what moves among the places that it names and may follow.
    ///
    /// # Errors
    /// When the caller may follow nothing at all, or a limit on sidecars is reached.
    pub fn watch_rotations(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        request: &WatchRotationsRequest,
    ) -> Result<Changes, OperatorError> {
        let mut places = Vec::new();
        let mut names = String::new();
        let mut may_follow = false;
        for (name, managed) in self.secrets(caller, Verb::Follow) {
            may_follow = true;
            let place = managed.versions.place();
            if request.paths.iter().any(|path| path == place) {
                places.push(Arc::from(place));
                names.push_str(name.as_str());
                names.push(' ');
            }
        }
        let mut record = Record::begin(self, caller, Verb::Follow, names.trim_end(), "")?;
        record.about = request.instance.chars().take(NAME_CHARS).collect();
        let opened = if !may_follow {
            Err(OperatorError::denied())
        } else if *self.stop.borrow() {
            Err(OperatorError::stopping())
        } else if !*self.leading.borrow() {
            Err(OperatorError::not_leading())
        } else {
            self.sidecars.follow(&caller.identity, &request.instance, places)
        };
        let following = record.end(opened)?;
        let feed = Feed {
            operator: Arc::clone(self),
            caller: Arc::clone(caller),
            stop: self.stop.clone(),
            leading: self.leading.clone(),
            following,
        };
        let first = stream::iter([Ok(WatchRotationsResponse::default())]);
        let changes = stream::unfold(feed, |mut feed| async move {
            let change = feed.next().await?;
            Some((Ok(change), feed))
        });
        Ok(first.chain(changes).boxed())
    }

    /// Takes a sidecar's word on how far its readers are.
    ///
    /// # Errors
    /// When the caller may not follow this place, or a limit on sidecars is reached.
    pub fn report_adoption(
        &self,
        caller: &Caller,
        request: ReportAdoptionRequest,
    ) -> Result<ReportAdoptionResponse, OperatorError> {
        let found = self.follows(caller, &request.path);
        let secret = found.map_or("", |name| name.as_str());
        let mut record = Record::begin(self, caller, Verb::Follow, secret, "")?;
        record.about = request.instance.chars().take(NAME_CHARS).collect();
        if found.is_none() {
            return record.end(Err(OperatorError::denied()));
        }
        if !*self.leading.borrow() {
            return record.end(Err(OperatorError::not_leading()));
        }
        let said = if request.adopted { "ADOPTED" } else { "SERVED" };
        let place = Arc::from(request.path.as_str());
        match self.sidecars.report(&caller.identity, &place, request) {
            Ok(()) => record.reported(said).map(|()| ReportAdoptionResponse {}),
            Err(error) => record.end(Err(error)),
        }
    }

    /// The secret at a place that a caller may follow.
    fn follows(&self, caller: &Caller, place: &str) -> Option<&SecretName> {
        let mut secrets = self.secrets(caller, Verb::Follow);
        secrets.find(|(_, managed)| managed.versions.place() == place).map(|(name, _)| name)
    }
}

/// The most characters of a sidecar's name that are recorded.
const NAME_CHARS: usize = 128;

struct Feed {
    operator: Arc<Operator>,
    caller: Arc<Caller>,
    stop: watch::Receiver<bool>,
    leading: watch::Receiver<bool>,
    following: Following,
}

impl Feed {
    async fn next(&mut self) -> Option<WatchRotationsResponse> {
        loop {
            let change = tokio::select! {
                change = self.following.next() => change?,
                _ = self.stop.wait_for(|stop| *stop) => return None,
                _ = self.leading.wait_for(|leading| !*leading) => return None,
            };
            if self.operator.follows(&self.caller, &change.path).is_some() {
                return Some(change);
            }
        }
    }
}

impl Followed {
    async fn next(&mut self) -> Option<Result<FollowRotationResponse, OperatorError>> {
        while !self.is_over {
            self.changes.borrow_and_update();
            match self.look().await {
                Ok(Some(rotation)) => {
                    let goes_on =
                        matches!(rotation.standing, Standing::Running | Standing::GoingBack);
                    let state = self.operator.summary(&rotation);
                    self.is_over = !goes_on;
                    if self.last.as_ref() != Some(&state) {
                        self.last = Some(state.clone());
                        return Some(Ok(FollowRotationResponse { rotation: Some(state) }));
                    }
                }
                Ok(None) => return None,
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            }
            if !self.is_over && !self.wait().await {
                return None;
            }
        }
        None
    }

    /// Waits until there may be something new. Returns whether the stream goes on.
    async fn wait(&mut self) -> bool {
        let news = async {
            tokio::time::sleep(LOOK_PAUSE).await;
            let _ = tokio::time::timeout(LOOK_INTERVAL, self.changes.changed()).await;
        };
        tokio::select! {
            () = news => true,
            _ = self.stop.wait_for(|stop| *stop) => false,
        }
    }

    async fn look(&self) -> Result<Option<Rotation>, OperatorError> {
        self.operator.secret(&self.caller, Verb::View, self.secret.as_str())?;
        let Book { open, past, .. } = self.operator.engine.book(&self.secret).await?;
        let mut all = open.into_iter().chain(past);
        Ok(all.find(|rotation| rotation.id == self.id))
    }
}
