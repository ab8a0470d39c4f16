//! Open batches: what producers write into, one or more for each signal and set of own headers.

use super::keys::{Keys, OpenKey};
use crate::encode::{LogBatch, MetricBatch, Request, Signal, TraceBatch};
use crate::time::Instant;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

/// Closed batches among those that the driver has not seen, before they are tidied up.
const UNSEEN_SLACK: usize = 64;

/// Batches that are open at a time: each takes memory far beyond the bytes of the first items in it, which are all that the
/// bounds of a leg count.
const OPEN_MAX: usize = 1_024;

/// A batch that producers write into.
#[derive(Debug)]
pub enum OpenBatch {
    /// Of spans.
    Traces(TraceBatch),
    /// Of data points.
    Metrics(MetricBatch),
    /// Of log records.
    Logs(LogBatch),
}

impl OpenBatch {
    /// Items in it.
    pub fn items(&self) -> u64 {
        match self {
            Self::Traces(batch) => batch.len() as u64,
            Self::Metrics(batch) => batch.len() as u64,
            Self::Logs(batch) => batch.len() as u64,
        }
    }

    /// Bytes of its items.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Traces(batch) => batch.encoded_len() as u64,
            Self::Metrics(batch) => batch.encoded_len() as u64,
            Self::Logs(batch) => batch.encoded_len() as u64,
        }
    }

    /// Items that it refused for their size; they are not in it.
    fn refused(&self) -> u64 {
        match self {
            Self::Traces(batch) => batch.refused(),
            Self::Metrics(batch) => batch.refused(),
            Self::Logs(batch) => batch.refused(),
        }
    }

    fn finish(&mut self) -> Request {
        match self {
            Self::Traces(batch) => batch.finish(),
            Self::Metrics(batch) => batch.finish(),
            Self::Logs(batch) => batch.finish(),
        }
    }
}

/// An open batch in the hands of one producer, with the place that was reserved for what it writes.
///
/// It has to come back by [`Delivery::put_back`](super::Delivery::put_back), also when the writing panicked.
#[derive(Debug)]
#[must_use = "an open batch has to be put back"]
pub struct OpenTicket {
    /// The batch; none where none is open: the producer makes one of its resource.
    pub batch: Option<OpenBatch>,
    key: OpenKey,
    place: Place,
    reserved_items: u64,
    reserved_bytes: u64,
    items_close: u64,
    bytes_close: u64,
    sealed: Option<Request>,
}

impl OpenTicket {
    /// Makes the batch a request where it is full, which costs the more the larger it is: to be called outside every lock,
    /// after writing.
    pub fn seal(&mut self) {
        if let (Some(batch), None) = (&mut self.batch, &self.sealed) {
            if batch.items() >= self.items_close || batch.bytes() >= self.bytes_close {
                self.sealed = Some(self.key.own.apply(batch.finish()));
            }
        }
    }

    /// Which open batch it is.
    pub fn key(&self) -> &OpenKey {
        &self.key
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    slot: u32,
    generation: u64,
}

/// A batch that is closed: ready for the queues of the legs.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    pub key: OpenKey,
    pub seq: u64,
    pub epoch: u64,
    pub born: Option<Instant>,
    pub request: Request,
}

/// What came of putting a batch back.
#[derive(Debug, Default)]
pub(super) struct Returned {
    pub items_added: u64,
    /// Items that are counted and not there: the producer lost the batch, or it came back too late.
    pub items_lost: u64,
    pub epoch: u64,
    pub closed: Option<Closed>,
    /// An empty batch, to be dropped outside every lock.
    pub leftover: Option<OpenBatch>,
    /// What it was made into, to be dropped likewise.
    pub sealed: Option<Request>,
    /// Whether the batch is open and has not been seen by the driver.
    pub is_unseen: bool,
}

/// All open batches.
#[derive(Debug, Default)]
pub(super) struct OpenBatches {
    slots: Vec<Slot>,
    free: Vec<u32>,
    keys: Keys,
    /// When open batches are to be closed for their age, in order.
    ageing: VecDeque<(Instant, Place)>,
    /// Batches that the driver has not seen.
    unseen: Vec<Place>,
    /// Batches in the order of their opening, closed ones among them.
    opened: VecDeque<Place>,
    items: u64,
    bytes: u64,
    reserved_items: u64,
    reserved_bytes: u64,
    /// Batches in the hands of producers.
    out: usize,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u64,
    entry: Option<Entry>,
}

#[derive(Debug)]
struct Entry {
    key: OpenKey,
    /// None while it is out.
    batch: Option<OpenBatch>,
    is_out: bool,
    must_close: bool,
    /// Items that were given up while it was out: they count no more, and nor does it.
    written_off: Option<u64>,
    items: u64,
    bytes: u64,
    seq: u64,
    epoch: u64,
    born: Option<Instant>,
}

impl OpenBatches {
    /// Items in open batches.
    pub fn items(&self) -> u64 {
        self.items
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Items and bytes that producers are writing now.
    pub fn reserved(&self) -> (u64, u64) {
        (self.reserved_items, self.reserved_bytes)
    }

    /// Whether nothing is open and nobody writes.
    pub fn is_empty(&self) -> bool {
        self.items == 0 && self.out == 0
    }

    /// When the first open batch was first seen, less the time that it may stay open.
    pub fn next_close(&self) -> Option<Instant> {
        self.ageing.front().map(|(at, _)| *at)
    }

    /// When the oldest open batch was first seen.
    pub fn oldest_born(&self) -> Option<Instant> {
        let (_, place) = self.ageing.front()?;
        self.entry(*place)?.born
    }

    /// Takes an idle batch of the key out, or the place of a new one.
    pub fn take(
        &mut self,
        key: &OpenKey,
        seq: &mut u64,
        epoch: u64,
        reserve: (u64, u64),
        close: (u64, u64),
    ) -> OpenTicket {
        self.out += 1;
        self.reserved_items += reserve.0;
        self.reserved_bytes += reserve.1;
        let idle = self.keys.get_mut(key).and_then(|slot| slot.idle.pop_front());
        let (slot, batch) = match idle {
            Some(slot) => {
                let entry = self.slots[slot as usize]
                    .entry
                    .as_mut()
                    .expect("an idle batch is open");
                entry.is_out = true;
                (slot, entry.batch.take())
            }
            None => {
                *seq += 1;
                (self.add(key, *seq, epoch), None)
            }
        };
        OpenTicket {
            batch,
            key: key.clone(),
            place: Place {
                slot,
                generation: self.slots[slot as usize].generation,
            },
            reserved_items: reserve.0,
            reserved_bytes: reserve.1,
            items_close: close.0,
            bytes_close: close.1,
            sealed: None,
        }
    }

    /// Puts a batch back, and closes it where it is full or was to be closed meanwhile. `epoch` is the present one.
    pub fn put_back(&mut self, mut ticket: OpenTicket, epoch: u64) -> Returned {
        self.out -= 1;
        self.reserved_items -= ticket.reserved_items;
        self.reserved_bytes -= ticket.reserved_bytes;
        let place = ticket.place;
        let slot = &mut self.slots[place.slot as usize];
        let entry = slot.entry.as_mut().expect("a batch that is out keeps its place");
        let (items, bytes) = match (&ticket.sealed, &ticket.batch) {
            (Some(request), _) => (request.items(), request.encoded_len() as u64),
            (None, Some(batch)) => (batch.items(), batch.bytes()),
            (None, None) => (0, 0),
        };
        if let Some(counted) = entry.written_off {
            self.remove(place.slot);
            return Returned {
                items_added: items.saturating_sub(counted),
                items_lost: items.saturating_sub(counted),
                epoch,
                leftover: ticket.batch.take(),
                sealed: ticket.sealed.take(),
                ..Returned::default()
            };
        }
        if entry.items == 0 {
            entry.epoch = epoch;
        }
        let items_added = items.saturating_sub(entry.items);
        let items_lost = entry.items.saturating_sub(items);
        self.items = self.items + items - entry.items;
        self.bytes = self.bytes + bytes - entry.bytes;
        entry.items = items;
        entry.bytes = bytes;
        entry.is_out = false;
        let mut returned = Returned {
            items_added,
            items_lost,
            epoch: entry.epoch,
            ..Returned::default()
        };
        // One with nothing but what it refused is closed, to be counted.
        let is_full = items >= ticket.items_close || bytes >= ticket.bytes_close || items == 0;
        let is_nothing = items == 0 && ticket.batch.as_ref().is_none_or(|batch| batch.refused() == 0);
        if is_nothing && ticket.sealed.is_none() {
            returned.leftover = ticket.batch.take();
            self.remove(place.slot);
        } else if ticket.sealed.is_some() || is_full || entry.must_close {
            entry.batch = ticket.batch.take();
            let (closed, leftover) = self.close(place.slot, ticket.sealed.take());
            returned.closed = Some(closed);
            returned.leftover = leftover;
        } else {
            entry.batch = ticket.batch.take();
            returned.is_unseen = entry.born.is_none();
            let key = self.keys.get_mut(&ticket.key).expect("a key with an open batch");
            key.idle.push_back(place.slot);
        }
        returned
    }

    /// The driver sees what there is: ages run from now. Gives back whether anything was new.
    pub fn see(&mut self, now: Instant, timeout: Duration) {
        for place in core::mem::take(&mut self.unseen) {
            let slot = &mut self.slots[place.slot as usize];
            if slot.generation != place.generation {
                continue;
            }
            if let Some(entry) = &mut slot.entry {
                entry.born = Some(now);
                self.ageing.push_back((now + timeout, place));
            }
        }
    }

    /// Closes the next batch that is old enough. One that is out closes when it comes back.
    pub fn close_aged(&mut self, now: Instant) -> Option<(Closed, Option<OpenBatch>)> {
        while let Some((at, place)) = self.ageing.front().copied() {
            let Some(entry) = self.entry_mut(place) else {
                self.ageing.pop_front();
                continue;
            };
            if at > now {
                return None;
            }
            entry.must_close = true;
            let is_idle = !entry.is_out;
            self.ageing.pop_front();
            if is_idle {
                return Some(self.close_idle(place.slot));
            }
        }
        None
    }

    /// Closes everything, or what belongs to a key: what is out closes when it comes back.
    pub fn close_all(&mut self, key: Option<&OpenKey>, mut put: impl FnMut(Closed, Option<OpenBatch>)) {
        match key {
            Some(key) => {
                while let Some(slot) = self.keys.get(key).and_then(|slot| slot.idle.front().copied()) {
                    let (closed, leftover) = self.close_idle(slot);
                    put(closed, leftover);
                }
            }
            None => {
                let mut order: Vec<(u64, u32)> = Vec::new();
                for (at, slot) in self.slots.iter_mut().enumerate() {
                    if let Some(entry) = &mut slot.entry {
                        entry.must_close = true;
                        if !entry.is_out {
                            order.push((entry.seq, at as u32));
                        }
                    }
                }
                order.sort_unstable();
                for (_, slot) in order {
                    let (closed, leftover) = self.close_idle(slot);
                    put(closed, leftover);
                }
            }
        }
    }

    /// Closes the oldest where there are too many, but for those that are out.
    pub fn close_surplus(&mut self) -> Option<(Closed, Option<OpenBatch>)> {
        if self.live() <= OPEN_MAX {
            return None;
        }
        for _ in 0..self.opened.len() {
            let place = self.opened.pop_front()?;
            match self.entry(place).map(|entry| entry.is_out) {
                None => {}
                Some(true) => self.opened.push_back(place),
                Some(false) => return Some(self.close_idle(place.slot)),
            }
        }
        None
    }

    fn live(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Gives up what batches that are out had counted: tells the signal, the epoch and the items of each.
    pub fn write_off(&mut self, mut lose: impl FnMut(Signal, u64, u64)) {
        for entry in self.slots.iter_mut().filter_map(|slot| slot.entry.as_mut()) {
            if entry.is_out && entry.written_off.is_none() {
                let items = core::mem::take(&mut entry.items);
                self.items -= items;
                self.bytes -= core::mem::take(&mut entry.bytes);
                entry.written_off = Some(items);
                lose(entry.key.signal, entry.epoch, items);
            }
        }
    }

    /// Forgets the ages of batches that are closed.
    fn tidy(&mut self) {
        while let Some((_, place)) = self.ageing.front() {
            if self.entry(*place).is_some() {
                break;
            }
            self.ageing.pop_front();
        }
    }

    fn close_idle(&mut self, slot: u32) -> (Closed, Option<OpenBatch>) {
        let entry = self.slots[slot as usize]
            .entry
            .as_ref()
            .expect("an idle batch is open");
        let key = self.keys.get_mut(&entry.key).expect("a key with an open batch");
        key.idle.retain(|idle| *idle != slot);
        self.close(slot, None)
    }

    fn close(&mut self, slot: u32, sealed: Option<Request>) -> (Closed, Option<OpenBatch>) {
        let mut entry = self.remove(slot);
        self.items -= entry.items;
        self.bytes -= entry.bytes;
        let request = match sealed {
            Some(request) => request,
            None => {
                let batch = entry.batch.as_mut().expect("an idle batch is at its place");
                entry.key.own.apply(batch.finish())
            }
        };
        let closed = Closed {
            key: entry.key,
            seq: entry.seq,
            epoch: entry.epoch,
            born: entry.born,
            request,
        };
        (closed, entry.batch)
    }

    fn add(&mut self, key: &OpenKey, seq: u64, epoch: u64) -> u32 {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(Slot::default());
                (self.slots.len() - 1) as u32
            }
        };
        let place = &mut self.slots[slot as usize];
        place.generation += 1;
        place.entry = Some(Entry {
            key: key.clone(),
            batch: None,
            is_out: true,
            must_close: false,
            written_off: None,
            items: 0,
            bytes: 0,
            seq,
            epoch,
            born: None,
        });
        let place = Place {
            slot,
            generation: place.generation,
        };
        self.unseen.push(place);
        self.opened.push_back(place);
        // Batches that are closed meanwhile would be kept in mind for ever, the former where no driver looks.
        let (slots, kept_max) = (&self.slots, 2 * self.live() + UNSEEN_SLACK);
        let is_open = |place: &Place| slots[place.slot as usize].generation == place.generation;
        if self.unseen.len() > kept_max {
            self.unseen.retain(is_open);
        }
        if self.opened.len() > kept_max {
            self.opened.retain(is_open);
        }
        self.keys.add(key);
        slot
    }

    fn remove(&mut self, slot: u32) -> Entry {
        let place = &mut self.slots[slot as usize];
        place.generation += 1;
        let entry = place.entry.take().expect("an open batch");
        self.free.push(slot);
        self.keys.remove(&entry.key);
        self.tidy();
        entry
    }

    fn entry(&self, place: Place) -> Option<&Entry> {
        let slot = self.slots.get(place.slot as usize)?;
        slot.entry
            .as_ref()
            .filter(|_| slot.generation == place.generation)
    }

    fn entry_mut(&mut self, place: Place) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(place.slot as usize)?;
        slot.entry
            .as_mut()
            .filter(|_| slot.generation == place.generation)
    }
}
