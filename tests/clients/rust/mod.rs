//! The Rust client on the rig.

mod cost;
mod handles;
mod package;
mod pools;
mod tokens;

use std::time::Duration;

use secret_broker_client::{Builder, Client};

use crate::{control::Controlled, harness::Tests};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

pub fn add(tests: &mut Tests) {
    handles::add(tests);
    pools::add(tests);
    tokens::add(tests);
    cost::add(tests);
    package::add(tests);
}

fn builder(rig: &Controlled) -> Builder {
    let builder = Client::builder().address(rig.variable("SECRET_BROKER_ADDRESS"));
    builder.cert_dir(rig.variable("SECRET_BROKER_CERT_DIR"))
}

fn client(rig: &Controlled) -> Client {
    builder(rig).build().expect("a client")
}

/// Waits for a future, not for ever.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(PATIENCE, future).await;
    ended.unwrap_or_else(|_| panic!("not within a minute: {what}"))
}
