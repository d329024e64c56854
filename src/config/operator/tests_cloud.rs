//! Which settings of the rotators for tokens, services and AWS, of validators and checks are
//! accepted, and which are refused with what words.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{
    alerts, checks,
    targets::{self, Target, jwt},
    validators,
};
use crate::config::{
    Key,
    check::{Check, checked},
    read::read,
};

fn all<R: DeserializeOwned + Default, T>(
    text: &str,
    complete: fn(&mut Check<'_>, &Key, R) -> Option<T>,
) -> Result<T, String> {
    let env = |name: &str| (name == "PLANTED").then(|| "planted-value".to_owned());
    let read = read::<R>(text);
    checked(read, "test", &env, |check, raw| complete(check, &Key::default(), raw))
        .map(|(value, _)| value)
        .map_err(|mistakes| mistakes.to_string())
}

fn target(text: &str) -> Result<Target, String> {
    all(text, targets::check)
}

const AWS_LOGIN: &str = "login = { username = \"AKIA\", password_env = \"PLANTED\" }";

#[test]
fn the_least_that_each_rotator_needs_is_enough() {
    for text in [
        "[jwt]".to_owned(),
        "[jwt]\nalgorithm = \"EdDSA\"".to_owned(),
        "[api_key]".to_owned(),
        format!("[aws_iam]\nuser = \"shop\"\n{AWS_LOGIN}"),
        format!("[aws_kms]\nalias = \"alias/shop\"\nregion = \"eu-central-1\"\n{AWS_LOGIN}"),
        format!(
            "[aws_kms]\nmethod = \"material\"\nkey_id = \"x\"\nregion = \"eu-west-1\"\n{AWS_LOGIN}"
        ),
        "[datadog]\nname = \"shop\"\nlogin = { vault = \"secret/data/datadog\" }".to_owned(),
        "[manual]\ninstructions = \"Ask Slack.\"\nform = \"slack_webhook\"\nprobe = { slack = {} }"
            .to_owned(),
        "[exec]\ncommand = [\"/opt/rotate\", \"--fast\"]".to_owned(),
    ] {
        target(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn what_a_rotator_can_t_work_with_is_refused_with_what_would_do() {
    for (text, words) in [
        ("[jwt]\nalgorithm = \"none\"", "jwt.algorithm"),
        ("[jwt]\nalgorithm = \"HS512\"\nentropy_bytes = 48", "expected at least 64"),
        ("[jwt]\nalgorithm = \"ES256\"\nentropy_bytes = 48", "belongs to `HS256`"),
        ("[api_key]\nlength = 20\nalphabet = \"hex\"", "expected enough for 128 bits"),
        ("[api_key]\nprefix = \"a b\"", "api_key.prefix"),
        ("[aws_iam]\nuser = \"a/b\"", "not a user's name"),
        ("[aws_iam]\nuser = \"a\"", "aws_iam.login: missing"),
        ("[aws_iam]\nlogin = { password_env = \"PLANTED\" }", "access key's id"),
        ("[aws_iam]\nendpoint = \"http://aws.example\"", "allow_plaintext"),
        ("[aws_kms]\nalias = \"alias/aws/s3\"", "not an alias"),
        ("[aws_kms]\nalias = \"alias/x\"\nkey_id = \"y\"", "belongs to `material`"),
        ("[aws_kms]\nalias = \"alias/x\"", "aws_kms.region: missing"),
        ("[datadog]", "datadog.name: missing"),
        ("[manual]\nform = \"pattern\"\npattern = \"(\"", "not a regular expression"),
        ("[manual]\nform = \"url\"\npattern = \"x\"", "belongs to `pattern`"),
        ("[manual]\ninstructions = \"x\"\nprobe = { }", "manual.probe: missing"),
        ("[exec]\ncommand = []", "exec.command: missing"),
        ("[exec]\ncommand = [\"x\"]\nenvironment = { \"A=B\" = \"\" }", "not a variable's name"),
        ("", "expected exactly one rotator"),
    ] {
        let error = target(text).expect_err(text);
        assert!(error.contains(words), "{text}: {error}");
        assert!(!error.contains("planted"), "{error}");
    }
}

#[test]
fn validators_and_checks_are_complete_or_refused() {
    for text in [
        "jwt = { algorithm = \"HS256\" }",
        "aws = { user = \"shop\" }",
        "http = { url = \"https://shop/health\", send = \"header\", name = \"X-Api-Key\" }",
        "http = { url = \"http://127.0.0.1:80/\", send = \"basic\", status = [200, 204] }",
        "datadog = {}",
        "slack = { form_only = true }",
        "entropy = { field = \"value\", bits = 128 }",
    ] {
        all(text, validators::check).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    for (text, words) in [
        ("", "expected exactly one of jwt"),
        ("jwt = {}\nslack = {}", "several validators"),
        ("http = {}", "http.url: missing"),
        ("http = { url = \"https://u:p@shop/\" }", "a URL of another form"),
        ("http = { url = \"https://shop/\", send = \"query\" }", "http.name: missing"),
        ("http = { url = \"https://shop/\", name = \"x\" }", "not a key of `bearer`"),
        ("http = { url = \"https://shop/\", status = [42] }", "not a status"),
        ("kms = { region = \"eu-west-1\" }", "kms.login: missing"),
    ] {
        let error = all(text, validators::check).expect_err(text);
        assert!(error.contains(words), "{text}: {error}");
    }
    for text in [
        "backup = { vault = \"secret/data/backup/jwt\" }",
        "backup = { directory = \"/mnt/backup\", fields = { value = \"jwt\" } }",
        "notify = { url_env = \"PLANTED\", form = \"slack\" }",
        "alerts = { alertmanager = \"https://alerts\", matchers = ['severity=\"critical\"'] }",
        "alerts = { prometheus = \"https://prometheus\" }",
        "rollback = {}",
    ] {
        all(text, checks::check).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    for (text, words) in [
        ("", "expected exactly one of backup"),
        ("backup = {}", "backup.directory: missing"),
        ("backup = { directory = \"/x\", fields = { value = \"../y\" } }", "not a name"),
        ("notify = {}", "url_file"),
        ("notify = { url = \"https://x/\", url_env = \"PLANTED\" }", "given twice"),
        ("alerts = {}", "alerts.alertmanager: missing"),
        (
            "alerts = { prometheus = \"https://p\", matchers = [\"x\"] }",
            "belongs to `alertmanager`",
        ),
    ] {
        let error = all(text, checks::check).expect_err(text);
        assert!(error.contains(words), "{text}: {error}");
    }
    all("form = \"slack\"\nurl_env = \"PLANTED\"", alerts::check).unwrap();
    let error = all("url = \"http://alerts:9093\"", alerts::check).unwrap_err();
    assert!(error.contains("form: missing") && error.contains("allow_plaintext"), "{error}");
}

#[test]
fn an_overlap_in_which_tokens_would_not_verify_is_refused() {
    fn complete(check: &mut Check<'_>, _: &Key, raw: targets::Rotate) -> Option<()> {
        let Some(Target::Jwt(jwt)) = targets::check(check, &Key::of("rotate"), raw) else {
            return None;
        };
        let (overlap, interval) = (Key::of("overlap"), Key::of("tier"));
        let minutes = |n: u64| Duration::from_secs(n * 60);
        jwt::fits(check, &jwt, (&overlap, minutes(75)), Some((&interval, minutes(10))));
        Some(())
    }
    let rotate = |ttl: &str, cache: &str| {
        all(
            &format!(
                "[jwt]\nmax_token_ttl = \"{ttl}\"\nclock_skew = \"1m\"\nmax_verifier_cache = \"{cache}\""
            ),
            complete,
        )
    };
    rotate("1h", "10m").expect("71 minutes of 75");
    let error = rotate("1h10m", "5m").unwrap_err();
    assert!(error.contains("overlap: an overlap of 75m; expected at least 76m"), "{error}");
    let error = rotate("1h", "11m").unwrap_err();
    assert!(error.contains("tier: a rotation every 10m; expected at least 11m"), "{error}");
}
