//! Access in emergencies: each word is written down before it has an effect, and told to people.
//!
//! An emergency waits for nobody: the book is written without a claim, and whoever works on the
//! secret goes on from what is written then.

use std::time::Duration;

use super::{DriveError, Engine, RequestError};
use crate::{
    domain::{
        rotation::{
            Rotation,
            access::{self, Access, AccessRefusal},
        },
        secret::SecretName,
    },
    rotation::ports::{Alert, Book, BreakGlass, Opened, SaveError, Urgency},
};

/// Attempts to write a word down while somebody else writes too.
const ATTEMPTS: u32 = 16;
/// The wait after the first of them; it grows with each.
const PAUSE: Duration = Duration::from_millis(20);

/// The name of an alert and its text.
type Told = (&'static str, String);

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask<'a> {
    /// The name for the access.
    pub id: String,
    /// Who asks.
    pub holder: &'a str,
    /// Why.
    pub reason: &'a str,
    /// For how long.
    pub lasts: Duration,
}

/// An access could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The rules do not allow it.
    #[error(transparent)]
    Refused(#[from] AccessRefusal),
    /// Too many are open or asked for.
    #[error("too many accesses to this secret are asked for or open")]
    TooMany,
    /// The secret has no such access.
    #[error("this secret has no such access")]
    Unknown,
    /// It could not be written down, or the secrets manager could not be asked.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl From<DriveError> for AccessError {
    fn from(error: DriveError) -> Self {
        Self::Request(error.into())
    }
}

impl Engine {
    /// Writes down that somebody asks for access.
    ///
    /// # Errors
    /// When the journal can't be written, or too many accesses are open.
    pub async fn ask_access(
        &self,
        secret: &SecretName,
        ask: Ask<'_>,
    ) -> Result<Access, AccessError> {
        let Ask { id, holder, reason, lasts } = ask;
        let managed = self.managed(secret)?;
        let now = self.now();
        let access = Access {
            id,
            holder: holder.to_owned(),
            reason: reason.to_owned(),
            lasts_secs: lasts.as_secs(),
            two_persons: managed.terms.approval,
            asked_at: now,
            approved: None,
            opened_at: None,
            ends_at: None,
            accessor: None,
            ended: None,
        };
        let what = format!("{holder} asks for access {} for {lasts:?}: {reason}", access.id);
        self.write(secret, |book| {
            if !access::remember(&mut book.accesses, access.clone(), now) {
                return Err(AccessError::TooMany);
            }
            book.alerts.push(alert(secret, "access_requested", what.clone()));
            Ok(access.clone())
        })
        .await
    }

    /// Writes down that a second person agrees to a rotation, and to no other one than this.
    ///
    /// # Errors
    /// When it waits for nobody's word, or it is the same person.
    pub async fn approve_rotation(
        &self,
        secret: &SecretName,
        id: &str,
        by: &str,
    ) -> Result<Rotation, RequestError> {
        let mut desk = self.claim_in_turn(secret).await?;
        let open = desk.book.open.as_mut().filter(|open| open.id.0 == id);
        let approved = open.filter(|open| open.requested_by != by).and_then(|open| {
            let awaited = open.approve(by);
            awaited.then(|| open.clone())
        });
        desk.release().await?;
        approved.ok_or_else(|| RequestError::Refused("it waits for no such approval".to_owned()))
    }

    /// Writes down that a second person agrees to an access.
    ///
    /// # Errors
    /// When nothing waits for that, or it is the same person.
    pub async fn approve_access(
        &self,
        secret: &SecretName,
        id: &str,
        by: &str,
    ) -> Result<Access, AccessError> {
        let now = self.now();
        self.change_access(secret, id, |access| {
            access.approve(by, now)?;
            Ok(Some(("access_approved", format!("{by} agrees to access {id}"))))
        })
        .await
    }

    /// Opens an access that was asked for, once.
    ///
    /// # Errors
    /// When it may not be opened, or the secrets manager can't be asked. The access is used up then.
    pub async fn open_access(
        &self,
        glass: &dyn BreakGlass,
        secret: &SecretName,
        id: &str,
        by: &str,
    ) -> Result<(Access, Opened), AccessError> {
        let now = self.now();
        let place = self.managed(secret)?.versions.place();
        let access = self.change_access(secret, id, |access| {
            access.open(by, now)?;
            let what =
                format!("{by} opens access {id} for {:?}: {}", access.lasts(), access.reason);
            Ok(Some(("access_opened", what)))
        });
        let access = access.await?;
        let opened = glass.open(place, &access).await.map_err(RequestError::Fault)?;
        let noted = self.change_access(secret, id, |access| {
            access.accessor = Some(opened.accessor.clone());
            access.ends_at = Some(opened.ends_at);
            Ok(None)
        });
        match noted.await {
            Ok(access) => Ok((access, opened)),
            Err(error) => {
                // What can't be ended by name later is ended now; if that fails, its time ends it.
                if let Err(fault) = glass.end(&opened.accessor).await {
                    tracing::error!(access = id, %fault, "an access that is not noted stays open");
                }
                Err(error)
            }
        }
    }

    /// Ends an access before its time.
    ///
    /// # Errors
    /// When it is not open, or the secrets manager can't be asked: it is open still.
    pub async fn end_access(
        &self,
        glass: &dyn BreakGlass,
        secret: &SecretName,
        id: &str,
        by: &str,
    ) -> Result<Access, AccessError> {
        let book = self.book(secret).await?;
        let found = book.accesses.iter().find(|access| access.id == id);
        let access = found.ok_or(AccessError::Unknown)?;
        if !access.is_open(self.now()) {
            return Err(AccessRefusal::NotOpen.into());
        }
        if let Some(accessor) = &access.accessor {
            glass.end(accessor).await.map_err(RequestError::Fault)?;
        }
        let now = self.now();
        self.change_access(secret, id, |access| {
            access.end(by, now)?;
            Ok(Some(("access_ended", format!("{by} ends access {id}"))))
        })
        .await
    }

    /// Changes an access, with what people are told of it.
    async fn change_access(
        &self,
        secret: &SecretName,
        id: &str,
        change: impl Fn(&mut Access) -> Result<Option<Told>, AccessRefusal>,
    ) -> Result<Access, AccessError> {
        self.write(secret, |book| {
            let found = book.accesses.iter_mut().find(|access| access.id == id);
            let access = found.ok_or(AccessError::Unknown)?;
            let told = change(access)?;
            let access = access.clone();
            book.alerts.extend(told.map(|(name, summary)| alert(secret, name, summary)));
            Ok(access)
        })
        .await
    }

    /// Writes a change down. What is lost to somebody who wrote meanwhile is done again.
    async fn write<T>(
        &self,
        secret: &SecretName,
        change: impl Fn(&mut Book) -> Result<T, AccessError>,
    ) -> Result<T, AccessError> {
        for attempt in 1..=ATTEMPTS {
            let (mut book, stamp) =
                self.around.journal.load(secret).await.map_err(DriveError::from)?;
            let changed = change(&mut book)?;
            match self.around.journal.save(secret, &book, stamp).await {
                Ok(_) => {
                    self.changed(secret);
                    return Ok(changed);
                }
                Err(SaveError::Conflict) => tokio::time::sleep(PAUSE * attempt).await,
                Err(SaveError::Fault(fault)) => return Err(DriveError::from(fault).into()),
            }
        }
        Err(DriveError::TakenOver.into())
    }
}

/// An alert that is written down with what it is about, and told by whoever drives the secret.
fn alert(secret: &SecretName, name: &'static str, summary: String) -> Alert {
    Alert { urgency: Urgency::Critical, name: name.into(), secret: secret.clone(), summary }
}
