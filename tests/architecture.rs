//! Holds the shape of the source: which way dependencies point, and what each file looks like.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each room of the library, and the rooms that it may know.
const ROOMS: [(&str, &[&str]); 25] = [
    ("domain", &[]),
    ("contract", &[]),
    ("files", &[]),
    ("lockdown", &[]),
    ("random", &["domain"]),
    ("broker", &["domain"]),
    ("identity", &["domain"]),
    ("rotation", &["broker", "config", "domain", "random", "tls"]),
    ("report", &["domain", "rotation"]),
    ("bootstrap", &["config", "domain", "rotation"]),
    ("inject", &["broker", "config", "domain", "files", "tls"]),
    ("kube", &["broker", "config", "domain", "inject", "rotation"]),
    ("config", &["domain", "files"]),
    ("audit", &["broker", "config", "domain"]),
    ("sealing", &["config", "domain"]),
    ("state", &["broker", "config", "domain", "files", "sealing"]),
    ("telemetry", &["broker", "config", "domain", "rotation"]),
    ("tls", &["domain", "files", "identity"]),
    ("alert", &["domain", "rotation"]),
    ("store", &["broker", "config", "domain", "files", "random", "rotation", "sealing"]),
    ("server", &["audit", "broker", "config", "contract", "domain", "identity", "rotation", "tls"]),
    ("feed", &["broker", "config", "contract", "domain", "files"]),
    ("cli", &["config", "domain", "files"]),
    ("commands", &["bootstrap", "cli", "config", "domain", "inject", "report", "rotation"]),
    (
        "app",
        &[
            "alert",
            "audit",
            "bootstrap",
            "broker",
            "cli",
            "commands",
            "config",
            "contract",
            "domain",
            "feed",
            "files",
            "identity",
            "inject",
            "kube",
            "lockdown",
            "random",
            "report",
            "rotation",
            "sealing",
            "server",
            "state",
            "store",
            "telemetry",
            "tls",
        ],
    ),
];

/// Crates that only their adapters know.
const FOREIGN: [(&str, &[&str]); 19] = [
    ("vaultrs::", &["store/vault"]),
    ("rustify::", &["store/vault"]),
    (
        "reqwest::",
        &["store/vault", "app/dev_vault.rs", "config/check/vault.rs", "rotation/http.rs"],
    ),
    ("age::", &["sealing"]),
    // The room of this name, too.
    ("kube::", &["kube", "app/operator/cluster.rs", "app/operator/inject.rs"]),
    ("k8s_openapi::", &["kube"]),
    ("serde_saphyr::", &["inject/migrate", "commands/migrate.rs"]),
    ("rcgen::", &["tls"]),
    ("x509_parser::", &["tls", "identity"]),
    ("minijinja::", &["cli"]),
    ("moka::", &["broker/service.rs", "kube/webhook.rs"]),
    ("postgres_protocol::", &["rotation/rotators/postgres"]),
    ("tokio_postgres::", &["rotation/rotators/postgres"]),
    // The settings of this name, too.
    ("redis::", &["rotation/rotators/redis", "config/operator", "app/operator/targets.rs"]),
    ("aws_types::", &["rotation/aws.rs"]),
    ("aws_smithy_http_client::", &["rotation/aws.rs"]),
    ("aws_sdk_iam::", &["rotation/aws.rs", "rotation/rotators/aws_iam.rs"]),
    ("aws_sdk_sts::", &["rotation/aws.rs"]),
    ("aws_sdk_kms::", &["rotation/rotators/aws_kms.rs", "rotation/validators/kms.rs"]),
];

/// The most lines of a file, its tests not counted.
const LINES: usize = 500;

struct Source {
    /// Relative to the folder that was read.
    path: PathBuf,
    text: String,
}

impl Source {
    fn room(&self) -> String {
        let first = self.path.components().next().unwrap().as_os_str().to_str().unwrap();
        first.trim_end_matches(".rs").to_owned()
    }

    /// Whether it is a test by its place.
    fn is_test(&self) -> bool {
        self.path.components().any(|part| part.as_os_str().to_str().unwrap().starts_with("tests"))
    }

    /// The text without the tests at its end.
    fn product(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests {").next().unwrap()
    }

    fn lies_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                sources.push(Source { path: path.strip_prefix(&root).unwrap().to_owned(), text });
            }
        }
    }
    assert!(!sources.is_empty(), "{folder} has sources");
    sources
}

fn product() -> Vec<Source> {
    sources("src").into_iter().filter(|source| !source.is_test()).collect()
}

/// The first names after each `crate::`, those in braces too.
fn rooms_used(text: &str) -> BTreeSet<String> {
    let name = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        text[..end.unwrap_or(text.len())].to_owned()
    };
    let mut rooms = BTreeSet::new();
    for (at, path) in text.match_indices("crate::") {
        let rest = &text[at + path.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            rooms.insert(name(rest));
            continue;
        };
        let (mut depth, mut first) = (1, true);
        for (at, letter) in list.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => first = true,
                _ if first && letter.is_alphabetic() => {
                    rooms.insert(name(&list[at..]));
                    first = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    rooms
}

#[test]
fn rooms_used_are_found_in_every_form() {
    let text = "use crate::{\n    a::{b, c},\n    d,\n};\nlet x = crate::e::f;\nuse crate::g;";
    assert_eq!(rooms_used(text).into_iter().collect::<Vec<_>>(), ["a", "d", "e", "g"]);
}

#[test]
fn dependencies_point_one_way() {
    let mut wrong = Vec::new();
    for source in product() {
        let room = source.room();
        if ["lib", "main", "bin"].contains(&room.as_str()) {
            continue;
        }
        let known = ROOMS.iter().find(|(name, _)| *name == room);
        let (_, known) = known.unwrap_or_else(|| panic!("{room} has no place among the rooms"));
        for used in rooms_used(source.product()) {
            let is_room = ROOMS.iter().any(|(name, _)| *name == used);
            if is_room && used != room && !known.contains(&used.as_str()) {
                wrong.push(format!("{} uses {used}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn foreign_types_stop_at_their_adapters() {
    let mut wrong = Vec::new();
    for source in product() {
        for (name, places) in FOREIGN {
            let used = source.product().match_indices(name).any(|(at, _)| {
                let before = source.product()[..at].chars().next_back();
                before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
            });
            if used && !source.lies_in(places) {
                wrong.push(format!("{} uses {name}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_domain_does_nothing_but_think() {
    const BANNED: [&str; 9] = [
        "tokio::",
        "std::fs",
        "std::net",
        "std::io",
        "std::thread",
        "async fn",
        ".await",
        "Timestamp::now",
        "Instant",
    ];
    for source in product().iter().filter(|source| source.room() == "domain") {
        for banned in BANNED {
            assert!(!source.product().contains(banned), "{}: {banned}", source.path.display());
        }
    }
}

#[test]
fn only_the_composition_root_starts_tasks_that_nobody_owns() {
    for source in product().iter().filter(|source| source.room() != "app") {
        let place = source.path.display();
        assert!(!source.product().contains("tokio::spawn("), "{place}");
    }
}

#[test]
fn each_file_says_what_it_is_for_and_stays_short() {
    for folder in ["src", "clients/rust/src", "tests", "benches"] {
        for source in sources(folder) {
            let place = format!("{folder}/{}", source.path.display());
            assert!(source.text.starts_with("//! "), "{place} begins with its purpose");
            let lines = source.product().lines().count();
            assert!(lines <= LINES, "{place} has {lines} lines");
        }
    }
}

#[test]
fn no_test_is_skipped() {
    let ignored = concat!("#[", "ignore");
    for folder in ["src", "clients/rust", "tests"] {
        for source in sources(folder) {
            assert!(!source.text.contains(ignored), "{folder}/{}", source.path.display());
        }
    }
}
