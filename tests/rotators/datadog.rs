//! Datadog API keys, at a server that speaks the published part of Datadog's API.

use std::sync::{Arc, Mutex};

use secret_broker::{
    config::operator::{
        LoginSource, targets::datadog::Datadog as Settings, validators::Datadog as Probe,
    },
    domain::fault::Reason,
    rotation::{
        ports::{Rotator, Validator},
        rotators::datadog::Datadog,
        validators,
    },
};
use serde_json::json;

use crate::{
    cloud::*,
    support::api::{Api, Call, Reply},
};

const APPLICATION: &str = "planted-application-key";
const OWN: &str = "planted-operator-key";

#[derive(Default)]
struct Keys {
    /// Id, name and key.
    all: Vec<(String, String, String)>,
    made: usize,
    /// Validations that a new key still fails.
    lag: usize,
}

fn answer(keys: &Mutex<Keys>, call: &Call) -> Reply {
    let mut keys = keys.lock().unwrap();
    let api = call.header("dd-api-key").to_owned();
    let is_known = api == OWN || keys.all.iter().any(|(_, _, key)| *key == api);
    if call.path == "/api/v1/validate" {
        if keys.lag > 0 {
            keys.lag -= 1;
            return (403, json!({ "errors": ["Forbidden"] }).to_string());
        }
        let status = if is_known { 200 } else { 403 };
        return (status, json!({ "valid": is_known }).to_string());
    }
    if !is_known || call.header("dd-application-key") != APPLICATION {
        return (403, json!({ "errors": ["Forbidden"] }).to_string());
    }
    match (call.method.as_str(), call.path.strip_prefix("/api/v2/api_keys")) {
        ("GET", Some("")) => {
            let filter = call.query("filter");
            let found = keys.all.iter().filter(|(_, name, _)| name.contains(filter));
            let found = found.map(|(id, name, key)| {
                let last4 = &key[key.len() - 4..];
                json!({ "type": "api_keys", "id": id, "attributes": { "name": name, "last4": last4 } })
            });
            (200, json!({ "data": found.collect::<Vec<_>>() }).to_string())
        }
        ("POST", Some("")) => {
            let name = call.json()["data"]["attributes"]["name"].as_str().unwrap().to_owned();
            keys.made += 1;
            let (id, key) = (format!("id-{}", keys.made), format!("planted-key-{:04}", keys.made));
            keys.all.push((id.clone(), name.clone(), key.clone()));
            let attributes = json!({ "name": name, "key": key });
            (
                201,
                json!({ "data": { "type": "api_keys", "id": id, "attributes": attributes } })
                    .to_string(),
            )
        }
        ("DELETE", Some(id)) => {
            let before = keys.all.len();
            keys.all.retain(|(known, _, _)| Some(known.as_str()) != id.strip_prefix('/'));
            if keys.all.len() < before { (204, String::new()) } else { (404, "{}".to_owned()) }
        }
        _ => (405, String::new()),
    }
}

async fn datadog(lag: usize) -> (Api, Arc<Mutex<Keys>>) {
    let keys = Arc::new(Mutex::new(Keys { lag, ..Keys::default() }));
    let state = Arc::clone(&keys);
    (Api::start(move |call| answer(&state, call)).await, keys)
}

fn rotator(api: &Api, login: &[(&'static str, &str)]) -> Datadog {
    let settings = Settings {
        url: api.address(),
        name: "shop".to_owned(),
        login: LoginSource::Vault("secret/data/datadog".to_owned()),
        timeout: SECOND,
        patience: SECOND,
    };
    Datadog::new(settings, http(), given(login))
}

const FULL: &[(&str, &str)] = &[("application_key", APPLICATION), ("api_key", OWN)];

fn ids(keys: &Mutex<Keys>) -> Vec<String> {
    keys.lock().unwrap().all.iter().map(|(id, _, _)| id.clone()).collect()
}

#[tokio::test]
async fn a_key_is_made_proved_and_deleted() {
    let (api, keys) = datadog(2).await;
    let rotator = rotator(&api, FULL);
    let old = applied(&rotator, None).await;
    let new = applied(&rotator, Some(&old)).await;
    rotator.prove(&old).await.expect("both are accepted");
    for _ in 0..2 {
        done(rotator.revoke(&old, Some(&new), ROUTINE).await);
    }
    assert_eq!(ids(&keys), [text(&new, "key_id")]);
    let why = refused(rotator.prove(&old).await);
    assert!(!why.contains("planted"), "{why}");
    let probe = Probe { url: api.address(), timeout: SECOND, patience: SECOND };
    let validator = validators::datadog::Datadog::new(probe, http());
    validator.validate(&new, None).await.unwrap();
    refused(validator.validate(&old, None).await);
    let shown =
        api.calls().iter().all(|call| !call.query.iter().any(|(_, v)| v.contains("planted")));
    assert!(shown, "no key goes into an address");
}

#[tokio::test]
async fn a_call_that_was_cut_off_leaves_no_key_behind() {
    let (api, keys) = datadog(0).await;
    keys.lock().unwrap().all.push(("other".into(), "shop-staging".into(), "planted-else".into()));
    let rotator = rotator(&api, FULL);
    let current = applied(&rotator, None).await;
    made(&rotator, Some(&current)).await;
    let (new, facts) = made(&rotator, Some(&current)).await;
    assert_eq!(ids(&keys), ["other", text(&current, "key_id"), text(&new, "key_id")]);
    assert_eq!(facts["key_id"], text(&new, "key_id"));
}

#[tokio::test]
async fn the_key_in_force_is_the_login_where_the_operator_has_none_of_its_own() {
    let (api, keys) = datadog(0).await;
    keys.lock().unwrap().all.push(("old".into(), "shop".into(), "planted-old-9876".into()));
    let rotator = rotator(&api, &[("password", APPLICATION)]);
    let error = no_value(rotator.generate(None).await);
    assert!(error.to_string().contains("api_key"), "{error}");
    // A value from before this operator: its id is found by how it ends.
    let old = fields(&[("value", "planted-old-9876")]);
    let new = applied(&rotator, Some(&old)).await;
    done(rotator.revoke(&old, Some(&new), ROUTINE).await);
    assert_eq!(ids(&keys), [text(&new, "key_id")]);
    for _ in 0..2 {
        done(rotator.revoke(&new, None, COMPROMISED).await);
    }
    assert!(ids(&keys).is_empty());
}

#[tokio::test]
async fn a_datadog_that_is_down_or_slowed_down_is_a_transient_fault() {
    let (api, _) = datadog(0).await;
    let rotator = rotator(&api, FULL);
    let old = applied(&rotator, None).await;
    for (status, reason) in
        [(503, Reason::Unavailable), (500, Reason::Failed), (429, Reason::Throttled)]
    {
        api.breaks(status);
        assert_eq!(fault(rotator.prove(&old).await), reason);
        assert_eq!(fault(rotator.revoke(&old, None, ROUTINE).await), reason);
        assert!(reason.is_transient());
    }
    api.breaks(302);
    assert_eq!(fault(rotator.prove(&old).await), Reason::Invalid);
    drop(api);
    let error = no_value(rotator.generate(Some(&old)).await);
    assert!(error.to_string().contains("unavailable"), "{error}");
    assert!(!error.to_string().contains("planted"), "{error}");
}
