//! Jobs of any kind, so many at a time, over any executor.

mod desk;
mod driver;
mod job;

pub use desk::{SchedulerStats, WaitAll};
pub use driver::SchedulerDriver;
pub use job::{JobEnd, JobError, JobHandle, JobItems, JobReport};

use crate::encode::Request;
use crate::error::Error;
use crate::export::{Exporter, OtlpExportFuture};
use crate::outcome::Outcome;
use crate::rt::Runtime;
use alloc::format;
use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use desk::Desk;
use job::Job;

/// The settings of a [`SmartScheduler`]. Nothing is checked before that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerConfig {
    concurrency_max: usize,
    waiting_max: usize,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            concurrency_max: 16,
            waiting_max: 10_000,
        }
    }
}

impl SchedulerConfig {
    /// Sixteen jobs at a time, and 10,000 that wait.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many jobs are polled at a time, at least 1; 16 unless set.
    pub fn with_concurrency_max(mut self, jobs: usize) -> Self {
        self.concurrency_max = jobs;
        self
    }

    /// Sets how many jobs wait for their turn at most, at least 1; 10,000 unless set. A job beyond that is refused: its handle says so.
    pub fn with_waiting_max(mut self, jobs: usize) -> Self {
        self.waiting_max = jobs;
        self
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |text: &str| Err(Error::config(format!("SchedulerConfig::{text}")));
        if self.concurrency_max == 0 {
            return refuse(
                "with_concurrency_max: with 0 jobs at a time nothing is ever done; allow 1 at least",
            );
        }
        if self.waiting_max == 0 {
            return refuse("with_waiting_max: with room for 0 jobs none can be submitted; allow 1 at least");
        }
        Ok(())
    }
}

/// Runs jobs, so many at a time; what they are is the caller's affair: exports, or anything else that is a future.
///
/// Handle and [driver](SchedulerDriver) are separate, since the crate spawns nothing: the driver is a future to be run anywhere, and
/// polls the jobs. Handles clone. Jobs are `Send`, since handles and driver may live on different threads. A job's panic costs that
/// job alone. Whatever becomes of a job (its end, its panic, its cancellation, the end of the driver), it is counted once, with the
/// items that it had told of until then.
///
/// ```
/// use otlp_embed::pipeline::{SchedulerConfig, SmartScheduler};
///
/// # fn main() -> Result<(), otlp_embed::Error> {
/// let (scheduler, driver) = SmartScheduler::new(SchedulerConfig::new().with_concurrency_max(4))?;
/// let job = scheduler.submit(async { 6 * 7 });
/// assert_eq!(scheduler.task_count(), 1);
/// // It ends with the last handle; elsewhere it has a task of its own.
/// drop(scheduler);
/// futures_executor::block_on(driver);
/// assert_eq!(futures_executor::block_on(job).ok(), Some(42));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SmartScheduler {
    desk: Arc<Desk>,
    _last: Arc<Last>,
}

/// Takes no further jobs once the last handle is gone.
struct Last(Arc<Desk>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl SmartScheduler {
    /// A scheduler, and what drives it.
    ///
    /// # Errors
    ///
    /// A misuse error that names the setting that cannot work.
    pub fn new(config: SchedulerConfig) -> Result<(Self, SchedulerDriver), Error> {
        config.check()?;
        let desk = Arc::new(Desk::new(config.waiting_max));
        let scheduler = Self {
            _last: Arc::new(Last(desk.clone())),
            desk: desk.clone(),
        };
        Ok((scheduler, SchedulerDriver::new(desk, config.concurrency_max)))
    }

    /// Submits a job. It never waits: a job beyond the bound is refused, and its handle says so.
    ///
    /// Dropping the handle lets the job run on; [`JobHandle::cancel`] ends it.
    pub fn submit<F>(&self, job: F) -> JobHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.submit_with(|_| job)
    }

    /// As [`submit`](Self::submit), for a job that tells how many items it has dealt with: what it has told when it ends, in
    /// whatever way, is in its [`JobReport`] and in the [`SchedulerStats`].
    pub fn submit_with<F>(&self, job: impl FnOnce(JobItems) -> F) -> JobHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let items = JobItems::default();
        let (job, handle) = Job::new(job(items.clone()), items, self.desk.clone());
        self.desk.submit(job);
        handle
    }

    /// Submits the export of a request. Its items are counted by its outcome; all of them as failed, where it has none because the
    /// job was cancelled or panicked. The export, and with it its timeout, begins when it is the job's turn.
    pub fn submit_export<R>(
        &self,
        exporter: &Exporter<R>,
        request: Request,
    ) -> JobHandle<Result<Outcome, Error>>
    where
        R: Runtime + 'static,
        Exporter<R>: Send,
        OtlpExportFuture<R>: Send,
    {
        let exporter = exporter.clone();
        self.submit_with(move |items| {
            let unsettled = Unsettled {
                items,
                count: request.items(),
            };
            async move {
                let export = exporter.export(request);
                let result = export.await;
                let counts = match &result {
                    Ok(outcome) => outcome.counts(),
                    Err(error) => error.counts(),
                };
                unsettled.settle(counts.delivered);
                result
            }
        })
    }

    /// Is ready once no job waits or runs, with the account. Not to be awaited by a job: it would wait for itself.
    pub fn wait_all(&self) -> WaitAll {
        WaitAll::new(self.desk.clone())
    }

    /// How many jobs wait or run.
    pub fn task_count(&self) -> usize {
        let stats = self.desk.stats();
        stats.waiting + stats.running
    }

    /// The account at this moment.
    pub fn stats(&self) -> SchedulerStats {
        self.desk.stats()
    }
}

impl fmt::Debug for SmartScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmartScheduler")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The items of an export that has no verdict: they have failed when it is dropped.
struct Unsettled {
    items: JobItems,
    count: u64,
}

impl Unsettled {
    fn settle(mut self, delivered: u64) {
        let count = core::mem::take(&mut self.count);
        self.items.add_done(delivered.min(count));
        self.items.add_failed(count.saturating_sub(delivered));
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.items.add_failed(self.count);
    }
}
