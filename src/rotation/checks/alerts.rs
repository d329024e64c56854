//! No alert fires, as Alertmanager's or Prometheus' API tells.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;

use crate::{
    config::operator::checks::AlertSource,
    domain::{
        fault::{Fault, Reason},
        secret::SecretValue,
    },
    rotation::{
        http::{Call, Http, Method, shown},
        ports::{Check, Evidence, Login, Subject, TargetError},
    },
};

/// The names of alerts that are shown.
const SHOWN: usize = 5;

/// No alert fires.
pub struct Alerts {
    source: AlertSource,
    login: Option<Arc<dyn Login>>,
    timeout: Duration,
    http: Http,
}

impl Alerts {
    /// As this source tells, which `login` opens if it is locked.
    pub fn new(
        source: AlertSource,
        login: Option<Arc<dyn Login>>,
        timeout: Duration,
        http: Http,
    ) -> Self {
        Self { source, login, timeout, http }
    }

    /// The names of the alerts that fire.
    async fn firing(&self) -> Result<Vec<String>, Fault> {
        let (whom, call) = match &self.source {
            AlertSource::Alertmanager { url, matchers } => {
                let whom = "Alertmanager";
                let address = format!("{url}/api/v2/alerts");
                let call = self.http.call(whom, Method::GET, &address, self.timeout)?;
                let call = [("active", "true"), ("silenced", "false"), ("inhibited", "false")]
                    .into_iter()
                    .fold(call, |call, (name, value)| call.query(name, value));
                (whom, matchers.iter().fold(call, |call, matcher| call.query("filter", matcher)))
            }
            AlertSource::Prometheus { url, query } => {
                let whom = "Prometheus";
                let address = format!("{url}/api/v1/query");
                let call = self.http.call(whom, Method::GET, &address, self.timeout)?;
                (whom, call.query("query", query))
            }
        };
        let answer = self.logged_in(call).await?.send().await?;
        if !answer.is_success() {
            return Err(answer.refusal("asking which alerts fire"));
        }
        let answer = answer.json()?;
        let garbled = || {
            let detail = format!("{whom}: the answer is not what its API promises");
            Fault::new(Reason::Invalid, detail)
        };
        let (found, name) = match &self.source {
            AlertSource::Alertmanager { .. } => (answer.as_array(), "/labels/alertname"),
            AlertSource::Prometheus { .. } => {
                let is_vector = answer.pointer("/status").is_some_and(|it| it == "success")
                    && answer.pointer("/data/resultType").is_some_and(|it| it == "vector");
                let result = answer.pointer("/data/result").and_then(Value::as_array);
                (result.filter(|_| is_vector), "/metric/alertname")
            }
        };
        let found = found.ok_or_else(garbled)?;
        let name = |alert: &Value| Some(shown(alert.pointer(name)?.as_str()?));
        Ok(found.iter().map(|alert| name(alert).unwrap_or_else(|| "unnamed".to_owned())).collect())
    }

    async fn logged_in<'a>(&self, call: Call<'a>) -> Result<Call<'a>, Fault> {
        let Some(login) = &self.login else { return Ok(call) };
        let fields = login.fields().await?;
        let field = |name: &str| fields.field(name).map(SecretValue::expose);
        match (field("username"), field("password").or_else(|| field("token"))) {
            (Some(username), Some(password)) => call.basic(username, password),
            (None, Some(token)) => {
                let bearer = zeroize::Zeroizing::new([b"Bearer ", token].concat());
                call.secret_header("authorization", &bearer)
            }
            (_, None) => Err(Fault::new(Reason::Invalid, "the login has no password")),
        }
    }
}

#[async_trait]
impl Check for Alerts {
    fn kind(&self) -> &'static str {
        "alerts"
    }

    async fn check(&self, _subject: &Subject<'_>) -> Result<Evidence, TargetError> {
        let firing = self.firing().await?;
        if firing.is_empty() {
            return Ok("no alert fires".to_owned());
        }
        let names = firing.iter().collect::<BTreeSet<_>>();
        let first = names.iter().take(SHOWN).map(|name| name.as_str()).collect::<Vec<_>>();
        let more = if names.len() > SHOWN { ", …" } else { "" };
        let (count, first) = (firing.len(), first.join(", "));
        Err(TargetError::refused(format!("{count} alerts fire: {first}{more}")))
    }
}
