//! The queue of events, each kind of an endpoint at most once a minute.

use super::{Event, EventKind, Transition};
use crate::policy::{EventLimiter, KeptBack};
use crate::time::Instant;
use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use core::time::Duration;

/// How often one event of a kind and an endpoint is told.
const INTERVAL: Duration = Duration::from_secs(60);

/// Events that wait for whoever takes them; beyond them they are kept back.
const QUEUE_MAX: usize = 64;

/// Events to be told. An engine has its own, as may every other layer that has something to tell.
#[derive(Debug)]
pub(crate) struct Events {
    is_on: bool,
    limiter: EventLimiter<Key>,
    queue: VecDeque<Event<'static>>,
}

type Key = (EventKind, Option<Arc<str>>);

impl Events {
    /// Nobody listens yet.
    pub(crate) const fn new() -> Self {
        Self {
            is_on: false,
            limiter: EventLimiter::new(INTERVAL),
            queue: VecDeque::new(),
        }
    }

    /// Says whether anybody listens. Nothing is made, counted or formatted while nobody does, and what is queued is dropped.
    pub(crate) fn listen(&mut self, is_on: bool) {
        self.is_on = is_on;
        if !is_on {
            self.queue.clear();
        }
    }

    /// Whether anybody listens.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether an event waits to be taken.
    #[cfg(feature = "std")]
    pub(crate) fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(crate) fn poll(&mut self) -> Option<Event<'static>> {
        self.queue.pop_front()
    }

    /// Tells of something that happened to `items`, unless the like was told a short while ago. `make` is asked for the
    /// words where it is told. Whether it was.
    pub(crate) fn tell(
        &mut self,
        now: Instant,
        endpoint: Option<&Arc<str>>,
        kind: EventKind,
        items: u64,
        make: impl FnOnce() -> Transition<'static>,
    ) -> bool {
        if !self.is_on {
            return false;
        }
        let key = (kind, endpoint.cloned());
        if self.queue.len() >= QUEUE_MAX {
            self.limiter.keep_back(key, items);
            return false;
        }
        let Some(kept_back) = self.limiter.try_tell(now, key, items) else {
            return false;
        };
        self.queue_up(now, endpoint, make(), kept_back);
        true
    }

    /// Tells of something that the caller tells later if it cannot be told now: it does not count as kept back then. Whether
    /// it was told.
    pub(crate) fn try_tell(
        &mut self,
        now: Instant,
        endpoint: &Arc<str>,
        kind: EventKind,
        make: impl FnOnce() -> Transition<'static>,
    ) -> bool {
        let is_free = self.free_at(endpoint, kind).is_some_and(|at| at <= now);
        is_free && self.tell(now, Some(endpoint), kind, 0, make)
    }

    /// Counts an event that is never told by itself.
    pub(crate) fn keep_back(&mut self, endpoint: &Arc<str>, kind: EventKind) {
        if self.is_on {
            self.limiter.keep_back((kind, Some(endpoint.clone())), 0);
        }
    }

    /// When an event may be told; `None` until one is taken, or while nobody listens.
    pub(crate) fn free_at(&self, endpoint: &Arc<str>, kind: EventKind) -> Option<Instant> {
        let has_room = self.is_on && self.queue.len() < QUEUE_MAX;
        has_room.then(|| self.limiter.free_at(&(kind, Some(endpoint.clone()))))
    }

    /// Lets the next event be told at once: there is no later.
    pub(crate) fn release(&mut self, endpoint: Option<&Arc<str>>, kind: EventKind) {
        self.limiter.release(&(kind, endpoint.cloned()));
    }

    fn queue_up(
        &mut self,
        now: Instant,
        endpoint: Option<&Arc<str>>,
        transition: Transition<'static>,
        kept_back: KeptBack,
    ) {
        let event = Event {
            endpoint: endpoint.map(|name| Cow::Owned(String::from(&**name))),
            transition,
            at: now,
            kept_back: kept_back.events,
            kept_back_items: kept_back.items,
        };
        debug_assert!(self.queue.len() < QUEUE_MAX);
        self.queue.push_back(event);
    }
}
