//! A stream of telemetry in, many exports in flight, an account that outlives the run.

mod config;
mod gather;
mod stats;

pub use config::StreamingConfig;
pub use gather::StreamItem;
pub use stats::{ExportStats, StreamHandle};

use super::exports::{Exports, poll_time};
use crate::encode::{Request, Signal};
use crate::error::Error;
use crate::export::Exporter;
use crate::foreign::dispose;
use crate::pipeline::config::GRPC_BATCH_BYTES_MAX;
use crate::rt::Runtime;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use futures_core::{FusedFuture, Stream};
use gather::Gathered;
use stats::Shared;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Items taken from the source, and verdicts, in one poll before it yields.
const STEPS_MAX: usize = 1_024;

/// Exports what a [`Stream`] gives, several exports at a time.
///
/// The stream gives whatever converts into a [`StreamItem`]: a [`Request`], a [`SpanBatch`](super::SpanBatch), or single
/// spans. Requests and batches are exported as they come, each on its own; single spans are gathered into batches, which are
/// closed by their number, their bytes or their age, whichever comes first (see [`StreamingConfig`]).
///
/// At most [`concurrency_max`](StreamingConfig::with_concurrency_max) exports run at a time, over the exporter's connections. The source
/// is polled only while fewer run and the open batch has room: so it feels the collector's pace, and what the run holds is
/// bounded by that many requests and one open batch. It also rests while the exporter's memory limit has no room beside what the
/// run has in flight; memory that others hold is not waited for.
///
/// Each export has the exporter's own retries within the exporter's own timeout; what fails after that is counted as failed and
/// not exported again. A [pipeline](super::Pipeline) goes on for longer.
///
/// ```no_run
/// use otlp_embed::pipeline::{StreamingConfig, StreamingOtlpExporter};
/// use otlp_embed::{Config, Request, rt};
///
/// # async fn run(requests: impl futures_core::Stream<Item = Request>) -> Result<(), otlp_embed::Error> {
/// let exporter = Config::new().build(rt::Tokio::current()?)?;
/// let streaming = StreamingOtlpExporter::new(&exporter, StreamingConfig::new().with_concurrency_max(16))?;
/// let handle = streaming.handle();
/// let stats = streaming.run(requests).await;
/// println!("{} exported, p99 {:?}", stats.total_exported, stats.latency.p99);
/// assert_eq!(handle.stats(), stats);
/// # Ok(())
/// # }
/// ```
pub struct StreamingOtlpExporter<R: Runtime> {
    exporter: Exporter<R>,
    exports: Exports<R>,
    config: StreamingConfig,
    shared: Arc<Shared>,
}

impl<R: Runtime> StreamingOtlpExporter<R> {
    /// A run over this exporter, to be begun with [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// A misuse error that names the setting that cannot work. In a child of the exporter's process, an error that says so.
    pub fn new(exporter: &Exporter<R>, config: StreamingConfig) -> Result<Self, Error> {
        config.check()?;
        Ok(Self {
            exports: Exports::new(exporter, "StreamingOtlpExporter::new")?,
            exporter: exporter.clone(),
            config,
            shared: Arc::default(),
        })
    }

    /// Shows what became of everything, while the run lasts and after it.
    pub fn handle(&self) -> StreamHandle {
        StreamHandle::new(self.shared.clone())
    }

    /// Exports what the source gives, until it ends and everything has its verdict. Nothing happens before the first poll.
    pub fn run<S>(self, source: S) -> StreamingRun<R, S>
    where
        S: Stream,
        S::Item: Into<StreamItem>,
    {
        let (is_grpc, limit) = self.exporter.limits(Signal::Traces);
        let usual = if is_grpc { GRPC_BATCH_BYTES_MAX } else { limit };
        let bytes_max = self.config.batch_bytes_max.unwrap_or(usual).min(limit);
        StreamingRun {
            source: Some(source),
            work: Work {
                timer: self.exports.runtime().timer(),
                exports: self.exports,
                open: Gathered::new(&self.config, bytes_max),
                concurrency_max: self.config.concurrency_max,
                shared: self.shared,
                panic: None,
                has_begun: false,
                is_over: false,
            },
        }
    }
}

impl<R: Runtime> fmt::Debug for StreamingOtlpExporter<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamingOtlpExporter")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

pin_project_lite::pin_project! {
    /// A source on its way to the collector; see [`StreamingOtlpExporter::run`].
    ///
    /// It ends once the source has ended and every export has its verdict. It also stops taking from the source, and drops it,
    /// once an export says that the exporter was shut down or its runtime is gone: nothing can be exported any more then, and
    /// [`StreamHandle::last_error`] says why. Polled again after its end, it gives the same.
    ///
    /// In a child of `fork` it ends at once: what was taken is the parent's.
    ///
    /// On [`rt::Blocking`](crate::rt::Blocking) it blocks the thread that polls it until it ends; a source that is woken by
    /// another thread wakes it.
    ///
    /// # Panics
    ///
    /// With the panic of the source, if that panicked (or its conversion, or its drop), once everything taken before has its
    /// verdict: nothing of that is lost, and it is counted. With that of other foreign code, such as a runtime's, at once: it has
    /// ended then as if it were dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the source, gives up the open batch and cancels the exports in flight; their items count as failed
    /// here, and exactly in the exporter's account. What the source had not given yet stays with the source.
    #[must_use = "nothing is exported unless it is awaited"]
    pub struct StreamingRun<R: Runtime, S> {
        #[pin]
        source: Option<S>,
        work: Work<R>,
    }
}

/// Everything but the source. It is never pinned in place.
struct Work<R: Runtime> {
    exports: Exports<R>,
    timer: R::Timer,
    open: Gathered,
    concurrency_max: usize,
    shared: Arc<Shared>,
    /// What the source panicked with.
    panic: Option<Box<dyn Any + Send>>,
    has_begun: bool,
    is_over: bool,
}

impl<R: Runtime> Work<R> {
    /// Works until nothing moves, the budget is spent or the end has come.
    fn work<S>(&mut self, mut source: Pin<&mut Option<S>>, cx: &mut Context<'_>) -> Poll<()>
    where
        S: Stream,
        S::Item: Into<StreamItem>,
    {
        if !self.has_begun {
            self.has_begun = true;
            self.shared.begin(self.exports.runtime().now());
        }
        let mut steps = 0;
        loop {
            let mut has_moved = false;
            while let Poll::Ready(ended) = self.exports.poll(cx) {
                has_moved = true;
                steps += 1;
                let now = self.exports.runtime().now();
                if self.shared.end_export(now, ended) {
                    self.drop_source(source.as_mut());
                }
            }
            if self.has_room() && self.must_close(source.is_none(), cx) {
                let request = self.open.close();
                self.submit(request);
                has_moved = true;
            }
            while steps < STEPS_MAX && self.has_room() && !self.open.is_full() && source.is_some() {
                let Poll::Ready(item) = self.poll_source(source.as_mut(), cx) else {
                    break;
                };
                has_moved = true;
                steps += 1;
                match item {
                    Some(item) => self.take(item),
                    None => self.drop_source(source.as_mut()),
                }
            }
            if source.is_none() && self.open.is_empty() && self.exports.is_empty() {
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

    fn has_room(&self) -> bool {
        self.exports.len() < self.concurrency_max && !self.exports.is_held_up()
    }

    /// Whether the open batch is to be exported now. Where it is not, the timer is set.
    fn must_close(&mut self, is_last: bool, cx: &mut Context<'_>) -> bool {
        let Some(due) = self.open.due() else {
            return false;
        };
        is_last || self.open.is_full() || {
            let is_due = self.exports.runtime().now() >= due;
            is_due || poll_time(&mut self.timer, cx, due).is_ready()
        }
    }

    /// The next of the source; none at its end, or where it panicked.
    fn poll_source<S>(
        &mut self,
        source: Pin<&mut Option<S>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<StreamItem>>
    where
        S: Stream,
        S::Item: Into<StreamItem>,
    {
        let Some(source) = source.as_pin_mut() else {
            return Poll::Ready(None);
        };
        let next = AssertUnwindSafe(|| source.poll_next(cx).map(|item| item.map(Into::into)));
        catch_unwind(next).unwrap_or_else(|panic| {
            self.keep(panic);
            Poll::Ready(None)
        })
    }

    fn drop_source<S>(&mut self, mut source: Pin<&mut Option<S>>) {
        let dropped = catch_unwind(AssertUnwindSafe(|| source.set(None)));
        if let Err(panic) = dropped {
            self.keep(panic);
        }
    }

    /// Of several panics the first goes on, once the account is closed.
    fn keep(&mut self, panic: Box<dyn Any + Send>) {
        match &self.panic {
            Some(_) => dispose(panic),
            None => self.panic = Some(panic),
        }
    }

    fn take(&mut self, item: StreamItem) {
        let span = match item {
            StreamItem::Span(span) => span,
            StreamItem::Batch(batch) => return self.take_request(batch.into()),
            StreamItem::Request(request) => return self.take_request(request),
        };
        let bytes = gather::len_of(&span);
        if !self.open.fits(bytes) {
            let request = self.open.close();
            self.submit(request);
        }
        self.shared.take(1);
        let runtime = self.exports.runtime();
        self.open.push(span, bytes, || runtime.now());
    }

    fn take_request(&mut self, request: Request) {
        // An empty one is never sent, and has nothing to count.
        if !request.is_empty() {
            self.shared.take(request.items());
            self.submit(request);
        }
    }

    fn submit(&mut self, request: Request) {
        self.shared.begin_export();
        self.exports.submit(request);
    }

    fn end(&mut self) {
        self.is_over = true;
        let is_foreign = self.exports.is_foreign();
        let (shared, runtime) = (&self.shared, self.exports.runtime().clone());
        // A run that is kept after its end must not be what drives the connections.
        self.exports.close(|ended| {
            shared.end_export(runtime.now(), ended);
        });
        let has_time = self.has_begun && !is_foreign;
        shared.end(has_time.then(|| runtime.now()));
    }
}

impl<R: Runtime, S> Future for StreamingRun<R, S>
where
    S: Stream,
    S::Item: Into<StreamItem>,
{
    type Output = ExportStats;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ExportStats> {
        let this = self.project();
        let (mut source, work) = (this.source, this.work);
        if !work.is_over {
            if work.exports.is_foreign() {
                // What was taken is the parent's, and so is the runtime.
                work.drop_source(source);
                work.end();
            } else {
                let runtime = work.exports.runtime().clone();
                // Foreign code that panics under it must not leave the account open.
                let polled = AssertUnwindSafe(|| runtime.drive(cx, |cx| work.work(source.as_mut(), cx)));
                match catch_unwind(polled) {
                    Ok(Poll::Pending) => return Poll::Pending,
                    Ok(Poll::Ready(())) => work.end(),
                    Err(panic) => {
                        work.drop_source(source.as_mut());
                        work.end();
                        resume_unwind(panic);
                    }
                }
            }
            if let Some(panic) = work.panic.take() {
                resume_unwind(panic);
            }
        }
        Poll::Ready(work.shared.stats())
    }
}

impl<R: Runtime, S> FusedFuture for StreamingRun<R, S>
where
    S: Stream,
    S::Item: Into<StreamItem>,
{
    fn is_terminated(&self) -> bool {
        self.work.is_over
    }
}

impl<R: Runtime> Drop for Work<R> {
    fn drop(&mut self) {
        if !self.is_over {
            self.end();
        }
    }
}

impl<R: Runtime, S> fmt::Debug for StreamingRun<R, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamingRun")
            .field("stats", &self.work.shared.stats())
            .finish_non_exhaustive()
    }
}
