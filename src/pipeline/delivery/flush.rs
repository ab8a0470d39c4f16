//! Flushes: what was admitted before one, and when the last of it settled.
//!
//! Items belong to an epoch; a flush ends the epoch and is over when that and all before it are settled. Epochs end in order,
//! so that a fact costs the same however many flushes wait.

use super::types::FlushId;
use crate::outcome::ItemCounts;
use crate::pipeline::stats::FlushReport;
use crate::time::Instant;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

/// The epochs that have items, and the flushes that wait for them.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    /// The number of the first one in `live`.
    first: u64,
    /// The last one is the present one.
    live: VecDeque<Epoch>,
    /// What settled in epochs that are over.
    retired: ItemCounts,
    deadlines: BTreeSet<(Instant, FlushId, u64)>,
}

#[derive(Debug, Default)]
struct Epoch {
    /// Items that are not settled, counted once for each leg.
    pending: u64,
    settled: ItemCounts,
    waiting: Vec<Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    flush: FlushId,
    until: Instant,
    /// What had settled of its epochs and all before when it came.
    before: ItemCounts,
}

/// A flush that is over.
pub(super) type Answer = (FlushId, FlushReport);

impl Epochs {
    /// The epoch that items of now belong to.
    pub fn present(&mut self) -> u64 {
        if self.live.is_empty() {
            self.live.push_back(Epoch::default());
        }
        self.first + self.live.len() as u64 - 1
    }

    /// Items came.
    pub fn add(&mut self, epoch: u64, items: u64) {
        self.epoch(epoch).pending += items;
    }

    /// Items settled.
    pub fn settle(&mut self, epoch: u64, counts: ItemCounts) {
        let epoch = self.epoch(epoch);
        debug_assert!(epoch.pending >= counts.total(), "more settled than came");
        epoch.pending = epoch.pending.saturating_sub(counts.total());
        epoch.settled += counts;
    }

    /// A flush waits for everything so far. Where there is nothing, the answer comes with the next [`poll`](Self::poll).
    pub fn flush(&mut self, flush: FlushId, until: Instant) {
        let epoch = self.present();
        let mut before = self.retired;
        for live in &self.live {
            before += live.settled;
        }
        self.deadlines.insert((until, flush, epoch));
        self.epoch(epoch).waiting.push(Waiting { flush, until, before });
        self.live.push_back(Epoch::default());
    }

    /// The next flush that is over: settled, or out of time.
    pub fn poll(&mut self, now: Instant, answers: &mut Vec<Answer>) {
        while self.live.len() > 1 && self.live[0].pending == 0 {
            let epoch = self.live.pop_front().expect("just seen");
            self.retired += epoch.settled;
            for waiting in epoch.waiting {
                self.deadlines.remove(&(waiting.until, waiting.flush, self.first));
                let report = FlushReport {
                    counts: less(self.retired, waiting.before),
                    pending: 0,
                };
                answers.push((waiting.flush, report));
            }
            self.first += 1;
        }
        while let Some((until, flush, epoch)) = self.deadlines.first().copied() {
            if until > now {
                break;
            }
            self.deadlines.pop_first();
            let at = (epoch - self.first) as usize;
            let (mut settled, mut pending) = (self.retired, 0);
            for live in self.live.iter().take(at + 1) {
                settled += live.settled;
                pending += live.pending;
            }
            let waiting = &mut self.live[at].waiting;
            let Some(place) = waiting.iter().position(|waiting| waiting.flush == flush) else {
                continue;
            };
            let waiting = waiting.swap_remove(place);
            let report = FlushReport {
                counts: less(settled, waiting.before),
                pending,
            };
            answers.push((flush, report));
        }
    }

    /// What a flush would be answered now; nothing where it was answered already, or never came.
    pub fn so_far(&self, flush: FlushId) -> Option<FlushReport> {
        let (mut settled, mut pending) = (self.retired, 0);
        for live in &self.live {
            settled += live.settled;
            pending += live.pending;
            if let Some(waiting) = live.waiting.iter().find(|waiting| waiting.flush == flush) {
                return Some(FlushReport {
                    counts: less(settled, waiting.before),
                    pending,
                });
            }
        }
        None
    }

    /// When the time of a flush is over.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, ..)| *at)
    }

    fn epoch(&mut self, epoch: u64) -> &mut Epoch {
        self.present();
        let at = epoch
            .checked_sub(self.first)
            .expect("an epoch with items is live");
        &mut self.live[at as usize]
    }
}

fn less(all: ItemCounts, before: ItemCounts) -> ItemCounts {
    ItemCounts {
        delivered: all.delivered - before.delivered,
        rejected: all.rejected - before.rejected,
        dropped: all.dropped - before.dropped,
        unknown: all.unknown - before.unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Instant = Instant::from_millis(1_000);

    fn delivered(items: u64) -> ItemCounts {
        ItemCounts {
            delivered: items,
            ..ItemCounts::default()
        }
    }

    fn poll(epochs: &mut Epochs, now: Instant) -> Vec<(u64, u64, u64)> {
        let mut answers = Vec::new();
        epochs.poll(now, &mut answers);
        let plain = |(flush, report): Answer| (flush.0, report.counts.total(), report.pending);
        answers.into_iter().map(plain).collect()
    }

    #[test]
    fn a_flush_of_nothing_is_over_at_once() {
        let mut epochs = Epochs::default();
        epochs.flush(FlushId(1), LATER);
        assert_eq!(poll(&mut epochs, Instant::ZERO), [(1, 0, 0)]);
        assert_eq!(epochs.next_deadline(), None);
    }

    #[test]
    fn a_flush_tells_what_settled_since_it_came() {
        let mut epochs = Epochs::default();
        let one = epochs.present();
        epochs.add(one, 10);
        epochs.settle(one, delivered(3));
        epochs.flush(FlushId(1), LATER);
        let two = epochs.present();
        epochs.add(two, 5);
        epochs.settle(one, delivered(2));
        epochs.flush(FlushId(2), LATER);
        // The later epoch settles first.
        epochs.settle(two, delivered(5));
        assert_eq!(poll(&mut epochs, Instant::ZERO), []);
        epochs.settle(one, delivered(5));
        assert_eq!(poll(&mut epochs, Instant::ZERO), [(1, 7, 0), (2, 10, 0)]);
        assert_eq!(epochs.next_deadline(), None);
    }

    #[test]
    fn a_flush_out_of_time_tells_what_is_left_and_is_answered_once() {
        let mut epochs = Epochs::default();
        let one = epochs.present();
        epochs.add(one, 10);
        epochs.flush(FlushId(1), LATER);
        epochs.settle(one, delivered(4));
        assert_eq!(epochs.next_deadline(), Some(LATER));
        assert_eq!(poll(&mut epochs, LATER), [(1, 4, 6)]);
        epochs.settle(one, delivered(6));
        assert_eq!(poll(&mut epochs, LATER), []);
    }
}
