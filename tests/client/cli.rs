//! `get`, `list`, `watch`, `check` and the exit codes of all.

use clap::Parser;
use secret_broker::cli::Args;

use crate::{
    broker::Broker,
    serving::{self, Fixture},
    typed::{against, typed},
};

#[tokio::test]
async fn get_prints_a_table_a_field_or_json() {
    let fixture = Fixture::new().await;
    fixture.broker.put("DB", 3, &[("username", "app"), ("password", "s3cret")]);
    let table = against(&fixture, &["get", "DB"]).await;
    assert_eq!(table.code, 0);
    assert!(table.out.contains("version      v3\n"), "{}", table.out);
    assert!(table.out.contains("password     s3cret\n"), "{}", table.out);
    let field = against(&fixture, &["get", "DB", "--field", "password"]).await;
    assert_eq!(field.out, "s3cret");
    let address = fixture.address();
    let words = ["get", "--address", &address, "DB", "--field", "password"];
    assert_eq!(typed(&words, true).await.out, "s3cret\n");
    let json = against(&fixture, &["get", "DB", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["fields"]["password"], "s3cret");
    assert_eq!(json["generation"], 3);
    let missing = against(&fixture, &["get", "DB", "--field", "passwort"]).await;
    assert_eq!((missing.code, missing.out.as_str()), (2, ""));
    assert!(missing.err.contains("it has password, username"), "{}", missing.err);
}

#[tokio::test]
async fn list_prints_no_value() {
    let fixture = Fixture::new().await;
    fixture.broker.put("DB", 3, &[("password", "s3cret")]);
    let table = against(&fixture, &["list"]).await;
    assert!(table.out.contains("DB    database  FRESH"), "{}", table.out);
    let json = against(&fixture, &["list", "--json"]).await.out;
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(parsed[0]["state"], "FRESH");
    assert!(!table.out.contains("s3cret") && !json.contains("s3cret"));
}

#[tokio::test]
async fn watch_shows_values_only_when_asked() {
    let fixture = Fixture::new().await;
    fixture.broker.put("DB", 3, &[("password", "s3cret")]);
    let bare = against(&fixture, &["watch", "DB", "--count", "1"]).await;
    assert!(bare.out.starts_with("CURRENT     DB  version v3"), "{}", bare.out);
    assert!(!bare.out.contains("s3cret"));
    let json = against(&fixture, &["watch", "--json", "--count", "1"]).await.out;
    assert!(json.contains(r#""event":"CURRENT""#) && !json.contains("s3cret"), "{json}");
    let values = against(&fixture, &["watch", "--values", "--count", "1"]).await;
    assert!(values.out.contains("password=s3cret"), "{}", values.out);
}

#[tokio::test]
async fn exit_codes_tell_what_went_wrong() {
    let mut fixture = Fixture::new().await;
    for (name, code) in [("NONE", 3), ("SEALED", 4), ("STRANGER", 6)] {
        let ended = against(&fixture, &["get", name]).await;
        assert_eq!(ended.code, code, "{}", ended.err);
        assert!(ended.err.contains(name) && ended.out.is_empty(), "{}", ended.err);
    }
    assert_eq!(against(&fixture, &["get", "SLOW", "--timeout", "50ms"]).await.code, 5);
    assert_eq!(typed(&["get", "A", "--address", "nowhere"], false).await.code, 2);
    assert_eq!(against(&fixture, &["watch", "FORBIDDEN"]).await.code, 3);
    fixture.serving = None;
    assert_eq!(against(&fixture, &["get", "A"]).await.code, 4);
}

#[tokio::test]
async fn check_tells_readiness_from_life() {
    let mut fixture = Fixture::new().await;
    let ready = against(&fixture, &["check", "--ready"]).await;
    assert_eq!((ready.code, ready.out.as_str()), (0, "ready\n"));
    fixture.serving = None;
    let socket = fixture.path("broker.sock");
    fixture.serving = Some(serving::on_socket(&Broker::new(), &socket, false).await);
    let not_ready = against(&fixture, &["check", "--ready"]).await;
    assert_eq!(not_ready.code, 4);
    assert!(not_ready.err.contains("not ready"), "{}", not_ready.err);
}

#[tokio::test]
async fn wait_gives_up_on_one_that_never_answers_and_finds_the_next() {
    let mut fixture = Fixture::new().await;
    fixture.serving = None;
    let socket = fixture.path("broker.sock");
    std::fs::remove_file(&socket).unwrap();
    let silent = tokio::net::UnixListener::bind(&socket).unwrap();
    let replaced = async {
        let (held, _) = silent.accept().await.unwrap();
        std::fs::remove_file(&socket).unwrap();
        (held, serving::on_socket(&fixture.broker, &socket, true).await)
    };
    let (waited, _held) = tokio::join!(against(&fixture, &["wait", "--timeout", "30s"]), replaced);
    assert_eq!(waited.code, 0, "{}", waited.err);
}

#[tokio::test]
async fn check_prints_a_summary_or_all_mistakes() {
    let good = typed(&["check", "--config", "good.toml"], false).await;
    assert_eq!((good.code, good.out.as_str()), (0, "2 secrets\n"));
    let bad = typed(&["check", "--config", "bad.toml"], false).await;
    assert_eq!((bad.code, bad.out.as_str()), (2, ""));
    assert!(bad.err.contains("server.listen") && bad.err.contains("tls: missing"));
    let neither = Args::try_parse_from(["secret-broker", "check"]).unwrap_err();
    assert_eq!(neither.exit_code(), 2);
}

#[tokio::test]
async fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = typed(&["completions", shell], false).await.out;
        assert!(script.contains("render") && script.contains("on-rotation"), "{shell}");
    }
}
