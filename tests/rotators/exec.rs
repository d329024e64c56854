//! Commands of one's own: real ones, in Python and shell.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use secret_broker::{
    config::operator::targets::exec::Exec as Settings,
    domain::fault::Reason,
    rotation::{
        ports::{Change, Generated, Revocation, Rotator},
        rotators::exec::Exec,
    },
};
use tempfile::TempDir;

use crate::cloud::*;

/// Keeps the values that it accepts as files of a directory.
const PYTHON: &str = r#"#!/usr/bin/env python3
import json, os, secrets, sys

task = json.load(sys.stdin)
assert task["protocol"] == 1 and task["secret"] == "SHOP_KEY", task
home = os.environ["STORE"]
path = lambda fields: os.path.join(home, fields["value"])

def create():
    value = "planted-" + secrets.token_hex(16)
    return {"fields": {"value": value}, "facts": {"made": "by python"}}

def set():
    assert task["facts"] == {"made": "by python"}, task
    open(path(task["pending"]), "w").close()
    return {"evidence": "set " + task["pending"]["value"]}

def test():
    if not os.path.exists(path(task["pending"])):
        print(json.dumps({"message": "no such value: " + task["pending"]["value"]}))
        sys.exit(10)
    return {"evidence": "it is there, says " + task["login"]["username"]}

def finish():
    if task["part"] == 0 and not task["compromised"]:
        return {"evidence": "marked", "wait_secs": 5}
    if os.path.exists(path(task["previous"])):
        os.remove(path(task["previous"]))
    return {"evidence": "removed"}

print(task, file=sys.stderr)
print(json.dumps({"create": create, "set": set, "test": test, "finish": finish}[task["step"]]()))
"#;

fn script(directory: &Path, text: &str) -> String {
    let path = directory.join("rotate");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn rotator(directory: &Path, text: &str, change: impl FnOnce(&mut Settings)) -> Exec {
    let mut settings = Settings {
        program: script(directory, text),
        arguments: Vec::new(),
        environment: BTreeMap::from([("STORE".to_owned(), directory.display().to_string())]),
        login: None,
        timeout: Duration::from_secs(20),
        answer_bytes: 4096,
        single: false,
        breaks: None,
    };
    change(&mut settings);
    let login = given(&[("username", "operator"), ("password", "planted-login")]);
    let variable = |name: &str| std::env::var(name).ok();
    Exec::new(settings, "SHOP_KEY".parse().unwrap(), Some(login), variable)
}

fn shell(lines: &str) -> (TempDir, Exec) {
    let directory = tempfile::tempdir().unwrap();
    let text = format!("#!/bin/sh\n{lines}\n");
    let rotator = rotator(directory.path(), &text, |settings| {
        settings.timeout = Duration::from_secs(2);
    });
    (directory, rotator)
}

#[tokio::test]
async fn a_command_carries_a_rotation_through_all_its_steps() {
    let directory = tempfile::tempdir().unwrap();
    let rotator = rotator(directory.path(), PYTHON, |_| ());
    let old = applied(&rotator, None).await;
    let (new, facts) = made(&rotator, Some(&old)).await;
    assert_eq!(facts["made"], "by python");
    let change = Change { current: Some(&old), new: &new, facts: &facts };
    let evidence = rotator.apply(&change).await.unwrap();
    assert_eq!(evidence, "set [redacted]");
    assert_eq!(rotator.prove(&new).await.unwrap(), "it is there, says [redacted]");
    let revoked = rotator.revoke(&old, Some(&new), ROUTINE).await.unwrap();
    let wait = Duration::from_secs(5);
    assert_eq!(revoked, Revocation::Continue { evidence: "marked".into(), wait });
    for _ in 0..2 {
        assert_eq!(done(rotator.revoke(&old, Some(&new), LATER).await), "removed");
    }
    assert_eq!(refused(rotator.prove(&old).await), "the step test: no such value: [redacted]");
    rotator.prove(&new).await.unwrap();
}

#[tokio::test]
async fn each_way_to_fail_has_its_meaning_and_shows_no_value() {
    let value = fields(&[("value", "planted-value")]);
    for (lines, reason) in [
        ("echo planted-value >&2; exit 1", Reason::Failed),
        ("echo '{\"message\": \"planted-value\"}'; exit 11", Reason::Invalid),
        ("echo planted-value", Reason::Invalid),
        ("echo '{\"unknown\": \"planted-value\"}'", Reason::Invalid),
        ("kill -9 $$", Reason::Failed),
        ("head -c 10000 /dev/zero", Reason::Invalid),
        ("sleep 30", Reason::Timeout),
        ("sleep 30 & exit 0", Reason::Timeout),
    ] {
        let (_directory, rotator) = shell(lines);
        let error = rotator.prove(&value).await.expect_err(lines);
        assert!(!format!("{error} {error:?}").contains("planted"), "{lines}: {error}");
        assert_eq!(fault(Err::<(), _>(error)), reason, "{lines}");
    }
    let (_directory, rotator) = shell("exit 10");
    refused(rotator.prove(&value).await);
    let missing = rotator_of_nothing();
    assert_eq!(fault(missing.prove(&value).await), Reason::Invalid);
}

fn rotator_of_nothing() -> Exec {
    let directory = tempfile::tempdir().unwrap();
    rotator(directory.path(), "", |settings| "/nowhere/rotate".clone_into(&mut settings.program))
}

#[tokio::test]
async fn a_command_that_took_too_long_ends_with_all_that_it_started() {
    let lines = "sleep 300 & echo $! > \"$STORE/child\"; wait";
    let (directory, rotator) = shell(lines);
    let value = fields(&[("value", "planted")]);
    assert_eq!(fault(rotator.prove(&value).await), Reason::Timeout);
    let pid = fs::read_to_string(directory.path().join("child")).unwrap();
    crate::support::until("the child is gone", async || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_create_answers_is_checked() {
    let answer = |text: &str| format!("echo '{text}'");
    let (_directory, person) = shell(&answer(r#"{"hand_over": "Ask the vendor."}"#));
    assert!(matches!(
        person.generate(None).await,
        Ok(Generated::HandOver(how)) if how == "Ask the vendor."
    ));
    for text in [
        "{}",
        r#"{"fields": {"value": ""}}"#,
        r#"{"fields": {"value": "planted-value"}, "facts": {"id": "of planted-value"}}"#,
        r#"{"fields": {"value": 7}}"#,
    ] {
        let (_directory, rotator) = shell(&answer(text));
        let error = no_value(rotator.generate(None).await);
        assert!(!error.to_string().contains("planted"), "{error}");
        assert_eq!(fault(Err::<(), _>(error)), Reason::Invalid, "{text}");
    }
}

#[tokio::test]
async fn a_command_sees_none_of_the_operator_s_variables_but_a_few() {
    let lines = "env | cut -d= -f1 | grep -v '^_$\\|^PWD$\\|^SHLVL$' | sort | tr '\\n' ' ' > \"$STORE/env\"; echo '{}'";
    let (directory, rotator) = shell(lines);
    rotator.prove(&fields(&[("value", "x")])).await.unwrap();
    let seen = fs::read_to_string(directory.path().join("env")).unwrap();
    let allowed = ["PATH", "HOME", "LANG", "TZ", "STORE", "OLDPWD"];
    assert!(seen.split_whitespace().all(|name| allowed.contains(&name)), "{seen}");
}
