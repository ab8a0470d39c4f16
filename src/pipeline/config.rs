//! What a user sets about a pipeline and its queue, checked when it is made.

use super::delivery::DeliveryConfig;
use crate::encode::{Resource, Signal};
use crate::error::Error;
use crate::policy::{AdaptiveBatchConfig, BreakerConfig, ConcurrencyConfig, RateLimit, RetryPolicy};
use alloc::format;
use core::time::Duration;

/// The largest batch on gRPC: receivers refuse messages of more than 4 MiB unless they are told otherwise.
pub(crate) const GRPC_BATCH_BYTES_MAX: usize = (7 << 20) / 2;

/// The settings of a pipeline. Nothing is checked before the pipeline is made.
///
/// ```
/// use core::time::Duration;
/// use otlp_embed::Resource;
/// use otlp_embed::pipeline::{Overflow, PipelineConfig, QueueConfig};
///
/// let config = PipelineConfig::new()
///     .with_resource(&Resource::builder().attr("service.name", "shop").build())
///     .with_queue(QueueConfig::new().with_overflow(Overflow::Block))
///     .with_max_elapsed(Duration::from_secs(60));
/// ```
///
/// # Two clocks
///
/// The exporter's timeout (10 s unless set) bounds one export with its retries. A batch whose export ended in a failure that may
/// pass goes back to the head of the queue, and is exported again until [`with_max_elapsed`](Self::with_max_elapsed) is over. While
/// the circuit breaker of an endpoint is open its batches wait; nothing is dropped for it.
#[derive(Clone, Debug)]
pub struct PipelineConfig {
    pub(crate) resource: Resource,
    pub(crate) queue: QueueConfig,
    pub(crate) batch: AdaptiveBatchConfig,
    pub(crate) batch_bytes_max: Option<usize>,
    pub(crate) max_elapsed: Duration,
    pub(crate) backoff: RetryPolicy,
    pub(crate) breaker: Option<BreakerConfig>,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) concurrency: ConcurrencyConfig,
    pub(crate) self_metrics: Option<Duration>,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        let delivery = DeliveryConfig::default();
        Self {
            resource: Resource::from_env(),
            queue: QueueConfig::default(),
            batch: delivery.batch,
            batch_bytes_max: None,
            max_elapsed: delivery.max_elapsed,
            backoff: delivery.retry,
            breaker: delivery.breaker,
            rate_limit: delivery.rate_limit,
            concurrency: delivery.concurrency,
            self_metrics: None,
        }
    }
}

impl PipelineConfig {
    /// The defaults of every setting, with the resource of [`Resource::from_env`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the resource of what the handles write; that of [`Resource::from_env`] unless set. Whole requests say for
    /// themselves what they belong to.
    pub fn with_resource(mut self, resource: &Resource) -> Self {
        self.resource = resource.clone();
        self
    }

    /// Sets the bounds of the queue and what it does once they are reached. They hold for what is open, queued and being
    /// exported together, for each destination of a fan-out.
    pub fn with_queue(mut self, queue: QueueConfig) -> Self {
        self.queue = queue;
        self
    }

    /// Sets the sizes of batches in items, and how long one stays open; [`AdaptiveBatchConfig::new`] unless set.
    pub fn with_batch(mut self, batch: AdaptiveBatchConfig) -> Self {
        self.batch = batch;
        self
    }

    /// Sets how many bytes a batch has at most, before compression, at least 1; 3.5 MiB on gRPC unless set, and over OTLP/HTTP what
    /// the exporter allows. Never passed are the exporter's request limit and a quarter of its memory limit, which leaves room for
    /// what is made of a batch for the wire: 16 MiB where neither is set. A single larger request goes alone.
    pub fn with_batch_bytes_max(mut self, bytes: usize) -> Self {
        self.batch_bytes_max = Some(bytes);
        self
    }

    /// Sets for how long a batch is exported again, from when the pipeline first sees it, more than zero; 300 s unless set. What is left then
    /// is dropped ([`DropReason::Expired`](crate::DropReason::Expired)).
    pub fn with_max_elapsed(mut self, max_elapsed: Duration) -> Self {
        self.max_elapsed = max_elapsed;
        self
    }

    /// Sets the waits before a batch that came back is exported again at the same endpoint; those of [`RetryPolicy::default`]
    /// unless set. Only the waits count; how often is bounded by [`with_max_elapsed`](Self::with_max_elapsed).
    pub fn with_backoff(mut self, backoff: RetryPolicy) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets when the circuit breaker of an endpoint opens, and for how long; [`BreakerConfig::new`] unless set.
    pub fn with_breaker(mut self, breaker: BreakerConfig) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Does without circuit breakers.
    pub fn without_breaker(mut self) -> Self {
        self.breaker = None;
        self
    }

    /// Sets a rate that no endpoint is given more than; none unless set.
    pub fn with_rate_limit(mut self, rate_limit: RateLimit) -> Self {
        self.rate_limit = Some(rate_limit);
        self
    }

    /// Sets how many exports each endpoint may have in flight, and how that adapts; [`ConcurrencyConfig::new`] unless set.
    pub fn with_concurrency(mut self, concurrency: ConcurrencyConfig) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Has the pipeline export the [self-metrics](crate::Exporter::self_metrics) of its exporters, its own counts included, once
    /// in every interval, which is more than zero, under its [resource](Self::with_resource); it does not unless this is set. A
    /// minute is usual.
    ///
    /// They go through its own queue like everything else, count in its account and in the next ones. They never wait and
    /// make nobody wait: where the queue has no room, those of this interval are left out. They end with the pipeline's
    /// shutdown.
    pub fn with_self_metrics(mut self, interval: Duration) -> Self {
        self.self_metrics = Some(interval);
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        self.queue.check()?;
        self.batch.check()?;
        self.backoff.check()?;
        self.concurrency.check()?;
        if let Some(breaker) = &self.breaker {
            breaker.check()?;
        }
        if let Some(rate_limit) = &self.rate_limit {
            rate_limit.check()?;
        }
        let refuse = |text: &str| Err(Error::config(format!("PipelineConfig::{text}")));
        if self.max_elapsed.is_zero() {
            return refuse(
                "with_max_elapsed: 0 leaves no time for an export; give it at least the exporter's timeout",
            );
        }
        if self.self_metrics == Some(Duration::ZERO) {
            return refuse("with_self_metrics: an interval of 0 never ends; a minute is usual");
        }
        if self.batch_bytes_max == Some(0) {
            return refuse("with_batch_bytes_max: a batch of 0 bytes holds nothing");
        }
        Ok(())
    }
}

/// What a queue does with what comes while it is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The producer waits for room: a task is suspended, a thread is blocked. Nothing is lost, unless a producer gives up its
    /// wait, as the processors of `sdk` do after their longest one, or may not wait, as within the poll of the pipeline's future.
    Block,
    /// What comes is dropped and counted ([`DropReason::QueueFull`](crate::DropReason::QueueFull)); the producer never waits.
    #[default]
    DropNewest,
    /// The oldest that is queued of the same signal is dropped and counted
    /// ([`DropReason::Evicted`](crate::DropReason::Evicted)) until there is room; the producer never waits. Where that
    /// cannot make room, because the rest belongs to other signals or is being exported, what comes is dropped.
    DropOldest,
}

/// The bounds of a queue, and what it does once they are reached.
///
/// A [pipeline](super::Pipeline) lets a closure that writes items in where there is room for one, so that the bounds are passed by
/// what it writes beyond that; whole requests, and an [`ExportQueue`](super::ExportQueue), never pass them.
///
/// ```
/// use otlp_embed::pipeline::{Overflow, QueueConfig};
/// use otlp_embed::Signal;
///
/// // Never lose a span, never wait for a log record.
/// let queue = QueueConfig::new()
///     .with_bytes_max(8 << 20)
///     .with_overflow(Overflow::Block)
///     .for_signal(Signal::Logs, |logs| logs.with_overflow(Overflow::DropOldest));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    pub(crate) items_max: u64,
    pub(crate) bytes_max: usize,
    pub(crate) overflow: Overflow,
    pub(crate) signals: [SignalQueue; Signal::ALL.len()],
}

/// What differs for one signal of a queue; what is not set is the queue's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalQueue {
    pub(crate) overflow: Option<Overflow>,
}

impl SignalQueue {
    /// Sets what is done with what comes while the queue is full.
    pub fn with_overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = Some(overflow);
        self
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            items_max: 1_000_000,
            bytes_max: 32 << 20,
            overflow: Overflow::default(),
            signals: [SignalQueue::default(); Signal::ALL.len()],
        }
    }
}

impl QueueConfig {
    /// A million items, 32 MiB, and [`Overflow::DropNewest`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many items it holds at most, at least 1: spans, data points, log records or profiles; 1,000,000 unless set.
    pub fn with_items_max(mut self, items: u64) -> Self {
        self.items_max = items;
        self
    }

    /// Sets how many bytes of encoded messages it holds at most, at least 1; 32 MiB unless set.
    pub fn with_bytes_max(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// Sets what is done with what comes while it is full; [`Overflow::DropNewest`] unless set.
    pub fn with_overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Sets what differs for one signal.
    pub fn for_signal(mut self, signal: Signal, set: impl FnOnce(SignalQueue) -> SignalQueue) -> Self {
        let queue = &mut self.signals[signal.index()];
        *queue = set(*queue);
        self
    }

    /// What is done with what comes of a signal while the queue is full.
    pub fn overflow(&self, signal: Signal) -> Overflow {
        self.signals[signal.index()].overflow.unwrap_or(self.overflow)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |setter: &str, unit: &str| {
            Err(Error::config(format!(
                "{setter}: a queue of 0 {unit} takes nothing; give it room for one batch at least"
            )))
        };
        if self.items_max == 0 {
            return refuse("QueueConfig::with_items_max", "items");
        }
        if self.bytes_max == 0 {
            return refuse("QueueConfig::with_bytes_max", "bytes");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_signal_overflows_in_its_own_way() {
        let queue = QueueConfig::new()
            .with_overflow(Overflow::Block)
            .for_signal(Signal::Logs, |logs| logs.with_overflow(Overflow::DropOldest));
        assert_eq!(queue.overflow(Signal::Traces), Overflow::Block);
        assert_eq!(queue.overflow(Signal::Logs), Overflow::DropOldest);
        assert!(queue.check().is_ok());
    }

    #[test]
    fn a_queue_without_room_is_refused_by_its_setter() {
        let error = QueueConfig::new().with_items_max(0).check().unwrap_err();
        assert!(error.is_misuse());
        assert!(error.to_string().contains("with_items_max"), "{error}");
        let error = QueueConfig::new().with_bytes_max(0).check().unwrap_err();
        assert!(error.to_string().contains("with_bytes_max"), "{error}");
    }
}
