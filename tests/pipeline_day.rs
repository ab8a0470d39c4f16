//! A day at the collector, on the virtual clock: it starts slowly, asks for pauses, is away for half a minute, loses half of
//! its connections and recovers. Whoever sends to it all the while loses nothing and needs no help.

use otlp_embed::testing::collector::Accepting;
use otlp_embed::testing::{Answer, Collector, Link, Network, SimulatedCollector};
use otlp_embed::{Config, Exporter, Protocol, Request, Resource, Stats, TraceBatch};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const PRODUCERS: u64 = 4;
/// Spans that a producer writes at a time.
const SPANS: u64 = 10;
/// How often it does.
const PERIOD: Duration = Duration::from_millis(250);
/// How long producers work.
const OPEN: Duration = Duration::from_secs(300);
/// Bytes that may wait or be in flight.
const BUDGET: usize = 256 << 10;

/// What one day came to.
#[derive(Debug, PartialEq)]
struct Day {
    stats: Stats,
    /// Items that producers handed in.
    sent: u64,
    /// Items that the collector accepted, and how often beyond once.
    arrived: u64,
    again: u64,
    /// Items that may have been accepted by an export that failed, and were sent again.
    unanswered: u64,
    bytes_max: usize,
    connections: u64,
    trace: Vec<String>,
    took: Duration,
    /// How long producers waited for room, all together.
    waited: Duration,
}

/// What stands between producers and the exporter: a queue with a bound, and tasks that try again for as long as it takes.
#[derive(Clone)]
struct Sender(Arc<Shared>);

struct Shared {
    exporter: Exporter<Network>,
    network: Network,
    queue: Mutex<VecDeque<Request>>,
    /// Bytes of what is queued and in flight.
    bytes: AtomicU64,
    unanswered: AtomicU64,
    is_over: AtomicBool,
}

/// Exports at a time.
const WORKERS: usize = 8;
const PAUSE: Duration = Duration::from_millis(10);

impl Sender {
    fn new(network: &Network, exporter: &Exporter<Network>) -> Self {
        Self(Arc::new(Shared {
            exporter: exporter.clone(),
            network: network.clone(),
            queue: Mutex::default(),
            bytes: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }))
    }

    /// Waits for room.
    async fn send(&self, request: Request) {
        let bytes = request.encoded_len() as u64;
        while self.0.bytes.load(Ordering::Relaxed) + bytes > BUDGET as u64 {
            self.0.network.clock().sleep(PAUSE).await;
        }
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.0.queue.lock().unwrap().push_back(request);
    }

    /// Exports one request after another until there is none any more.
    async fn work(self) {
        loop {
            let next = self.0.queue.lock().unwrap().pop_front();
            if let Some(request) = next {
                let bytes = request.encoded_len() as u64;
                self.deliver(request).await;
                self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
            } else if self.0.is_over.load(Ordering::Relaxed) {
                return;
            } else {
                self.0.network.clock().sleep(PAUSE).await;
            }
        }
    }

    async fn deliver(&self, request: Request) {
        while let Err(error) = self.0.exporter.export(request.clone()).await {
            assert!(error.is_retryable(), "{error}");
            let counts = error.counts();
            assert_eq!((counts.delivered, counts.rejected), (0, 0), "{error}");
            self.0.unanswered.fetch_add(counts.unknown, Ordering::Relaxed);
            let wait = error.retry_after().unwrap_or(SECOND);
            self.0.network.clock().sleep(wait).await;
        }
    }
}

/// What happens to the collector.
async fn day(network: &Network, collector: &SimulatedCollector) {
    let clock = network.clock().clone();
    let begin = clock.now();
    let until = |secs| clock.sleep_until(begin + secs * SECOND);

    // It takes a while to get to speed: answers take twelve seconds at first.
    let clock = network.clock().clone();
    collector.answer_with(move |_| {
        let age = clock.now() - begin;
        Answer::Ok.after((12 * SECOND).saturating_sub(age / 5))
    });
    until(60).await;

    // Two of three calls are asked to come back later, some of them after the end of their timeout.
    collector.answer_with(|request| match request.index % 3 {
        0 => Answer::Ok.after(Duration::from_millis(20)),
        1 => Answer::throttled(2 * SECOND),
        _ => Answer::throttled(15 * SECOND),
    });
    until(100).await;
    collector.answer(Answer::Ok.after(Duration::from_millis(20)));
    until(120).await;

    // It is gone, with its connections.
    collector.set_accepting(Accepting::Refuse);
    collector.kill_connections();
    until(150).await;
    collector.set_accepting(Accepting::Serve);
    until(180).await;

    // Every two seconds half of the connections are reset, on a line that has seen better days.
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
    collector.set_link(Link::new());

    // It forgets its connections without a word, and then restarts in order.
    until(240).await;
    collector.forget_connections();
    until(260).await;
    collector.drain_connections();
}

/// Writes spans until the end of its day, and tells how many, and how long it waited for room.
async fn produce(network: Network, sender: Sender, producer: u64) -> (u64, Duration) {
    let clock = network.clock();
    let end = clock.now() + OPEN;
    let (mut sent, mut waited) = (0, Duration::ZERO);
    while clock.now() < end {
        let first = producer << 32 | sent;
        let begin = clock.now();
        sender.send(batch(first, SPANS)).await;
        waited += clock.now() - begin;
        sent += SPANS;
        clock.sleep(PERIOD).await;
    }
    (sent, waited)
}

/// Spans whose ids are `first` and those after it.
fn batch(first: u64, count: u64) -> Request {
    let mut batch = TraceBatch::new(&Resource::builder().attr("service.name", "shop").build());
    batch.scope("day", "1");
    for id in first..first + count {
        let mut span = batch.span([7; 16], (id + 1).to_be_bytes(), "work");
        span.attr("payload", "a few words of what happened, as spans have them");
        span.end();
    }
    batch.finish()
}

fn run(protocol: Protocol, seed: u64) -> Day {
    let network = Network::new(seed);
    let collector = network.collector_with(Collector::builder());
    let exporter = Config::new()
        .with_protocol(protocol)
        .with_endpoint(collector.endpoint())
        .build(network.clone())
        .expect("it works");
    network.spawn(exporter.driver());
    let sender = Sender::new(&network, &exporter);
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| network.spawn(sender.clone().work()))
        .collect();
    let begin = network.clock().now();
    let bytes_max = Cell::new(0);
    let check = || {
        let stats = exporter.stats();
        assert!(stats.is_conserved(), "{stats:?}");
        let bytes = sender.0.bytes.load(Ordering::Relaxed) as usize;
        assert!(bytes <= BUDGET && stats.bytes_in_flight as usize <= BUDGET);
        bytes_max.set(bytes_max.get().max(bytes));
    };
    let (sent, waited) = network.block_on_checked(
        async {
            let producers: Vec<_> = (0..PRODUCERS)
                .map(|producer| network.spawn(produce(network.clone(), sender.clone(), producer)))
                .collect();
            day(&network, &collector).await;
            let (mut sent, mut waited) = (0, Duration::ZERO);
            for producer in producers {
                let (its, its_wait) = producer.await;
                sent += its;
                waited += its_wait;
            }
            sender.0.is_over.store(true, Ordering::Relaxed);
            for worker in workers {
                worker.await;
            }
            (sent, waited)
        },
        check,
    );
    let took = network.clock().now() - begin;
    let report = network.block_on(exporter.shutdown(SECOND));
    let (arrived, again) = arrivals(&collector, protocol);
    Day {
        stats: report.stats,
        sent,
        arrived,
        again,
        unanswered: sender.0.unanswered.load(Ordering::Relaxed),
        bytes_max: bytes_max.get(),
        connections: collector.counters().connections,
        trace: network.trace().iter().map(ToString::to_string).collect(),
        took,
        waited,
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
    let (mut arrived, mut again) = (BTreeSet::new(), 0);
    for span in collector.spans() {
        if accepted[&span.request] && !arrived.insert(span.span_id) {
            again += 1;
        }
    }
    (arrived.len() as u64, again)
}

fn check(day: &Day) {
    assert_eq!(day.arrived, day.sent, "nothing is lost");
    assert_eq!(
        day.stats.delivered, day.sent,
        "and all of it is known to have arrived"
    );
    assert!(
        day.again <= day.stats.possible_duplicates + day.unanswered,
        "spec 25: duplicates only where accounted: {} of {} and {}",
        day.again,
        day.stats.possible_duplicates,
        day.unanswered
    );
    assert_eq!((day.stats.in_flight, day.stats.bytes_in_flight), (0, 0));
    // A day on which nothing happened proves nothing.
    assert!(
        day.sent > 20_000 && day.connections > 10 && day.stats.retries > 50,
        "{:?}",
        day.stats
    );
    assert!(
        day.bytes_max > BUDGET / 2,
        "the budget was never of interest: {}",
        day.bytes_max
    );
    assert!(
        day.waited > SECOND,
        "producers had to wait in the outage: {:?}",
        day.waited
    );
    assert!(day.took < OPEN + 60 * SECOND, "it recovers: {:?}", day.took);
}

#[test]
fn a_day_over_http_loses_nothing() {
    check(&run(Protocol::HttpProtobuf, 1));
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
