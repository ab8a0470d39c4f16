//! One independent destination: its queue, its exports in flight, its account.

mod exports;
mod lanes;

use super::Shared;
use super::config::{DeliveryConfig, LegConfig};
use super::endpoint::{Endpoints, Hold};
use super::keys::OpenKey;
use super::open::Closed;
use super::policies::{AdaptiveBatchSize, Permit, RateUnit};
use super::types::{BatchId, DeliveryEvent};
use super::verdict::{ExportVerdict, VerdictClass};
use crate::encode::{Request, Signal};
use crate::observe::{ErrorType, Meter};
use crate::outcome::{DropReason, ItemCounts};
use crate::pipeline::queue::buffer::{Buffer, Entry, LaneId};
use crate::pipeline::stats::{Account, LegStats};
use crate::time::Instant;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

/// A request in the queue.
#[derive(Debug)]
pub(super) struct Queued {
    request: Request,
    epoch: u64,
    /// When the driver first saw it.
    admitted: Option<Instant>,
    /// Whether an attempt was sent whole and not answered.
    unanswered: bool,
    /// The endpoint that was given it last, if it was exported before: it goes alone then, as soon as it may.
    returned_by: Option<usize>,
}

/// An export that has no verdict yet.
#[derive(Debug)]
pub(super) struct InFlight {
    pub leg: usize,
    pub endpoint: usize,
    batch: BatchId,
    signal: Signal,
    lane: LaneId,
    seq: u64,
    items: u64,
    bytes: u64,
    epoch: u64,
    admitted: Instant,
    unanswered: bool,
    permit: Option<Permit>,
    pub submitted: Instant,
}

/// What a leg knows of a lane beside its entries.
#[derive(Debug, Default)]
struct LaneState {
    /// Entries at its end that the driver has not seen.
    unseen: usize,
    in_flight: u32,
    holds: Vec<Hold>,
    /// Its entry in `timers`.
    timer: Option<Instant>,
    /// Its entry in `ready`.
    ready: Option<u64>,
}

/// A leg.
#[derive(Debug)]
pub(super) struct Leg {
    index: usize,
    buffer: Buffer<OpenKey, Queued>,
    lanes: Vec<LaneState>,
    /// Lanes with entries that the driver has not seen.
    unseen: Vec<LaneId>,
    /// Lanes whose first entry may be exported, by its place in the order of admission.
    ready: BTreeSet<(u64, LaneId)>,
    timers: BTreeSet<(Instant, LaneId)>,
    endpoints: Endpoints,
    batch: AdaptiveBatchSize,
    /// The most items and bytes of a batch that the rate limit's burst covers.
    burst: (u64, u64),
    batch_bytes_max: [u64; Signal::ALL.len()],
    /// Whether what is ready waits for an endpoint.
    is_blocked: bool,
    /// When an endpoint may take what is ready.
    blocked_until: Option<Instant>,
    /// Whether it lost its last endpoint.
    pub is_gone: bool,
    account: Account,
    /// Items that were taken and not delivered, by signal; nothing is delivered in it.
    #[cfg(feature = "opentelemetry_0_33")]
    losses: [ItemCounts; Signal::ALL.len()],
    /// Signals that lost items to a full queue since there was room.
    overflowing: [bool; Signal::ALL.len()],
    /// Items and bytes held when it was last found full.
    pub full: (u64, u64),
    /// Items given up that nobody was told of yet.
    lost: Lost,
    last_error: Option<String>,
}

/// Items that were given up, by signal and reason: those that were dropped, and those that may have arrived.
#[derive(Debug, Default)]
struct Lost {
    counts: [[(u64, u64); DropReason::ALL.len()]; Signal::ALL.len()],
    is_any: bool,
}

impl Leg {
    pub fn new(index: usize, leg: &LegConfig, config: &DeliveryConfig) -> Self {
        let burst = match &config.rate_limit {
            Some(limit) if limit.unit == RateUnit::Bytes => (u64::MAX, limit.burst),
            Some(limit) => (limit.burst, u64::MAX),
            None => (u64::MAX, u64::MAX),
        };
        Self {
            index,
            buffer: Buffer::default(),
            lanes: Vec::new(),
            unseen: Vec::new(),
            ready: BTreeSet::new(),
            timers: BTreeSet::new(),
            endpoints: Endpoints::new(leg, config),
            batch: AdaptiveBatchSize::new(config.batch),
            burst,
            batch_bytes_max: leg.batch_bytes_max,
            is_blocked: false,
            blocked_until: None,
            is_gone: false,
            account: Account::default(),
            #[cfg(feature = "opentelemetry_0_33")]
            losses: Default::default(),
            overflowing: [false; Signal::ALL.len()],
            full: (0, 0),
            lost: Lost::default(),
            last_error: None,
        }
    }

    /// The items and bytes at which a batch is full.
    pub fn batch_bounds(&self, signal: Signal) -> (u64, u64) {
        let items = (self.batch.size() as u64).min(self.burst.0).max(1);
        let bytes = self.batch_bytes_max[signal.index()].min(self.burst.1).max(1);
        (items, bytes)
    }

    pub fn set_batch_bytes_max(&mut self, signal: Signal, bytes: u64) {
        self.batch_bytes_max[signal.index()] = bytes.max(1);
    }

    /// Items and bytes that are queued or in flight.
    pub fn held(&self) -> (u64, u64) {
        (
            self.buffer.items() + self.account.in_flight,
            self.buffer.bytes() + self.account.in_flight_bytes,
        )
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.account.exports_in_flight == 0
    }

    /// Whether the law holds, with so many items in open batches.
    pub fn is_conserved(&self, open: u64) -> bool {
        let account = &self.account;
        account.accepted == account.settled().total() + self.buffer.items() + open + account.in_flight
    }

    pub fn accept(&mut self, items: u64) {
        self.account.accepted += items;
    }

    /// Items that were accepted, and settle without having been queued.
    pub fn lose(&mut self, shared: &mut Shared, signal: Signal, epoch: u64, items: u64, reason: DropReason) {
        self.settle(shared, signal, epoch, dropped(items), reason);
    }

    /// Items that come to a full queue: accepted, dropped, and of no epoch.
    pub fn refuse(&mut self, shared: &mut Shared, signal: Signal, items: u64) {
        self.turn_away(signal, items, DropReason::QueueFull);
        self.overflow(shared, signal);
    }

    /// Items that never came to the queue, and belong to no epoch: accepted, and dropped.
    pub fn turn_away(&mut self, signal: Signal, items: u64, reason: DropReason) {
        self.lost.add(signal, reason, dropped(items));
        self.account.accepted += items;
        self.account.dropped[reason.index()] += items;
    }

    /// Items that a batch could not hold. Their producers were told that they were taken.
    pub fn lose_refused(&mut self, signal: Signal, items: u64) {
        self.turn_away(signal, items, DropReason::TooLarge);
        #[cfg(feature = "opentelemetry_0_33")]
        {
            self.losses[signal.index()] += dropped(items);
        }
    }

    /// A closed batch finds no room here, though it had elsewhere.
    pub fn lose_newest(&mut self, shared: &mut Shared, closed: Closed) {
        let (signal, items) = (closed.key.signal, closed.request.items());
        self.lose(shared, signal, closed.epoch, items, DropReason::QueueFull);
        self.overflow(shared, signal);
        shared.garbage.requests.push(closed.request);
    }

    /// Items and bytes that evicting everything of a signal would free.
    pub fn evictable(&self, signal: Signal) -> (u64, u64) {
        self.buffer.signal_sums(signal)
    }

    /// Evicts the oldest queued request of a signal, where there is one.
    pub fn evict(&mut self, shared: &mut Shared, signal: Signal) -> bool {
        let Some((lane, entry)) = self.buffer.evict(signal) else {
            return false;
        };
        self.give_up(shared, entry, DropReason::Evicted);
        self.refresh(shared, lane);
        self.overflow(shared, signal);
        true
    }

    /// Queues a closed batch, whose items are accepted. Gives back whether the driver can export something that it could not
    /// before.
    pub fn push(&mut self, shared: &mut Shared, closed: Closed) -> bool {
        let entry = Entry {
            seq: closed.seq,
            items: closed.request.items(),
            bytes: closed.request.encoded_len() as u64,
            value: Queued {
                request: closed.request,
                epoch: closed.epoch,
                admitted: closed.born,
                unanswered: false,
                returned_by: None,
            },
        };
        if self.is_gone || shared.is_over() {
            let reason = shared.over.unwrap_or(DropReason::Shutdown);
            self.give_up(shared, entry, reason);
            return false;
        }
        let lane = self.lane(&closed.key);
        let is_unseen = entry.value.admitted.is_none();
        self.buffer.push_back(lane, entry);
        if is_unseen {
            let state = &mut self.lanes[lane.index()];
            if state.unseen == 0 {
                self.unseen.push(lane);
            }
            state.unseen += 1;
            // Where no driver looks, lanes that came and went would be kept in mind for ever.
            if self.unseen.len() > 2 * self.lanes.len() {
                self.unseen.sort_unstable();
                self.unseen.dedup();
            }
        }
        let was_ready = self.lanes[lane.index()].ready.is_some();
        self.refresh(shared, lane);
        !was_ready && self.lanes[lane.index()].ready.is_some() && !self.is_blocked
    }

    /// The driver looks: what is new gets its time, what is too old is given up, what may be exported becomes ready.
    pub fn tick(&mut self, shared: &mut Shared) {
        for lane in core::mem::take(&mut self.unseen) {
            let count = core::mem::take(&mut self.lanes[lane.index()].unseen);
            if count > 0 {
                for entry in self.buffer.last_mut(lane, count) {
                    entry.value.admitted = Some(shared.now);
                }
                self.refresh(shared, lane);
            }
        }
        while let Some((at, lane)) = self.timers.first().copied() {
            if at > shared.now {
                break;
            }
            self.timers.pop_first();
            self.lanes[lane.index()].timer = None;
            while self.is_expired(shared, lane) {
                let entry = self.buffer.pop_front(lane).expect("an expired entry");
                self.give_up(shared, entry, DropReason::Expired);
            }
            self.refresh(shared, lane);
        }
    }

    /// Everything admitted so far may be exported.
    pub fn force(&mut self, shared: &mut Shared) {
        for lane in self.buffer.filled() {
            self.refresh(shared, lane);
        }
    }

    /// Begins the exports that may begin.
    pub fn dispatch(&mut self, shared: &mut Shared) {
        self.is_blocked = false;
        self.blocked_until = None;
        if shared.is_over() {
            return;
        }
        'next: loop {
            self.blocked_until = None;
            for (_, lane) in &self.ready {
                let lane = *lane;
                let (count, items, bytes) = self.peek(lane);
                let holds = &self.lanes[lane.index()].holds;
                match self.endpoints.take(shared.now, items, bytes, holds) {
                    Ok(taken) => {
                        self.export(shared, lane, count, taken);
                        continue 'next;
                    }
                    Err(at) => {
                        self.blocked_until = earlier(self.blocked_until, at);
                        if holds.is_empty() {
                            self.is_blocked = true;
                            break;
                        }
                    }
                }
            }
            break;
        }
        let index = self.index;
        self.endpoints
            .tell(shared.now, index, |event| shared.event(event));
    }

    /// An export ended.
    pub fn end(&mut self, shared: &mut Shared, mut flight: InFlight, mut verdict: ExportVerdict) {
        let latency = shared.now.since(flight.submitted);
        self.endpoints.end(
            shared.now,
            flight.endpoint,
            flight.permit.take(),
            latency,
            &verdict,
        );
        self.land(&flight);
        if verdict.class == VerdictClass::Success {
            match self.buffer.items() > self.batch.size() as u64 {
                true => self.batch.record_backlogged(latency),
                false => self.batch.record(latency),
            }
        }
        if let Some(error) = verdict.error.take() {
            self.last_error = Some(error);
        }
        // What an exporter does not account for is nowhere to be found.
        let mut remainder = core::mem::take(&mut verdict.remainder);
        remainder.retain(|request| !request.is_empty());
        let back: u64 = remainder.iter().map(Request::items).sum();
        let mut counts = verdict.counts;
        let known = counts.total() + back;
        debug_assert_eq!(
            known, flight.items,
            "an export accounts for each of its items once"
        );
        counts.unknown += flight.items.saturating_sub(known);
        // Cancelled at the end of the time given to a shutdown, or to a pipeline that is gone.
        let reason = match (shared.over, verdict.drop_reason) {
            (Some(over), None | Some(DropReason::Cancelled)) => over,
            (_, reason) => reason.unwrap_or(DropReason::NotRetryable),
        };
        self.settle(shared, flight.signal, flight.epoch, counts, reason);
        let why = match (shared.over, verdict.drop_reason) {
            (Some(over), Some(DropReason::Cancelled)) => ErrorType::given_up(over),
            _ => verdict.why,
        };
        self.measure_end(&flight, flight.items.saturating_sub(back), counts, why);
        if verdict.is_gone {
            self.lose_endpoint(shared, flight.endpoint);
        }
        if remainder.is_empty() {
            self.release_hold(shared.now, &flight);
        } else {
            self.account.returned += 1;
            // Each goes before what is there.
            for request in remainder.into_iter().rev() {
                self.come_back(shared, &flight, &verdict, request);
            }
            self.hold(shared, &flight, verdict.retry_after);
        }
        self.refresh(shared, flight.lane);
        let index = self.index;
        self.endpoints
            .tell(shared.now, index, |event| shared.event(event));
    }

    /// An export whose end nobody will tell.
    pub fn abandon(&mut self, shared: &mut Shared, flight: InFlight, reason: Option<DropReason>) {
        self.endpoints.abandon(flight.endpoint);
        self.land(&flight);
        let counts = match reason {
            Some(_) => dropped(flight.items),
            None => unknown(flight.items),
        };
        let reason = reason.or(shared.over).unwrap_or(DropReason::Shutdown);
        self.settle(shared, flight.signal, flight.epoch, counts, reason);
        self.measure_end(&flight, flight.items, counts, ErrorType::given_up(reason));
        self.refresh(shared, flight.lane);
    }

    /// An endpoint is gone; with the last one the leg ends, and everything in it is dropped.
    pub fn lose_endpoint(&mut self, shared: &mut Shared, endpoint: usize) {
        if !self.endpoints.lose(endpoint) {
            return;
        }
        shared.event(DeliveryEvent::EndpointGone {
            leg: self.index,
            endpoint,
        });
        if self.endpoints.are_all_gone() && !self.is_gone {
            self.is_gone = true;
            self.clear(shared, DropReason::Shutdown);
        } else {
            // A lane that only the lost one kept waiting, or that only it could serve, is looked at anew.
            self.force(shared);
        }
    }

    /// Drops everything that is queued.
    pub fn clear(&mut self, shared: &mut Shared, reason: DropReason) {
        for lane in self.buffer.filled() {
            while let Some(entry) = self.buffer.pop_front(lane) {
                self.give_up(shared, entry, reason);
            }
            self.refresh(shared, lane);
        }
    }

    /// Items that were given up since the last question, for one reason of one signal.
    pub fn poll_lost(&mut self) -> Option<DeliveryEvent> {
        let (signal, reason, (dropped, unknown)) = self.lost.poll()?;
        Some(DeliveryEvent::Lost {
            leg: self.index,
            signal,
            reason,
            dropped,
            unknown,
            full: self.full,
        })
    }

    /// What it ever lost of a signal, but for what its queue refused.
    #[cfg(feature = "opentelemetry_0_33")]
    pub fn losses(&self, signal: Signal) -> ItemCounts {
        self.losses[signal.index()]
    }

    pub fn has_lost(&self) -> bool {
        self.lost.is_any
    }

    /// What its endpoints counted for the self-metrics.
    pub fn meter(&self, endpoint: usize) -> Option<&Meter> {
        self.endpoints.meter(endpoint)
    }

    pub fn next_timeout(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        earlier(timer, self.blocked_until)
    }

    /// There is room again: the next loss is told again.
    pub fn has_room(&mut self) {
        self.overflowing = [false; Signal::ALL.len()];
    }

    pub fn stats(&self, now: Instant, open: (u64, u64), open_born: Option<Instant>) -> LegStats {
        let queued = self.buffer.oldest().and_then(|entry| entry.value.admitted);
        let oldest = earlier(queued, open_born);
        let mut account = self.account.clone();
        account.queued = self.buffer.items() + open.0;
        account.queued_bytes = self.buffer.bytes() + open.1;
        account.oldest_queued_age = oldest.map(|oldest| now.since(oldest));
        LegStats {
            account,
            endpoints: self.endpoints.stats(now),
            batcher: self.batch.stats(),
            last_error: self.last_error.clone(),
        }
    }
}

impl Lost {
    fn add(&mut self, signal: Signal, reason: DropReason, counts: ItemCounts) {
        let (dropped, unknown) = &mut self.counts[signal.index()][reason.index()];
        *dropped += counts.dropped;
        *unknown += counts.unknown;
        self.is_any |= counts.dropped + counts.unknown > 0;
    }

    fn poll(&mut self) -> Option<(Signal, DropReason, (u64, u64))> {
        if !self.is_any {
            return None;
        }
        for signal in Signal::ALL {
            for reason in DropReason::ALL {
                let count = core::mem::take(&mut self.counts[signal.index()][reason.index()]);
                if count != (0, 0) {
                    return Some((signal, reason, count));
                }
            }
        }
        self.is_any = false;
        None
    }
}

/// The earlier of two times that may be set.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn dropped(items: u64) -> ItemCounts {
    ItemCounts {
        dropped: items,
        ..ItemCounts::default()
    }
}

fn unknown(items: u64) -> ItemCounts {
    ItemCounts {
        unknown: items,
        ..ItemCounts::default()
    }
}

/// The names of batches, counted up.
impl Shared {
    pub(super) fn next_batch(&mut self) -> BatchId {
        self.batches += 1;
        BatchId(self.batches)
    }
}
