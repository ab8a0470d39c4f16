//! The self-metrics of a pipeline's exporters: each item counts once however often it was exported, and a pipeline may export
//! them itself (OpenTelemetry semantic conventions, "SDK metrics"; spec 55).

#[path = "support/pipeline.rs"]
mod support;

use otlp_embed::observe::SelfMetrics;
use otlp_embed::pipeline::{Endpoints, Overflow, QueueConfig};
use otlp_embed::testing::collector::Accepting;
use otlp_embed::testing::{Answer, Network};
use otlp_embed::{Code, Config, Exporter, Protocol, Signal};
use std::time::Duration;
use support::{SECOND, config, spans, world};

fn failed(metrics: &SelfMetrics) -> Vec<(String, u64)> {
    let failed = metrics.failed(Signal::Traces);
    failed.map(|(why, items)| (why.to_string(), items)).collect()
}

/// In flight, exported and failed.
fn spans_of(exporter: &Exporter<Network>) -> (u64, u64, Vec<(String, u64)>) {
    let metrics = exporter.self_metrics();
    let traces = Signal::Traces;
    (
        metrics.in_flight(traces),
        metrics.exported(traces),
        failed(&metrics),
    )
}

fn exports(exporter: &Exporter<Network>) -> u64 {
    let metrics = exporter.self_metrics();
    metrics.exports(Signal::Traces).map(|(_, count, _)| count).sum()
}

#[test]
fn an_item_counts_once_however_often_it_was_exported() {
    let world = world();
    world.collector.set_accepting(Accepting::Refuse);
    let (pipeline, future) = world
        .exporter
        .pipeline(config().without_breaker())
        .expect("works");
    let running = world.network.spawn(future);
    world.network.block_on(async {
        let clock = world.network.clock();
        assert_eq!(spans_of(&world.exporter), (0, 0, vec![]));
        pipeline.send(spans(0, 7)).await.expect("room");
        assert_eq!(spans_of(&world.exporter).0, 0, "it waits for its first export");
        let mut was_queued = false;
        for _ in 0..400 {
            clock.sleep(SECOND / 10).await;
            let total = pipeline.stats().total;
            was_queued |= total.queued == 7 && total.batches > 0;
            if total.batches > 0 {
                assert_eq!(spans_of(&world.exporter), (7, 0, vec![]), "{total:?}");
            }
        }
        assert!(was_queued, "it came back: {:?}", pipeline.stats());
        let batches = pipeline.stats().total.batches;
        assert!(batches >= 2);
        world.collector.set_accepting(Accepting::Serve);
        world.collector.answer_next(Answer::PartialSuccess {
            rejected: 2,
            message: "no".into(),
        });
        pipeline.shutdown(60 * SECOND).await;
        running.await;
    });
    assert_eq!(spans_of(&world.exporter), (0, 5, vec![("rejected".into(), 2)]));
    // Every export was timed, those that came back as well.
    assert_eq!(exports(&world.exporter), pipeline.stats().total.batches);
    drop(pipeline);
}

#[test]
fn what_is_given_up_counts_with_its_reason_if_it_was_ever_exported() {
    let world = world();
    world.collector.set_accepting(Accepting::Refuse);
    let queue = QueueConfig::new()
        .with_items_max(10)
        .with_overflow(Overflow::DropNewest);
    let config = config().with_queue(queue).with_max_elapsed(30 * SECOND);
    let (pipeline, future) = world.exporter.pipeline(config).expect("works");
    let running = world.network.spawn(future);
    world.network.block_on(async {
        pipeline.send(spans(0, 10)).await.expect("room");
        let _ = pipeline.send(spans(100, 4)).await;
        world.network.clock().sleep(45 * SECOND).await;
        assert_eq!(pipeline.stats().total.dropped_total(), 14);
        // What the full queue dropped never came to the exporter.
        assert_eq!(spans_of(&world.exporter), (0, 0, vec![("expired".into(), 10)]));
        world.collector.set_accepting(Accepting::Serve);
        world
            .collector
            .answer(Answer::status(Code::INVALID_ARGUMENT, "no"));
        pipeline.send(spans(200, 3)).await.expect("room");
        world.network.clock().sleep(60 * SECOND).await;
        pipeline.shutdown(SECOND).await;
        running.await;
    });
    let (in_flight, exported, mut failed) = spans_of(&world.exporter);
    failed.sort();
    assert_eq!((in_flight, exported), (0, 0));
    assert_eq!(failed, [("INVALID_ARGUMENT".into(), 3), ("expired".into(), 10)]);
    // The account of a pipeline that is over is kept.
    drop(world.exporter.stats());
    assert_eq!(spans_of(&world.exporter).2.len(), 2);
}

#[test]
fn a_batch_that_is_handed_on_counts_where_it_ends() {
    let network = Network::new(5);
    let (one, two) = (network.collector(), network.collector());
    let [here, there] = [&one, &two].map(|collector| {
        let config = Config::new()
            .with_endpoint(collector.endpoint())
            .with_protocol(Protocol::Grpc);
        config.build(network.clone()).expect("works")
    });
    one.set_accepting(Accepting::Refuse);
    let endpoints = Endpoints::failover([here.clone(), there.clone()]);
    let (pipeline, future) = endpoints.pipeline(config()).expect("works");
    let running = network.spawn(future);
    network.block_on(async {
        pipeline.send(spans(0, 6)).await.expect("room");
        pipeline.shutdown(60 * SECOND).await;
        running.await;
    });
    assert_eq!(spans_of(&here), (0, 0, vec![]));
    assert_eq!(spans_of(&there), (0, 6, vec![]));
    assert_eq!((exports(&here), exports(&there)), (1, 1));
}

#[test]
fn a_shutdown_leaves_nothing_in_flight() {
    let world = world();
    world.collector.answer(Answer::Ok.after(100 * SECOND));
    let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
    let running = world.network.spawn(future);
    world.network.block_on(async {
        pipeline.send(spans(0, 6)).await.expect("room");
        world.network.clock().sleep(3 * SECOND).await;
        assert_eq!(spans_of(&world.exporter).0, 6);
        pipeline.shutdown(Duration::from_millis(10)).await;
        running.await;
    });
    assert_eq!(spans_of(&world.exporter), (0, 0, vec![("shutdown".into(), 6)]));
}
