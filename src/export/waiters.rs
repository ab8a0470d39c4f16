//! Who is to be woken when a socket, a timer or an outcome is ready.
//!
//! Sockets and timers of a channel know one waker only: the [`Hub`]'s. The hub knows the wakers of the futures that
//! were polled last, and passes every wake on to all of them, or to the driver alone while one lives and keeps up. Foreign
//! wakers are cloned, woken and dropped outside every lock, the channel's included: a wake that arrives while the channel is
//! pumped is kept until the pump has ended.

use super::sync::{AtomicUsize, Mutex, Ordering, lock};
use crate::foreign::shield;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::task::Waker;

/// Wakers taken out of the list at a time, so that a wake allocates nothing.
const BATCH: usize = 16;

/// The place of one future in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(usize);

/// What all sockets and timers of a channel wake.
pub(crate) struct Hub {
    list: Mutex<List>,
    /// [`PUMPING`] while a future holds the channel, [`WOKEN`] when a wake came meanwhile.
    pump: AtomicUsize,
}

const PUMPING: usize = 1;
const WOKEN: usize = 2;

struct List {
    slots: Vec<Slot>,
    free: Vec<usize>,
    driver: Option<usize>,
}

enum Slot {
    Free,
    /// Taken by a future; the waker is away once it was woken, until the future is polled again.
    Taken(Option<Waker>),
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self {
            list: Mutex::new(List {
                slots: Vec::new(),
                free: Vec::new(),
                driver: None,
            }),
            pump: AtomicUsize::new(0),
        }
    }

    /// Notes the waker of a future that is about to look at the channel. It must come before the look: a wake between
    /// the look and a later note would be lost.
    pub(crate) fn register(&self, key: &mut Option<Key>, waker: &Waker) {
        let mut waker = Some(waker.clone());
        let old = {
            let mut list = lock(&self.list);
            match key {
                Some(Key(index)) => list.put(*index, waker.take()),
                None => {
                    *key = Some(Key(list.insert(waker.take())));
                    None
                }
            }
        };
        drop(old);
    }

    /// Makes the future under `key` the driver: socket and timer wakes go to it alone until it is removed. The first
    /// driver stays the driver.
    pub(crate) fn make_driver(&self, key: Key) {
        let mut list = lock(&self.list);
        if list.driver.is_none() {
            list.driver = Some(key.0);
        }
    }

    /// Forgets a future. When it was the driver, every other future is woken, since one of them has to take over.
    pub(crate) fn remove(&self, key: Key) {
        let (old, was_driver) = {
            let mut list = lock(&self.list);
            let was_driver = list.driver == Some(key.0);
            if was_driver {
                list.driver = None;
            }
            (list.remove(key.0), was_driver)
        };
        if was_driver {
            self.wake_all();
        }
        drop(old);
    }

    /// Wakes one future, whose outcome is there.
    pub(crate) fn wake_one(&self, key: Key) {
        let waker = lock(&self.list).take(key.0);
        if let Some(waker) = waker {
            wake(waker);
        }
    }

    /// Wakes the driver alone while one lives and keeps up, every future otherwise.
    pub(crate) fn wake_pumpers(&self) {
        let driver = {
            let mut list = lock(&self.list);
            list.driver.map(|index| list.take(index))
        };
        match driver {
            Some(Some(waker)) => wake(waker),
            // A driver that was woken and has not been polled since may be one that nobody polls: `select!` keeps it
            // while another branch runs.
            Some(None) | None => self.wake_all(),
        }
    }

    /// Wakes the driver, if one lives.
    pub(crate) fn wake_driver(&self) {
        let waker = {
            let mut list = lock(&self.list);
            list.driver.and_then(|index| list.take(index))
        };
        if let Some(waker) = waker {
            wake(waker);
        }
    }

    /// Wakes the driver, if one lives that is not under `key`.
    pub(crate) fn wake_other_driver(&self, key: Option<Key>) {
        let waker = {
            let mut list = lock(&self.list);
            match list.driver {
                Some(index) if Some(Key(index)) != key => list.take(index),
                _ => None,
            }
        };
        if let Some(waker) = waker {
            wake(waker);
        }
    }

    /// Wakes every future.
    pub(crate) fn wake_all(&self) {
        let mut next = 0;
        loop {
            let mut batch: [Option<Waker>; BATCH] = [const { None }; BATCH];
            let mut count = 0;
            let more = {
                let mut list = lock(&self.list);
                while next < list.slots.len() && count < BATCH {
                    if let Some(waker) = list.take(next) {
                        batch[count] = Some(waker);
                        count += 1;
                    }
                    next += 1;
                }
                next < list.slots.len()
            };
            batch.into_iter().flatten().for_each(wake);
            if !more {
                return;
            }
        }
    }

    /// Begins a stretch in which wakes are kept back; the caller holds the channel's lock.
    pub(crate) fn begin_pump(&self) {
        self.pump.store(PUMPING, Ordering::SeqCst);
    }

    /// Whether a wake was kept back since the last question. It counts as answered.
    pub(crate) fn take_woken(&self) -> bool {
        self.pump.swap(PUMPING, Ordering::SeqCst) & WOKEN != 0
    }

    /// Ends the stretch and tells whether a wake was kept back. The caller passes it on with
    /// [`wake_pumpers`](Self::wake_pumpers) once it has released the channel's lock.
    #[must_use]
    pub(crate) fn end_pump(&self) -> bool {
        self.pump.swap(0, Ordering::SeqCst) & WOKEN != 0
    }

    /// A socket or a timer is ready.
    pub(crate) fn notify(&self) {
        if self.pump.fetch_or(WOKEN, Ordering::SeqCst) & PUMPING != 0 {
            return;
        }
        // Nobody pumps, so nobody would read the mark: clear it, unless a pump has begun and cleared it already.
        let _ = self
            .pump
            .compare_exchange(WOKEN, 0, Ordering::SeqCst, Ordering::SeqCst);
        self.wake_pumpers();
    }
}

impl Wake for Hub {
    fn wake(self: Arc<Self>) {
        self.notify();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notify();
    }
}

impl List {
    fn insert(&mut self, waker: Option<Waker>) -> usize {
        let slot = Slot::Taken(waker);
        match self.free.pop() {
            Some(index) => {
                self.slots[index] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        }
    }

    fn put(&mut self, index: usize, waker: Option<Waker>) -> Option<Waker> {
        match &mut self.slots[index] {
            Slot::Taken(place) => core::mem::replace(place, waker),
            Slot::Free => waker,
        }
    }

    fn take(&mut self, index: usize) -> Option<Waker> {
        match self.slots.get_mut(index) {
            Some(Slot::Taken(place)) => place.take(),
            _ => None,
        }
    }

    fn remove(&mut self, index: usize) -> Option<Waker> {
        match core::mem::replace(&mut self.slots[index], Slot::Free) {
            Slot::Taken(waker) => {
                self.free.push(index);
                waker
            }
            Slot::Free => None,
        }
    }
}

/// Wakes a foreign waker. Its panic must not keep the others from being woken.
fn wake(waker: Waker) {
    shield(|| waker.wake());
}

#[cfg(all(test, not(otlp_embed_loom)))]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicUsize as Counter, Ordering::SeqCst};

    struct Count(Counter);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn counted() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count(Counter::new(0)));
        (count.clone(), Waker::from(count))
    }

    #[test]
    fn every_waiter_is_woken_once_a_registration() {
        let hub = Hub::new();
        let waiters: Vec<_> = (0..3 * BATCH)
            .map(|_| {
                let (count, waker) = counted();
                let mut key = None;
                hub.register(&mut key, &waker);
                (count, key)
            })
            .collect();
        hub.notify();
        hub.notify();
        assert!(waiters.iter().all(|(count, _)| count.0.load(SeqCst) == 1));
    }

    #[test]
    fn the_driver_alone_is_woken_while_it_lives() {
        let hub = Hub::new();
        let ((driver, driver_waker), (other, other_waker)) = (counted(), counted());
        let (mut driver_key, mut other_key) = (None, None);
        hub.register(&mut driver_key, &driver_waker);
        hub.register(&mut other_key, &other_waker);
        hub.make_driver(driver_key.expect("registered"));
        hub.notify();
        assert_eq!((driver.0.load(SeqCst), other.0.load(SeqCst)), (1, 0));
        hub.remove(driver_key.expect("registered"));
        assert_eq!(other.0.load(SeqCst), 1, "dropping the driver wakes all");
    }

    #[test]
    fn a_driver_that_does_not_come_back_is_passed_over() {
        let hub = Hub::new();
        let ((driver, driver_waker), (other, other_waker)) = (counted(), counted());
        let (mut driver_key, mut other_key) = (None, None);
        hub.register(&mut driver_key, &driver_waker);
        hub.register(&mut other_key, &other_waker);
        hub.make_driver(driver_key.expect("registered"));
        hub.notify();
        hub.notify();
        assert_eq!((driver.0.load(SeqCst), other.0.load(SeqCst)), (1, 1));
    }

    #[test]
    fn a_wake_during_a_pump_is_kept_for_its_end() {
        let hub = Hub::new();
        let (count, waker) = counted();
        let mut key = None;
        hub.register(&mut key, &waker);
        hub.begin_pump();
        hub.notify();
        assert_eq!(count.0.load(SeqCst), 0);
        assert!(hub.end_pump());
        hub.wake_pumpers();
        assert_eq!(count.0.load(SeqCst), 1);
        hub.begin_pump();
        assert!(!hub.end_pump(), "told once");
    }

    #[test]
    fn a_panicking_waker_keeps_no_other_from_being_woken() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("a foreign waker's panic");
            }
        }
        let hub = Hub::new();
        let (count, waker) = counted();
        let (mut first, mut second) = (None, None);
        hub.register(&mut first, &Waker::from(Arc::new(Panics)));
        hub.register(&mut second, &waker);
        hub.notify();
        assert_eq!(count.0.load(SeqCst), 1);
    }

    #[test]
    fn places_are_used_again() {
        let hub = Hub::new();
        let (_, waker) = counted();
        for _ in 0..100 {
            let mut key = None;
            hub.register(&mut key, &waker);
            hub.remove(key.expect("registered"));
        }
        assert_eq!(lock(&hub.list).slots.len(), 1);
    }
}
