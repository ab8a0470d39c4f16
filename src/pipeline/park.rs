//! Threads that wait for a future of the pipeline, each until its own deadline.

use crate::export::lock;
use crate::rt::Clock;
use crate::time::Instant;
use alloc::sync::Arc;
use alloc::task::Wake;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::sync::{Condvar, Mutex};

/// When a thread gives up, on a clock of its own.
pub(crate) struct Limit {
    clock: Clock,
    at: Instant,
}

impl Limit {
    pub(crate) fn after(timeout: Duration) -> Self {
        let clock = Clock::start();
        Self {
            at: clock.now() + timeout,
            clock,
        }
    }

    pub(crate) fn left(&self) -> Duration {
        self.at.since(self.clock.now())
    }
}

/// Blocks the thread until the future is ready or the limit has passed. The future is polled at least once.
pub(crate) fn wait<F: Future>(mut future: Pin<&mut F>, limit: Option<&Limit>) -> Option<F::Output> {
    // Most are ready at once, which needs no place to sleep.
    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return Some(output);
    }
    let parked = Arc::new(Parked::default());
    let waker = Waker::from(parked.clone());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        if !parked.sleep(limit) {
            return None;
        }
    }
}

#[derive(Default)]
struct Parked {
    is_woken: Mutex<bool>,
    bell: Condvar,
}

impl Parked {
    /// Sleeps until it is woken; false when the limit passed before.
    fn sleep(&self, limit: Option<&Limit>) -> bool {
        let mut is_woken = lock(&self.is_woken);
        while !*is_woken {
            is_woken = match limit.map(Limit::left) {
                None => self
                    .bell
                    .wait(is_woken)
                    .unwrap_or_else(|poisoned| poisoned.into_inner()),
                Some(Duration::ZERO) => return false,
                Some(left) => {
                    self.bell
                        .wait_timeout(is_woken, left)
                        .unwrap_or_else(|poisoned| poisoned.into_inner())
                        .0
                }
            };
        }
        *is_woken = false;
        true
    }
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *lock(&self.is_woken) = true;
        self.bell.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::pin::pin;

    #[test]
    fn a_thread_is_woken_by_another() {
        let (sender, receiver) = futures_channel::oneshot::channel();
        let other = std::thread::spawn(move || sender.send(7));
        assert_eq!(wait(pin!(receiver), None), Some(Ok(7)));
        other.join().expect("no panic").expect("received");
    }

    #[test]
    fn a_thread_waits_no_longer_than_it_may() {
        let limit = Limit::after(Duration::from_millis(1));
        assert_eq!(wait(pin!(core::future::pending::<()>()), Some(&limit)), None);
        assert_eq!(limit.left(), Duration::ZERO);
        // Nothing to wait for: the limit does not matter.
        assert_eq!(wait(pin!(core::future::ready(3)), Some(&limit)), Some(3));
    }
}
