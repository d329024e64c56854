//! What people and schedules ask for. Each request is written down at once and driven later.

use jiff::{SignedDuration, Timestamp};

use super::{DriveError, Engine, Managed};
use crate::{
    domain::{
        fault::Fault,
        rotation::{Base, Hold, Kind, Request, Rotation, RotationId, Standing, Step},
        secret::{Fields, SecretName},
    },
    rotation::ports::{Book, TargetError},
};

/// A request that can't be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It does not fit what is there; the text says what would be accepted.
    #[error("{0}")]
    Refused(String),
    /// The secret can't be worked on now.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// The store can't be asked.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What somebody wants of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The name for the rotation, if one has to be opened.
    pub id: RotationId,
    /// What kind it is.
    pub kind: Kind,
    /// Who asks.
    pub by: String,
    /// Why.
    pub reason: String,
    /// How far to go; to the last environment when absent.
    pub until: Option<String>,
}

impl Engine {
    /// What is written down of a secret.
    ///
    /// # Errors
    /// When the catalogue has no such secret, or the journal can't be read.
    pub async fn book(&self, secret: &SecretName) -> Result<Book, DriveError> {
        self.managed(secret)?;
        Ok(self.around.journal.load(secret).await?.0)
    }

    /// The steps that a wish would take.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn dry_run(
        &self,
        secret: &SecretName,
        wish: Wish,
    ) -> Result<Vec<Step>, RequestError> {
        let managed = self.managed(secret)?;
        let book = self.book(secret).await?;
        let rotation = self.opened(managed, secret, wish, &book).await?;
        Ok(rotation.remaining().to_vec())
    }

    /// Opens a rotation, or joins the one that is under way.
    ///
    /// # Errors
    /// When the wish does not fit: an unknown environment, an emergency while one runs, or a
    /// rollback without a version to go back to.
    pub async fn open(&self, secret: &SecretName, wish: Wish) -> Result<Rotation, RequestError> {
        let managed = self.managed(secret)?;
        if let (Kind::Routine, Some(mut open)) = (wish.kind, self.book(secret).await?.open)
            && !open.standing.is_over()
        {
            let before = open.clone();
            open.join(wish.until.as_deref(), &managed.terms);
            if open == before {
                // It does already what is wished for; whoever drives it need not be disturbed.
                known_environment(managed, wish.until.as_deref())?;
                return Ok(open);
            }
        }
        let mut desk = self.claim_in_turn(secret).await?;
        if desk.book.open.as_ref().is_some_and(|open| open.standing.is_over()) {
            // Whoever drove it was cut off before putting it to the others.
            self.archive(&mut desk, managed, self.now());
        }
        let rotation = match (&mut desk.book.open, wish.kind) {
            (Some(open), Kind::Routine) => {
                known_environment(managed, wish.until.as_deref())?;
                open.join(wish.until.as_deref(), &managed.terms);
                open.clone()
            }
            (Some(open), Kind::Rollback) => {
                if !open
                    .go_back(format!("{} asks for it: {}", wish.by, wish.reason), &managed.terms)
                {
                    let why = "the rotation under way can't go back any more; let it end first";
                    return Err(RequestError::Refused(why.to_owned()));
                }
                open.clone()
            }
            (open, _) => {
                // An emergency ends what else is under way: its value is as good as known.
                let mut also = Vec::new();
                if let Some(mut superseded) = open.take() {
                    also = superseded.supersede(&wish.id, self.now());
                    desk.book.past.insert(0, superseded);
                }
                let mut opened = self.opened(managed, secret, wish, &desk.book).await?;
                also.retain(|version| *version != opened.base.current);
                opened.revoke_also = also;
                desk.book.open = Some(opened.clone());
                opened
            }
        };
        desk.release().await?;
        Ok(rotation)
    }

    /// Opens an emergency, and has its readers watched closely until `monitored_until`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn compromise(
        &self,
        secret: &SecretName,
        wish: Wish,
        monitoring: SignedDuration,
    ) -> Result<(Rotation, Vec<String>), RequestError> {
        let managed = self.managed(secret)?;
        let mut desk = self.claim_in_turn(secret).await?;
        desk.book.monitored_until = self.now().checked_add(monitoring).ok();
        desk.release().await?;
        let breaks = vec![managed.rotator.breaks().into_owned()];
        Ok((self.open(secret, wish).await?, breaks))
    }

    /// Takes a rotation up that is held after an environment, or parked.
    ///
    /// # Errors
    /// When none is.
    pub async fn resume(&self, secret: &SecretName) -> Result<Rotation, RequestError> {
        self.change(secret, |rotation| {
            let waits = matches!(
                rotation.standing,
                Standing::Parked(_) | Standing::Held(Hold::Environment(_))
            );
            if !waits {
                return Err(format!("nothing to resume: the rotation {}", rotation.standing));
            }
            rotation.until = None;
            rotation.resume();
            Ok(())
        })
        .await
    }

    /// Notes that a second person agrees.
    ///
    /// # Errors
    /// When nothing waits for it, or it is the same person.
    pub async fn approve(&self, secret: &SecretName, by: &str) -> Result<Rotation, RequestError> {
        self.change(secret, |rotation| {
            if rotation.approve(by) {
                return Ok(());
            }
            Err(if rotation.requested_by == by {
                format!("{by} asked for it; somebody else has to agree")
            } else {
                "the rotation waits for no approval".to_owned()
            })
        })
        .await
    }

    /// Takes the value that a guided manual rotation waits for.
    ///
    /// # Errors
    /// When none waits, or the value is not of the right form.
    pub async fn supply(
        &self,
        secret: &SecretName,
        fields: &Fields,
        by: &str,
    ) -> Result<Rotation, RequestError> {
        let managed = self.managed(secret)?;
        let mut desk = self.claim_in_turn(secret).await?;
        let waits = |book: &Book| {
            let open = book.open.as_ref();
            open.is_some_and(|open| matches!(open.standing, Standing::Held(Hold::HandOver(_))))
        };
        if !waits(&desk.book) {
            return Err(RequestError::Refused("no rotation waits for a value".to_owned()));
        }
        managed.rotator.inspect(fields).await.map_err(|error| match error {
            TargetError::Refused(why) => RequestError::Refused(why.into_owned()),
            TargetError::Fault(fault) => RequestError::Fault(fault),
        })?;
        let latest = managed.versions.latest().await?;
        if let Some(rotation) = &mut desk.book.open {
            rotation.lose_candidate(latest);
            rotation.supplied();
            rotation.begin(latest, self.now());
        }
        let stored = self.store(&mut desk, managed, fields).await?;
        let now = self.now();
        let Some(rotation) = &mut desk.book.open else {
            return Err(DriveError::TakenOver.into());
        };
        match stored {
            Ok(_) => {
                let version = rotation.new_version().unwrap_or_default();
                let evidence = format!("{by} supplied it; stored as version {version}, pending");
                rotation.done(evidence, &managed.terms, now);
            }
            Err(failure) => rotation.failed(&failure, &managed.terms, |wait| wait, now),
        }
        let rotation = rotation.clone();
        desk.release().await?;
        Ok(rotation)
    }

    /// Says when a secret is due next.
    ///
    /// # Errors
    /// When somebody works on it, or the journal can't be used.
    pub async fn set_due(
        &self,
        secret: &SecretName,
        due: Option<Timestamp>,
    ) -> Result<(), DriveError> {
        let mut desk = self.claim_in_turn(secret).await?;
        desk.book.due = due;
        desk.release().await.map(drop)
    }

    async fn change(
        &self,
        secret: &SecretName,
        change: impl FnOnce(&mut Rotation) -> Result<(), String>,
    ) -> Result<Rotation, RequestError> {
        self.managed(secret)?;
        let mut desk = self.claim_in_turn(secret).await?;
        let result = match &mut desk.book.open {
            Some(rotation) => change(rotation).map(|()| rotation.clone()),
            None => Err("no rotation is under way".to_owned()),
        };
        desk.release().await?;
        result.map_err(RequestError::Refused)
    }

    async fn opened(
        &self,
        managed: &Managed,
        secret: &SecretName,
        wish: Wish,
        book: &Book,
    ) -> Result<Rotation, RequestError> {
        known_environment(managed, wish.until.as_deref())?;
        let labels = managed.versions.labels().await?;
        let current = match labels.current {
            Some(version) => version,
            None if labels.epoch == 0 => managed.versions.latest().await?,
            None => 0,
        };
        let target = match wish.kind {
            Kind::Rollback if managed.terms.held => {
                let why = "the target keeps the value itself, and has none to go back to";
                return Err(RequestError::Refused(why.to_owned()));
            }
            Kind::Rollback => Some(before(book, current).ok_or_else(|| {
                RequestError::Refused("no earlier version that worked is known".to_owned())
            })?),
            _ => None,
        };
        let request = Request {
            id: wish.id,
            secret: secret.clone(),
            kind: wish.kind,
            requested_by: wish.by,
            reason: wish.reason,
            until: wish.until,
            base: Base { current, target },
        };
        Ok(Rotation::open(request, &managed.terms, self.now()))
    }
}

/// The version that worked before the current one, and is not known to others.
fn before(book: &Book, current: u64) -> Option<u64> {
    let compromised =
        |version| book.past.iter().any(|r| r.kind.is_emergency() && r.base.current == version);
    let brought = book.past.iter().find(|rotation| {
        rotation.standing == Standing::Succeeded && rotation.new_version() == Some(current)
    })?;
    Some(brought.base.current).filter(|&version| version > 0 && !compromised(version))
}

pub(super) fn known_environment(
    managed: &Managed,
    until: Option<&str>,
) -> Result<(), RequestError> {
    let known = &managed.terms.environments;
    match until.filter(|name| !known.iter().any(|known| known == name)) {
        None => Ok(()),
        Some(name) => Err(RequestError::Refused(format!(
            "no environment {name}; this secret has {}",
            known.join(", ")
        ))),
    }
}
