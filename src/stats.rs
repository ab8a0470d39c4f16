//! The account of an exporter: every item it accepted and what became of it.

use crate::outcome::{DropReason, ItemCounts};
use crate::policy::BreakerState;
use crate::time::Instant;
use alloc::string::String;
use core::fmt;
use core::time::Duration;

/// A snapshot of an exporter's account, exact at the moment it was taken.
///
/// The law of conservation holds at every moment:
/// `accepted = delivered + rejected + dropped (all reasons) + unknown + queued + in_flight`.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Items handed to the exporter.
    pub accepted: u64,
    /// Items that the collector accepted.
    pub delivered: u64,
    /// Items that the collector refused.
    pub rejected: u64,
    /// Items given up here, by [`DropReason::index`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Items whose request was taken whole by the socket and never answered.
    pub unknown: u64,
    /// Items that wait in the exporter's pipelines for an export, or for the next one.
    pub queued: u64,
    /// Items of exports that have no verdict yet, backoff included.
    pub in_flight: u64,
    /// Exports that have no verdict yet.
    pub exports_in_flight: u64,
    /// Bytes held by exports that have no verdict yet: their messages, and what was made of them for the wire (JSON,
    /// compressed).
    pub bytes_in_flight: u64,
    /// Items sent again after an attempt that the collector may have processed: possible duplicates. Such is one that was sent
    /// whole and not answered, and one whose answer was a failure without a wait: a proxy gives that too where it lost the
    /// collector's answer.
    pub possible_duplicates: u64,
    /// Attempts that ended in a retry.
    pub retries: u64,
    /// Requests that the collector refused for their size and that were sent again in parts.
    pub splits: u64,
    /// Connections opened.
    pub connections: u64,
    /// Times that exports to an endpoint began to fail after they had succeeded, or before any had.
    pub outages: u64,
    /// Since when exports to an endpoint fail, on the clock of the exporter's runtime, of several the longest; `None` while
    /// none does.
    pub outage_since: Option<Instant>,
    /// The last failure of an attempt or a connection, in words.
    pub last_error: Option<String>,
    /// How long the oldest item that is queued has waited in a pipeline, since the pipeline first saw it; in a report, as of the
    /// end.
    pub oldest_queued_age: Option<Duration>,
    /// What the circuit breaker of the exporter's pipelines does, where it has any: the worst of several.
    pub breaker: Option<BreakerState>,
}

impl Stats {
    /// Items given up for `reason`.
    pub const fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped[reason.index()]
    }

    /// Items given up for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Whether the law of conservation holds. It always does; the tests ask after every event.
    pub fn is_conserved(&self) -> bool {
        let settled = self.delivered + self.rejected + self.dropped_total() + self.unknown;
        self.accepted == settled + self.queued + self.in_flight
    }

    /// Adds what another account says of items.
    #[cfg(feature = "std")]
    pub(crate) fn add_items(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.rejected += other.rejected;
        for (sum, count) in self.dropped.iter_mut().zip(other.dropped) {
            *sum += count;
        }
        self.unknown += other.unknown;
        self.queued += other.queued;
        self.in_flight += other.in_flight;
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
}

impl fmt::Debug for Stats {
    /// Drops are shown by their reasons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Dropped<'a>(&'a Stats);
        impl fmt::Debug for Dropped<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let counts = DropReason::ALL.map(|reason| (reason, self.0.dropped_for(reason)));
                f.debug_map()
                    .entries(counts.into_iter().filter(|(_, count)| *count > 0))
                    .finish()
            }
        }
        f.debug_struct("Stats")
            .field("accepted", &self.accepted)
            .field("delivered", &self.delivered)
            .field("rejected", &self.rejected)
            .field("dropped", &Dropped(self))
            .field("unknown", &self.unknown)
            .field("queued", &self.queued)
            .field("in_flight", &self.in_flight)
            .field("exports_in_flight", &self.exports_in_flight)
            .field("bytes_in_flight", &self.bytes_in_flight)
            .field("possible_duplicates", &self.possible_duplicates)
            .field("retries", &self.retries)
            .field("splits", &self.splits)
            .field("connections", &self.connections)
            .field("outages", &self.outages)
            .field("outage_since", &self.outage_since)
            .field("last_error", &self.last_error)
            .field("oldest_queued_age", &self.oldest_queued_age)
            .field("breaker", &self.breaker)
            .finish()
    }
}

/// What became of everything that an exporter accepted, at the end of its shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The closed account; a shutdown that nobody carried out leaves items queued and in flight.
    pub stats: Stats,
}

impl Report {
    /// Items that did not verifiably reach the collector.
    pub fn lost(&self) -> u64 {
        let settled = self.stats.settled();
        settled.total() - settled.delivered + self.stats.queued + self.stats.in_flight
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} accepted: {}", self.stats.accepted, self.stats.settled())?;
        for reason in DropReason::ALL {
            match self.stats.dropped_for(reason) {
                0 => {}
                count => write!(f, "; {count} dropped ({})", reason.as_str())?,
            }
        }
        for (count, place) in [(self.stats.queued, "queued"), (self.stats.in_flight, "in flight")] {
            if count > 0 {
                write!(f, "; {count} still {place}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn drops_are_shown_by_their_reasons() {
        let mut stats = Stats {
            accepted: 5,
            delivered: 3,
            ..Stats::default()
        };
        stats.dropped[DropReason::Deadline.index()] = 2;
        assert!(stats.is_conserved());
        let shown = format!("{stats:?}");
        assert!(shown.contains("dropped: {Deadline: 2}"), "{shown}");
        let report = Report { stats };
        assert_eq!(report.lost(), 2);
        assert_eq!(
            format!("{report}"),
            "5 accepted: 3 delivered, 0 rejected, 2 dropped, 0 unknown; 2 dropped (deadline)"
        );
    }

    #[test]
    fn an_account_that_was_not_closed_shows_what_is_left() {
        let stats = Stats {
            accepted: 9,
            delivered: 2,
            queued: 4,
            in_flight: 3,
            ..Stats::default()
        };
        let report = Report { stats };
        assert_eq!(report.lost(), 7);
        assert_eq!(
            format!("{report}"),
            "9 accepted: 2 delivered, 0 rejected, 0 dropped, 0 unknown; 4 still queued; 3 still in flight"
        );
    }
}
