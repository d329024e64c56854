//! Settings of rotators as people write them: what is accepted, and what is refused.

use super::{
    Rotate, Target,
    endpoint::{HostPort, Tls},
    postgres, redis, vault_database,
};
use crate::config::{Key, check::checked, operator::LoginSource, read::read};

fn parse(text: &str) -> Result<Target, Vec<String>> {
    let env = |name: &str| (name == "PASSWORD").then(|| "planted-value".to_owned());
    let parsed = checked(read::<Rotate>(text), "rotate.toml", &env, |check, rotate| {
        super::check(check, &Key::default(), rotate)
    });
    parsed
        .map(|(target, _)| target)
        .map_err(|mistakes| mistakes.all.iter().map(ToString::to_string).collect())
}

fn mistakes(text: &str) -> String {
    let mistakes = parse(text).expect_err("a mistake").join("\n");
    assert!(!mistakes.contains("planted"), "{mistakes}");
    mistakes
}

const LOGIN: &str = "login = { username = \"rotation\", password_env = \"PASSWORD\" }";

#[test]
fn postgres_has_two_users_with_an_owner_or_one_in_place() {
    let text = format!(
        "[postgres]\nserver = {{ address = \"db.shop\", replicas = [\"replica.shop:6000\"] }}\n\
         database = \"shop\"\nusers = [\"a\", \"b\"]\nowner = \"o\"\n{LOGIN}\n\
         fields = {{ host = \"db.shop\", url = \"postgresql://{{username}}:{{password}}@db.shop\" }}"
    );
    let Target::Postgres(settings) = parse(&text).unwrap() else { panic!("another kind") };
    assert_eq!(settings.turn, postgres::Turn::Alternating(["a".to_owned(), "b".to_owned()]));
    assert_eq!(settings.usage.alike, ["a", "b"]);
    let endpoint = &settings.usage.endpoint;
    assert_eq!(endpoint.address, HostPort { host: "db.shop".to_owned(), port: 5432 });
    assert_eq!(endpoint.replicas[0].to_string(), "replica.shop:6000");
    assert_eq!(endpoint.tls, Tls::Verify { ca: None, server_name: None });
    assert_eq!((settings.form.length, settings.form.fields.len()), (40, 2));
    assert!(matches!(settings.login, LoginSource::Given { .. }));

    let server = "server = { address = \"[::1]\", tls = \"disable\" }";
    let text = format!("[postgres]\n{server}\ndatabase = \"shop\"\nuser = \"shop\"\n{LOGIN}");
    let Target::Postgres(settings) = parse(&text).unwrap() else { panic!("another kind") };
    assert_eq!(settings.turn, postgres::Turn::InPlace("shop".to_owned()));
    assert!(settings.usage.alike.is_empty() && settings.usage.endpoint.tls == Tls::Disable);
}

#[test]
fn what_postgres_lacks_or_has_too_much_of_is_said_all_at_once() {
    let with = |rest: &str| {
        let server = "server = { address = \"db\" }";
        mistakes(&format!("[postgres]\n{server}\ndatabase = \"shop\"\n{LOGIN}\n{rest}"))
    };
    for (rest, expected) in [
        ("", "expected either `users` or `user`"),
        ("user = \"a\"\nusers = [\"a\", \"b\"]", "postgres.user: given beside `users`"),
        ("users = [\"a\", \"a\"]\nowner = \"o\"", "expected two different names"),
        ("users = [\"a\", \"b\"]", "postgres.owner: missing; needed by `users`"),
        ("users = [\"a\", \"b\"]\nowner = \"a\"", "postgres.owner: one of the users"),
        ("user = \"\"", "not a role's name"),
        ("user = \"a\"\nfields = { password = \"x\" }", "a field that the rotator makes"),
        ("user = \"a\"\nfields = { url = \"{pass}\" }", "a text with other braces"),
        ("user = \"a\"\nlength = 4", "expected a whole number from 16 to 128"),
        ("user = \"a\"\nquery = \" \"", "an empty text"),
    ] {
        let mistakes = with(rest);
        assert!(mistakes.contains(expected), "{rest}: {mistakes}");
    }
    let all = mistakes("[postgres]\nserver = { address = \"db:x\", tls = \"disable\" }");
    for expected in [
        "postgres.server.address: not a host and port",
        "postgres.database: missing",
        "postgres.login: missing",
        "postgres: no user",
    ] {
        assert!(all.contains(expected), "{expected}: {all}");
    }
}

#[test]
fn plain_text_goes_to_this_machine_only() {
    for server in [
        "address = \"db.shop\", tls = \"disable\"",
        "address = \"localhost\", replicas = [\"db.shop\"], tls = \"disable\"",
    ] {
        let text = format!("[redis]\nserver = {{ {server} }}\nuser = \"shop\"\n{LOGIN}");
        assert!(mistakes(&text).contains("another machine without TLS"));
    }
    let server = "address = \"localhost\", tls = \"disable\", ca = \"/ca.pem\"";
    let text = format!("[redis]\nserver = {{ {server} }}\nuser = \"shop\"\n{LOGIN}");
    assert!(mistakes(&text).contains("a certificate's settings without TLS"));
}

#[test]
fn redis_has_exactly_one_kind_of_user_and_its_own_password_needs_no_login() {
    let with = |rest: &str| parse(&format!("[redis]\nserver = {{ address = \"cache\" }}\n{rest}"));
    let Target::Redis(settings) = with("requirepass = true").unwrap() else { panic!("another") };
    assert_eq!((settings.turn, settings.login), (redis::Turn::Requirepass, None));
    let Target::Redis(settings) = with(&format!("users = [\"a\", \"b\"]\n{LOGIN}")).unwrap() else {
        panic!("another")
    };
    assert_eq!(settings.usage.endpoint.address.port, 6379);
    for (rest, expected) in [
        ("", "expected exactly one of `user`, `users` and `requirepass`"),
        ("user = \"a\"\nrequirepass = true", "expected exactly one of"),
        ("user = \"a\"", "redis.login: missing"),
        ("users = [\"a\"]", "expected two different names"),
        ("user = \"a b\"", "expected a text without spaces"),
        ("requirepass = true\nformer = [\"\"]", "redis.former"),
        ("requirepass = true\ncommand = [\"\"]", "redis.command: not a command"),
    ] {
        let mistakes = with(rest).unwrap_err().join("\n");
        assert!(mistakes.contains(expected), "{rest}: {mistakes}");
    }
}

#[test]
fn vault_turns_over_a_static_role_or_a_connections_login() {
    let parsed = parse("[vault_database]\nstatic_role = \"shop\"").unwrap();
    let Target::VaultDatabase(settings) = parsed else { panic!("another kind") };
    assert_eq!(settings.mount, "database");
    assert_eq!(settings.what, vault_database::What::StaticRole("shop".to_owned()));
    let parsed = parse("[vault_database]\nroot = \"main\"\nmount = \"a/b\"\nprove_role = \"app\"");
    assert!(matches!(parsed, Ok(Target::VaultDatabase(_))));
    for (text, expected) in [
        ("", "expected either `static_role` or `root`"),
        ("static_role = \"a\"\nroot = \"b\"", "expected either `static_role` or `root`"),
        ("static_role = \"a\"\nprove_role = \"b\"", "given beside `static_role`"),
        ("static_role = \"a/../b\"", "not a name in Vault"),
        ("root = \"a\"\nmount = \"../sys\"", "not a name in Vault"),
    ] {
        let mistakes = mistakes(&format!("[vault_database]\n{text}"));
        assert!(mistakes.contains(expected), "{text}: {mistakes}");
    }
}
