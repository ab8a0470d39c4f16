//! A bounded queue of anything between many producers and its consumers: threads and tasks alike.
//!
//! It keeps the items in classes (the signals, where it holds telemetry), so that the oldest of one class is found at
//! once. Producers that wait and consumers that wait stand in a [`Line`] each. No waker and no value is dropped, and nobody
//! woken, under its lock.

use super::line::{Line, Place};
use crate::encode::Signal;
use crate::export::lock;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::task::{Context, Poll};
use std::sync::Mutex;

/// Classes that values are kept in.
const CLASSES: usize = Signal::ALL.len();

/// What a value takes of a queue's room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    /// One of a signal's indices; 0 where there are no classes.
    pub(crate) class: usize,
    pub(crate) items: u64,
    pub(crate) bytes: usize,
}

/// Why a value was not queued; it is handed back.
#[derive(Debug)]
pub(crate) enum Refused<T> {
    /// There is no room for it now.
    Full(T),
    /// There never is: it is larger than the whole queue.
    TooLarge(T),
    /// The queue was closed.
    Closed(T),
}

pub(crate) struct Bounded<T> {
    items_max: u64,
    bytes_max: usize,
    state: Mutex<State<T>>,
    producers: Line,
    consumers: Line,
}

struct State<T> {
    classes: [VecDeque<Entry<T>>; CLASSES],
    /// Number of the next value, by which the oldest of all classes is found.
    next: u64,
    items: u64,
    bytes: usize,
    /// Items and bytes of each class.
    sums: [(u64, usize); CLASSES],
    len: usize,
    /// Items that were taken out.
    popped: u64,
    is_closed: bool,
}

/// What a queue holds and has given, in one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) values: usize,
    pub(crate) items: u64,
    pub(crate) bytes: usize,
    pub(crate) popped: u64,
    /// Values that ever came in.
    pub(crate) pushed: u64,
}

struct Entry<T> {
    number: u64,
    weight: Weight,
    value: T,
}

impl<T> Bounded<T> {
    pub(crate) fn new(items_max: u64, bytes_max: usize) -> Self {
        Self {
            items_max,
            bytes_max,
            state: Mutex::new(State {
                classes: [const { VecDeque::new() }; CLASSES],
                next: 0,
                items: 0,
                bytes: 0,
                sums: [(0, 0); CLASSES],
                len: 0,
                popped: 0,
                is_closed: false,
            }),
            producers: Line::default(),
            consumers: Line::default(),
        }
    }

    /// Queues a value if there is room and nobody waits for some already.
    pub(crate) fn try_push(&self, value: T, weight: Weight) -> Result<(), Refused<T>> {
        if !self.producers.is_empty() && !lock(&self.state).is_closed {
            return Err(match self.is_too_large(weight) {
                true => Refused::TooLarge(value),
                false => Refused::Full(value),
            });
        }
        self.push_now(value, weight)
    }

    /// Queues the value that `value` holds, as soon as there is room and nobody waits before. `place` is the caller's place in
    /// the line; it has to [give it up](Self::forget_push) when it stops asking. `value` is empty once this is ready.
    pub(crate) fn poll_push(
        &self,
        cx: &mut Context<'_>,
        place: &mut Option<Place>,
        value: &mut Option<T>,
        weight: Weight,
    ) -> Poll<Result<(), Refused<T>>> {
        if place.is_none() && self.producers.is_empty() {
            match value.take().map(|value| self.push_now(value, weight)) {
                Some(Err(Refused::Full(back))) => *value = Some(back),
                done => return Poll::Ready(done.unwrap_or(Ok(()))),
            }
        }
        let may_try =
            self.producers.stand(place, cx.waker()) || self.is_too_large(weight) || self.is_closed();
        if !may_try {
            return Poll::Pending;
        }
        match value.take().map(|value| self.push_now(value, weight)) {
            Some(Err(Refused::Full(back))) => {
                *value = Some(back);
                Poll::Pending
            }
            done => {
                self.producers.leave(place);
                Poll::Ready(done.unwrap_or(Ok(())))
            }
        }
    }

    /// Nobody asks for this place any more.
    pub(crate) fn forget_push(&self, place: &mut Option<Place>) {
        self.producers.leave(place);
    }

    /// Queues a value now, removing the oldest of its class where that makes room, and hands those out. Where it cannot
    /// make enough, nothing is removed.
    pub(crate) fn push_evicting(&self, value: T, weight: Weight) -> Result<Vec<(T, Weight)>, Refused<T>> {
        if self.is_too_large(weight) {
            return Err(Refused::TooLarge(value));
        }
        let mut evicted = Vec::new();
        {
            let mut state = lock(&self.state);
            if state.is_closed {
                return Err(Refused::Closed(value));
            }
            let (items, bytes) = state.sums[weight.class];
            let fits_alone = (state.items - items).saturating_add(weight.items) <= self.items_max
                && (state.bytes - bytes).saturating_add(weight.bytes) <= self.bytes_max;
            if !fits_alone {
                return Err(Refused::Full(value));
            }
            while !self.fits(&state, weight) {
                let Some(entry) = state.pop_of(weight.class) else {
                    break;
                };
                evicted.push((entry.value, entry.weight));
            }
            state.push(value, weight);
        }
        self.consumers.wake_first();
        if !evicted.is_empty() {
            // It may have made more room than it took.
            self.producers.wake_first();
        }
        Ok(evicted)
    }

    /// The oldest value of all, if there is one.
    pub(crate) fn try_pop(&self) -> Option<T> {
        let value = lock(&self.state).pop();
        if value.is_some() {
            self.producers.wake_first();
        }
        value
    }

    /// The oldest value of all, as soon as there is one and nobody waits before; `None` once the queue is closed and empty.
    pub(crate) fn poll_pop(&self, cx: &mut Context<'_>, place: &mut Option<Place>) -> Poll<Option<T>> {
        let is_first = self.consumers.stand(place, cx.waker());
        let (value, is_over) = {
            let mut state = lock(&self.state);
            let value = if is_first { state.pop() } else { None };
            let is_over = state.is_closed && state.len == 0;
            (value, is_over)
        };
        if value.is_none() && !is_over {
            return Poll::Pending;
        }
        self.consumers.leave(place);
        if value.is_some() {
            self.producers.wake_first();
        }
        Poll::Ready(value)
    }

    /// Takes out the values that nobody wants any more. `is_wanted` is called under the lock.
    pub(crate) fn retain(&self, mut is_wanted: impl FnMut(&T) -> bool) {
        let mut unwanted = Vec::new();
        {
            let mut state = lock(&self.state);
            for class in 0..CLASSES {
                for _ in 0..state.classes[class].len() {
                    let Some(entry) = state.pop_of(class) else { break };
                    match is_wanted(&entry.value) {
                        true => state.put_back(class, entry),
                        false => unwanted.push(entry.value),
                    }
                }
            }
        }
        if !unwanted.is_empty() {
            self.producers.wake_first();
        }
    }

    /// Nobody asks for this place any more.
    pub(crate) fn forget_pop(&self, place: &mut Option<Place>) {
        self.consumers.leave(place);
    }

    /// Refuses further values; those queued can still be taken.
    pub(crate) fn close(&self) {
        lock(&self.state).is_closed = true;
        self.producers.wake_all();
        self.consumers.wake_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.state).is_closed
    }

    /// What it holds and has given.
    pub(crate) fn size(&self) -> Size {
        let state = lock(&self.state);
        Size {
            values: state.len,
            items: state.items,
            bytes: state.bytes,
            popped: state.popped,
            pushed: state.next,
        }
    }

    fn push_now(&self, value: T, weight: Weight) -> Result<(), Refused<T>> {
        if self.is_too_large(weight) {
            return Err(Refused::TooLarge(value));
        }
        {
            let mut state = lock(&self.state);
            if state.is_closed {
                return Err(Refused::Closed(value));
            }
            if !self.fits(&state, weight) {
                return Err(Refused::Full(value));
            }
            state.push(value, weight);
        }
        self.consumers.wake_first();
        Ok(())
    }

    fn is_too_large(&self, weight: Weight) -> bool {
        weight.items > self.items_max || weight.bytes > self.bytes_max
    }

    fn fits(&self, state: &State<T>, weight: Weight) -> bool {
        state.items.saturating_add(weight.items) <= self.items_max
            && state.bytes.saturating_add(weight.bytes) <= self.bytes_max
    }
}

impl<T> State<T> {
    fn push(&mut self, value: T, weight: Weight) {
        let number = self.next;
        self.next += 1;
        let entry = Entry {
            number,
            weight,
            value,
        };
        self.put_back(weight.class, entry);
    }

    fn pop(&mut self) -> Option<T> {
        let fronts = self.classes.iter().enumerate();
        let (_, class) = fronts
            .filter_map(|(class, values)| Some((values.front()?.number, class)))
            .min()?;
        let entry = self.pop_of(class)?;
        self.popped += entry.weight.items;
        Some(entry.value)
    }

    /// Puts back what was taken out, behind the others of its class.
    fn put_back(&mut self, class: usize, entry: Entry<T>) {
        let Weight { items, bytes, .. } = entry.weight;
        self.items += items;
        self.bytes += bytes;
        self.sums[class].0 += items;
        self.sums[class].1 += bytes;
        self.len += 1;
        self.classes[class].push_back(entry);
    }

    fn pop_of(&mut self, class: usize) -> Option<Entry<T>> {
        let entry = self.classes[class].pop_front()?;
        let Weight { items, bytes, .. } = entry.weight;
        self.items -= items;
        self.bytes -= bytes;
        self.sums[class].0 -= items;
        self.sums[class].1 -= bytes;
        self.len -= 1;
        Some(entry)
    }
}
