//! Where a command writes, and whether people read it.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use super::Failure;

/// Complains unless another program does.
const PROGRAM: &str = "secret-broker";

/// Standard output and error of a command.
pub struct Console<'a> {
    out: &'a mut (dyn Write + Send),
    err: &'a mut (dyn Write + Send),
    terminal: bool,
    color: bool,
    program: &'static str,
}

impl<'a> Console<'a> {
    /// Writes to these; `terminal` says whether people read `out`, `color` whether they want it in colour.
    pub fn new(
        out: &'a mut (dyn Write + Send),
        err: &'a mut (dyn Write + Send),
        terminal: bool,
        color: bool,
    ) -> Self {
        Self { out, err, terminal, color, program: PROGRAM }
    }

    /// Writes to the process's own streams: in colour on a terminal unless `NO_COLOR` is set.
    pub fn of_process(out: &'a mut io::Stdout, err: &'a mut io::Stderr) -> Self {
        let terminal = out.is_terminal();
        let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { out, err, terminal, color: terminal && wanted, program: PROGRAM }
    }

    /// The same for another program.
    #[cfg(feature = "operator")]
    pub(crate) fn of(self, program: &'static str) -> Self {
        Self { program, ..self }
    }

    /// Whether people read the output.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes it all, at once.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    /// One line on standard error. A closed standard error is nobody's failure.
    pub(crate) fn complain(&mut self, message: &str) {
        let _ = writeln!(self.err, "{}: {message}", self.program);
        let _ = self.err.flush();
    }

    /// Tells why a command failed; its exit code.
    pub(crate) fn end(&mut self, ended: Result<u8, Failure>) -> u8 {
        ended.unwrap_or_else(|failure| {
            if let Some(message) = &failure.message {
                self.complain(message);
            }
            failure.exit
        })
    }

    /// The text in an ANSI style, such as `1` for bold, where colour is wanted.
    pub(crate) fn styled(&self, style: &str, text: &str) -> String {
        if self.color { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
