//! What happens around the program: it is killed, its disk fills, its clock jumps, its token dies.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use secret_broker_client::{Event, Freshness};

use crate::{
    main_job::{Rig, next_event, sections},
    support::{
        broker::Broker,
        proxy::{Fault, Proxy},
        until,
        vault::BROKER_POLICY,
    },
};

/// More sections, for a broker that keeps its state under a key in `keys`.
fn state(keys: &tempfile::TempDir) -> String {
    let key = Command::new(env!("CARGO_BIN_EXE_secret-broker")).arg("keygen").output().unwrap();
    let path = keys.path().join("key");
    fs::write(&path, key.stdout).unwrap();
    format!("[state]\npath = \"DIR/state.age\"\nkey_file = \"{}\"\n", path.display())
}

#[tokio::test]
async fn a_broker_killed_in_the_middle_of_a_renewal_goes_on_with_the_same_lease() {
    let rig = Rig::start("15s", "1h").await;
    let proxy = Proxy::start(rig.vault.port()).await;
    let keys = tempfile::tempdir().unwrap();
    let text = format!("{}{}", sections(&proxy.address()), state(&keys));
    let mut broker = Broker::start(&text, &rig.environment()).await;
    let before = broker.client().get("DB").await.expect("a secret");
    until("the state is saved", async || broker.path("state.age").exists().then_some(())).await;
    let renewing = async || {
        until("a renewal is in flight", async || {
            proxy.take_calls().contains_key("sys/leases/renew").then_some(())
        })
        .await;
    };
    // Before Vault hears of the renewal, and after it carried it out but the answer is lost.
    for fault in [Fault::Delay(Duration::from_secs(1)), Fault::Cut(0)] {
        proxy.set(fault);
        proxy.take_calls();
        renewing().await;
        broker.kill();
        proxy.set(Fault::Pass);
        broker.run();
        let mut watch = broker.client().watch(["DB"]);
        let renewed = next_event(&mut watch, |event| {
            assert!(!matches!(event, Event::Rotated(_) | Event::Revoked { .. }), "{event:?}");
            matches!(event, Event::Renewed(_))
        })
        .await;
        let now = renewed.secret().unwrap();
        assert_eq!(now.version(), before.version());
        assert!(rig.accepts(now).await);
    }
    assert_eq!(rig.postgres.leased_users().await.len(), 1, "nothing was minted again");
}

#[tokio::test]
async fn a_vault_that_comes_back_after_the_token_ended_is_logged_in_to_again() {
    let mut rig = Rig::start("1h", "2h").await;
    let settings = serde_json::json!({ "token_ttl": "4s", "token_max_ttl": "6s" });
    let (role_id, secret_id) = rig.vault.approle("short", BROKER_POLICY, settings).await;
    (rig.role_id, rig.secret_id) = (role_id, secret_id);
    let broker = rig.broker().await;
    let client = broker.client();
    let before = client.get("DB").await.expect("a secret");
    rig.vault.stop();
    tokio::time::sleep(Duration::from_secs(7)).await;
    rig.vault.restart().await;
    // What was minted under the token ended with it, at Vault.
    let after = until("a credential works again", async || {
        let now = client.get("DB").await.ok()?;
        (now.version() != before.version() && rig.accepts(&now).await).then_some(now)
    })
    .await;
    assert_eq!(after.freshness(), Freshness::Fresh);
    assert!(!rig.accepts(&before).await, "and the one before is dead");
}

/// The library that lies about the wall clock to one process.
fn faketime() -> PathBuf {
    let places = fs::read_dir("/usr/lib").unwrap().filter_map(Result::ok);
    let mut libraries = places.map(|place| place.path().join("faketime/libfaketimeMT.so.1"));
    libraries.find(|path| path.exists()).expect("faketime is missing: run tests/tools/install")
}

#[tokio::test]
async fn jumps_of_the_wall_clock_neither_end_nor_prolong_a_lease() {
    let rig = Rig::start("6s", "1h").await;
    let directory = tempfile::tempdir().unwrap();
    let offset = directory.path().join("offset");
    fs::write(&offset, "+0").unwrap();
    let (library, file) = (faketime().display().to_string(), offset.display().to_string());
    let [role_id, secret_id] = rig.environment();
    let environment = [
        role_id,
        secret_id,
        ("LD_PRELOAD", &library),
        ("FAKETIME_TIMESTAMP_FILE", &file),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_NO_CACHE", "1"),
        ("NO_FAKE_STAT", "1"),
    ];
    let broker = Broker::start(&sections(&rig.vault.address()), &environment).await;
    let client = broker.client();
    let before = client.get("DB").await.expect("a secret");
    let mut watch = client.watch(["DB"]);
    for jump in ["+1d", "-1d", "+3650d", "+0"] {
        fs::write(&offset, jump).unwrap();
        let renewed = next_event(&mut watch, |event| {
            let calm = matches!(event, Event::Current(_) | Event::Renewed(_));
            assert!(calm, "after a jump to {jump}: {event:?}");
            matches!(event, Event::Renewed(_))
        })
        .await;
        let now = renewed.secret().unwrap();
        assert_eq!((now.version(), now.freshness()), (before.version(), Freshness::Fresh));
        assert!(now.time_left().is_some_and(|left| left <= Duration::from_secs(6)), "{jump}");
        assert!(rig.accepts(now).await);
        client.get("DB").await.expect("a secret");
        let year = broker.audit().last().unwrap()["time"].as_str().unwrap()[..4].to_owned();
        let decade = year.parse::<u32>().unwrap() >= 2035;
        assert_eq!(decade, jump == "+3650d", "the process sees the jump: {year}");
    }
}

/// A limit on the size of files stands for the full disk: both fail a write in its middle.
#[tokio::test]
async fn a_full_disk_under_the_state_leaves_what_was_saved_and_serves_on() {
    const LIMIT: u64 = 200_000;
    let rig = Rig::start("1h", "2h").await;
    let keys = tempfile::tempdir().unwrap();
    let large = "[secrets.LARGE]\ncategory = \"x\"\nstore = \"dotenv\"\nfile = \"DIR/.env\"\nkey = \"LARGE\"\n";
    let text = format!("{}{large}{}", sections(&rig.vault.address()), state(&keys));
    let mut broker = Broker::prepare(&text, &rig.environment());
    let config = fs::read_to_string(broker.path("config.toml")).unwrap();
    fs::write(broker.path("config.toml"), config.replace("\"trace\"", "\"info\"")).unwrap();
    fs::write(broker.path(".env"), "LARGE=small\n").unwrap();
    broker.shell = Some(r#"trap "" XFSZ; exec "$0" "$@""#);
    broker.run();
    broker.wait().await;
    let client = broker.client();
    let before = client.get("DB").await.expect("a secret");
    client.get("LARGE").await.expect("a secret");
    let file = broker.path("state.age");
    until("the state is saved", async || file.exists().then_some(())).await;
    // Both secrets are in it once the time in which changes are gathered is over.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let saved = fs::read(&file).unwrap();

    let pid = Pid::from_raw(broker.pid().try_into().unwrap());
    let limit = Rlimit { current: Some(LIMIT), maximum: Some(LIMIT) };
    prlimit(pid, Resource::Fsize, limit).unwrap();
    fs::write(broker.path(".env"), format!("LARGE={}\n", "x".repeat(300_000))).unwrap();
    until("the failure is told", async || {
        broker.log().contains("the state could not be saved").then_some(())
    })
    .await;
    let value = client.get("LARGE").await.expect("it serves on");
    assert_eq!(value.text("value").map(str::len), Some(300_000));
    assert_eq!(fs::read(&file).unwrap(), saved, "what was saved is whole");

    broker.kill();
    broker.run();
    broker.wait().await;
    let after = broker.client().get("DB").await.expect("a secret");
    assert_eq!(after.version(), before.version(), "it goes on from what was saved");
    until("the state is saved again", async || {
        fs::metadata(&file).ok().filter(|state| state.len() > LIMIT).map(drop)
    })
    .await;
}
