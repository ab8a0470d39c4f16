//! Producers, endpoints and the clock of a delivery, in any order, against a simple model: whatever happens, each item is in
//! one place, in its order, within the bounds, and no timer spins.

use otlp_embed::pipeline::Overflow;
use otlp_embed::pipeline::delivery::{
    Admission, BatchId, Choice, Delivery, DeliveryAction, DeliveryConfig, DeliveryFact, ExportVerdict,
    FlushId, LegConfig, OpenBatch, OpenKey, OpenTicket, Own, VerdictClass,
};
use otlp_embed::pipeline::{Account, PipelineStats};
use otlp_embed::policy::RateLimit;
use otlp_embed::time::Instant;
use otlp_embed::{DropReason, ItemCounts, Request, Resource, Signal, TraceBatch};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const OPS_MAX: usize = 2_000;
/// Bytes of a span that is written, roughly, and more than that.
const SPAN_BYTES: u64 = 200;

/// Plays the bytes.
///
/// # Panics
///
/// Where the delivery and the model disagree.
pub fn run(data: &[u8]) {
    play(data);
}

/// Plays the bytes and gives back the account at the end.
#[allow(dead_code)]
pub fn play(data: &[u8]) -> PipelineStats {
    let mut input = data.iter().copied();
    let mut next = || input.next().unwrap_or(0);
    let mut model = Model::new(next(), next(), next());
    for _ in 0..OPS_MAX {
        let Some(op) = input.next() else { break };
        model.step(op, &mut || input.next().unwrap_or(0));
    }
    model.finish();
    model.delivery.stats()
}

struct Model {
    delivery: Delivery,
    config: DeliveryConfig,
    now: Instant,
    resource: Resource,
    /// The number of the last request; its first eight bytes.
    last: u64,
    requests: BTreeMap<u64, Pushed>,
    /// Requests that an export in flight has, by leg.
    under_way: BTreeSet<(usize, u64)>,
    /// Requests whose fate a verdict has sealed, by leg.
    sealed: BTreeSet<(usize, u64)>,
    /// The last request that was exported for the first time, by leg and lane.
    order: BTreeMap<(usize, Lane), u64>,
    exported: BTreeSet<(usize, u64)>,
    exports: BTreeMap<BatchId, Export>,
    tickets: Vec<OpenTicket>,
    flushes: BTreeMap<FlushId, (Instant, u64)>,
    flush_count: u64,
    /// Everything up to here was flushed, and is never exported again.
    flushed: u64,
    accepted: u64,
    delivered: u64,
    rejected: u64,
    /// Items that verdicts gave up.
    dropped: u64,
    waiting: bool,
    is_closed: bool,
    drained: bool,
    is_forked: bool,
}

/// What must not be merged: signal and tenant.
type Lane = (Signal, u8);

struct Pushed {
    items: u64,
    lane: Lane,
}

struct Export {
    leg: usize,
    request: Request,
    ids: Vec<u64>,
}

impl Model {
    fn new(setup: u8, bounds: u8, pace: u8) -> Self {
        let mut config = DeliveryConfig {
            items_max: [1_000, 100, 20, 7][usize::from(bounds & 3)],
            bytes_max: [1 << 20, 20_000][usize::from(bounds >> 2 & 1)],
            overflow: [[Overflow::Block, Overflow::DropNewest, Overflow::DropOldest]
                [usize::from(bounds >> 3) % 3]; 4],
            max_elapsed: Duration::from_secs([300, 20][usize::from(bounds >> 6 & 1)]),
            ..DeliveryConfig::default()
        };
        let leg = |endpoints, choice| LegConfig {
            endpoints,
            choice,
            batch_bytes_max: [3_000; 4],
        };
        config.legs = match setup & 7 {
            0..=2 => vec![leg(1, Choice::Failover)],
            3 => vec![leg(2, Choice::Failover)],
            4 => vec![leg(3, Choice::RoundRobin)],
            5 => vec![leg(1, Choice::Failover), leg(1, Choice::Failover)],
            6 => vec![leg(2, Choice::RoundRobin), leg(1, Choice::Failover)],
            _ => vec![leg(1, Choice::Failover); 3],
        };
        if setup & 8 != 0 {
            config.breaker = None;
        }
        if setup & 16 != 0 {
            let limit = [RateLimit::items(50), RateLimit::bytes(50)][usize::from(setup >> 5 & 1)];
            config.rate_limit = Some(limit.with_burst(30));
        }
        config.batch.items_initial = [500, 10, 3, 1][usize::from(pace & 3)];
        config.batch.items_min = 1;
        Self {
            delivery: Delivery::new(config.clone(), u64::from(setup)),
            config,
            now: Instant::from_millis(1_000),
            resource: Resource::builder().attr("service.name", "shop").build(),
            last: 0,
            requests: BTreeMap::new(),
            under_way: BTreeSet::new(),
            sealed: BTreeSet::new(),
            order: BTreeMap::new(),
            exported: BTreeSet::new(),
            exports: BTreeMap::new(),
            tickets: Vec::new(),
            flushes: BTreeMap::new(),
            flush_count: 0,
            flushed: 0,
            accepted: 0,
            delivered: 0,
            rejected: 0,
            dropped: 0,
            waiting: false,
            is_closed: false,
            drained: false,
            is_forked: false,
        }
    }

    fn step(&mut self, op: u8, byte: &mut impl FnMut() -> u8) {
        match op % 16 {
            0..=2 => self.push(byte()),
            3 => self.begin(byte()),
            4 => self.put_back(byte()),
            5 | 6 => {
                self.now = self.now + Duration::from_millis(u64::from(byte()) * 4);
                self.fact(DeliveryFact::Tick);
            }
            7 => {
                self.now = self
                    .delivery
                    .poll_timeout()
                    .map_or(self.now, |at| at.max(self.now));
                self.fact(DeliveryFact::Tick);
            }
            8..=13 => self.end(op, byte),
            14 => self.flush(byte()),
            _ => match byte() {
                0..=2 => self.drain(byte()),
                3 => {
                    let (leg, endpoint) = (byte(), byte());
                    let leg = usize::from(leg) % self.config.legs.len();
                    let endpoint = usize::from(endpoint) % self.config.legs[leg].endpoints;
                    self.fact(DeliveryFact::EndpointGone { leg, endpoint });
                }
                4 => {
                    self.exports.clear();
                    self.under_way.clear();
                    self.fact(DeliveryFact::Abandon(DropReason::Cancelled));
                    self.is_forked = true;
                }
                5 => {
                    self.exports.clear();
                    self.under_way.clear();
                    self.fact(DeliveryFact::Forked);
                    self.is_forked = true;
                }
                wide => {
                    let bytes = u64::from(wide) * 20;
                    self.delivery.set_batch_bytes_max(0, Signal::Logs, bytes);
                    self.fact(DeliveryFact::Tick);
                }
            },
        }
    }

    fn push(&mut self, byte: u8) {
        let signal = [Signal::Logs, Signal::Metrics, Signal::Profiles, Signal::Logs][usize::from(byte & 3)];
        let tenant = byte >> 2 & 3;
        let items = u64::from(byte >> 4) + 1;
        self.last += 1;
        let mut bytes = self.last.to_be_bytes().to_vec();
        bytes.resize(8 + usize::from(byte) * 3, 0);
        let mut request = Request::from_segments(signal, items, vec![bytes.into()]);
        if tenant > 0 {
            request = request
                .with_header("x-tenant", &tenant.to_string())
                .expect("a header");
        }
        let admission = self.delivery.push(&request);
        match admission {
            Admission::Admitted => {
                let lane = (signal, tenant);
                self.requests.insert(self.last, Pushed { items, lane });
            }
            _ => self.last -= 1,
        }
        self.admitted(admission, items);
        self.after_producer();
    }

    /// What a producer was told has to fit the policy.
    fn admitted(&mut self, admission: Admission, items: u64) {
        let is_blocking = self.config.overflow[0] == Overflow::Block;
        match admission {
            Admission::Admitted | Admission::Dropped(_) => {
                self.accepted += items * self.config.legs.len() as u64;
            }
            Admission::Full => {
                assert!(is_blocking, "only a producer that waits is told so");
                self.waiting = true;
            }
            Admission::Closed => assert!(self.is_closed),
        }
        if let Admission::Dropped(reason) = admission {
            assert_eq!(reason, DropReason::QueueFull);
            let never_fits = items > self.config.items_max;
            assert!(!is_blocking || never_fits, "nothing is lost under Block");
        }
    }

    fn begin(&mut self, byte: u8) {
        if self.tickets.len() >= 4 {
            return;
        }
        let own = match byte >> 6 {
            0 | 1 => Own::default(),
            tenant => {
                let request = Request::from_segments(Signal::Traces, 0, Vec::new());
                Own::of(
                    &request
                        .with_header("x-tenant", &tenant.to_string())
                        .expect("a header"),
                )
            }
        };
        let key = OpenKey {
            signal: Signal::Traces,
            own,
        };
        let items = u64::from(byte & 7) + 1;
        match self.delivery.begin(&key, items, items * SPAN_BYTES) {
            Ok(mut ticket) => {
                let resource = &self.resource;
                let batch = ticket
                    .batch
                    .get_or_insert_with(|| OpenBatch::Traces(TraceBatch::new(resource)));
                let OpenBatch::Traces(batch) = batch else {
                    panic!("a batch of spans");
                };
                // Some write less than they said.
                let written = if byte & 32 == 0 { items } else { items / 2 };
                for _ in 0..written {
                    batch.span([1; 16], [2; 8], "work").end();
                }
                self.accepted += written * self.config.legs.len() as u64;
                self.tickets.push(ticket);
            }
            Err(admission) => self.admitted(admission, items),
        }
        self.after_producer();
    }

    fn put_back(&mut self, byte: u8) {
        if self.tickets.is_empty() {
            return;
        }
        let mut ticket = self.tickets.remove(usize::from(byte) % self.tickets.len());
        if byte & 128 == 0 {
            ticket.seal();
        }
        self.delivery.put_back(ticket);
        self.after_producer();
    }

    fn after_producer(&mut self) {
        drop(self.delivery.take_garbage());
        self.check_account();
        if self.delivery.take_wake() {
            self.fact(DeliveryFact::Tick);
        }
    }

    fn end(&mut self, op: u8, byte: &mut impl FnMut() -> u8) {
        let at = usize::from(byte()) % self.exports.len().max(1);
        let Some(batch) = self.exports.keys().nth(at).copied() else {
            return;
        };
        let export = self.exports.remove(&batch).expect("just found");
        let items = export.request.items();
        let how = byte();
        let verdict = match op % 16 {
            8 | 9 => ExportVerdict::delivered(items),
            10 => ExportVerdict::settled(ItemCounts {
                delivered: items - items.min(how.into()),
                rejected: items.min(how.into()),
                ..ItemCounts::default()
            }),
            11 => {
                let class = [
                    VerdictClass::Failure,
                    VerdictClass::Throttled,
                    VerdictClass::Neutral,
                ];
                let verdict = ExportVerdict::failed(export.request.clone(), how & 1 != 0, "failed")
                    .with_class(class[usize::from(how) % 3]);
                match how {
                    200..=220 => verdict.with_retry_after(Duration::from_millis(u64::from(how) * 50)),
                    250..=255 => verdict.with_gone(),
                    _ => verdict,
                }
            }
            12 => ExportVerdict::settled(ItemCounts {
                dropped: items,
                ..ItemCounts::default()
            })
            .with_class(VerdictClass::Refused),
            _ => self.in_part(&export, how),
        };
        self.settle(&export, &verdict);
        self.fact(DeliveryFact::Ended(batch, verdict));
    }

    /// The last requests of an export come back, in one request or each for itself.
    fn in_part(&self, export: &Export, how: u8) -> ExportVerdict {
        let segments: Vec<_> = export.request.segments().collect();
        let is_known = !export.ids.is_empty();
        let kept = usize::from(how) % (segments.len() + 1);
        if !is_known || kept == 0 {
            return ExportVerdict::failed(export.request.clone(), how & 128 != 0, "a part failed");
        }
        let items_of = |segment: &bytes::Bytes| self.requests[&id_of(segment)].items;
        let again = |segments: &[bytes::Bytes]| {
            let items = segments.iter().map(items_of).sum();
            let plain = Request::from_segments(export.request.signal(), items, segments.to_vec());
            export
                .request
                .headers()
                .iter()
                .fold(plain, |request, (name, value)| {
                    request.with_header(name, value).expect("a header")
                })
        };
        let (gone, left) = segments.split_at(kept);
        let counts = ItemCounts {
            delivered: gone.iter().map(items_of).sum(),
            ..ItemCounts::default()
        };
        let mut verdict =
            ExportVerdict::failed(again(left), how & 128 != 0, "a part failed").with_counts(counts, None);
        verdict.remainder = match (left.len(), how & 64) {
            (0, _) => Vec::new(),
            (_, 0) => vec![again(left)],
            _ => left.iter().map(|one| again(core::slice::from_ref(one))).collect(),
        };
        verdict
    }

    fn settle(&mut self, export: &Export, verdict: &ExportVerdict) {
        self.delivered += verdict.counts.delivered;
        self.rejected += verdict.counts.rejected;
        self.dropped += verdict.counts.dropped;
        let left: BTreeSet<u64> = verdict.remainder.iter().flat_map(ids_of).collect();
        for id in &export.ids {
            self.under_way.remove(&(export.leg, *id));
            if !left.contains(id) {
                self.sealed.insert((export.leg, *id));
            }
        }
    }

    fn flush(&mut self, byte: u8) {
        let flush = FlushId(self.flush_count);
        self.flush_count += 1;
        let until = self.now + Duration::from_millis(u64::from(byte) * 100 + 1);
        self.flushes.insert(flush, (until, self.last));
        self.fact(DeliveryFact::Flush { flush, until });
    }

    fn drain(&mut self, byte: u8) {
        let until = self.now + Duration::from_millis(u64::from(byte) * 100);
        self.is_closed = true;
        self.fact(DeliveryFact::Drain { until });
    }

    fn fact(&mut self, fact: DeliveryFact) {
        self.delivery.handle(self.now, fact);
        loop {
            let mut cancelled = Vec::new();
            while let Some(action) = self.delivery.poll_action() {
                self.act(action, &mut cancelled);
            }
            if cancelled.is_empty() {
                break;
            }
            for batch in cancelled {
                let export = self.exports.remove(&batch).expect("only what is in flight");
                let verdict = ExportVerdict::failed(export.request.clone(), batch.0 % 2 == 0, "cancelled")
                    .with_class(VerdictClass::Neutral);
                self.settle(&export, &verdict);
                self.delivery
                    .handle(self.now, DeliveryFact::Ended(batch, verdict));
            }
        }
        while self.delivery.poll_event().is_some() {}
        drop(self.delivery.take_garbage());
        if let Some(at) = self.delivery.poll_timeout() {
            assert!(at > self.now, "due {at:?} at {:?}: this would spin", self.now);
        }
        assert_eq!(self.delivery.is_done(), self.drained);
        self.is_closed |= self.delivery.is_closed();
        self.check_account();
    }

    fn act(&mut self, action: DeliveryAction, cancelled: &mut Vec<BatchId>) {
        match action {
            DeliveryAction::Export {
                batch, leg, request, ..
            } => self.exported(batch, leg, request),
            DeliveryAction::Cancel { batch, .. } => cancelled.push(batch),
            DeliveryAction::Flushed { flush, report } => {
                let (until, mark) = self.flushes.remove(&flush).expect("a flush is answered once");
                match report.pending {
                    0 => self.flushed = self.flushed.max(mark),
                    _ => assert!(until <= self.now, "the time is not over"),
                }
            }
            DeliveryAction::WakeProducers {
                items,
                bytes,
                is_closed,
            } => {
                assert!(is_closed || self.waiting, "nobody waits");
                assert!(is_closed || (items > 0 && bytes > 0));
                self.waiting = false;
                self.is_closed |= is_closed;
            }
            DeliveryAction::Drained(stats) => {
                assert!(!core::mem::replace(&mut self.drained, true), "there is one end");
                assert_eq!((stats.total.queued, stats.total.in_flight), (0, 0));
                assert!(self.is_closed);
            }
        }
    }

    fn exported(&mut self, batch: BatchId, leg: usize, request: Request) {
        assert!(request.items() > 0, "spec 5: no empty envelopes");
        let ids = ids_of(&request);
        let mut lanes = BTreeSet::new();
        for id in &ids {
            let pushed = &self.requests[id];
            lanes.insert(pushed.lane);
            assert!(
                self.under_way.insert((leg, *id)),
                "{id} is exported twice at a time"
            );
            assert!(!self.sealed.contains(&(leg, *id)), "{id} was settled");
            assert!(*id > self.flushed, "{id} was flushed");
            if self.exported.insert((leg, *id)) {
                let before = self.order.insert((leg, pushed.lane), *id).unwrap_or(0);
                assert!(before < *id, "{id} after {before}");
            }
        }
        assert!(lanes.len() <= 1, "merged what must not be: {lanes:?}");
        if ids.len() > 1 {
            assert!(
                request.encoded_len() <= 5_100 && request.signal() != Signal::Profiles,
                "joined beyond the bounds"
            );
        }
        let export = Export { leg, request, ids };
        self.exports.insert(batch, export);
    }

    fn check_account(&self) {
        let stats = self.delivery.stats();
        assert!(stats.is_conserved(), "{stats:?}");
        let total: &Account = &stats.total;
        assert_eq!((total.delivered, total.rejected), (self.delivered, self.rejected));
        assert!(total.dropped_total() >= self.dropped);
        let in_flight: u64 = self.exports.values().map(|export| export.request.items()).sum();
        assert_eq!(total.in_flight, in_flight);
        assert_eq!(total.exports_in_flight, self.exports.len() as u64);
        // What is being written is not accepted yet.
        assert!(total.accepted <= self.accepted);
        if self.tickets.is_empty() {
            assert_eq!(total.accepted, self.accepted);
        }
        let is_blocking = self.config.overflow[0] == Overflow::Block;
        if is_blocking {
            assert_eq!(total.dropped_for(DropReason::Evicted), 0);
        }
        if is_blocking || stats.legs.len() == 1 {
            for leg in &stats.legs {
                let account = &leg.account;
                let (items, bytes) = (
                    account.queued + account.in_flight,
                    account.queued_bytes + account.in_flight_bytes,
                );
                assert!(items <= self.config.items_max, "{account:?}");
                // A request has its resource and its scope beside what was announced.
                assert!(bytes <= self.config.bytes_max + 200 * items, "{account:?}");
            }
        }
        for leg in &stats.legs {
            for endpoint in &leg.endpoints {
                assert!(endpoint.in_flight <= 32);
            }
        }
    }

    /// Everything ends: under Block with endpoints that are there, nothing is lost but what verdicts gave up.
    fn finish(&mut self) {
        while !self.tickets.is_empty() {
            self.put_back(1);
        }
        let stats = self.delivery.stats();
        let mut endpoints = stats.legs.iter().flat_map(|leg| &leg.endpoints);
        let is_whole = !self.is_closed
            && self.config.overflow[0] == Overflow::Block
            && !endpoints.any(|endpoint| endpoint.is_gone);
        let before = self.delivery.stats().total;
        if is_whole {
            for _ in 0..20_000 {
                if self.is_settled() {
                    break;
                }
                match self.exports.keys().next().copied() {
                    Some(batch) => {
                        let export = self.exports.remove(&batch).expect("just found");
                        let verdict = ExportVerdict::delivered(export.request.items());
                        self.settle(&export, &verdict);
                        self.fact(DeliveryFact::Ended(batch, verdict));
                    }
                    None => {
                        self.now = self.delivery.poll_timeout().expect("something is queued");
                        self.fact(DeliveryFact::Tick);
                    }
                }
            }
            assert!(self.is_settled(), "it never ends: {:?}", self.delivery.stats());
            let after = self.delivery.stats().total;
            let lost = |account: &Account| {
                account.dropped_total() - account.dropped_for(DropReason::Expired) + account.unknown
            };
            // What was in doubt before may expire as unknown.
            assert!(lost(&after) - after.unknown == lost(&before) - before.unknown);
        }
        self.drain(20);
        for _ in 0..100 {
            if self.drained {
                break;
            }
            self.now = self.delivery.poll_timeout().expect("a drain has an end");
            self.fact(DeliveryFact::Tick);
        }
        assert!(self.drained);
        let total = self.delivery.stats().total;
        assert_eq!((total.queued, total.in_flight), (0, 0));
        assert_eq!(total.accepted, self.accepted);
        assert!(self.flushes.is_empty(), "every flush is answered");
        assert_eq!(self.delivery.poll_timeout(), None);
        assert!(self.is_forked || self.exports.is_empty());
    }

    fn is_settled(&self) -> bool {
        let total = self.delivery.stats().total;
        total.queued + total.in_flight == 0
    }
}

/// The requests that were joined in this one; none for spans that were written.
fn ids_of(request: &Request) -> Vec<u64> {
    if request.signal() == Signal::Traces {
        return Vec::new();
    }
    request.segments().map(|segment| id_of(&segment)).collect()
}

fn id_of(segment: &bytes::Bytes) -> u64 {
    let id = segment.first_chunk().expect("each begins with its number");
    u64::from_be_bytes(*id)
}
