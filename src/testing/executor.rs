//! The executor of a simulated network: one thread, the tasks of a test, and time that passes when all of them wait.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::task::Wake;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use fastrand::Rng;
use std::sync::{Mutex, MutexGuard, PoisonError};

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The tasks of a network, and which of them are to be polled.
pub(super) struct Executor {
    ready: Arc<Ready>,
    state: Mutex<State>,
}

struct State {
    /// Which of the ready tasks is polled next.
    rng: Rng,
    /// The future of each task, but while it is polled.
    tasks: BTreeMap<u64, Option<Task>>,
    next: u64,
    is_running: bool,
}

struct Task {
    future: BoxFuture,
    waker: Waker,
}

/// Tasks that were woken, in the order of the wakes.
#[derive(Default)]
struct Ready(Mutex<Vec<Arc<Signal>>>);

/// The waker of one task.
struct Signal {
    id: u64,
    /// It is among the ready ones.
    is_ready: AtomicBool,
    /// Weak, since the ready ones hold the signals.
    ready: Weak<Ready>,
}

impl Executor {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            ready: Arc::default(),
            state: Mutex::new(State {
                rng: Rng::with_seed(seed),
                tasks: BTreeMap::new(),
                next: 0,
                is_running: false,
            }),
        }
    }

    /// Marks the executor as running until the guard is dropped.
    pub(super) fn enter(&self) -> Running<'_> {
        let was_running = core::mem::replace(&mut self.lock().is_running, true);
        assert!(
            !was_running,
            "a simulated network runs one `block_on` at a time; await or spawn the future instead"
        );
        Running(self)
    }

    pub(super) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let slot = Arc::new(Mutex::new(Slot::default()));
        let result = Promise(slot.clone());
        let future = Box::pin(async move {
            let output = future.await;
            result.keep(output);
        });
        let (id, waker) = self.waker();
        let task = Task {
            future,
            waker: waker.clone(),
        };
        self.lock().tasks.insert(id, Some(task));
        waker.wake();
        JoinHandle(slot)
    }

    /// A number and a waker for a future that is to be polled when [`poll_next`](Self::poll_next) gives the number.
    pub(super) fn waker(&self) -> (u64, Waker) {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        let signal = Signal {
            id,
            is_ready: AtomicBool::new(false),
            ready: Arc::downgrade(&self.ready),
        };
        (id, Waker::from(Arc::new(signal)))
    }

    /// The next that is to be polled; the seed says which of those that are ready.
    pub(super) fn next_ready(&self) -> Option<u64> {
        let signal = {
            let mut state = self.lock();
            let mut ready = self.ready.lock();
            if ready.is_empty() {
                return None;
            }
            let at = state.rng.usize(..ready.len());
            ready.remove(at)
        };
        // From here on it can be woken again, before it is polled.
        signal.is_ready.store(false, Ordering::Release);
        Some(signal.id)
    }

    /// Polls a spawned task, if that is what the number stands for. Its panic is the caller's.
    pub(super) fn poll_task(&self, id: u64) {
        let taken = self.lock().tasks.get_mut(&id).and_then(Option::take);
        let Some(mut task) = taken else { return };
        let is_over = {
            // Dropped without being put back, where the task panics.
            let over = Over(self, id);
            let waker = task.waker.clone();
            let polled = task.future.as_mut().poll(&mut Context::from_waker(&waker));
            core::mem::forget(over);
            polled.is_ready()
        };
        let unused = {
            let mut state = self.lock();
            if is_over {
                state.tasks.remove(&id);
                Some(task)
            } else {
                match state.tasks.get_mut(&id) {
                    Some(place) => place.replace(task),
                    // It was aborted by itself.
                    None => Some(task),
                }
            }
        };
        drop(unused);
    }

    /// Whether nobody is to be polled.
    pub(super) fn is_idle(&self) -> bool {
        self.ready.lock().is_empty()
    }

    /// Tasks that have not ended.
    pub(super) fn tasks(&self) -> usize {
        self.lock().tasks.len()
    }

    /// Drops every task.
    pub(super) fn abort(&self) {
        // Their futures are foreign: dropped outside the lock, and what they spawn meanwhile stays.
        let tasks = core::mem::take(&mut self.lock().tasks);
        drop(tasks);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The executor runs as long as this lives.
pub(super) struct Running<'a>(&'a Executor);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.lock().is_running = false;
    }
}

/// A task that panicked is forgotten.
struct Over<'a>(&'a Executor, u64);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.lock().tasks.remove(&self.1);
    }
}

impl Ready {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Signal>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        let Some(ready) = self.ready.upgrade() else { return };
        if !self.is_ready.swap(true, Ordering::AcqRel) {
            ready.lock().push(self);
        }
    }
}

/// What a task spawned on a [`Network`](super::Network) gives, to be awaited. Dropping it lets the task run on.
///
/// # Panics
///
/// Where it is polled again after it was ready, or its task was dropped before its end, as
/// [`Network::abort_tasks`](super::Network::abort_tasks) does.
pub struct JoinHandle<T>(Arc<Mutex<Slot<T>>>);

struct Slot<T> {
    output: Option<T>,
    waker: Option<Waker>,
    /// Nothing will come any more, but what is there.
    is_over: bool,
}

/// Where a task leaves what it gives.
struct Promise<T>(Arc<Mutex<Slot<T>>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self {
            output: None,
            waker: None,
            is_over: false,
        }
    }
}

impl<T> JoinHandle<T> {
    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        lock(&self.0).is_over
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let waker = cx.waker().clone();
        let mut slot = lock(&self.0);
        if let Some(output) = slot.output.take() {
            return Poll::Ready(output);
        }
        assert!(
            !slot.is_over,
            "the task was dropped before its end, or has given its result"
        );
        let old = slot.waker.replace(waker);
        drop(slot);
        drop(old);
        Poll::Pending
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("is_finished", &self.is_finished())
            .finish()
    }
}

impl<T> Promise<T> {
    fn keep(self, output: T) {
        lock(&self.0).output = Some(output);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = lock(&self.0);
            slot.is_over = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn lock<T>(slot: &Mutex<Slot<T>>) -> MutexGuard<'_, Slot<T>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
