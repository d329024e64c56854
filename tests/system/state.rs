//! The encrypted local state: leases and values survive the end of the process.

use std::process::Command;

use secret_broker_client::{Freshness, Reason};
use serde_json::json;

use crate::{
    main_job::{Rig, sections},
    support::{
        broker::{Broker, contains},
        proxy::{Fault, Proxy},
        until,
    },
};

/// A broker that keeps its state, with the key elsewhere.
fn keeping(rig: &Rig, key: &std::path::Path) -> Broker {
    let sections = with_state(&sections(&rig.vault.address()), key);
    Broker::prepare(&sections, &rig.environment())
}

fn with_state(sections: &str, key: &std::path::Path) -> String {
    format!("{sections}[state]\npath = \"DIR/state.age\"\nkey_file = \"{}\"\n", key.display())
}

fn new_key(directory: &std::path::Path) -> std::path::PathBuf {
    let path = directory.join("state.key");
    let key =
        Command::new(env!("CARGO_BIN_EXE_secret-broker")).arg("keygen").output().expect("a key");
    assert!(key.status.success());
    std::fs::write(&path, key.stdout).expect("the key file");
    path
}

#[tokio::test]
async fn a_killed_broker_comes_back_with_the_same_lease_also_while_vault_is_down() {
    let mut rig = Rig::start("1h", "2h").await;
    let keys = tempfile::tempdir().expect("a directory");
    let mut broker = keeping(&rig, &new_key(keys.path()));
    broker.run();
    broker.wait().await;
    let before = broker.client().get("DB").await.expect("a secret");
    let state = broker.path("state.age");
    until("the state is saved", async || state.exists().then_some(())).await;
    let password = before.text("password").expect("a password");
    assert!(!contains(&state, password), "the state is encrypted");
    broker.kill();
    rig.vault.stop();
    broker.run();
    broker.wait().await;
    let after = broker.client().get("DB").await.expect("a secret without Vault");
    assert_eq!(after.version(), before.version());
    assert_eq!(after.generation(), before.generation());
    assert!(rig.accepts(&after).await);
    rig.vault.restart().await;
    until("the lease is confirmed", async || {
        let now = broker.client().get("DB").await.ok()?;
        (now.freshness() == Freshness::Fresh && now.version() == before.version()).then_some(())
    })
    .await;
    assert_eq!(rig.postgres.leased_users().await.len(), 1, "nothing was minted again");
}

#[tokio::test]
async fn a_tampered_state_is_set_aside_and_the_broker_starts_without_it() {
    let mut rig = Rig::start("1h", "2h").await;
    let keys = tempfile::tempdir().expect("a directory");
    let mut broker = keeping(&rig, &new_key(keys.path()));
    broker.run();
    broker.wait().await;
    broker.client().get("DB").await.expect("a secret");
    let state = broker.path("state.age");
    until("the state is saved", async || state.exists().then_some(())).await;
    broker.kill();
    let mut bytes = std::fs::read(&state).expect("the state");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&state, bytes).expect("the state");
    rig.vault.stop();
    broker.run();
    broker.wait().await;
    let error = broker.client().get("DB").await.expect_err("the state is not trusted");
    assert_eq!(error.reason(), Some(Reason::SourceUnavailable), "{error}");
    let aside = std::fs::read_dir(broker.directory.path()).expect("the directory");
    let aside = aside
        .filter_map(Result::ok)
        .any(|f| f.file_name().to_string_lossy().starts_with("state.age.rejected"));
    assert!(aside, "it was set aside");
}

#[tokio::test]
async fn leases_that_could_not_be_revoked_are_forgotten_only_when_their_token_took_them_along() {
    let rig = Rig::start("1h", "2h").await;
    let made = json!({ "policies": ["broker"], "ttl": "1h" });
    let made = rig.vault.write("auth/token/create", made).await;
    let token = made["auth"]["client_token"].as_str().expect("a token");
    let proxy = Proxy::start(rig.vault.port()).await;
    proxy.set(Fault::Status("sys/leases/revoke", 500));
    let keys = tempfile::tempdir().expect("a directory");
    let key = new_key(keys.path());
    let own = sections(&proxy.address());
    let approle =
        "method = \"approle\"\nrole_id_env = \"ROLE_ID\"\nsecret_id_env = \"SECRET_ID\"\n";
    let given = own.replace(approle, "method = \"token\"\ntoken_env = \"TOKEN\"\n");
    assert_ne!(own, given);
    let ends = async |sections: &str, environment: &[(&str, &str)]| {
        let sections = sections.replace("[vault]\n", "[vault]\nrevoke_on_exit = true\n");
        let mut broker = Broker::start(&with_state(&sections, &key), environment).await;
        broker.client().get("DB").await.expect("a secret");
        assert_eq!(broker.terminate().await, Some(0));
        (broker.log(), broker.path("state.age").exists())
    };
    let (own_login, given_token) = (rig.environment(), [("TOKEN", token)]);
    let ((with_token, own_state), (by_themselves, given_state)) =
        tokio::join!(ends(&own, &own_login), ends(&given, &given_token));
    assert!(with_token.contains("they end with the token"), "{with_token}");
    assert!(
        by_themselves.contains("the state is kept, and they end by themselves"),
        "{by_themselves}"
    );
    assert_eq!((own_state, given_state), (false, true));
    let left = until("Vault dropped the user of the token that it revoked", async || {
        let users = rig.postgres.leased_users().await;
        (!users.iter().any(|user| user.starts_with("v-approle-"))).then_some(users)
    })
    .await;
    assert!(left.len() == 1 && left[0].starts_with("v-token-"), "{left:?}");
    proxy.set(Fault::Pass);
    let (log, state) = ends(&given, &given_token).await;
    assert!(!log.contains("could be revoked") && !state, "{log}");
}
