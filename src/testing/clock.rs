//! A clock that stands still unless it is told to move.

use crate::rt;
use crate::time::Instant;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use futures_util::task::AtomicWaker;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A virtual clock: time passes where somebody says so, and nowhere else. Clones are the same clock.
///
/// A [`Network`](super::Network) has one and moves it to whatever is due next when all its tasks are idle, so that a wait
/// of an hour takes no time. A clock of its own, from [`new`](Self::new), is moved by [`advance`](Self::advance) alone.
///
/// ```
/// use otlp_embed::testing::Network;
/// use std::time::Duration;
///
/// let network = Network::new(1);
/// let clock = network.clock();
/// let begin = clock.now();
/// network.block_on(clock.sleep(Duration::from_secs(3_600)));
/// assert_eq!(clock.now() - begin, Duration::from_secs(3_600));
/// ```
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// Who moves the clock along with tokio's, and has to look again when something else is due first.
    follower: AtomicWaker,
}

struct State {
    now: Instant,
    /// The time on tokio's clock at which this one began, where it follows that.
    #[cfg(feature = "tokio")]
    zero: Option<tokio::time::Instant>,
    /// Who waits for what time, in the order of the times, and of the timers where those are the same.
    waiting: BTreeMap<(Instant, u64), Waker>,
    /// The number of the next timer.
    next: u64,
}

/// A point that no test begins at by accident: times before the beginning stay representable.
const BEGIN: Instant = Instant::from_millis(1_000);

impl Clock {
    /// A clock at one second after its zero.
    #[allow(clippy::new_without_default, reason = "a default clock suggests the system's")]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new(State {
                now: BEGIN,
                #[cfg(feature = "tokio")]
                zero: None,
                waiting: BTreeMap::new(),
                next: 0,
            }),
            follower: AtomicWaker::new(),
        }))
    }

    /// A clock that follows tokio's.
    #[cfg(feature = "tokio")]
    pub(super) fn of_tokio() -> Self {
        let clock = Self::new();
        clock.lock().zero = Some(tokio::time::Instant::now());
        clock
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.lock().now()
    }

    /// Lets time pass at once, as a process sees it that was suspended: whatever was due on the way is due now, all of it
    /// together. To let it happen on the way, each thing at its time, await [`sleep`](Self::sleep).
    ///
    /// # Panics
    ///
    /// Where the clock follows tokio's: that is the one to advance.
    pub fn advance(&self, by: Duration) {
        assert!(
            !self.follows(),
            "this clock follows tokio's: use `tokio::time::advance`"
        );
        let to = self.now() + by;
        self.move_to(to);
    }

    /// Is ready once so much time has passed from this call on.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now() + duration)
    }

    /// Is ready once the clock has reached `at`; never for [`Instant::MAX`].
    pub fn sleep_until(&self, at: Instant) -> Sleep {
        Sleep {
            at,
            timer: self.timer(),
        }
    }

    /// What `future` gives within `limit` from now.
    ///
    /// # Errors
    ///
    /// [`Elapsed`] once the time is over; the future is dropped then.
    ///
    /// # Cancel safety
    ///
    /// That of `future`, which is dropped with it.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output, Elapsed> {
        let mut sleep = self.sleep(limit);
        let mut future = pin!(future);
        core::future::poll_fn(move |cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            Pin::new(&mut sleep).poll(cx).map(|()| Err(Elapsed { limit }))
        })
        .await
    }

    /// A timer that can be set again.
    pub(super) fn timer(&self) -> Timer {
        Timer {
            clock: self.clone(),
            place: None,
        }
    }

    /// The first time that anybody waits for.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.lock().waiting.keys().next().map(|(at, _)| *at)
    }

    /// Whether it follows another clock.
    pub(super) fn follows(&self) -> bool {
        #[cfg(feature = "tokio")]
        return self.lock().zero.is_some();
        #[cfg(not(feature = "tokio"))]
        false
    }

    /// The same point in time on tokio's clock, where this one follows that; a year from now where it is later still.
    #[cfg(feature = "tokio")]
    pub(super) fn to_tokio(&self, at: Instant) -> Option<tokio::time::Instant> {
        let year = Duration::from_secs(365 * 86_400);
        let zero = self.lock().zero?;
        zero.checked_add(at.since(BEGIN).min(year))
    }

    /// Registers who is to look again when something is due earlier than it knows.
    #[cfg(feature = "tokio")]
    pub(super) fn follow(&self, waker: &Waker) {
        self.0.follower.register(waker);
    }

    /// Something may be due earlier than whoever follows another clock knows.
    pub(super) fn poke(&self) {
        self.0.follower.wake();
    }

    /// Moves the clock, never backwards, and wakes whose time has come.
    pub(super) fn move_to(&self, to: Instant) {
        let due: Vec<Waker> = {
            let mut state = self.lock();
            state.now = state.now.max(to);
            // The numbers of timers never reach the last one.
            let now = state.now;
            let later = state.waiting.split_off(&(now, u64::MAX));
            core::mem::replace(&mut state.waiting, later)
                .into_values()
                .collect()
        };
        due.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn now(&self) -> Instant {
        #[cfg(feature = "tokio")]
        if let Some(zero) = self.zero {
            return self.now.max(BEGIN + zero.elapsed());
        }
        self.now
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Clock")
            .field("now", &state.now())
            .field("timers", &state.waiting.len())
            .finish()
    }
}

/// The timer of a [`Clock`].
#[derive(Debug)]
pub struct Timer {
    clock: Clock,
    /// Its place among those that wait, while it is set.
    place: Option<(Instant, u64)>,
}

impl Timer {
    /// Gives up its place; the waker that lay there is to be dropped once the clock was released.
    fn unset(&mut self, state: &mut State) -> Option<Waker> {
        self.place.take().and_then(|place| state.waiting.remove(&place))
    }
}

impl rt::Timer for Timer {
    fn poll_at(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<io::Result<()>> {
        // Foreign code: not under the lock.
        let waker = cx.waker().clone();
        let clock = self.clock.clone();
        let mut state = clock.lock();
        let old = self.unset(&mut state);
        let is_due = at <= state.now();
        let mut unused = None;
        if is_due || at == Instant::MAX {
            unused = Some(waker);
        } else {
            let place = (at, state.next);
            state.next += 1;
            state.waiting.insert(place, waker);
            self.place = Some(place);
        }
        drop(state);
        drop((old, unused));
        if is_due {
            return Poll::Ready(Ok(()));
        }
        self.clock.poke();
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let clock = self.clock.clone();
        let old = self.unset(&mut clock.lock());
        drop(old);
    }
}

/// A wait on a [`Clock`]; see [`Clock::sleep`]. Polled again after it was ready, it is ready again.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is polled"]
pub struct Sleep {
    at: Instant,
    timer: Timer,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.at;
        rt::Timer::poll_at(&mut self.timer, cx, at).map(|_| ())
    }
}

/// A future took longer than [`Clock::timeout`] gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed {
    /// What it was given.
    pub limit: Duration,
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not ready within {:?} of virtual time", self.limit)
    }
}

impl core::error::Error for Elapsed {}
