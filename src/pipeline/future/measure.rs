//! The self-metrics that a pipeline exports itself.

use super::PipelineFuture;
use crate::encode::MetricBatch;
use crate::export::Exporter;
use crate::rt::Runtime;
use crate::time::Instant;
use alloc::vec::Vec;
use core::time::Duration;

/// When a pipeline exports its self-metrics.
pub(super) struct Measuring {
    interval: Duration,
    /// None until the pipeline first looks at a clock.
    next: Option<Instant>,
}

impl Measuring {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, next: None }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Whether it is time. Intervals that were slept through are not made up for.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.next.is_some_and(|next| next <= now);
        if is_due || self.next.is_none() {
            self.next = Some(now + self.interval);
        }
        is_due
    }
}

impl<R: Runtime> PipelineFuture<R> {
    /// Queues the self-metrics where it is time for them.
    pub(super) fn measure(&mut self) {
        let Some(measuring) = &mut self.measuring else {
            return;
        };
        if self.shared.is_closed() {
            self.measuring = None;
            return;
        }
        if !measuring.is_due(self.runtime.now()) {
            return;
        }
        let mut batch = MetricBatch::new(self.shared.resource());
        let now = nanos(self.runtime.unix_time());
        let mut written: Vec<&Exporter<R>> = Vec::new();
        for endpoint in &self.endpoints {
            let exporter = &endpoint.exporter;
            // Clones of one exporter count together.
            if written.iter().any(|other| other.is_same(exporter)) {
                continue;
            }
            written.push(exporter);
            let begun = nanos(exporter.begun_unix());
            // The system's clock may have been set back.
            exporter.self_metrics().write(&mut batch, begun, now.max(begun));
        }
        self.shared.push_spare(&batch.finish());
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
