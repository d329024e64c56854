//! What can only be shown on a process of its own: that it is killed in the middle of a save, that
//! its disk is full, that it is locked down, and what is left in its memory.
//!
//! The program runs itself again in the roles of [`child`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::use_debug,
    reason = "a test"
)]

mod child;
#[path = "../support/heap.rs"]
mod heap;

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    thread::sleep,
    time::Instant,
};

use child::{PLANTED, load, save};
use tempfile::TempDir;

#[global_allocator]
static WIPED_ON_FREE: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() {
    let arguments = env::args().skip(1).collect::<Vec<_>>();
    if let Some(("child", rest)) = arguments.split_first().map(|(a, rest)| (a.as_str(), rest)) {
        return child::run(rest);
    }
    let tests: [(&str, fn()); 5] = [
        ("a_save_that_is_killed_leaves_the_old_or_the_new_state", killed_saves),
        ("a_full_disk_leaves_the_old_state", full_disk),
        ("a_locked_down_process_shows_that_it_is", locked_down),
        ("locking_memory_does_not_make_the_process_larger", locked_size),
        ("a_dropped_secret_is_nowhere_in_memory", wiped),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
}

/// A child in one of its roles, with its answers.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the child starts");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn role(role: &str, place: &Path) -> Self {
        Self::start(Command::new(env::current_exe().unwrap()).args(["child", role]).arg(place))
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("the child lives").unwrap()
    }

    fn go_on(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn place() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("state")).unwrap();
    fs::write(dir.path().join("key"), secret_broker::sealing::generate_key().expose()).unwrap();
    dir
}

fn files(place: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.path().join("state")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[expect(clippy::disallowed_methods, reason = "a test's own time")]
fn killed_saves() {
    const KILLS: u32 = 60;
    let place = place();
    let begun = Instant::now();
    save(place.path(), 1).unwrap();
    let one_save = begun.elapsed() * 2;
    let (mut saved, mut old, mut new) = (1, 0, 0);
    for kill in 0..KILLS {
        let mut child = Running::role("save-for-ever", place.path());
        let begun = child.line().parse::<u64>().unwrap();
        assert_eq!(begun, saved + 1);
        // Each at another point of the save.
        sleep(one_save * kill / KILLS);
        drop(child);
        let now = load(place.path());
        assert!(now >= saved, "the state went back from {saved} to {now}");
        if now == saved {
            old += 1;
        } else {
            new += 1;
        }
        saved = now;
    }
    assert!(old > 0 && new > 0, "{old} kills before and {new} after the new state took its place");
    save(place.path(), saved + 1).unwrap();
    assert_eq!(files(&place).len(), 1, "no draft is left: {:?}", files(&place));
}

/// A limit on the size of files stands for the full disk: both fail a write in its middle.
fn full_disk() {
    let place = place();
    save(place.path(), 1).unwrap();
    let limited = r#"trap "" XFSZ; ulimit -f 64; exec "$0" "$@""#;
    let mut child = Running::start(
        Command::new("sh")
            .args(["-c", limited])
            .arg(env::current_exe().unwrap())
            .args(["child", "save-once"])
            .arg(place.path()),
    );
    let answer = child.line();
    assert!(answer.contains("file too large"), "{answer}");
    assert!(answer.contains("state.age"), "{answer}");
    assert_eq!(files(&place), [place.path().join("state/state.age")]);
    assert_eq!(load(place.path()), 1);
}

fn status(pid: u32, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{key}:")));
    line.unwrap_or_else(|| panic!("no {key}")).trim().trim_end_matches(" kB").to_owned()
}

fn locked_down() {
    let place = place();
    let mut child = Running::role("locked", place.path());
    let report = child.line();
    for measure in ["no_core_dumps", "not_traceable", "no_new_privileges"] {
        assert!(report.contains(&format!("{measure}=Held")), "{report}");
    }
    assert!(report.contains("dumpable=NotDumpable"), "{report}");
    let pid = child.child.id();
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    let locked = status(pid, "VmLck") != "0";
    assert_eq!(report.contains("memory_locked=Held"), locked, "{report}");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let sizes = core.split_whitespace().skip(4).take(2).collect::<Vec<_>>();
    assert_eq!(sizes, ["0", "0"]);
}

fn locked_size() {
    let place = place();
    let size = |role| {
        let mut child = Running::role(role, place.path());
        child.line();
        status(child.child.id(), "VmRSS").parse::<u64>().unwrap()
    };
    let (locked, open) = (size("locked"), size("open"));
    println!("resident: {locked} kB locked down, {open} kB not");
    assert!(locked < open + 2048, "{locked} kB locked down, {open} kB not");
}

fn wiped() {
    let place = place();
    fs::write(place.path().join(".env"), format!("PASSWORD='{PLANTED}'\n")).unwrap();
    fs::write(place.path().join("PASSWORD"), format!("{PLANTED}\n")).unwrap();
    let mut child = Running::role("hold", place.path());
    let pid = child.child.id();
    assert_eq!(child.line(), "held");
    let found = heap::search(pid, PLANTED.as_bytes()).unwrap();
    assert!(found.len() >= 3, "the search finds what is held: {found:?}");
    child.go_on();
    assert_eq!(child.line(), "dropped");
    let hex = PLANTED.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    for text in [PLANTED, &hex] {
        let found = heap::search(pid, text.as_bytes()).unwrap();
        assert!(found.is_empty(), "left in memory: {found:?}");
    }
}
