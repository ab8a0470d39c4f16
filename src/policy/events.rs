//! How often one may be told of the same thing.

use crate::time::Instant;
use alloc::vec::Vec;
use core::time::Duration;

/// Keys that are remembered; beyond them the one that was told longest ago is forgotten.
const SLOTS_MAX: usize = 256;

/// At most one event of a key an interval, with the counts of those kept back carried by the next one.
#[derive(Clone, Debug)]
pub(crate) struct EventLimiter<K> {
    interval: Duration,
    slots: Vec<Slot<K>>,
}

/// What was kept back since the last event that was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeptBack {
    /// Events.
    pub(crate) events: u64,
    /// The items that they spoke of.
    pub(crate) items: u64,
}

#[derive(Clone, Debug)]
struct Slot<K> {
    key: K,
    /// When the next event may be told.
    free_at: Instant,
    kept_back: KeptBack,
}

impl<K: PartialEq> EventLimiter<K> {
    /// One event of a key every `interval`.
    pub(crate) const fn new(interval: Duration) -> Self {
        Self {
            interval,
            slots: Vec::new(),
        }
    }

    /// Tells an event now, with what was kept back before it; or keeps it back, with the items that it speaks of.
    pub(crate) fn try_tell(&mut self, now: Instant, key: K, items: u64) -> Option<KeptBack> {
        if now < self.free_at(&key) {
            self.keep_back(key, items);
            return None;
        }
        let until = now + self.interval;
        let slot = self.slot(key);
        slot.free_at = until;
        Some(core::mem::take(&mut slot.kept_back))
    }

    /// Keeps an event back, whether or not it might be told.
    pub(crate) fn keep_back(&mut self, key: K, items: u64) {
        let kept_back = &mut self.slot(key).kept_back;
        kept_back.events = kept_back.events.saturating_add(1);
        kept_back.items = kept_back.items.saturating_add(items);
    }

    /// When the next event of a key may be told.
    pub(crate) fn free_at(&self, key: &K) -> Instant {
        let slot = self.slots.iter().find(|slot| slot.key == *key);
        slot.map_or(Instant::ZERO, |slot| slot.free_at)
    }

    /// Lets the next event of a key be told at once.
    pub(crate) fn release(&mut self, key: &K) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.key == *key) {
            slot.free_at = Instant::ZERO;
        }
    }

    fn slot(&mut self, key: K) -> &mut Slot<K> {
        let known = self.slots.iter().position(|slot| slot.key == key);
        let at = known.unwrap_or_else(|| {
            let new = Slot {
                key,
                free_at: Instant::ZERO,
                kept_back: KeptBack::default(),
            };
            if self.slots.len() < SLOTS_MAX {
                self.slots.push(new);
                return self.slots.len() - 1;
            }
            let oldest = (0..self.slots.len()).min_by_key(|&at| self.slots[at].free_at);
            let at = oldest.unwrap_or_default();
            self.slots[at] = new;
            at
        });
        &mut self.slots[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(secs: u64) -> Instant {
        Instant::from_millis(secs * 1_000)
    }

    #[test]
    fn one_a_minute_is_told_and_carries_those_kept_back() {
        let mut limiter = EventLimiter::new(MINUTE);
        assert_eq!(limiter.try_tell(at(5), 'a', 1), Some(KeptBack::default()));
        for secs in 5..65 {
            assert_eq!(limiter.try_tell(at(secs), 'a', 10), None, "{secs}");
        }
        let kept_back = KeptBack {
            events: 60,
            items: 600,
        };
        assert_eq!(limiter.free_at(&'a'), at(65));
        assert_eq!(limiter.try_tell(at(65), 'a', 10), Some(kept_back));
        assert_eq!(limiter.try_tell(at(125), 'a', 10), Some(KeptBack::default()));
    }

    #[test]
    fn keys_do_not_wait_for_one_another() {
        let mut limiter = EventLimiter::new(MINUTE);
        for key in 'a'..='z' {
            assert!(limiter.try_tell(at(0), key, 0).is_some());
            assert!(limiter.try_tell(at(0), key, 0).is_none());
        }
    }

    #[test]
    fn keys_without_an_end_are_forgotten_the_oldest_first() {
        let mut limiter = EventLimiter::new(MINUTE);
        for key in 0..10 * SLOTS_MAX as u64 {
            assert!(limiter.try_tell(at(key), key, 0).is_some());
        }
        assert_eq!(limiter.slots.len(), SLOTS_MAX);
        let last = 10 * SLOTS_MAX as u64 - 1;
        assert!(limiter.try_tell(at(last), last, 0).is_none());
        assert!(
            limiter.try_tell(at(last), last - SLOTS_MAX as u64, 0).is_some(),
            "one that was forgotten"
        );
    }

    #[test]
    fn a_clock_that_stands_or_ends_keeps_back() {
        let mut limiter = EventLimiter::new(MINUTE);
        assert!(limiter.try_tell(Instant::MAX, 'a', 0).is_some());
        assert_eq!(limiter.free_at(&'a'), Instant::MAX, "the sum stops there");
        limiter.keep_back('b', 3);
        assert_eq!(limiter.try_tell(Instant::ZERO, 'b', 1).map(|k| k.items), Some(3));
        assert!(limiter.try_tell(Instant::ZERO, 'b', 1).is_none());
        limiter.release(&'b');
        assert!(limiter.try_tell(Instant::ZERO, 'b', 1).is_some());
    }
}
