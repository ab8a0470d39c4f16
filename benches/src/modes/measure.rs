//! How long exports took, and what they needed.

use super::process;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

/// What a way of exporting comes to.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Spans exported in the time that was measured.
    pub spans: u64,
    /// Bytes of their messages, envelopes of requests included, HTTP/2 not.
    pub bytes: u64,
    /// From the first span written to the last verdict.
    pub elapsed: Duration,
    /// From handing over a request, or writing into a pipeline, to its verdict; one for each export.
    pub latencies: Vec<Duration>,
    /// The quantiles 0.5, 0.95 and 0.99 of these times, where the exporter takes them itself.
    pub quantiles: Option<[Duration; 3]>,
    /// Exports in the time that was measured.
    pub exports: u64,
    /// Spans sent before the measure began.
    pub warm_up: u64,
    /// The largest resident memory that the process ever had, in KiB.
    pub peak_kib: u64,
    /// Time of the processor spent in the measured time, user and system.
    pub cpu: Duration,
}

impl Measured {
    /// Completes it with what the system knows of this process.
    pub fn with_process(mut self) -> Self {
        self.peak_kib = process::peak_kib();
        self
    }
}

/// The value that this share does not pass; the nearest rank.
pub fn quantile(latencies: &[Duration], share: f64) -> Duration {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    let at = rank.saturating_sub(1);
    sorted.get(at).or(sorted.last()).copied().unwrap_or_default()
}

/// Numbers by name, in the form in which processes tell them each other: `name=number` with spaces between.
#[derive(Clone, Debug, Default)]
pub struct Figures(BTreeMap<String, u64>);

impl Figures {
    /// Adds a number.
    pub fn with(mut self, name: &str, number: u64) -> Self {
        self.0.insert(name.to_owned(), number);
        self
    }

    /// Reads a line.
    pub fn parse(line: &str) -> Self {
        let pairs = line.split_whitespace().filter_map(|pair| pair.split_once('='));
        Self(
            pairs
                .filter_map(|(name, number)| Some((name.to_owned(), number.parse().ok()?)))
                .collect(),
        )
    }

    /// The number of this name.
    ///
    /// # Panics
    ///
    /// Where there is none.
    pub fn of(&self, name: &str) -> u64 {
        let number = self.0.get(name);
        *number.unwrap_or_else(|| panic!("no figure `{name}` among {self}"))
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = String::new();
        for (name, number) in &self.0 {
            write!(line, "{name}={number} ")?;
        }
        f.write_str(line.trim_end())
    }
}

impl From<&Measured> for Figures {
    fn from(measured: &Measured) -> Self {
        let [p50, p95, p99] = measured.quantiles.unwrap_or_else(|| {
            let latencies = &measured.latencies;
            [0.5, 0.95, 0.99].map(|share| quantile(latencies, share))
        });
        Self::default()
            .with("spans", measured.spans)
            .with("bytes", measured.bytes)
            .with("elapsed_us", measured.elapsed.as_micros() as u64)
            .with("exports", measured.exports)
            .with("p50_us", p50.as_micros() as u64)
            .with("p95_us", p95.as_micros() as u64)
            .with("p99_us", p99.as_micros() as u64)
            .with("warm_up", measured.warm_up)
            .with("peak_kib", measured.peak_kib)
            .with("cpu_us", measured.cpu.as_micros() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_nearest_rank() {
        let latencies: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        for (share, expected) in [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100)] {
            assert_eq!(quantile(&latencies, share), Duration::from_millis(expected));
        }
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn figures_survive_the_way_between_processes() {
        let told = Figures::default().with("spans", 7).with("bytes", 9).to_string();
        let heard = Figures::parse(&told);
        assert_eq!((heard.of("spans"), heard.of("bytes")), (7, 9));
    }
}
