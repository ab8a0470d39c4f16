//! The self-metrics of a pipeline's exporters: each item counts once however often it was exported, and a pipeline may export
//! them itself (OpenTelemetry semantic conventions, "SDK metrics"; spec 55).

#[path = "support/pipeline.rs"]
mod support;

use otlp_embed::observe::SelfMetrics;
use otlp_embed::pb::metrics::metric::Data;
use otlp_embed::pb::metrics::number_data_point::Value;
use otlp_embed::pipeline::{Endpoints, Overflow, QueueConfig};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::testing::collector::Accepting;
use otlp_embed::testing::{Answer, Network};
use otlp_embed::{Code, Config, Exporter, Protocol, Signal};
use std::time::Duration;
use support::{SECOND, config, spans, world, world_over};

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
fn what_is_refused_over_http_fails_by_its_status() {
    let world = world_over(Protocol::HttpProtobuf);
    let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
    drop(world.network.spawn(future));
    world
        .collector
        .answer_next(Answer::status(Code::INVALID_ARGUMENT, "no"));
    pipeline.try_send(spans(0, 10)).expect("room");
    world.network.run_for(SECOND);
    assert_eq!(spans_of(&world.exporter), (0, 0, vec![("400".into(), 10)]));
    assert_eq!(exports(&world.exporter), 1);
}

#[test]
fn what_is_dropped_before_its_first_export_is_no_matter_of_the_exporter() {
    for (overflow, taken) in [(Overflow::DropNewest, 3), (Overflow::DropOldest, 5)] {
        let world = world();
        let queue = QueueConfig::new().with_items_max(30).with_overflow(overflow);
        let (pipeline, future) = world
            .exporter
            .pipeline(config().with_queue(queue))
            .expect("works");
        drop(world.network.spawn(future));
        // Nothing has polled the pipeline's future: nothing is exported yet.
        let sent = (0..5).map(|at| pipeline.try_send(spans(10 * at, 10)));
        assert_eq!(sent.filter(Result::is_ok).count(), taken, "{overflow:?}");
        world.network.run_for(5 * SECOND);
        let stats = world.exporter.stats();
        assert_eq!((stats.dropped_total(), stats.delivered), (20, 30), "{overflow:?}");
        assert_eq!(spans_of(&world.exporter), (0, 30, vec![]), "{overflow:?}");
    }
}

#[test]
fn what_is_evicted_after_an_export_fails_as_evicted() {
    let world = world();
    let queue = QueueConfig::new()
        .with_items_max(10)
        .with_overflow(Overflow::DropOldest);
    let config = config()
        .with_queue(queue)
        .with_backoff(RetryPolicy::fixed(30 * SECOND));
    let (pipeline, future) = world.exporter.pipeline(config).expect("works");
    drop(world.network.spawn(future));
    world.collector.set_accepting(Accepting::Refuse);
    pipeline.try_send(spans(0, 10)).expect("room");
    // The export ends after ten seconds, and its items wait for thirty.
    world.network.run_for(15 * SECOND);
    pipeline
        .try_send(spans(100, 10))
        .expect("the oldest give way to it");
    assert_eq!(spans_of(&world.exporter).2, [("evicted".into(), 10)]);
    world.collector.set_accepting(Accepting::Serve);
    world.network.run_for(60 * SECOND);
    assert_eq!(spans_of(&world.exporter), (0, 10, vec![("evicted".into(), 10)]));
}

#[test]
fn what_waits_to_be_exported_again_when_a_shutdown_ends_fails_once() {
    let world = world();
    world.collector.set_accepting(Accepting::Refuse);
    let config = config().with_backoff(RetryPolicy::fixed(30 * SECOND));
    let (pipeline, future) = world.exporter.pipeline(config).expect("works");
    drop(world.network.spawn(future));
    pipeline.try_send(spans(0, 10)).expect("room");
    world.network.run_for(15 * SECOND);
    assert_eq!(pipeline.stats().total.queued, 10);
    let report = world.network.block_on(pipeline.shutdown(SECOND));
    assert_eq!(report.stats.dropped_total(), 10, "{report}");
    assert_eq!(spans_of(&world.exporter), (0, 0, vec![("shutdown".into(), 10)]));
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

/// The points of a sum, by request: their begin, their time and their value.
fn sums(collector: &otlp_embed::testing::SimulatedCollector, name: &str) -> Vec<(u64, u64, i64)> {
    let metrics = collector.metrics().into_iter();
    let metrics = metrics.filter(|metric| metric.metric.name == name);
    metrics
        .flat_map(|metric| match metric.metric.data {
            Some(Data::Sum(sum)) => sum.data_points,
            other => panic!("{name} is a sum: {other:?}"),
        })
        .map(|point| match point.value {
            Some(Value::AsInt(value)) => (point.start_time_unix_nano, point.time_unix_nano, value),
            other => panic!("{name} counts: {other:?}"),
        })
        .collect()
}

#[test]
fn a_pipeline_exports_its_self_metrics_once_an_interval() {
    const BEGIN: u64 = 1_704_067_200_000_000_000;
    let world = world();
    let begin = BEGIN + world.network.clock().now().as_nanos();
    let (pipeline, future) = world
        .exporter
        .pipeline(config().with_self_metrics(10 * SECOND))
        .expect("works");
    let running = world.network.spawn(future);
    world.network.block_on(async {
        let clock = world.network.clock();
        clock.sleep(25 * SECOND).await;
        assert_eq!(
            world.collector.requests().len(),
            0,
            "nothing was exported, nothing is told"
        );
        pipeline.send(spans(0, 7)).await.expect("room");
        clock.sleep(7 * SECOND).await;
        let exported = sums(&world.collector, "otel.sdk.exporter.span.exported");
        assert_eq!(exported.len(), 1);
        assert_eq!((exported[0].0, exported[0].2), (begin, 7));
        assert_eq!(exported[0].1 - exported[0].0, 30_000_000_000);
        let metrics = world.collector.metrics();
        assert_eq!(metrics[0].scope.name, "otlp-embed");
        assert_eq!(
            format!("{:?}", metrics[0].resource).matches("shop").count(),
            1,
            "{:?}",
            metrics[0].resource
        );
        // Its own export counts in the next, and one an interval is all there is.
        clock.sleep(60 * SECOND).await;
        let points = sums(&world.collector, "otel.sdk.exporter.metric_data_point.exported");
        let values: Vec<i64> = points.iter().map(|point| point.2).collect();
        assert_eq!(values.len(), 6, "the first had none: {values:?}");
        assert!(values.is_sorted_by(|a, b| a < b) && values[0] > 0, "{values:?}");
        assert_eq!(world.collector.requests().len(), 8);
        let report = pipeline.shutdown(10 * SECOND).await;
        assert_eq!(report.lost(), 0, "{report}");
        running.await;
        assert_eq!(world.collector.requests().len(), 8, "they end with the pipeline");
    });
}

#[test]
fn self_metrics_push_nobody_out_of_a_full_queue_and_do_not_pile_up() {
    for overflow in [Overflow::Block, Overflow::DropNewest, Overflow::DropOldest] {
        let world = world();
        let queue = QueueConfig::new().with_items_max(40).with_overflow(overflow);
        let config = config().with_queue(queue).with_self_metrics(SECOND);
        let (pipeline, future) = world.exporter.pipeline(config).expect("works");
        let running = world.network.spawn(future);
        world.network.block_on(async {
            let clock = world.network.clock();
            pipeline.send(spans(0, 30)).await.expect("room");
            clock.sleep(SECOND / 2).await;
            world.collector.set_accepting(Accepting::Refuse);
            world.collector.kill_connections();
            pipeline.send(spans(100, 30)).await.expect("room");
            clock.sleep(100 * SECOND).await;
            let total = pipeline.stats().total;
            assert_eq!(total.dropped_total(), 0, "{overflow:?}: {total:?}");
            assert!(total.queued + total.in_flight <= 40, "{total:?}");
            world.collector.set_accepting(Accepting::Serve);
            clock.sleep(60 * SECOND).await;
            let report = pipeline.shutdown(60 * SECOND).await;
            assert_eq!(report.lost(), 0, "{overflow:?}: {report}");
            running.await;
        });
        assert_eq!(world.collector.spans().len(), 60, "{overflow:?}");
        assert!(!sums(&world.collector, "otel.sdk.exporter.span.exported").is_empty());
    }
}

#[test]
fn an_interval_of_nothing_is_refused() {
    let refused = world()
        .exporter
        .pipeline(config().with_self_metrics(Duration::ZERO));
    let error = refused.map(drop).expect_err("it cannot work");
    assert!(
        error.is_misuse() && error.to_string().contains("with_self_metrics"),
        "{error}"
    );
}
