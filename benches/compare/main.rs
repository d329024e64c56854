//! Measures the broker beside a bare tonic echo, Vault Agent and Vault Proxy, in one run.
//!
//! All serve the same leased `PostgreSQL` credential over mutual TLS 1.3 to one load generator. The
//! generator has a core of its own, the servers have the other ones. CPU is what the kernel
//! accounts to the server's process; each ratio is the median over rounds in which all contenders
//! were measured one after another, so that a noisy machine disturbs all of them.
//!
//! The program runs itself again as the echo server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unchecked_time_subtraction,
    clippy::use_debug,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    unreachable_pub,
    reason = "a benchmark ends at whatever goes wrong, and has its own time"
)]

mod certificates;
mod contenders;
mod echo;
mod load;
mod memory;
mod plot;
mod process;
mod reads;
mod report;
mod startup;
#[path = "../../tests/support/mod.rs"]
mod support;
mod watches;

use std::env;

use contenders::Rig;
use report::Report;

fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments = env::args().collect::<Vec<_>>();
    if let [_, role, flavor, directory] = arguments.as_slice()
        && role == echo::ROLE
    {
        return echo::serve(flavor, directory.as_ref());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let only = arguments.iter().skip(1).map(String::as_str).filter(|a| *a != "--bench");
    runtime.block_on(compare(&only.collect::<Vec<_>>()));
}

/// Measures what the arguments name, and all without any; only all of it goes into the README.
async fn compare(only: &[&str]) {
    process::own_core();
    let rig = Rig::start().await;
    let mut report = Report::new();
    let wanted = |part| only.is_empty() || only.contains(&part);
    if wanted("binary") {
        report.binary();
    }
    if wanted("reads") {
        reads::measure(&rig, &mut report).await;
    }
    if wanted("startup") {
        startup::measure(&rig, &mut report).await;
    }
    if wanted("memory") {
        memory::measure(&rig, &mut report).await;
    }
    if wanted("watches") {
        watches::measure(&rig, &mut report).await;
    }
    report.write(only.is_empty());
}
