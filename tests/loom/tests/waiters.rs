//! The waiter list under every interleaving of two or three threads.
//!
//! `RUSTFLAGS="--cfg otlp_embed_loom" cargo test --package otlp-embed-loom`
#![cfg(otlp_embed_loom)]
#![allow(dead_code, missing_docs)]

extern crate alloc;

#[path = "../../../src/foreign.rs"]
mod foreign;

/// The list's primitives, as `loom` models them.
mod sync {
    pub(crate) use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    };

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().expect("no model panics")
    }
}

#[path = "../../../src/export/waiters.rs"]
mod waiters;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use loom::thread;
use std::sync::Arc;
use std::task::{Wake, Waker};
use waiters::{Hub, Key};

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

struct Future {
    woken: Arc<Count>,
    waker: Waker,
    key: Option<Key>,
}

impl Future {
    fn new() -> Self {
        let woken = Arc::new(Count(AtomicUsize::new(0)));
        Self {
            waker: Waker::from(woken.clone()),
            woken,
            key: None,
        }
    }

    fn register(&mut self, hub: &Hub) {
        hub.register(&mut self.key, &self.waker);
    }

    fn wakes(&self) -> usize {
        self.woken.0.load(SeqCst)
    }
}

/// A socket that becomes ready on another thread while a future is polled: the future sees it, or is woken.
#[test]
fn an_event_is_seen_or_wakes() {
    loom::model(|| {
        let hub = Arc::new(Hub::new());
        let ready = loom::sync::Arc::new(AtomicBool::new(false));
        let event = thread::spawn({
            let (hub, ready) = (hub.clone(), ready.clone());
            move || {
                ready.store(true, SeqCst);
                hub.notify();
            }
        });
        let mut future = Future::new();
        future.register(&hub);
        hub.begin_pump();
        let mut is_seen = ready.load(SeqCst);
        if hub.take_woken() {
            is_seen |= ready.load(SeqCst);
        }
        if hub.end_pump() {
            hub.wake_pumpers();
        }
        event.join().expect("no panic");
        assert!(is_seen || future.wakes() > 0);
    });
}

/// Two futures, one of which leaves while an event comes: the other sees it or is woken.
#[test]
fn a_leaving_future_takes_no_event_along() {
    loom::model(|| {
        let hub = Arc::new(Hub::new());
        let (mut leaving, mut staying) = (Future::new(), Future::new());
        leaving.register(&hub);
        staying.register(&hub);
        let event = thread::spawn({
            let hub = hub.clone();
            move || hub.notify()
        });
        hub.remove(leaving.key.expect("registered"));
        event.join().expect("no panic");
        assert!(staying.wakes() > 0);
    });
}

/// The driver leaves while an event comes: whatever the order, the remaining future is woken.
#[test]
fn a_leaving_driver_hands_over() {
    loom::model(|| {
        let hub = Arc::new(Hub::new());
        let (mut driver, mut future) = (Future::new(), Future::new());
        driver.register(&hub);
        future.register(&hub);
        hub.make_driver(driver.key.expect("registered"));
        let event = thread::spawn({
            let hub = hub.clone();
            move || hub.notify()
        });
        hub.remove(driver.key.expect("registered"));
        event.join().expect("no panic");
        assert!(future.wakes() > 0);
    });
}

/// A verdict for one future and an event for all at the same time: nobody is missed and nothing deadlocks.
#[test]
fn a_verdict_and_an_event_meet() {
    loom::model(|| {
        let hub = Arc::new(Hub::new());
        let (mut first, mut second) = (Future::new(), Future::new());
        first.register(&hub);
        second.register(&hub);
        let event = thread::spawn({
            let hub = hub.clone();
            move || hub.notify()
        });
        hub.wake_one(first.key.expect("registered"));
        event.join().expect("no panic");
        assert!(first.wakes() > 0 && second.wakes() > 0);
    });
}
