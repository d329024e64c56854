//! What annotations may say, and how each mistake is told.

use super::{Settings, config, given};
use crate::{
    config::inject::{InjectConfig, Mode},
    inject::{
        annotations::{ALL, Kind, find, reference},
        lists::FieldOf,
        pod,
        settings::Connect,
    },
};

fn read(pairs: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    let all = Settings::read(&given(pairs), &config().sidecar, false);
    all.map_err(|all| all.iter().map(ToString::to_string).collect())
}

#[test]
fn every_annotation_is_taken_over() {
    let settings = read(&[
        ("secrets", "DB, key=API_KEY"),
        ("files", "db-password=DB.password\nkey=key"),
        ("template.app.conf", "{{ secret(\"DB\").username }}"),
        ("files-directory", "/etc/app/secrets"),
        ("files-mode", "0644"),
        ("env", "PGPASSWORD=DB.password,KEY=key"),
        ("exec-containers", "app"),
        ("on-rotation", "signal:SIGHUP"),
        ("containers", "app migrate"),
        ("role", "special"),
        ("auth-path", "k8s-eu"),
        ("vault-address", "https://other:8200"),
        ("vault-namespace", "team"),
        ("ca-config-map", "vault-ca/bundle.pem"),
        ("audience", "https://vault"),
        ("token-ttl", "20m"),
        ("connect", "socket"),
        ("port", "9000"),
        ("probe-port", "9001"),
        ("startup-timeout", "30s"),
        ("image", "other:2"),
        ("log-level", "debug"),
        ("run-as-user", "1000"),
        ("run-as-group", "2000"),
        ("cpu-request", ""),
        ("memory-limit", "64Mi"),
        ("environment", "staging"),
        ("colour", "green"),
        ("poll-interval", "10s"),
        ("mode", "plain"),
    ])
    .unwrap();
    let field = |secret: &str, field: &str| FieldOf { secret: secret.into(), field: field.into() };
    assert_eq!(settings.secrets["key"], "API_KEY");
    let files = settings.files.keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(files, ["app.conf", "db-password", "key"]);
    assert_eq!(
        settings.env,
        [("KEY".into(), field("key", "value")), ("PGPASSWORD".into(), field("DB", "password"))]
    );
    assert_eq!(settings.ca, Some(("vault-ca".into(), "bundle.pem".into())));
    assert_eq!((settings.connect, settings.files_mode), (Connect::Socket, 0o644));
    let sidecar = settings.sidecar;
    assert_eq!(
        (sidecar.mode, sidecar.port.small(), sidecar.probe_port.small()),
        (Mode::Plain, 9000, 9001)
    );
    assert_eq!((sidecar.run_as_user.small(), sidecar.run_as_group.small()), (1000, 2000));
    assert_eq!(
        (sidecar.resources.cpu_request.as_str(), sidecar.resources.memory_limit.as_str()),
        ("", "64Mi")
    );
    assert_eq!(sidecar.token_ttl.duration().as_secs(), 1200);
    assert_eq!(sidecar.defaults.poll_interval.duration().as_secs(), 10);
    let vault = sidecar.vault.unwrap();
    assert_eq!(vault.auth.role.as_deref(), Some("special"));
    assert_eq!(vault.auth.mount.as_deref(), Some("k8s-eu"));
    assert_eq!(vault.namespace.as_deref(), Some("team"));
}

#[test]
fn all_mistakes_are_told_at_once_by_name() {
    let told = read(&[
        ("secret", "DB"),
        ("mode", "natve"),
        ("port", "70000"),
        ("files-mode", "rw"),
        ("cpu-limit", "a lot"),
        ("on-rotation", "explode"),
        ("token-ttl", "1s"),
        ("connect", "pigeon"),
        ("run-as-user", "0"),
    ])
    .unwrap_err();
    let expected = [
        ("secret:", "did you mean `secretbroker.dev/secrets`?"),
        ("mode: \"natve\"", "expected `native`, `plain`, `init`"),
        ("port: \"70000\"", "expected a port"),
        ("files-mode: \"rw\"", "octal"),
        ("cpu-limit: \"a lot\"", "quantity"),
        ("on-rotation: \"explode\"", "`signal:NAME`"),
        ("token-ttl: \"1s\"", "a time from 10m to 24h"),
        ("connect: \"pigeon\"", "`socket`"),
        ("run-as-user: \"0\"", "from 1"),
        ("secrets: missing", "name the secrets to serve"),
    ];
    for (name, accepted) in expected {
        let name = format!("secretbroker.dev/{name}");
        let one = told.iter().find(|one| one.starts_with(&name));
        assert!(one.is_some_and(|one| one.contains(accepted)), "{name} {accepted}: {told:#?}");
    }
    assert!(told.iter().any(|one| one.contains("on-rotation: given without env")));
}

#[test]
fn annotations_agree_with_each_other() {
    for (pairs, told) in [
        (&[("secrets", "A,A")][..], "\"A\" twice"),
        (
            &[("secrets", "A"), ("files", "f=B.x")],
            "\"B.x\" is no secret of this pod; expected one of secretbroker.dev/secrets (A)",
        ),
        (&[("secrets", "A"), ("files", "a/b=A")], "files: \"a/b=A\""),
        (&[("secrets", "A"), ("files", "f=A"), ("template.f", "x")], "\"f\" twice"),
        (&[("secrets", "A"), ("env", "1X=A")], "env: \"1X=A\""),
        (&[("secrets", "A"), ("mode", "init")], "`init` without files"),
        (
            &[("secrets", "A"), ("mode", "init"), ("files", "f=A"), ("env", "X=A")],
            "env: given with mode `init`",
        ),
        (&[("secrets", "A"), ("exec-containers", "app")], "given without env"),
        (&[("secrets", "A"), ("config-map", "mine")], "secrets: given beside config-map"),
        (&[("config-map", "mine"), ("role", "x")], "role: given beside config-map"),
        (&[("config-map", "Mine!")], "config-map: \"Mine!\""),
        (&[("secrets", "A"), ("tls", "files")], "tls-secret: missing"),
        (&[("secrets", "A"), ("tls-secret", "x")], "given without tls `files`"),
        (&[("secrets", "A"), ("tls", "vault-pki")], "tls-path: missing"),
        (&[("secrets", "A"), ("port", "7444")], "probe-port: the port of the broker"),
        (&[("secrets", "A"), ("files-directory", "../x")], "files-directory: \"../x\""),
        (&[("secrets", "A"), ("template.", "x")], "not the name of a file"),
        (&[("secrets", "A"), ("log-level", "")], "log-level: an empty text"),
    ] {
        let all = read(pairs).expect_err(told);
        assert!(all.iter().any(|one| one.contains(told)), "{told}: {all:#?}");
    }
}

#[test]
fn generated_annotations_are_no_mistake_and_say_nothing() {
    let pairs = [
        ("secrets", "DB"),
        ("status", "injected"),
        ("config", "x"),
        ("file.y", "z"),
        ("version", "0"),
    ];
    assert!(read(&pairs).is_ok());
}

#[test]
fn every_annotation_is_documented_with_its_default() {
    let text = reference();
    let page = include_str!("../../../docs/kubernetes/annotations.md");
    let (_, table) = page.split_once("<!-- table -->\n").expect("the mark");
    let (table, _) = table.split_once("<!-- end -->").expect("the mark");
    assert!(
        table == text,
        "docs/kubernetes/annotations.md has another table; it should be:\n{text}"
    );
    for annotation in ALL {
        assert!(find(annotation.name).is_some());
        assert!(
            annotation.kind == Kind::Generated || !annotation.default.is_empty(),
            "{}",
            annotation.name
        );
    }
}

#[test]
fn the_example_has_no_mistakes() {
    let text = include_str!("../../../docs/examples/inject.toml");
    let (config, warnings) = InjectConfig::parse(text, "inject.toml", &|_| None).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(pod::sample(&config), Ok(()));
}
