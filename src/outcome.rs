//! The verdict of an export, exact about every item.

use alloc::boxed::Box;
use core::fmt;
use core::ops::AddAssign;

/// Where the items of one export ended up; the four figures add up to the items of its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemCounts {
    /// The collector accepted them.
    pub delivered: u64,
    /// The collector refused them, in a partial success or as a whole.
    pub rejected: u64,
    /// They were given up here, and the collector certainly did not process them.
    pub dropped: u64,
    /// The socket took the whole request, or held all of it when the export ended, and no answer that could be read came:
    /// they may or may not have arrived.
    pub unknown: u64,
}

impl ItemCounts {
    /// All items, whatever became of them.
    pub const fn total(&self) -> u64 {
        self.delivered + self.rejected + self.dropped + self.unknown
    }
}

impl AddAssign for ItemCounts {
    fn add_assign(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.rejected += other.rejected;
        self.dropped += other.dropped;
        self.unknown += other.unknown;
    }
}

impl fmt::Display for ItemCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} delivered, {} rejected, {} dropped, {} unknown",
            self.delivered, self.rejected, self.dropped, self.unknown
        )
    }
}

/// Why items were given up without the collector having processed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The caller dropped or cancelled the export.
    Cancelled,
    /// The time given to the export was over, or too short for a further attempt; [`Error::is_timeout`](crate::Error::is_timeout)
    /// tells the two apart.
    Deadline,
    /// The retry policy allows no further attempt.
    Attempts,
    /// A failure that no retry can mend, found before the collector processed anything.
    NotRetryable,
    /// The exporter's memory limit was reached.
    MemoryLimit,
    /// The exporter was shut down, or the runtime under it ended.
    Shutdown,
    /// A single record is larger than a request may be.
    TooLarge,
    /// The queue was full when they came.
    QueueFull,
    /// They were the oldest in a full queue, and made room for newer ones.
    Evicted,
    /// They waited in the queue for as long as an item may.
    Expired,
    /// They were a parent process's, and this is its child.
    Forked,
}

impl DropReason {
    /// Every reason, in the order of [`index`](Self::index).
    pub const ALL: [Self; 11] = [
        Self::Cancelled,
        Self::Deadline,
        Self::Attempts,
        Self::NotRetryable,
        Self::MemoryLimit,
        Self::Shutdown,
        Self::TooLarge,
        Self::QueueFull,
        Self::Evicted,
        Self::Expired,
        Self::Forked,
    ];

    /// The position in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The reason in the words of a report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
            Self::Attempts => "attempts exhausted",
            Self::NotRetryable => "not retryable",
            Self::MemoryLimit => "memory limit",
            Self::Shutdown => "shutdown",
            Self::TooLarge => "too large",
            Self::QueueFull => "queue full",
            Self::Evicted => "evicted from a full queue",
            Self::Expired => "expired in the queue",
            Self::Forked => "left to the parent process",
        }
    }
}

/// What the collector said to an export that it took: in whole, in part, or with every item refused in a partial success.
///
/// A partial success is an outcome and not an error, and is never retried (OTLP specification, "Partial Success").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub(crate) counts: ItemCounts,
    pub(crate) message: Option<Box<str>>,
    pub(crate) attempts: u32,
}

impl Outcome {
    /// Where each item ended up.
    pub const fn counts(&self) -> ItemCounts {
        self.counts
    }

    /// Items that the collector accepted.
    pub const fn delivered(&self) -> u64 {
        self.counts.delivered
    }

    /// Items that the collector refused in a partial success.
    pub const fn rejected(&self) -> u64 {
        self.counts.rejected
    }

    /// Whether the collector refused some items or sent a warning.
    pub const fn is_partial(&self) -> bool {
        self.counts.rejected > 0 || self.message.is_some()
    }

    /// The collector's message: why items were refused, or a warning where none were.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Attempts it took, the successful one included.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {} attempt(s)", self.counts, self.attempts)?;
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}
