//! Flushes: what was admitted before one, and when the last of it settled.
//!
//! Items belong to an epoch; a flush ends the epoch and is over when that and all before it are settled. Epochs end in order,
//! so that a fact costs the same however many flushes wait. There is a bound to the epochs: flushes beyond it share one.

use super::types::FlushId;
use crate::outcome::ItemCounts;
use crate::pipeline::stats::FlushReport;
use crate::time::Instant;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

/// Epochs at a time. A flush beyond them waits for what is admitted after it too, until an older epoch is over.
const EPOCHS_MAX: usize = 256;

/// The epochs that have items, and the flushes that wait for them.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    /// The number of the first one in `live`.
    first: u64,
    /// The last one is the present one.
    live: VecDeque<Epoch>,
    /// What settled in epochs that are over.
    retired: ItemCounts,
    /// What settled in all epochs.
    settled: ItemCounts,
    flushes: BTreeMap<FlushId, Waiting>,
    deadlines: BTreeSet<(Instant, FlushId)>,
}

#[derive(Debug, Default)]
struct Epoch {
    /// Items that are not settled, counted once for each leg.
    pending: u64,
    settled: ItemCounts,
    waiting: BTreeSet<FlushId>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    epoch: u64,
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
        if counts.total() == 0 {
            return;
        }
        self.settled += counts;
        let epoch = self.epoch(epoch);
        debug_assert!(epoch.pending >= counts.total(), "more settled than came");
        epoch.pending = epoch.pending.saturating_sub(counts.total());
        epoch.settled += counts;
    }

    /// A flush waits for everything so far. Where there is nothing, the answer comes with the next [`poll`](Self::poll).
    pub fn flush(&mut self, flush: FlushId, until: Instant) {
        self.forget(flush);
        let mut epoch = self.present();
        // Where nothing came since the last flush, both wait for the same.
        let present = self.epoch(epoch);
        let is_unused = present.pending == 0 && present.settled.total() == 0 && present.waiting.is_empty();
        if is_unused && self.live.len() > 1 {
            epoch -= 1;
        }
        let before = self.settled;
        self.flushes.insert(flush, Waiting { epoch, until, before });
        self.deadlines.insert((until, flush));
        self.epoch(epoch).waiting.insert(flush);
        self.end_present();
    }

    /// Nobody waits for this flush any more.
    pub fn forget(&mut self, flush: FlushId) {
        if let Some(waiting) = self.flushes.remove(&flush) {
            self.deadlines.remove(&(waiting.until, flush));
            self.epoch(waiting.epoch).waiting.remove(&flush);
        }
    }

    /// The next flush that is over: settled, or out of time.
    pub fn poll(&mut self, now: Instant, answers: &mut Vec<Answer>) {
        while self.live.len() > 1 && self.live[0].pending == 0 {
            let epoch = self.live.pop_front().expect("just seen");
            self.first += 1;
            self.retired += epoch.settled;
            for flush in epoch.waiting {
                let Some(waiting) = self.flushes.remove(&flush) else {
                    continue;
                };
                self.deadlines.remove(&(waiting.until, flush));
                let report = FlushReport {
                    counts: less(self.retired, waiting.before),
                    pending: 0,
                };
                answers.push((flush, report));
            }
            self.end_present();
        }
        while let Some((until, flush)) = self.deadlines.first().copied() {
            if until > now {
                break;
            }
            let report = self.so_far(flush);
            self.forget(flush);
            self.deadlines.remove(&(until, flush));
            answers.extend(report.map(|report| (flush, report)));
        }
    }

    /// What a flush would be answered now; nothing where it was answered already, or never came.
    pub fn so_far(&self, flush: FlushId) -> Option<FlushReport> {
        let waiting = self.flushes.get(&flush)?;
        let (mut settled, mut pending) = (self.retired, 0);
        let count = (waiting.epoch - self.first) as usize + 1;
        for live in self.live.iter().take(count) {
            settled += live.settled;
            pending += live.pending;
        }
        Some(FlushReport {
            counts: less(settled, waiting.before),
            pending,
        })
    }

    /// When the time of a flush is over.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, ..)| *at)
    }

    /// Ends the present epoch where a flush waits for it, unless there are too many.
    fn end_present(&mut self) {
        let is_waited_for = self.live.back().is_some_and(|epoch| !epoch.waiting.is_empty());
        if is_waited_for && self.live.len() < EPOCHS_MAX {
            self.live.push_back(Epoch::default());
        }
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

    #[test]
    fn flushes_without_end_take_bounded_room_and_are_all_answered() {
        let mut epochs = Epochs::default();
        let mut came = Vec::new();
        for flush in 0..5_000 {
            came.push(epochs.present());
            epochs.add(epochs.first + epochs.live.len() as u64 - 1, 1);
            epochs.flush(FlushId(flush), LATER);
        }
        assert_eq!(epochs.live.len(), EPOCHS_MAX);
        for flush in 0..5_000 {
            epochs.forget(FlushId(flush * 2));
        }
        assert_eq!(epochs.flushes.len(), 2_500);
        for epoch in came.drain(..) {
            epochs.settle(epoch, delivered(1));
        }
        let answers = poll(&mut epochs, Instant::ZERO);
        assert_eq!(answers.len(), 2_500);
        let counts = answers.iter().map(|(flush, settled, _)| (*flush, *settled));
        // Each tells at least what came before it.
        assert!(counts.into_iter().all(|(flush, settled)| settled > flush));
        assert_eq!((epochs.live.len(), epochs.flushes.len()), (1, 0));
        assert_eq!(epochs.next_deadline(), None);
    }

    #[test]
    fn flushes_with_nothing_between_them_share_an_epoch() {
        let mut epochs = Epochs::default();
        let one = epochs.present();
        epochs.add(one, 1);
        for flush in 0..100 {
            epochs.flush(FlushId(flush), LATER);
        }
        assert_eq!(epochs.live.len(), 2);
        epochs.settle(one, delivered(1));
        assert_eq!(poll(&mut epochs, Instant::ZERO).len(), 100);
    }
}
