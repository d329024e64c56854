//! Values that people hand over: a Slack webhook, at a server that answers as Slack does.

use std::sync::{Arc, Mutex};

use secret_broker::{
    config::operator::{
        targets::manual::{Manual as Settings, ValueForm},
        validators::Slack as Probe,
    },
    domain::fault::Reason,
    rotation::{
        ports::{Change, Generated, Rotator, Validator},
        rotators::manual::Manual,
        validators::slack::Slack,
    },
};

use crate::{cloud::*, support::api::Api};

const OLD: &str = "services/T01234567/B01234567/plantedOldTokenPlanted00";
const NEW: &str = "services/T01234567/B01234567/plantedNewTokenPlanted00";

/// Webhooks that Slack knows, by path; without a text it says so and posts nothing.
async fn slack(known: &Arc<Mutex<Vec<&'static str>>>) -> Api {
    let known = Arc::clone(known);
    Api::start(move |call| {
        if !known.lock().unwrap().iter().any(|path| call.path == format!("/{path}")) {
            return (404, "no_service".to_owned());
        }
        match call.json()["text"].as_str() {
            Some(_) => (200, "ok".to_owned()),
            None => (400, "no_text".to_owned()),
        }
    })
    .await
}

fn rotator(api: &Api) -> (Manual, Arc<dyn Validator>) {
    let base = format!("{}/", api.address());
    let probe = Probe { base: base.clone(), form_only: false, timeout: SECOND };
    let probe: Arc<dyn Validator> = Arc::new(Slack::new(probe, http()));
    let settings = Settings {
        instructions: "Make a webhook for #shop at Slack.".to_owned(),
        fields: vec!["value".to_owned()],
        form: ValueForm::SlackWebhook(base),
        probe: None,
        patience: SECOND,
    };
    (Manual::new(settings, Some(Arc::clone(&probe))).unwrap(), probe)
}

#[tokio::test]
async fn a_webhook_is_handed_over_proved_and_seen_to_be_removed() {
    let known = Arc::new(Mutex::new(vec![OLD, NEW]));
    let api = slack(&known).await;
    let (rotator, probe) = rotator(&api);
    let url = |path: &str| fields(&[("value", &format!("{}/{path}", api.address()))]);
    let (old, new) = (url(OLD), url(NEW));
    let Ok(Generated::HandOver(how)) = rotator.generate(Some(&old)).await else {
        panic!("a person is asked")
    };
    assert!(how.contains("#shop") && how.contains("a Slack webhook"), "{how}");
    rotator.inspect(&new).await.unwrap();
    let facts = std::collections::BTreeMap::new();
    let change = Change { current: Some(&old), new: &new, facts: &facts };
    for _ in 0..2 {
        rotator.apply(&change).await.unwrap();
        rotator.prove(&new).await.unwrap();
        probe.validate(&new, None).await.unwrap();
    }
    let same = Change { current: Some(&old), new: &old, facts: &facts };
    refused(rotator.apply(&same).await);
    let still = rotator.revoke(&old, Some(&new), ROUTINE).await.unwrap_err();
    assert!(still.to_string().contains("accepted still"), "{still}");
    assert!(!still.to_string().contains("planted"), "{still}");
    known.lock().unwrap().retain(|path| *path != OLD);
    for _ in 0..2 {
        let evidence = done(rotator.revoke(&old, Some(&new), ROUTINE).await);
        assert!(evidence.contains("gone"), "{evidence}");
    }
    let posted = api.calls().iter().filter(|call| call.body.contains("text")).count();
    assert_eq!(posted, 0, "no message was posted");
}

#[tokio::test]
async fn what_has_another_form_or_is_unknown_is_refused_without_being_shown() {
    let known = Arc::new(Mutex::new(vec![NEW]));
    let api = slack(&known).await;
    let (rotator, _) = rotator(&api);
    for value in [
        "https://planted.example/services/T01234567/B01234567/plantedNewTokenPlanted00".to_owned(),
        format!("{}/{OLD}", api.address()),
        format!("{}/services/planted", api.address()),
        String::new(),
    ] {
        let why = refused(rotator.inspect(&fields(&[("value", &value)])).await);
        assert!(!why.contains("planted"), "{why}");
    }
    let more = fields(&[("value", &format!("{}/{NEW}", api.address())), ("note", "x")]);
    assert!(refused(rotator.inspect(&more).await).contains("`note`"));
    api.breaks(500);
    let good = fields(&[("value", &format!("{}/{NEW}", api.address()))]);
    assert_eq!(fault(rotator.inspect(&good).await), Reason::Failed);
}

#[tokio::test]
async fn without_a_probe_the_record_says_that_nobody_looked() {
    let settings = Settings {
        instructions: "Ask the vendor.".to_owned(),
        fields: vec!["value".to_owned()],
        form: ValueForm::Text,
        probe: None,
        patience: SECOND,
    };
    let rotator = Manual::new(settings, None).unwrap();
    let (old, new) = (fields(&[("value", "planted")]), fields(&[("value", "other")]));
    assert!(rotator.prove(&old).await.unwrap().contains("nothing here can tell"));
    assert!(
        done(rotator.revoke(&old, Some(&new), ROUTINE).await).contains("nothing here can tell")
    );
}
