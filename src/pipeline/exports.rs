//! Exports of one owner, in flight together over one exporter.

use crate::encode::Request;
use crate::error::Error;
use crate::export::{Exporter, OtlpExportFuture};
use crate::outcome::{ItemCounts, Outcome};
use crate::rt::{Runtime, Timer};
use crate::time::Instant;
use alloc::boxed::Box;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use futures_core::Stream;
use futures_util::stream::FuturesUnordered;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Exports in flight. Each has its own retries, and the exporter accounts for all of them.
///
/// Dropping it cancels what is in flight.
pub(super) struct Exports<R: Runtime> {
    exporter: Exporter<R>,
    runtime: R,
    running: FuturesUnordered<Running<R>>,
    next: u64,
}

/// An export that has its verdict.
pub(super) struct Ended {
    pub(super) id: u64,
    /// Items of its request.
    pub(super) items: u64,
    /// From its submission to its verdict: nothing that it waited for before.
    pub(super) latency: Duration,
    pub(super) result: Result<Outcome, Error>,
}

impl Ended {
    /// Where its items ended up: each is counted, also where the error says nothing of them.
    pub(super) fn counts(&self) -> ItemCounts {
        let mut counts = match &self.result {
            Ok(outcome) => outcome.counts(),
            Err(error) => error.counts(),
        };
        counts.dropped += self.items.saturating_sub(counts.total());
        counts
    }
}

struct Running<R: Runtime> {
    id: u64,
    items: u64,
    begun: Instant,
    runtime: R,
    export: Pin<Box<OtlpExportFuture<R>>>,
}

// The export is boxed.
impl<R: Runtime> Unpin for Running<R> {}

impl<R: Runtime> Future for Running<R> {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let result = ready!(self.export.as_mut().poll(cx));
        Poll::Ready(Ended {
            id: self.id,
            items: self.items,
            latency: self.runtime.now().since(self.begun),
            result,
        })
    }
}

impl<R: Runtime> Exports<R> {
    pub(super) fn new(exporter: &Exporter<R>) -> Self {
        Self {
            exporter: exporter.clone(),
            runtime: exporter.runtime(),
            running: FuturesUnordered::new(),
            next: 0,
        }
    }

    pub(super) fn runtime(&self) -> &R {
        &self.runtime
    }

    /// Begins an export; the number is greater than that of every export before.
    pub(super) fn submit(&mut self, request: Request) -> u64 {
        let id = self.next;
        self.next += 1;
        self.running.push(Running {
            id,
            items: request.items(),
            begun: self.runtime.now(),
            runtime: self.runtime.clone(),
            export: Box::pin(self.exporter.export(request)),
        });
        id
    }

    /// How many have no verdict yet.
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The next verdict; pending also while nothing is in flight.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        match Pin::new(&mut self.running).poll_next(cx) {
            Poll::Ready(Some(ended)) => Poll::Ready(ended),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Cancels all, as dropping does.
    pub(super) fn clear(&mut self) {
        self.running = FuturesUnordered::new();
    }
}

/// Ready once it is `at`; also where the runtime is gone, and no time will come any more.
pub(super) fn poll_time<T: Timer>(timer: &mut T, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
    // The runtime's code: its panic counts as its end.
    catch_unwind(AssertUnwindSafe(|| timer.poll_at(cx, at)))
        .map_or(Poll::Ready(()), |polled| polled.map(drop))
}
