//! Delivery: what is exported when, where and how often, and what becomes of every item.
//!
//! A [`Delivery`] owns the open batches, the queue and the account of each leg, and the policies of each endpoint. It is a
//! state machine without I/O: facts with their time go in, actions come out, and the same facts with the same seed give the
//! same actions. It never touches an exporter, a waker or a clock. Two sides call it, under one short lock of the shell's:
//!
//! **Producers** know no time. [`begin`](Delivery::begin) takes an open batch out, the producer writes outside the lock,
//! [`OpenTicket::seal`] closes it there where it is full, and [`put_back`](Delivery::put_back) returns it;
//! [`push`](Delivery::push) takes whole requests. After each call [`take_wake`](Delivery::take_wake) tells, under the same
//! lock, whether the driver is to be woken, and [`take_garbage`](Delivery::take_garbage) hands out what is to be dropped
//! outside it.
//!
//! **The driver** calls [`handle`](Delivery::handle) with a fact, then does every [`poll_action`](Delivery::poll_action), then
//! waits for an export to end, a wake, or [`poll_timeout`](Delivery::poll_timeout). What producers added gets its time when
//! the driver next looks.
//!
//! An open batch closes when it has the items or the bytes of a batch, when it was open as long as a batch may be, when a
//! whole request of the same kind follows it, and when it is flushed. Whole requests wait for company for as long. What is
//! queued for one signal with the same own headers and time is a lane: exported in order, joined up to the bounds of a batch.
//! What comes back goes to the head of its lane, which then keeps off the endpoint that failed it for a backoff; another
//! endpoint may take it at once. It is tried until `max_elapsed` is over for it.
//!
//! A leg holds at most its items and bytes, open, queued and in flight together. One write of each producer may pass that
//! by what it writes beyond what it announced; with several legs under an overflow that drops, a full leg counts what is in
//! open batches beyond its bounds until they close, and drops then.

mod config;
mod endpoint;
mod flush;
mod keys;
mod leg;
mod open;
#[doc(hidden)]
pub mod policies;
mod producers;
mod types;
mod verdict;

pub use config::{Choice, DeliveryConfig, LegConfig};
pub use keys::{OpenKey, Own};
pub use open::{OpenBatch, OpenTicket};
pub use types::{Admission, BatchId, DeliveryAction, DeliveryEvent, DeliveryFact, FlushId};
pub use verdict::{ExportVerdict, VerdictClass};

use crate::encode::{Request, Signal};
use crate::observe::Meter;
use crate::outcome::DropReason;
#[cfg(feature = "opentelemetry_0_33")]
use crate::outcome::ItemCounts;
use crate::pipeline::stats::{FlushReport, PipelineStats};
use crate::time::Instant;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use fastrand::Rng;
use flush::Epochs;
use leg::{InFlight, Leg, earlier};
use open::{Closed, OpenBatches};

/// Events that wait to be polled; the oldest give way.
const EVENTS_MAX: usize = 64;

/// The machine of a pipeline; see the [module](self).
#[derive(Debug)]
pub struct Delivery {
    legs: Vec<Leg>,
    open: OpenBatches,
    shared: Shared,
    /// The place of the last admission in the order of all.
    seq: u64,
    /// When everything left is dropped.
    drain: Option<Instant>,
    /// Whether nothing more is admitted.
    is_closed: bool,
    /// Whether the last action was given.
    is_done: bool,
    /// The smallest that a producer waits for.
    wanted: Option<(u64, u64)>,
    /// Whether the driver is to be woken.
    wake: bool,
    /// Whether it was asked for since the driver last looked.
    is_signalled: bool,
}

/// What legs have in common.
#[derive(Debug)]
struct Shared {
    config: DeliveryConfig,
    /// The time of the last fact.
    now: Instant,
    rng: Rng,
    epochs: Epochs,
    in_flight: BTreeMap<BatchId, InFlight>,
    batches: u64,
    /// Everything admitted up to here is exported without waiting for company.
    forced: u64,
    /// Why everything that is left is dropped, once it is.
    over: Option<DropReason>,
    actions: VecDeque<DeliveryAction>,
    events: VecDeque<DeliveryEvent>,
    /// Whether a queue began to overflow, which the driver is to tell.
    overflows: bool,
    garbage: Garbage,
}

/// What a delivery has done with, to be dropped outside every lock: it may hold values of the application's.
#[derive(Debug, Default)]
pub struct Garbage {
    requests: Vec<Request>,
    batches: Vec<OpenBatch>,
}

impl Delivery {
    /// A delivery of a configuration that was checked; the seed is that of its waits.
    ///
    /// # Panics
    ///
    /// Where there is no leg.
    pub fn new(config: DeliveryConfig, seed: u64) -> Self {
        assert!(!config.legs.is_empty(), "a delivery has a destination");
        let legs = config.legs.iter().enumerate();
        Self {
            legs: legs.map(|(at, leg)| Leg::new(at, leg, &config)).collect(),
            open: OpenBatches::default(),
            shared: Shared {
                config,
                now: Instant::ZERO,
                rng: Rng::with_seed(seed),
                epochs: Epochs::default(),
                in_flight: BTreeMap::new(),
                batches: 0,
                forced: 0,
                over: None,
                actions: VecDeque::new(),
                events: VecDeque::new(),
                overflows: false,
                garbage: Garbage::default(),
            },
            seq: 0,
            drain: None,
            is_closed: false,
            is_done: false,
            wanted: None,
            wake: false,
            is_signalled: false,
        }
    }

    /// Takes a fact in at this time. A time before the last one counts as that.
    pub fn handle(&mut self, now: Instant, fact: DeliveryFact) {
        self.shared.now = self.shared.now.max(now);
        self.see();
        match fact {
            DeliveryFact::Tick => {}
            DeliveryFact::Submitted(batch) => {
                if let Some(flight) = self.shared.in_flight.get_mut(&batch) {
                    flight.submitted = self.shared.now;
                }
            }
            DeliveryFact::Ended(batch, verdict) => self.end(batch, verdict),
            DeliveryFact::Flush { flush, until } => {
                self.close_all();
                self.force();
                self.shared.epochs.flush(flush, until);
            }
            DeliveryFact::Drain { until } => {
                self.drain = Some(self.drain.map_or(until, |drain| drain.min(until)));
                self.close();
                self.close_all();
                self.force();
            }
            DeliveryFact::EndpointGone { leg, endpoint } => {
                if let Some(leg) = self.legs.get_mut(leg) {
                    leg.lose_endpoint(&mut self.shared, endpoint);
                }
            }
            DeliveryFact::Abandon(reason) => self.abandon(reason, None),
            DeliveryFact::Forked => self.abandon(DropReason::Forked, Some(DropReason::Forked)),
        }
        self.advance();
        // Whatever asked for the driver has it.
        self.wake = false;
        self.is_signalled = false;
        self.shared.overflows = false;
        debug_assert!(
            self.is_conserved(),
            "items are lost or counted twice: {:?}",
            self.stats()
        );
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<DeliveryAction> {
        self.shared.actions.pop_front()
    }

    /// When [`Tick`](DeliveryFact::Tick) is due, where nothing else happens before. Asked after every action was taken.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_done {
            return None;
        }
        let mut first = earlier(self.open.next_close(), self.shared.epochs.next_deadline());
        first = earlier(first, self.drain.filter(|_| !self.shared.is_over()));
        for leg in &self.legs {
            first = earlier(first, leg.next_timeout());
        }
        // The end of time is no time to wait for.
        first.filter(|at| *at < Instant::MAX)
    }

    /// The next event for an observer. Where nobody asks, the oldest are forgotten, and losses are summed up.
    pub fn poll_event(&mut self) -> Option<DeliveryEvent> {
        let event = self.shared.events.pop_front();
        event.or_else(|| self.legs.iter_mut().find_map(Leg::poll_lost))
    }

    /// Whether [`poll_event`](Self::poll_event) has one.
    pub fn has_events(&self) -> bool {
        !self.shared.events.is_empty() || self.legs.iter().any(Leg::has_lost)
    }

    /// How many legs it was made with, also where some are gone.
    #[cfg(feature = "opentelemetry_0_33")]
    pub fn legs(&self) -> usize {
        self.legs.len()
    }

    /// Items of a signal that were taken and not delivered, counted once for each leg. What was refused is its producer's to know.
    #[cfg(feature = "opentelemetry_0_33")]
    pub fn losses(&self, signal: Signal) -> ItemCounts {
        let mut losses = ItemCounts::default();
        for leg in &self.legs {
            losses += leg.losses(signal);
        }
        losses
    }

    /// The account now, with ages as of the last fact.
    pub fn stats(&self) -> PipelineStats {
        self.stats_at(self.shared.now)
    }

    /// The account now, with ages as of this time.
    pub fn stats_at(&self, now: Instant) -> PipelineStats {
        let now = now.max(self.shared.now);
        let open = (self.open.items(), self.open.bytes());
        let born = self.open.oldest_born();
        let legs = self.legs.iter().map(|leg| leg.stats(now, open, born));
        PipelineStats::of(legs.collect())
    }

    /// What an endpoint of a leg counted for the self-metrics of its exporter.
    pub(crate) fn meter(&self, leg: usize, endpoint: usize) -> Option<&Meter> {
        self.legs.get(leg)?.meter(endpoint)
    }

    /// What a flush would be answered now, where it waits still.
    pub fn flush_so_far(&self, flush: FlushId) -> Option<FlushReport> {
        self.shared.epochs.so_far(flush)
    }

    /// Nobody waits for the answer to a flush any more: none is given.
    pub fn forget_flush(&mut self, flush: FlushId) {
        self.shared.epochs.forget(flush);
    }

    /// Whether it is drained, or lost its last endpoint, and everything is settled: nothing will ever be to do again.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether nothing more is admitted.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// What is to be dropped outside the lock. Asked after every call that changes anything.
    pub fn take_garbage(&mut self) -> Garbage {
        core::mem::take(&mut self.shared.garbage)
    }

    /// Sets the most bytes of a batch at a leg: its collector was found to take less, or more again.
    pub fn set_batch_bytes_max(&mut self, leg: usize, signal: Signal, bytes: u64) {
        if let Some(leg) = self.legs.get_mut(leg) {
            leg.set_batch_bytes_max(signal, bytes);
        }
    }

    /// Whether each item of each leg is in exactly one place.
    pub fn is_conserved(&self) -> bool {
        let open = self.open.items();
        self.legs.iter().all(|leg| leg.is_conserved(open))
    }
}

/// Steps of the driver.
impl Delivery {
    /// What is new since the driver last looked gets its time.
    fn see(&mut self) {
        let age_max = self.shared.config.batch.age_max;
        self.open.see(self.shared.now, age_max);
        for leg in &mut self.legs {
            leg.tick(&mut self.shared);
        }
    }

    /// Does what is due after a fact.
    fn advance(&mut self) {
        while let Some((closed, leftover)) = self.open.close_aged(self.shared.now) {
            self.shared.garbage.batches.extend(leftover);
            self.enqueue(closed);
        }
        if self.drain.is_some_and(|until| until <= self.shared.now) && !self.shared.is_over() {
            self.end_drain();
        }
        for leg in &mut self.legs {
            leg.dispatch(&mut self.shared);
        }
        if !self.is_closed && self.legs.iter().all(|leg| leg.is_gone) {
            self.close();
            self.close_all();
        }
        let mut answers = Vec::new();
        self.shared.epochs.poll(self.shared.now, &mut answers);
        for (flush, report) in answers {
            let action = DeliveryAction::Flushed { flush, report };
            self.shared.actions.push_back(action);
        }
        self.wake_producers();
        let is_settled =
            self.legs.iter().all(Leg::is_empty) && (self.open.is_empty() || self.shared.is_over());
        // Closed it may be before the driver was told why, with flushes that it was not told of either.
        let is_ending =
            self.drain.is_some() || self.shared.is_over() || self.legs.iter().all(|leg| leg.is_gone);
        if self.is_closed && is_ending && is_settled && !self.is_done {
            self.is_done = true;
            let drained = DeliveryAction::Drained(self.stats());
            self.shared.actions.push_back(drained);
        }
    }

    fn end(&mut self, batch: BatchId, verdict: ExportVerdict) {
        // An end that is told twice, or after the shell went away, was settled before.
        if let Some(flight) = self.shared.in_flight.remove(&batch) {
            self.legs[flight.leg].end(&mut self.shared, flight, verdict);
        }
    }

    /// Closes every open batch that nobody writes into now; the others close when they come back.
    fn close_all(&mut self) {
        let mut closed = Vec::new();
        self.open
            .close_all(None, |batch, leftover| closed.push((batch, leftover)));
        for (batch, leftover) in closed {
            self.shared.garbage.batches.extend(leftover);
            self.enqueue(batch);
        }
    }

    /// What was admitted so far waits for nothing but its endpoints.
    fn force(&mut self) {
        self.shared.forced = self.seq;
        for leg in &mut self.legs {
            leg.force(&mut self.shared);
        }
    }

    /// Admits nothing more. What was admitted waits for the driver to be told of a drain.
    pub fn close(&mut self) {
        if !core::mem::replace(&mut self.is_closed, true) {
            self.wanted = None;
            self.shared.actions.push_back(DeliveryAction::WakeProducers {
                items: 0,
                bytes: 0,
                is_closed: true,
            });
        }
    }

    /// What producers write into now comes too late.
    fn write_off(&mut self, reason: DropReason) {
        let (legs, shared) = (&mut self.legs, &mut self.shared);
        self.open.write_off(|signal, epoch, items| {
            for leg in legs.iter_mut().filter(|_| items > 0) {
                leg.lose(shared, signal, epoch, items, reason);
            }
        });
    }

    /// The time of a drain is over: what is queued is dropped, what is in flight is cancelled and told by its end.
    fn end_drain(&mut self) {
        self.shared.over = Some(DropReason::Shutdown);
        for leg in &mut self.legs {
            leg.clear(&mut self.shared, DropReason::Shutdown);
        }
        self.write_off(DropReason::Shutdown);
        for (batch, flight) in &self.shared.in_flight {
            self.shared.actions.push_back(DeliveryAction::Cancel {
                batch: *batch,
                leg: flight.leg,
                endpoint: flight.endpoint,
            });
        }
    }

    /// Settles everything now, what is in flight as dropped for this reason, or as unknown.
    fn abandon(&mut self, queued: DropReason, in_flight: Option<DropReason>) {
        if !self.shared.is_over() {
            self.shared.over = Some(queued);
        }
        self.close();
        self.close_all();
        for leg in &mut self.legs {
            leg.clear(&mut self.shared, queued);
        }
        self.write_off(queued);
        for (_, flight) in core::mem::take(&mut self.shared.in_flight) {
            self.legs[flight.leg].abandon(&mut self.shared, flight, in_flight);
        }
        for action in core::mem::take(&mut self.shared.actions) {
            match action {
                DeliveryAction::Export { request, .. } => self.shared.garbage.requests.push(request),
                DeliveryAction::Cancel { .. } => {}
                other => self.shared.actions.push_back(other),
            }
        }
    }

    /// Puts a closed batch into the queue of each leg.
    fn enqueue(&mut self, closed: Closed) {
        // A leg of its own had the place already.
        let has_place = self.legs.len() == 1;
        let (signal, refused) = (closed.key.signal, closed.request.refused());
        let (items, bytes) = (closed.request.items(), closed.request.encoded_len() as u64);
        if refused > 0 {
            for leg in &mut self.legs {
                leg.lose_refused(signal, refused);
            }
        }
        if items == 0 {
            self.shared.garbage.requests.push(closed.request);
            return;
        }
        // One that the driver has not seen has no age yet.
        let mut is_asked_for = closed.born.is_none();
        let last = self.legs.len() - 1;
        let mut rest = Some(closed);
        for at in 0..=last {
            let has_room = self.make_room(at, signal, items, bytes, has_place);
            let copy = match at == last {
                true => rest.take(),
                false => rest.clone(),
            };
            let closed = copy.expect("the last leg takes it");
            match has_room {
                true => is_asked_for |= self.legs[at].push(&mut self.shared, closed),
                false => self.legs[at].lose_newest(&mut self.shared, closed),
            }
        }
        if is_asked_for {
            self.signal();
        }
    }

    /// Asks for the driver, once until it looks.
    fn signal(&mut self) {
        if !core::mem::replace(&mut self.is_signalled, true) {
            self.wake = true;
        }
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.over.is_some()
    }

    fn event(&mut self, event: DeliveryEvent) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}
