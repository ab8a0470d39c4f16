//! Days of a collector on the virtual clock, and what a pipeline makes of them: each with the default timeout, its law and its
//! memory asserted after every event.

use otlp_embed::endpoint::{GRPC_PORT, HTTP_PORT};
use otlp_embed::observe::SelfMetrics;
use otlp_embed::pipeline::{Account, Overflow, Pipeline, PipelineConfig, PipelineStats, QueueConfig};
use otlp_embed::policy::BreakerState;
use otlp_embed::testing::collector::{Accepting, Value};
use otlp_embed::testing::{Answer, Clock, Collector, Link, Network, SimulatedCollector};
use otlp_embed::time::Instant;
use otlp_embed::{Config, DropReason, LogBatch, Protocol, Request, Resource, Signal, Stats, TraceBatch};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const SECOND: Duration = Duration::from_secs(1);
const PRODUCERS: u64 = 4;
/// Items that a producer writes at a time.
const ITEMS: u64 = 10;
/// How often it does.
const PERIOD: Duration = Duration::from_millis(250);
/// Bytes that may be open, queued or in flight.
pub const BUDGET: u64 = 256 << 10;
/// The last write of each producer may pass it.
const EXCESS: u64 = PRODUCERS * 2_000;

/// A day to come.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub protocol: Protocol,
    pub seed: u64,
    pub overflow: Overflow,
    /// For how long a batch is tried; the default where none is said.
    pub max_elapsed: Option<Duration>,
    pub script: Script,
    /// How long producers work.
    pub open: Duration,
}

/// What happens to the collector.
#[derive(Clone, Copy, Debug)]
pub enum Script {
    /// Everything.
    Day,
    /// It is gone after half a minute, for so many seconds.
    Outage(u32),
}

impl Plan {
    /// A whole day of five minutes, on which producers wait.
    pub fn day(protocol: Protocol, seed: u64) -> Self {
        Self {
            protocol,
            seed,
            overflow: Overflow::Block,
            max_elapsed: None,
            script: Script::Day,
            open: 300 * SECOND,
        }
    }

    /// A day on which nothing happens but that the collector is gone for so many seconds.
    pub fn outage(protocol: Protocol, seed: u64, seconds: u32) -> Self {
        Self {
            script: Script::Outage(seconds),
            open: (seconds + 90) * SECOND,
            ..Self::day(protocol, seed)
        }
    }
}

/// What one day came to.
#[derive(Debug, PartialEq)]
pub struct Day {
    /// The pipeline's account.
    pub pipeline: PipelineStats,
    /// Its exporter's.
    pub stats: Stats,
    /// Items that producers handed in and that were taken.
    pub sent: u64,
    /// Items that producers were told were dropped.
    pub told: u64,
    /// Items that the collector accepted, and how often beyond once.
    pub arrived: u64,
    pub again: u64,
    /// Items that were taken and that the collector never accepted.
    pub missing: u64,
    pub bytes_max: u64,
    pub connections: u64,
    pub trace: Vec<String>,
    pub took: Duration,
    /// How long producers waited for room, all together.
    pub waited: Duration,
    /// The states that the circuit breaker went through.
    pub breaker: Vec<BreakerState>,
    /// What happened to the collector, and what the observer said of it.
    pub diary: String,
}

/// What a producer tells in the evening.
#[derive(Default)]
struct Evening {
    /// The ids of what was taken.
    taken: Vec<u64>,
    told: u64,
    waited: Duration,
}

/// Lines with the time of the day.
#[derive(Clone)]
struct Diary {
    clock: Clock,
    begin: Instant,
    lines: Arc<Mutex<String>>,
}

impl Diary {
    fn new(clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            begin: clock.now(),
            lines: Arc::default(),
        }
    }

    fn note(&self, line: impl Display) {
        let secs = (self.clock.now() - self.begin).as_secs();
        let line = format!("{:02}:{:02} {line}\n", secs / 60, secs % 60);
        self.lines.lock().unwrap().push_str(&line);
    }
}

/// The collector answers after a moment, and is gone for a while.
async fn outage(network: &Network, collector: &SimulatedCollector, diary: &Diary, seconds: u32) {
    collector.answer(Answer::Ok.after(Duration::from_millis(20)));
    network.clock().sleep(30 * SECOND).await;
    diary.note("-- the collector is gone");
    collector.set_accepting(Accepting::Refuse);
    collector.kill_connections();
    network.clock().sleep(seconds * SECOND).await;
    diary.note("-- the collector is back");
    collector.set_accepting(Accepting::Serve);
}

/// What happens to the collector on a whole day.
async fn day(network: &Network, collector: &SimulatedCollector, diary: &Diary) {
    let clock = network.clock().clone();
    let begin = clock.now();
    let until = |secs| clock.sleep_until(begin + secs * SECOND);

    // It takes a while to get to speed: answers take twelve seconds at first.
    diary.note("-- the collector starts, and takes its time");
    let clock = network.clock().clone();
    collector.answer_with(move |_| {
        let age = clock.now() - begin;
        Answer::Ok.after((12 * SECOND).saturating_sub(age / 5))
    });
    until(60).await;

    // Two of three calls are asked to come back later, some of them after the end of their timeout.
    diary.note("-- the collector asks two of three to come back later");
    collector.answer_with(|request| match request.index % 3 {
        0 => Answer::Ok.after(Duration::from_millis(20)),
        1 => Answer::throttled(2 * SECOND),
        _ => Answer::throttled(15 * SECOND),
    });
    until(100).await;
    diary.note("-- the collector is well");
    collector.answer(Answer::Ok.after(Duration::from_millis(20)));
    until(120).await;

    // It is gone, with its connections.
    diary.note("-- the collector is gone");
    collector.set_accepting(Accepting::Refuse);
    collector.kill_connections();
    until(150).await;
    diary.note("-- the collector is back");
    collector.set_accepting(Accepting::Serve);
    until(180).await;

    // Every two seconds half of the connections are reset, on a line that has seen better days.
    diary.note("-- half of the connections are reset, again and again, on a poor line");
    collector.set_link(
        Link::new()
            .with_latency(Duration::from_millis(40))
            .with_jitter(Duration::from_millis(20))
            .with_chunks(2_000),
    );
    for second in (180..220).step_by(2) {
        until(second).await;
        collector.kill_share(0.5);
    }
    diary.note("-- the line is well");
    collector.set_link(Link::new());

    // It forgets its connections without a word, and then restarts in order.
    until(240).await;
    diary.note("-- the collector loses its power for an instant");
    collector.forget_connections();
    until(260).await;
    diary.note("-- the collector restarts in order");
    collector.drain_connections();
}

/// Writes items until the end of its day.
async fn produce(network: Network, pipeline: Pipeline, producer: u64, open: Duration) -> Evening {
    let clock = network.clock();
    let end = clock.now() + open;
    let (mut evening, mut first) = (Evening::default(), producer << 32);
    while clock.now() < end {
        let begin = clock.now();
        let taken = match producer {
            0 => pipeline.logs_async(move |batch| logs(batch, first)).await,
            1 => pipeline.send(request(first)).await,
            _ => pipeline.spans_async(move |batch| spans(batch, first)).await,
        };
        match taken {
            Ok(()) => evening.taken.extend(first..first + ITEMS),
            Err(refusal) => {
                assert_eq!(refusal.drop_reason(), Some(DropReason::QueueFull), "{refusal}");
                // What would have been written is not known where nothing is: it counts as one item.
                evening.told += if producer == 1 { ITEMS } else { 1 };
            }
        }
        evening.waited += clock.now() - begin;
        first += ITEMS;
        clock.sleep(PERIOD).await;
    }
    evening
}

const PAYLOAD: &str = "a few words of what happened, as telemetry has them";

fn request(first: u64) -> Request {
    let mut batch = TraceBatch::new(&Resource::builder().attr("service.name", "shop").build());
    spans(&mut batch, first);
    batch.finish()
}

/// Spans whose ids are `first` and those after it.
fn spans(batch: &mut TraceBatch, first: u64) {
    batch.scope("day", "1");
    for id in first..first + ITEMS {
        let mut span = batch.span([7; 16], (id + 1).to_be_bytes(), "work");
        span.attr("id", id as i64).attr("payload", PAYLOAD);
        span.end();
    }
}

fn logs(batch: &mut LogBatch, first: u64) {
    batch.scope("day", "1");
    for id in first..first + ITEMS {
        let mut record = batch.log();
        record.attr("id", id as i64).attr("payload", PAYLOAD);
        record.end();
    }
}

/// Lives through a day.
pub fn run(plan: Plan) -> Day {
    let network = Network::new(plan.seed);
    let port = match plan.protocol {
        Protocol::Grpc => GRPC_PORT,
        _ => HTTP_PORT,
    };
    let collector = network.listen(([10, 0, 0, 1], port), Collector::builder());
    let diary = Diary::new(network.clock());
    let observed = diary.clone();
    let exporter = Config::new()
        .with_observer(move |event| observed.note(event))
        .with_protocol(plan.protocol)
        .with_endpoint(collector.endpoint())
        .build(network.clone())
        .expect("it works");
    let queue = QueueConfig::new()
        .with_bytes_max(BUDGET as usize)
        .with_overflow(plan.overflow);
    let mut config = PipelineConfig::new()
        .with_resource(&Resource::builder().attr("service.name", "shop").build())
        .with_queue(queue);
    if let Some(max_elapsed) = plan.max_elapsed {
        config = config.with_max_elapsed(max_elapsed);
    }
    let (pipeline, future) = exporter.pipeline(config).expect("it works");
    let future = network.spawn(future);
    let begin = network.clock().now();
    let bytes_max = Cell::new(0);
    let breaker = RefCell::new(vec![BreakerState::Closed]);
    let batches = Cell::new(0);
    let check = || {
        let stats = exporter.stats();
        assert!(stats.is_conserved(), "{stats:?}");
        let account = pipeline.stats();
        assert!(account.is_conserved(), "{account:?}");
        let bytes = account.total.queued_bytes + account.total.in_flight_bytes;
        assert!(bytes <= BUDGET + EXCESS, "{account:?}");
        assert!(stats.bytes_in_flight <= BUDGET + EXCESS, "{stats:?}");
        bytes_max.set(bytes_max.get().max(bytes));
        check_metrics(&exporter.self_metrics(), &account.total);
        let state = account.legs[0].endpoints[0].breaker;
        let before = *breaker.borrow().last().expect("the first is there");
        let begun = account.total.batches - batches.replace(account.total.batches);
        assert!(
            begun == 0 || (before, state) != (BreakerState::Open, BreakerState::Open),
            "an open breaker lets nothing through: {account:?}"
        );
        if state != before {
            breaker.borrow_mut().push(state);
        }
    };
    let work = async {
        let start = |producer| produce(network.clone(), pipeline.clone(), producer, plan.open);
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| network.spawn(start(producer)))
            .collect();
        match plan.script {
            Script::Day => day(&network, &collector, &diary).await,
            Script::Outage(seconds) => outage(&network, &collector, &diary, seconds).await,
        }
        let mut all = Evening::default();
        for producer in producers {
            let evening = producer.await;
            all.taken.extend(evening.taken);
            all.told += evening.told;
            all.waited += evening.waited;
        }
        let report = pipeline.shutdown(60 * SECOND).await;
        assert_eq!(future.await, report);
        all
    };
    let evening = network.block_on_checked(work, check);
    let took = network.clock().now() - begin;
    let report = network.block_on(exporter.shutdown(SECOND));
    diary.note(format_args!("-- the end: {report}"));
    let diary = diary.lines.lock().unwrap().clone();
    let (arrived, again) = arrivals(&collector, plan.protocol);
    let missing = evening.taken.iter().filter(|id| !arrived.contains(id));
    Day {
        pipeline: pipeline.stats(),
        stats: report.stats,
        sent: evening.taken.len() as u64,
        told: evening.told,
        arrived: arrived.len() as u64,
        again,
        missing: missing.count() as u64,
        bytes_max: bytes_max.get(),
        connections: collector.counters().connections,
        trace: network.trace().iter().map(ToString::to_string).collect(),
        took,
        waited: evening.waited,
        breaker: breaker.into_inner(),
        diary,
    }
}

/// The self-metrics tell what the account does, as far as it was ever exported (spec 55).
fn check_metrics(metrics: &SelfMetrics, account: &Account) {
    let sum = |of: &dyn Fn(Signal) -> u64| Signal::ALL.into_iter().map(of).sum::<u64>();
    let failed = sum(&|signal| metrics.failed(signal).map(|(_, items)| items).sum());
    assert_eq!(
        sum(&|signal| metrics.exported(signal)),
        account.delivered,
        "{metrics:?}"
    );
    assert!(
        failed <= account.dropped_total() + account.rejected + account.unknown,
        "{failed}: {account:?}"
    );
    // What came back waits in the queue, and is in flight still.
    let in_flight = sum(&|signal| metrics.in_flight(signal));
    let bounds = account.in_flight..=account.in_flight + account.queued;
    assert!(bounds.contains(&in_flight), "{in_flight}: {account:?}");
}

/// The items that the collector accepted, and how often it did beyond once.
fn arrivals(collector: &SimulatedCollector, protocol: Protocol) -> (BTreeSet<u64>, u64) {
    let requests = collector.requests().into_iter();
    let accepted: BTreeMap<u64, bool> = requests
        .map(|request| {
            let answer = request.answer.expect("it is kept");
            (request.index, answer.is_success_over(protocol))
        })
        .collect();
    let spans = collector.spans().into_iter();
    let spans = spans.map(|span| (span.request, span.attribute("id").cloned()));
    let logs = collector.logs().into_iter();
    let logs = logs.map(|log| (log.request, log.attribute("id")));
    let (mut arrived, mut again) = (BTreeSet::new(), 0);
    for (request, id) in spans.chain(logs) {
        let Some(Value::Int(id)) = id else {
            panic!("an item without an id")
        };
        if accepted[&request] && !arrived.insert(id as u64) {
            again += 1;
        }
    }
    (arrived, again)
}
