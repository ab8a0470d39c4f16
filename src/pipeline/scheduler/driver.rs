//! What polls the jobs of a scheduler.

use super::desk::Desk;
use super::job::{Job, JobEnd, text_of};
use crate::pipeline::queue::Place;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use futures_core::{FusedFuture, Stream};
use futures_util::stream::FuturesUnordered;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Jobs begun or ended in one poll before it yields.
const STEPS_MAX: usize = 256;

/// Polls the jobs of a [`SmartScheduler`](super::SmartScheduler), wherever it is run.
///
/// It ends once every handle of the scheduler is gone and every job has ended. Polled again after that, it is ready.
///
/// # Cancel safety
///
/// Dropping it at any time ends every job that waits or runs as [abandoned](JobEnd::Abandoned): whoever waits for one gets an error, and
/// later jobs are refused.
#[must_use = "no job is done unless the driver is run"]
pub struct SchedulerDriver {
    desk: Arc<Desk>,
    concurrency_max: usize,
    running: FuturesUnordered<Running>,
    place: Option<Place>,
    is_drained: bool,
    is_over: bool,
}

impl SchedulerDriver {
    pub(super) fn new(desk: Arc<Desk>, concurrency_max: usize) -> Self {
        Self {
            desk,
            concurrency_max,
            running: FuturesUnordered::new(),
            place: None,
            is_drained: false,
            is_over: false,
        }
    }
}

impl Future for SchedulerDriver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(());
        }
        let mut steps = 0;
        loop {
            let mut has_moved = false;
            while !this.is_drained && this.running.len() < this.concurrency_max && steps < STEPS_MAX {
                let Poll::Ready(job) = this.desk.waiting.poll_pop(cx, &mut this.place) else {
                    break;
                };
                has_moved = true;
                steps += 1;
                match job {
                    // One that was cancelled while it waited is over.
                    Some(job) => this.running.extend(Running::begin(job)),
                    None => this.is_drained = true,
                }
            }
            while steps < STEPS_MAX {
                let Poll::Ready(Some(())) = Pin::new(&mut this.running).poll_next(cx) else {
                    break;
                };
                has_moved = true;
                steps += 1;
            }
            if this.is_drained && this.running.is_empty() {
                this.is_over = true;
                return Poll::Ready(());
            }
            if !has_moved {
                return Poll::Pending;
            }
            if steps >= STEPS_MAX {
                // More may be waiting: come back after the executor's other tasks had their turn.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

impl FusedFuture for SchedulerDriver {
    fn is_terminated(&self) -> bool {
        self.is_over
    }
}

impl Drop for SchedulerDriver {
    fn drop(&mut self) {
        // First, so that nothing comes in any more.
        self.desk.close();
        self.desk.waiting.forget_pop(&mut self.place);
        // Each ends its job.
        self.running = FuturesUnordered::new();
        while let Some(job) = self.desk.waiting.try_pop() {
            job.end(JobEnd::Abandoned, None);
        }
    }
}

impl fmt::Debug for SchedulerDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerDriver")
            .field("stats", &self.desk.stats())
            .finish_non_exhaustive()
    }
}

/// A job that runs. However it goes away, its job ends.
struct Running {
    job: Arc<Job>,
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Running {
    fn begin(job: Arc<Job>) -> Option<Self> {
        let future = Some(job.begin()?);
        Some(Self { job, future })
    }

    /// Drops the future, whose items are told then, and ends the job.
    fn end(&mut self, end: JobEnd, panic: Option<alloc::string::String>) {
        let future = self.future.take();
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(future)));
        match dropped {
            Ok(()) => self.job.end(end, panic),
            Err(late) => {
                let late = text_of(late);
                self.job.end(JobEnd::Panicked, panic.or(late));
            }
        }
    }
}

impl Future for Running {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Before the look, so that a cancellation after it finds this waker.
        self.job.runner.register(cx.waker());
        if self.job.is_cancelled() {
            self.end(JobEnd::Cancelled, None);
            return Poll::Ready(());
        }
        let Some(future) = &mut self.future else {
            return Poll::Ready(());
        };
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => self.end(JobEnd::Completed, None),
            Err(panic) => self.end(JobEnd::Panicked, text_of(panic)),
        }
        Poll::Ready(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.future.is_some() {
            self.end(JobEnd::Abandoned, None);
        }
    }
}
