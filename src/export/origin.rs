//! The process that something was made in.
//!
//! A child of `fork(2)` inherits sockets that its parent goes on with, locks that threads hold which it does not have, and
//! readiness queues that it shares with its parent. Whoever holds such things asks here before it touches any of them.

use crate::encode::Request;
use crate::error::{Error, Kind};
use crate::outcome::{DropReason, ItemCounts};
use crate::stats::Stats;
use alloc::borrow::ToOwned;
use core::sync::atomic::{AtomicU64, Ordering};

const TEXT: &str = "this exporter was built before a fork, and belongs to the parent process; build a new one in the child, with a \
                    new runtime";

/// The process that something was made in, and what was given to it in another.
#[derive(Debug)]
pub(crate) struct Origin {
    /// Zero where processes cannot be forked.
    pid: u32,
    /// Items that were handed over in another process.
    refused: AtomicU64,
}

impl Origin {
    pub(crate) fn here() -> Self {
        Self {
            pid: pid(),
            refused: AtomicU64::new(0),
        }
    }

    /// Whether this is another process: a child that was forked since.
    pub(crate) fn is_foreign(&self) -> bool {
        self.pid != pid()
    }

    /// Books a request that was handed over in another process.
    pub(crate) fn refuse(&self, request: &Request) {
        self.refuse_items(request.items());
    }

    /// Books items that were handed over in another process, to whoever cannot be told.
    pub(crate) fn refuse_items(&self, items: u64) {
        self.refused.fetch_add(items, Ordering::Relaxed);
    }

    /// The account of this process, in which nothing was exported.
    pub(crate) fn stats(&self) -> Stats {
        let items = self.refused.load(Ordering::Relaxed);
        let mut stats = Stats {
            accepted: items,
            last_error: Some(TEXT.to_owned()),
            ..Stats::default()
        };
        stats.dropped[DropReason::Forked.index()] = items;
        stats
    }

    /// What becomes of an export in another process.
    pub(crate) fn error(items: u64) -> Error {
        let counts = ItemCounts {
            dropped: items,
            ..ItemCounts::default()
        };
        Error::new(Kind::Shutdown, TEXT)
            .with_counts(counts)
            .with_drop_reason(DropReason::Forked)
    }
}

#[cfg(unix)]
fn pid() -> u32 {
    std::process::id()
}

#[cfg(not(unix))]
fn pid() -> u32 {
    0
}
