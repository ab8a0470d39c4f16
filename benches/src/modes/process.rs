//! What the system knows of this process.

use std::time::Duration;

/// The largest resident memory that this process ever had, in KiB (`VmHWM`).
pub fn peak_kib() -> u64 {
    status_kib("VmHWM:")
}

/// The resident memory of this process now, in KiB (`VmRSS`).
pub fn resident_kib() -> u64 {
    status_kib("VmRSS:")
}

fn status_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

/// Time of the processor that this process took so far, user and system, in hundredths of a second at best.
pub fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in brackets, may have spaces.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    // Linux tells these in hundredths on every architecture.
    Duration::from_millis(ticks * 10)
}

/// How often this thread gave its processor away by itself, to wait for something.
pub fn waits() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let mut lines = status.lines();
    let waits = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    waits.and_then(|waits| waits.trim().parse().ok()).unwrap_or(0)
}
