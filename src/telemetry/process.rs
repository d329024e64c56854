//! The process as the kernel sees it, read at each scrape.

use std::fs;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use rustix::time::{ClockId, clock_gettime};

#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: Option<i64>| {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge_type())?)
        };
        let bytes = Some(&Unit::Bytes);
        gauge("process_resident_memory", "Memory in RAM", bytes, status_bytes("VmRSS:"))?;
        gauge("process_virtual_memory", "Address space", bytes, status_bytes("VmSize:"))?;
        gauge("process_open_fds", "Open file descriptors", None, open_fds())?;
        let cpu = ConstCounter::new(cpu_secs());
        let seconds = Some(&Unit::Seconds);
        let help = "CPU time of all threads";
        cpu.encode(encoder.encode_descriptor("process_cpu", help, seconds, counter_type())?)
    }
}

const fn gauge_type() -> prometheus_client::metrics::MetricType {
    prometheus_client::metrics::MetricType::Gauge
}

const fn counter_type() -> prometheus_client::metrics::MetricType {
    prometheus_client::metrics::MetricType::Counter
}

fn status_bytes(name: &str) -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
}

fn open_fds() -> Option<i64> {
    // The directory that is being read is one of them.
    i64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?.checked_sub(1)
}

#[expect(clippy::cast_precision_loss, reason = "a CPU time has no 52 bits of seconds")]
fn cpu_secs() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
