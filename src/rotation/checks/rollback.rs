//! The version to go back to can be read at its store.

use std::sync::Arc;

use async_trait::async_trait;

use crate::rotation::ports::{Check, Evidence, Phase, Subject, TargetError, Versions};

/// The version to go back to can be read.
pub struct Rollback(Arc<dyn Versions>);

impl Rollback {
    /// For the secret of these versions.
    pub fn new(versions: Arc<dyn Versions>) -> Self {
        Self(versions)
    }
}

#[async_trait]
impl Check for Rollback {
    fn kind(&self) -> &'static str {
        "rollback"
    }

    async fn check(&self, subject: &Subject<'_>) -> Result<Evidence, TargetError> {
        let version = match subject.phase {
            Phase::Before => subject.version,
            Phase::After => self.0.labels().await?.previous.unwrap_or_default(),
        };
        if version == 0 {
            return Ok("there is no version to go back to".to_owned());
        }
        let stored = self.0.read(version).await?;
        if stored.is_empty() {
            return Err(TargetError::refused(format!("version {version} holds nothing")));
        }
        if subject.phase == Phase::Before && subject.current.is_some_and(|it| *it != *stored) {
            return Err(TargetError::refused(format!("version {version} is not the one in force")));
        }
        Ok(format!("version {version} can be read"))
    }
}
