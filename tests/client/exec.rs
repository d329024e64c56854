//! `exec`: delivery, rotation, exit codes and cleanup.

use std::{fs, path::Path, time::Duration};

use secret_broker_client::proto::Outcome;

use crate::{serving::Fixture, typed::against};

/// Waits until a file that the command writes holds this.
async fn holds(path: &Path, wanted: &str) {
    let waiting = async {
        while fs::read_to_string(path).unwrap_or_default() != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    assert!(in_time.is_ok(), "{wanted:?} never came; {:?}", fs::read_to_string(path));
}

fn sh<'a>(options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["exec"], options, &["--", "sh", "-c", script]].concat()
}

#[tokio::test]
async fn a_command_gets_secrets_in_variables_and_files_and_its_code_is_ours() {
    let fixture = Fixture::new().await;
    fixture.broker.put("DB", 1, &[("username", "app"), ("password", "s3cret")]);
    let parent = fixture.path("files");
    fs::create_dir(&parent).unwrap();
    let result = fixture.path("result");
    let script = format!(
        r#"f=$SECRET_BROKER_FILES/pw; echo "$PGUSER $(cat $f) $(stat -c %a $f) $(stat -c %a $SECRET_BROKER_FILES)" > {}; exit 7"#,
        result.display()
    );
    let options = [
        "--env",
        "PGUSER=DB.username",
        "--file",
        "pw=DB.password",
        "--files-in",
        parent.to_str().unwrap(),
    ];
    let ended = against(&fixture, &sh(&options, &script)).await;
    assert_eq!((ended.code, ended.err.as_str()), (7, ""));
    assert_eq!(fs::read_to_string(&result).unwrap(), "app s3cret 600 700\n");
    assert_eq!(fs::read_dir(&parent).unwrap().count(), 0, "the private directory is removed");
    fixture.broker.reported("DB", 1, Outcome::Applied).await;
}

#[tokio::test]
async fn exit_codes_are_those_of_a_shell() {
    let fixture = Fixture::new().await;
    fixture.broker.put("A", 1, &[("value", "x")]);
    let env = ["--env", "A=A"];
    assert_eq!(against(&fixture, &sh(&env, "exit 0")).await.code, 0);
    assert_eq!(against(&fixture, &sh(&env, "kill -9 $$")).await.code, 137);
    let absent = against(&fixture, &["exec", "--", "/no/such/command"]).await;
    assert_eq!(absent.code, 127, "{}", absent.err);
    assert_eq!(against(&fixture, &["exec", "--", "/etc/passwd"]).await.code, 126);
    assert_eq!(against(&fixture, &sh(&["--env", "A=NONE"], "exit 0")).await.code, 3);
    assert_eq!(against(&fixture, &sh(&["--env", "A=A.none"], "exit 0")).await.code, 2);
}

#[tokio::test]
async fn all_names_the_variables_and_refuses_a_clash() {
    let fixture = Fixture::new().await;
    fixture.broker.put("db-main", 1, &[("password", "p")]);
    fixture.broker.put("TOKEN", 1, &[("value", "t")]);
    let script = r#"test "$DB_MAIN_PASSWORD$TOKEN" = pt"#;
    assert_eq!(against(&fixture, &sh(&["--all"], script)).await.code, 0);
    fixture.broker.put("db.main", 1, &[("password", "q")]);
    let clash = against(&fixture, &sh(&["--all"], script)).await;
    assert_eq!(clash.code, 2);
    assert!(clash.err.contains("DB_MAIN_PASSWORD"), "{}", clash.err);
}

#[tokio::test]
async fn a_rotation_restarts_the_command_and_is_acknowledged() {
    let fixture = Fixture::new().await;
    fixture.broker.put("A", 1, &[("value", "one")]);
    let result = fixture.path("result");
    let script = format!(
        r#"echo "$A" >> {}; if [ "$A" = two ]; then exit 5; fi; while :; do sleep 0.02; done"#,
        result.display()
    );
    let options = ["--env", "A=A"];
    let words = sh(&options, &script);
    let (ended, ()) = tokio::join!(against(&fixture, &words), async {
        holds(&result, "one\n").await;
        fixture.broker.put("A", 2, &[("value", "two")]);
    });
    assert_eq!(ended.code, 5, "{}", ended.err);
    assert_eq!(fs::read_to_string(&result).unwrap(), "one\ntwo\n");
}

#[tokio::test]
async fn an_older_version_is_acknowledged_away_only_after_the_restart() {
    let fixture = Fixture::new().await;
    fixture.broker.put("A", 1, &[("value", "one")]);
    let (log, release) = (fixture.path("log"), fixture.path("release"));
    // The first command takes its time to end.
    let script = format!(
        r#"[ "$A" = two ] && {{ while [ ! -e {release}2 ]; do sleep 0.02; done; exit 0; }}
           trap 'echo asked > {log}; while [ ! -e {release} ]; do sleep 0.02; done; exit 0' TERM
           echo up > {log}; while :; do sleep 0.02; done"#,
        log = log.display(),
        release = release.display()
    );
    let options = ["--env", "A=A"];
    let words = sh(&options, &script);
    let (ended, ()) = tokio::join!(against(&fixture, &words), async {
        holds(&log, "up\n").await;
        fixture.broker.put("A", 2, &[("value", "two")]);
        holds(&log, "asked\n").await;
        assert!(!fixture.broker.reports.borrow().iter().any(|(_, generation, _)| *generation == 2));
        fs::write(&release, "").unwrap();
        fixture.broker.reported("A", 2, Outcome::Applied).await;
        fs::write(fixture.path("release2"), "").unwrap();
    });
    assert_eq!(ended.code, 0, "{}", ended.err);
}

#[tokio::test]
async fn a_command_that_ignores_sigterm_is_killed_after_its_grace() {
    let fixture = Fixture::new().await;
    fixture.broker.put("A", 1, &[("value", "one")]);
    let log = fixture.path("log");
    let script = format!(
        r#"[ "$A" = two ] && exit 3; trap '' TERM; echo up > {}; while :; do sleep 0.02; done"#,
        log.display()
    );
    let options = ["--env", "A=A", "--grace", "100ms"];
    let words = sh(&options, &script);
    let (ended, ()) = tokio::join!(against(&fixture, &words), async {
        holds(&log, "up\n").await;
        fixture.broker.put("A", 2, &[("value", "two")]);
    });
    assert_eq!(ended.code, 3, "{}", ended.err);
}

#[tokio::test]
async fn a_rotation_replaces_files_and_then_signals() {
    let fixture = Fixture::new().await;
    fixture.broker.put("A", 1, &[("value", "one")]);
    let log = fixture.path("log");
    let script = format!(
        r"trap 'cat $SECRET_BROKER_FILES/a > {log}; exit 4' HUP; echo up > {log}; while :; do sleep 0.02; done",
        log = log.display()
    );
    let options = ["--file", "a=A", "--on-rotation", "signal:SIGHUP"];
    let words = sh(&options, &script);
    let (ended, ()) = tokio::join!(against(&fixture, &words), async {
        holds(&log, "up\n").await;
        fixture.broker.put("A", 2, &[("value", "two")]);
    });
    assert_eq!((ended.code, fs::read_to_string(&log).unwrap().as_str()), (4, "two"));
    // The command may still hold the first version: that is not ours to say.
    assert!(!fixture.broker.reports.borrow().iter().any(|(_, generation, _)| *generation == 2));
}

#[tokio::test]
async fn a_rotation_is_followed_through_a_restart_of_the_broker() {
    let mut fixture = Fixture::new().await;
    fixture.broker.put("A", 1, &[("value", "one")]);
    let log = fixture.path("log");
    let script = format!(
        r#"[ "$A" = two ] && exit 0; echo up > {}; while :; do sleep 0.02; done"#,
        log.display()
    );
    let options = ["--env", "A=A"];
    let words = sh(&options, &script);
    let command = {
        let (address, words) = (fixture.address(), words.clone());
        async move {
            let (verb, rest) = words.split_first().unwrap();
            crate::typed::typed(&[&[*verb, "--address", &address], rest].concat(), false).await
        }
    };
    let (ended, ()) = tokio::join!(command, async {
        holds(&log, "up\n").await;
        fixture.restart().await;
        fixture.broker.put("A", 2, &[("value", "two")]);
    });
    assert_eq!(ended.code, 0, "{}", ended.err);
}
