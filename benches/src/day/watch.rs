//! Holds a pipeline to its law, its memory and its promise to lose nothing, as long as it runs.

use super::producers::EXCESS;
use crate::modes::process::resident_kib;
use crate::timing::now;
use otlp_embed::pipeline::{Pipeline, PipelineStats};
use otlp_embed::{Exporter, rt};
use std::fmt::Display;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the watch looks.
const EVERY: Duration = Duration::from_millis(10);
/// Failures that are told; those after them are of the same kind.
const FAILURES_MAX: usize = 20;

/// Lines with the time of the day. Clones write to the same.
#[derive(Clone)]
pub struct Diary {
    begin: Instant,
}

impl Diary {
    /// Begins the day.
    pub fn begin() -> Self {
        Self { begin: now() }
    }

    /// The time since the day began.
    pub fn time(&self) -> Duration {
        now() - self.begin
    }

    /// Writes a line; where nobody reads, the exit code is the verdict.
    pub fn note(&self, line: impl Display) {
        let tenths = self.time().as_millis() / 100;
        let (minutes, seconds) = (tenths / 600, tenths % 600);
        let _ = writeln!(
            std::io::stdout(),
            "{minutes:02}:{:02}.{} {line}",
            seconds / 10,
            seconds % 10
        );
    }
}

/// What is watched, and what was seen. Clones share it.
#[derive(Clone)]
pub struct Watch(Arc<Watched>);

struct Watched {
    exporter: Exporter<rt::Blocking>,
    pipeline: Pipeline,
    budget: u64,
    looks: AtomicU64,
    bytes_max: AtomicU64,
    resident_max: AtomicU64,
    is_over: AtomicBool,
    failures: Mutex<Vec<String>>,
}

impl Watch {
    /// Watches a pipeline that may hold `budget` bytes.
    pub fn new(exporter: Exporter<rt::Blocking>, pipeline: Pipeline, budget: u64) -> Self {
        Self(Arc::new(Watched {
            exporter,
            pipeline,
            budget,
            looks: AtomicU64::new(0),
            bytes_max: AtomicU64::new(0),
            resident_max: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            failures: Mutex::default(),
        }))
    }

    /// Looks again and again, on a thread of its own.
    pub fn start(&self) -> JoinHandle<()> {
        let watch = self.clone();
        std::thread::spawn(move || {
            while !watch.0.is_over.load(Ordering::SeqCst) {
                watch.look();
                std::thread::sleep(EVERY);
            }
        })
    }

    /// Ends what [`start`](Self::start) began.
    pub fn stop(&self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }

    /// Looks once.
    pub fn look(&self) -> PipelineStats {
        let Watched {
            exporter, pipeline, ..
        } = &*self.0;
        let account = pipeline.stats();
        let stats = exporter.stats();
        self.0.looks.fetch_add(1, Ordering::Relaxed);
        self.expect(account.is_conserved(), || {
            format!("items are lost or counted twice: {account:?}")
        });
        self.expect(stats.is_conserved(), || {
            format!("items are lost or counted twice: {stats:?}")
        });
        let total = &account.total;
        let lost = total.dropped_total() + total.rejected + total.unknown;
        self.expect(lost == 0, || format!("{lost} items are lost: {account:?}"));
        let bytes = total.queued_bytes + total.in_flight_bytes;
        let bytes_max = self.0.budget + EXCESS;
        self.expect(bytes <= bytes_max, || {
            format!("{bytes} bytes are held, of {bytes_max}")
        });
        self.expect(stats.bytes_in_flight <= bytes_max, || {
            format!("{} bytes are in flight, of {bytes_max}", stats.bytes_in_flight)
        });
        self.0.bytes_max.fetch_max(bytes, Ordering::Relaxed);
        self.0.resident_max.fetch_max(resident_kib(), Ordering::Relaxed);
        account
    }

    /// Notes a failure where something does not hold.
    pub fn expect(&self, holds: bool, failure: impl FnOnce() -> String) {
        if !holds {
            let mut failures = self.0.failures.lock().expect("nobody panics with it");
            if failures.len() < FAILURES_MAX {
                failures.push(failure());
            }
        }
    }

    /// What did not hold so far.
    pub fn failures(&self) -> Vec<String> {
        self.0.failures.lock().expect("nobody panics with it").clone()
    }

    /// How it is going, in one line.
    pub fn line(&self) -> String {
        let total = self.look().total;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let age = total.oldest_queued_age.map_or(String::new(), |age| {
            format!(", the oldest for {:.1} s", age.as_secs_f64())
        });
        format!(
            "   {} accepted = {} delivered + {} rejected + {} dropped + {} unknown + {} queued + {} in flight; {:.1} of {:.0} \
             MiB held{age}; {:.0} MiB resident",
            total.accepted,
            total.delivered,
            total.rejected,
            total.dropped_total(),
            total.unknown,
            total.queued,
            total.in_flight,
            mib(total.queued_bytes + total.in_flight_bytes),
            mib(self.0.budget),
            mib(resident_kib() << 10),
        )
    }

    /// How often it looked, the most bytes that were held, and the most KiB that were resident.
    pub fn seen(&self) -> (u64, u64, u64) {
        let Watched {
            looks,
            bytes_max,
            resident_max,
            ..
        } = &*self.0;
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(looks), load(bytes_max), load(resident_max))
    }
}
