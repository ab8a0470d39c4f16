//! The self-metrics of an exporter with a pipeline (spec 55): each item counts once, however often it is exported, and is in flight
//! until it ends up somewhere.

use otlp_embed::pipeline::{Overflow, Pipeline, PipelineConfig, QueueConfig};
use otlp_embed::testing::collector::Accepting;
use otlp_embed::testing::{Answer, Network, SimulatedCollector};
use otlp_embed::{Config, Exporter, Protocol, Request, Resource, Signal, TraceBatch};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const ITEMS: u64 = 10;

struct World {
    network: Network,
    collector: SimulatedCollector,
    exporter: Exporter<Network>,
    pipeline: Pipeline,
}

impl World {
    fn new(config: PipelineConfig) -> Self {
        let network = Network::new(7);
        let collector = network.collector();
        let exporter = Config::new()
            .with_protocol(Protocol::HttpProtobuf)
            .with_endpoint(collector.endpoint())
            .build(network.clone())
            .unwrap();
        let (pipeline, future) = exporter.pipeline(config).unwrap();
        drop(network.spawn(future));
        Self {
            network,
            collector,
            exporter,
            pipeline,
        }
    }

    fn send(&self) {
        self.pipeline.try_send(request()).unwrap();
    }

    /// Items in flight, exported and failed by cause, and exports that ended.
    fn counts(&self) -> (u64, u64, Vec<(String, u64)>, u64) {
        let (metrics, signal) = (self.exporter.self_metrics(), Signal::Traces);
        let failed = metrics.failed(signal);
        let exports = metrics.exports(signal).map(|(_, count, _)| count);
        (
            metrics.in_flight(signal),
            metrics.exported(signal),
            failed.map(|(why, items)| (why.to_string(), items)).collect(),
            exports.sum(),
        )
    }
}

fn request() -> Request {
    let mut batch = TraceBatch::new(&Resource::builder().build());
    batch.scope("test", "1");
    for id in 1..=ITEMS {
        batch.span([7; 16], id.to_be_bytes(), "work").end();
    }
    batch.finish()
}

fn failed(why: &str, items: u64) -> Vec<(String, u64)> {
    vec![(why.to_owned(), items)]
}

#[test]
fn an_item_that_is_exported_again_counts_once() {
    let world = World::new(PipelineConfig::new());
    world.collector.set_accepting(Accepting::Refuse);
    world.send();
    assert_eq!(
        world.counts(),
        (0, 0, vec![], 0),
        "what waits for its first export is not in flight"
    );
    world.network.run_for(5 * SECOND);
    assert_eq!(world.counts(), (ITEMS, 0, vec![], 0), "it is being exported");
    world.network.run_for(10 * SECOND);
    let (in_flight, exported, why, exports) = world.counts();
    assert_eq!((in_flight, exported, why), (ITEMS, 0, vec![]), "it came back");
    assert!(exports >= 1, "the export ended that failed");

    world.collector.set_accepting(Accepting::Serve);
    world.network.run_for(20 * SECOND);
    let (in_flight, exported, why, again) = world.counts();
    assert_eq!((in_flight, exported, why), (0, ITEMS, vec![]));
    assert!(again > exports);
}

#[test]
fn what_expires_after_an_export_fails_once() {
    let world = World::new(PipelineConfig::new().with_max_elapsed(25 * SECOND));
    world.collector.set_accepting(Accepting::Refuse);
    world.send();
    world.network.run_for(60 * SECOND);
    let (in_flight, exported, why, exports) = world.counts();
    assert_eq!((in_flight, exported, why), (0, 0, failed("expired", ITEMS)));
    assert!(exports > 1, "it was exported again and again: {exports}");
    assert_eq!(world.exporter.stats().dropped_total(), ITEMS);
    // The pipeline's end changes nothing of it.
    let report = world.network.block_on(world.pipeline.shutdown(SECOND));
    assert_eq!(report.stats.dropped_total(), ITEMS);
    assert_eq!(world.counts(), (0, 0, failed("expired", ITEMS), exports));
}

#[test]
fn what_is_refused_for_good_fails_by_its_status() {
    let world = World::new(PipelineConfig::new());
    world
        .collector
        .answer_next(Answer::status(otlp_embed::Code::INVALID_ARGUMENT, "no"));
    world.send();
    world.network.run_for(SECOND);
    assert_eq!(world.counts(), (0, 0, failed("400", ITEMS), 1));
}

#[test]
fn what_is_dropped_before_its_first_export_is_no_matter_of_the_exporter() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest] {
        let queue = QueueConfig::new()
            .with_items_max(3 * ITEMS)
            .with_overflow(overflow);
        let world = World::new(PipelineConfig::new().with_queue(queue));
        // Nothing has polled the pipeline's future: nothing is exported yet.
        let sent = (0..5)
            .filter(|_| world.pipeline.try_send(request()).is_ok())
            .count();
        assert_eq!(sent, if overflow == Overflow::DropNewest { 3 } else { 5 });
        world.network.run_for(5 * SECOND);
        let stats = world.exporter.stats();
        assert_eq!((stats.dropped_total(), stats.delivered), (2 * ITEMS, 3 * ITEMS));
        let (in_flight, exported, why, _) = world.counts();
        assert_eq!((in_flight, exported, why), (0, 3 * ITEMS, vec![]));
    }
}

#[test]
fn what_is_evicted_after_an_export_fails_as_evicted() {
    let queue = QueueConfig::new()
        .with_items_max(ITEMS)
        .with_overflow(Overflow::DropOldest);
    let backoff = otlp_embed::policy::RetryPolicy::fixed(30 * SECOND);
    let world = World::new(PipelineConfig::new().with_queue(queue).with_backoff(backoff));
    world.collector.set_accepting(Accepting::Refuse);
    world.send();
    // The export ends after ten seconds, and its items wait for thirty.
    world.network.run_for(15 * SECOND);
    world.send();
    assert_eq!(world.counts().2, failed("evicted", ITEMS));
    world.collector.set_accepting(Accepting::Serve);
    world.network.run_for(60 * SECOND);
    let (in_flight, exported, why, _) = world.counts();
    assert_eq!((in_flight, exported, why), (0, ITEMS, failed("evicted", ITEMS)));
}

#[test]
fn what_a_shutdown_gives_up_fails_once() {
    let world = World::new(PipelineConfig::new());
    world.collector.set_accepting(Accepting::Refuse);
    world.send();
    world.network.run_for(15 * SECOND);
    let report = world.network.block_on(world.pipeline.shutdown(SECOND));
    assert_eq!(report.stats.dropped_total(), ITEMS);
    let (in_flight, exported, why, _) = world.counts();
    let lost: u64 = why.iter().map(|(_, items)| items).sum();
    assert_eq!((in_flight, exported, lost), (0, 0, ITEMS), "{why:?}");
}
