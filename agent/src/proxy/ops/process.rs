//! What this process costs, under the names that every Prometheus client library uses
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>), read anew for each answer (proc(5)).

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::metrics::number;

/// Ticks per second of the times in `/proc` (`USER_HZ`): the same on every architecture that this program is built for.
const TICKS: f64 = 100.0;

#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let read = |name: &str| fs::read_to_string(format!("/proc/{name}")).unwrap_or_default();
        let (stat, status, limits) = (read("self/stat"), read("self/status"), read("self/limits"));
        if let Some(seconds) = cpu_seconds(&stat) {
            let help = "Total user and system CPU time spent in seconds";
            let metric = ConstCounter::new(seconds);
            let kind = metric.metric_type();
            metric.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, kind)?)?;
        }
        let open = fs::read_dir("/proc/self/fd").ok().map(|entries| number(entries.count()));
        let gauges = [
            ("start_time_seconds", START, start_seconds(&stat, &read("stat"))),
            ("resident_memory_bytes", "Resident memory size in bytes", bytes(&status, "VmRSS:")),
            ("virtual_memory_bytes", "Virtual memory size in bytes", bytes(&status, "VmSize:")),
            ("open_fds", "Number of open file descriptors", open),
            ("max_fds", "Maximum number of open file descriptors", max_files(&limits)),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let metric = ConstGauge::new(value);
            let (name, kind) = (format!("process_{name}"), metric.metric_type());
            metric.encode(encoder.encode_descriptor(&name, help, None, kind)?)?;
        }
        Ok(())
    }
}

const START: &str = "Start time of the process since unix epoch in seconds";

/// Field `number` of `/proc/self/stat`, counted as proc(5) does. The name before may hold spaces and parentheses.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS)
}

fn start_seconds(stat: &str, machine: &str) -> Option<f64> {
    let boot: f64 = value_of(machine, "btime")?.parse().ok()?;
    Some(boot + stat_field(stat, 22)? / TICKS)
}

fn bytes(status: &str, key: &str) -> Option<f64> {
    let kib: f64 = value_of(status, key)?.parse().ok()?;
    Some(kib * 1024.0)
}

fn max_files(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The word after `key` at the start of a line.
fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_proc_tells() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 2130 0 3 0 150 50 0 0 20 0 9 0 12345 1 2";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(start_seconds(stat, "cpu 1 2\nbtime 1000\n"), Some(1123.45));
        assert_eq!(start_seconds(stat, ""), None);
        assert_eq!(cpu_seconds("garbage"), None);
        assert_eq!(bytes("VmSize:\t  20 kB\nVmRSS:\t 8 kB\n", "VmRSS:"), Some(8192.0));
        let limits =
            "Limit    Soft Limit  Hard Limit  Units\nMax open files   1024    4096   files\n";
        assert_eq!(max_files(limits), Some(1024.0));
    }
}
