//! `render`: files written as a whole, with their mode, and strictly.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use secret_broker_client::proto::Outcome;

use crate::{serving::Fixture, typed::against};

const CONFIG: &str = "# app\nuser={{ secret(\"DB\").username }}\n{% if true %}pass={{ secret('DB').password }}\n{% endif %}key={{ secret('KEY').value }}\n";

fn spec(fixture: &Fixture, template: &str, suffix: &str) -> String {
    fs::write(fixture.path("app.j2"), template).unwrap();
    format!("{}:{}{suffix}", fixture.path("app.j2").display(), fixture.path("app.conf").display())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn put_both(fixture: &Fixture) {
    fixture.broker.put("DB", 1, &[("username", "app"), ("password", "s3cret")]);
    fixture.broker.put("KEY", 1, &[("value", "<&k>")]);
}

#[tokio::test]
async fn a_template_is_rendered_once_with_mode_and_owner() {
    let fixture = Fixture::new().await;
    put_both(&fixture);
    let uid = rustix::process::getuid().as_raw();
    let spec = spec(&fixture, CONFIG, &format!(":640:{uid}"));
    let words = ["render", "--template", &spec, "--once"];
    let ended = against(&fixture, &words).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let out = fixture.path("app.conf");
    assert_eq!(fs::read_to_string(&out).unwrap(), "# app\nuser=app\npass=s3cret\nkey=<&k>\n");
    assert_eq!(mode(&out), 0o640);
    let names: Vec<_> =
        fs::read_dir(fixture.directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "nothing is left beside it: {names:?}");
}

#[tokio::test]
async fn a_file_that_is_right_already_is_left_alone() {
    let fixture = Fixture::new().await;
    put_both(&fixture);
    let spec = spec(&fixture, CONFIG, "");
    let count = format!("echo x >> {}", fixture.path("changes").display());
    let words = ["render", "--template", &spec, "--once", "--on-change", &count];
    for _ in 0..2 {
        assert_eq!(against(&fixture, &words).await.code, 0);
    }
    assert_eq!(fs::read_to_string(fixture.path("changes")).unwrap(), "x\n");
    assert_eq!(mode(&fixture.path("app.conf")), 0o600);
}

#[tokio::test]
async fn errors_name_template_and_line_and_no_content() {
    let fixture = Fixture::new().await;
    put_both(&fixture);
    fs::write(fixture.path("app.conf"), "as it was").unwrap();
    for (template, line, says) in [
        ("a\n{{ secret('DB').passwd }}", "line 2", "it has password, username"),
        ("{{ nothing }}", "line 1", "undefined"),
        ("\n\n{{ secret('DB').password|int }}", "line 3", "invalid operation"),
        ("{{ secret('DB').password.x }}", "line 1", "undefined"),
        ("{% if %}", "line 1", "syntax error"),
    ] {
        let spec = spec(&fixture, template, "");
        let ended = against(&fixture, &["render", "--template", &spec, "--once"]).await;
        assert_eq!(ended.code, 2, "{template}: {}", ended.err);
        for part in ["app.j2", line, says] {
            assert!(ended.err.contains(part), "{template}: {}", ended.err);
        }
        assert!(!ended.err.contains("s3cret"), "{}", ended.err);
    }
    assert_eq!(fs::read_to_string(fixture.path("app.conf")).unwrap(), "as it was");
    let spec = spec(&fixture, "{{ secret('NONE').value }}", "");
    assert_eq!(against(&fixture, &["render", "--template", &spec, "--once"]).await.code, 3);
}

#[tokio::test]
async fn a_rotation_renders_again_whole_and_is_acknowledged_after_the_command() {
    let fixture = Fixture::new().await;
    fixture.broker.put("A", 1, &[("value", &"1".repeat(100_000))]);
    let spec = spec(&fixture, "{{ secret('A').value }}", "");
    let out = fixture.path("app.conf");
    let words = ["render", "--template", &spec, "--on-change", "true"];
    tokio::select! {
        ended = against(&fixture, &words) => panic!("ended with {}: {}", ended.code, ended.err),
        () = async {
            fixture.broker.reported("A", 1, Outcome::Applied).await;
            fixture.broker.watched(1).await;
            fixture.broker.put("A", 2, &[("value", &"2".repeat(100_000))]);
            loop {
                // Read at any moment, the file is whole.
                let content = fs::read(&out).unwrap();
                assert_eq!(content.len(), 100_000);
                if content[0] == b'2' { break }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            fixture.broker.reported("A", 2, Outcome::Applied).await;
        } => {}
    }
}
