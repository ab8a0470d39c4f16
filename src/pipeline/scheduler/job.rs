//! One job: its future, how it ended, and who waits for it.

use super::desk::Desk;
use crate::export::lock;
use crate::foreign::{dispose, shield};
use crate::pipeline::queue::wake;
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::{Context, Poll};
use futures_util::task::AtomicWaker;
use std::sync::Mutex;

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobEnd {
    /// It ran to its end.
    Completed,
    /// It panicked.
    Panicked,
    /// [`JobHandle::cancel`] ended it.
    Cancelled,
    /// The driver was dropped before its end.
    Abandoned,
    /// It was never taken: too many jobs waited, or the driver was gone.
    Refused,
}

/// What became of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobReport {
    /// How it ended; none as long as it waits or runs.
    pub end: Option<JobEnd>,
    /// Items that it dealt with.
    pub items: u64,
    /// Items that it could not deal with.
    pub items_failed: u64,
}

/// What a job tells its items with. Clones tell for the same job.
#[derive(Clone, Debug, Default)]
pub struct JobItems {
    counts: Arc<[AtomicU64; 2]>,
}

impl JobItems {
    /// So many more were dealt with.
    pub fn add_done(&self, items: u64) {
        self.counts[0].fetch_add(items, Ordering::Relaxed);
    }

    /// So many more could not be dealt with.
    pub fn add_failed(&self, items: u64) {
        self.counts[1].fetch_add(items, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> [u64; 2] {
        [0, 1].map(|at| self.counts[at].load(Ordering::Relaxed))
    }
}

/// A job, as the scheduler and its handle share it.
///
/// ```text
/// Waiting ──begin──> Running ──> Ended(Completed | Panicked | Cancelled | Abandoned)
///    └──> Ended(Cancelled | Abandoned | Refused)
/// ```
pub(super) struct Job {
    state: Mutex<State>,
    items: JobItems,
    /// The driver, while the job runs.
    pub(super) runner: AtomicWaker,
    /// Whoever waits for the job.
    waiter: AtomicWaker,
    desk: Arc<Desk>,
}

enum State {
    /// It is submitted, and counted as waiting unless it is not counted yet.
    Waiting(BoxFuture),
    /// The driver has the future.
    Running { is_cancelled: bool },
    /// It waited, and is about to be over: its future is being dropped.
    Ending,
    /// It is over, and counted, with the text of its panic.
    Ended(JobEnd, Option<String>, [u64; 2]),
}

impl Job {
    pub(super) fn new<F>(future: F, items: JobItems, desk: Arc<Desk>) -> (Arc<Self>, JobHandle<F::Output>)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let output = Arc::new(Mutex::new(None));
        let slot = output.clone();
        let future: BoxFuture = Box::pin(async move {
            let value = future.await;
            *lock(&slot) = Some(value);
        });
        let job = Arc::new(Self {
            state: Mutex::new(State::Waiting(future)),
            items,
            runner: AtomicWaker::new(),
            waiter: AtomicWaker::new(),
            desk,
        });
        let handle = JobHandle {
            job: job.clone(),
            output,
        };
        (job, handle)
    }

    /// Takes the future to poll it; none where the job was cancelled meanwhile.
    pub(super) fn begin(&self) -> Option<BoxFuture> {
        let mut state = lock(&self.state);
        let State::Waiting(_) = &*state else { return None };
        let running = State::Running { is_cancelled: false };
        let State::Waiting(future) = core::mem::replace(&mut *state, running) else {
            return None;
        };
        self.desk.begin();
        Some(future)
    }

    /// Whether the driver has still to begin it.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(&*lock(&self.state), State::Waiting(_))
    }

    pub(super) fn is_cancelled(&self) -> bool {
        matches!(&*lock(&self.state), State::Running { is_cancelled: true })
    }

    /// Ends the job, if it has not ended: counted once, whoever comes first. One that runs is ended by the driver alone. The future,
    /// where the job still has one, is dropped before, so that the items it tells of in its drop are counted.
    pub(super) fn end(&self, end: JobEnd, panic: Option<String>) {
        let was_waiting = {
            let mut state = lock(&self.state);
            match &*state {
                State::Ended(..) | State::Ending => return,
                State::Running { .. } => None,
                State::Waiting(_) => match core::mem::replace(&mut *state, State::Ending) {
                    State::Waiting(future) => Some(future),
                    _ => None,
                },
            }
        };
        let has_waited = was_waiting.is_some();
        // Foreign code.
        shield(|| drop(was_waiting));
        let counts = self.items.counts();
        {
            let mut state = lock(&self.state);
            *state = State::Ended(end, panic, counts);
            self.desk.end(end, has_waited, counts);
        }
        self.desk.wake_if_idle();
        if let Some(waker) = self.waiter.take() {
            wake(waker);
        }
    }

    /// Ends it as soon as may be: at once where it waits, by the driver where it runs.
    fn cancel(&self) {
        {
            let mut state = lock(&self.state);
            match &mut *state {
                State::Ended(..) | State::Ending => return,
                State::Waiting(_) => {}
                State::Running { is_cancelled } => {
                    *is_cancelled = true;
                    drop(state);
                    if let Some(waker) = self.runner.take() {
                        wake(waker);
                    }
                    return;
                }
            }
        }
        self.end(JobEnd::Cancelled, None);
    }
}

/// The result of a job, to be awaited. Dropping it lets the job run on.
///
/// # Cancel safety
///
/// It may be dropped at any time, and polled again after a wait; the result waits in it.
pub struct JobHandle<T> {
    job: Arc<Job>,
    output: Arc<Mutex<Option<T>>>,
}

impl<T> JobHandle<T> {
    /// Ends the job: one that waits at once, one that runs when the driver is polled next, at whatever await it stands. A job that has
    /// ended stays as it is.
    pub fn cancel(&self) {
        self.job.cancel();
    }

    /// What has become of it until now.
    pub fn report(&self) -> JobReport {
        let (end, [items, items_failed]) = match &*lock(&self.job.state) {
            State::Ended(end, _, counts) => (Some(*end), *counts),
            State::Waiting(_) | State::Running { .. } | State::Ending => (None, self.job.items.counts()),
        };
        JobReport {
            end,
            items,
            items_failed,
        }
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.report().end.is_some()
    }
}

impl<T> Future for JobHandle<T> {
    type Output = Result<T, JobError>;

    /// Polled again after it was ready, it gives an error.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Before the look, so that an end after it finds this waker.
        self.job.waiter.register(cx.waker());
        let (end, panic) = match &*lock(&self.job.state) {
            State::Ended(end, panic, _) => (*end, panic.clone()),
            State::Waiting(_) | State::Running { .. } | State::Ending => return Poll::Pending,
        };
        let output = lock(&self.output).take();
        Poll::Ready(match (end, output) {
            (JobEnd::Completed, Some(output)) => Ok(output),
            (end, _) => Err(JobError { end, panic }),
        })
    }
}

impl<T> fmt::Debug for JobHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle")
            .field("report", &self.report())
            .finish_non_exhaustive()
    }
}

/// Why a job gave no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobError {
    end: JobEnd,
    panic: Option<String>,
}

impl JobError {
    /// How the job ended; completed where its result had been taken already.
    pub fn end(&self) -> JobEnd {
        self.end
    }

    /// What it panicked with, where that was a text.
    pub fn panic_message(&self) -> Option<&str> {
        self.panic.as_deref()
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.end, &self.panic) {
            (JobEnd::Completed, _) => f.write_str("the result of the job was taken already"),
            (JobEnd::Panicked, Some(text)) => write!(f, "the job panicked: {text}"),
            (JobEnd::Panicked, None) => f.write_str("the job panicked"),
            (JobEnd::Cancelled, _) => f.write_str("the job was cancelled"),
            (JobEnd::Abandoned, _) => f.write_str("the scheduler's driver was dropped before the job had ended"),
            (JobEnd::Refused, _) => f.write_str(
                "the scheduler did not take the job: too many wait (SchedulerConfig::with_waiting_max), or its driver is gone",
            ),
        }
    }
}

impl core::error::Error for JobError {}

/// The text of a panic, where it has one.
pub(super) fn text_of(panic: Box<dyn Any + Send>) -> Option<String> {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    dispose(panic);
    text
}
