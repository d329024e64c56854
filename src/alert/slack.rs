//! Alerts as messages of Slack's incoming webhooks, or of what understands them.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use crate::{
    domain::fault::Fault,
    rotation::{
        http::Http,
        ports::{Alert, Alerts},
        webhook::Webhook,
    },
};

/// Posts alerts to a Slack webhook.
pub struct Slack {
    webhook: Webhook,
    timeout: Duration,
    http: Http,
}

impl Slack {
    /// To this webhook.
    pub fn new(webhook: Webhook, timeout: Duration, http: Http) -> Self {
        Self { webhook, timeout, http }
    }
}

#[async_trait]
impl Alerts for Slack {
    async fn raise(&self, alert: &Alert) -> Result<(), Fault> {
        let Alert { urgency, name, secret, summary } = alert;
        let text = escaped(&format!("[{urgency}] {secret}: {summary} ({name})"));
        let body = json!({ "text": text });
        self.webhook.post(&self.http, "Slack", "", &body, self.timeout).await
    }
}

/// A text in which Slack finds no links and mentions.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_mentions_nobody() {
        assert_eq!(escaped("<!channel> & more"), "&lt;!channel&gt; &amp; more");
    }
}
