//! A day at the collector, on the virtual clock: it starts slowly, asks for pauses, is away for half a minute, loses half of
//! its connections and recovers. The pipeline that sends to it all the while, with the default timeout and producers that
//! wait, loses nothing, keeps within its memory and needs no help.

use otlp_embed::endpoint::{GRPC_PORT, HTTP_PORT};
use otlp_embed::pipeline::{Overflow, Pipeline, PipelineConfig, PipelineStats, QueueConfig};
use otlp_embed::testing::collector::{Accepting, Value};
use otlp_embed::testing::{Answer, Clock, Collector, Link, Network, SimulatedCollector};
use otlp_embed::time::Instant;
use otlp_embed::{Config, LogBatch, Protocol, Request, Resource, Stats, TraceBatch};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const PRODUCERS: u64 = 4;
/// Items that a producer writes at a time.
const ITEMS: u64 = 10;
/// How often it does.
const PERIOD: Duration = Duration::from_millis(250);
/// How long producers work.
const OPEN: Duration = Duration::from_secs(300);
/// Bytes that may be open, queued or in flight.
const BUDGET: u64 = 256 << 10;
/// The last write of each producer may pass it.
const EXCESS: u64 = PRODUCERS * 2_000;

/// What one day came to.
#[derive(Debug, PartialEq)]
struct Day {
    /// The pipeline's account.
    pipeline: PipelineStats,
    /// Its exporter's.
    stats: Stats,
    /// Items that producers handed in.
    sent: u64,
    /// Items that the collector accepted, and how often beyond once.
    arrived: u64,
    again: u64,
    bytes_max: u64,
    connections: u64,
    trace: Vec<String>,
    took: Duration,
    /// How long producers waited for room, all together.
    waited: Duration,
    /// What happened to the collector, and what the observer said of it.
    diary: String,
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

/// What happens to the collector.
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

/// Writes items until the end of its day, and tells how many, and how long it waited for room.
async fn produce(network: Network, pipeline: Pipeline, producer: u64) -> (u64, Duration) {
    let clock = network.clock();
    let end = clock.now() + OPEN;
    let (mut sent, mut waited) = (0, Duration::ZERO);
    while clock.now() < end {
        let first = producer << 32 | sent;
        let begin = clock.now();
        let taken = match producer {
            0 => pipeline.logs_async(move |batch| logs(batch, first)).await,
            1 => pipeline.send(request(first)).await,
            _ => pipeline.spans_async(move |batch| spans(batch, first)).await,
        };
        taken.expect("a producer that waits is taken");
        waited += clock.now() - begin;
        sent += ITEMS;
        clock.sleep(PERIOD).await;
    }
    (sent, waited)
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

fn run(protocol: Protocol, seed: u64) -> Day {
    let network = Network::new(seed);
    let port = match protocol {
        Protocol::Grpc => GRPC_PORT,
        _ => HTTP_PORT,
    };
    let collector = network.listen(([10, 0, 0, 1], port), Collector::builder());
    let diary = Diary::new(network.clock());
    let observed = diary.clone();
    let exporter = Config::new()
        .with_observer(move |event| observed.note(event))
        .with_protocol(protocol)
        .with_endpoint(collector.endpoint())
        .build(network.clone())
        .expect("it works");
    let queue = QueueConfig::new()
        .with_bytes_max(BUDGET as usize)
        .with_overflow(Overflow::Block);
    let config = PipelineConfig::new()
        .with_resource(&Resource::builder().attr("service.name", "shop").build())
        .with_queue(queue);
    let (pipeline, future) = exporter.pipeline(config).expect("it works");
    let future = network.spawn(future);
    let begin = network.clock().now();
    let bytes_max = Cell::new(0);
    let check = || {
        let stats = exporter.stats();
        assert!(stats.is_conserved(), "{stats:?}");
        let account = pipeline.stats();
        assert!(account.is_conserved(), "{account:?}");
        let bytes = account.total.queued_bytes + account.total.in_flight_bytes;
        assert!(bytes <= BUDGET + EXCESS, "{account:?}");
        assert!(stats.bytes_in_flight <= BUDGET + EXCESS, "{stats:?}");
        bytes_max.set(bytes_max.get().max(bytes));
    };
    let work = async {
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| network.spawn(produce(network.clone(), pipeline.clone(), producer)))
            .collect();
        day(&network, &collector, &diary).await;
        let (mut sent, mut waited) = (0, Duration::ZERO);
        for producer in producers {
            let (its, its_wait) = producer.await;
            sent += its;
            waited += its_wait;
        }
        let report = pipeline.shutdown(60 * SECOND).await;
        assert_eq!(report.stats.delivered, sent, "{report}");
        assert_eq!(future.await, report);
        (sent, waited)
    };
    let (sent, waited) = network.block_on_checked(work, check);
    let took = network.clock().now() - begin;
    let report = network.block_on(exporter.shutdown(SECOND));
    diary.note(format_args!("-- the end: {report}"));
    let diary = diary.lines.lock().unwrap().clone();
    let (arrived, again) = arrivals(&collector, protocol);
    Day {
        pipeline: pipeline.stats(),
        stats: report.stats,
        sent,
        arrived,
        again,
        bytes_max: bytes_max.get(),
        connections: collector.counters().connections,
        trace: network.trace().iter().map(ToString::to_string).collect(),
        took,
        waited,
        diary,
    }
}

/// The items that the collector accepted, and how often it did beyond once.
fn arrivals(collector: &SimulatedCollector, protocol: Protocol) -> (u64, u64) {
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
        if accepted[&request] && !arrived.insert(id) {
            again += 1;
        }
    }
    (arrived.len() as u64, again)
}

fn check(day: &Day) {
    let account = &day.pipeline.total;
    assert_eq!(day.arrived, day.sent, "nothing is lost");
    assert_eq!(
        (account.accepted, account.delivered),
        (day.sent, day.sent),
        "{account:?}"
    );
    assert!(
        day.again <= day.stats.possible_duplicates,
        "spec 25: duplicates only where accounted: {} of {}",
        day.again,
        day.stats.possible_duplicates
    );
    assert_eq!(
        (day.stats.accepted, day.stats.delivered),
        (day.sent, day.sent),
        "{:?}",
        day.stats
    );
    assert_eq!((day.stats.in_flight, day.stats.bytes_in_flight), (0, 0));
    // A day on which nothing happened proves nothing.
    assert!(
        day.sent > 20_000 && day.connections > 10 && account.returned > 10,
        "{account:?}"
    );
    assert!(
        day.bytes_max > BUDGET * 9 / 10,
        "the budget was never of interest: {}",
        day.bytes_max
    );
    assert!(
        day.waited > SECOND,
        "producers had to wait in the outage: {:?}",
        day.waited
    );
    assert!(day.took < OPEN + 10 * SECOND, "it recovers: {:?}", day.took);
}

/// Set to write the snapshot anew instead of comparing with it.
const BLESS: &str = "OTLP_EMBED_BLESS";

/// What an operator reads of it is `tests/snapshots/pipeline_day.txt`.
#[test]
fn a_day_over_http_loses_nothing() {
    let day = run(Protocol::HttpProtobuf, 1);
    check(&day);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/pipeline_day.txt");
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(path, &day.diary).expect("the snapshot is written");
    }
    let then = std::fs::read_to_string(path).expect("the snapshot is there");
    assert_eq!(then, day.diary, "{path} differs; set {BLESS}=1 to write it anew");
}

#[test]
fn a_day_over_grpc_loses_nothing() {
    check(&run(Protocol::Grpc, 2));
}

#[test]
fn the_same_seed_gives_the_same_day() {
    let (one, other) = (run(Protocol::HttpProtobuf, 3), run(Protocol::HttpProtobuf, 3));
    let differs = one.trace.iter().zip(&other.trace).find(|(a, b)| a != b);
    assert_eq!(differs, None);
    assert!(one == other);
    assert!(one.trace != run(Protocol::HttpProtobuf, 4).trace);
}
