//! The clients of every language on real servers: each client's own tests, and the conformance of all.
//!
//! - `cargo test --test clients` runs every test, one after the other: each uses the whole machine.
//! - `cargo test --test clients -- WORD…` runs those whose name contains a word.
//! - `cargo test --test clients -- rig` starts the rig alone, for work by hand.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking, and has its own time"
)]

#[path = "../support/mod.rs"]
mod support;

mod by_hand;
mod certificates;
mod conformance;
mod control;
mod harness;
mod languages;
#[path = "../edge/pki.rs"]
mod pki;
mod rig;
mod rig_itself;
mod rust;
mod token;

fn main() -> std::process::ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    if arguments.iter().any(|argument| argument == "rig") {
        return by_hand::run();
    }
    let mut tests = harness::Tests::new(arguments);
    rig_itself::add(&mut tests);
    rust::add(&mut tests);
    conformance::add(&mut tests);
    languages::add(&mut tests);
    tests.run()
}
