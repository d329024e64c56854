//! What stands around a rotation: backups, people, alerts, and the way back.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use secret_broker::{
    alert::{Alertmanager, All, Log, Slack},
    config::operator::checks::{AlertSource, MessageForm},
    domain::{
        fault::{Fault, Reason},
        labels::Labels,
        rotation::RotationId,
        secret::{Fields, SecretName},
    },
    rotation::{
        checks::{alerts::Alerts, backup::Backup, notify::Notify, rollback::Rollback},
        ports::{Alert, Alerts as _, Check, Login, Phase, Subject, Urgency, Versions},
        webhook::Webhook,
    },
};
use serde_json::json;

use crate::{cloud::*, support::api::Api};

async fn ask(
    check: &dyn Check,
    phase: Phase,
    current: Option<&Fields>,
) -> Result<String, secret_broker::rotation::ports::TargetError> {
    let secret: SecretName = "JWT_SECRET".parse().unwrap();
    let id = RotationId("r-7".to_owned());
    let version = if current.is_some() { 3 } else { 0 };
    check.check(&Subject { secret: &secret, id: &id, phase, current, version }).await
}

/// A backup that holds a new version only when it was read a few times.
struct Late(AtomicU32);

#[async_trait]
impl Login for Late {
    async fn fields(&self) -> Result<Arc<Fields>, Fault> {
        let text = if self.0.fetch_add(1, Ordering::SeqCst) < 2 { "old" } else { "planted" };
        Ok(Arc::new(fields(&[("value", text), ("note", "by the copier")])))
    }
}

#[tokio::test]
async fn a_backup_has_to_hold_the_version_in_force() {
    let current = fields(&[("value", "planted")]);
    let backup = |all: &[(&'static str, &str)]| Backup::new(given(all), SECOND);
    let good = backup(&[("value", "planted"), ("note", "x")]);
    assert_eq!(
        ask(&good, Phase::Before, Some(&current)).await.unwrap(),
        "the backup holds version 3"
    );
    for all in [&[("value", "other")][..], &[("note", "x")]] {
        let why = refused(ask(&backup(all), Phase::Before, Some(&current)).await);
        assert!(!why.contains("planted"), "{why}");
    }
    ask(&backup(&[]), Phase::Before, None).await.unwrap();
    let late = Backup::new(Arc::new(Late(AtomicU32::new(0))), SECOND);
    ask(&late, Phase::After, Some(&current)).await.expect("it is waited for");
}

/// Versions of which some can be read.
struct Stored(BTreeMap<u64, &'static str>, Labels);

#[async_trait]
impl Versions for Stored {
    fn place(&self) -> &'static str {
        "secret/data/shop/jwt"
    }

    async fn latest(&self) -> Result<u64, Fault> {
        Ok(0)
    }

    async fn read(&self, version: u64) -> Result<Arc<Fields>, Fault> {
        match self.0.get(&version) {
            Some(text) => Ok(Arc::new(fields(&[("value", text)]))),
            None => Err(Fault::new(Reason::NotFound, "no such version")),
        }
    }

    async fn append(&self, _: &Fields, _: u64) -> Result<u64, Fault> {
        Ok(0)
    }

    async fn labels(&self) -> Result<Labels, Fault> {
        Ok(self.1.clone())
    }

    async fn label(&self, _: &Labels) -> Result<(), Fault> {
        Ok(())
    }
}

#[tokio::test]
async fn the_version_to_go_back_to_has_to_be_readable() {
    let current = fields(&[("value", "planted")]);
    let check = |versions: &[(u64, &'static str)], previous| {
        let labels = Labels { previous, ..Labels::default() };
        Rollback::new(Arc::new(Stored(versions.iter().copied().collect(), labels)))
    };
    ask(&check(&[(3, "planted")], None), Phase::Before, Some(&current)).await.unwrap();
    ask(&check(&[], None), Phase::Before, None).await.unwrap();
    refused(ask(&check(&[(3, "other")], None), Phase::Before, Some(&current)).await);
    let lost = check(&[(4, "planted")], Some(3));
    assert_eq!(fault(ask(&lost, Phase::Before, Some(&current)).await), Reason::NotFound);
    assert_eq!(fault(ask(&lost, Phase::After, Some(&current)).await), Reason::NotFound);
    let kept = check(&[(3, "planted")], Some(3));
    assert_eq!(ask(&kept, Phase::After, Some(&current)).await.unwrap(), "version 3 can be read");
}

#[tokio::test]
async fn the_team_is_told_and_the_webhook_has_to_accept_it() {
    let api = Api::start(|_| (200, "ok".to_owned())).await;
    let current = fields(&[("value", "planted-value")]);
    let url = format!("{}/planted-hook", api.address());
    let secret = Webhook::Secret(given(&[("password", &url)]));
    let json = Notify::new(Webhook::Url(api.address()), MessageForm::Json, SECOND, http());
    let slack = Notify::new(secret.clone(), MessageForm::Slack, SECOND, http());
    ask(&json, Phase::Before, Some(&current)).await.unwrap();
    ask(&slack, Phase::After, Some(&current)).await.unwrap();
    let calls = api.calls();
    let expected = json!({
        "event": "rotation_begins",
        "secret": "JWT_SECRET",
        "rotation": "r-7",
        "version": 3,
        "text": "JWT_SECRET is about to be rotated (r-7)",
    });
    assert_eq!(calls[0].json(), expected);
    assert_eq!(calls[1].path, "/planted-hook");
    assert_eq!(calls[1].json(), json!({ "text": "JWT_SECRET was rotated (r-7)" }));
    api.breaks(404);
    let error = ask(&slack, Phase::Before, Some(&current)).await.unwrap_err();
    assert!(!error.to_string().contains("planted"), "{error}");
    let plain = Webhook::Secret(given(&[("password", "http://hooks.example/planted")]));
    let plain = Notify::new(plain, MessageForm::Slack, SECOND, http());
    let error = ask(&plain, Phase::Before, None).await.unwrap_err();
    assert!(error.to_string().contains("http://"), "{error}");
    assert!(!error.to_string().contains("planted"), "{error}");
}

#[tokio::test]
async fn firing_alerts_are_named_as_alertmanager_and_prometheus_tell_them() {
    let firing = Arc::new(Mutex::new(Vec::<&str>::new()));
    let state = Arc::clone(&firing);
    let api = Api::start(move |call| {
        let names = state.lock().unwrap().clone();
        match call.path.as_str() {
            "/api/v2/alerts" => {
                let alerts = names.iter().map(|name| json!({ "labels": { "alertname": name } }));
                (200, json!(alerts.collect::<Vec<_>>()).to_string())
            }
            "/api/v1/query" => {
                let result = names
                    .iter()
                    .map(|name| json!({ "metric": { "alertname": name }, "value": [0, "1"] }));
                let data = json!({ "resultType": "vector", "result": result.collect::<Vec<_>>() });
                (200, json!({ "status": "success", "data": data }).to_string())
            }
            _ => (404, String::new()),
        }
    })
    .await;
    let url = api.address();
    let matchers = vec!["severity=\"critical\"".to_owned()];
    let query = "ALERTS{alertstate=\"firing\"}".to_owned();
    let token = given(&[("password", "planted-token")]);
    let alertmanager = AlertSource::Alertmanager { url: url.clone(), matchers };
    let prometheus = AlertSource::Prometheus { url, query: query.clone() };
    for source in [alertmanager, prometheus] {
        let check = Alerts::new(source, Some(Arc::clone(&token)), SECOND, http());
        firing.lock().unwrap().clear();
        assert_eq!(ask(&check, Phase::Before, None).await.unwrap(), "no alert fires");
        firing.lock().unwrap().extend(["DiskFull", "Disk\n<Slow>", "DiskFull"]);
        let why = refused(ask(&check, Phase::After, None).await);
        assert_eq!(why, "3 alerts fire: DiskFull, DiskSlow");
        api.breaks(503);
        assert_eq!(fault(ask(&check, Phase::Before, None).await), Reason::Unavailable);
        api.breaks(0);
    }
    let calls = api.calls();
    assert_eq!(calls[0].header("authorization"), "Bearer planted-token");
    assert_eq!(calls[0].query("filter"), "severity=\"critical\"");
    assert_eq!((calls[0].query("active"), calls[0].query("silenced")), ("true", "false"));
    assert_eq!(calls[3].query("query"), query);
}

#[tokio::test]
async fn alerts_reach_people_and_say_so_when_they_reach_nobody() {
    let api = Api::start(|_| (200, String::new())).await;
    let hook = || Webhook::Url(api.address());
    let alert = Alert {
        urgency: Urgency::Critical,
        name: "rotation_parked".into(),
        secret: "JWT_SECRET".parse().unwrap(),
        summary: "waits for <somebody>".to_owned(),
    };
    let all = All::new(vec![
        Arc::new(Alertmanager::new(hook(), SECOND, http())),
        Arc::new(Slack::new(hook(), SECOND, http())),
    ]);
    all.raise(&alert).await.unwrap();
    let calls = api.calls();
    assert_eq!(calls[0].path, "/api/v2/alerts");
    let labels = &calls[0].json()[0]["labels"];
    assert_eq!(labels["alertname"], "rotation_parked");
    assert_eq!(labels["severity"], "critical");
    assert_eq!(calls[0].json()[0]["annotations"]["summary"], "waits for <somebody>");
    let text = "[critical] JWT_SECRET: waits for &lt;somebody&gt; (rotation_parked)";
    assert_eq!(calls[1].json(), json!({ "text": text }));
    api.breaks(500);
    assert_eq!(all.raise(&alert).await.unwrap_err().reason, Reason::Failed);
    All::new(Vec::new()).raise(&alert).await.expect("the log is what was asked for");
    let mixed = All::new(vec![Arc::new(Slack::new(hook(), SECOND, http())), Arc::new(Log)]);
    mixed.raise(&alert).await.expect("somebody was told");
}
