//! Rules and dashboards name metrics and labels that the programs have.

use std::{collections::BTreeSet, fs, process::Command};

use super::{files, root, run, support::tool};

/// What metric and label names end in that the programs do not write themselves.
const SUFFIXES: [&str; 7] =
    ["_seconds_bucket", "_seconds_count", "_seconds_sum", "_seconds", "_bytes", "_info", "_total"];
/// Labels that a scrape adds, and those of histograms.
const SCRAPED: [&str; 5] = ["namespace", "pod", "job", "instance", "le"];

/// The texts between quotation marks in the source of what is told.
fn names() -> BTreeSet<String> {
    let mut sources = files("src/telemetry");
    sources.extend(files("src/inject"));
    let sources = sources.into_iter();
    let text: String = sources.map(|path| fs::read_to_string(path).unwrap()).collect();
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Names that begin like a metric of ours, wherever they stand.
fn metrics(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_part(c));
    let ours = ["secret_broker_", "secret_operator_", "process_"];
    words.filter(|word| ours.iter().any(|prefix| word.starts_with(prefix))).collect()
}

/// The labels of selectors and groupings.
fn labels(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in text.split("by (").skip(1) {
        let list = part.split(')').next().unwrap();
        found.extend(list.split(',').map(|label| label.trim().to_owned()));
    }
    for part in text.split("$labels.").skip(1) {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap();
        found.insert(part[..end].to_owned());
    }
    for operator in ["=\"", "=~\"", "!=\"", "=\\\"", "=~\\\"", "!=\\\""] {
        for (at, _) in text.match_indices(operator) {
            let name = text[..at].trim_end_matches('!');
            let start = name.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap();
            found.insert(name[start + 1..].to_owned());
        }
    }
    found.remove("");
    found
}

#[test]
fn rules_and_dashboards_name_what_the_programs_tell() {
    let known = names();
    let base = |name: &str| {
        let name = ["secret_broker_injection_", "secret_broker_", "secret_operator_"]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))
            .unwrap_or(name)
            .to_owned();
        let cut = SUFFIXES.iter().filter_map(|suffix| name.strip_suffix(suffix));
        cut.map(str::to_owned).chain([name.clone()]).collect::<Vec<_>>()
    };
    let mut seen = BTreeSet::new();
    for folder in ["deploy/prometheus", "deploy/grafana"] {
        for path in files(folder) {
            let text = fs::read_to_string(&path).unwrap();
            for metric in metrics(&text) {
                let is_known = base(metric).iter().any(|name| known.contains(name));
                assert!(is_known, "{}: {metric}", path.display());
                seen.insert(metric.to_owned());
            }
            for label in labels(&text) {
                let is_known = known.contains(&label) || SCRAPED.contains(&label.as_str());
                assert!(is_known, "{}: label {label}", path.display());
            }
        }
    }
    assert!(seen.len() > 20, "{seen:?}");
}

#[test]
fn the_rules_fire_when_they_should_and_not_before() {
    let rules = root().join("deploy/prometheus/secret-broker.rules.yaml");
    let mut check = Command::new(tool("promtool"));
    let (fine, said) = run(check.args(["check", "rules", "--lint-fatal"]).arg(rules));
    assert!(fine, "{said}");
    for name in ["expiry", "incidents"] {
        let mut test = Command::new(tool("promtool"));
        let case = root().join(format!("tests/deploy/rules/{name}.yaml"));
        let (fine, said) = run(test.args(["test", "rules"]).arg(case));
        assert!(fine, "{said}");
    }
}

#[test]
fn dashboards_are_whole_and_ask_one_source() {
    for path in files("deploy/grafana") {
        let dashboard: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(
            format!("{}.json", dashboard["uid"].as_str().unwrap()),
            path.file_name().unwrap().to_str().unwrap()
        );
        let panels = dashboard["panels"].as_array().unwrap();
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(ids.len(), panels.len());
        for panel in panels {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
            assert!(!panel["targets"].as_array().unwrap().is_empty());
        }
    }
}
