//! Access key pairs, at moto.

use std::time::Duration;

use secret_broker::{
    config::operator::{
        LoginSource, targets::aws_iam::AwsIam as Settings, validators::AwsIdentity,
    },
    domain::fault::Reason,
    rotation::{
        ports::{Revocation, Rotator, Validator},
        rotators::aws_iam::AwsIam,
        validators::aws::Aws,
    },
};

use crate::{cloud::*, support::moto::Moto};

const ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";

fn settings(moto: &Moto) -> Settings {
    Settings {
        aws: aws(moto.address()),
        login: LoginSource::Vault("aws/creds/rotation".to_owned()),
        user: "shop".to_owned(),
        patience: SECOND,
        inactive_for: Duration::from_hours(1),
        exclusive: false,
        deny_older_sessions: false,
    }
}

fn rotator(moto: &Moto, change: impl FnOnce(&mut Settings)) -> AwsIam {
    let mut settings = settings(moto);
    change(&mut settings);
    let (id, secret) = &moto.admin;
    AwsIam::new(settings, given(&[("access_key", id), ("secret_key", secret)]))
}

#[tokio::test]
async fn a_key_pair_is_made_proved_deactivated_and_deleted() {
    let moto = Moto::start().await;
    let rotator = rotator(&moto, |_| ());
    let old = applied(&rotator, None).await;
    let new = applied(&rotator, Some(&old)).await;
    assert_eq!(moto.keys().await.len(), 2, "both are accepted");
    rotator.prove(&old).await.expect("the old one works on");
    for _ in 0..2 {
        let revoked = rotator.revoke(&old, Some(&new), ROUTINE).await;
        let wait = Duration::from_hours(1);
        assert!(
            matches!(&revoked, Ok(Revocation::Continue { wait: found, .. }) if *found == wait),
            "{revoked:?}"
        );
    }
    let expected = [(text(&old, ID).to_owned(), false), (text(&new, ID).to_owned(), true)];
    assert_eq!(moto.keys().await, expected);
    for _ in 0..2 {
        done(rotator.revoke(&old, Some(&new), LATER).await);
    }
    assert_eq!(moto.keys().await, [(text(&new, ID).to_owned(), true)]);
    let why = refused(rotator.prove(&old).await);
    assert!(!why.contains(text(&old, SECRET)), "{why}");
    assert!(refused(rotator.revoke(&new, Some(&new), ROUTINE).await).contains("same"));
}

#[tokio::test]
async fn a_compromised_key_is_deleted_at_once_with_the_sessions_that_it_opened() {
    let moto = Moto::start().await;
    let rotator = rotator(&moto, |settings| settings.deny_older_sessions = true);
    let old = applied(&rotator, None).await;
    for _ in 0..2 {
        let evidence = done(rotator.revoke(&old, None, COMPROMISED).await);
        assert!(evidence.contains("sessions"), "{evidence}");
    }
    assert!(moto.keys().await.is_empty());
    let policy = moto.iam().get_user_policy().user_name("shop");
    let policy = policy.policy_name("secret-broker-deny-older-sessions").send().await.unwrap();
    assert!(
        policy.policy_document().contains("aws%3ATokenIssueTime")
            || policy.policy_document().contains("aws:TokenIssueTime")
    );
}

#[tokio::test]
async fn a_call_that_was_cut_off_leaves_no_key_behind() {
    let moto = Moto::start().await;
    let rotator = rotator(&moto, |_| ());
    let current = applied(&rotator, None).await;
    let (lost, _) = made(&rotator, Some(&current)).await;
    let (new, facts) = made(&rotator, Some(&current)).await;
    let ids = moto.keys().await.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids, [text(&current, ID), text(&new, ID)], "{} is gone", text(&lost, ID));
    assert_eq!(facts["access_key_id"], text(&new, ID));
    assert!(!facts.values().any(|fact| fact == text(&new, SECRET)));
    // Taken back before anybody relied on it: nothing waits.
    rotator.prove(&new).await.unwrap();
    done(rotator.revoke(&new, Some(&current), ROUTINE).await);
    assert_eq!(moto.keys().await, [(text(&current, ID).to_owned(), true)]);
}

#[tokio::test]
async fn a_key_that_somebody_uses_is_not_deleted_to_make_room() {
    let moto = Moto::start().await;
    let careful = rotator(&moto, |_| ());
    let current = applied(&careful, None).await;
    let foreign = applied(&careful, Some(&current)).await;
    let error = no_value(careful.generate(Some(&current)).await);
    assert!(error.to_string().contains("in use"), "{error}");
    assert_eq!(moto.keys().await.len(), 2);
    let exclusive = rotator(&moto, |settings| settings.exclusive = true);
    let (new, _) = made(&exclusive, Some(&current)).await;
    let ids = moto.keys().await.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids, [text(&current, ID), text(&new, ID)], "{} is gone", text(&foreign, ID));
}

#[tokio::test]
async fn pairs_that_aws_does_not_know_and_pairs_of_others_are_refused() {
    let moto = Moto::start().await;
    let rotator = rotator(&moto, |_| ());
    let made_up = fields(&[(ID, "AKIAPLANTED"), (SECRET, "planted-secret")]);
    let others = fields(&[(ID, &moto.admin.0), (SECRET, &moto.admin.1)]);
    let mut good = applied(&rotator, None).await;
    let wrong = fields(&[(ID, text(&good, ID)), (SECRET, "planted-secret")]);
    for value in [&made_up, &others, &wrong, &fields(&[(ID, "x")])] {
        let why = refused(rotator.prove(value).await);
        assert!(!why.contains("planted") && !why.contains("PLANTED"), "{why}");
    }
    let identity = |user: Option<&str>| {
        let user = user.map(str::to_owned);
        Aws::new(AwsIdentity { aws: aws(moto.address()), user, patience: SECOND })
    };
    identity(Some("shop")).validate(&good, None).await.unwrap();
    identity(None).validate(&others, None).await.unwrap();
    refused(identity(Some("shop")).validate(&others, None).await);
    good = fields(&[("value", "x")]);
    refused(identity(None).validate(&good, None).await);
}

#[tokio::test]
async fn an_aws_that_is_down_or_that_forbids_is_a_fault() {
    let mut moto = Moto::start().await;
    let old = applied(&rotator(&moto, |_| ()), None).await;
    let login = given(&[("username", "AKIANOBODY"), ("password", "planted")]);
    let stranger = AwsIam::new(settings(&moto), login);
    let error = no_value(stranger.generate(None).await);
    // Moto's refusals have another form than AWS's, so that their code is lost.
    assert!(error.to_string().starts_with("forbidden: listing"), "{error}");
    assert!(!error.to_string().contains("planted"));
    let rotator = rotator(&moto, |_| ());
    moto.kill();
    assert_eq!(fault(rotator.prove(&old).await), Reason::Unavailable);
    assert_eq!(fault(rotator.revoke(&old, None, ROUTINE).await), Reason::Unavailable);
    let error = no_value(rotator.generate(Some(&old)).await);
    assert!(error.to_string().contains("unavailable"), "{error}");
}
