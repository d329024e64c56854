//! Validators of tokens, chance and HTTP services.

use secret_broker::{
    config::operator::{
        targets::jwt::{Algorithm, Jwt as JwtSettings},
        validators::{Entropy as EntropySettings, Http as HttpSettings, HttpMethod, HttpPlace},
    },
    domain::{fault::Reason, secret::Fields},
    rotation::{
        ports::{Generated, Rotator, Validator},
        rotators::jwt::Jwt,
        validators,
    },
};

use crate::{cloud::*, support::api::Api};

fn jwt(algorithm: Algorithm) -> Jwt {
    Jwt::new(JwtSettings {
        algorithm,
        entropy_bytes: 64,
        max_token_ttl: SECOND,
        clock_skew: SECOND,
        max_verifier_cache: SECOND,
    })
}

async fn afresh(rotator: &dyn Rotator, current: &Fields) -> Fields {
    match rotator.generate_afresh(Some(current)).await {
        Ok(Generated::Value { fields, .. }) => fields,
        _ => panic!("a value"),
    }
}

#[tokio::test]
async fn tokens_of_two_versions_are_verified_and_a_compromise_breaks_with_the_old_one() {
    use Algorithm::{ES256, EdDsa, HS256, HS384, HS512};
    for algorithm in [HS256, HS384, HS512, ES256, EdDsa] {
        let (rotator, validator) = (jwt(algorithm), validators::jwt::Jwt::new(algorithm));
        let old = applied(&rotator, None).await;
        let new = applied(&rotator, Some(&old)).await;
        for _ in 0..2 {
            validator.validate(&new, Some(&old)).await.unwrap();
            done(rotator.revoke(&old, Some(&new), ROUTINE).await);
        }
        validator.validate(&new, None).await.unwrap();
        refused(
            validator
                .validate(&new, Some(&new))
                .await
                .map(|evidence| {
                    // A pair verifies its own tokens, which is no proof of an overlap.
                    assert!(matches!(algorithm, ES256 | EdDsa), "{evidence}");
                })
                .and(rotator.revoke(&new, Some(&new), ROUTINE).await),
        );
        let after = afresh(&rotator, &new).await;
        validator.validate(&after, None).await.unwrap();
        for (_, value) in after.iter() {
            assert!(new.iter().all(|(_, known)| known != value), "{algorithm}: nothing lives on");
        }
        refused(validator.validate(&fields(&[("value", "planted")]), None).await);
    }
}

#[tokio::test]
async fn weak_values_are_told_from_values_of_chance() {
    let validator = |field: &str, bits| {
        validators::entropy::Entropy::new(EntropySettings { field: field.to_owned(), bits })
    };
    let value = applied(&jwt(Algorithm::HS256), None).await;
    validator("value", 256).validate(&value, None).await.unwrap();
    let weak = fields(&[("value", "planted-planted-planted-planted-planted-planted")]);
    let why = refused(validator("value", 256).validate(&weak, None).await);
    assert!(!why.contains("planted"), "{why}");
    refused(validator("other", 64).validate(&value, None).await);
}

#[tokio::test]
async fn a_service_is_probed_with_the_credential_where_it_belongs() {
    let api = Api::start(|call| {
        let good = match call.path.as_str() {
            "/bearer" => call.header("authorization") == "Bearer planted-key",
            "/header" => call.header("x-api-key") == "Token planted-key",
            // shop:planted-key
            "/basic" => call.header("authorization") == "Basic c2hvcDpwbGFudGVkLWtleQ==",
            "/query" => call.query("key") == "planted-key" && call.method == "POST",
            _ => return (404, String::new()),
        };
        (if good { 204 } else { 401 }, String::new())
    })
    .await;
    let probe = |path: &str, place: HttpPlace, status: &[u16]| {
        let field = if path == "/basic" { "password" } else { "value" };
        let settings = HttpSettings {
            url: format!("{}{path}", api.address()),
            method: if path == "/query" { HttpMethod::Post } else { HttpMethod::Get },
            place,
            field: field.to_owned(),
            status: status.to_vec(),
            timeout: SECOND,
            patience: SECOND,
        };
        validators::http::Http::new(settings, http())
    };
    let header = |name: &str, prefix: &str| HttpPlace::Header {
        name: name.to_owned(),
        prefix: prefix.to_owned(),
    };
    let bearer = || header("authorization", "Bearer ");
    let login = |key: &str| fields(&[("value", key), ("username", "shop"), ("password", key)]);
    for (path, place) in [
        ("/bearer", bearer()),
        ("/header", header("x-api-key", "Token ")),
        ("/basic", HttpPlace::Basic(None)),
        ("/basic", HttpPlace::Basic(Some("shop".to_owned()))),
        ("/query", HttpPlace::Query("key".to_owned())),
    ] {
        let validator = probe(path, place, &[]);
        validator.validate(&login("planted-key"), None).await.unwrap();
        let why = refused(validator.validate(&login("planted-other"), None).await);
        assert!(!why.contains("planted"), "{why}");
    }
    refused(probe("/bearer", bearer(), &[200]).validate(&login("planted-key"), None).await);
    let bad = fields(&[("value", "planted\nkey")]);
    refused(probe("/bearer", bearer(), &[]).validate(&bad, None).await);
    let lost = probe("/nowhere", bearer(), &[]);
    assert_eq!(fault(lost.validate(&login("planted-key"), None).await), Reason::Invalid);
    api.breaks(503);
    let down = probe("/bearer", bearer(), &[]);
    assert_eq!(fault(down.validate(&login("planted-key"), None).await), Reason::Unavailable);
}
