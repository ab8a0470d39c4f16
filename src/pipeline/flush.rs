//! Waiting for a flush and for the end of a pipeline.

use super::delivery::FlushId;
use super::park::{self, Limit};
use super::shared::Shared;
use super::stats::FlushReport;
use crate::error::{Error, Kind};
use crate::stats::Report;
use alloc::sync::Arc;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use futures_channel::oneshot;

/// A flush on its way; see [`Pipeline::flush`](super::Pipeline::flush). Polled again after it was ready, it gives an error.
#[must_use = "a flush tells what became of it only to whoever awaits it"]
pub struct Flush {
    core: Arc<Shared>,
    flush: FlushId,
    answer: oneshot::Receiver<FlushReport>,
}

impl Flush {
    pub(super) fn new(core: Arc<Shared>, timeout: Duration) -> Self {
        let (flush, answer) = core.flush(timeout);
        Self { core, flush, answer }
    }

    /// Blocks the thread, no longer than `timeout`.
    pub(super) fn wait(mut self, timeout: Duration) -> Result<FlushReport, Error> {
        let timeout = patience(&self.core, timeout);
        match park::wait(Pin::new(&mut self), Some(&Limit::after(timeout))) {
            Some(answer) => answer,
            None => Ok(self.core.flush_so_far(self.flush)),
        }
    }
}

impl Future for Flush {
    type Output = Result<FlushReport, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(cx).map_err(|oneshot::Canceled| {
            Error::new(
                Kind::Shutdown,
                "flush: the pipeline has ended: it was shut down, or its future was dropped; its stats tell what became of \
                 everything",
            )
        })
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.core.forget_flush(self.flush);
    }
}

/// The end of a pipeline; see [`Pipeline::shutdown`](super::Pipeline::shutdown). Polled again after it was ready, it gives the
/// report again.
#[must_use = "a shutdown gives its report only to whoever awaits it"]
pub struct PipelineShutdown {
    core: Arc<Shared>,
    answer: oneshot::Receiver<Report>,
}

impl PipelineShutdown {
    pub(super) fn new(core: Arc<Shared>, timeout: Duration) -> Self {
        let answer = core.shutdown(timeout);
        Self { core, answer }
    }

    /// Blocks the thread, no longer than `timeout`.
    pub(super) fn wait(mut self, timeout: Duration) -> Report {
        let timeout = patience(&self.core, timeout);
        let waited = park::wait(Pin::new(&mut self), Some(&Limit::after(timeout)));
        waited.unwrap_or_else(|| self.core.report_so_far())
    }
}

impl Future for PipelineShutdown {
    type Output = Report;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Report> {
        let answer = Pin::new(&mut self.answer).poll(cx);
        answer.map(|answer| answer.unwrap_or_else(|oneshot::Canceled| self.core.report_so_far()))
    }
}

/// How long a thread waits for the pipeline: not at all where it would wait for itself.
fn patience(core: &Shared, timeout: Duration) -> Duration {
    match core.is_moved_here() {
        true => Duration::ZERO,
        false => timeout,
    }
}
