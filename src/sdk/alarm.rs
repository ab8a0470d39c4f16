//! A clock for futures that are polled where nobody may drive their runtime: one thread wakes them when their time is over.

use crate::export::lock;
use crate::rt::Clock;
use crate::time::Instant;
use alloc::collections::BTreeMap;
use alloc::string::String;
use core::task::Waker;
use core::time::Duration;
use std::sync::{Condvar, Mutex, OnceLock};
use std::thread;

/// For how long the thread stays without anything to wait for.
const IDLE: Duration = Duration::from_secs(10);

static DESK: Mutex<Desk> = Mutex::new(Desk {
    wakers: BTreeMap::new(),
    set: 0,
    pid: 0,
});
static BELL: Condvar = Condvar::new();
static CLOCK: OnceLock<Clock> = OnceLock::new();

struct Desk {
    /// By when they are due, and by the order of their coming.
    wakers: BTreeMap<(Instant, u64), Waker>,
    set: u64,
    /// The process whose thread serves it; zero where there is none. A child of `fork(2)` has not its parent's thread.
    pid: u32,
}

/// A point in time at which a waker is woken, unless it is dropped before.
#[derive(Debug)]
pub(super) struct Alarm {
    key: (Instant, u64),
}

impl Alarm {
    /// Sets one, so much from now.
    pub(super) fn after(time: Duration, waker: &Waker) -> Self {
        let at = now() + time;
        let waker = waker.clone();
        let mut desk = lock(&DESK);
        desk.set += 1;
        let key = (at, desk.set);
        desk.wakers.insert(key, waker);
        let pid = std::process::id();
        if desk.pid != pid {
            let spawned = thread::Builder::new()
                .name(String::from("otlp-sdk-alarm"))
                .spawn(run);
            // Without a thread nobody is woken, and the runtime's own timer has to do.
            desk.pid = if spawned.is_ok() { pid } else { 0 };
        }
        drop(desk);
        BELL.notify_one();
        Self { key }
    }

    /// Has another waker woken; false where that is too late, since its time is over.
    pub(super) fn update(&self, waker: &Waker) -> bool {
        let mut waker = waker.clone();
        let is_set = match lock(&DESK).wakers.get_mut(&self.key) {
            Some(old) => {
                core::mem::swap(old, &mut waker);
                true
            }
            None => false,
        };
        // What is not woken by it is dropped outside the lock.
        drop(waker);
        is_set
    }

    /// Whether its time is over.
    pub(super) fn is_over(&self) -> bool {
        self.key.0 <= now()
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let waker = lock(&DESK).wakers.remove(&self.key);
        drop(waker);
    }
}

fn now() -> Instant {
    CLOCK.get_or_init(Clock::start).now()
}

/// Wakes whoever is due, until nobody has waited for a while.
fn run() {
    let mut desk = lock(&DESK);
    loop {
        let now = now();
        match desk.wakers.first_key_value().map(|(key, _)| *key) {
            Some(key) if key.0 <= now => {
                let waker = desk.wakers.remove(&key);
                drop(desk);
                if let Some(waker) = waker {
                    // A waker's panic must not end the others' clock.
                    crate::foreign::shield(|| waker.wake());
                }
                desk = lock(&DESK);
            }
            first => {
                let time = first.map_or(IDLE, |key| key.0.since(now));
                let waited = BELL.wait_timeout(desk, time);
                let (back, result) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
                desk = back;
                if result.timed_out() && desk.wakers.is_empty() {
                    desk.pid = 0;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::park;
    use core::future::poll_fn;
    use core::pin::pin;
    use core::task::Poll;

    #[test]
    fn whoever_is_due_is_woken_and_nobody_else() {
        let mut alarm = None;
        let mut late = None;
        let mut polls = 0;
        let waiting = poll_fn(|cx| {
            polls += 1;
            let alarm = alarm.get_or_insert_with(|| Alarm::after(Duration::from_millis(5), cx.waker()));
            late.get_or_insert_with(|| Alarm::after(Duration::from_secs(3600), cx.waker()));
            let is_set = alarm.update(cx.waker());
            if alarm.is_over() {
                Poll::Ready(())
            } else {
                assert!(is_set, "its time is not over");
                Poll::Pending
            }
        });
        assert_eq!(park::wait(pin!(waiting), None), Some(()));
        assert!(polls >= 2);
        let due = alarm.as_ref().expect("set");
        assert!(!due.update(Waker::noop()), "whoever was woken is gone");
        assert!(!late.as_ref().expect("set").is_over());
        let key = late.as_ref().expect("set").key;
        drop((alarm, late));
        assert!(
            !lock(&DESK).wakers.contains_key(&key),
            "a dropped alarm holds no waker"
        );
    }
}
