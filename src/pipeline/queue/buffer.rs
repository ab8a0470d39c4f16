//! A bounded FIFO of lanes: entries of one lane stay in order, the lanes of one queue share its bounds.
//!
//! Owns the entries, their order and their sums. Never decides what is exported when, and never reads a clock.

use crate::encode::Signal;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::hash::Hash;
use std::collections::HashMap;

/// What a [`Buffer`] knows of an entry.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// Its place in the order of admission, of all lanes; unique.
    pub seq: u64,
    /// Its items.
    pub items: u64,
    /// Its bytes.
    pub bytes: u64,
    /// What is queued.
    pub value: T,
}

/// The name of a lane as long as it holds anything, or is [kept](Buffer::release).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u32);

impl LaneId {
    /// Its position in a table of lanes.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Many FIFO lanes, one for each key, with sums over all and an order over the oldest entries of each signal.
///
/// Putting in, taking out and evicting cost the logarithm of the number of lanes. The caller keeps the bounds: it knows
/// what else shares them.
#[derive(Debug)]
pub struct Buffer<K, T> {
    lanes: Vec<Option<Lane<K, T>>>,
    free: Vec<u32>,
    index: HashMap<K, LaneId>,
    /// The first entries of lanes that hold any, by signal.
    heads: [BTreeSet<(u64, LaneId)>; Signal::ALL.len()],
    items: u64,
    bytes: u64,
    /// Items and bytes of each signal.
    sums: [(u64, u64); Signal::ALL.len()],
    len: usize,
}

#[derive(Debug)]
struct Lane<K, T> {
    key: K,
    signal: Signal,
    entries: VecDeque<Entry<T>>,
    items: u64,
    bytes: u64,
}

impl<K: Clone + Eq + Hash, T> Default for Buffer<K, T> {
    fn default() -> Self {
        Self {
            lanes: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            heads: Default::default(),
            items: 0,
            bytes: 0,
            sums: Default::default(),
            len: 0,
        }
    }
}

impl<K: Clone + Eq + Hash, T> Buffer<K, T> {
    /// Items in all lanes.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Bytes in all lanes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Items and bytes of a signal: what evicting all of it would free.
    pub fn signal_sums(&self, signal: Signal) -> (u64, u64) {
        self.sums[signal.index()]
    }

    /// Entries in all lanes.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no lane holds anything.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The lane of `key`, made where there is none.
    pub fn lane(&mut self, key: &K, signal: Signal) -> LaneId {
        if let Some(lane) = self.index.get(key) {
            return *lane;
        }
        let lane = Lane {
            key: key.clone(),
            signal,
            entries: VecDeque::new(),
            items: 0,
            bytes: 0,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.lanes[id as usize] = Some(lane);
                LaneId(id)
            }
            None => {
                let id = u32::try_from(self.lanes.len()).expect("fewer lanes than items in memory");
                self.lanes.push(Some(lane));
                LaneId(id)
            }
        };
        self.index.insert(key.clone(), id);
        id
    }

    /// Forgets an empty lane; its name may be given to another one then.
    pub fn release(&mut self, lane: LaneId) {
        let is_empty = self.lanes[lane.index()]
            .as_ref()
            .is_some_and(|lane| lane.entries.is_empty());
        if is_empty {
            let gone = self.lanes[lane.index()].take().expect("just seen");
            self.index.remove(&gone.key);
            self.free.push(lane.0);
        }
    }

    /// Puts an entry where its place in the order of admission is: behind all, but for one that was late.
    pub fn push_back(&mut self, lane: LaneId, entry: Entry<T>) {
        let entries = &self.held(lane).entries;
        let behind = entries.iter().rev().take_while(|other| other.seq > entry.seq);
        let at = entries.len() - behind.count();
        self.insert(lane, at, entry);
    }

    /// Puts an entry back that was taken out: before all that were admitted after it.
    pub fn push_front(&mut self, lane: LaneId, entry: Entry<T>) {
        let entries = &self.held(lane).entries;
        let at = entries.iter().take_while(|other| other.seq < entry.seq).count();
        self.insert(lane, at, entry);
    }

    /// Takes the first entry of a lane.
    pub fn pop_front(&mut self, lane: LaneId) -> Option<Entry<T>> {
        let old = self.head_seq(lane);
        let held = self.lanes[lane.index()].as_mut()?;
        let entry = held.entries.pop_front()?;
        held.items -= entry.items;
        held.bytes -= entry.bytes;
        let sums = &mut self.sums[held.signal.index()];
        *sums = (sums.0 - entry.items, sums.1 - entry.bytes);
        self.items -= entry.items;
        self.bytes -= entry.bytes;
        self.len -= 1;
        self.reorder(lane, old);
        Some(entry)
    }

    /// Takes the oldest entry of a signal.
    pub fn evict(&mut self, signal: Signal) -> Option<(LaneId, Entry<T>)> {
        let (_, lane) = *self.heads[signal.index()].first()?;
        Some((lane, self.pop_front(lane)?))
    }

    /// The entries of a lane, the oldest first.
    pub fn entries(&self, lane: LaneId) -> impl DoubleEndedIterator<Item = &Entry<T>> + ExactSizeIterator {
        self.held(lane).entries.iter()
    }

    /// The last `count` entries of a lane, to be changed.
    pub fn last_mut(&mut self, lane: LaneId, count: usize) -> impl Iterator<Item = &mut Entry<T>> {
        let held = self.lanes[lane.index()]
            .as_mut()
            .expect("a lane that was released");
        let skipped = held.entries.len().saturating_sub(count);
        held.entries.range_mut(skipped..)
    }

    /// The first entry of a lane.
    pub fn front(&self, lane: LaneId) -> Option<&Entry<T>> {
        self.lanes.get(lane.index())?.as_ref()?.entries.front()
    }

    /// The oldest entry of all lanes.
    pub fn oldest(&self) -> Option<&Entry<T>> {
        let heads = self.heads.iter().filter_map(|heads| heads.first());
        self.front(heads.min()?.1)
    }

    /// Items, bytes and entries of a lane.
    pub fn lane_sums(&self, lane: LaneId) -> (u64, u64, usize) {
        let held = self.held(lane);
        (held.items, held.bytes, held.entries.len())
    }

    /// The signal of a lane.
    pub fn signal(&self, lane: LaneId) -> Signal {
        self.held(lane).signal
    }

    /// The lanes that hold anything.
    pub fn filled(&self) -> Vec<LaneId> {
        self.heads.iter().flatten().map(|(_, lane)| *lane).collect()
    }

    /// Lanes there are, the empty ones that are kept included.
    #[cfg(test)]
    pub fn lane_count(&self) -> usize {
        self.index.len()
    }

    fn held(&self, lane: LaneId) -> &Lane<K, T> {
        self.lanes[lane.index()]
            .as_ref()
            .expect("a lane that was released")
    }

    fn head_seq(&self, lane: LaneId) -> Option<u64> {
        self.front(lane).map(|entry| entry.seq)
    }

    fn insert(&mut self, lane: LaneId, at: usize, entry: Entry<T>) {
        let old = self.head_seq(lane);
        self.items += entry.items;
        self.bytes += entry.bytes;
        self.len += 1;
        let held = self.lanes[lane.index()]
            .as_mut()
            .expect("a lane that was released");
        held.items += entry.items;
        held.bytes += entry.bytes;
        let sums = &mut self.sums[held.signal.index()];
        *sums = (sums.0 + entry.items, sums.1 + entry.bytes);
        held.entries.insert(at, entry);
        self.reorder(lane, old);
    }

    /// Follows a change of a lane's first entry.
    fn reorder(&mut self, lane: LaneId, old: Option<u64>) {
        let new = self.head_seq(lane);
        if new == old {
            return;
        }
        let heads = &mut self.heads[self.held(lane).signal.index()];
        if let Some(old) = old {
            heads.remove(&(old, lane));
        }
        if let Some(new) = new {
            let heads = &mut self.heads[self.held(lane).signal.index()];
            heads.insert((new, lane));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64, items: u64) -> Entry<u64> {
        Entry {
            seq,
            items,
            bytes: items * 10,
            value: seq,
        }
    }

    #[test]
    fn what_returns_goes_before_what_came_after_it() {
        let mut buffer = Buffer::default();
        let lane = buffer.lane(&'a', Signal::Traces);
        for seq in 0..4 {
            buffer.push_back(lane, entry(seq, 1));
        }
        let first = buffer.pop_front(lane).unwrap();
        let second = buffer.pop_front(lane).unwrap();
        // The older one returns first, then the younger one.
        buffer.push_front(lane, first);
        buffer.push_front(lane, second);
        let order: Vec<u64> = buffer.entries(lane).map(|entry| entry.seq).collect();
        assert_eq!(order, [0, 1, 2, 3]);
    }

    #[test]
    fn a_late_entry_takes_its_place() {
        let mut buffer = Buffer::default();
        let lane = buffer.lane(&'a', Signal::Logs);
        for seq in [1, 3, 4, 2] {
            buffer.push_back(lane, entry(seq, 1));
        }
        let order: Vec<u64> = buffer.entries(lane).map(|entry| entry.seq).collect();
        assert_eq!(order, [1, 2, 3, 4]);
    }

    #[test]
    fn eviction_takes_the_oldest_of_the_signal_alone() {
        let mut buffer = Buffer::default();
        let spans = buffer.lane(&'a', Signal::Traces);
        let other_spans = buffer.lane(&'b', Signal::Traces);
        let logs = buffer.lane(&'c', Signal::Logs);
        buffer.push_back(logs, entry(0, 1));
        buffer.push_back(spans, entry(2, 1));
        buffer.push_back(other_spans, entry(1, 1));
        assert_eq!(
            buffer.evict(Signal::Traces).map(|(lane, e)| (lane, e.seq)),
            Some((other_spans, 1))
        );
        assert_eq!(
            buffer.evict(Signal::Traces).map(|(lane, e)| (lane, e.seq)),
            Some((spans, 2))
        );
        assert!(buffer.evict(Signal::Traces).is_none());
        assert_eq!((buffer.len(), buffer.items(), buffer.bytes()), (1, 1, 10));
        assert_eq!(buffer.oldest().map(|entry| entry.seq), Some(0));
        assert_eq!(buffer.signal_sums(Signal::Traces), (0, 0));
        assert_eq!(buffer.signal_sums(Signal::Logs), (1, 10));
    }

    #[test]
    fn a_released_lane_leaves_nothing_behind() {
        let mut buffer: Buffer<u32, u64> = Buffer::default();
        for key in 0..1_000 {
            let lane = buffer.lane(&key, Signal::Metrics);
            buffer.push_back(lane, entry(u64::from(key), 2));
            buffer.release(lane);
            assert_eq!(buffer.lane_count(), 1, "a lane that holds something stays");
            buffer.pop_front(lane);
            buffer.release(lane);
        }
        assert_eq!((buffer.lane_count(), buffer.lanes.len()), (0, 1));
        assert_eq!((buffer.items(), buffer.bytes(), buffer.len()), (0, 0, 0));
    }
}
