//! Each engine, at a real Vault: with leases, with times to live, and with neither.

use secret_broker_client::{Event, Outcome, Reason, Secret};
use serde_json::json;

use crate::{
    main_job::{Rig, next_event},
    support::{
        broker::Broker,
        redis::{self, Redis},
        until,
    },
};

/// A broker with these secrets, which reads anew each second.
async fn broker(rig: &Rig, secrets: &str) -> Broker {
    let text = format!(
        "[vault]\naddress = \"{}\"\ntimeout = \"5s\"\n\
         [vault.auth]\nmethod = \"approle\"\nrole_id_env = \"ROLE_ID\"\nsecret_id_env = \"SECRET_ID\"\n\
         [defaults]\npoll_interval = \"1s\"\noverlap = \"5s\"\nretry_min = \"200ms\"\nretry_max = \"1s\"\n{secrets}",
        rig.vault.address()
    );
    Broker::start(&text, &rig.environment()).await
}

fn secret(name: &str, settings: &str) -> String {
    format!("[secrets.{name}]\ncategory = \"application\"\nstore = \"vault\"\n{settings}\n")
}

async fn kv2(rig: &Rig) {
    let mount = json!({ "type": "kv", "options": { "version": "2" } });
    rig.vault.write("sys/mounts/secret", mount).await;
    until("the engine is ready", async || {
        let body = json!({ "data": { "key": "first" } });
        let (status, _) = rig.vault.request("POST", "secret/data/app", Some(body)).await;
        (status < 300).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_new_version_of_kv2_is_told_and_a_deleted_one_is_not_there() {
    let rig = Rig::start("1h", "2h").await;
    kv2(&rig).await;
    let app = secret("APP", "engine = \"kv2\"\npath = \"app\"\nmax_stale = \"2s\"");
    let none = secret("NONE", "engine = \"kv2\"\npath = \"none\"\nprefetch = false");
    let broker = broker(&rig, &format!("{app}{none}")).await;
    let client = broker.client();
    let mut watch = client.watch(["APP"]);
    let first = next_event(&mut watch, |event| matches!(event, Event::Current(_))).await;
    assert_eq!(first.secret().unwrap().text("key"), Some("first"));
    assert_eq!(first.secret().unwrap().version(), "1");
    rig.vault.write("secret/data/app", json!({ "data": { "key": "second" } })).await;
    let second = next_event(&mut watch, |event| matches!(event, Event::Rotated(_))).await;
    let second = second.secret().unwrap();
    assert_eq!(second.text("key"), Some("second"));
    assert_eq!(second.version(), "2");
    assert_eq!(second.previous().unwrap().version(), "1", "the one before overlaps");

    rig.vault.request("DELETE", "secret/data/app", None).await;
    let gone = until("the deleted one is served no more", async || client.get("APP").await.err());
    assert_eq!(gone.await.reason(), Some(Reason::SourceNotFound));
    let none = client.get("NONE").await.expect_err("never written");
    assert_eq!(none.reason(), Some(Reason::SourceNotFound), "{none}");
}

#[tokio::test]
async fn kv1_is_compared_by_its_content() {
    let rig = Rig::start("1h", "2h").await;
    rig.vault.write("sys/mounts/kv1", json!({ "type": "kv", "options": { "version": "1" } })).await;
    rig.vault.write("kv1/app", json!({ "user": "u", "key": "first" })).await;
    let broker =
        broker(&rig, &secret("APP", "engine = \"kv1\"\nmount = \"kv1\"\npath = \"app\"")).await;
    let client = broker.client();
    let first = client.get("APP").await.expect("a secret");
    assert_eq!((first.text("user"), first.text("key")), (Some("u"), Some("first")));
    rig.vault.write("kv1/app", json!({ "user": "u", "key": "second" })).await;
    let second = until("the change is seen", async || {
        client.get("APP").await.ok().filter(|now| now.generation() > first.generation())
    });
    let second = second.await;
    assert_eq!(second.text("key"), Some("second"));
    assert_ne!(second.version(), first.version());
    // A poll that finds the same is no new version.
    rig.vault.write("kv1/app", json!({ "key": "second", "user": "u" })).await;
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert_eq!(client.get("APP").await.unwrap().generation(), second.generation());
}

#[tokio::test]
async fn a_static_role_turns_over_with_its_last_rotation() {
    let rig = Rig::start("1h", "2h").await;
    rig.postgres.execute("CREATE ROLE fixed LOGIN PASSWORD 'before'").await;
    let role = json!({ "db_name": "main", "username": "fixed", "rotation_period": "1h" });
    rig.vault.write("database/static-roles/fixed", role).await;
    let broker =
        broker(&rig, &secret("FIXED", "engine = \"database\"\nstatic_role = \"fixed\"")).await;
    let client = broker.client();
    let first = client.get("FIXED").await.expect("a secret");
    assert!(rig.accepts(&first).await);
    rig.vault.write("database/rotate-role/fixed", json!({})).await;
    let second = until("the rotation is seen", async || {
        client.get("FIXED").await.ok().filter(|now| now.generation() > first.generation())
    })
    .await;
    assert!(rig.accepts(&second).await, "the new password works");
    assert_ne!(second.text("password"), first.text("password"));
}

#[tokio::test]
async fn leased_users_of_redis_log_in_overlap_and_are_gone_once_acknowledged() {
    let rig = Rig::start("1h", "2h").await;
    let redis = Redis::start().await;
    let connection = json!({
        "plugin_name": "redis-database-plugin", "allowed_roles": "*", "host": "127.0.0.1",
        "port": redis.port, "username": "default", "password": redis::PASSWORD,
    });
    rig.vault.write("database/config/cache", connection).await;
    let role = json!({
        "db_name": "cache", "default_ttl": "4s", "max_ttl": "8s",
        "creation_statements": "[\"+@read\", \"+acl|whoami\", \"~app:*\"]",
    });
    rig.vault.write("database/roles/cache", role).await;
    let broker = broker(&rig, &secret("CACHE", "engine = \"database\"\nrole = \"cache\"")).await;
    let client = broker.client();
    let login = async |secret: &Secret| {
        let field = |name| secret.text(name).expect("a field").to_owned();
        redis.login(&field("username"), &field("password")).await
    };
    let mut watch = client.watch(["CACHE"]);
    let first = next_event(&mut watch, |event| matches!(event, Event::Current(_))).await;
    let first = first.secret().unwrap();
    let user = first.text("username").expect("a user");
    assert_eq!(login(first).await.expect("the first one works"), user);
    let second = next_event(&mut watch, |event| matches!(event, Event::Rotated(_))).await;
    let second = second.secret().unwrap();
    assert!(login(second).await.is_ok(), "the second one works");
    assert!(login(first).await.is_ok(), "the first one overlaps");
    client.report(second, Outcome::Applied).await.expect("a report");
    until("the first one is gone", async || login(first).await.err()).await;
}

#[tokio::test]
async fn certificates_one_time_passwords_and_codes_come_by_path_method_and_parameters() {
    let rig = Rig::start("1h", "2h").await;
    let vault = &rig.vault;
    vault.write("sys/mounts/pki", json!({ "type": "pki" })).await;
    let root = json!({ "common_name": "the authority", "ttl": "24h" });
    vault.write("pki/root/generate/internal", root).await;
    let role = json!({ "allow_any_name": true, "max_ttl": "1h", "generate_lease": true });
    vault.write("pki/roles/app", role).await;
    vault.write("sys/mounts/ssh", json!({ "type": "ssh" })).await;
    let role = json!({ "key_type": "otp", "default_user": "ops", "cidr_list": "10.0.0.0/8" });
    vault.write("ssh/roles/otp", role).await;
    vault.write("sys/mounts/totp", json!({ "type": "totp" })).await;
    let key = json!({ "generate": true, "issuer": "shop", "account_name": "api", "period": 5 });
    vault.write("totp/keys/api", key).await;
    let post = "engine = \"generic\"\nmethod = \"post\"";
    let secrets = [
        secret(
            "CERT",
            &format!(
                "{post}\npath = \"pki/issue/app\"\nparameters = {{ common_name = \"api.shop\", ttl = \"10m\" }}\nfields = {{ cert = \"certificate\", key = \"private_key\" }}"
            ),
        ),
        secret(
            "OTP",
            &format!("{post}\npath = \"ssh/creds/otp\"\nparameters = {{ ip = \"10.1.2.3\" }}"),
        ),
        secret("CODE", "engine = \"generic\"\npath = \"totp/code/api\""),
        secret("WRONG", &format!("{post}\npath = \"pki/issue/nobody\"\nprefetch = false")),
    ];
    let broker = broker(&rig, &secrets.concat()).await;
    let client = broker.client();
    let cert = client.get("CERT").await.expect("a certificate");
    assert!(cert.text("cert").unwrap().starts_with("-----BEGIN CERTIFICATE"));
    assert!(cert.text("key").unwrap().contains("PRIVATE KEY"));
    let left = cert.time_left().expect("a certificate ends").as_secs();
    assert!((540..=600).contains(&left), "{left}");
    let otp = client.get("OTP").await.expect("a one-time password");
    assert_eq!(otp.text("ip"), Some("10.1.2.3"));
    assert!(otp.text("key").is_some_and(|key| key.len() >= 32));
    let code = client.get("CODE").await.expect("a code");
    assert!(code.text("code").is_some_and(|code| code.len() == 6));
    until("the code changes with its period", async || {
        client.get("CODE").await.ok().filter(|now| now.text("code") != code.text("code"))
    })
    .await;
    let wrong = client.get("WRONG").await.expect_err("no such role");
    let known = [Reason::SourceNotFound, Reason::SourceInvalid, Reason::SourceForbidden];
    assert!(wrong.reason().is_some_and(|reason| known.contains(&reason)), "{wrong}");
    assert!(client.get("OTP").await.is_ok(), "one wrong path harms no other secret");
}
