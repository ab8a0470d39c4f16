//! What a user sets about a pipeline and its queue, checked when it is made.

use crate::encode::Signal;
use crate::error::Error;
use alloc::format;

/// What a queue does with what comes while it is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The producer waits for room: a task is suspended, a thread is blocked. Nothing is lost.
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

    /// Sets how many items it holds at most: spans, data points, log records or profiles; 1,000,000 unless set.
    pub fn with_items_max(mut self, items: u64) -> Self {
        self.items_max = items;
        self
    }

    /// Sets how many bytes of encoded messages it holds at most; 32 MiB unless set.
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
