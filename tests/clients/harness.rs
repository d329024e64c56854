//! Runs tests one after the other, each in a runtime of its own, and tells what became of them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    process::ExitCode,
    time::{Duration, Instant},
};

type Run = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>>>;

/// Tests in the order in which they are added.
pub struct Tests {
    all: Vec<(String, Run)>,
    words: Vec<String>,
    list: bool,
}

impl Tests {
    /// Takes what `cargo test` hands on: words select tests, of the options `--list` alone means something.
    pub fn new(arguments: Vec<String>) -> Self {
        let list = arguments.iter().any(|argument| argument == "--list");
        let words = arguments.into_iter().filter(|word| !word.starts_with('-')).collect();
        Self { all: Vec::new(), words, list }
    }

    pub fn add<F: Future<Output = ()> + 'static>(
        &mut self,
        name: impl Into<String>,
        test: impl FnOnce() -> F + 'static,
    ) {
        self.all.push((name.into(), Box::new(|| Box::pin(test()))));
    }

    pub fn run(self) -> ExitCode {
        let mut failed = Vec::new();
        let mut passed = 0;
        for (name, test) in self.all {
            if !self.words.is_empty() && !self.words.iter().any(|word| name.contains(word)) {
                continue;
            }
            if self.list {
                println!("{name}: test");
                continue;
            }
            let start = Instant::now();
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test())));
            runtime.shutdown_timeout(Duration::from_secs(5));
            let seconds = start.elapsed().as_secs_f64();
            if ended.is_ok() {
                println!("test {name} ... ok ({seconds:.1} s)");
                passed += 1;
            } else {
                println!("test {name} ... FAILED ({seconds:.1} s)");
                failed.push(name);
            }
        }
        if !self.list {
            println!("\nclients: {passed} passed, {} failed", failed.len());
            for name in &failed {
                println!("FAILED: {name}");
            }
        }
        if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
