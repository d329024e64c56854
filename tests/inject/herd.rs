//! Many pods at once, such as after the restart of a node or the roll-out of a fleet.

use std::{collections::BTreeMap, net::TcpListener, time::Instant};

use futures_util::future::join_all;

use crate::{
    cluster::ALL,
    kubelet::Pod,
    whole::{HOURS, Whole},
};

const PODS: usize = 200;
/// How many end at once, as in a roll-out: each has ten seconds for what it revokes.
const WAVE: usize = 20;
/// How long each may take to start: the default, on a machine that does much else.
const PATIENCE: &str = "5m";

/// Two ports a pod, since all share one network here. Below those that the system gives to connections.
fn ports() -> Vec<(String, String)> {
    let first = 10_000 + u16::try_from(std::process::id() % 20_000).expect("it is small");
    let free = (first..32_000)
        .chain(10_000..first)
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let free: Vec<_> = free.take(2 * PODS).map(|port| port.to_string()).collect();
    free.chunks(2).map(|two| (two[0].clone(), two[1].clone())).collect()
}

async fn made(whole: &Whole) -> Vec<Pod> {
    let pods = ports().into_iter().enumerate().map(async |(number, (port, probes))| {
        let more =
            [("port", port.as_str()), ("probe-port", &probes), ("startup-timeout", PATIENCE)];
        whole.pod(&format!("pod-{number}"), &more, "exec sleep 600").await
    });
    join_all(pods).await
}

#[tokio::test]
async fn two_hundred_pods_that_start_at_once_cost_vault_one_login_and_one_fetch_each() {
    let whole = Whole::with(HOURS, "", ALL).await;
    let begun = Instant::now();
    let mut pods = made(&whole).await;
    assert_eq!(pods.len(), PODS);
    let admitted = begun.elapsed();
    let asked = whole.vault.asked();
    assert_eq!(asked, BTreeMap::new(), "nobody asked yet");

    let begun = Instant::now();
    join_all(pods.iter_mut().map(Pod::start)).await;
    let started = begun.elapsed();
    let expected = [("auth/kubernetes/login", PODS), ("database/creds/app", PODS)];
    let expected: BTreeMap<_, _> = expected.map(|(path, times)| (path.to_owned(), times)).into();
    assert_eq!(whole.vault.asked(), expected);
    assert_eq!(whole.postgres.leased_users().await.len(), PODS);

    let begun = Instant::now();
    for wave in pods.chunks_mut(WAVE) {
        join_all(wave.iter_mut().map(Pod::end)).await;
    }
    let ended = begun.elapsed();
    whole.nobody_is_left().await;
    println!(
        "{PODS} pods: admitted in {admitted:.1?}, started in {started:.1?}, ended in {ended:.1?}"
    );
}
