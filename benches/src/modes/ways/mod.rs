//! The ways to export: each takes the workload to the peer and measures itself.

mod actor;
mod asynchronous;
mod pipeline;
mod raw;
mod streaming;
mod synchronous;

use super::measure::Measured;
use super::process;
use super::settings::Settings;
use crate::timing::now;
use otlp_embed::{Config, Exporter, Protocol, rt};
use std::error::Error;
use std::time::{Duration, Instant};

/// What a way gives.
pub type Result<T = Measured> = std::result::Result<T, Box<dyn Error>>;

/// A way to export.
#[derive(Clone, Copy)]
pub struct Way {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, for the table.
    pub about: &'static str,
    /// Whether it writes to the peer's raw socket.
    pub is_raw: bool,
    /// Exports the workload to this URL, or to this address.
    pub run: fn(&str, &Settings) -> Result,
}

/// All ways, in the order of the table.
pub const WAYS: &[Way] = &[
    Way {
        name: "raw-one",
        about: "raw socket, one request after another",
        is_raw: true,
        run: raw::one_after_another,
    },
    Way {
        name: "raw-many",
        about: "raw socket, requests under way at a time",
        is_raw: true,
        run: raw::many_at_a_time,
    },
    Way {
        name: "sync",
        about: "synchronous: `export(..).wait()` on a plain thread",
        is_raw: false,
        run: synchronous::run,
    },
    Way {
        name: "async",
        about: "asynchronous: concurrent `export(..)` futures",
        is_raw: false,
        run: asynchronous::run,
    },
    Way {
        name: "streaming",
        about: "streaming: `StreamingOtlpExporter` over a stream of requests",
        is_raw: false,
        run: streaming::run,
    },
    Way {
        name: "actor",
        about: "actor: `ExporterHandle::export(..)`, each answer awaited",
        is_raw: false,
        run: actor::run,
    },
    Way {
        name: "pipeline",
        about: "pipeline: spans one by one, `Block`, on a thread of its own",
        is_raw: false,
        run: pipeline::run,
    },
];

/// An exporter over gRPC to this URL.
fn exporter<R: rt::Runtime>(endpoint: &str, runtime: R) -> Result<Exporter<R>> {
    Ok(Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(endpoint)
        .build(runtime)?)
}

/// Collects a measurement.
struct Meter {
    begin: Instant,
    cpu: Duration,
    measured: Measured,
}

impl Meter {
    /// Begins to measure, after so many spans that were sent to warm up.
    fn start(settings: &Settings, warm_up: u64) -> Self {
        let measured = Measured {
            latencies: Vec::with_capacity(settings.requests() as usize),
            warm_up,
            ..Measured::default()
        };
        Self {
            measured,
            cpu: process::cpu(),
            begin: now(),
        }
    }

    /// An export has its verdict.
    fn record(&mut self, begun: Instant) {
        self.measured.latencies.push(now() - begun);
    }

    /// A request was made.
    fn count(&mut self, spans: u64, bytes: usize) {
        self.measured.spans += spans;
        self.measured.bytes += bytes as u64;
    }

    fn finish(mut self) -> Measured {
        self.measured.elapsed = now() - self.begin;
        self.measured.exports = self.measured.latencies.len() as u64;
        self.measured.cpu = process::cpu() - self.cpu;
        self.measured
    }
}

/// Checks the account of an exporter that has delivered everything it was given.
fn check<R: rt::Runtime>(exporter: &Exporter<R>, measured: &Measured) -> Result<()> {
    let stats = exporter.stats();
    let expected = measured.spans + measured.warm_up;
    if stats.is_conserved() && stats.accepted == expected && stats.delivered == expected {
        return Ok(());
    }
    Err(format!("{expected} spans were exported, and the account says {stats:?}").into())
}
