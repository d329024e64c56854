//! `exec` passes signals on: in a process of its own, as a signal reaches all of one.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "support of tests")]

use std::time::Duration;

#[path = "client/broker.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod broker;
#[path = "client/typed.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod typed;

use rustix::process::{Signal, getpid, kill_process};

#[tokio::test]
async fn a_signal_reaches_the_command_and_its_code_is_ours() {
    let fixture = broker::Fixture::new().await;
    fixture.broker.put("A", 1, &[("value", "x")]);
    let log = fixture.path("log");
    let script =
        format!("trap 'exit 9' USR2; echo up > {}; while :; do sleep 0.02; done", log.display());
    let words = ["exec", "--env", "A=A", "--", "sh", "-c", &script];
    let (ended, ()) = tokio::join!(typed::against(&fixture, &words), async {
        while !log.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        kill_process(getpid(), Signal::USR2).unwrap();
    });
    assert_eq!(ended.code, 9, "{}", ended.err);
}
