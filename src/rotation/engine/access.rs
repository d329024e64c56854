//! Access in emergencies: each word is written down before it has an effect, and told to people.

use std::time::Duration;

use super::{DriveError, Engine, RequestError};
use crate::{
    domain::{
        rotation::access::{self, Access, AccessRefusal},
        secret::SecretName,
    },
    rotation::ports::{Alert, BreakGlass, Opened, Urgency},
};

/// Attempts to write a word down while somebody else writes too.
const ATTEMPTS: u32 = 8;
/// The wait after the first of them; it grows with each.
const PAUSE: Duration = Duration::from_millis(20);

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
        let mut desk = self.claim(secret).await?;
        let fits = access::remember(&mut desk.book.accesses, access.clone(), now);
        desk.release().await?;
        if !fits {
            return Err(AccessError::TooMany);
        }
        let what = format!("{holder} asks for access {} for {lasts:?}: {reason}", access.id);
        self.tell_access(secret, "access_requested", what).await;
        Ok(access)
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
        let access = self.change_access(secret, id, |access| access.approve(by, now)).await?;
        self.tell_access(secret, "access_approved", format!("{by} agrees to access {id}")).await;
        Ok(access)
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
        let access = self.change_access(secret, id, |access| access.open(by, now)).await?;
        let what = format!("{by} opens access {id} for {:?}: {}", access.lasts(), access.reason);
        self.tell_access(secret, "access_opened", what).await;
        let opened = glass.open(place, &access).await.map_err(RequestError::Fault)?;
        let noted = self.change_access(secret, id, |access| {
            access.accessor = Some(opened.accessor.clone());
            access.ends_at = Some(opened.ends_at);
            Ok(())
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
        let access = self.change_access(secret, id, |access| access.end(by, now)).await?;
        self.tell_access(secret, "access_ended", format!("{by} ends access {id}")).await;
        Ok(access)
    }

    /// Changes an access. What is lost to somebody who wrote meanwhile is done again.
    async fn change_access(
        &self,
        secret: &SecretName,
        id: &str,
        change: impl Fn(&mut Access) -> Result<(), AccessRefusal>,
    ) -> Result<Access, AccessError> {
        for attempt in 1..ATTEMPTS {
            match self.try_change_access(secret, id, &change).await {
                Err(AccessError::Request(RequestError::Drive(DriveError::TakenOver))) => {
                    tokio::time::sleep(PAUSE * attempt).await;
                }
                result => return result,
            }
        }
        self.try_change_access(secret, id, &change).await
    }

    async fn try_change_access(
        &self,
        secret: &SecretName,
        id: &str,
        change: impl Fn(&mut Access) -> Result<(), AccessRefusal>,
    ) -> Result<Access, AccessError> {
        let mut desk = self.claim(secret).await?;
        let found = desk.book.accesses.iter_mut().find(|access| access.id == id);
        let result = match found {
            Some(access) => change(access).map(|()| access.clone()).map_err(AccessError::from),
            None => Err(AccessError::Unknown),
        };
        desk.release().await?;
        result
    }

    async fn tell_access(&self, secret: &SecretName, name: &'static str, summary: String) {
        let secret = secret.clone();
        let urgency = Urgency::Critical;
        self.alert(Alert { urgency, name: name.into(), secret, summary }).await;
    }
}
