//! A second place holds the version in force, so that it survives the loss of the first one.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    domain::secret::Fields,
    rotation::{
        patience,
        ports::{Check, Evidence, Login, Phase, Subject, TargetError},
    },
};

/// A second place holds the version in force.
pub struct Backup {
    source: Arc<dyn Login>,
    patience: Duration,
}

impl Backup {
    /// `source` reads the second place, whose fields bear the names of the secret's; it may take
    /// `patience` to hold a new version.
    pub fn new(source: Arc<dyn Login>, patience: Duration) -> Self {
        Self { source, patience }
    }

    async fn holds(&self, current: &Fields) -> Result<(), TargetError> {
        let backup = self.source.fields().await?;
        // More fields, such as a note of who wrote it, do no harm.
        let missing = current.iter().find(|(name, value)| backup.field(name) != Some(*value));
        match missing {
            None => Ok(()),
            Some((name, _)) if backup.field(name).is_none() => {
                Err(TargetError::refused(format!("the backup has no field `{name}`")))
            }
            Some((name, _)) => {
                let detail = format!("the backup's field `{name}` is not the one in force");
                Err(TargetError::refused(detail))
            }
        }
    }
}

#[async_trait]
impl Check for Backup {
    fn kind(&self) -> &'static str {
        "backup"
    }

    async fn check(&self, subject: &Subject<'_>) -> Result<Evidence, TargetError> {
        let Some(current) = subject.current else {
            self.source.fields().await?;
            return Ok("the backup can be read; there is no version yet".to_owned());
        };
        match subject.phase {
            Phase::Before => self.holds(current).await?,
            // Whoever copies it needs a while.
            Phase::After => patience::until(self.patience, || self.holds(current)).await?,
        }
        Ok(format!("the backup holds version {}", subject.version))
    }
}
