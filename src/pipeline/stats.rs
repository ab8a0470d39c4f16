//! The account of a pipeline: every item it took and what became of it.

use crate::outcome::{DropReason, ItemCounts};
use crate::pipeline::delivery::policies::{BatcherStats, BreakerState};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// A snapshot of the account of a pipeline, exact at the moment it was taken.
///
/// The law of conservation holds at every moment, for each leg and for their sum:
/// `accepted = delivered + rejected + dropped (all reasons) + unknown + queued + in_flight`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PipelineStats {
    /// The sum over the legs. Where several destinations get the same items (fan-out), an item counts once for each.
    pub total: Account,
    /// One for each independent destination: one for a single exporter, for failover and for round robin, one for each
    /// exporter of a fan-out.
    pub legs: Vec<LegStats>,
}

/// What became of the items of one leg, or of all. An item counts once, however often it was exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Account {
    /// Items that were taken, or that came to a full queue that drops.
    pub accepted: u64,
    /// Items that the collector accepted.
    pub delivered: u64,
    /// Items that the collector refused.
    pub rejected: u64,
    /// Items given up, by [`DropReason::index`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Items given up of which some attempt was sent whole and never answered.
    pub unknown: u64,
    /// Items that wait for an export or for the next one, those of open batches included.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Items of exports that have no verdict yet.
    pub in_flight: u64,
    /// Their bytes.
    pub in_flight_bytes: u64,
    /// Exports that have no verdict yet.
    pub exports_in_flight: u64,
    /// Exports begun.
    pub batches: u64,
    /// Exports whose batch, or a part of it, went back into the queue.
    pub returned: u64,
    /// Items exported again after an attempt that was sent whole and unanswered: possible duplicates.
    pub possible_duplicates: u64,
    /// How long the oldest queued item has waited since the pipeline first saw it.
    pub oldest_queued_age: Option<Duration>,
}

/// The account of one leg.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LegStats {
    /// What became of its items.
    pub account: Account,
    /// Its endpoints, in the order they were given.
    pub endpoints: Vec<EndpointStats>,
    /// What its batches adapted to.
    pub batcher: BatcherStats,
    /// The last failure of an export, in words.
    pub last_error: Option<String>,
}

/// One endpoint of a leg.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// What its circuit breaker does.
    pub breaker: BreakerState,
    /// Exports it may have in flight.
    pub concurrency_limit: usize,
    /// Exports it has in flight.
    pub in_flight: usize,
    /// Whether its exporter was shut down, or the runtime under it ended.
    pub is_gone: bool,
}

/// What became of everything that was admitted before a flush and not settled then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlushReport {
    /// The items that settled, counted once for each leg.
    pub counts: ItemCounts,
    /// Items that were still queued or in flight when the time was over.
    pub pending: u64,
}

impl FlushReport {
    /// Whether everything was delivered.
    pub const fn is_delivered(&self) -> bool {
        self.pending == 0 && self.counts.total() == self.counts.delivered
    }
}

impl PipelineStats {
    /// Whether the law of conservation holds for each leg and for the sum. It always does; the tests ask after every event.
    pub fn is_conserved(&self) -> bool {
        self.total.is_conserved() && self.legs.iter().all(|leg| leg.account.is_conserved())
    }

    pub(crate) fn of(legs: Vec<LegStats>) -> Self {
        let mut total = Account::default();
        for leg in &legs {
            total.add(&leg.account);
        }
        Self { total, legs }
    }
}

impl Account {
    /// Items given up for `reason`.
    pub const fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped[reason.index()]
    }

    /// Items given up for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Whether every item is in exactly one place.
    pub fn is_conserved(&self) -> bool {
        self.accepted == self.settled().total() + self.queued + self.in_flight
    }

    /// Where the settled items ended up.
    pub fn settled(&self) -> ItemCounts {
        ItemCounts {
            delivered: self.delivered,
            rejected: self.rejected,
            dropped: self.dropped_total(),
            unknown: self.unknown,
        }
    }

    fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.rejected += other.rejected;
        for (sum, count) in self.dropped.iter_mut().zip(other.dropped) {
            *sum += count;
        }
        self.unknown += other.unknown;
        self.queued += other.queued;
        self.queued_bytes += other.queued_bytes;
        self.in_flight += other.in_flight;
        self.in_flight_bytes += other.in_flight_bytes;
        self.exports_in_flight += other.exports_in_flight;
        self.batches += other.batches;
        self.returned += other.returned;
        self.possible_duplicates += other.possible_duplicates;
        self.oldest_queued_age = self.oldest_queued_age.max(other.oldest_queued_age);
    }
}
