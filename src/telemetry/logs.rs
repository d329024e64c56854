//! Log lines: text or JSON on standard error, with a filter that can be changed while running.
//!
//! The crates that speak to Vault and to peers print tokens, headers and bodies at their lower
//! levels. They are held down here, whatever the filter says.

use std::io::{self, IsTerminal};

use tracing::{Level, Metadata, Subscriber, subscriber::SetGlobalDefaultError};
use tracing_subscriber::{
    Layer, Registry,
    filter::{Targets, filter_fn},
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    reload,
};

use crate::config::{LogFormat, Telemetry};

/// Their events carry tokens and bodies at every level.
const NEVER: [&str; 2] = ["vaultrs", "rustify"];
/// Their lower levels carry headers, frames or key material.
const WARNINGS_ONLY: [&str; 10] = [
    "hyper",
    "hyper_util",
    "h2",
    "reqwest",
    "rustls",
    "tokio_rustls",
    "tonic",
    "tower",
    "age",
    "mio",
];

/// The running log, by which its filter is changed.
#[derive(Clone, Debug)]
pub struct Logs(reload::Handle<Targets, Registry>);

/// A filter that is not made of `tracing` directives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the filter is not made of `tracing` directives such as `info,secret_broker=debug`")]
pub struct InvalidFilter;

impl Logs {
    /// Sets up the log of this process; `None` when another one is in place already.
    ///
    /// # Errors
    /// When the filter can't be read.
    pub fn install(settings: &Telemetry) -> Result<Option<Self>, InvalidFilter> {
        let is_terminal = io::stderr().is_terminal();
        let (subscriber, logs) = subscriber(settings, is_terminal, io::stderr)?;
        let set: Result<(), SetGlobalDefaultError> =
            tracing::subscriber::set_global_default(subscriber);
        Ok(set.is_ok().then_some(logs))
    }

    /// Changes the filter from now on.
    ///
    /// # Errors
    /// When the filter can't be read; the one before stays.
    pub fn filter(&self, directives: &str) -> Result<(), InvalidFilter> {
        let filter = parse(directives)?;
        self.0.reload(filter).map_err(|_| InvalidFilter)
    }
}

fn parse(directives: &str) -> Result<Targets, InvalidFilter> {
    directives.parse().map_err(|_| InvalidFilter)
}

/// A subscriber that writes to `writer`, in colour if that is a terminal.
pub(super) fn subscriber<W>(
    settings: &Telemetry,
    is_terminal: bool,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync + 'static, Logs), InvalidFilter>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(parse(&settings.log_filter)?);
    let lines = fmt::layer().with_writer(writer);
    let lines = match settings.log_format {
        LogFormat::Text => lines.with_ansi(is_terminal).boxed(),
        LogFormat::Json => lines.with_ansi(false).json().flatten_event(true).boxed(),
    };
    let subscriber =
        tracing_subscriber::registry().with(filter).with(lines.with_filter(filter_fn(is_safe)));
    Ok((subscriber, Logs(handle)))
}

/// Whether events and spans of this kind may be printed at all.
fn is_safe(metadata: &Metadata<'_>) -> bool {
    let krate = metadata.target().split("::").next().unwrap_or_default();
    !NEVER.contains(&krate) && (!WARNINGS_ONLY.contains(&krate) || *metadata.level() <= Level::WARN)
}
