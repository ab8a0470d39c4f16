//! Exporters: what the SDK's own processors and readers hand their batches to.

use super::alarm::Alarm;
use super::losses::Losses;
use super::processors::Failure;
use crate::config::TemporalityPreference;
use crate::encode::{Request, Resource, Signal};
use crate::error::Error;
use crate::export::{Exporter, OtlpExportFuture};
use crate::outcome::Outcome;
use crate::pipeline::{Pipeline, Refusal};
use crate::rt::Runtime;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll};
use core::time::Duration;

/// How much longer than its own time an export may take where nobody drives its runtime.
const GRACE: Duration = Duration::from_secs(1);

/// Exports the batches of the SDK's span processors.
///
/// A batch is encoded at the call, in one pass; texts of 1 KiB and more are referenced, each held alone, and the rest of the batch
/// is freed before the future is first polled. The future ends with the verdict: an error tells that spans were lost or rejected.
///
/// The SDK's processors export one batch at a time, give it no second chance, and drop spans while their queue is full;
/// [`SpanProcessor`](super::SpanProcessor) does none of it.
///
/// After `shutdown` every export is refused. The [`Exporter`] lives on, for its other users.
///
/// # Cancel safety
///
/// Dropping the future of an export cancels that export, and its spans are counted. A future that is leaked keeps memory of its
/// own, nothing of the caller's.
#[derive(Debug)]
pub struct SpanExporter {
    pub(super) outlet: Outlet,
    pub(super) resource: Option<Resource>,
}

/// Exports the batches of the SDK's log processors.
///
/// Records are copied once, at the call: nothing of the lent batch is kept. In all else it is as [`SpanExporter`].
#[derive(Debug)]
pub struct LogExporter {
    pub(super) outlet: Outlet,
    pub(super) resource: Option<Resource>,
}

/// Exports what the SDK's meter providers collect.
///
/// [`new`](Self::new) exports each collection and waits for its verdict: what an outage longer than the exporter's time costs is
/// lost, and with delta temporality its increments with it. [`queued`](Self::queued) puts it into a pipeline and returns; there
/// it is retried until it is delivered or given up, and accounted for.
///
/// Metrics are copied once, at the call: nothing of the lent collection is kept. The temporality is what the exporter's
/// [`Config`](crate::Config) prefers, cumulative unless set.
///
/// # Cancel safety
///
/// Dropping the future of an export cancels that export, or takes it out of the line before a full queue; its data points are
/// counted.
#[derive(Debug)]
pub struct MetricExporter {
    pub(super) outlet: Outlet,
    pub(super) temporality: TemporalityPreference,
    /// Encoded once for each version of the SDK, and again when it changes.
    pub(super) v0_33: super::v0_33::ResourceMemo,
}

impl SpanExporter {
    /// An exporter of spans over this one, whose connections and account it shares.
    pub fn new<R>(exporter: &Exporter<R>) -> Self
    where
        R: Runtime + 'static,
        Exporter<R>: Send + Sync,
        OtlpExportFuture<R>: Send,
    {
        Self {
            outlet: Outlet::export(exporter),
            resource: None,
        }
    }
}

impl LogExporter {
    /// An exporter of log records over this one, whose connections and account it shares.
    pub fn new<R>(exporter: &Exporter<R>) -> Self
    where
        R: Runtime + 'static,
        Exporter<R>: Send + Sync,
        OtlpExportFuture<R>: Send,
    {
        Self {
            outlet: Outlet::export(exporter),
            resource: None,
        }
    }
}

impl MetricExporter {
    /// An exporter of metrics over this one, whose connections and account it shares.
    pub fn new<R>(exporter: &Exporter<R>) -> Self
    where
        R: Runtime + 'static,
        Exporter<R>: Send + Sync,
        OtlpExportFuture<R>: Send,
    {
        Self {
            outlet: Outlet::export(exporter),
            temporality: exporter.config_report().temporality_preference(),
            v0_33: Default::default(),
        }
    }

    /// An exporter that queues each collection in this pipeline, and returns when it was admitted, so that the increments of delta
    /// temporality outlive an outage. Where the queue is full and blocks it waits for room, for 10 s at most; what is not
    /// admitted counts as dropped.
    ///
    /// `force_flush` and `shutdown` flush the pipeline, and fail where it lost data points since they last told, those of the
    /// exporter's own metrics among them; what was not admitted its own call told.
    pub fn queued(pipeline: &Pipeline) -> Self {
        Self {
            outlet: Outlet::queue(pipeline),
            temporality: pipeline.temporality_preference(),
            v0_33: Default::default(),
        }
    }

    /// Sets the temporality to collect with.
    pub fn with_temporality(mut self, preference: TemporalityPreference) -> Self {
        self.temporality = preference;
        self
    }
}

/// Where requests go, and whether they still do.
pub(super) struct Outlet {
    to: To,
    is_closed: AtomicBool,
}

enum To {
    Exporter(Arc<dyn Export>),
    Queue(Pipeline, Losses),
}

/// An exporter on whatever runtime.
trait Export: Send + Sync {
    fn export(&self, request: Request) -> Exporting;
    fn timeout(&self, signal: Signal) -> Duration;
}

type Exporting = Pin<Box<dyn Future<Output = Result<Outcome, Error>> + Send>>;

impl<R> Export for Exporter<R>
where
    R: Runtime + 'static,
    Exporter<R>: Send + Sync,
    OtlpExportFuture<R>: Send,
{
    fn export(&self, request: Request) -> Exporting {
        Box::pin(Exporter::export(self, request))
    }

    fn timeout(&self, signal: Signal) -> Duration {
        Exporter::timeout(self, signal)
    }
}

/// For how long a queue that is full may keep a collection waiting.
const QUEUE_TIME: Duration = Duration::from_secs(10);
const FLUSH_TIME: Duration = Duration::from_secs(5);

impl Outlet {
    fn export<R>(exporter: &Exporter<R>) -> Self
    where
        R: Runtime + 'static,
        Exporter<R>: Send + Sync,
        OtlpExportFuture<R>: Send,
    {
        Self {
            to: To::Exporter(Arc::new(exporter.clone())),
            is_closed: AtomicBool::new(false),
        }
    }

    fn queue(pipeline: &Pipeline) -> Self {
        Self {
            to: To::Queue(pipeline.clone(), Losses::new(pipeline, Signal::Metrics)),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Begins the export of a request, which is made now, unless it was shut down.
    pub(super) fn send_with(&self, request: impl FnOnce() -> Request) -> Sending {
        match self.is_closed() {
            true => Sending(Stage::Ready(Err(Failure::Closed))),
            false => self.send(request()),
        }
    }

    fn send(&self, request: Request) -> Sending {
        // Also one without items, where there are some that could not be written: they are counted.
        if request.is_empty() && request.refused() == 0 {
            return Sending(Stage::Ready(Ok(())));
        }
        let (signal, items) = (request.signal(), request.items());
        match &self.to {
            To::Exporter(exporter) => {
                let time = request.timeout().unwrap_or_else(|| exporter.timeout(signal));
                Sending(Stage::Exporting(exporter.export(request), Limit::of(time, GRACE)))
            }
            To::Queue(pipeline, _) => {
                let admitting = Box::pin(pipeline.send(request));
                Sending(Stage::Admitting(Admitting {
                    admitting,
                    pipeline: pipeline.clone(),
                    signal,
                    items,
                    limit: Limit::of(QUEUE_TIME, Duration::ZERO),
                    is_settled: false,
                }))
            }
        }
    }

    pub(super) fn flush(&self) -> Result<(), Failure> {
        match &self.to {
            _ if self.is_closed() => Err(Failure::Closed),
            // It holds nothing: an export has ended when its caller goes on.
            To::Exporter(_) => Ok(()),
            To::Queue(pipeline, losses) => losses.flush(pipeline, FLUSH_TIME),
        }
    }

    pub(super) fn shutdown(&self, timeout: Duration) -> Result<(), Failure> {
        match &self.to {
            _ if self.is_closed.swap(true, Ordering::Relaxed) => Err(Failure::Closed),
            To::Exporter(_) => Ok(()),
            To::Queue(pipeline, losses) => losses.flush(pipeline, timeout),
        }
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = match &self.to {
            To::Exporter(_) => "exporter",
            To::Queue(..) => "pipeline",
        };
        f.debug_struct("Outlet")
            .field("to", &to)
            .field("is_closed", &self.is_closed())
            .finish()
    }
}

/// An export on its way to its verdict.
pub(super) struct Sending(Stage);

enum Stage {
    Ready(Result<(), Failure>),
    Exporting(Exporting, Limit),
    Admitting(Admitting),
    Over,
}

/// A request that waits for room in a queue.
struct Admitting {
    admitting: Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>,
    pipeline: Pipeline,
    signal: Signal,
    items: u64,
    limit: Limit,
    is_settled: bool,
}

/// The time of an export, and the alarm that keeps it where its runtime does not.
struct Limit {
    time: Duration,
    grace: Duration,
    alarm: Option<Alarm>,
}

impl Future for Sending {
    type Output = Result<(), Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self(stage) = &mut *self;
        let output = match stage {
            Stage::Over => Err(Failure::Closed),
            Stage::Ready(_) => match core::mem::replace(stage, Stage::Over) {
                Stage::Ready(output) => output,
                _ => Err(Failure::Closed),
            },
            Stage::Exporting(exporting, limit) => match exporting.as_mut().poll(cx) {
                Poll::Ready(verdict) => verdict_of(verdict, limit.time),
                Poll::Pending if limit.is_over(cx) => Err(Failure::TimedOut(limit.time)),
                Poll::Pending => return Poll::Pending,
            },
            Stage::Admitting(admitting) => match admitting.admitting.as_mut().poll(cx) {
                Poll::Ready(admitted) => admitting.settle(admitted),
                Poll::Pending if admitting.limit.is_over(cx) => admitting.settle(Err(Refusal::TIMED_OUT)),
                Poll::Pending => return Poll::Pending,
            },
        };
        *stage = Stage::Over;
        Poll::Ready(output)
    }
}

impl Admitting {
    /// What was not admitted is counted.
    fn settle(&mut self, admitted: Result<(), Refusal>) -> Result<(), Failure> {
        self.is_settled = true;
        let Err(refusal) = admitted else {
            return Ok(());
        };
        self.pipeline.turn_away(self.signal, self.items, refusal);
        if refusal.is_timeout() {
            return Err(Failure::TimedOut(self.limit.time));
        }
        Err(Failure::Other(format!(
            "{} data points dropped: {refusal}",
            self.items
        )))
    }
}

impl Drop for Admitting {
    /// Its collection is gone with it.
    fn drop(&mut self) {
        if !self.is_settled {
            self.pipeline.give_up(self.signal, self.items);
        }
    }
}

impl Limit {
    fn of(time: Duration, grace: Duration) -> Self {
        Self {
            time,
            grace,
            alarm: None,
        }
    }

    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        match &self.alarm {
            // Between the two the other waker may have been woken in vain.
            Some(alarm) => alarm.is_over() || !alarm.update(cx.waker()),
            None => {
                self.alarm = Some(Alarm::after(self.time.saturating_add(self.grace), cx.waker()));
                false
            }
        }
    }
}

fn verdict_of(verdict: Result<Outcome, Error>, time: Duration) -> Result<(), Failure> {
    match verdict {
        Ok(outcome) if outcome.delivered() == outcome.counts().total() => Ok(()),
        Ok(outcome) => {
            let message = outcome.message().unwrap_or_default();
            Err(Failure::Other(format!("{}: {message}", outcome.counts())))
        }
        Err(error) if error.is_timeout() => Err(Failure::TimedOut(time)),
        Err(error) => Err(Failure::Other(error.to_string())),
    }
}
