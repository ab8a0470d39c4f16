//! A delivery with a scripted exporter and a clock of its own: every test tells what the exports come to.
#![allow(dead_code, reason = "each test uses its own part")]

use otlp_embed::pipeline::delivery::{
    Admission, BatchId, Delivery, DeliveryAction, DeliveryConfig, DeliveryEvent, DeliveryFact, ExportVerdict,
    FlushId, OpenBatch, OpenKey, Own,
};
use otlp_embed::pipeline::{Account, FlushReport, PipelineStats};
use otlp_embed::time::Instant;
use otlp_embed::{Request, Resource, Signal, TraceBatch};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// An export that was asked for.
#[derive(Clone, Debug)]
pub struct Export {
    pub batch: BatchId,
    pub leg: usize,
    pub endpoint: usize,
    pub request: Request,
    pub unanswered: bool,
}

impl Export {
    pub fn items(&self) -> u64 {
        self.request.items()
    }
}

/// The delivery and what came out of it.
pub struct World {
    pub delivery: Delivery,
    pub now: Instant,
    /// Exports asked for and not ended, in order.
    pub exports: VecDeque<Export>,
    pub cancelled: Vec<BatchId>,
    pub flushed: BTreeMap<FlushId, FlushReport>,
    /// Room that was told to the producers.
    pub woken: Vec<(u64, u64, bool)>,
    pub drained: Option<PipelineStats>,
    pub events: Vec<DeliveryEvent>,
}

impl World {
    pub fn new(config: DeliveryConfig) -> Self {
        Self {
            delivery: Delivery::new(config, 7),
            now: Instant::from_millis(1_000),
            exports: VecDeque::new(),
            cancelled: Vec::new(),
            flushed: BTreeMap::new(),
            woken: Vec::new(),
            drained: None,
            events: Vec::new(),
        }
    }

    pub fn fact(&mut self, fact: DeliveryFact) {
        self.delivery.handle(self.now, fact);
        self.drain_actions();
    }

    /// Takes every action and checks what has to hold after every fact.
    fn drain_actions(&mut self) {
        while let Some(action) = self.delivery.poll_action() {
            let is_answer = matches!(action, DeliveryAction::Flushed { .. });
            assert!(
                is_answer || self.drained.is_none(),
                "nothing comes after the end: {action:?}"
            );
            match action {
                DeliveryAction::Export {
                    batch,
                    leg,
                    endpoint,
                    request,
                    unanswered,
                } => self.exports.push_back(Export {
                    batch,
                    leg,
                    endpoint,
                    request,
                    unanswered,
                }),
                DeliveryAction::Cancel { batch, .. } => self.cancelled.push(batch),
                DeliveryAction::Flushed { flush, report } => {
                    let before = self.flushed.insert(flush, report);
                    assert!(before.is_none(), "a flush is answered once");
                }
                DeliveryAction::WakeProducers {
                    items,
                    bytes,
                    is_closed,
                } => self.woken.push((items, bytes, is_closed)),
                DeliveryAction::Drained(stats) => self.drained = Some(stats),
            }
        }
        while let Some(event) = self.delivery.poll_event() {
            self.events.push(event);
        }
        drop(self.delivery.take_garbage());
        assert!(
            self.delivery.stats().is_conserved(),
            "{:?}",
            self.delivery.stats()
        );
        if let Some(at) = self.delivery.poll_timeout() {
            assert!(at > self.now, "due {at:?} at {:?}: this would spin", self.now);
        }
    }

    pub fn tick(&mut self) {
        self.fact(DeliveryFact::Tick);
    }

    /// Lets time pass, with a tick wherever one is due.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut ticks = 0;
        while let Some(at) = self.delivery.poll_timeout().filter(|at| *at <= end) {
            self.now = at;
            self.tick();
            ticks += 1;
            assert!(ticks < 100_000, "the delivery spins");
        }
        self.now = end;
    }

    /// Ends the oldest export.
    pub fn end(&mut self, verdict: impl FnOnce(&Export) -> ExportVerdict) -> Export {
        let export = self.exports.pop_front().expect("an export was asked for");
        let verdict = verdict(&export);
        self.fact(DeliveryFact::Ended(export.batch, verdict));
        export
    }

    pub fn deliver(&mut self) -> Export {
        self.end(|export| ExportVerdict::delivered(export.items()))
    }

    /// The oldest export fails for now and comes back whole.
    pub fn fail(&mut self) -> Export {
        self.end(|export| ExportVerdict::failed(export.request.clone(), false, "no route"))
    }

    /// The oldest export was sent whole, and no answer came.
    pub fn fail_unanswered(&mut self) -> Export {
        self.end(|export| ExportVerdict::failed(export.request.clone(), true, "no answer"))
    }

    pub fn deliver_all(&mut self) {
        while !self.exports.is_empty() {
            self.deliver();
        }
    }

    /// Writes so many spans into an open batch; the driver is told where it is to be.
    pub fn write(&mut self, items: u64) -> Admission {
        self.write_with(&key(Signal::Traces), items)
    }

    pub fn write_with(&mut self, key: &OpenKey, items: u64) -> Admission {
        let admission = self.write_quietly(key, items);
        if self.delivery.take_wake() {
            self.tick();
        }
        admission
    }

    /// Writes without telling the driver.
    pub fn write_quietly(&mut self, key: &OpenKey, items: u64) -> Admission {
        let mut ticket = match self.delivery.begin(key, items, 0) {
            Ok(ticket) => ticket,
            Err(admission) => {
                drop(self.delivery.take_garbage());
                assert!(self.delivery.stats().is_conserved());
                return admission;
            }
        };
        let batch = ticket
            .batch
            .get_or_insert_with(|| OpenBatch::Traces(TraceBatch::new(&resource())));
        write_spans(batch, items);
        ticket.seal();
        self.delivery.put_back(ticket);
        assert!(self.delivery.stats().is_conserved());
        Admission::Admitted
    }

    pub fn push(&mut self, request: &Request) -> Admission {
        let admission = self.delivery.push(request);
        assert!(self.delivery.stats().is_conserved());
        if self.delivery.take_wake() {
            self.tick();
        }
        admission
    }

    pub fn flush(&mut self, flush: u64, time: Duration) {
        let until = self.now + time;
        self.fact(DeliveryFact::Flush {
            flush: FlushId(flush),
            until,
        });
    }

    pub fn drain(&mut self, time: Duration) {
        let until = self.now + time;
        self.fact(DeliveryFact::Drain { until });
    }

    pub fn account(&self) -> Account {
        self.delivery.stats().total
    }

    /// Items of the exports that wait for their ends.
    pub fn asked(&self) -> Vec<u64> {
        self.exports.iter().map(Export::items).collect()
    }
}

pub fn resource() -> Resource {
    Resource::builder().attr("service.name", "shop").build()
}

pub fn key(signal: Signal) -> OpenKey {
    OpenKey {
        signal,
        own: Own::default(),
    }
}

/// The open batches of a tenant.
pub fn tenant(name: &str) -> OpenKey {
    OpenKey {
        signal: Signal::Traces,
        own: Own::of(&request(1).with_header("x-tenant", name).expect("a header")),
    }
}

pub fn write_spans(batch: &mut OpenBatch, items: u64) {
    let OpenBatch::Traces(batch) = batch else {
        panic!("a batch of spans");
    };
    batch.scope("lib", "1.0");
    for _ in 0..items {
        batch.span([1; 16], [2; 8], "work").end();
    }
}

/// A request of so many spans.
pub fn request(items: u64) -> Request {
    let mut batch = OpenBatch::Traces(TraceBatch::new(&resource()));
    write_spans(&mut batch, items);
    let OpenBatch::Traces(mut batch) = batch else {
        unreachable!("made above");
    };
    batch.finish()
}

/// A request of so many items and bytes of any signal, whose bytes mean nothing.
pub fn blob(signal: Signal, items: u64, bytes: usize) -> Request {
    Request::from_segments(signal, items, vec![vec![0; bytes].into()])
}
