//! What became of what a streaming run took, told while it lasts and after it.

use crate::error::Error;
use crate::export::lock;
use crate::pipeline::exports::Ended;
use crate::pipeline::{LatencyHistogram, LatencyStats};
use crate::time::Instant;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;
use std::sync::Mutex;

/// What became of what a streaming run took from its source.
///
/// Items are exact at every moment: `total_taken = total_exported + total_failed + pending`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportStats {
    /// Items that the source gave.
    pub total_taken: u64,
    /// Items that the collector accepted.
    pub total_exported: u64,
    /// Items that it refused, in a partial success too, and items that were given up or went unanswered: after the retries
    /// of their export.
    pub total_failed: u64,
    /// Items that are in the open batch or in flight.
    pub pending: u64,
    /// Exports that the collector took, in whole or in part.
    pub successful_batches: u64,
    /// Exports that ended in an error, or were cancelled with the run.
    pub failed_batches: u64,
    /// Exports that are in flight.
    pub batches_in_flight: u64,
    /// What all exports took together, each from its submission to its verdict. They overlap: it may exceed `elapsed`.
    pub total_duration: Duration,
    /// From the first poll of the run to its last verdict, or its end.
    pub elapsed: Duration,
    /// How long exports took, from submission to verdict, retries included: neither the time in the open batch nor that in
    /// the source counts.
    pub latency: LatencyStats,
}

impl fmt::Display for ExportStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} items exported, {} failed, {} pending; {} batches, {} failed; p50 {:?}, p95 {:?}, p99 {:?}",
            self.total_exported,
            self.total_taken,
            self.total_failed,
            self.pending,
            self.successful_batches + self.failed_batches,
            self.failed_batches,
            self.latency.p50,
            self.latency.p95,
            self.latency.p99
        )
    }
}

/// Shows what became of what a streaming run took. It outlives the run; clones show the same.
#[derive(Clone)]
pub struct StreamHandle {
    shared: Arc<Shared>,
}

impl StreamHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The account at this moment.
    pub fn stats(&self) -> ExportStats {
        self.shared.stats()
    }

    /// Whether the run has ended or was dropped: the account changes no more.
    pub fn is_finished(&self) -> bool {
        lock(&self.shared.state).is_over
    }

    /// The error of the export that failed last, where one did.
    pub fn last_error(&self) -> Option<Arc<Error>> {
        lock(&self.shared.state).last_error.clone()
    }
}

impl fmt::Debug for StreamHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamHandle")
            .field("stats", &self.stats())
            .field("is_finished", &self.is_finished())
            .finish()
    }
}

/// What a run and its handles share.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stats: ExportStats,
    latencies: LatencyHistogram,
    last_error: Option<Arc<Error>>,
    begun: Instant,
    is_over: bool,
}

impl Shared {
    pub(super) fn stats(&self) -> ExportStats {
        let state = lock(&self.state);
        ExportStats {
            latency: state.latencies.stats(),
            ..state.stats
        }
    }

    pub(super) fn begin(&self, now: Instant) {
        lock(&self.state).begun = now;
    }

    /// Items came from the source.
    pub(super) fn take(&self, items: u64) {
        let stats = &mut lock(&self.state).stats;
        stats.total_taken += items;
        stats.pending += items;
    }

    pub(super) fn begin_export(&self) {
        lock(&self.state).stats.batches_in_flight += 1;
    }

    /// An export ends; tells whether no further one can succeed, since the exporter or its runtime has ended.
    pub(super) fn end_export(&self, now: Instant, ended: Ended) -> bool {
        let counts = ended.counts();
        let mut state = lock(&self.state);
        let elapsed = now.since(state.begun);
        state.latencies.record(ended.latency);
        let stats = &mut state.stats;
        stats.elapsed = elapsed;
        stats.total_duration = stats.total_duration.saturating_add(ended.latency);
        stats.batches_in_flight -= 1;
        stats.pending -= ended.items;
        stats.total_exported += counts.delivered;
        stats.total_failed += ended.items - counts.delivered;
        let Err(error) = ended.result else {
            stats.successful_batches += 1;
            return false;
        };
        stats.failed_batches += 1;
        let is_hopeless = error.is_shutdown() || error.is_runtime_gone();
        let old = state.last_error.replace(Arc::new(error));
        drop(state);
        // An error may hold foreign values.
        drop(old);
        is_hopeless
    }

    /// The run is over; what has no verdict gets none. Without a time, none had passed.
    pub(super) fn end(&self, now: Option<Instant>) {
        let mut state = lock(&self.state);
        if let Some(now) = now {
            state.stats.elapsed = now.since(state.begun);
        }
        let stats = &mut state.stats;
        stats.total_failed += core::mem::take(&mut stats.pending);
        stats.failed_batches += core::mem::take(&mut stats.batches_in_flight);
        state.is_over = true;
    }
}
