//! What a scheduler's handles and its driver share: the jobs that wait, the account, and those who wait for the end.

use super::job::{Job, JobEnd};
use crate::export::lock;
use crate::pipeline::queue::{Bounded, Line, Place, Refused, Weight};
use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Mutex;

/// What a job takes of the queue's room.
const ONE: Weight = Weight {
    class: 0,
    items: 1,
    bytes: 0,
};

/// What became of the jobs of a scheduler.
///
/// Exact at every moment: `submitted = waiting + running + completed + panicked + cancelled + abandoned + refused`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchedulerStats {
    /// Jobs that were submitted.
    pub submitted: u64,
    /// Jobs that wait for their turn.
    pub waiting: usize,
    /// Jobs that were begun and have not ended.
    pub running: usize,
    /// Jobs that ran to their end.
    pub completed: u64,
    /// Jobs that panicked.
    pub panicked: u64,
    /// Jobs that were cancelled.
    pub cancelled: u64,
    /// Jobs that the driver left.
    pub abandoned: u64,
    /// Jobs that were not taken.
    pub refused: u64,
    /// Items that the jobs which have ended dealt with.
    pub items: u64,
    /// Items that they could not deal with.
    pub items_failed: u64,
}

impl fmt::Display for SchedulerStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} jobs: {} waiting, {} running, {} completed, {} panicked, {} cancelled, {} abandoned, {} refused; {} items, \
             {} failed",
            self.submitted,
            self.waiting,
            self.running,
            self.completed,
            self.panicked,
            self.cancelled,
            self.abandoned,
            self.refused,
            self.items,
            self.items_failed
        )
    }
}

pub(super) struct Desk {
    pub(super) waiting: Bounded<Arc<Job>>,
    waiting_max: usize,
    stats: Mutex<SchedulerStats>,
    /// Those who wait until there is no job.
    idle: Line,
}

impl Desk {
    pub(super) fn new(waiting_max: usize) -> Self {
        Self {
            waiting: Bounded::new(waiting_max as u64, 0),
            waiting_max,
            stats: Mutex::default(),
            idle: Line::default(),
        }
    }

    pub(super) fn stats(&self) -> SchedulerStats {
        *lock(&self.stats)
    }

    /// Takes no further jobs.
    pub(super) fn close(&self) {
        self.waiting.close();
    }

    pub(super) fn submit(&self, job: Arc<Job>) {
        let waiting = {
            // Before the driver can see it.
            let mut stats = lock(&self.stats);
            stats.submitted += 1;
            stats.waiting += 1;
            stats.waiting
        };
        // Those that were cancelled while they waited keep their places until the driver comes by, or somebody needs them.
        if self.waiting.size().values >= self.waiting_max && waiting <= self.waiting_max {
            self.waiting.retain(|job| job.is_waiting());
        }
        if let Err(Refused::Full(job) | Refused::TooLarge(job) | Refused::Closed(job)) =
            self.waiting.try_push(job, ONE)
        {
            job.end(JobEnd::Refused, None);
        }
    }

    pub(super) fn begin(&self) {
        let mut stats = lock(&self.stats);
        stats.waiting -= 1;
        stats.running += 1;
    }

    pub(super) fn end(&self, end: JobEnd, has_waited: bool, [items, items_failed]: [u64; 2]) {
        let mut stats = lock(&self.stats);
        match has_waited {
            true => stats.waiting -= 1,
            false => stats.running -= 1,
        }
        match end {
            JobEnd::Completed => stats.completed += 1,
            JobEnd::Panicked => stats.panicked += 1,
            JobEnd::Cancelled => stats.cancelled += 1,
            JobEnd::Abandoned => stats.abandoned += 1,
            JobEnd::Refused => stats.refused += 1,
        }
        stats.items += items;
        stats.items_failed += items_failed;
    }

    fn is_idle(&self) -> bool {
        let stats = lock(&self.stats);
        stats.waiting == 0 && stats.running == 0
    }

    pub(super) fn wake_if_idle(&self) {
        if self.is_idle() {
            self.idle.wake_all();
        }
    }
}

/// Until no job waits or runs; see [`SmartScheduler::wait_all`](super::SmartScheduler::wait_all).
///
/// # Cancel safety
///
/// Dropping it changes nothing but who waits.
#[must_use = "it waits only while it is awaited"]
pub struct WaitAll {
    desk: Arc<Desk>,
    place: Option<Place>,
}

impl WaitAll {
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        Self { desk, place: None }
    }
}

impl Future for WaitAll {
    type Output = SchedulerStats;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<SchedulerStats> {
        let this = &mut *self;
        // Before the look, so that an end after it finds this waker.
        this.desk.idle.stand(&mut this.place, cx.waker());
        if !this.desk.is_idle() {
            return Poll::Pending;
        }
        this.desk.idle.leave(&mut this.place);
        Poll::Ready(this.desk.stats())
    }
}

impl Drop for WaitAll {
    fn drop(&mut self) {
        self.desk.idle.leave(&mut self.place);
    }
}
