//! Estimates the bits of chance in a field.

use async_trait::async_trait;

use crate::{
    config::operator::validators::Entropy as Settings,
    domain::secret::{Fields, SecretValue},
    rotation::{
        entropy,
        ports::{Evidence, TargetError, Validator},
    },
};

/// Estimates the bits of chance in a field.
#[derive(Debug)]
pub struct Entropy(Settings);

impl Entropy {
    /// By these settings.
    pub fn new(settings: Settings) -> Self {
        Self(settings)
    }
}

#[async_trait]
impl Validator for Entropy {
    fn kind(&self) -> &'static str {
        "entropy"
    }

    async fn validate(
        &self,
        value: &Fields,
        _previous: Option<&Fields>,
    ) -> Result<Evidence, TargetError> {
        let Settings { field, bits } = &self.0;
        let text = value.field(field).map(SecretValue::expose);
        let text =
            text.ok_or_else(|| TargetError::refused(format!("the value has no field `{field}`")))?;
        let found = entropy::bits(text);
        if found < *bits {
            let detail = format!("`{field}` holds at most {found} bits of chance, not {bits}");
            return Err(TargetError::refused(detail));
        }
        Ok(format!("`{field}` looks like {found} bits of chance"))
    }
}
