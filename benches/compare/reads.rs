//! CPU and latency of a cached read.

use std::time::Duration;

use crate::{
    contenders::Rig,
    echo,
    load::{Pattern, Sample, load},
    plot,
    report::{Report, median, micros},
};

const SECRET: &str = "[secrets.DB]\ncategory = \"database\"\nstore = \"vault\"\nengine = \"database\"\nrole = \"app\"\n";
const PATTERNS: [(Pattern, &str, &str); 2] = [
    (Pattern { connections: 16, in_flight: 1 }, "16 connections", "latency-16x1"),
    (Pattern { connections: 1, in_flight: 16 }, "16 in flight on one connection", "latency-1x16"),
];
/// The position of the echo on one thread, and of Vault Agent, among the contenders.
const ECHO: usize = 1;
const AGENT: usize = 3;

/// Rounds, and the seconds of each measurement.
fn effort() -> (usize, Duration) {
    let number = |name: &str, default| {
        std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
    };
    (number("ROUNDS", 7), Duration::from_secs(number("SECONDS", 2) as u64))
}

pub async fn measure(rig: &Rig, report: &mut Report) {
    let broker = rig.broker(SECRET).ready().await;
    // The echo answers with the very message that the broker sent.
    let frame = broker.target.once().await.unwrap();
    std::fs::write(rig.path("reply.bin"), &frame[5..]).unwrap();
    let contenders = [
        broker,
        rig.echo(echo::CURRENT_THREAD).ready().await,
        rig.echo(echo::MULTI_THREAD).ready().await,
        rig.vaults("agent").ready().await,
        rig.vaults("proxy").ready().await,
    ];
    let (rounds, time) = effort();
    for (pattern, title, file) in PATTERNS {
        let mut samples: Vec<Vec<Sample>> = contenders.iter().map(|_| Vec::new()).collect();
        for round in 0..rounds {
            for (contender, samples) in contenders.iter().zip(&mut samples) {
                let sample = load(&contender.target, contender.pid(), pattern, time).await;
                println!(
                    "{title}, round {round}: {} {:?} CPU a read, {} reads in {:?}",
                    contender.name,
                    sample.cpu_per_read(),
                    sample.reads,
                    sample.wall
                );
                samples.push(sample);
            }
        }
        rows(title, &samples, report);
        plot::latency(file, title, &contenders.each_ref().map(|c| c.name), &samples);
    }
}

fn rows(title: &str, samples: &[Vec<Sample>], report: &mut Report) {
    let each = |of: &dyn Fn(&Sample) -> Duration| -> Vec<String> {
        samples.iter().map(|s| micros(median(s.iter().map(|s| of(s).as_secs_f64())))).collect()
    };
    report.row(&format!("CPU per read, {title}"), each(&Sample::cpu_per_read));
    for (name, base) in [("echo", ECHO), ("Vault Agent", AGENT)] {
        let ratios = samples.iter().map(|mine| {
            let pairs = mine.iter().zip(&samples[base]);
            let ratio = |(a, b): (&Sample, &Sample)| {
                a.cpu_per_read().as_secs_f64() / b.cpu_per_read().as_secs_f64()
            };
            format!("{:.2}", median(pairs.map(ratio)))
        });
        report.row(&format!("— as a multiple of the {name}'s"), ratios.collect());
    }
    report.row(&format!("p50, {title}"), each(&|s| s.quantile(0.5)));
    report.row(&format!("p99, {title}"), each(&|s| s.quantile(0.99)));
}
