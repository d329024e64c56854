//! Redis users that accept two passwords or take turns, and the password of the server itself.

use std::sync::Arc;

use secret_broker::{
    config::operator::targets::{
        endpoint::Tls,
        form::Form,
        redis::{self as settings, Turn, Use},
    },
    domain::{
        fault::Reason,
        secret::{Fields, SecretValue},
    },
    rotation::{
        ports::{Login, Rotator, Validator},
        rotators::redis::{RedisConsumer, RedisRotator},
    },
};

use crate::{
    common::{
        COMPROMISED, Given, ROUTINE, apply, authority, done, endpoint, fault, generate, here,
        login, refused, text, turned,
    },
    support::{
        redis::{PASSWORD, Redis},
        until,
    },
};

fn at(server: &Redis) -> Use {
    Use { endpoint: endpoint(server.port), command: Vec::new() }
}

fn by(usage: Use, turn: Turn, login: Option<(&'static str, &str)>) -> RedisRotator {
    let settings = settings::Redis {
        usage,
        turn,
        former: vec!["legacy".to_owned()],
        form: Form { length: 32, fields: [].into() },
        login: None,
    };
    let given =
        |(user, password): (_, &str)| Arc::new(Given(user, password.to_owned())) as Arc<dyn Login>;
    RedisRotator::new(settings, login.map(given))
}

fn rotator(usage: Use, turn: Turn) -> RedisRotator {
    by(usage, turn, Some(("default", PASSWORD)))
}

fn shared() -> Turn {
    Turn::Shared("shop".to_owned())
}

fn alternating() -> Turn {
    Turn::Alternating(["shop_a".to_owned(), "shop_b".to_owned()])
}

async fn make(server: &Redis, users: &[&str]) {
    for user in users {
        let command = ["ACL", "SETUSER", user, "on", "~shop:*", "+get", "+set", "+acl|whoami"];
        server.run_command(&command).await.expect("a user");
    }
}

async fn logs_in(server: &Redis, value: &Fields) -> bool {
    server.login(text(value, "username"), text(value, "password")).await.is_ok()
}

#[tokio::test]
async fn one_user_accepts_both_passwords_until_the_old_one_is_revoked() {
    let server = Redis::start().await;
    make(&server, &["shop"]).await;
    let usage = Use { command: vec!["GET".into(), "shop:health".into()], ..at(&server) };
    let rotator = rotator(usage, shared());
    assert!(rotator.is_overlapping());
    let mut current = turned(&rotator, None).await;
    for _ in 0..3 {
        let new = turned(&rotator, Some(&current)).await;
        let seen = apply(&rotator, Some(&current), &new).await.expect("twice is as once");
        assert!(seen.contains("NOT saved"), "{seen}");
        for value in [&current, &new] {
            let seen = rotator.prove(value).await.expect("both work");
            assert!(seen.contains("GET is answered"), "{seen}");
        }
        let session = server.session("shop", text(&current, "password")).await.expect("a session");
        for _ in 0..2 {
            done(rotator.revoke(&current, Some(&new), ROUTINE).await.expect("twice"));
        }
        refused(rotator.prove(&current).await);
        rotator.prove(&new).await.expect("the new one goes on");
        assert!(asks(session).await, "sessions are left to end");
        current = new;
    }
    let own = fault(rotator.revoke(&current, Some(&current), ROUTINE).await);
    assert!(own.detail.contains("in force") && logs_in(&server, &current).await, "{own}");
}

/// Whether a session goes on.
async fn asks(mut session: redis::aio::MultiplexedConnection) -> bool {
    redis::cmd("ACL").arg("WHOAMI").query_async::<String>(&mut session).await.is_ok()
}

#[tokio::test]
async fn two_users_take_turns_and_only_the_compromised_ones_sessions_end() {
    let server = Redis::start().await;
    make(&server, &["shop_a", "shop_b"]).await;
    let rotator = rotator(at(&server), alternating());
    let old = turned(&rotator, None).await;
    let new = turned(&rotator, Some(&old)).await;
    assert_eq!((text(&old, "username"), text(&new, "username")), ("shop_a", "shop_b"));
    let seen = rotator.prove(&old).await.expect("both work");
    assert!(seen.contains("shop_a and shop_b have the same rights"), "{seen}");
    let doomed = server.session("shop_a", text(&old, "password")).await.expect("a session");
    let other = server.session("shop_b", text(&new, "password")).await.expect("a session");
    done(rotator.revoke(&old, Some(&new), ROUTINE).await.expect("revoked"));
    assert!(asks(doomed.clone()).await);
    let seen = done(rotator.revoke(&old, Some(&new), COMPROMISED).await.expect("revoked"));
    assert!(seen.contains("sessions ended: 1"), "{seen}");
    until("the session is over", async || (!asks(doomed.clone()).await).then_some(())).await;
    assert!(asks(other).await && !logs_in(&server, &old).await);
    let third = turned(&rotator, Some(&new)).await;
    assert_eq!(text(&third, "username"), "shop_a");
    rotator.prove(&third).await.expect("the first user is on again");
    refused(rotator.prove(&old).await);

    for (drift, mend) in
        [("+del", "-del"), ("~more:*", "resetkeys ~shop:*"), ("&news", "resetchannels")]
    {
        server.run_command(&["ACL", "SETUSER", "shop_a", drift]).await.expect("a drift");
        let why = refused(rotator.prove(&third).await);
        assert!(why.contains("shop_a and shop_b differ in"), "{why}");
        let command = ["ACL SETUSER shop_a ", mend].concat();
        server.run_command(&command.split(' ').collect::<Vec<_>>()).await.expect("mended");
        rotator.prove(&third).await.unwrap_or_else(|error| panic!("{mend}: {error}"));
    }
}

#[tokio::test]
async fn what_was_changed_outlives_a_restart_by_either_kind_of_file() {
    for (configuration, kept) in [
        ("aclfile DIR/users.acl", "saved in its ACL file"),
        ("", "saved in its configuration file"),
    ] {
        let mut server = Redis::with(configuration).await;
        make(&server, &["shop"]).await;
        let rotator = rotator(at(&server), shared());
        let old = turned(&rotator, None).await;
        let new = generate(&rotator, Some(&old)).await;
        let seen = apply(&rotator, Some(&old), &new).await.expect("applied");
        assert!(seen.contains(kept), "{seen}");
        server.restart().await;
        rotator.prove(&old).await.expect("the old one is kept");
        rotator.prove(&new).await.expect("the new one is kept");
        done(rotator.revoke(&old, Some(&new), ROUTINE).await.expect("revoked"));
        server.restart().await;
        refused(rotator.prove(&old).await);
        rotator.prove(&new).await.expect("the new one is kept");
        let files = server.files();
        assert!(!files.contains(text(&new, "password")), "the server got no password");
    }
}

#[tokio::test]
async fn the_servers_own_password_overlaps_too_and_outlives_a_restart_at_each_step() {
    let mut server = Redis::with("").await;
    // Nobody but the value itself lets the operator in.
    let rotator = by(at(&server), Turn::Requirepass, None);
    let old = login("default", PASSWORD);
    let new = turned(&rotator, Some(&old)).await;
    apply(&rotator, Some(&old), &new).await.expect("twice is as once");
    server.restart().await;
    for value in [&old, &new] {
        rotator.prove(value).await.expect("both work");
    }
    let first = fault(rotator.revoke(&old, None, COMPROMISED).await);
    assert!(first.detail.contains("lock itself out"), "{first}");
    done(rotator.revoke(&old, Some(&new), ROUTINE).await.expect("revoked"));
    done(rotator.revoke(&old, Some(&new), COMPROMISED).await.expect("twice"));
    server.restart().await;
    refused(rotator.prove(&old).await);
    rotator.prove(&new).await.expect("the new one goes on");
    // A value without a name is one of the server's own.
    let bare =
        Fields::from_iter([("password".to_owned(), SecretValue::new(text(&new, "password")))]);
    rotator.prove(&bare).await.expect("it is the same");
    let next = turned(&rotator, Some(&bare)).await;
    done(rotator.revoke(&next, Some(&bare), ROUTINE).await.expect("the way back"));
    refused(rotator.prove(&next).await);
    rotator.prove(&bare).await.expect("the one before goes on");
    let none = fault(apply(&rotator, None, &next).await);
    assert!(none.detail.contains("store the current one first"), "{none}");
}

#[tokio::test]
async fn each_node_is_changed() {
    let (one, other) = (Redis::start().await, Redis::start().await);
    for server in [&one, &other] {
        make(server, &["shop"]).await;
    }
    let mut usage = at(&one);
    usage.endpoint.replicas = vec![here(other.port)];
    let rotator = rotator(usage, shared());
    let old = turned(&rotator, None).await;
    let new = turned(&rotator, Some(&old)).await;
    assert!(rotator.prove(&new).await.expect("it works").contains("servers: 2"));
    done(rotator.revoke(&old, Some(&new), ROUTINE).await.expect("revoked"));
    for server in [&one, &other] {
        assert!(logs_in(server, &new).await && !logs_in(server, &old).await);
    }
    // One that was left out is found.
    other.run_command(&["ACL", "SETUSER", "shop", "resetpass"]).await.expect("a drift");
    refused(rotator.prove(&new).await);
}

#[tokio::test]
async fn refusals_are_told_from_faults() {
    let mut server = Redis::start().await;
    make(&server, &["shop"]).await;
    let usage = Use { command: vec!["DEL".into(), "shop:health".into()], ..at(&server) };
    let denied = rotator(usage, shared());
    let value = turned(&denied, None).await;
    let why = refused(denied.prove(&value).await);
    assert!(why.contains("the application's command") && why.contains("NOPERM"), "{why}");
    let validator = RedisConsumer::new(at(&server));
    validator.validate(&value, None).await.expect("it logs in");
    assert_eq!(validator.kind(), "redis");
    refused(validator.validate(&login("shop", "wrong"), None).await);
    refused(validator.validate(&Fields::default(), None).await);

    let wrong = by(at(&server), shared(), Some(("default", "wrong")));
    assert_eq!(fault(apply(&wrong, None, &value).await).reason, Reason::Unauthenticated);
    let weak =
        by(at(&server), Turn::Shared("other".into()), Some(("shop", text(&value, "password"))));
    assert_eq!(fault(apply(&weak, None, &login("other", "x")).await).reason, Reason::Forbidden);
    let own = by(at(&server), shared(), Some(("shop", text(&value, "password"))));
    assert!(fault(apply(&own, None, &value).await).detail.contains("one of the users"));
    let none = rotator(at(&server), Turn::Shared("nobody".to_owned()));
    let unmade = fault(apply(&none, None, &login("nobody", "x")).await);
    assert_eq!(unmade.reason, Reason::NotFound, "a user is never made by the way");
    let stranger = fault(denied.revoke(&login("human", "h"), Some(&value), ROUTINE).await);
    assert_eq!(stranger.reason, Reason::Invalid);
    server.run_command(&["ACL", "SETUSER", "legacy", "on", ">l"]).await.expect("a user");
    done(denied.revoke(&login("legacy", "l"), Some(&value), ROUTINE).await.expect("a former one"));
    assert!(server.login("legacy", "l").await.is_err());
    server.run_command(&["ACL", "DELUSER", "legacy"]).await.expect("no user");
    done(denied.revoke(&login("legacy", "l"), None, COMPROMISED).await.expect("it is gone"));

    server.stop();
    assert!(fault(denied.prove(&value).await).reason.is_transient());
    assert!(fault(apply(&denied, None, &value).await).reason.is_transient());
    assert!(fault(denied.revoke(&value, None, COMPROMISED).await).reason.is_transient());
}

#[tokio::test]
async fn neither_errors_nor_evidence_nor_the_servers_monitor_hold_a_password() {
    let server = Redis::start().await;
    make(&server, &["shop_a", "shop_b"]).await;
    let rotator = rotator(at(&server), alternating());
    server.run_command(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]).await.expect("a log");
    let (old, new) = (login("shop_a", "planted-old-6Tg2"), login("shop_b", "planted-new-9Kx4"));
    let said = [
        format!("{:?}", apply(&rotator, None, &old).await),
        format!("{:?}", apply(&rotator, Some(&old), &new).await),
        format!("{:?}", rotator.prove(&new).await),
        format!("{:?}", rotator.revoke(&old, Some(&new), COMPROMISED).await),
        format!("{:?}", rotator.prove(&old).await),
        format!("{:?}", rotator.prove(&login("planted-name", "planted-old-6Tg2")).await),
        format!("{:?}", apply(&rotator, None, &login("planted-name", "planted-old-6Tg2")).await),
        format!("{:?}", server.run_command(&["SLOWLOG", "GET", "100"]).await.expect("the log")),
    ];
    assert!(said[7].contains("GETUSER"), "the log sees what is sent: {}", said[7]);
    for text in said {
        assert!(!text.contains("planted"), "{text}");
    }
}

#[tokio::test]
async fn the_servers_certificate_and_name_are_checked() {
    let directory = tempfile::tempdir().expect("a directory");
    let (made, ca) = authority(directory.path(), "ca.pem");
    let (_, other) = authority(directory.path(), "other.pem");
    let key = directory.path().join("key.pem");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    let port = crate::support::free_port();
    let certificate = ca.clone().expect("a file");
    let configuration = format!(
        "tls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients no",
        certificate.display(),
        key.display(),
        certificate.display(),
    );
    let server = Redis::with(&configuration).await;
    let name = Some("db.shop".to_owned());
    let validator = |port, ca: &Option<std::path::PathBuf>, server_name: &Option<String>| {
        let mut usage = at(&server);
        usage.endpoint = endpoint(port);
        usage.endpoint.tls = Tls::Verify { ca: ca.clone(), server_name: server_name.clone() };
        RedisConsumer::new(usage)
    };
    let value = login("default", PASSWORD);
    validator(port, &ca, &name).validate(&value, None).await.expect("a checked server");
    let plain = server.port;
    for (port, ca, name) in
        [(port, &ca, &None), (port, &other, &name), (port, &None, &name), (plain, &ca, &name)]
    {
        let fault = fault(validator(port, ca, name).validate(&value, None).await);
        assert!(fault.reason.is_transient(), "{fault}");
    }
}
