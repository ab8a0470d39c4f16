//! The handle that producers write to.

use super::FlushReport;
use super::delivery::{OpenBatch, OpenKey, Own};
use super::flush::{Flush, PipelineShutdown};
use super::park::{self, Limit};
use super::queue::Place;
use super::refusal::Refusal;
use super::shared::{Shared, Wish, Write};
use super::stats::PipelineStats;
use crate::encode::{LogBatch, MetricBatch, Request, Signal, TraceBatch};
use crate::error::Error;
use crate::stats::Report;
#[cfg(feature = "opentelemetry_0_33")]
use crate::{
    config::TemporalityPreference,
    outcome::{DropReason, ItemCounts},
};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::{Context, Poll};
use core::time::Duration;

/// For how long a shutdown that blocks its thread leaves the future time to close the account. Both ending at one moment, what is
/// given up would be told as in flight more often than as dropped.
const CLOSING_MAX: Duration = Duration::from_millis(100);

/// Where a program's threads and tasks put their telemetry; made by [`Exporter::pipeline`](crate::Exporter::pipeline).
///
/// Clones write to the same pipeline. Items are written straight into the open batch of their signal, which is shared by all
/// producers; a producer that panics while it writes loses the item that it was writing and nothing else. Everything
/// counts from the moment it is taken, and [`stats`](Self::stats) tells at any time what became of it.
///
/// When the queue is full, what happens is the signal's choice: see [`Overflow`](super::Overflow). Under
/// [`Overflow::Block`](super::Overflow::Block), [`spans`](Self::spans), [`logs`](Self::logs), [`metrics`](Self::metrics) and
/// [`send_blocking`](Self::send_blocking) block their thread: on an executor take the methods that are awaited, and never block
/// the thread that the pipeline's future needs. Within the poll of that future, as in an observer's callback or a logger, they
/// do not block: what finds no room is refused there and counts as dropped.
///
/// Dropping the last handle closes the pipeline: its future delivers what is queued and ends. Handles keep neither the
/// future nor the exporter alive; once the future is gone they refuse everything ([`Refusal::is_closed`]) and nobody waits.
///
/// It belongs to the process that made it. In a child of `fork(2)` it is closed: what the parent queued is sent by the parent
/// alone, and what a child writes is refused, but for fewer than 32 writes of items, which go nowhere.
#[derive(Clone)]
pub struct Pipeline {
    handle: Arc<Handle>,
    own: Own,
}

/// What all clones share; its end is the end of the last.
struct Handle {
    core: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.wish(Wish::Orphaned);
    }
}

impl Pipeline {
    pub(super) fn new(core: Arc<Shared>) -> Self {
        Self {
            handle: Arc::new(Handle { core }),
            own: Own::default(),
        }
    }

    /// Writes spans into the open batch, of the pipeline's resource unless the closure names another, and of no scope
    /// until it names one. Under [`Overflow::Block`](super::Overflow::Block) it blocks the thread while there is no room.
    ///
    /// The closure runs outside every lock; other producers write meanwhile. Where the batch is full afterwards, this
    /// thread makes it a request.
    ///
    /// It is let in where there is room for one item, since nobody knows before how much it writes: what it writes beyond that
    /// passes the bounds of the queue. Write few items at a time.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] says why they were not taken; the closure has not run then. Where that is counted as dropped
    /// ([`Refusal::drop_reason`]), it counts as one item, however many the closure would have written.
    ///
    /// # Panics
    ///
    /// Where the closure does; what it had finished is kept, and so is an item whose writer the panic drops whole, as it
    /// stands then. One that the panic tore, within an event of it or a link, is lost, and counts as
    /// dropped once its batch is closed.
    pub fn spans(&self, write: impl FnOnce(&mut TraceBatch)) -> Result<(), Refusal> {
        self.write(Signal::Traces, Spans(write))
    }

    /// Writes log records; as [`spans`](Self::spans).
    ///
    /// # Errors
    ///
    /// As [`spans`](Self::spans).
    pub fn logs(&self, write: impl FnOnce(&mut LogBatch)) -> Result<(), Refusal> {
        self.write(Signal::Logs, Logs(write))
    }

    /// Writes data points; as [`spans`](Self::spans).
    ///
    /// # Errors
    ///
    /// As [`spans`](Self::spans).
    pub fn metrics(&self, write: impl FnOnce(&mut MetricBatch)) -> Result<(), Refusal> {
        self.write(Signal::Metrics, Metrics(write))
    }

    /// As [`spans`](Self::spans), without ever waiting.
    ///
    /// # Errors
    ///
    /// As [`spans`](Self::spans); full also under [`Overflow::Block`](super::Overflow::Block), with nothing counted.
    pub fn try_spans(&self, write: impl FnOnce(&mut TraceBatch)) -> Result<(), Refusal> {
        self.try_write(Signal::Traces, Spans(write))
    }

    /// As [`logs`](Self::logs), without ever waiting.
    ///
    /// # Errors
    ///
    /// As [`try_spans`](Self::try_spans).
    pub fn try_logs(&self, write: impl FnOnce(&mut LogBatch)) -> Result<(), Refusal> {
        self.try_write(Signal::Logs, Logs(write))
    }

    /// As [`metrics`](Self::metrics), without ever waiting.
    ///
    /// # Errors
    ///
    /// As [`try_spans`](Self::try_spans).
    pub fn try_metrics(&self, write: impl FnOnce(&mut MetricBatch)) -> Result<(), Refusal> {
        self.try_write(Signal::Metrics, Metrics(write))
    }

    /// As [`spans`](Self::spans), for tasks: under [`Overflow::Block`](super::Overflow::Block) the future waits for room,
    /// behind those who wait already.
    ///
    /// # Errors
    ///
    /// The future's: as [`spans`](Self::spans).
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it has written nothing; whoever waits behind takes the turn. A future that is kept but
    /// not polled holds up those behind it.
    pub fn spans_async<F: FnOnce(&mut TraceBatch)>(
        &self,
        write: F,
    ) -> impl Future<Output = Result<(), Refusal>> + use<F> {
        self.clone().writing(Signal::Traces, Spans(write))
    }

    /// As [`logs`](Self::logs), for tasks; as [`spans_async`](Self::spans_async).
    pub fn logs_async<F: FnOnce(&mut LogBatch)>(
        &self,
        write: F,
    ) -> impl Future<Output = Result<(), Refusal>> + use<F> {
        self.clone().writing(Signal::Logs, Logs(write))
    }

    /// As [`metrics`](Self::metrics), for tasks; as [`spans_async`](Self::spans_async).
    pub fn metrics_async<F: FnOnce(&mut MetricBatch)>(
        &self,
        write: F,
    ) -> impl Future<Output = Result<(), Refusal>> + use<F> {
        self.clone().writing(Signal::Metrics, Metrics(write))
    }

    /// Queues a whole request. Under [`Overflow::Block`](super::Overflow::Block) it waits for room, behind those who wait
    /// already; otherwise it is ready at once. Requests whose headers or times of their own differ are never merged. The
    /// headers of [`with_header`](Self::with_header) are not added: the request says for itself what it has.
    ///
    /// # Errors
    ///
    /// The future's: the [`Refusal`] says why it was not taken.
    ///
    /// # Cancel safety
    ///
    /// As [`spans_async`](Self::spans_async).
    pub fn send(&self, request: Request) -> impl Future<Output = Result<(), Refusal>> + use<> {
        self.clone().sending(request)
    }

    /// As [`send`](Self::send), blocking the thread, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] says why it was not taken.
    pub fn send_blocking(&self, request: Request, timeout: Duration) -> Result<(), Refusal> {
        let core = self.core();
        if core.is_moved_here() {
            let (signal, items) = (request.signal(), request.items());
            let sent = match core.has_line(signal) {
                true => Err(request),
                false => core.try_send(request),
            };
            return sent.unwrap_or_else(|_| Err(core.refuse_full(signal, items)));
        }
        let sending = pin!(self.clone().sending(request));
        park::wait(sending, Some(&Limit::after(timeout))).unwrap_or(Err(Refusal::TIMED_OUT))
    }

    /// Queues a whole request without ever waiting.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] says why it was not taken. To keep a request that was not, send a clone: clones share its bytes.
    pub fn try_send(&self, request: Request) -> Result<(), Refusal> {
        let core = self.core();
        if core.has_line(request.signal()) {
            return Err(Refusal::FULL);
        }
        core.try_send(request).unwrap_or(Err(Refusal::FULL))
    }

    /// A handle whose items carry a header of their own beside the exporter's, as a tenant's. They go into open batches of
    /// their own and are never merged with others.
    ///
    /// # Errors
    ///
    /// A misuse error when the name or the value is not fit for gRPC metadata.
    pub fn with_header(&self, name: &str, value: &str) -> Result<Self, Error> {
        let bare = self
            .own
            .apply(Request::from_segments(Signal::Traces, 0, Vec::new()));
        Ok(Self {
            handle: self.handle.clone(),
            own: Own::of(&bare.with_header(name, value)?),
        })
    }

    /// Exports everything taken so far without waiting for full batches, and tells what became of it: ready when all of it
    /// is settled, at the latest after `timeout` from when the pipeline's future sees it.
    ///
    /// # Errors
    ///
    /// The future's: a shutdown error, when the pipeline has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, the flush goes on and nobody is told.
    pub fn flush(&self, timeout: Duration) -> Flush {
        Flush::new(self.core().clone(), timeout)
    }

    /// As [`flush`](Self::flush), blocking the thread, for `timeout` at most whatever the pipeline's future does.
    ///
    /// # Errors
    ///
    /// As the future of [`flush`](Self::flush).
    pub fn flush_blocking(&self, timeout: Duration) -> Result<FlushReport, Error> {
        Flush::new(self.core().clone(), timeout).wait(timeout)
    }

    /// Ends the pipeline and all its handles: from this call on nothing more is taken and producers that wait are refused,
    /// and what is queued has until `timeout` from when the pipeline's future sees it, also while it is connecting, backing
    /// off or parked by an open breaker. What is left then is dropped. Of several shutdowns the earliest end counts, and each
    /// gets the report. One after the end gets it at once.
    ///
    /// A future that is never polled nor dropped keeps it waiting: [`shutdown_blocking`](Self::shutdown_blocking) does not.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, the shutdown goes on.
    pub fn shutdown(&self, timeout: Duration) -> PipelineShutdown {
        PipelineShutdown::new(self.core().clone(), timeout)
    }

    /// As [`shutdown`](Self::shutdown), blocking the thread, for `timeout` at most whatever the pipeline's future does. The
    /// last eighth of it, 100 ms at most, is left to the future for closing the account. What is not settled then, since
    /// nobody runs the future, is told as queued and in flight.
    pub fn shutdown_blocking(&self, timeout: Duration) -> Report {
        let closing = (timeout / 8).min(CLOSING_MAX);
        PipelineShutdown::new(self.core().clone(), timeout - closing).wait(timeout)
    }

    /// The account at this moment. A handle knows no clock: ages and breakers are as of when the pipeline last moved, and those
    /// of [`Exporter::stats`](crate::Exporter::stats) as of now.
    pub fn stats(&self) -> PipelineStats {
        self.core().stats()
    }

    /// Whether it takes nothing more.
    pub fn is_closed(&self) -> bool {
        self.core().is_closed()
    }

    /// As [`spans`](Self::spans), for a producer that waits no longer than this and cannot be told: what is not taken counts
    /// as dropped, as one span.
    #[cfg(feature = "opentelemetry_0_33")]
    pub(crate) fn put_spans(
        &self,
        wait_max: Duration,
        write: impl FnOnce(&mut TraceBatch),
    ) -> Result<(), Refusal> {
        self.put(Signal::Traces, wait_max, Spans(write))
    }

    /// As [`put_spans`](Self::put_spans), for log records.
    #[cfg(feature = "opentelemetry_0_33")]
    pub(crate) fn put_logs(
        &self,
        wait_max: Duration,
        write: impl FnOnce(&mut LogBatch),
    ) -> Result<(), Refusal> {
        self.put(Signal::Logs, wait_max, Logs(write))
    }

    /// Counts items that were refused as dropped, where the refusal did not.
    #[cfg(feature = "opentelemetry_0_33")]
    pub(crate) fn turn_away(&self, signal: Signal, items: u64, refusal: Refusal) {
        if refusal.drop_reason().is_none() {
            let reason = match refusal.is_closed() {
                true => DropReason::Shutdown,
                false => DropReason::QueueFull,
            };
            self.core().turn_away(signal, items, reason);
        }
    }

    /// Counts items as dropped whose producer gave up waiting for room.
    #[cfg(feature = "opentelemetry_0_33")]
    pub(crate) fn give_up(&self, signal: Signal, items: u64) {
        self.core().turn_away(signal, items, DropReason::Cancelled);
    }

    /// Items of a signal that it took and lost so far, counted once for each destination, and those that it refused not.
    #[cfg(feature = "opentelemetry_0_33")]
    pub(crate) fn losses(&self, signal: Signal) -> ItemCounts {
        self.core().losses(signal)
    }

    /// How many destinations each item is for.
    #[cfg(feature = "opentelemetry_0_33")]
    pub(crate) fn destinations(&self) -> u64 {
        self.core().destinations()
    }

    /// The temporality that its exporter is set to prefer.
    #[cfg(feature = "opentelemetry_0_33")]
    pub(crate) fn temporality_preference(&self) -> TemporalityPreference {
        self.core().temporality
    }

    fn core(&self) -> &Arc<Shared> {
        &self.handle.core
    }

    #[cfg(feature = "opentelemetry_0_33")]
    fn put<W: Write>(&self, signal: Signal, wait_max: Duration, write: W) -> Result<(), Refusal> {
        let core = self.core();
        let written = match core.has_line(signal) {
            true => Err(write),
            false => core.try_write(&self.key(signal), write),
        };
        let written = written.unwrap_or_else(|write| {
            if core.is_moved_here() {
                return Err(core.refuse_full(signal, 1));
            }
            let writing = pin!(self.clone().writing(signal, write));
            park::wait(writing, Some(&Limit::after(wait_max))).unwrap_or(Err(Refusal::TIMED_OUT))
        });
        if let Err(refusal) = written {
            self.turn_away(signal, 1, refusal);
        }
        written
    }

    fn key(&self, signal: Signal) -> OpenKey {
        OpenKey {
            signal,
            own: self.own.clone(),
        }
    }

    fn write<W: Write>(&self, signal: Signal, write: W) -> Result<(), Refusal> {
        let core = self.core();
        let write = match core.has_line(signal) {
            true => write,
            false => match core.try_write(&self.key(signal), write) {
                Ok(written) => return written,
                Err(write) => write,
            },
        };
        if core.is_moved_here() {
            return Err(core.refuse_full(signal, 1));
        }
        let writing = pin!(self.clone().writing(signal, write));
        park::wait(writing, None).unwrap_or(Err(Refusal::TIMED_OUT))
    }

    fn try_write<W: Write>(&self, signal: Signal, write: W) -> Result<(), Refusal> {
        let core = self.core();
        if core.has_line(signal) {
            return Err(Refusal::FULL);
        }
        let written = core.try_write(&self.key(signal), write);
        written.unwrap_or(Err(Refusal::FULL))
    }

    async fn writing<W: Write>(self, signal: Signal, write: W) -> Result<(), Refusal> {
        let key = self.key(signal);
        let mut standing = Standing::new(self.core(), signal);
        let mut write = Some(write);
        poll_fn(|cx| standing.poll(cx, &mut write, |core, write| core.try_write(&key, write))).await
    }

    async fn sending(self, request: Request) -> Result<(), Refusal> {
        let mut standing = Standing::new(self.core(), request.signal());
        let mut request = Some(request);
        poll_fn(|cx| standing.poll(cx, &mut request, Shared::try_send)).await
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("own", &self.own)
            .field("stats", &self.stats())
            .finish()
    }
}

/// A producer that may have to wait; it leaves the line when it is dropped.
struct Standing<'a> {
    core: &'a Shared,
    signal: Signal,
    place: Option<Place>,
}

impl<'a> Standing<'a> {
    fn new(core: &'a Shared, signal: Signal) -> Self {
        Self {
            core,
            signal,
            place: None,
        }
    }

    /// Tries with `what` when it is this one's turn; where there is no room, it comes back.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        what: &mut Option<T>,
        mut attempt: impl FnMut(&Shared, T) -> Result<Result<(), Refusal>, T>,
    ) -> Poll<Result<(), Refusal>> {
        let core = self.core;
        core.poll_turn(cx, self.signal, &mut self.place, || {
            match attempt(core, what.take()?) {
                Ok(done) => Some(done),
                Err(back) => {
                    *what = Some(back);
                    None
                }
            }
        })
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.core.leave_line(self.signal, &mut self.place);
    }
}

struct Spans<F>(F);
struct Logs<F>(F);
struct Metrics<F>(F);

impl<F: FnOnce(&mut TraceBatch)> Write for Spans<F> {
    fn write(self, batch: &mut OpenBatch) {
        if let OpenBatch::Traces(batch) = batch {
            (self.0)(batch);
        }
    }
}

impl<F: FnOnce(&mut LogBatch)> Write for Logs<F> {
    fn write(self, batch: &mut OpenBatch) {
        if let OpenBatch::Logs(batch) = batch {
            (self.0)(batch);
        }
    }
}

impl<F: FnOnce(&mut MetricBatch)> Write for Metrics<F> {
    fn write(self, batch: &mut OpenBatch) {
        if let OpenBatch::Metrics(batch) = batch {
            (self.0)(batch);
        }
    }
}
