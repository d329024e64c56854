//! A configuration in a few lines, for `secret-broker check` and the start of the log.

use std::{collections::BTreeMap, fmt, path::Path};

use super::{Checked, Config, SecretOrigin};

/// Reads a variable of this process's environment.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Checks the file at `path` with this process's environment: a summary of it, or all its mistakes.
///
/// # Errors
/// The mistakes, one a line; or why the file can't be read.
pub fn check_file(path: &Path) -> Result<String, String> {
    let origin = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{origin}: {error}"))?;
    let checked = Config::parse(&text, &origin, &environment).map_err(|all| all.to_string())?;
    Ok(format!("{origin}: no mistakes\n{checked}"))
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, warnings } = self;
        let mut stores = BTreeMap::<&str, usize>::new();
        for secret in config.secrets.values() {
            *stores.entry(secret.origin.store()).or_default() += 1;
        }
        write!(f, "  secrets: {}", config.secrets.len())?;
        for (store, count) in stores {
            write!(f, ", {count} from {store}")?;
        }
        write!(f, "\n  policy entries: {}", config.policy.0.len())?;
        if let Some(address) = config.server.listen {
            write!(f, "\n  mTLS on {address}")?;
        }
        if let Some(socket) = &config.server.socket {
            write!(f, "\n  Unix socket {} with mode {:04o}", socket.path.display(), socket.mode)?;
        }
        for warning in warnings {
            write!(f, "\n  warning: {warning}")?;
        }
        Ok(())
    }
}

impl SecretOrigin {
    /// The kind of store, as it is named in the configuration and in metrics.
    pub const fn store(&self) -> &'static str {
        match self {
            Self::Vault(_) => "vault",
            Self::Dotenv { .. } => "dotenv",
            Self::Directory { .. } => "directory",
            Self::Sealed { .. } => "sealed",
            Self::Memory { .. } => "memory",
        }
    }
}
