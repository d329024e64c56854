//! What a panic leaves in the log: where it was, never what it said.
//!
//! A panic's message may hold a value that was being worked on; its place in the code can't.

use std::{
    io::{self, Write},
    panic::{self, PanicHookInfo},
    sync::Arc,
};

use super::Metrics;

/// Has all panics of this process logged and counted from now on.
pub fn install_hook(metrics: Arc<Metrics>) {
    panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        metrics.panics.inc();
        let location = info.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        if tracing::dispatcher::has_been_set() {
            tracing::error!(location, "a task panicked; its message is withheld");
        } else {
            // Nothing else can be done if standard error is closed.
            let _ = writeln!(io::stderr(), "panicked at {location}; its message is withheld");
        }
    }));
}
