//! The command that `exec` runs.
//!
//! It is killed when this value is dropped: no path leaves one behind with our secrets.

use std::{
    ffi::OsString,
    io::{self, IsTerminal},
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{process, time::sleep};

use super::{super::signals::Signals, Failure, cancels_restart, delivery::Delivery};

const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// A running command.
pub(super) struct Child {
    process: process::Child,
}

/// How a command came to its end when it was asked to.
pub(super) enum Stopped {
    /// It had ended before it was asked.
    ByItself(u8),
    /// We were asked to end as well.
    OnRequest(u8),
    /// It ended and may start again.
    ForRestart,
}

impl Child {
    pub(super) fn start(command: &[OsString], delivery: &Delivery) -> Result<Self, Failure> {
        let (program, arguments) =
            command.split_first().ok_or_else(|| Failure::new(NOT_FOUND, "no command is given"))?;
        let mut command = process::Command::new(program);
        command.args(arguments).kill_on_drop(true);
        delivery.provide(&mut command);
        match command.spawn() {
            Ok(process) => Ok(Self { process }),
            Err(error) => {
                let exit = match error.kind() {
                    io::ErrorKind::NotFound => NOT_FOUND,
                    _ => NOT_EXECUTABLE,
                };
                Err(Failure::new(exit, format!("{}: {error}", program.display())))
            }
        }
    }

    /// The exit code, when it has one.
    pub(super) async fn wait(&mut self) -> Result<u8, Failure> {
        Ok(code(self.process.wait().await?))
    }

    /// Returns when it has ended.
    pub(super) async fn ended(&mut self) {
        let _ = self.process.wait().await;
    }

    /// Sends it a signal; one that has ended gets none.
    pub(super) fn signal(&self, signal: Signal) {
        let id = self.process.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Passes a signal on that reached us. A terminal sends its own to the whole group already.
    pub(super) fn forward(&self, signal: Signal) {
        let typed = matches!(signal, Signal::INT | Signal::QUIT | Signal::WINCH);
        if !(typed && io::stdin().is_terminal()) {
            self.signal(signal);
        }
    }

    /// Ends it: SIGTERM, and SIGKILL when the time is up.
    pub(super) async fn stop(
        &mut self,
        grace: Duration,
        signals: &mut Signals,
    ) -> Result<Stopped, Failure> {
        if let Some(status) = self.process.try_wait()? {
            return Ok(Stopped::ByItself(code(status)));
        }
        self.signal(Signal::TERM);
        let mut requested = false;
        let patience = sleep(grace);
        tokio::pin!(patience);
        let mut killed = false;
        let code = loop {
            tokio::select! {
                code = self.wait() => break code?,
                signal = signals.next() => {
                    requested |= cancels_restart(signal);
                    self.forward(signal);
                }
                () = &mut patience, if !killed => {
                    killed = true;
                    self.signal(Signal::KILL);
                }
            }
        };
        Ok(if requested { Stopped::OnRequest(code) } else { Stopped::ForRestart })
    }
}

/// As a shell tells it: the code, or 128 + n for the signal n.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
