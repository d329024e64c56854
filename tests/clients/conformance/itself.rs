//! That the runner passes what conforms and tells what does not: adapters in a line of shell, one honest, the others not.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{adapter::Adapter, steps::Run};
use crate::control::Controlled;

/// An adapter that answers requests as these branches of a `case` say, and all others by nothing; `$n` is a request's number.
fn adapter(directory: &Path, answers: &str) -> std::path::PathBuf {
    let script = directory.join("conformance.sh");
    let text = format!(
        "n=0\nwhile read -r line; do n=$((n+1)); case $line in {answers} *) echo \"{{\\\"id\\\":$n,\\\"ok\\\":{{}}}}\";; esac; done\n"
    );
    fs::write(&script, text).expect("a script");
    script
}

/// What became of steps with such an adapter.
async fn run(rig: &Controlled, answers: &str, steps: &Value) -> Result<(), String> {
    let directory = tempfile::tempdir().expect("a folder");
    let adapter = Adapter::start(&adapter(directory.path(), answers), &rig.environment);
    let mut run = Run::new(rig, adapter);
    run.all(steps.as_array().expect("steps")).await?;
    run.told_nothing_twice()
}

pub async fn tells_what_is_wrong() {
    const TELLS: &str = r#"*watch*) echo "{\"id\":$n,\"ok\":{}}"; echo '{"watch":"w","event":"CURRENT","name":"A","generation":1}';"#;
    let rig = Controlled::start().await;
    let ask = |op: &str| json!({ "ask": { "op": op, "watch": "w" } });
    let told = json!({ "told": { "watch": "w", "generation": 1 } });
    let watched = json!([ask("watch"), told]);
    run(&rig, &format!("{TELLS};"), &watched).await.expect("an honest adapter passes");

    let twice = format!(
        "{TELLS} echo '{{\"watch\":\"w\",\"event\":\"ROTATED\",\"name\":\"A\",\"generation\":1}}';;"
    );
    let quiet = json!({ "quiet": { "watch": "w", "for_ms": 300 } });
    let shows = r#"*print*) echo "{\"id\":$n,\"ok\":{\"text\":\"hunter2\"}}";;"#;
    let fails =
        r#"*get*) echo "{\"id\":$n,\"error\":{\"kind\":\"refused\",\"reason\":\"DENIED\"}}";;"#;
    let without = json!({ "text": { "$without": ["hunter2"] } });
    for (answers, steps, wrong) in [
        (twice.as_str(), json!([ask("watch"), told, told]), "told twice"),
        (twice.as_str(), json!([ask("watch"), told, quiet]), "it tells"),
        (shows, json!([{ "ask": { "op": "print" }, "ok": without }]), "it contains one of"),
        (fails, json!([ask("get")]), "the error"),
        (fails, json!([{ "ask": { "op": "get" }, "error": { "reason": "EXPIRED" } }]), "reason"),
        ("", json!([{ "ask": { "op": "get" }, "error": { "kind": "tls" } }]), "no error"),
        ("", json!([{ "ask": { "op": "get" }, "ok": { "name": "A" } }]), "name"),
        ("", json!([{ "ask": { "op": "get" }, "not_before_ms": 60_000 }]), "answered after"),
        ("*get*) exit;;", json!([ask("get")]), "no answer"),
        ("", json!([{ "ask": { "op": "get" }, "ok": "$never_bound" }]), "nothing is named"),
        ("", json!([{ "asks": {} }]), "it is none of"),
    ] {
        let told = run(&rig, answers, &steps).await.expect_err(wrong);
        assert!(told.contains(wrong), "{told}, not {wrong}");
    }
}
