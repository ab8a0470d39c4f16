//! The account at the end.

use super::args::Format;
use super::load::{Load, Settled};
use super::runtimes::Ended;
use otlp_embed::{DropReason, Stats};
use serde_json::{Map, Value, json};
use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

/// Everything that is told at the end.
pub struct Report {
    signal: &'static str,
    runtime: &'static str,
    endpoint: String,
    elapsed: Duration,
    generated: u64,
    bytes: u64,
    is_interrupted: bool,
    is_given_up: bool,
    planned: Option<u64>,
    settled: Settled,
    stats: Stats,
}

impl Report {
    pub fn new(load: &Load, ended: Ended) -> Self {
        Self {
            signal: load.plan.signal_name(),
            runtime: load.plan.runtime.name(),
            endpoint: ended.endpoint,
            elapsed: ended.elapsed,
            generated: load.generated(),
            bytes: load.bytes(),
            is_interrupted: load.is_interrupted(),
            is_given_up: load.is_given_up(),
            planned: load.planned(),
            settled: load.settled(),
            stats: ended.stats,
        }
    }

    /// Whether every item is accounted for: by the verdicts, and by the exporter that gave them.
    fn is_closed(&self) -> bool {
        self.settled.counts.total() == self.generated
            && self.stats.settled() == self.settled.counts
            && self.stats.accepted == self.generated
    }

    pub fn is_delivered(&self) -> bool {
        self.is_closed() && self.settled.counts.delivered == self.generated && !self.is_given_up
    }

    pub fn print(&self, format: Format) {
        let written = match format {
            Format::Text => writeln!(io::stdout(), "{self}"),
            Format::Json => writeln!(io::stdout(), "{}", self.json()),
        };
        // Nobody may be reading; the exit code says what matters.
        if let Err(error) = written.or_else(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(error),
        }) {
            let _ = writeln!(
                io::stderr(),
                "telemetrygen: the account cannot be written: {error}"
            );
        }
    }

    /// The fields, of which items are spans, data points or records, and times milliseconds:
    ///
    /// `signal`, `runtime`, `endpoint`; `elapsed_ms`; `interrupted` (Ctrl-C), `given_up` (nothing was delivered, and nobody is there);
    /// `planned` items, null for a duration; `generated = delivered + rejected + dropped + unknown`, and `closed`, whether that
    /// holds and the exporter agrees; `dropped_by_reason`; `bytes` of encoded messages; `exports`, `exports_failed`;
    /// `items_per_second` generated; `latency_ms` of exports; `connections`, `retries`, `possible_duplicates`; `last_error`.
    fn json(&self) -> Value {
        let (counts, latency) = (self.settled.counts, self.settled.latency.stats());
        let dropped: Map<_, _> = self
            .dropped()
            .map(|(reason, count)| (reason.as_str().to_owned(), count.into()))
            .collect();
        json!({
            "signal": self.signal,
            "runtime": self.runtime,
            "endpoint": self.endpoint,
            "elapsed_ms": millis(self.elapsed),
            "interrupted": self.is_interrupted,
            "given_up": self.is_given_up,
            "planned": self.planned,
            "closed": self.is_closed(),
            "generated": self.generated,
            "delivered": counts.delivered,
            "rejected": counts.rejected,
            "dropped": counts.dropped,
            "dropped_by_reason": dropped,
            "unknown": counts.unknown,
            "bytes": self.bytes,
            "exports": self.settled.exports,
            "exports_failed": self.settled.failures,
            "items_per_second": self.rate(),
            "latency_ms": {
                "p50": millis(latency.p50),
                "p95": millis(latency.p95),
                "p99": millis(latency.p99),
                "max": millis(latency.max),
            },
            "connections": self.stats.connections,
            "retries": self.stats.retries,
            "possible_duplicates": self.stats.possible_duplicates,
            "last_error": self.settled.last_error,
        })
    }

    fn dropped(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        let counts = DropReason::ALL.map(|reason| (reason, self.stats.dropped_for(reason)));
        counts.into_iter().filter(|(_, count)| *count > 0)
    }

    fn rate(&self) -> f64 {
        (self.generated as f64 / self.elapsed.as_secs_f64().max(1e-9)).round()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (counts, latency) = (self.settled.counts, self.settled.latency.stats());
        let interrupted = match (self.is_interrupted, self.is_given_up) {
            (true, _) => ", interrupted",
            (false, true) => ", given up: nobody there takes it",
            (false, false) => "",
        };
        writeln!(
            f,
            "{}: {} generated in {:.2?} ({}/s, {} bytes) on {} to {}{interrupted}",
            self.signal,
            self.generated,
            self.elapsed,
            self.rate(),
            self.bytes,
            self.runtime,
            self.endpoint
        )?;
        if let Some(planned) = self.planned.filter(|planned| *planned > self.generated) {
            writeln!(f, "planned were {planned}")?;
        }
        writeln!(f, "account: {} generated = {counts}", self.generated)?;
        for (reason, count) in self.dropped() {
            writeln!(f, "  {count} dropped: {}", reason.as_str())?;
        }
        if !self.is_closed() {
            writeln!(
                f,
                "  the account does not close: the exporter has {:?}",
                self.stats
            )?;
        }
        writeln!(
            f,
            "exports: {} ({} failed), latency p50 {:.1?}, p95 {:.1?}, p99 {:.1?}, longest {:.1?}",
            self.settled.exports, self.settled.failures, latency.p50, latency.p95, latency.p99, latency.max
        )?;
        write!(
            f,
            "connections: {}, retries: {}, possible duplicates: {}",
            self.stats.connections, self.stats.retries, self.stats.possible_duplicates
        )?;
        match &self.settled.last_error {
            Some(error) => write!(f, "\nthe last failure: {error}"),
            None => Ok(()),
        }
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
