//! What follows a rotation at a command that `exec` runs.

use std::str::FromStr;

use rustix::process::Signal;

use super::signals;

/// What `exec` does when a secret that it delivered rotates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRotation {
    /// End the command and start it again.
    Restart,
    /// Send it a signal.
    Signal(Signal),
    /// Leave it alone.
    Ignore,
}

impl FromStr for OnRotation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "restart" => Ok(Self::Restart),
            None if text == "ignore" => Ok(Self::Ignore),
            Some(("signal", name)) => signals::named(name).map(Self::Signal),
            _ => Err("give restart, signal:NAME or ignore".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_rotation_is_read() {
        assert_eq!("restart".parse(), Ok(OnRotation::Restart));
        assert_eq!("signal:SIGHUP".parse(), Ok(OnRotation::Signal(Signal::HUP)));
        assert_eq!("signal:usr1".parse(), Ok(OnRotation::Signal(Signal::USR1)));
        for bad in ["", "reload", "signal:", "signal:SIGNONE", "restart:SIGHUP"] {
            assert!(bad.parse::<OnRotation>().is_err(), "{bad}");
        }
    }
}
