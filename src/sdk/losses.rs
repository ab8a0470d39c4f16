//! What a pipeline lost of a signal that a provider was not told of yet.

use super::processors::Failure;
use crate::encode::Signal;
use crate::export::lock;
use crate::outcome::ItemCounts;
use crate::pipeline::Pipeline;
use alloc::format;
use alloc::string::ToString;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Mutex;

/// The losses of one provider, each told by one flush. What was lost before it was made is none of its business.
#[derive(Debug)]
pub(super) struct Losses {
    signal: Signal,
    /// Items that the pipeline did not take from it.
    refused: AtomicU64,
    told: Mutex<ItemCounts>,
}

impl Losses {
    pub(super) fn new(pipeline: &Pipeline, signal: Signal) -> Self {
        Self {
            signal,
            refused: AtomicU64::new(0),
            told: Mutex::new(pipeline.losses(signal)),
        }
    }

    /// The pipeline did not take an item.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Flushes a pipeline for so long at most, and tells what was lost. A flush that is out of time leaves that to the next.
    pub(super) fn flush(&self, pipeline: &Pipeline, timeout: Duration) -> Result<(), Failure> {
        let report = pipeline
            .flush_blocking(timeout)
            .map_err(|error| Failure::Other(error.to_string()))?;
        if report.pending > 0 {
            return Err(Failure::TimedOut(timeout));
        }
        let lost = self.take(pipeline);
        if lost.total() == 0 {
            return Ok(());
        }
        Err(Failure::Other(format!(
            "not everything was delivered since this was last told: {} rejected, {} dropped, {} unknown; the pipeline's stats tell \
             why",
            lost.rejected, lost.dropped, lost.unknown
        )))
    }

    fn take(&self, pipeline: &Pipeline) -> ItemCounts {
        let mut told = lock(&self.told);
        // Under the lock: of two flushes at a time each loss is told by one.
        let mut all = pipeline.losses(self.signal);
        all.dropped += self.refused.load(Ordering::Relaxed) * pipeline.destinations();
        let before = core::mem::replace(&mut *told, all);
        ItemCounts {
            delivered: 0,
            rejected: all.rejected.saturating_sub(before.rejected),
            dropped: all.dropped.saturating_sub(before.dropped),
            unknown: all.unknown.saturating_sub(before.unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::pipeline::{Overflow, PipelineConfig, QueueConfig};
    use crate::rt;
    use crate::testing::Collector;

    #[test]
    fn what_a_late_flush_did_not_tell_the_next_does() {
        let collector = Collector::start().expect("a collector");
        let config = Config::new().with_endpoint(collector.endpoint());
        let exporter = config.build(rt::Blocking::new().expect("a runtime"));
        let queue = QueueConfig::new()
            .with_items_max(4)
            .with_overflow(Overflow::DropNewest);
        let config = PipelineConfig::new().with_queue(queue);
        let (pipeline, future) = exporter
            .expect("an exporter")
            .pipeline(config)
            .expect("a pipeline");
        let losses = Losses::new(&pipeline, Signal::Traces);
        for _ in 0..6 {
            // The second span is none, and lost with its batch.
            let written = pipeline.spans(|batch| {
                batch.span([1; 16], [1; 8], "taken").end();
                batch.span([0; 16], [0; 8], "refused").end();
            });
            if written.is_err() {
                losses.refused();
            }
        }
        // Nobody drives it.
        let late = losses.flush(&pipeline, Duration::ZERO);
        assert!(matches!(late, Err(Failure::TimedOut(Duration::ZERO))));
        let thread = future.run_on_thread().expect("a thread");
        let time = Duration::from_secs(30);
        match losses.flush(&pipeline, time) {
            Err(Failure::Other(text)) => assert!(text.contains("0 rejected, 6 dropped"), "{text}"),
            _ => panic!("spans were lost"),
        }
        assert!(losses.flush(&pipeline, time).is_ok(), "that was told");
        assert_eq!(pipeline.shutdown_blocking(time).stats.delivered, 4);
        thread.join().expect("no panic");
    }
}
