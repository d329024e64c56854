//! Datadog API keys, at a server that speaks the published part of Datadog's API.

use std::sync::Mutex;

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

use crate::{
    cloud::*,
    support::{
        api::Api,
        datadog::{APPLICATION, Keys, OWN, datadog},
    },
};

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
