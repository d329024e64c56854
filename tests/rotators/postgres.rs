//! `PostgreSQL` users that take turns, and one whose password is replaced.

use std::{sync::Arc, time::Duration};

use secret_broker::{
    config::{
        Credential,
        operator::{
            LoginSource,
            targets::{
                endpoint::Tls,
                form::{Form, Template},
                postgres::{self as settings, Turn, Use},
            },
        },
    },
    domain::{
        fault::Reason,
        secret::{Fields, SecretValue},
    },
    rotation::{
        ports::{Rotator, Validator},
        rotators::postgres::{PostgresConsumer, PostgresRotator},
    },
};

use crate::{
    common::{
        COMPROMISED, Given, ROUTINE, apply, authority, done, endpoint, fault, generate, here,
        login, refused, text, turned,
    },
    support::{
        postgres::{PASSWORD, Postgres},
        until,
    },
};

/// The superuser.
const OPERATOR: (&str, &str) = ("postgres", PASSWORD);

fn at(server: &Postgres) -> Use {
    let endpoint = endpoint(server.port);
    Use { endpoint, database: "postgres".to_owned(), owner: None, alike: Vec::new(), query: None }
}

fn rotator(usage: Use, turn: Turn) -> PostgresRotator {
    by(usage, turn, OPERATOR)
}

fn by(usage: Use, turn: Turn, (user, password): (&'static str, &str)) -> PostgresRotator {
    let url = Template::parse("postgresql://{username}:{password}@db/shop").expect("a template");
    let settings = settings::Postgres {
        usage,
        turn,
        former: vec!["legacy".to_owned()],
        end_sessions: false,
        form: Form { length: 40, fields: [("url".to_owned(), url)].into() },
        login: LoginSource::Given {
            username: None,
            password: Credential::Value(SecretValue::new("unused")),
        },
    };
    PostgresRotator::new(settings, Arc::new(Given(user, password.to_owned())))
}

/// Two users that act as `shop_owner`, who owns a table.
async fn two_users(server: &Postgres) -> (Use, Turn) {
    server
        .execute(
            "CREATE ROLE shop_owner NOLOGIN;
             CREATE ROLE shop_a NOLOGIN IN ROLE shop_owner; ALTER ROLE shop_a SET role = 'shop_owner';
             CREATE ROLE shop_b NOLOGIN IN ROLE shop_owner; ALTER ROLE shop_b SET role = 'shop_owner';
             CREATE SCHEMA shop AUTHORIZATION shop_owner;
             CREATE TABLE shop.orders (id int); ALTER TABLE shop.orders OWNER TO shop_owner;",
        )
        .await;
    let users = ["shop_a".to_owned(), "shop_b".to_owned()];
    let usage = Use {
        owner: Some("shop_owner".to_owned()),
        alike: users.to_vec(),
        query: Some("INSERT INTO shop.orders VALUES (1)".to_owned()),
        ..at(server)
    };
    (usage, Turn::Alternating(users))
}

async fn logs_in(server: &Postgres, value: &Fields) -> bool {
    server.login(text(value, "username"), text(value, "password")).await.is_ok()
}

#[tokio::test]
async fn two_users_take_turns_and_both_work_until_the_old_one_is_revoked() {
    let server = Postgres::start().await;
    let (usage, turn) = two_users(&server).await;
    let rotator = rotator(usage, turn);
    assert!(rotator.is_overlapping());
    let mut current = turned(&rotator, None).await;
    assert_eq!(text(&current, "username"), "shop_a");
    for user in ["shop_b", "shop_a", "shop_b"] {
        let new = turned(&rotator, Some(&current)).await;
        assert_eq!(text(&new, "username"), user);
        apply(&rotator, Some(&current), &new).await.expect("twice is as once");
        for value in [&current, &new] {
            let seen = rotator.prove(value).await.expect("both work");
            assert!(seen.contains("acts as shop_owner") && seen.contains("query"), "{seen}");
        }
        for _ in 0..2 {
            let revoked = rotator.revoke(&current, Some(&new), ROUTINE).await.expect("twice");
            assert!(done(revoked).contains("can't log in any more"));
        }
        refused(rotator.prove(&current).await);
        rotator.prove(&new).await.expect("the new one goes on");
        current = new;
    }
    let url = format!("postgresql://shop_b:{}@db/shop", text(&current, "password"));
    assert_eq!(text(&current, "url"), url);
}

#[tokio::test]
async fn what_an_application_asks_leaves_no_trace() {
    let server = Postgres::start().await;
    let (usage, turn) = two_users(&server).await;
    let rotator = rotator(usage, turn);
    let current = turned(&rotator, None).await;
    rotator.prove(&current).await.expect("it works");
    server.execute("DO $$ BEGIN ASSERT (SELECT count(*) FROM shop.orders) = 0; END $$").await;
}

#[tokio::test]
async fn users_whose_rights_drifted_apart_are_refused_with_what_differs() {
    let server = Postgres::start().await;
    let (usage, turn) = two_users(&server).await;
    let rotator = rotator(usage, turn);
    let value = turned(&rotator, None).await;
    rotator.prove(&value).await.expect("alike at first");
    server.execute("CREATE DATABASE other").await;
    server.execute("CREATE ROLE readers NOLOGIN; CREATE TABLE t (a int)").await;
    for (drift, mend, expected) in [
        ("GRANT SELECT ON t TO shop_a", "REVOKE SELECT ON t FROM shop_a", "SELECT on table t"),
        (
            "GRANT UPDATE (a) ON t TO shop_b",
            "REVOKE UPDATE (a) ON t FROM shop_b",
            "UPDATE on column t.a",
        ),
        ("GRANT readers TO shop_a", "REVOKE readers FROM shop_a", "membership of readers"),
        (
            "GRANT CONNECT ON DATABASE other TO shop_b",
            "REVOKE CONNECT ON DATABASE other FROM shop_b",
            "CONNECT on database other",
        ),
        (
            "ALTER ROLE shop_a SET work_mem = '8MB'",
            "ALTER ROLE shop_a RESET work_mem",
            "setting work_mem",
        ),
        (
            "ALTER ROLE shop_b CREATEDB",
            "ALTER ROLE shop_b NOCREATEDB",
            "attributes of the role (shop_",
        ),
        (
            "ALTER TABLE t OWNER TO shop_a",
            "ALTER TABLE t OWNER TO postgres",
            "ownership of table t (shop_a alone)",
        ),
        (
            "ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO shop_a",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA shop REVOKE SELECT ON TABLES FROM shop_a",
            "SELECT on what postgres will make (shop_a alone)",
        ),
        (
            "ALTER ROLE shop_owner LOGIN",
            "ALTER ROLE shop_owner NOLOGIN",
            "the owner \"shop_owner\" can log in itself",
        ),
        (
            "REVOKE shop_owner FROM shop_b",
            "GRANT shop_owner TO shop_b",
            "GRANT \"shop_owner\" TO \"shop_b\"",
        ),
        (
            "ALTER ROLE shop_a RESET role",
            "ALTER ROLE shop_a SET role = 'shop_owner'",
            "does not act as \"shop_owner\"",
        ),
        (
            "ALTER TABLE shop.orders OWNER TO postgres",
            "ALTER TABLE shop.orders OWNER TO shop_owner",
            "the application's query",
        ),
    ] {
        server.execute(drift).await;
        let why = refused(rotator.prove(&value).await);
        assert!(why.contains(expected), "{drift}: {why}");
        server.execute(mend).await;
        rotator.prove(&value).await.unwrap_or_else(|error| panic!("{mend}: {error}"));
    }
}

#[tokio::test]
async fn rights_in_a_database_that_the_user_is_not_connected_to_are_seen_too() {
    let server = Postgres::start().await;
    let (usage, turn) = two_users(&server).await;
    let rotator = rotator(usage, turn);
    let value = turned(&rotator, None).await;
    server.execute("CREATE DATABASE other").await;
    let elsewhere = statements(&server, "other");
    elsewhere("CREATE TABLE far (a int); GRANT SELECT ON far TO shop_a").await;
    let why = refused(rotator.prove(&value).await);
    assert!(why.contains("an object of the database other (shop_a alone)"), "{why}");
}

/// Runs statements in another database.
fn statements(server: &Postgres, database: &'static str) -> impl AsyncFn(&str) {
    let port = server.port;
    async move |sql: &str| {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(port).user("postgres").password(PASSWORD).dbname(database);
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("a login");
        tokio::spawn(connection);
        client.batch_execute(sql).await.expect("the statement");
    }
}

#[tokio::test]
async fn one_user_is_changed_in_place_with_a_gap_that_is_stated_and_can_go_back() {
    let server = Postgres::start().await;
    server.execute("CREATE ROLE shop NOLOGIN").await;
    let rotator = rotator(at(&server), Turn::InPlace("shop".to_owned()));
    assert!(!rotator.is_overlapping());
    assert!(rotator.breaks().contains("a routine rotation has that gap too"));
    let old = turned(&rotator, None).await;
    let session = open(&server, &old).await;
    let new = turned(&rotator, Some(&old)).await;
    refused(rotator.prove(&old).await);
    rotator.prove(&new).await.expect("the new one works");
    let evidence = done(rotator.revoke(&old, Some(&new), ROUTINE).await.expect("a proof"));
    assert!(evidence.contains("the old value is refused"), "{evidence}");
    assert!(!session.is_closed(), "sessions are left to end");
    assert!(logs_in(&server, &new).await);

    apply(&rotator, Some(&new), &old).await.expect("the way back");
    rotator.prove(&old).await.expect("the old one works again");
    let still = fault(rotator.revoke(&old, Some(&new), ROUTINE).await);
    assert!(still.detail.contains("still accepts the old value"), "{still}");
    assert!(logs_in(&server, &old).await, "what works is not switched off for a value of its user");
}

/// A session of a consumer; it is closed once the server ended it.
async fn open(server: &Postgres, value: &Fields) -> tokio_postgres::Client {
    let mut config = tokio_postgres::Config::new();
    let (user, password) = (text(value, "username"), text(value, "password"));
    config.host("127.0.0.1").port(server.port).user(user).password(password).dbname("postgres");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("a login");
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn the_sessions_of_a_compromised_user_end_and_those_of_a_replaced_one_do_not() {
    let server = Postgres::start().await;
    let (usage, turn) = two_users(&server).await;
    let rotator = rotator(usage, turn);
    let old = turned(&rotator, None).await;
    let session = open(&server, &old).await;
    let new = turned(&rotator, Some(&old)).await;
    let other = open(&server, &new).await;
    done(rotator.revoke(&old, Some(&new), ROUTINE).await.expect("revoked"));
    session.simple_query("SELECT 1").await.expect("the session goes on");
    let evidence = done(rotator.revoke(&old, Some(&new), COMPROMISED).await.expect("revoked"));
    assert!(evidence.contains("sessions of shop_a ended: 1"), "{evidence}");
    until("the session is over", async || session.is_closed().then_some(())).await;
    other.simple_query("SELECT 1").await.expect("the other user's session goes on");
    let evidence = done(rotator.revoke(&old, None, COMPROMISED).await.expect("before a successor"));
    assert!(evidence.contains("ended: 0"), "{evidence}");
}

#[tokio::test]
async fn a_compromised_user_in_place_is_switched_off_first_and_on_again_with_the_new_password() {
    let server = Postgres::start().await;
    server.execute("CREATE ROLE shop NOLOGIN").await;
    let rotator = rotator(at(&server), Turn::InPlace("shop".to_owned()));
    let old = turned(&rotator, None).await;
    let session = open(&server, &old).await;
    done(rotator.revoke(&old, None, COMPROMISED).await.expect("revoked first"));
    until("the session is over", async || session.is_closed().then_some(())).await;
    refused(rotator.prove(&old).await);
    let new = turned(&rotator, Some(&old)).await;
    rotator.prove(&new).await.expect("the new one works");
    let session = open(&server, &new).await;
    let evidence = done(rotator.revoke(&old, Some(&new), COMPROMISED).await.expect("and after"));
    assert!(evidence.contains("sessions of shop ended, to log in anew: 1"), "{evidence}");
    until("the session is over", async || session.is_closed().then_some(())).await;
}

#[tokio::test]
async fn passwords_that_the_server_does_not_take_are_refused() {
    let server = Postgres::start().await;
    server.execute("CREATE ROLE shop NOLOGIN VALID UNTIL '2020-01-01'").await;
    let ended = rotator(at(&server), Turn::InPlace("shop".to_owned()));
    let new = turned(&ended, None).await;
    let why = refused(ended.prove(&new).await);
    assert!(why.contains("refuses the login"), "{why}");
    let validator = PostgresConsumer::new(at(&server));
    refused(validator.validate(&new, None).await);
    refused(validator.validate(&Fields::default(), None).await);
    server.execute("ALTER ROLE shop VALID UNTIL 'infinity'").await;
    validator.validate(&new, None).await.expect("it works");
    assert_eq!(validator.kind(), "postgres");
}

#[tokio::test]
async fn a_rule_of_the_server_on_passwords_is_a_refusal() {
    let server = Postgres::with(&["shared_preload_libraries=passwordcheck"]).await;
    // The rule knows a verifier of the user's own name.
    server.execute("CREATE ROLE shop NOLOGIN").await;
    let rotator = rotator(at(&server), Turn::InPlace("shop".to_owned()));
    let why = refused(apply(&rotator, None, &login("shop", "shop")).await);
    assert!(why.contains("a rule of the server on passwords"), "{why}");
    turned(&rotator, None).await;
}

#[tokio::test]
async fn a_server_that_is_down_or_denies_the_operator_is_a_fault_and_no_refusal() {
    let mut server = Postgres::start().await;
    let (usage, turn) = two_users(&server).await;
    let good = rotator(usage.clone(), turn.clone());
    let value = turned(&good, None).await;

    let wrong = by(usage.clone(), turn.clone(), ("postgres", "wrong"));
    let denied = fault(apply(&wrong, None, &value).await);
    assert_eq!(denied.reason, Reason::Unauthenticated, "{denied}");
    assert!(denied.detail.contains("the operator's login"), "{denied}");
    server.execute("CREATE ROLE weak LOGIN PASSWORD 'weak'").await;
    let weak = by(usage.clone(), turn.clone(), ("weak", "weak"));
    assert_eq!(fault(apply(&weak, None, &value).await).reason, Reason::Forbidden);
    let own = by(usage.clone(), turn.clone(), ("shop_b", "any"));
    let itself = fault(apply(&own, None, &value).await);
    assert!(itself.detail.contains("one of the users"), "{itself}");
    server.execute("DROP OWNED BY shop_b; DROP ROLE shop_b").await;
    let gone = generate(&good, Some(&value)).await;
    assert_eq!(fault(apply(&good, Some(&value), &gone).await).reason, Reason::NotFound);

    server.stop();
    assert!(fault(good.prove(&value).await).reason.is_transient());
    assert!(fault(apply(&good, None, &value).await).reason.is_transient());
    assert!(fault(good.revoke(&value, None, COMPROMISED).await).reason.is_transient());
}

#[tokio::test]
async fn only_users_that_are_named_are_ever_switched_off() {
    let server = Postgres::start().await;
    server
        .execute("CREATE ROLE legacy LOGIN PASSWORD 'l'; CREATE ROLE human LOGIN PASSWORD 'h'")
        .await;
    let (usage, turn) = two_users(&server).await;
    let rotator = rotator(usage, turn);
    let new = turned(&rotator, Some(&login("legacy", "l"))).await;
    done(rotator.revoke(&login("legacy", "l"), Some(&new), ROUTINE).await.expect("a former one"));
    assert!(server.login("legacy", "l").await.is_err());
    let stranger = fault(rotator.revoke(&login("human", "h"), Some(&new), ROUTINE).await);
    assert_eq!(stranger.reason, Reason::Invalid);
    assert!(server.login("human", "h").await.is_ok());
    server.execute("DROP ROLE legacy").await;
    done(rotator.revoke(&login("legacy", "l"), Some(&new), COMPROMISED).await.expect("it is gone"));
    assert_eq!(fault(apply(&rotator, None, &login("human", "h")).await).reason, Reason::Invalid);
}

#[tokio::test]
async fn neither_the_servers_log_nor_an_error_nor_evidence_holds_a_password() {
    let server = Postgres::with(&["log_statement=all", "log_connections=on"]).await;
    let (usage, turn) = two_users(&server).await;
    let rotator = rotator(Use { query: Some("SELECT nothing".to_owned()), ..usage }, turn);
    let mut said = Vec::new();
    let (old, new) = (login("shop_a", "planted-old-6Tg2"), login("shop_b", "planted-new-9Kx4"));
    said.push(format!("{:?}", apply(&rotator, None, &old).await));
    said.push(format!("{:?}", apply(&rotator, Some(&old), &new).await));
    said.push(format!("{:?}", rotator.prove(&new).await));
    said.push(format!("{:?}", rotator.revoke(&old, Some(&new), COMPROMISED).await));
    said.push(format!("{:?}", rotator.prove(&old).await));
    said.push(format!("{:?}", rotator.prove(&login("planted-name", "planted-old-6Tg2")).await));
    said.push(server.log());
    let log = said.last().expect("a log");
    assert!(log.contains("ALTER ROLE \"shop_b\" WITH LOGIN PASSWORD 'SCRAM-SHA-256$"), "{log}");
    for text in &said {
        assert!(!text.contains("planted-old") && !text.contains("planted-new"), "{text}");
    }
    assert!(!said.iter().rev().skip(1).any(|text| text.contains("planted")), "{said:?}");
}

#[tokio::test]
async fn a_standby_is_waited_for() {
    let server = Postgres::start().await;
    let (usage, turn) = two_users(&server).await;
    let standby = server.standby().await;
    let mut usage = Use { query: Some("SELECT count(*) FROM shop.orders".to_owned()), ..usage };
    usage.endpoint.replicas = vec![here(standby.port)];
    let hasty = Duration::from_millis(300);
    let mut short = usage.clone();
    short.endpoint.replication_timeout = hasty;
    let (rotator, hasty) = (rotator(usage, turn.clone()), by(short, turn, OPERATOR));
    let old = turned(&rotator, None).await;
    let seen = rotator.prove(&old).await.expect("it arrives");
    assert!(seen.contains("replicas with the same: 1"), "{seen}");

    let on_standby = statements(&standby, "postgres");
    on_standby("SELECT pg_wal_replay_pause()").await;
    let new = turned(&rotator, Some(&old)).await;
    let late = fault(hasty.prove(&new).await);
    assert_eq!(late.reason, Reason::Timeout, "{late}");
    let (proof, ()) =
        tokio::join!(rotator.prove(&new), on_standby("SELECT pg_wal_replay_resume()"));
    proof.expect("it arrives once the standby goes on");

    let session = open(&standby, &old).await;
    let evidence = done(rotator.revoke(&old, Some(&new), COMPROMISED).await.expect("everywhere"));
    assert!(evidence.contains("at all replicas (1) too"), "{evidence}");
    until("the standby's session is over", async || session.is_closed().then_some(())).await;
    assert!(!logs_in(&standby, &old).await && logs_in(&standby, &new).await);
}

#[tokio::test]
async fn the_servers_certificate_and_name_are_checked_and_plain_text_is_no_fallback() {
    let directory = tempfile::tempdir().expect("a directory");
    let (made, ca) = authority(directory.path(), "ca.pem");
    let (_, other) = authority(directory.path(), "other.pem");
    let server = Postgres::with_tls(&made.cert.pem(), &made.signing_key.serialize_pem()).await;
    let name = Some("db.shop".to_owned());
    let with = |ca: &Option<std::path::PathBuf>, server_name: &Option<String>| {
        let mut usage = at(&server);
        usage.endpoint.tls = Tls::Verify { ca: ca.clone(), server_name: server_name.clone() };
        PostgresConsumer::new(usage)
    };
    let value = login("postgres", PASSWORD);
    with(&ca, &name).validate(&value, None).await.expect("a checked server");
    for (ca, name) in [(&ca, &None), (&other, &name), (&None, &name)] {
        let fault = fault(with(ca, name).validate(&value, None).await);
        assert!(fault.reason.is_transient(), "{fault}");
    }
    refused(PostgresConsumer::new(at(&server)).validate(&value, None).await);
    let plain = Postgres::start().await;
    let mut usage = at(&plain);
    usage.endpoint.tls = Tls::Verify { ca, server_name: name };
    fault(PostgresConsumer::new(usage).validate(&value, None).await);
}
