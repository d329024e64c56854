//! What the kernel knows of a process: its CPU time and its memory.

use std::{fs, process::Command, time::Duration};

use rustix::thread::{CpuSet, sched_setaffinity};

/// The core of the load generator; the servers run on all others.
const LOAD_CORE: usize = 0;

/// Puts this thread on the generator's core.
pub fn own_core() {
    let mut cores = CpuSet::new();
    cores.set(LOAD_CORE);
    sched_setaffinity(None, &cores).unwrap();
}

/// A command that runs on the servers' cores.
pub fn on_server_cores(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let cores = std::thread::available_parallelism();
    // The affinity of this thread is one core by now: the machine's count is asked of the system.
    let all = fs::read_to_string("/proc/cpuinfo").unwrap().matches("processor\t").count();
    let last = all.max(cores.map_or(1, usize::from)) - 1;
    assert!(last > LOAD_CORE, "the comparison needs two cores");
    let mut command = Command::new("taskset");
    command.arg("-c").arg(format!("{}-{last}", LOAD_CORE + 1)).arg(program);
    command
}

/// CPU time that the process's threads have used.
pub fn cpu(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let nanos = |task: fs::DirEntry| -> u64 {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(tasks.flatten().map(nanos).sum())
}

/// Resident memory in MB (10⁶ bytes).
pub fn resident(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().unwrap();
    kib * 1024.0 / 1e6
}
