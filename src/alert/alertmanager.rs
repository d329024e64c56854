//! Alerts in the form of Alertmanager's API, version 2.

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

/// Posts alerts to Alertmanager.
pub struct Alertmanager {
    webhook: Webhook,
    timeout: Duration,
    http: Http,
}

impl Alertmanager {
    /// To the Alertmanager at this base address.
    pub fn new(webhook: Webhook, timeout: Duration, http: Http) -> Self {
        Self { webhook, timeout, http }
    }
}

#[async_trait]
impl Alerts for Alertmanager {
    /// Without an end, so that Alertmanager's own `resolve_timeout` ends it unless it is raised
    /// again.
    async fn raise(&self, alert: &Alert) -> Result<(), Fault> {
        let Alert { urgency, name, secret, summary } = alert;
        let body = json!([{
            "labels": {
                "alertname": name,
                "severity": urgency.to_string(),
                "secret": secret.as_str(),
                "service": "secret-operator",
            },
            "annotations": { "summary": summary },
        }]);
        let path = "/api/v2/alerts";
        self.webhook.post(&self.http, "Alertmanager", path, &body, self.timeout).await
    }
}
