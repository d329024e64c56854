//! The signals that a supervising command passes on.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
};

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

const FORWARDED: [Signal; 7] = [
    Signal::TERM,
    Signal::INT,
    Signal::QUIT,
    Signal::HUP,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
];

/// The signals that reach this process, instead of their default effect.
pub(super) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// Takes over all that can be passed on.
    pub(super) fn forwarded() -> io::Result<Self> {
        Self::of(&FORWARDED)
    }

    /// Takes over those that end a command.
    pub(super) fn ending() -> io::Result<Self> {
        Self::of(&[Signal::TERM, Signal::INT])
    }

    fn of(signals: &[Signal]) -> io::Result<Self> {
        let listen =
            |signal: &Signal| Ok((*signal, unix::signal(SignalKind::from_raw(signal.as_raw()))?));
        signals.iter().map(listen).collect::<io::Result<_>>().map(Self)
    }

    /// The next one. Loses none when dropped.
    pub(super) async fn next(&mut self) -> Signal {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        for (signal, stream) in &mut self.0 {
            if let Poll::Ready(Some(())) = stream.poll_recv(cx) {
                return Poll::Ready(*signal);
            }
        }
        Poll::Pending
    }
}

/// Whether a signal asks a process to end.
pub(super) fn ends(signal: Signal) -> bool {
    matches!(signal, Signal::TERM | Signal::INT | Signal::QUIT)
}

/// The signal of this name, with or without `SIG`.
pub(super) fn named(name: &str) -> Result<Signal, String> {
    let upper = name.to_ascii_uppercase();
    match upper.strip_prefix("SIG").unwrap_or(&upper) {
        "HUP" => Ok(Signal::HUP),
        "INT" => Ok(Signal::INT),
        "QUIT" => Ok(Signal::QUIT),
        "TERM" => Ok(Signal::TERM),
        "USR1" => Ok(Signal::USR1),
        "USR2" => Ok(Signal::USR2),
        "WINCH" => Ok(Signal::WINCH),
        _ => Err(format!(
            "no signal `{name}`: give SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2 or SIGWINCH"
        )),
    }
}
