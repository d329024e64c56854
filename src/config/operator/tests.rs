//! The operator's configuration: what is taken, and what is refused with its place.

use super::{OperatorConfig, targets::Target};

const FILE: &str = r#"
[vault]
address = "http://127.0.0.1:8200"
auth = { method = "token", token_env = "TOKEN" }

[defaults]
environments = ["staging", "production"]
canaries = ["green"]
time_zone = "Europe/Berlin"
window = { days = ["tue", "wed"], from = "22:00", to = "04:00" }

[tiers.weekly]
days = 7

[secrets.JWT_SECRET]
category = "application"
tier = "weekly"
path = "shop/jwt"
overlap = "25h"
rotate.jwt = {}
"#;

fn parse(text: &str) -> Result<OperatorConfig, String> {
    let env = |name: &str| (name == "TOKEN").then(|| "t".to_owned());
    OperatorConfig::parse(text, "operator.toml", &env)
        .map(|(config, _)| config)
        .map_err(|mistakes| mistakes.to_string())
}

#[test]
fn a_secret_has_a_place_terms_and_one_rotator() {
    let config = parse(FILE).unwrap();
    let secret = config.secrets.values().next().unwrap();
    let place = secret.place.as_ref().unwrap();
    assert_eq!((place.mount.as_str(), place.path.as_str()), ("secret", "shop/jwt"));
    assert_eq!(secret.terms.environments, ["staging", "production"]);
    assert_eq!(secret.terms.overlap.as_secs(), 25 * 3600);
    assert!(secret.schedule.window.is_some());
    assert!(matches!(secret.target, Target::Jwt(_)));
}

#[test]
fn every_mistake_is_told_at_once_with_its_key() {
    let text = FILE
        .replace("tier = \"weekly\"", "tier = \"yearly\"")
        .replace("Europe/Berlin", "Moon/Base")
        .replace("\"22:00\"", "\"25:00\"")
        .replace("rotate.jwt = {}", "rotate = { jwt = {}, api_key = {} }\npair = \"OTHER\"");
    let told = parse(&text).unwrap_err();
    for part in [
        "secrets.JWT_SECRET.tier: no such tier; expected one of half-yearly, monthly",
        "secrets.JWT_SECRET.time_zone: no such time zone",
        "secrets.JWT_SECRET.window.from: not a time of day",
        "secrets.JWT_SECRET.rotate: several rotators",
        "secrets.JWT_SECRET.pair: no other secret `OTHER`",
    ] {
        assert!(told.contains(part), "{part}\nin\n{told}");
    }
}

#[test]
fn grants_name_whom_what_and_which_secrets() {
    let grant = "[[policy]]\nidentities = [\"spiffe://prod/ns/*/sa/*\"]\ncategories = [\"**\"]\nverbs = [\"follow\", \"break_glass\"]\n";
    let config = parse(&format!("{FILE}{grant}")).unwrap();
    assert_eq!(config.policy.0.len(), 1);
    let told = parse(&format!("{FILE}[[policy]]\nidentities = [\"ann\"]\nverbs = [\"view\"]\n"));
    let told = told.unwrap_err();
    assert!(told.contains("policy[0].identities[0]: not a pattern of identities"), "{told}");
    assert!(told.contains("policy[0]: about no secret"), "{told}");
}

#[test]
fn two_secrets_never_share_a_place() {
    let other = "[secrets.OTHER]\ncategory = \"x\"\ntier = \"never\"\npath = \"shop/jwt\"\nrotate.api_key = {}\n";
    let told = parse(&format!("{FILE}{other}")).unwrap_err();
    assert!(told.contains("secrets.OTHER.path: the place of `JWT_SECRET`"), "{told}");
}

#[test]
fn the_example_holds_the_whole_catalogue_and_no_mistake() {
    let text = include_str!("../../../docs/examples/secret-operator.toml");
    let config = parse(text).unwrap();
    let names: Vec<_> = config.secrets.keys().map(|name| name.as_str().to_owned()).collect();
    assert_eq!(
        names,
        [
            "API_KEY_MASTER",
            "AWS_KMS_KEY_ID",
            "AWS_OBJECT_STORAGE",
            "DATADOG_API_KEY",
            "JWT_SECRET",
            "POSTGRES_PASSWORD",
            "POSTGRES_READ_REPLICA_PASSWORD",
            "REDIS_PASSWORD",
            "SLACK_WEBHOOK_URL",
        ]
    );
}
