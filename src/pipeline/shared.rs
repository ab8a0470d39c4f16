//! What handles and the future of a pipeline share: the delivery behind one short lock, and everybody who waits.
//!
//! The lock is held for one step of the delivery and nothing else: items are written, requests dropped, flushes answered
//! and everybody woken outside of it.

use super::delivery::{
    Admission, Delivery, DeliveryAction, DeliveryEvent, DeliveryFact, FlushId, Garbage, OpenBatch, OpenKey,
    OpenTicket,
};
use super::inside::Inside;
use super::queue::{Line, Place};
use super::refusal::Refusal;
use super::stats::{EndpointStats, FlushReport, LegStats, PipelineStats};
use crate::config::TemporalityPreference;
use crate::encode::{LogBatch, MetricBatch, Request, Resource, Signal, TraceBatch};
use crate::export::{Origin, lock};
use crate::foreign::shield;
use crate::observe::Meter;
#[cfg(feature = "opentelemetry_0_33")]
use crate::outcome::{DropReason, ItemCounts};
use crate::policy::BreakerState;
use crate::stats::{Report, Stats};
use crate::time::Instant;
use alloc::vec::Vec;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use futures_channel::oneshot;
use futures_util::task::AtomicWaker;
use std::collections::HashMap;
use std::sync::{Mutex, TryLockError};
use std::thread_local;

/// What a flush is answered with, and a shutdown.
type FlushSender = oneshot::Sender<FlushReport>;
type ReportSender = oneshot::Sender<Report>;

thread_local! {
    /// Writes of this thread, modulo 256.
    static WRITES: Cell<u8> = const { Cell::new(0) };
}

/// Writes between two looks at the process id, which is a system call and would cost as much as a short span.
const WRITES_BETWEEN_LOOKS: u8 = 32;

pub(crate) struct Shared {
    /// In another process nothing is admitted, and no lock is waited for: the thread that holds it may not exist there.
    origin: Origin,
    delivery: Mutex<Delivery>,
    /// Whose spans, records and data points the handles write.
    resource: Resource,
    /// What its exporter is set to prefer, for an SDK to ask.
    #[cfg(feature = "opentelemetry_0_33")]
    pub(super) temporality: TemporalityPreference,
    /// The pipeline's future.
    driver: AtomicWaker,
    /// Producers that wait for room, by signal: each overflows in its own way.
    lines: [Line; Signal::ALL.len()],
    desk: Mutex<Desk>,
    /// Nothing is admitted any more; set before anybody who waits is woken for it.
    is_closed: AtomicBool,
}

/// What the handles want of the future, and who waits for its answer.
#[derive(Default)]
struct Desk {
    wishes: Vec<Wish>,
    flushes: HashMap<FlushId, FlushSender>,
    flushes_begun: u64,
    closings: Vec<ReportSender>,
    /// The closed account, once there is one.
    report: Option<Report>,
}

impl Desk {
    /// The shortest of several drains is enough.
    fn drain(&mut self, timeout: Duration) {
        for wish in &mut self.wishes {
            if let Wish::Drain(other) = wish {
                *other = timeout.min(*other);
                return;
            }
        }
        self.wishes.push(Wish::Drain(timeout));
    }
}

/// What a handle asked for; its time runs from when the future sees it, since handles know no clock.
pub(super) enum Wish {
    Flush(FlushId, Duration),
    Drain(Duration),
    /// The last handle is gone: what is left is delivered, however long that takes.
    Orphaned,
}

impl Shared {
    pub(super) fn new(delivery: Delivery, resource: Resource, temporality: TemporalityPreference) -> Self {
        #[cfg(not(feature = "opentelemetry_0_33"))]
        let _ = temporality;
        Self {
            origin: Origin::here(),
            delivery: Mutex::new(delivery),
            resource,
            #[cfg(feature = "opentelemetry_0_33")]
            temporality,
            driver: AtomicWaker::new(),
            lines: Default::default(),
            desk: Mutex::default(),
            is_closed: AtomicBool::new(false),
        }
    }

    // The producers' side.

    /// Lets `write` add to the open batch of a key, if there is room now; hands `write` back if there is none.
    pub(super) fn try_write<W: Write>(&self, key: &OpenKey, write: W) -> Result<Result<(), Refusal>, W> {
        let is_time_to_look = WRITES.with(|writes| {
            let count = writes.get().wrapping_add(1);
            writes.set(count);
            count % WRITES_BETWEEN_LOOKS == 0
        });
        if (is_time_to_look || self.is_closed()) && self.is_forked() {
            return Ok(Err(Refusal::of(Admission::Closed)));
        }
        let Some((taken, garbage)) = self.step(|delivery| delivery.begin(key, 1, 1)) else {
            return Ok(Err(Refusal::of(Admission::Closed)));
        };
        drop(garbage);
        match taken {
            Ok(ticket) => {
                let mut out = Out {
                    core: self,
                    ticket: Some(ticket),
                };
                if let Some(ticket) = &mut out.ticket {
                    write.write(self.open(ticket, key.signal));
                }
                Ok(Ok(()))
            }
            Err(Admission::Full) => Err(write),
            Err(refused) => Ok(Err(Refusal::of(refused))),
        }
    }

    /// Queues a request, if there is room now; hands it back if there is none.
    pub(super) fn try_send(&self, request: Request) -> Result<Result<(), Refusal>, Request> {
        if self.is_forked() {
            return Ok(Err(Refusal::of(Admission::Closed)));
        }
        let Some((admission, garbage)) = self.step(|delivery| delivery.push(&request)) else {
            return Ok(Err(Refusal::of(Admission::Closed)));
        };
        drop(garbage);
        match admission {
            Admission::Admitted => Ok(Ok(())),
            Admission::Full => Err(request),
            refused => Ok(Err(Refusal::of(refused))),
        }
    }

    /// Whether somebody waits for room already: nobody overtakes.
    pub(super) fn has_line(&self, signal: Signal) -> bool {
        !self.is_closed() && !self.lines[signal.index()].is_empty()
    }

    /// Asks `attempt` as soon as it is this place's turn; `None` from it means that there is no room.
    pub(super) fn poll_turn<T>(
        &self,
        cx: &mut Context<'_>,
        signal: Signal,
        place: &mut Option<Place>,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Poll<T> {
        if self.is_forked() {
            return attempt().map_or(Poll::Pending, Poll::Ready);
        }
        let line = &self.lines[signal.index()];
        if place.is_none() && line.is_empty() {
            if let Some(value) = attempt() {
                return Poll::Ready(value);
            }
        }
        // Before the next look, so that room that is made after it finds this waker.
        let is_first = line.stand(place, cx.waker());
        if !is_first && !self.is_closed() {
            return Poll::Pending;
        }
        match attempt() {
            Some(value) => {
                line.leave(place);
                Poll::Ready(value)
            }
            None => Poll::Pending,
        }
    }

    /// Whether this thread is within the poll of the pipeline's future: whoever waits there waits for ever.
    pub(super) fn is_moved_here(&self) -> bool {
        Inside::is(self)
    }

    /// Refuses items that find no room and may not wait for it.
    pub(super) fn refuse_full(&self, signal: Signal, items: u64) -> Refusal {
        if self.is_forked() {
            return Refusal::of(Admission::Closed);
        }
        let refused = self.step(|delivery| delivery.refuse_full(signal, items));
        Refusal::of(refused.map_or(Admission::Closed, |(admission, _)| admission))
    }

    /// Counts items that were refused as dropped, also after the end.
    #[cfg(feature = "opentelemetry_0_33")]
    pub(super) fn turn_away(&self, signal: Signal, items: u64, reason: DropReason) {
        if self.is_forked() {
            return self.origin.refuse_items(items);
        }
        drop(self.step(|delivery| delivery.turn_away(signal, items, reason)));
    }

    pub(super) fn leave_line(&self, signal: Signal, place: &mut Option<Place>) {
        if !self.is_forked() {
            self.lines[signal.index()].leave(place);
        }
    }

    /// Whether this is another process than that of the future, a child: the pipeline is its parent's, and closed here.
    pub(super) fn is_forked(&self) -> bool {
        let is_forked = self.origin.is_foreign();
        if is_forked {
            self.is_closed.store(true, Ordering::SeqCst);
        }
        is_forked
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    pub(crate) fn stats(&self) -> PipelineStats {
        if self.is_forked() {
            return self.stats_of_a_child();
        }
        lock(&self.delivery).stats()
    }

    /// Items of a signal that were taken and not delivered.
    #[cfg(feature = "opentelemetry_0_33")]
    pub(super) fn losses(&self, signal: Signal) -> ItemCounts {
        match self.is_forked() {
            // They are the parent's.
            true => ItemCounts::default(),
            false => lock(&self.delivery).losses(signal),
        }
    }

    /// How many legs there are, each of which counts an item for itself.
    #[cfg(feature = "opentelemetry_0_33")]
    pub(super) fn destinations(&self) -> u64 {
        match self.is_forked() {
            true => 1,
            false => lock(&self.delivery).legs() as u64,
        }
    }

    /// Adds what an endpoint of a leg counted for the self-metrics of its exporter.
    pub(super) fn measure(&self, leg: usize, endpoint: usize, meter: &mut Meter) {
        if self.is_forked() {
            return;
        }
        if let Some(counted) = lock(&self.delivery).meter(leg, endpoint) {
            meter.merge(counted);
        }
    }

    /// The account with ages as of this time.
    pub(super) fn stats_at(&self, now: Instant) -> PipelineStats {
        if self.is_forked() {
            return self.stats_of_a_child();
        }
        lock(&self.delivery).stats_at(now)
    }

    /// What was turned away in this process; the parent's legs are none of its business.
    fn stats_of_a_child(&self) -> PipelineStats {
        let counted = self.origin.stats();
        let mut stats = PipelineStats::default();
        stats.total.accepted = counted.accepted;
        stats.total.dropped = counted.dropped;
        stats
    }

    /// Asks the future for something.
    pub(super) fn wish(&self, wish: Wish) {
        if self.is_forked() {
            return;
        }
        lock(&self.desk).wishes.push(wish);
        self.wake_driver();
    }

    /// Asks for a flush; the answer never comes once the pipeline has ended.
    pub(super) fn flush(&self, timeout: Duration) -> (FlushId, oneshot::Receiver<FlushReport>) {
        let (sender, receiver) = oneshot::channel();
        if self.is_forked() {
            return (FlushId(u64::MAX), receiver);
        }
        let flush = {
            let mut desk = lock(&self.desk);
            let flush = FlushId(desk.flushes_begun);
            desk.flushes_begun += 1;
            if desk.report.is_none() {
                desk.flushes.insert(flush, sender);
                desk.wishes.push(Wish::Flush(flush, timeout));
            }
            flush
        };
        self.wake_driver();
        (flush, receiver)
    }

    /// Nobody waits for this flush any more.
    pub(super) fn forget_flush(&self, flush: FlushId) {
        if self.is_forked() {
            return;
        }
        let unanswered = {
            let mut desk = lock(&self.desk);
            let is_it = |wish: &Wish| matches!(wish, Wish::Flush(other, _) if *other == flush);
            // Where nobody runs the future, wishes would pile up.
            desk.wishes.retain(|wish| !is_it(wish));
            desk.flushes.remove(&flush)
        };
        if unanswered.is_some() {
            lock(&self.delivery).forget_flush(flush);
        }
        drop(unanswered);
    }

    /// Asks for the end: nothing is admitted from here on. The report comes with the end, or at once where that has come
    /// already.
    pub(super) fn shutdown(&self, timeout: Duration) -> oneshot::Receiver<Report> {
        let (sender, receiver) = oneshot::channel();
        if self.is_forked() {
            return receiver;
        }
        let (forgotten, ended) = {
            let mut desk = lock(&self.desk);
            match desk.report.clone() {
                Some(report) => (Vec::new(), Some((sender, report))),
                None => {
                    let closings = core::mem::take(&mut desk.closings);
                    let (forgotten, mut closings): (Vec<_>, Vec<_>) =
                        closings.into_iter().partition(oneshot::Sender::is_canceled);
                    closings.push(sender);
                    desk.closings = closings;
                    desk.drain(timeout);
                    (forgotten, None)
                }
            }
        };
        drop(forgotten);
        match ended {
            Some((sender, report)) => drop(sender.send(report)),
            None => {
                drop(self.step(Delivery::close));
                self.wake_producers(true);
                self.wake_driver();
            }
        }
        receiver
    }

    /// What became of a flush whose time is over for the one who waits, and who is told no more.
    pub(super) fn flush_so_far(&self, flush: FlushId) -> FlushReport {
        if self.is_forked() {
            return FlushReport::default();
        }
        let delivery = lock(&self.delivery);
        delivery.flush_so_far(flush).unwrap_or_else(|| {
            // The future has not seen it, or the pipeline has ended meanwhile.
            let total = delivery.stats().total;
            FlushReport {
                pending: total.queued + total.in_flight,
                ..FlushReport::default()
            }
        })
    }

    /// The account as it is, or as it was closed.
    pub(super) fn report_so_far(&self) -> Report {
        self.report().unwrap_or_else(|| Report {
            stats: stats_of(&self.stats()),
        })
    }

    /// The closed account, once there is one.
    pub(crate) fn report(&self) -> Option<Report> {
        if self.is_forked() {
            let stats = self.origin.stats();
            return Some(Report { stats });
        }
        lock(&self.desk).report.clone()
    }

    fn open<'a>(&self, ticket: &'a mut OpenTicket, signal: Signal) -> &'a mut OpenBatch {
        let is_shared = ticket.key().own.is_none();
        // Of those with headers of their own there may be thousands, with an item each.
        let batch = ticket.batch.get_or_insert_with(|| match (signal, is_shared) {
            (Signal::Metrics, true) => OpenBatch::Metrics(MetricBatch::new(&self.resource)),
            (Signal::Metrics, false) => OpenBatch::Metrics(MetricBatch::new_small(&self.resource)),
            (Signal::Logs, true) => OpenBatch::Logs(LogBatch::new(&self.resource)),
            (Signal::Logs, false) => OpenBatch::Logs(LogBatch::new_small(&self.resource)),
            (_, true) => OpenBatch::Traces(TraceBatch::new(&self.resource)),
            (_, false) => OpenBatch::Traces(TraceBatch::new_small(&self.resource)),
        });
        // What the producer before named belongs to it alone.
        match batch {
            OpenBatch::Traces(batch) => drop(batch.resource(&self.resource)),
            OpenBatch::Metrics(batch) => drop(batch.resource(&self.resource)),
            OpenBatch::Logs(batch) => drop(batch.resource(&self.resource)),
        }
        batch
    }

    fn wake_driver(&self) {
        if let Some(waker) = self.driver.take() {
            super::queue::wake(waker);
        }
    }

    // The future's side.

    /// Notes the future's waker. It comes before the future looks.
    pub(super) fn register(&self, waker: &Waker) {
        self.driver.register(waker);
    }

    /// What the handles asked for since the last question.
    pub(super) fn take_wishes(&self) -> Vec<Wish> {
        core::mem::take(&mut lock(&self.desk).wishes)
    }

    /// Tells the delivery a fact. Whether there is something to tell the observer.
    pub(super) fn handle(&self, now: Instant, fact: DeliveryFact) -> bool {
        let (has_events, garbage) = {
            let mut delivery = lock(&self.delivery);
            delivery.handle(now, fact);
            (delivery.has_events(), delivery.take_garbage())
        };
        drop(garbage);
        has_events
    }

    /// What the observer is to be told.
    pub(super) fn next_event(&self) -> Option<DeliveryEvent> {
        lock(&self.delivery).poll_event()
    }

    /// Tells the delivery how many bytes a batch may have at a leg.
    pub(super) fn set_batch_bytes_max(&self, leg: usize, signal: Signal, bytes: u64) {
        lock(&self.delivery).set_batch_bytes_max(leg, signal, bytes);
    }

    /// Queues a request of the future's own, if there is room to spare. The future looks at the delivery next.
    pub(super) fn push_spare(&self, request: &Request) {
        let garbage = {
            let mut delivery = lock(&self.delivery);
            delivery.push_spare(request);
            delivery.take_garbage()
        };
        drop(garbage);
    }

    pub(super) fn resource(&self) -> &Resource {
        &self.resource
    }

    /// What the future is to do next.
    pub(super) fn next_action(&self) -> Option<DeliveryAction> {
        lock(&self.delivery).poll_action()
    }

    /// When the delivery is to be told the time.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        lock(&self.delivery).poll_timeout()
    }

    /// One step of a producer. What it leaves to be dropped is dropped by the caller, outside the lock.
    /// `None` in another process where a thread held the lock when that was forked.
    fn step<T>(&self, step: impl FnOnce(&mut Delivery) -> T) -> Option<(T, Garbage)> {
        let (value, must_wake, garbage) = {
            let mut delivery = match self.delivery.try_lock() {
                Ok(delivery) => delivery,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if self.is_forked() => return None,
                Err(TryLockError::WouldBlock) => lock(&self.delivery),
            };
            let value = step(&mut delivery);
            (value, delivery.take_wake(), delivery.take_garbage())
        };
        if must_wake {
            self.wake_driver();
        }
        Some((value, garbage))
    }

    pub(super) fn answer_flush(&self, flush: FlushId, report: FlushReport) {
        let sender = lock(&self.desk).flushes.remove(&flush);
        if let Some(sender) = sender {
            // The wake is the waiting future's own code.
            shield(|| sender.send(report).is_ok());
        }
    }

    /// There is room again, or will never be any more.
    pub(super) fn wake_producers(&self, is_closed: bool) {
        if is_closed {
            self.is_closed.store(true, Ordering::SeqCst);
        }
        for line in &self.lines {
            match is_closed {
                true => line.wake_all(),
                false => line.wake_first(),
            }
        }
    }

    /// The account is closed: everybody who waits is told.
    pub(super) fn end(&self, report: &Report) {
        let (closings, flushes) = {
            let mut desk = lock(&self.desk);
            desk.report.get_or_insert_with(|| report.clone());
            desk.wishes.clear();
            (
                core::mem::take(&mut desk.closings),
                core::mem::take(&mut desk.flushes),
            )
        };
        self.wake_producers(true);
        for sender in closings {
            shield(|| drop(sender.send(report.clone())));
        }
        for (_, sender) in flushes {
            shield(|| drop(sender));
        }
    }
}

/// What a producer writes into an open batch.
pub(super) trait Write {
    fn write(self, batch: &mut OpenBatch);
}

/// An open batch in the hands of a producer; it comes back also when the writing panicked.
struct Out<'a> {
    core: &'a Shared,
    ticket: Option<OpenTicket>,
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        let Some(mut ticket) = self.ticket.take() else {
            return;
        };
        ticket.seal();
        drop(self.core.step(|delivery| delivery.put_back(ticket)));
    }
}

/// The account of a pipeline in the words of an exporter's.
pub(super) fn stats_of(stats: &PipelineStats) -> Stats {
    let mut whole = Stats::default();
    for leg in &stats.legs {
        add_leg(&mut whole, leg);
        whole.last_error = whole.last_error.take().or_else(|| leg.last_error.clone());
        for endpoint in &leg.endpoints {
            add_breaker(&mut whole, endpoint);
        }
    }
    whole
}

/// Adds the account of one leg to an exporter's, which has its own last error.
pub(super) fn add_leg(stats: &mut Stats, leg: &LegStats) {
    let account = &leg.account;
    stats.accepted += account.accepted;
    stats.delivered += account.delivered;
    stats.rejected += account.rejected;
    for (sum, count) in stats.dropped.iter_mut().zip(account.dropped) {
        *sum += count;
    }
    stats.unknown += account.unknown;
    stats.queued += account.queued;
    stats.in_flight += account.in_flight;
    stats.oldest_queued_age = stats.oldest_queued_age.max(account.oldest_queued_age);
}

/// Adds the state of one endpoint's circuit breaker: the worst of several is told.
pub(super) fn add_breaker(stats: &mut Stats, endpoint: &EndpointStats) {
    let rank = |state: BreakerState| match state {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    };
    let worst = stats.breaker.into_iter().chain([endpoint.breaker]);
    stats.breaker = worst.max_by_key(|state| rank(*state));
}
