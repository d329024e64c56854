//! `secret-operator run`: of several, one acts, and another finishes what it left.

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

#[tokio::test]
async fn of_two_one_acts_and_the_other_finishes_what_a_killed_one_left() {
    let rig = Rig::start().await;
    let proxy = Proxy::start(rig.vault.port()).await;
    rig.configure(&proxy.address(), "");
    let mut operators: Vec<(&str, Child)> =
        ["first.log", "second.log"].map(|log| (log, rig.operate(log))).into();
    cut_off(&rig, &proxy).await;
    rig.finished(1).await;
    let leading: Vec<_> = operators.iter().map(|(log, _)| rig.led(log)).collect();
    assert_eq!(leading.iter().filter(|led| **led).count(), 1, "{leading:?}");
    let leader = leading.iter().position(|led| *led).unwrap();
    let (_, mut killed) = operators.remove(leader);
    killed.kill().await.unwrap();
    cut_off(&rig, &proxy).await;
    rig.finished(2).await;
    assert!(rig.led(operators[0].0), "the other one leads now");
    let value = rig.current("shop/api-key").await;
    assert!(value["value"].as_str().unwrap().starts_with("sbk_"));
}
