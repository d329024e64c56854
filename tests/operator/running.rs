//! `secret-operator run`: of several, one acts, and another finishes what it left.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Child;

use super::{
    rig::Rig,
    support::proxy::{Hold, Proxy},
};

/// Leaves a rotation behind that was cut off in its middle; only the command uses the proxy.
async fn cut_off(rig: &Rig, proxy: &Proxy) {
    proxy.hold(10, Hold::After);
    let mut child = rig.spawn_unheard(&["rotate", "API_KEY_MASTER"]);
    proxy.held().await;
    child.kill().await.unwrap();
    proxy.let_go();
}

/// Waits until the secret's last rotation succeeded and none is open; `past` have ended by then.
async fn finished(rig: &Rig, past: usize) {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let history = rig.succeed(&["history", "API_KEY_MASTER", "--json"]).await;
        let lines: Vec<_> = history.lines().collect();
        if lines.len() == past {
            let last: Value = serde_json::from_str(lines[0]).unwrap();
            assert_eq!(last["standing"], "succeeded", "{last}");
            return;
        }
        assert!(Instant::now() < deadline, "not finished in time: {history}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Whether it led so far, by its log.
fn led(rig: &Rig, name: &str) -> bool {
    let log = std::fs::read_to_string(rig.directory.path().join(name)).unwrap();
    log.lines().any(|line| line.contains("\"leads\""))
}

#[tokio::test]
async fn of_two_one_acts_and_the_other_finishes_what_a_killed_one_left() {
    let rig = Rig::start().await;
    let proxy = Proxy::start(rig.vault.port()).await;
    rig.configure(&proxy.address(), "");
    let mut operators: Vec<(&str, Child)> =
        ["first.log", "second.log"].map(|log| (log, rig.operate(log))).into();
    cut_off(&rig, &proxy).await;
    finished(&rig, 1).await;
    let leading: Vec<_> = operators.iter().map(|(log, _)| led(&rig, log)).collect();
    assert_eq!(leading.iter().filter(|led| **led).count(), 1, "{leading:?}");
    let leader = leading.iter().position(|led| *led).unwrap();
    let (_, mut killed) = operators.remove(leader);
    killed.kill().await.unwrap();
    cut_off(&rig, &proxy).await;
    finished(&rig, 2).await;
    assert!(led(&rig, operators[0].0), "the other one leads now");
    let value = rig.current("shop/api-key").await;
    assert!(value["value"].as_str().unwrap().starts_with("sbk_"));
}
