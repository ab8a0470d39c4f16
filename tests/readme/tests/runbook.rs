//! The README's runbook tells what operators see: each row of its table is brought about on a simulated network, and what it
//! quotes of events and errors is what the exporter says.

#[path = "../../support/certificates.rs"]
mod certificates;

use certificates::{Authority, NAME, ServerTls};
use otlp_embed::pipeline::{Overflow, PipelineConfig, PipelineStats, QueueConfig};
use otlp_embed::policy::{AdaptiveBatchConfig, BreakerState};
use otlp_embed::testing::collector::{Accepting, Answer};
use otlp_embed::testing::{Collector, Network, SimulatedCollector};
use otlp_embed::{Config, DropReason, Resource, Stats, Tls, TraceBatch};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What an operator has to go by.
struct Seen {
    /// Events, and what errors say.
    said: Vec<String>,
    stats: Stats,
    pipeline: PipelineStats,
    /// The values of `error.type` in the self-metrics.
    types: Vec<String>,
}

/// An exporter with a pipeline, to which a span is written every 100 ms for a while.
struct Case {
    network: Network,
    collector: SimulatedCollector,
    config: Config,
    pipeline: PipelineConfig,
    lasting: Duration,
    /// Bytes of an attribute of each span.
    load: usize,
}

impl Case {
    fn new() -> Self {
        let network = Network::new(7);
        Self::on(network.clone(), network.collector())
    }

    fn on(network: Network, collector: SimulatedCollector) -> Self {
        Self {
            config: Config::new().with_endpoint(collector.endpoint()),
            network,
            collector,
            pipeline: PipelineConfig::new(),
            lasting: Duration::from_secs(20),
            load: 10,
        }
    }

    fn answering(answer: Answer) -> Self {
        let case = Self::new();
        case.collector.answer(answer);
        case
    }

    fn run(self) -> Seen {
        let said = Arc::new(Mutex::new(Vec::new()));
        let observer = said.clone();
        let config = self.config.with_observer(move |event| {
            observer.lock().expect("the words").push(event.to_string());
        });
        let exporter = config.build(self.network.clone()).expect("built");
        let (pipeline, future) = exporter.pipeline(self.pipeline).expect("a pipeline");
        self.network.spawn(future);
        let text = "x".repeat(self.load);
        let steps = self.lasting.as_millis() / 100;
        self.network.block_on(async {
            for _ in 0..steps {
                let write = |batch: &mut TraceBatch| {
                    batch.span([1; 16], [2; 8], "checkout").attr("load", &*text).end()
                };
                _ = pipeline.try_spans(write);
                self.network.clock().sleep(Duration::from_millis(100)).await;
            }
        });
        let stats = exporter.stats();
        let pipeline = pipeline.stats();
        let mut said = said.lock().expect("the words").clone();
        said.extend(stats.last_error.clone());
        said.extend(pipeline.legs[0].last_error.clone());
        let failed = exporter.self_metrics();
        let failed = failed.exports(otlp_embed::Signal::Traces);
        let types = failed
            .filter_map(|(error, ..)| error)
            .map(|error| error.to_string())
            .collect();
        assert!(stats.is_conserved() && pipeline.is_conserved());
        Seen {
            said,
            stats,
            pipeline,
            types,
        }
    }
}

/// A row, by its first words, and what brings it about.
type Row = (&'static str, fn() -> Seen);

/// The rows, in their order.
const ROWS: [Row; 13] = [
    ("connection refused", refused),
    ("a name that does not resolve", unresolved),
    ("429", throttled),
    ("502", unavailable),
    ("500", rejected),
    ("401", unauthenticated),
    ("TLS", expired_certificate),
    ("answers take too long", slow),
    ("the queue is full", full),
    ("the breaker is open", broken),
    ("waited for too long", given_up),
    ("the memory limit", memory),
    ("too large", too_large),
];

#[test]
fn the_runbook_tells_what_an_operator_sees() {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once("| symptom |").expect("the runbook");
    let (table, _) = rest.split_once("\n\n").expect("an end");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(2)
        .map(|line| line.split(" | ").collect())
        .collect();
    assert_eq!(rows.len(), ROWS.len(), "each row has a case here");
    let mut wrong = String::new();
    for (row, (symptom, case)) in rows.iter().zip(ROWS) {
        assert!(
            row[0].trim_start_matches("| ").starts_with(symptom),
            "{symptom}: {}",
            row[0]
        );
        let seen = case();
        for quoted in quotes(row[1]).filter(|quoted| quoted.contains(' ')) {
            if !seen.said.iter().any(|line| is_like(line, quoted)) {
                wrong += &format!(
                    "{symptom}: nobody said {quoted:?}, but\n    {}\n",
                    seen.said.join("\n    ")
                );
            }
        }
        if let Some((_, of)) = row[2].split_once("`error.type` `") {
            let error = of.split('`').next().unwrap_or_default();
            if !seen.types.iter().any(|seen| seen == error) {
                wrong += &format!("{symptom}: error.type is {:?} and not {error}\n", seen.types);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What stands between backquotes.
fn quotes(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Whether a line has the pieces of a quotation in their order; `…` stands for anything.
fn is_like(line: &str, quoted: &str) -> bool {
    let mut rest = Some(line);
    for piece in quoted.split('…').map(str::trim) {
        rest = rest.and_then(|rest| rest.split_once(piece)).map(|(_, rest)| rest);
    }
    rest.is_some()
}

/// An outage in which nothing is lost so far.
fn is_waiting(seen: Seen) -> Seen {
    assert!(
        seen.stats.outage_since.is_some() && seen.stats.retries > 0,
        "{:?}",
        seen.stats
    );
    assert!(
        seen.stats.oldest_queued_age > Some(Duration::ZERO),
        "{:?}",
        seen.stats
    );
    assert_eq!(seen.stats.dropped_total() + seen.stats.rejected, 0);
    seen
}

fn refused() -> Seen {
    let case = Case::new();
    case.collector.set_accepting(Accepting::Refuse);
    is_waiting(case.run())
}

fn unresolved() -> Seen {
    let mut case = Case::new();
    case.config = case.config.with_endpoint("http://nowhere.example:4318");
    is_waiting(case.run())
}

fn throttled() -> Seen {
    let case = Case::answering(Answer::throttled(Duration::from_secs(3)));
    let seen = case.run();
    assert!(
        seen.stats.retries > 0 && seen.stats.dropped_total() == 0,
        "{:?}",
        seen.stats
    );
    seen
}

fn unavailable() -> Seen {
    is_waiting(Case::answering(Answer::HttpStatus(503)).run())
}

fn rejected() -> Seen {
    let seen = Case::answering(Answer::HttpStatus(500)).run();
    assert!(
        seen.stats.rejected > 0 && seen.stats.retries == 0,
        "{:?}",
        seen.stats
    );
    seen
}

fn unauthenticated() -> Seen {
    let seen = Case::answering(Answer::HttpStatus(401)).run();
    assert!(seen.stats.rejected > 0, "{:?}", seen.stats);
    seen
}

fn expired_certificate() -> Seen {
    let authority = Authority::new("ours");
    let certificate = authority.server(NAME, |params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
    let network = Network::new(7);
    let server = Collector::builder().with_tls(ServerTls::new(certificate).config());
    let mut case = Case::on(network.clone(), network.collector_with(server));
    network.set_name(NAME, [case.collector.addr().ip()]);
    let port = case.collector.addr().port();
    let tls = Tls::new().with_ca_pem(&authority.pem);
    case.config = case
        .config
        .with_endpoint(format!("https://{NAME}:{port}"))
        .with_tls(tls);
    let seen = case.run();
    assert!(
        seen.stats.dropped_for(DropReason::NotRetryable) > 0,
        "{:?}",
        seen.stats
    );
    seen
}

fn slow() -> Seen {
    let mut case = Case::answering(Answer::Never);
    case.lasting = Duration::from_secs(40);
    let seen = case.run();
    assert!(
        seen.stats.in_flight > 0 && seen.pipeline.total.possible_duplicates > 0,
        "{:?}",
        seen.pipeline
    );
    seen
}

fn full() -> Seen {
    let mut case = Case::answering(Answer::HttpStatus(503));
    let queue = QueueConfig::new()
        .with_bytes_max(20_000)
        .with_overflow(Overflow::DropNewest);
    case.pipeline = case.pipeline.with_queue(queue);
    case.load = 400;
    let seen = case.run();
    assert!(
        seen.stats.dropped_for(DropReason::QueueFull) > 0,
        "{:?}",
        seen.stats
    );
    assert!(
        seen.pipeline.total.queued_bytes + seen.pipeline.total.in_flight_bytes > 18_000,
        "{:?}",
        seen.pipeline
    );
    seen
}

fn broken() -> Seen {
    let mut case = Case::answering(Answer::HttpStatus(503));
    case.lasting = Duration::from_secs(240);
    let seen = case.run();
    assert!(
        seen.said.iter().any(|line| line.contains("none is begun")),
        "{:?}",
        seen.said
    );
    assert_ne!(seen.stats.breaker, Some(BreakerState::Closed));
    // The probes succeed, and it closes.
    let mut case = Case::new();
    case.lasting = Duration::from_secs(400);
    let collector = case.collector.clone();
    collector.set_accepting(Accepting::Refuse);
    let network = case.network.clone();
    let clock = case.network.clock().clone();
    network.spawn(async move {
        clock.sleep(Duration::from_secs(200)).await;
        collector.set_accepting(Accepting::Serve);
    });
    let mut after = case.run();
    assert_eq!(
        (after.stats.breaker, after.stats.dropped_total()),
        (Some(BreakerState::Closed), 0)
    );
    after.said.extend(seen.said);
    after
}

fn given_up() -> Seen {
    let mut case = Case::answering(Answer::HttpStatus(503));
    case.lasting = Duration::from_secs(360);
    let seen = case.run();
    assert!(
        seen.stats.dropped_for(DropReason::Expired) > 0,
        "{:?}",
        seen.stats
    );
    seen
}

/// Exports side by side, without a pipeline.
fn memory() -> Seen {
    let mut case = Case::answering(Answer::Never);
    case.config = case.config.with_memory_limit(40_000);
    let said = Arc::new(Mutex::new(Vec::new()));
    let observer = said.clone();
    let config = case.config.with_observer(move |event| {
        observer.lock().expect("the words").push(event.to_string());
    });
    let exporter = config.build(case.network.clone()).expect("built");
    let request = |size| {
        let mut batch = TraceBatch::new(&Resource::new());
        batch
            .span([1; 16], [2; 8], "checkout")
            .attr("load", "x".repeat(size))
            .end();
        batch.finish()
    };
    let exports: Vec<_> = (0..20).map(|_| exporter.export(request(4_000))).collect();
    let last = exports.into_iter().next_back().expect("an export");
    let error = case.network.block_on(last).expect_err("no room");
    assert!(error.is_retryable(), "{error}");
    let stats = exporter.stats();
    assert!(stats.dropped_for(DropReason::MemoryLimit) > 0, "{stats:?}");
    let said = said.lock().expect("the words").clone();
    Seen {
        said,
        stats,
        pipeline: PipelineStats::default(),
        types: Vec::new(),
    }
}

/// A collector that refuses what is above its size: batches are split, and nothing of them is lost.
fn too_large() -> Seen {
    let mut case = Case::new();
    case.collector
        .answer_with(|request| match request.encoded_len > 16_000 {
            true => Answer::HttpStatus(413),
            false => Answer::Ok,
        });
    case.load = 600;
    let batch = AdaptiveBatchConfig::new().with_age_max(Duration::from_secs(5));
    case.pipeline = case.pipeline.with_batch(batch.with_items_initial(50));
    let seen = case.run();
    assert!(
        seen.stats.splits > 0 && seen.stats.delivered > 0,
        "{:?}",
        seen.stats
    );
    assert_eq!(
        seen.stats.dropped_total() + seen.stats.rejected,
        0,
        "{:?}",
        seen.stats
    );
    // A record above the exporter's own limit.
    let mut case = Case::new();
    case.config = case.config.with_request_limit(1_000);
    case.load = 2_000;
    let seen = case.run();
    assert!(
        seen.stats.dropped_for(DropReason::TooLarge) > 0,
        "{:?}",
        seen.stats
    );
    seen
}
