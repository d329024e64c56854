//! Whole files: what is accepted, what is refused, and that the documents are current.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use super::*;

const EXAMPLE: &str = include_str!("../../docs/examples/secret-broker.toml");

fn parse(text: &str) -> Result<Checked, Mistakes> {
    Config::parse(text, "broker.toml", &|name| {
        (name == "GOOD").then(|| "planted-value-of-a-variable".to_owned())
    })
}

fn mistakes(text: &str) -> Vec<String> {
    parse(text).unwrap_err().all.iter().map(ToString::to_string).collect()
}

/// A valid file with this text in front of its sections and this text after.
fn with(rest: &str) -> String {
    format!("[server]\nsocket = \"/run/b.sock\"\n{rest}")
}

#[test]
fn the_smallest_file_has_the_documented_defaults() {
    let config = parse(&with("")).unwrap().config;
    assert_eq!(config.server.socket.unwrap().mode, 0o660);
    assert_eq!(config.server.drain, Duration::from_secs(10));
    assert_eq!(config.server.limits.connections, 1024);
    assert!(config.watch_file && config.tls.is_none() && config.vault.is_none());
    assert_eq!(config.audit, AuditSink::Stdout);
    assert_eq!(config.telemetry.log_filter, "info");
}

#[test]
fn the_example_has_no_mistake_no_warning_and_the_whole_catalogue() {
    let checked = parse(EXAMPLE).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(checked.warnings, vec![]);
    let names = checked.config.secrets.keys().map(SecretName::as_str).collect::<BTreeSet<_>>();
    let catalogue = [
        "POSTGRES_PASSWORD",
        "POSTGRES_READ_REPLICA_PASSWORD",
        "REDIS_PASSWORD",
        "AWS_OBJECT_STORAGE",
        "AWS_KMS_KEY_ID",
        "JWT_SECRET",
        "API_KEY_MASTER",
        "DATADOG_API_KEY",
        "SLACK_WEBHOOK_URL",
    ];
    assert_eq!(names, catalogue.into_iter().collect());
    let postgres = &checked.config.secrets["POSTGRES_PASSWORD"];
    assert_eq!(postgres.terms.max_age, Some(Duration::from_hours(30 * 24)));
    let SecretOrigin::Vault(VaultPath { engine: VaultEngine::Generic { path, .. }, .. }) =
        &postgres.origin
    else {
        panic!("{postgres:?}");
    };
    assert_eq!(path, "database/creds/shop-main");
    let datadog = &checked.config.secrets["DATADOG_API_KEY"].origin;
    let SecretOrigin::Directory { fields, .. } = datadog else { panic!("{datadog:?}") };
    assert_eq!(fields["value"], "DATADOG_API_KEY");
}

#[test]
fn one_file_with_seventeen_mistakes_reports_all_of_them_in_order() {
    let text = r#"
wach_file = true
[server]
listen = "localhost"
socket_mode = "999"
drain = "soon"
[server.limits]
connections = 0
[vault]
address = "http://vault.internal:8200"
[vault.auth]
method = "aproll"
[defaults]
poll_interval = 5
retry_min = "10m"
[secrets.POSTGRES_PASSWORD]
category = "database"
store = "vault"
engine = "database"
max_agee = "1h"
[secrets."bad name"]
category = "database"
store = "memory"
file = "x"
[[policy]]
identities = ["api"]
secrets = ["**"]
verbs = ["gett", "get", "wach"]
[telemetry]
log_format = "xml"
"#;
    let expected = [
        "line 2: wach_file: unknown key; did you mean `watch_file`?",
        "line 4: server.listen: `localhost`; expected an IP address and port, such as \"127.0.0.1:7443\"",
        "line 5: server.socket_mode: not permission bits; expected octal permission bits from \"0000\" to \"0777\"",
        "line 6: server.drain: `soon`; expected a time from 0s to 10m, such as \"30s\", \"5m\" or \"1h30m\"",
        "line 8: server.limits.connections: the number 0; expected a whole number from 1 to 65536",
        "line 10: vault.address: http:// to another machine, where tokens and secrets could be read on the way; expected https://, or allow_plaintext = true beside it",
        "line 12: vault.auth.method: `aproll`; expected one of `kubernetes`, `approle`, `jwt`, `cert`, `userpass`, `token`",
        "line 14: defaults.poll_interval: the number 5; expected a time from 1s to 1d, such as \"30s\", \"5m\" or \"1h30m\"",
        "line 15: defaults.retry_min: longer than retry_max; expected at most retry_max",
        "line 16: secrets.POSTGRES_PASSWORD.role: missing; needed by engine = \"database\"",
        "line 20: secrets.POSTGRES_PASSWORD.max_agee: unknown key; did you mean `max_age`?",
        "line 21: secrets.\"bad name\": not a secret's name; a secret's name is 1 to 253 of the characters A-Z a-z 0-9 _ - . /",
        "line 24: secrets.\"bad name\".file: not a key of `memory`; it belongs to `dotenv` and `sealed`",
        "line 26: policy[0].identities[0]: not a pattern of identities; expected spiffe://…, dns:NAME, unix:uid=UID,gid=GID, or a `*` in front",
        "line 28: policy[0].verbs[0]: `gett`; expected one of `get`, `list`, `watch`, `report`, `observe`",
        "line 28: policy[0].verbs[2]: `wach`; expected one of `get`, `list`, `watch`, `report`, `observe`",
        "line 30: telemetry.log_format: `xml`; expected `text` or `json`",
    ];
    assert_eq!(mistakes(text), expected);
}

#[test]
fn broken_toml_is_reported_beside_what_could_be_read() {
    let found = mistakes("[server]\nsocket = \n[telemetry]\nlog_fmt = \"json\"\n");
    assert!(found.iter().any(|m| m.starts_with("line 2: not TOML")), "{found:?}");
    assert!(found.iter().any(|m| m.contains("did you mean `log_format`?")), "{found:?}");
}

#[test]
fn sections_that_need_each_other_are_missed() {
    for (text, expected) in [
        ("", "server: no listener; needs listen = \"ADDRESS:PORT\", socket = \"PATH\", or both"),
        ("[server]\nlisten = \"127.0.0.1:1\"", "tls: missing; needed by server.listen"),
        (
            &with("[tls]\nsource = \"authority\"\ndirectory = \"/d\""),
            "line 3: tls: certificates without a TCP listener; set server.listen, or leave [tls] out",
        ),
        (
            &with(
                "[secrets.A]\ncategory = \"c\"\nstore = \"vault\"\nengine = \"kv2\"\npath = \"p\"",
            ),
            "vault: missing; needed by secrets.A",
        ),
        (
            "[server]\nlisten = \"127.0.0.1:1\"\n[tls]\nsource = \"vault-pki\"\npath = \"pki/issue/x\"\ncommon_name = \"x\"",
            "vault: missing; needed by tls.source = \"vault-pki\"",
        ),
        (
            &with("[vault]\naddress = \"https://v:8200\"\n[vault.auth]\nmethod = \"cert\""),
            "line 3: vault.client_cert: missing; needed by auth.method = \"cert\"",
        ),
        (
            &with("[audit]\nsink = \"file\""),
            "line 3: audit.file: missing; needed by sink = \"file\"",
        ),
        (
            &with("[[policy]]\nidentities = [\"*\"]\nverbs = [\"get\"]"),
            "line 3: policy[0]: about no secret; needs secrets, categories, or both",
        ),
    ] {
        assert_eq!(mistakes(text), [expected], "{text}");
    }
}

#[test]
fn what_is_asked_of_the_workload_api_is_checked_before_it_is_asked() {
    let file = |tls: &str| {
        format!("[server]\nlisten = \"127.0.0.1:1\"\n[tls]\nsource = \"spiffe\"\n{tls}")
    };
    for endpoint in ["unix:///run/a.sock", "unix:/run/a.sock"] {
        let text =
            file(&format!("endpoint = \"{endpoint}\"\ndirectory = \"/d\"\nfile_mode = \"0640\""));
        let Some(Tls::Spiffe { endpoint, files, svid: None, .. }) =
            parse(&text).unwrap().config.tls
        else {
            panic!("{text}");
        };
        assert_eq!((endpoint, files), ("/run/a.sock".into(), Some(("/d".into(), 0o640))));
    }
    let endpoint = "line 5: tls.endpoint: not an endpoint of this machine; expected unix:///PATH, of at most 107 bytes";
    for (tls, expected) in [
        ("endpoint = \"unix:///\"", endpoint),
        ("endpoint = \"unix://a.sock\"", endpoint),
        ("endpoint = \"/run/a.sock\"", endpoint),
        (
            "",
            "line 3: tls.endpoint: missing; needed by source = \"spiffe\", where SPIFFE_ENDPOINT_SOCKET is not set",
        ),
        (
            "endpoint = \"unix:///a\"\nsvid = \"https://one/a\"",
            "line 6: tls.svid: not the name of an SVID; expected spiffe://TRUST-DOMAIN/PATH, or a hint",
        ),
        (
            "endpoint = \"unix:///a\"\nserver_name = \"no name\"",
            "line 6: tls.server_name: not a name; expected a DNS name",
        ),
        (
            "endpoint = \"unix:///a\"\nclient_svid = \"app\"",
            "line 6: tls.client_svid: given without files; it needs directory, where the files go",
        ),
        (
            "endpoint = \"unix:///a\"\nttl = \"1h\"",
            "line 6: tls.ttl: not a key of `spiffe`; it belongs to `vault-pki` and `authority`",
        ),
    ] {
        assert_eq!(mistakes(&file(tls)), [expected], "{tls}");
    }
}

#[test]
fn the_key_of_the_state_does_not_lie_beside_it() {
    for (path, key, is_refused) in [
        ("/var/lib/b/state", "/var/lib/b/key", true),
        ("/var/lib/b/state", "/var/lib/b/sub/../key", true),
        ("/var/lib/b/state", "/var/lib/b/sub/key", true),
        ("/var/lib/b/state", "/etc/b/key", false),
        ("/state", "/etc/key", false),
        ("/state", "/key", true),
        ("state", "key", true),
        ("state", "/etc/key", false),
    ] {
        let text = with(&format!("[state]\npath = \"{path}\"\nkey_file = \"{key}\""));
        assert_eq!(parse(&text).is_err(), is_refused, "{path} {key}");
    }
}

#[test]
fn a_key_is_made_in_a_file_only() {
    for (key, is_refused) in [("key_file = \"/etc/b/key\"", false), ("key_env = \"GOOD\"", true)] {
        let text = with(&format!("[state]\npath = \"/var/b/state\"\n{key}\ngenerate_key = true"));
        let read = parse(&text);
        assert_eq!(read.is_err(), is_refused, "{key}");
        assert_eq!(read.is_ok_and(|c| c.config.state.is_some_and(|s| s.generate_key)), !is_refused);
    }
}

#[test]
fn plaintext_goes_to_this_machine_only_unless_allowed() {
    for (vault, is_refused) in [
        ("address = \"http://127.0.0.1:8200\"", false),
        ("address = \"http://[::1]:8200\"", false),
        ("address = \"http://localhost:8200\"", false),
        ("address = \"https://vault:8200\"", false),
        ("address = \"http://vault:8200\"", true),
        ("address = \"http://127.0.0.1.evil.example:8200\"", true),
        ("address = \"http://vault:8200\"\nallow_plaintext = true", false),
        ("address = \"https://root:hunter2@vault:8200\"", true),
        ("address = \"vault:8200\"", true),
    ] {
        let text = with(&format!(
            "[vault]\n{vault}\n[vault.auth]\nmethod = \"token\"\ntoken_env = \"GOOD\""
        ));
        let read = parse(&text);
        assert_eq!(read.is_err(), is_refused, "{vault}");
        assert!(!format!("{read:?}").contains("hunter2"), "{vault}");
    }
}

#[test]
fn no_message_repeats_a_credential_written_in_any_place() {
    const PLANTED: &str = "hvs.planted-Value/1";
    let places = [
        "[vault]\naddress = 'P'\n[vault.auth]\nmethod = 'token'\ntoken_env = 'P'\ntoken = 'P'",
        "[vault]\naddress = 'https://P@v'\n[vault.auth]\nmethod = 'approle'\nsecret_id = 'P'\nwrapped = 'P'",
        "[state]\npath = '/s/a'\nkey_env = 'P'\nkey = 'P'",
        "[secrets.A]\ncategory = 'P='\nstore = 'dotenv'\nfields = 'P'\npassword = ['P']",
        "[secrets.A]\ncategory = 'c'\nstore = 'memory'\ngenerate = { value = 'P', other = { literal = ['P'] } }",
        "[telemetry]\nlog_filter = 'P=P=P'\nhttp = 'P'",
        "[vault.auth]\npassword = \"P\nmethod = P",
    ];
    for place in places {
        let found = mistakes(&with(&place.replace('P', PLANTED))).join("\n");
        assert!(!found.contains(PLANTED), "{found}");
    }
    let good =
        with("[vault]\naddress = 'https://v'\n[vault.auth]\nmethod = 'token'\ntoken_env = 'GOOD'");
    assert!(!format!("{:?}", parse(&good).unwrap()).contains("planted-value"));
}

#[test]
fn a_deployment_is_named_by_parts_of_a_label() {
    let kv = "[vault]\naddress = \"https://v\"\n[vault.auth]\nmethod = \"token\"\ntoken_env = \"GOOD\"\n\
        [secrets.A]\ncategory = \"c\"\nstore = \"vault\"\nengine = \"kv2\"\npath = \"p\"\n";
    let named = "[deployment]\nenvironment = \"production\"\ncolour = \"green\"\n";
    let config = parse(&with(&format!("{named}{kv}"))).unwrap().config;
    let SecretOrigin::Vault(place) = &config.secrets["A"].origin else { panic!("of Vault") };
    let VaultEngine::KvV2 { deployment, .. } = &place.engine else { panic!("of version 2") };
    assert_eq!(deployment, &config.deployment);
    assert_eq!(deployment.colour.as_deref(), Some("green"));
    assert_eq!(place.api_path(), "secret/data/p");
    let alone = "[deployment]\ncolour = \"green\"";
    let expected = ["line 3: deployment.environment: missing; needed by deployment.colour"];
    assert_eq!(mistakes(&with(alone)), expected);
    for bad in ["", "a.b", "a b", &"x".repeat(64)] {
        let found = mistakes(&with(&format!("[deployment]\nenvironment = \"{bad}\"")));
        assert_eq!(found.len(), 1, "{bad}");
    }
}

#[test]
fn an_operator_is_called_over_tls_with_files_of_one_kind() {
    let read = |keys: &str| parse(&with(&format!("[operator]\n{keys}")));
    let https = "address = \"https://operator:7500\"\n";
    let feed = read(&format!("{https}cert_dir = \"/t\"")).unwrap().config.operator.unwrap();
    assert_eq!((feed.ca, feed.key), ("/t/ca.pem".into(), "/t/client.key".into()));
    let files = "ca = \"/c\"\ncert = \"/l\"\nkey = \"/k\"\nserver_name = \"operator.svc\"";
    let feed = read(&format!("{https}{files}")).unwrap().config.operator.unwrap();
    assert_eq!((feed.cert, feed.server_name), ("/l".into(), Some("operator.svc".into())));
    for (keys, mistakes) in [
        ("cert_dir = \"/t\"", 1),
        ("address = \"http://operator:7500\"\ncert_dir = \"/t\"", 1),
        ("address = \"unix:///run/o.sock\"\ncert_dir = \"/t\"", 1),
        ("address = \"https://operator\"\ncert_dir = \"/t\"", 1),
        ("address = \"https://operator:1\"\nca = \"/c\"", 2),
        ("address = \"https://operator:1\"\ncert_dir = \"/t\"\nkey = \"/k\"", 1),
        ("address = \"https://operator:1\"\ncert_dir = \"/t\"\nserver_name = \"a b\"", 1),
    ] {
        assert_eq!(read(keys).unwrap_err().all.len(), mistakes, "{keys}");
    }
}

#[test]
fn patterns_that_match_nothing_are_warned_of() {
    let text = with(
        "[[policy]]\nidentities = [\"*\"]\nsecrets = [\"db/*\"]\ncategories = [\"x\"]\nverbs = [\"get\"]",
    );
    let warnings =
        parse(&text).unwrap().warnings.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        warnings,
        [
            "line 5: policy[0].secrets[0]: no secret has such a name; the pattern allows nothing now",
            "line 6: policy[0].categories[0]: no secret is of such a category; the pattern allows nothing now",
        ]
    );
}

#[test]
fn every_login_is_read() {
    for login in [
        "method = \"kubernetes\"\nrole = \"r\"",
        "method = \"jwt\"\nrole = \"r\"\ntoken_file = \"/t\"",
        "method = \"approle\"\nrole_id = \"r\"\nsecret_id_file = \"/s\"\nwrapped = true",
        "method = \"approle\"\nrole_id_file = \"/r\"\nsecret_id_env = \"GOOD\"",
        "method = \"userpass\"\nusername = \"u\"\npassword_env = \"GOOD\"",
        "method = \"token\"\ntoken_file = \"/t\"\nmount = \"token\"",
    ] {
        let text = with(&format!("[vault]\naddress = \"https://v:8200\"\n[vault.auth]\n{login}"));
        let vault = parse(&text).unwrap_or_else(|m| panic!("{m}")).config.vault.unwrap();
        assert!(login.contains(&vault.auth.mount), "{login}");
    }
    let wrong = "[vault]\naddress = \"https://v:8200\"\n[vault.auth]\nmethod = \"kubernetes\"\nrole = \"r\"\nwrapped = true\ntoken_env = \"GOOD\"";
    assert_eq!(mistakes(&with(wrong)).len(), 2);
}

#[test]
fn the_limit_on_mistakes_ends_the_search() {
    let many = (0..1000).map(|i| format!("unknown_{i} = 1")).collect::<Vec<_>>().join("\n");
    let found = mistakes(&format!("{many}\n{}", with("")));
    assert!((200..210).contains(&found.len()), "{}", found.len());
}

/// Compares a committed file with what it is generated from; `UPDATE_DOCS=1` writes it anew.
#[expect(clippy::disallowed_methods, reason = "a switch of this test, not configuration")]
fn is_current(file: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var("UPDATE_DOCS").is_ok_and(|v| v == "1") {
        fs::write(&path, generated).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "{file} is out of date: UPDATE_DOCS=1 cargo test --lib config");
}

#[test]
fn the_committed_schema_is_current() {
    let schema = serde_json::to_string_pretty(&reference::schema()).unwrap() + "\n";
    is_current("docs/secret-broker.schema.json", &schema);
}

#[test]
fn the_committed_reference_is_current() {
    let intro = include_str!("reference-intro.md");
    is_current("docs/configuration.md", &format!("{intro}\n{}", reference::reference().unwrap()));
}

#[test]
fn a_file_damaged_in_any_line_is_refused_or_read_and_never_more() {
    let lines = EXAMPLE.lines().collect::<Vec<_>>();
    let mut refused = 0;
    for (i, line) in lines.iter().enumerate() {
        let key = line.split('=').next().unwrap_or_default();
        for damaged in [
            String::new(),
            format!("{key}= 5"),
            format!("{key}= ['x', {{ a = [[1]] }}]"),
            format!("{key}= {{ x.y = 1979-05-27 }}"),
            format!("[{line}"),
            format!("{line}\n{line}"),
            line.chars().rev().collect(),
        ] {
            let mut text = lines.clone();
            text[i] = &damaged;
            if let Err(found) = parse(&text.join("\n")) {
                refused += 1;
                assert!(!found.all.is_empty(), "{damaged}");
                let places = found.all.iter().map(|m| (m.line, &m.key, &m.found));
                let distinct = places.clone().collect::<BTreeSet<_>>();
                assert_eq!(places.count(), distinct.len(), "told twice: {found}");
            }
        }
    }
    assert!(refused > 300, "{refused}");
}

#[test]
fn a_check_tells_a_summary_or_all_mistakes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/secret-broker.toml");
    let summary = check_file(&path).unwrap();
    assert!(
        summary.contains("secrets: 9, 1 from directory, 1 from dotenv, 7 from vault"),
        "{summary}"
    );
    assert!(summary.contains("mTLS on 127.0.0.1:7443"), "{summary}");
    let missing = check_file(Path::new("/nonexistent/x.toml")).unwrap_err();
    assert!(missing.starts_with("/nonexistent/x.toml: "), "{missing}");
}
