//! Runs command lines as people type them.

use clap::Parser;
use secret_broker::cli::{Args, Command, Console, run};

use crate::serving::Fixture;

/// What a command printed and how it ended.
pub(crate) struct Ended {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command line as a process would, on a terminal or not.
pub(crate) async fn typed(words: &[&str], terminal: bool) -> Ended {
    let words = ["secret-broker"].iter().chain(words);
    let Command::Client(command) = Args::parse_from(words).command else {
        panic!("not a client's command")
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console::new(&mut out, &mut err, terminal, false);
    let code = run(command, &mut console, |path| match path.to_str() {
        Some("good.toml") => Ok("2 secrets".to_owned()),
        _ => Err("server.listen: not an address\ntls: missing".to_owned()),
    })
    .await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code, out: text(out), err: text(err) }
}

/// Runs a command against the fixture's broker.
pub(crate) async fn against(fixture: &Fixture, words: &[&str]) -> Ended {
    let address = fixture.address();
    let (verb, rest) = words.split_first().unwrap();
    typed(&[&[*verb, "--address", &address], rest].concat(), false).await
}
