//! A claimed book: what one actor may write as long as nobody takes it over.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{DriveError, Engine};
use crate::{
    domain::secret::SecretName,
    rotation::ports::{Book, Claim, SaveError, Stamp},
};

/// How often somebody who waits for their turn looks.
const TURN: Duration = Duration::from_millis(200);

/// The book of one secret in the hands of one actor.
pub(super) struct Desk<'a> {
    engine: &'a Engine,
    secret: &'a SecretName,
    pub(super) book: Book,
    stamp: Stamp,
}

impl Engine {
    /// Takes a secret's book, if nobody else works on it.
    pub(super) async fn claim<'a>(
        &'a self,
        secret: &'a SecretName,
    ) -> Result<Desk<'a>, DriveError> {
        let (mut book, stamp) = self.around.journal.load(secret).await?;
        let now = self.now();
        if let Some(claim) = book.claim.take()
            && claim.by != self.actor
            && now < claim.until
        {
            return Err(DriveError::Claimed { by: claim.by, until: claim.until });
        }
        book.epoch += 1;
        let mut desk = Desk { engine: self, secret, book, stamp };
        desk.save().await?;
        Ok(desk)
    }

    /// The same, waiting for a while for whoever works on it.
    pub(super) async fn claim_in_turn<'a>(
        &'a self,
        secret: &'a SecretName,
    ) -> Result<Desk<'a>, DriveError> {
        let mut left = self.limits.claim * 2;
        loop {
            match self.claim(secret).await {
                Err(DriveError::Claimed { .. } | DriveError::TakenOver) if !left.is_zero() => {
                    let wait = TURN.min(left);
                    left -= wait;
                    tokio::time::sleep(wait).await;
                }
                claimed => return claimed,
            }
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.around.clock.wall()
    }
}

impl Desk<'_> {
    /// Writes the book down, and prolongs the claim.
    pub(super) async fn save(&mut self) -> Result<(), DriveError> {
        let until = self.engine.now().checked_add(
            SignedDuration::try_from(self.engine.limits.claim).unwrap_or(SignedDuration::MAX),
        );
        let until = until.unwrap_or(Timestamp::MAX);
        self.book.claim = Some(Claim { by: self.engine.actor.clone(), until });
        self.write().await
    }

    /// Writes the book down, and leaves it to whoever comes next.
    pub(super) async fn release(mut self) -> Result<Book, DriveError> {
        self.book.claim = None;
        self.write().await?;
        Ok(self.book)
    }

    async fn write(&mut self) -> Result<(), DriveError> {
        let journal = &self.engine.around.journal;
        self.stamp = match journal.save(self.secret, &self.book, self.stamp).await {
            Ok(stamp) => stamp,
            Err(SaveError::Conflict) => return Err(DriveError::TakenOver),
            Err(SaveError::Fault(fault)) => return Err(fault.into()),
        };
        self.engine.changed(self.secret);
        Ok(())
    }

    /// Runs a step's work while the claim is prolonged.
    pub(super) async fn while_claimed<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, DriveError> {
        let limits = self.engine.limits;
        let mut work = std::pin::pin!(tokio::time::timeout(limits.step, work));
        loop {
            tokio::select! {
                done = &mut work => return Ok(done.ok()),
                () = tokio::time::sleep(limits.claim / 3) => self.save().await?,
            }
        }
    }
}
