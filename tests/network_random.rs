//! The exporter's futures on a simulated network where anything may happen, on fixed seeds: whatever the account says is
//! what the collector saw, nothing hangs, and the same seed gives the same run.

#[path = "support/batches.rs"]
#[allow(dead_code)]
mod batches;
#[path = "support/chaos.rs"]
mod chaos;

use batches::batch_with;
use chaos::{answer, chaos, may_succeed};
use fastrand::Rng;
use otlp_embed::testing::{Answer, Collector, Network, SimulatedCollector};
use otlp_embed::{Config, Exporter, ItemCounts, Protocol, Stats};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Seeds of a run, each a world of its own.
const SEEDS: std::ops::Range<u64> = 0..60;

const EXPORTS: u64 = 60;
static PAYLOAD: [u8; 60_000] = [b'x'; 60_000];

#[test]
fn the_account_is_what_the_collector_saw() {
    let mut sum = Sum::default();
    for seed in seeds() {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok((_, one)) => sum.add(&one),
            Err(_) => panic!("seed {seed} fails"),
        }
    }
    println!("{sum:?}");
    // Worlds in which nothing happens prove nothing.
    let counts = sum.counts;
    let figures = [counts.delivered, counts.dropped, counts.unknown];
    assert!(figures.iter().all(|&figure| figure >= 50), "{sum:?}");
    assert!(
        sum.given_up >= 50 && sum.retries >= 50 && sum.duplicates >= 5,
        "{sum:?}"
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in SEEDS.step_by(6) {
        let (one, other) = (run(seed), run(seed));
        let differs = one.0.iter().zip(&other.0).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert!(one == other, "seed {seed}");
    }
}

/// `NETWORK_SEEDS=from,to` looks elsewhere.
fn seeds() -> std::ops::Range<u64> {
    let text = std::env::var("NETWORK_SEEDS").unwrap_or_default();
    let range = text
        .split_once(',')
        .and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.unwrap_or(SEEDS)
}

/// What happened in all worlds.
#[derive(Debug, Default, PartialEq)]
struct Sum {
    counts: ItemCounts,
    retries: u64,
    /// Exports whose future was dropped.
    given_up: u64,
    /// Items that the collector accepted again.
    duplicates: u64,
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.counts += other.counts;
        self.retries += other.retries;
        self.given_up += other.given_up;
        self.duplicates += other.duplicates;
    }
}

/// What is known of an export: its items, and what became of them unless its future was dropped.
type Verdicts = Arc<Mutex<BTreeMap<u64, (u64, Option<ItemCounts>)>>>;

fn run(seed: u64) -> (Vec<String>, Sum) {
    let mut rng = Rng::with_seed(seed);
    let network = Network::new(seed);
    let mut builder = Collector::builder().max_concurrent_streams([1, 2, 128][rng.usize(..3)]);
    if rng.u8(..4) == 0 {
        builder = builder.requests_per_connection(rng.u64(1..6));
    }
    let collector = network.collector_with(builder);
    let protocol = [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson][rng.usize(..3)];
    let mut config = Config::new()
        .with_protocol(protocol)
        .with_endpoint(collector.endpoint())
        .with_http1_connections(rng.usize(1..6))
        .with_timeout(Duration::from_millis(rng.u64(500..15_000)))
        .with_connect_timeout(Duration::from_millis(rng.u64(100..5_000)));
    if rng.u8(..3) == 0 {
        config = config.with_max_connection_age(Duration::from_millis(rng.u64(1_000..9_000)));
    }
    let exporter = config.build(network.clone()).expect("it works");
    if rng.bool() {
        network.spawn(exporter.driver());
    }
    let evil = rng.u8(..60);
    let answers = Mutex::new(rng.fork());
    collector.answer_with(move |_| answer(&mut answers.lock().expect("no panic"), evil));

    let verdicts = Verdicts::default();
    let chaos = network.spawn(chaos(network.clock().clone(), collector.clone(), rng.fork()));
    let mut first = 0;
    let exports: Vec<_> = (0..EXPORTS)
        .map(|_| {
            let items = rng.u64(..8);
            let one = one(&network, &exporter, first, items, rng.fork(), verdicts.clone());
            first += items.max(1);
            network.spawn(one)
        })
        .collect();
    network.block_on_checked(
        async {
            chaos.await;
            for export in exports {
                export.await;
            }
        },
        || assert!(exporter.stats().is_conserved(), "{:?}", exporter.stats()),
    );
    let report = network.block_on(exporter.shutdown(Duration::from_secs(1)));
    let trace = network.trace().iter().map(ToString::to_string).collect();
    let sum = audit(&collector, protocol, &verdicts.lock().unwrap(), report.stats);
    drop(exporter);
    // What was said last arrives, and then nobody is connected any more.
    network.run_for(Duration::from_secs(1));
    assert_eq!(collector.open_connections(), 0);
    network.abort_tasks();
    (trace, sum)
}

/// One export at some time, whose future may be dropped before its verdict.
fn one(
    network: &Network,
    exporter: &Exporter<Network>,
    first: u64,
    items: u64,
    mut rng: Rng,
    verdicts: Verdicts,
) -> impl Future<Output = ()> + Send + 'static {
    let (clock, exporter) = (network.clock().clone(), exporter.clone());
    async move {
        clock.sleep(Duration::from_micros(rng.u64(..20_000_000))).await;
        let payload = [0, 0, 10, 2_000, 60_000][rng.usize(..5)];
        let payload = core::str::from_utf8(&PAYLOAD[..payload]).expect("ASCII");
        verdicts.lock().unwrap().insert(first, (items, None));
        let export = exporter.export(batch_with(first, items, payload));
        let patience = match rng.u8(..4) {
            0 => Duration::from_micros(rng.u64(..2_000_000)),
            _ => Duration::from_secs(3_600),
        };
        let counts = match clock.timeout(patience, export).await {
            Ok(Ok(outcome)) => outcome.counts(),
            Ok(Err(error)) => error.counts(),
            Err(_) => return,
        };
        assert_eq!(counts.total(), items);
        verdicts.lock().unwrap().insert(first, (items, Some(counts)));
    }
}

/// Compares the verdicts with what the collector recorded.
fn audit(
    collector: &SimulatedCollector,
    protocol: Protocol,
    verdicts: &BTreeMap<u64, (u64, Option<ItemCounts>)>,
    stats: Stats,
) -> Sum {
    let answers: BTreeMap<u64, Answer> = collector
        .requests()
        .into_iter()
        .map(|request| (request.index, request.answer.expect("it is kept")))
        .collect();
    // How often each item came, and how often it certainly was, or may have been, accepted.
    let mut seen: BTreeMap<u64, [u64; 3]> = BTreeMap::new();
    for span in collector.spans() {
        let id = u64::from_be_bytes(span.span_id.as_slice().try_into().expect("8 bytes")) - 1;
        let answer = &answers[&span.request];
        let seen = seen.entry(id).or_default();
        seen[0] += 1;
        seen[1] += u64::from(answer.is_success_over(protocol));
        seen[2] += u64::from(may_succeed(answer, protocol));
    }
    let mut sum = Sum {
        retries: stats.retries,
        ..Sum::default()
    };
    for (first, (items, counts)) in verdicts {
        let Some(counts) = counts else {
            sum.given_up += 1;
            continue;
        };
        sum.counts += *counts;
        let seen = &seen;
        let of = |at: usize| (*first..first + items).map(move |id| seen.get(&id).map_or(0, |seen| seen[at]));
        let came = of(0).filter(|count| *count > 0).count() as u64;
        let accepted = of(2).filter(|count| *count > 0).count() as u64;
        assert!(
            counts.delivered <= accepted,
            "{first}: {counts:?}, {accepted} accepted"
        );
        assert_eq!(counts.rejected, 0, "{first}: nothing is refused for good");
        // What may have been accepted is never said to be lost.
        assert!(
            counts.dropped == 0 || accepted == 0,
            "{first}: {counts:?}, {accepted} of {came} accepted"
        );
    }
    sum.duplicates = seen
        .values()
        .map(|[_, accepted, _]| accepted.saturating_sub(1))
        .sum();
    assert!(
        sum.duplicates <= stats.possible_duplicates,
        "{} duplicates: {stats:?}",
        sum.duplicates
    );
    assert_eq!((stats.in_flight, stats.bytes_in_flight), (0, 0), "{stats:?}");
    sum
}
