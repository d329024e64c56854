//! Looks at the form of a Slack webhook and reaches it without posting a message: Slack tells a
//! webhook that it does not know (404, 403, 410) from a message without a text (400 `no_text`).

use async_trait::async_trait;
use serde_json::json;

use crate::{
    config::operator::validators::Slack as Settings,
    domain::secret::{Fields, SINGLE_FIELD, SecretValue},
    rotation::{
        http::{Http, Method},
        ports::{Evidence, TargetError, Validator},
        rotators::manual::{is_slack_webhook, slack_form},
    },
};

/// What Slack says of a message without a text to a webhook that it knows.
const NO_MESSAGE: [&str; 4] =
    ["no_text", "invalid_payload", "missing_text_or_fallback_or_attachments", "invalid_blocks"];

/// Looks at the form of a Slack webhook and reaches it.
#[derive(Debug)]
pub struct Slack {
    settings: Settings,
    http: Http,
}

impl Slack {
    /// By these settings.
    pub fn new(settings: Settings, http: Http) -> Self {
        Self { settings, http }
    }
}

#[async_trait]
impl Validator for Slack {
    fn kind(&self) -> &'static str {
        "slack"
    }

    async fn validate(
        &self,
        value: &Fields,
        _previous: Option<&Fields>,
    ) -> Result<Evidence, TargetError> {
        let Settings { base, form_only, timeout } = &self.settings;
        let url = value.field(SINGLE_FIELD).map(SecretValue::expose).unwrap_or_default();
        let url = std::str::from_utf8(url).unwrap_or_default();
        if !is_slack_webhook(base, url) {
            return Err(TargetError::refused(format!("expected {}", slack_form(base))));
        }
        if *form_only {
            return Ok("the webhook has its form".to_owned());
        }
        let call = self.http.call("Slack", Method::POST, url, *timeout)?;
        let answer = call.json(&json!({})).send().await?;
        match answer.status {
            400 if NO_MESSAGE.contains(&answer.text().trim()) => {
                Ok("Slack knows the webhook; no message was posted".to_owned())
            }
            403 | 404 | 410 => Err(TargetError::refused("Slack does not know the webhook")),
            _ => Err(answer.refusal("reaching the webhook").into()),
        }
    }
}
