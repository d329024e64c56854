//! The rig for work by hand: prints where it is and stays until standard input closes or a signal ends it.

use std::process::ExitCode;

use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
};

use crate::control::Controlled;

pub fn run() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate()).expect("a signal handler");
        let mut interrupt = signal(SignalKind::interrupt()).expect("a signal handler");
        let controlled = Controlled::start().await;
        for (name, value) in &controlled.environment {
            println!("export {name}='{value}'");
        }
        println!("# ready");
        tokio::select! {
            () = closed() => {}
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    // A read of standard input can't be called off.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    ExitCode::SUCCESS
}

async fn closed() {
    let mut input = tokio::io::stdin();
    let mut ignored = [0; 256];
    while input.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
}
