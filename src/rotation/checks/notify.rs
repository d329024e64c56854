//! The team is told before a secret is rotated and after it was; the webhook has to accept it.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use crate::{
    config::operator::checks::MessageForm,
    rotation::{
        http::Http,
        ports::{Check, Evidence, Phase, Subject, TargetError},
        webhook::Webhook,
    },
};

/// The team is told.
pub struct Notify {
    webhook: Webhook,
    form: MessageForm,
    timeout: Duration,
    http: Http,
}

impl Notify {
    /// By messages of this form.
    pub fn new(webhook: Webhook, form: MessageForm, timeout: Duration, http: Http) -> Self {
        Self { webhook, form, timeout, http }
    }
}

#[async_trait]
impl Check for Notify {
    fn kind(&self) -> &'static str {
        "notify"
    }

    async fn check(&self, subject: &Subject<'_>) -> Result<Evidence, TargetError> {
        let Subject { secret, id, phase, version, .. } = subject;
        let (event, text) = match phase {
            Phase::Before => ("rotation_begins", format!("{secret} is about to be rotated ({id})")),
            Phase::After => ("rotation_verified", format!("{secret} was rotated ({id})")),
        };
        let body = match self.form {
            MessageForm::Slack => json!({ "text": text }),
            MessageForm::Json => json!({
                "event": event,
                "secret": secret.as_str(),
                "rotation": id.0,
                "version": version,
                "text": text,
            }),
        };
        self.webhook.post(&self.http, "the team's webhook", "", &body, self.timeout).await?;
        Ok("the team's webhook accepted the message".to_owned())
    }
}
