//! The future of a pipeline: moves facts and actions between its delivery and its exporters.

mod measure;
mod tell;

use self::measure::Measuring;
use super::delivery::{BatchId, DeliveryAction, DeliveryFact, ExportVerdict};
use super::endpoints::batch_bytes_max;
use super::inside::Inside;
use super::shared::{Shared, Wish, stats_of};
use super::stats::PipelineStats;
use crate::encode::{Request, Signal};
use crate::export::{ExportId, Exporter, Flight, Managed};
use crate::foreign::shield;
use crate::outcome::DropReason;
use crate::rt::{Runtime, Timer};
use crate::stats::Report;
use crate::time::Instant;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use futures_core::FusedFuture;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Rounds of work in one poll before it yields, so that a busy peer cannot hold an executor's thread.
const ROUNDS_MAX: usize = 32;
/// Verdicts taken from one exporter before the others are looked at.
const VERDICTS_MAX: usize = 64;

/// What moves a pipeline; made by [`Exporter::pipeline`](crate::Exporter::pipeline).
///
/// Run it anywhere: await it in a task of its own, or give it a thread by [`run_on_thread`](Self::run_on_thread). It spawns
/// nothing. It also moves the other exports of its exporters where these have no [driver](crate::Exporter::driver), and
/// keeps its exporters alive until it ends. On [`rt::Blocking`](crate::rt::Blocking) it blocks the thread that polls it until it ends.
///
/// It ends with the pipeline's [`Report`]: after a shutdown, when every handle is gone and everything is settled, or when no
/// exporter is left that takes anything. Polled again, it gives the report again.
///
/// # Cancel safety
///
/// Dropping it at any time ends the pipeline: what is queued is dropped
/// ([`DropReason::Cancelled`](crate::DropReason::Cancelled)), what is being exported is cancelled and counts as dropped or,
/// where it had been sent whole, as unknown. Producers and flushes that wait get an error, shutdowns get the report. A panic
/// while it is polled, which can only be that of foreign code such as a runtime's, ends it likewise and goes on. One that is
/// kept but not polled keeps them waiting.
#[must_use = "nothing is exported unless the pipeline's future is run"]
pub struct PipelineFuture<R: Runtime> {
    shared: Arc<Shared>,
    runtime: R,
    /// Gone only from a future that is dropped in another process.
    timer: Option<R::Timer>,
    endpoints: Vec<Endpoint<R>>,
    /// What the user set for the bytes of a batch.
    batch_bytes_max: Option<usize>,
    bounds: Bounds,
    /// Set where it exports its self-metrics.
    measuring: Option<Measuring>,
    report: Option<Report>,
}

/// One exporter of a pipeline.
pub(super) struct Endpoint<R: Runtime> {
    leg: usize,
    position: usize,
    flight: Flight<R>,
    batches: HashMap<ExportId, BatchId>,
    /// Whether another one takes what this one fails: it is not tried again here first.
    has_others: bool,
    /// The most bytes of a batch here, by signal, as they were last told.
    bytes_max: [u64; Signal::ALL.len()],
    exporter: Exporter<R>,
    /// Since when its circuit breaker is not closed, and whether the observer was told.
    stopped: Option<(Instant, bool)>,
}

/// The bounds of a pipeline's queue, for the observer.
pub(super) struct Bounds {
    pub(super) items_max: u64,
    pub(super) bytes_max: u64,
    pub(super) max_elapsed: Duration,
}

impl<R: Runtime> Endpoint<R> {
    /// `of` is how many there are in its leg.
    pub(super) fn new(leg: usize, position: usize, exporter: &Exporter<R>, of: usize) -> Self {
        Self {
            leg,
            position,
            flight: Flight::new(exporter),
            batches: HashMap::new(),
            has_others: of > 1,
            bytes_max: [u64::MAX; Signal::ALL.len()],
            exporter: exporter.clone(),
            stopped: None,
        }
    }
}

// Nothing in it is pinned in place.
impl<R: Runtime> Unpin for PipelineFuture<R> {}

impl<R: Runtime> PipelineFuture<R> {
    pub(super) fn new(
        shared: Arc<Shared>,
        runtime: R,
        endpoints: Vec<Endpoint<R>>,
        batch_bytes_max: Option<usize>,
        bounds: Bounds,
        self_metrics: Option<Duration>,
    ) -> Self {
        Self {
            shared,
            timer: Some(runtime.timer()),
            runtime,
            endpoints,
            batch_bytes_max,
            bounds,
            measuring: self_metrics.map(Measuring::new),
            report: None,
        }
    }

    /// Works until nothing moves, the budget is spent or the end has come.
    fn work(&mut self, cx: &mut Context<'_>) -> Poll<Report> {
        // Before anything is looked at: a wake after the look then finds this waker.
        self.shared.register(cx.waker());
        for _ in 0..ROUNDS_MAX {
            self.grant();
            self.measure();
            self.handle(DeliveryFact::Tick);
            let has_acted = self.act();
            if let Some(report) = &self.report {
                return Poll::Ready(report.clone());
            }
            let has_moved = self.collect(cx);
            match self.check_time(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Gone)) => return Poll::Ready(self.abandon(DropReason::Shutdown)),
                Poll::Pending if has_acted || has_moved => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        // More may be waiting: come back after the executor's other tasks had their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes up what handles asked for; their times run from here.
    fn grant(&mut self) {
        for wish in self.shared.take_wishes() {
            let now = self.runtime.now();
            let fact = match wish {
                Wish::Flush(flush, timeout) => DeliveryFact::Flush {
                    flush,
                    until: now + timeout,
                },
                Wish::Drain(timeout) => DeliveryFact::Drain { until: now + timeout },
                Wish::Orphaned => DeliveryFact::Drain { until: Instant::MAX },
            };
            self.handle(fact);
        }
    }

    /// Tells the delivery a fact, and the observer what comes of it: before anything else happens, so that what an outage cost
    /// is known when it ends.
    fn handle(&mut self, fact: DeliveryFact) {
        if self.shared.handle(self.runtime.now(), fact) {
            self.tell_events();
        }
    }

    /// Carries out the delivery's actions.
    fn act(&mut self) -> bool {
        let mut has_acted = false;
        while let Some(action) = self.shared.next_action() {
            has_acted = true;
            match action {
                DeliveryAction::Export {
                    batch,
                    leg,
                    endpoint,
                    request,
                    unanswered,
                } => self.export(batch, (leg, endpoint), request, unanswered),
                DeliveryAction::Cancel { batch, leg, endpoint } => self.cancel(batch, (leg, endpoint)),
                told => self.tell(told),
            }
        }
        has_acted
    }

    fn export(&mut self, batch: BatchId, at: (usize, usize), request: Request, unanswered: bool) {
        let Some(endpoint) = self.endpoint(at) else { return };
        let managed = Managed {
            unanswered,
            is_single: endpoint.has_others,
        };
        let id = endpoint.flight.submit(request, Some(managed));
        endpoint.batches.insert(id, batch);
        self.handle(DeliveryFact::Submitted(batch));
    }

    fn cancel(&mut self, batch: BatchId, at: (usize, usize)) {
        let Some(endpoint) = self.endpoint(at) else { return };
        let id = endpoint.batches.iter().find(|(_, other)| **other == batch);
        let Some(id) = id.map(|(id, _)| *id) else { return };
        endpoint.batches.remove(&id);
        if let Some(result) = endpoint.flight.cancel(id) {
            let fact = DeliveryFact::Ended(batch, ExportVerdict::from_export(result));
            self.handle(fact);
        }
    }

    /// Passes on what others wait for.
    fn tell(&mut self, action: DeliveryAction) {
        match action {
            DeliveryAction::Flushed { flush, report } => self.shared.answer_flush(flush, report),
            DeliveryAction::WakeProducers { is_closed, .. } => self.shared.wake_producers(is_closed),
            DeliveryAction::Drained(stats) => self.end(&stats),
            DeliveryAction::Export { .. } | DeliveryAction::Cancel { .. } => {}
        }
    }

    fn end(&mut self, stats: &PipelineStats) {
        let report = Report {
            stats: stats_of(stats),
        };
        self.shared.end(&report);
        self.report = Some(report);
    }

    /// Takes the verdicts of the exporters.
    fn collect(&mut self, cx: &mut Context<'_>) -> bool {
        let mut has_moved = false;
        for at in 0..self.endpoints.len() {
            for _ in 0..VERDICTS_MAX {
                let endpoint = &mut self.endpoints[at];
                let Poll::Ready((id, result)) = endpoint.flight.poll(cx) else {
                    break;
                };
                has_moved = true;
                if let Some(batch) = endpoint.batches.remove(&id) {
                    let fact = DeliveryFact::Ended(batch, ExportVerdict::from_export(result));
                    self.handle(fact);
                }
            }
        }
        if has_moved {
            self.learn();
        }
        has_moved
    }

    /// Tells the delivery what the exporters have learned about the sizes that their collectors take.
    fn learn(&mut self) {
        for at in 0..self.endpoints.len() {
            for signal in Signal::ALL {
                let endpoint = &mut self.endpoints[at];
                let bytes = batch_bytes_max(&endpoint.exporter, signal, self.batch_bytes_max);
                if core::mem::replace(&mut endpoint.bytes_max[signal.index()], bytes) == bytes {
                    continue;
                }
                let leg = endpoint.leg;
                let of_leg = self.endpoints.iter().filter(|endpoint| endpoint.leg == leg);
                let of_leg = of_leg.map(|endpoint| endpoint.bytes_max[signal.index()]);
                self.shared
                    .set_batch_bytes_max(leg, signal, of_leg.fold(bytes, u64::min));
            }
        }
    }

    /// Sets the timer for what is due next; ready when something is due already.
    fn check_time(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let measuring = self.measuring.as_ref().and_then(Measuring::next);
        let Some(at) = self.shared.next_timeout().into_iter().chain(measuring).min() else {
            return Poll::Pending;
        };
        if at <= self.runtime.now() {
            return Poll::Ready(Ok(()));
        }
        let Some(timer) = &mut self.timer else {
            return Poll::Ready(Err(Gone));
        };
        // The runtime's code: its panic counts as its end.
        match shield(|| timer.poll_at(cx, at)) {
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            Some(Poll::Ready(Err(_))) | None => Poll::Ready(Err(Gone)),
        }
    }

    /// Ends everything now.
    fn abandon(&mut self, reason: DropReason) -> Report {
        let shared = self.shared.clone();
        let _inside = Inside::enter(&shared);
        for at in 0..self.endpoints.len() {
            for (id, batch) in core::mem::take(&mut self.endpoints[at].batches) {
                if let Some(result) = self.endpoints[at].flight.cancel(id) {
                    self.handle(DeliveryFact::Ended(batch, ExportVerdict::from_export(result)));
                }
            }
        }
        self.handle(DeliveryFact::Abandon(reason));
        while let Some(action) = self.shared.next_action() {
            self.tell(action);
        }
        if self.report.is_none() {
            self.end(&self.shared.stats());
        }
        self.report.clone().unwrap_or_else(|| self.shared.report_so_far())
    }

    fn endpoint(&mut self, at: (usize, usize)) -> Option<&mut Endpoint<R>> {
        self.endpoints
            .iter_mut()
            .find(|endpoint| (endpoint.leg, endpoint.position) == at)
    }
}

/// The runtime serves no more.
struct Gone;

impl<R: Runtime> Future for PipelineFuture<R> {
    type Output = Report;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Report> {
        let this = self.get_mut();
        if let Some(report) = &this.report {
            return Poll::Ready(report.clone());
        }
        if this.shared.is_forked() {
            return Poll::Ready(this.shared.report_so_far());
        }
        let runtime = this.runtime.clone();
        let shared = this.shared.clone();
        let _inside = Inside::enter(&shared);
        // Foreign code that panics under it must not leave anybody waiting.
        let work = AssertUnwindSafe(|| runtime.drive(cx, |cx| this.work(cx)));
        let ended = catch_unwind(work).unwrap_or_else(|panic| {
            this.abandon(DropReason::Cancelled);
            resume_unwind(panic)
        });
        if ended.is_ready() {
            // One that is kept after its end must not be what drives the connections.
            this.endpoints = Vec::new();
        }
        ended
    }
}

impl<R: Runtime> FusedFuture for PipelineFuture<R> {
    fn is_terminated(&self) -> bool {
        self.report.is_some()
    }
}

impl<R: Runtime> Drop for PipelineFuture<R> {
    fn drop(&mut self) {
        if self.shared.is_forked() {
            // It is registered with a runtime that the parent process goes on with.
            core::mem::forget(self.timer.take());
        } else if self.report.is_none() {
            self.abandon(DropReason::Cancelled);
        }
    }
}

impl<R: Runtime> fmt::Debug for PipelineFuture<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipelineFuture")
            .field("stats", &self.shared.stats())
            .finish_non_exhaustive()
    }
}
