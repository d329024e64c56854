//! Values that a person makes and hands over, with what the operator can find out about them.
//!
//! Without a probe the operator knows the form of a value only, and says so in its evidence.

use std::{borrow::Cow, sync::Arc, time::Duration};

use async_trait::async_trait;
use regex_lite::Regex;

use crate::{
    config::operator::targets::manual::{Manual as Settings, ValueForm},
    domain::{
        fault::{Fault, Reason},
        secret::{Fields, SecretValue},
    },
    rotation::{
        patience,
        ports::{
            Change, Evidence, Generated, Revocation, Rotator, Severity, TargetError, Validator,
        },
    },
};

/// The longest value that a person hands over, in bytes.
const LONGEST: usize = 64 * 1024;

/// Values that a person makes and hands over.
pub struct Manual {
    instructions: String,
    fields: Vec<String>,
    form: Form,
    probe: Option<Arc<dyn Validator>>,
    patience: Duration,
}

enum Form {
    Text,
    Url,
    SlackWebhook(String),
    Pattern(Regex),
}

impl Manual {
    /// By these settings; `probe` is the validator that they name, if they do.
    ///
    /// # Errors
    /// When the pattern is not one.
    pub fn new(settings: Settings, probe: Option<Arc<dyn Validator>>) -> Result<Self, Fault> {
        let form = match settings.form {
            ValueForm::Text => Form::Text,
            ValueForm::Url => Form::Url,
            ValueForm::SlackWebhook(base) => Form::SlackWebhook(base),
            ValueForm::Pattern(pattern) => {
                let whole = Regex::new(&format!("^(?:{pattern})$"));
                let unusable = |_| Fault::new(Reason::Invalid, "the pattern can't be used");
                Form::Pattern(whole.map_err(unusable)?)
            }
        };
        let Settings { instructions, fields, patience, .. } = settings;
        Ok(Self { instructions, fields, form, probe, patience })
    }

    fn check(&self, value: &Fields) -> Result<Evidence, TargetError> {
        if let Some((name, _)) = value.iter().find(|(name, _)| !self.is_field(name)) {
            return Err(TargetError::refused(format!("there is no field `{name}`")));
        }
        for name in &self.fields {
            let field = value.field(name).map(SecretValue::expose).unwrap_or_default();
            let text = std::str::from_utf8(field).unwrap_or_default();
            if text.is_empty() || text.len() > LONGEST || !self.form.fits(text) {
                let expected = self.form.expected();
                return Err(TargetError::refused(format!("`{name}`: expected {expected}")));
            }
        }
        Ok("the value has its form".to_owned())
    }

    fn is_field(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field == name)
    }

    async fn accepted(&self, value: &Fields) -> Result<Evidence, TargetError> {
        let form = self.check(value)?;
        let Some(probe) = &self.probe else {
            return Ok(format!("{form}; whether it is accepted, nothing here can tell"));
        };
        patience::until(self.patience, || probe.validate(value, None)).await
    }
}

impl Form {
    fn fits(&self, text: &str) -> bool {
        let is_line = !text.contains(['\n', '\r', '\0']);
        match self {
            Self::Text => is_line,
            Self::Url => {
                let rest = text.strip_prefix("https://").unwrap_or_default();
                is_line && !rest.is_empty() && !text.contains(char::is_whitespace)
            }
            Self::SlackWebhook(base) => is_slack_webhook(base, text),
            Self::Pattern(pattern) => pattern.is_match(text),
        }
    }

    fn expected(&self) -> Cow<'static, str> {
        match self {
            Self::Text => "a text of one line".into(),
            Self::Url => "an address that begins with https://".into(),
            Self::SlackWebhook(base) => slack_form(base).into(),
            Self::Pattern(_) => "a text that matches the pattern".into(),
        }
    }
}

/// The form of a Slack webhook, for people.
pub(in crate::rotation) fn slack_form(base: &str) -> String {
    format!("a Slack webhook: {base}services/T…/B…/…")
}

/// Whether a text is the address of a Slack webhook: of an app, or of a workflow.
pub(in crate::rotation) fn is_slack_webhook(base: &str, text: &str) -> bool {
    let is_id = |text: &str, first: char| {
        text.starts_with(first)
            && text.len() >= 9
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    };
    let is_token = |text: &str| text.len() >= 20 && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let steps = text.strip_prefix(base).unwrap_or_default().split('/').collect::<Vec<_>>();
    match steps.as_slice() {
        ["services", team, app, token] => is_id(team, 'T') && is_id(app, 'B') && is_token(token),
        ["triggers", team, id, token] => {
            let digits = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
            is_id(team, 'T') && digits && is_token(token)
        }
        _ => false,
    }
}

#[async_trait]
impl Rotator for Manual {
    fn kind(&self) -> &'static str {
        "manual"
    }

    async fn generate(&self, _current: Option<&Fields>) -> Result<Generated, TargetError> {
        let fields = self.fields.join(", ");
        let (how, expected) = (&self.instructions, self.form.expected());
        Ok(Generated::HandOver(format!("{how} Hand over {fields}: {expected}.")))
    }

    async fn inspect(&self, supplied: &Fields) -> Result<(), TargetError> {
        self.accepted(supplied).await.map(drop)
    }

    async fn apply(&self, change: &Change<'_>) -> Result<Evidence, TargetError> {
        if change.current.is_some_and(|current| current == change.new) {
            return Err(TargetError::refused("the value is the one that is in force"));
        }
        self.accepted(change.new).await
    }

    async fn prove(&self, value: &Fields) -> Result<Evidence, TargetError> {
        self.accepted(value).await
    }

    /// A person revokes; the operator looks whether it was done.
    async fn revoke(
        &self,
        old: &Fields,
        kept: Option<&Fields>,
        _severity: Severity,
    ) -> Result<Revocation, TargetError> {
        if kept.is_some_and(|kept| kept == old) {
            return Err(TargetError::refused("both versions are the same value"));
        }
        let Some(probe) = &self.probe else {
            let detail = "the old value is revoked by hand, as described; nothing here can tell";
            return Ok(Revocation::Done(detail.to_owned()));
        };
        match probe.validate(old, None).await {
            Err(TargetError::Refused(detail)) => Ok(Revocation::Done(format!("gone: {detail}"))),
            Err(fault) => Err(fault),
            Ok(_) => Err(TargetError::fault(
                Reason::Failed,
                format!(
                    "the old value is accepted still; revoke it by hand: {}",
                    self.instructions
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "https://hooks.slack.com/";

    #[test]
    fn a_slack_webhook_has_its_fixed_form() {
        let good = "https://hooks.slack.com/services/T01234567/B01234567/abcdefghijklmnopqrstuvwx";
        assert!(is_slack_webhook(BASE, good));
        for bad in [
            "http://hooks.slack.com/services/T01234567/B01234567/abcdefghijklmnopqrstuvwx",
            "https://hooks.slack.com.evil.org/services/T01234567/B01234567/abcdefghijklmnopqrstuvwx",
            "https://hooks.slack.com/services/T01234567/B01234567/short",
            "https://hooks.slack.com/services/X01234567/B01234567/abcdefghijklmnopqrstuvwx",
            "https://hooks.slack.com/services/T01234567/B01234567/abcdefghijklmnopqrstuvwx?x=1",
            "https://hooks.slack.com/services/T01234567/B01234567/abcdefghijklmnopqrstuvwx/",
            "",
        ] {
            assert!(!is_slack_webhook(BASE, bad), "{bad}");
        }
    }

    #[test]
    fn a_pattern_has_to_match_the_whole_value() {
        let settings = Settings {
            instructions: "Ask.".into(),
            fields: vec!["value".into()],
            form: ValueForm::Pattern("a|b+".into()),
            probe: None,
            patience: Duration::ZERO,
        };
        let manual = Manual::new(settings, None).unwrap();
        for (text, fits) in [("a", true), ("bbb", true), ("ab", false), ("ca", false), ("", false)]
        {
            let value = Fields::single(SecretValue::new(text));
            assert_eq!(manual.check(&value).is_ok(), fits, "{text}");
        }
        let more = [("value", "a"), ("other", "a")];
        let more = more.map(|(n, v)| (n.to_owned(), SecretValue::new(v))).into_iter().collect();
        assert!(manual.check(&more).is_err());
    }
}
