//! KMS keys, at moto.

use secret_broker::{
    config::operator::{
        LoginSource,
        targets::aws_kms::{AwsKms as Settings, KmsKey},
        validators::Kms as KmsSettings,
    },
    domain::fault::Reason,
    rotation::{
        ports::{Change, Rotator, Validator},
        rotators::aws_kms::AwsKms,
        validators::kms::Kms,
    },
};

use crate::{cloud::*, support::moto::Moto};

const ALIAS: &str = "alias/shop-objects";

fn rotator(moto: &Moto, key: KmsKey) -> AwsKms {
    let login = LoginSource::Vault("aws/creds/rotation".to_owned());
    let settings = Settings { aws: aws(moto.address()), login, key, patience: SECOND };
    AwsKms::new(settings, given(&[("username", &moto.admin.0), ("password", &moto.admin.1)]))
}

async fn behind_alias(moto: &Moto) -> String {
    let key = moto.kms().describe_key().key_id(ALIAS).send().await.expect("the alias");
    key.key_metadata().expect("a key").key_id().to_owned()
}

async fn count(moto: &Moto) -> usize {
    moto.kms().list_keys().send().await.expect("keys").keys().len()
}

#[tokio::test]
async fn an_alias_moves_to_a_new_key_and_the_old_one_goes_on_decrypting() {
    let moto = Moto::start().await;
    let rotator = rotator(&moto, KmsKey::Alias(ALIAS.to_owned()));
    let old = applied(&rotator, None).await;
    assert_eq!(behind_alias(&moto).await, text(&old, "value"));
    let new = applied(&rotator, Some(&old)).await;
    assert_ne!(text(&new, "value"), text(&old, "value"));
    assert_eq!(behind_alias(&moto).await, text(&new, "value"));
    for severity in [ROUTINE, COMPROMISED] {
        let evidence = done(rotator.revoke(&old, Some(&new), severity).await);
        assert!(evidence.contains("stays enabled"), "{evidence}");
    }
    rotator.prove(&old).await.expect("what it encrypted can be read");
    let settings = KmsSettings {
        aws: aws(moto.address()),
        login: LoginSource::Vault("aws/creds/reader".to_owned()),
    };
    let login = given(&[("access_key", &moto.admin.0), ("secret_key", &moto.admin.1)]);
    Kms::new(settings, login).validate(&new, None).await.unwrap();
}

#[tokio::test]
async fn a_key_whose_making_was_cut_off_or_taken_back_is_taken_up() {
    let moto = Moto::start().await;
    let rotator = rotator(&moto, KmsKey::Alias(ALIAS.to_owned()));
    let (lost, _) = made(&rotator, None).await;
    let old = applied(&rotator, None).await;
    assert_eq!(text(&lost, "value"), text(&old, "value"), "none is made beside it");
    assert_eq!(count(&moto).await, 1);
    let first = behind_alias(&moto).await;
    let new = applied(&rotator, Some(&old)).await;
    for _ in 0..2 {
        let evidence = done(rotator.revoke(&new, Some(&old), ROUTINE).await);
        assert!(evidence.contains("next rotation"), "{evidence}");
    }
    assert_eq!(behind_alias(&moto).await, first, "the alias is back");
    let again = applied(&rotator, Some(&old)).await;
    assert_eq!(text(&again, "value"), text(&new, "value"));
    assert_eq!(count(&moto).await, 2);
}

#[tokio::test]
async fn the_material_of_a_key_is_rotated_once_however_often_it_is_applied() {
    let moto = Moto::start().await;
    let key = moto.kms().create_key().send().await.unwrap();
    let id = key.key_metadata().unwrap().key_id().to_owned();
    let rotator = rotator(&moto, KmsKey::Material(id.clone()));
    let rotations = async || {
        let rotations = moto.kms().list_key_rotations().key_id(&id).send().await.unwrap();
        rotations.rotations().len()
    };
    let value = applied(&rotator, None).await;
    assert_eq!((text(&value, "value"), rotations().await), (id.as_str(), 1));
    applied(&rotator, Some(&value)).await;
    assert_eq!(rotations().await, 2);
}

#[tokio::test]
async fn keys_that_are_disabled_or_unknown_are_refused_and_no_answer_is_a_fault() {
    let mut moto = Moto::start().await;
    let rotator = rotator(&moto, KmsKey::Alias(ALIAS.to_owned()));
    let old = applied(&rotator, None).await;
    let unknown = fields(&[("value", "00000000-0000-0000-0000-000000000000")]);
    refused(rotator.prove(&unknown).await);
    refused(rotator.prove(&fields(&[("other", "x")])).await);
    moto.kms().disable_key().key_id(text(&old, "value")).send().await.unwrap();
    let why = refused(rotator.prove(&old).await);
    assert!(why.contains("not enabled"), "{why}");
    let facts = std::collections::BTreeMap::new();
    let change = Change { current: None, new: &old, facts: &facts };
    refused(rotator.apply(&change).await);
    moto.kill();
    assert_eq!(fault(rotator.prove(&old).await), Reason::Unavailable);
}
