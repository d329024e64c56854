//! Planted values: they reach who asked for them, and nothing else.

use std::process::Command;

use rustix::process::Signal;
use secret_broker_client::{Event, Outcome, Reason};
use serde_json::json;

use crate::{
    heap,
    main_job::{Rig, next_event},
    support::{
        broker::{Broker, contains},
        until,
    },
};

const FIRST: &str = "planted-first-5uVh2mQx";
/// Sent where a name belongs.
const NAME: &str = "planted-name-3bWq8nHs";
const SECOND: &str = "planted-second-9rTk4wLz";

fn sections(rig: &Rig, key: &str) -> String {
    format!(
        "[vault]\naddress = \"{}\"\n\
         [vault.auth]\nmethod = \"approle\"\nrole_id_env = \"ROLE_ID\"\nsecret_id_env = \"SECRET_ID\"\n\
         [defaults]\npoll_interval = \"1s\"\noverlap = \"2s\"\n\
         [state]\npath = \"DIR/state.age\"\nkey_file = \"{key}\"\n\
         [secrets.KEY]\ncategory = \"application\"\nstore = \"vault\"\nengine = \"kv2\"\npath = \"app\"\n\
         [secrets.DB]\ncategory = \"database\"\nstore = \"vault\"\nengine = \"database\"\nrole = \"app\"\n\
         [secrets.PRIVATE]\ncategory = \"application\"\nstore = \"vault\"\nengine = \"kv2\"\nmount = \"private\"\npath = \"app\"\n",
        rig.vault.address()
    )
}

#[tokio::test]
async fn values_reach_no_log_metric_error_audit_record_state_file_or_memory_of_later() {
    let rig = Rig::start("1h", "2h").await;
    for mount in ["secret", "private"] {
        let kv = json!({ "type": "kv", "options": { "version": "2" } });
        rig.vault.write(&format!("sys/mounts/{mount}"), kv).await;
        until("the engine is ready", async || {
            let body = Some(json!({ "data": { "key": FIRST } }));
            let (status, _) = rig.vault.request("POST", &format!("{mount}/data/app"), body).await;
            (status < 300).then_some(())
        })
        .await;
    }
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("key");
    let made = Command::new(env!("CARGO_BIN_EXE_secret-broker")).arg("keygen").output().unwrap();
    std::fs::write(&key, made.stdout).unwrap();
    let text = sections(&rig, &key.display().to_string());
    let mut broker = Broker::start(&text, &rig.environment()).await;

    let client = broker.tls_client();
    let mut watch = client.watch(["KEY"]);
    let first = next_event(&mut watch, |event| matches!(event, Event::Current(_))).await;
    assert_eq!(first.secret().unwrap().text("key"), Some(FIRST));
    let database = client.get("DB").await.expect("a secret");
    let password = database.text("password").expect("a password").to_owned();
    client.report(&database, Outcome::Worked).await.expect("a report");
    client.list(None).await.expect("a list");
    let forbidden = client.get("PRIVATE").await.expect_err("Vault forbids it");
    assert_eq!(forbidden.reason(), Some(Reason::SourceForbidden), "{forbidden}");
    assert!(client.get(NAME).await.is_err(), "a value in the place of a name");
    assert!(client.get(&format!("{password}\n\"")).await.is_err());
    assert!(!heap_holds_nothing(&broker, FIRST), "it is found while it is served");

    rig.vault.write("secret/data/app", json!({ "data": { "key": SECOND } })).await;
    let second = next_event(&mut watch, |event| matches!(event, Event::Rotated(_))).await;
    assert_eq!(second.secret().unwrap().text("key"), Some(SECOND));
    // The buffers of a connection keep what was sent over it last.
    drop((watch, client));
    until("the first value is wiped from memory", async || {
        heap_holds_nothing(&broker, FIRST).then_some(())
    })
    .await;

    let (status, page) = broker.page("/metrics").await;
    assert!(status == 200 && page.contains("secret_broker_"), "{page}");
    broker.signal(Signal::HUP);
    until("the configuration is read again", async || {
        (broker.log().matches("configuration").count() > 1).then_some(())
    })
    .await;
    until("the state is saved", async || broker.path("state.age").exists().then_some(())).await;
    let audit = std::fs::read_to_string(broker.path("audit.log")).unwrap();
    assert!(audit.contains("\"secret\":\"KEY\""));
    assert_eq!(broker.terminate().await, Some(0));
    let log = broker.log();
    for level in ["DEBUG", "INFO"] {
        assert!(log.contains(&format!("\"level\":\"{level}\"")), "{level} is logged");
    }
    for (value, what) in [
        (SECOND, "a value"),
        (&password, "a leased password"),
        (&rig.secret_id, "the secret id"),
        (&rig.vault.root, "a token"),
    ] {
        assert!(!log.contains(value), "{what} in the log");
        assert!(!page.contains(value), "{what} in the metrics");
        assert!(!forbidden.to_string().contains(value), "{what} in an error");
        assert!(!contains(&broker.path("state.age"), value), "{what} in the state");
    }
    for planted in [FIRST, NAME] {
        assert!(!log.contains(planted) && !page.contains(planted), "{planted}");
    }
    assert!(!audit.contains(FIRST) && !audit.contains(SECOND));
}

/// Whether the process holds the text nowhere. Only root may look; that others can't is a part of
/// the protection.
fn heap_holds_nothing(broker: &Broker, text: &str) -> bool {
    match heap::search(broker.pid(), text.as_bytes()) {
        Ok(found) => found.is_empty(),
        Err(error) => {
            assert!(!rustix::process::getuid().is_root(), "{error}");
            true
        }
    }
}

#[tokio::test]
async fn a_full_disk_under_the_audit_log_refuses_every_access_until_it_can_be_written_again() {
    let rig = Rig::start("1h", "2h").await;
    let broker = rig.broker().await;
    let client = broker.client();
    let values = client.get("DB").await.expect("a secret");
    let config = std::fs::read_to_string(broker.path("config.toml")).unwrap();
    let place = broker.path("audit.log").display().to_string();
    std::fs::write(broker.path("config.toml"), config.replace(&place, "/dev/full")).unwrap();
    broker.signal(Signal::HUP);
    until("no access is given", async || {
        let error = client.get("DB").await.err()?;
        assert!(!error.to_string().contains(values.text("password").unwrap()));
        (error.reason() == Some(Reason::AuditUnavailable)).then_some(())
    })
    .await;
    for _ in 0..50 {
        assert!(client.get("DB").await.is_err(), "none slips through");
    }
    let recorded = broker.audit().len();
    std::fs::write(broker.path("config.toml"), &config).unwrap();
    broker.signal(Signal::HUP);
    let again = until("accesses are given again", async || client.get("DB").await.ok()).await;
    assert_eq!(again.version(), values.version(), "nothing else was lost");
    assert!(broker.audit().len() > recorded);
}
