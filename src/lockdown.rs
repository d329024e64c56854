//! Locks the process down at its start, so that what it holds does not leave it by the side door.
//!
//! Each measure is tried by itself; what a system refuses is told and never hidden.

use rustix::{
    mm::{MlockAllFlags, mlockall},
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
    thread::{CapabilitySet, capabilities, set_no_new_privs},
};

/// What the lock-down achieved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lockdown {
    /// The kernel writes no core image of the process.
    pub no_core_dumps: Outcome,
    /// Processes of the same user can't trace it or read its memory; root can.
    pub not_traceable: Outcome,
    /// Neither it nor its children gain privileges, as through setuid programs.
    pub no_new_privileges: Outcome,
    /// Its memory is not written to swap.
    pub memory_locked: Outcome,
}

/// How one measure ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Held,
    /// It does not, and this is why.
    Refused(String),
}

impl Outcome {
    /// Whether the measure holds.
    pub const fn held(&self) -> bool {
        matches!(self, Self::Held)
    }

    fn of<T>(tried: rustix::io::Result<T>) -> Self {
        tried.map_or_else(|errno| Self::Refused(errno.to_string()), |_| Self::Held)
    }
}

impl Lockdown {
    /// The measures by name, for logs.
    pub fn measures(&self) -> [(&'static str, &Outcome); 4] {
        [
            ("no_core_dumps", &self.no_core_dumps),
            ("not_traceable", &self.not_traceable),
            ("no_new_privileges", &self.no_new_privileges),
            ("memory_locked", &self.memory_locked),
        ]
    }
}

/// Takes all measures. To be called once, before a secret is read or a thread is started.
pub fn lock_down() -> Lockdown {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    Lockdown {
        no_core_dumps: Outcome::of(setrlimit(Resource::Core, none)),
        not_traceable: Outcome::of(set_dumpable_behavior(DumpableBehavior::NotDumpable)),
        no_new_privileges: Outcome::of(set_no_new_privs(true)),
        memory_locked: lock_memory(),
    }
}

/// Lets the process open as many files as the system allows it: each connection is one. Systems
/// start programs with a small limit, for the sake of those that can't bear a large one.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // What is refused leaves the limit as it was; connections beyond it are refused then.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Locks pages as they come into use, so that what is only reserved takes no memory. Under a limit
/// nothing is locked: the allocation that reached the limit would end the process.
fn lock_memory() -> Outcome {
    let limit = getrlimit(Resource::Memlock).current;
    let exempt =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    match limit {
        Some(bytes) if !exempt => Outcome::Refused(format!(
            "RLIMIT_MEMLOCK is {bytes} bytes: raise it to unlimited, or add the capability IPC_LOCK"
        )),
        _ => Outcome::of(mlockall(
            MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT,
        )),
    }
}
