//! The main job: leased credentials, cached, refreshed, served, revoked.

use std::time::Duration;

use secret_broker_client::{Client, Error, Event, Freshness, Outcome, Secret};

use crate::support::{
    broker::Broker,
    postgres::Postgres,
    until,
    vault::{BROKER_POLICY, Vault},
};

/// Sections of a broker that reads leased database users from this Vault.
pub(crate) fn sections(address: &str) -> String {
    format!(
        "[vault]\naddress = \"{address}\"\ntimeout = \"2s\"\n\
         [vault.auth]\nmethod = \"approle\"\nrole_id_env = \"ROLE_ID\"\nsecret_id_env = \"SECRET_ID\"\n\
         [vault.budget]\nprobe_min = \"200ms\"\nprobe_max = \"1s\"\n\
         [defaults]\noverlap = \"20s\"\nretry_min = \"200ms\"\nretry_max = \"1s\"\n\
         [secrets.DB]\ncategory = \"database\"\nstore = \"vault\"\nengine = \"database\"\nrole = \"app\"\n"
    )
}

pub(crate) struct Rig {
    pub postgres: Postgres,
    pub vault: Vault,
    pub role_id: String,
    pub secret_id: String,
}

impl Rig {
    pub(crate) async fn start(ttl: &str, max_ttl: &str) -> Self {
        let (postgres, vault) = tokio::join!(Postgres::start(), Vault::start());
        vault.database(&postgres, ttl, max_ttl).await;
        let (role_id, secret_id) =
            vault.approle("broker", BROKER_POLICY, serde_json::json!({})).await;
        Self { postgres, vault, role_id, secret_id }
    }

    pub(crate) fn environment(&self) -> [(&str, &str); 2] {
        [("ROLE_ID", &self.role_id), ("SECRET_ID", &self.secret_id)]
    }

    pub(crate) async fn broker(&self) -> Broker {
        Broker::start(&sections(&self.vault.address()), &self.environment()).await
    }

    /// Whether `PostgreSQL` accepts the secret.
    pub(crate) async fn accepts(&self, secret: &Secret) -> bool {
        let field = |name| secret.text(name).expect("a field");
        self.postgres.login(field("username"), field("password")).await.is_ok()
    }
}

/// The next event of a kind.
pub(crate) async fn next_event(
    watch: &mut secret_broker_client::Watch,
    mut wanted: impl FnMut(&Event) -> bool,
) -> Event {
    let find = async {
        loop {
            let event = watch.next().await.expect("the watch goes on").expect("an event");
            if wanted(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(40), find).await.expect("the event in time")
}

#[tokio::test]
async fn an_application_gets_a_credential_that_works_over_tls_and_over_the_socket() {
    let rig = Rig::start("1h", "2h").await;
    let broker = rig.broker().await;
    let by_socket = broker.client().get("DB").await.expect("a secret");
    assert!(rig.accepts(&by_socket).await);
    assert_eq!(by_socket.freshness(), Freshness::Fresh);
    let left = by_socket.time_left().expect("a lease has an end");
    assert!((3500..=3600).contains(&left.as_secs()), "{left:?}");
    let by_tls = broker.tls_client().get("DB").await.expect("a secret");
    assert_eq!(by_tls.version(), by_socket.version(), "one lease serves all");
    assert_eq!(rig.postgres.leased_users().await.len(), 1);
    let records = broker.audit();
    let callers =
        records.iter().map(|r| r["caller"].as_str().unwrap_or_default()).collect::<Vec<_>>();
    assert!(callers.iter().any(|c| c.starts_with("unix:uid=")), "{callers:?}");
    assert!(callers.iter().any(|c| c.starts_with("spiffe://")), "{callers:?}");
}

#[tokio::test]
async fn a_replaced_credential_overlaps_its_successor_and_goes_once_it_is_acknowledged() {
    // Replaced at two thirds of what is left after its one renewal: seconds before its end.
    let rig = Rig::start("36s", "36s").await;
    let broker = rig.broker().await;
    let client = broker.client();
    let mut watch = client.watch(["DB"]);
    let first = next_event(&mut watch, |event| matches!(event, Event::Current(_))).await;
    let old = first.secret().expect("a secret").generation();
    let old_user = first.secret().and_then(|s| s.text("username")).expect("a user").to_owned();
    let rotated = next_event(&mut watch, |event| matches!(event, Event::Rotated(_))).await;
    let new = rotated.secret().expect("a secret");
    assert!(new.generation() > old);
    assert!(rig.accepts(new).await, "the new one works");
    let previous = new.previous().expect("the old one overlaps");
    let user = std::str::from_utf8(previous.field("username").expect("a user")).expect("text");
    let password =
        std::str::from_utf8(previous.field("password").expect("a password")).expect("text");
    assert_eq!(user, old_user);
    assert!(rig.postgres.login(user, password).await.is_ok(), "the old one still works");
    client.report(new, Outcome::Applied).await.expect("a report");
    until("the old user is gone", async || {
        let users = rig.postgres.leased_users().await;
        (!users.contains(&old_user)).then_some(())
    })
    .await;
    assert!(rig.accepts(new).await || new.time_left().is_some_and(|left| left.is_zero()));
}

#[tokio::test]
async fn a_lease_is_renewed_before_its_end_and_keeps_its_version() {
    let rig = Rig::start("3s", "1h").await;
    let broker = rig.broker().await;
    let mut watch = broker.client().watch(["DB"]);
    let first = next_event(&mut watch, |event| matches!(event, Event::Current(_))).await;
    let renewed = next_event(&mut watch, |event| matches!(event, Event::Renewed(_))).await;
    let secret = renewed.secret().expect("a secret");
    assert_eq!(secret.version(), first.secret().expect("a secret").version());
    assert!(rig.accepts(secret).await);
}

#[tokio::test]
async fn what_was_leased_is_revoked_at_the_end_and_the_program_ends_with_success() {
    let rig = Rig::start("1h", "2h").await;
    let mut broker = rig.broker().await;
    let _watch_is_open = broker.client().watch(["DB"]).next().await;
    assert_eq!(rig.postgres.leased_users().await.len(), 1);
    assert_eq!(broker.terminate().await, Some(0));
    // Vault has been told; it revokes in its own time.
    until("the user is gone", async || rig.postgres.leased_users().await.is_empty().then_some(()))
        .await;
}

#[tokio::test]
async fn callers_of_one_missing_secret_share_one_call_and_one_error() {
    let rig = Rig::start("1h", "2h").await;
    let proxy = crate::support::proxy::Proxy::start(rig.vault.port()).await;
    let more = "[secrets.MISSING]\ncategory = \"x\"\nstore = \"vault\"\nengine = \"kv2\"\npath = \"nothing\"\nprefetch = false\n";
    let text = format!("{}{more}", sections(&proxy.address()));
    let broker = Broker::start(&text, &rig.environment()).await;
    broker.client().get("DB").await.expect("it is logged in");
    rig.vault
        .write(
            "sys/mounts/secret",
            serde_json::json!({ "type": "kv", "options": { "version": "2" } }),
        )
        .await;
    proxy.take_calls();
    let clients = (0..10).map(|_| broker.client()).collect::<Vec<Client>>();
    let calls = (0..1000).map(|i| {
        let client = clients[i % clients.len()].clone();
        async move { client.get("MISSING").await }
    });
    for answer in futures_util::future::join_all(calls).await {
        let reason = answer.expect_err("there is none").reason();
        assert_eq!(reason, Some(secret_broker_client::Reason::SourceNotFound));
    }
    assert_eq!(proxy.take_calls().get("secret/data/nothing"), Some(&1));
}

#[tokio::test]
async fn a_caller_without_a_grant_learns_nothing_and_is_recorded() {
    let rig = Rig::start("1h", "2h").await;
    let broker = rig.broker().await;
    let text = fs_replace(&broker, "secrets = [\"**\"]", "secrets = [\"OTHER\"]");
    std::fs::write(broker.path("config.toml"), text).expect("the configuration");
    broker.signal(rustix::process::Signal::HUP);
    let denied =
        until("the policy is in force", async || broker.client().get("DB").await.err()).await;
    let unknown = broker.client().get("NOTHING").await.expect_err("unknown");
    let told = |error: &Error, name: &str| error.to_string().replace(name, "NAME");
    assert_eq!(
        told(&denied, "DB"),
        told(&unknown, "NOTHING"),
        "unknown and forbidden look the same"
    );
    let last = broker.audit().pop().expect("a record");
    assert_eq!(last["outcome"], "denied");
}

#[tokio::test]
async fn a_reload_that_leaves_vault_as_it_is_costs_no_login_and_no_lease() {
    let rig = Rig::start("1h", "2h").await;
    let proxy = crate::support::proxy::Proxy::start(rig.vault.port()).await;
    let broker = Broker::start(&sections(&proxy.address()), &rig.environment()).await;
    let before = broker.client().get("DB").await.expect("a secret");
    proxy.take_calls();
    let text = fs_replace(&broker, "overlap = \"20s\"", "overlap = \"30s\"");
    std::fs::write(broker.path("config.toml"), text).expect("the configuration");
    broker.signal(rustix::process::Signal::HUP);
    until("it is read again", async || {
        (broker.log().matches("configuration in force").count() >= 2).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = broker.client().get("DB").await.expect("a secret");
    assert_eq!(after.version(), before.version());
    let calls = proxy.take_calls();
    assert!(!calls.contains_key("auth/approle/login"), "{calls:?}");
    assert!(!calls.contains_key("database/creds/app"), "{calls:?}");
    assert_eq!(rig.postgres.leased_users().await.len(), 1);
}

fn fs_replace(broker: &Broker, from: &str, to: &str) -> String {
    let text = std::fs::read_to_string(broker.path("config.toml")).expect("the configuration");
    assert!(text.contains(from));
    text.replace(from, to)
}
