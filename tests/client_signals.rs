//! `exec` passes signals on: in a process of its own, as a signal reaches all of one.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "support of tests")]

#[path = "client/broker.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod broker;
#[path = "client/serving.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod serving;
#[path = "client/typed.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod typed;

use std::{path::Path, time::Duration};

use rustix::process::{Signal, getpid, kill_process};

/// Sends this process a signal once the command is up.
async fn signal_when_up(log: &Path, signal: Signal) {
    while !log.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    kill_process(getpid(), signal).unwrap();
}

#[tokio::test]
async fn signals_reach_the_command_and_its_end_is_ours() {
    let fixture = serving::Fixture::new().await;
    fixture.broker.put("A", 1, &[("value", "x")]);
    let (log, files) = (fixture.path("log"), fixture.path("files"));
    std::fs::create_dir(&files).unwrap();
    for (trap, signal, code) in
        [("trap 'exit 9' USR2;", Signal::USR2, 9), ("", Signal::TERM, 128 + 15)]
    {
        let script = format!("{trap} echo up > {}; while :; do sleep 0.02; done", log.display());
        let files = files.to_str().unwrap();
        let words = ["exec", "--file", "a=A", "--files-in", files, "--", "sh", "-c", &script];
        let (ended, ()) =
            tokio::join!(typed::against(&fixture, &words), signal_when_up(&log, signal));
        assert_eq!(ended.code, code, "{}", ended.err);
        assert_eq!(std::fs::read_dir(files).unwrap().count(), 0, "the files are removed");
        std::fs::remove_file(&log).unwrap();
    }
}
