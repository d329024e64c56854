//! What a live handle costs: reads per second, and the time from a change to the hook.

use std::{
    hint::black_box,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use secret_broker_client::Secret;
use tokio::sync::mpsc;

use super::{client, soon};
use crate::{control::Controlled, harness::Tests};

const TIME: Duration = Duration::from_millis(500);
const CHANGES: usize = 20;

pub fn add(tests: &mut Tests) {
    tests.add("rust_a_read_of_a_handle_costs_no_call_and_a_change_comes_quickly", cost);
}

async fn cost() {
    let rig = Controlled::start().await;
    let client = client(&rig);
    let live = client.live("DB").await.expect("a handle");
    for threads in [1, 2, 4] {
        let reads = std::thread::scope(|scope| {
            let reader = || {
                let (start, mut reads) = (Instant::now(), 0_u64);
                while start.elapsed() < TIME {
                    for _ in 0..1000 {
                        black_box(live.with(Secret::generation));
                    }
                    reads += 1000;
                }
                reads
            };
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(reader)).collect();
            all.into_iter().map(|thread| thread.join().expect("reads")).sum::<u64>()
        });
        let rate = u128::from(reads) * 1000 / TIME.as_millis();
        println!("{rate} reads of a handle a second in {threads} threads");
        assert!(rate > 500_000, "{rate} reads a second");
    }
    let (sender, mut changes) = mpsc::unbounded_channel();
    live.on_change(move |secret| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let _ = sender.send((now, secret.generation()));
        async { Ok(()) }
    });
    let mut times = Vec::new();
    for _ in 0..CHANGES {
        rig.rotate("DB").await;
        let (now, generation) = soon("the hook", changes.recv()).await.expect("a change");
        // A generation is the broker's wall clock at the change, in milliseconds.
        times.push(now.saturating_sub(Duration::from_millis(generation)));
    }
    times.sort();
    println!(
        "from a change to the hook: {} ms in the middle, {} ms at most",
        times[CHANGES / 2].as_millis(),
        times[CHANGES - 1].as_millis()
    );
    assert!(times[CHANGES / 2] < Duration::from_millis(500), "{times:?}");
}
