//! The process itself, under the names that all Prometheus clients use; read from `/proc/self`.

use std::fs;

use prometheus::proto::MetricFamily;

use super::exposition::{counter, counters, gauge, gauges};

/// Clock ticks a second in `/proc` (`USER_HZ`): 100 on every Linux this runs on, whatever the
/// kernel's own rate.
const TICKS: f64 = 100.0;

/// The `process_*` families. What cannot be read (another system, a hidden `/proc`) is absent.
pub(super) fn families() -> Vec<MetricFamily> {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field, the command in brackets, may hold blanks: count from its end.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_ascii_whitespace().collect())
        .unwrap_or_default();
    // proc_pid_stat(5) counts from 1 and from the process id.
    let field = |number: usize| -> Option<f64> { fields.get(number - 3)?.parse().ok() };

    let cpu = field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS);
    let start = boot_time().zip(field(22)).map(|(boot, ticks)| boot + ticks / TICKS);
    let resident = status_kib("VmRSS:").map(|kib| kib * 1024.0);
    let one = |name: &str, help: &str, value: Option<f64>| {
        gauges(name.into(), help, value.map(|value| gauge(Vec::new(), value)))
    };
    vec![
        counters(
            "process_cpu_seconds_total".into(),
            "User and system CPU time",
            cpu.map(|seconds| counter(Vec::new(), seconds)),
        ),
        one("process_resident_memory_bytes", "Resident memory", resident),
        one("process_virtual_memory_bytes", "Virtual memory", field(23)),
        one("process_threads", "Threads", field(20)),
        one("process_start_time_seconds", "Start, in seconds since 1970", start),
        one("process_open_fds", "Open file descriptors", open_fds()),
        one("process_max_fds", "Most file descriptors that may be open", max_fds()),
    ]
}

fn status_kib(name: &str) -> Option<f64> {
    value_after("/proc/self/status", name)
}

fn boot_time() -> Option<f64> {
    value_after("/proc/stat", "btime ")
}

fn max_fds() -> Option<f64> {
    value_after("/proc/self/limits", "Max open files")
}

fn open_fds() -> Option<f64> {
    // One of them is the open folder.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

/// The first number after `name` at the beginning of a line.
fn value_after(file: &str, name: &str) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}
