//! A streaming run on the simulated network: what it takes when, what it counts, how it ends.

#[path = "support/batches.rs"]
#[allow(dead_code)]
mod batches;
#[path = "support/sources.rs"]
#[allow(dead_code)]
mod sources;

use batches::{batch, batch_with};
use otlp_embed::pb::common::{AnyValue, InstrumentationScope, KeyValue, any_value};
use otlp_embed::pb::resource::Resource;
use otlp_embed::pb::trace::Span;
use otlp_embed::pipeline::{
    ExportStats, SpanBatch, StreamHandle, StreamItem, StreamingConfig, StreamingOtlpExporter,
};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::testing::{Answer, Link, Network, SimulatedCollector};
use otlp_embed::{Code, Config, Exporter, Protocol};
use sources::Source;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

const MILLI: Duration = Duration::from_millis(1);

struct World {
    network: Network,
    collector: SimulatedCollector,
    exporter: Exporter<Network>,
}

impl World {
    fn new() -> Self {
        Self::with(Config::new())
    }

    fn with(config: Config) -> Self {
        let network = Network::new(1);
        let collector = network.collector();
        let exporter = config
            .with_protocol(Protocol::Grpc)
            .with_endpoint(collector.endpoint())
            .build(network.clone())
            .expect("it works");
        Self {
            network,
            collector,
            exporter,
        }
    }

    fn streaming(&self, config: StreamingConfig) -> (StreamingOtlpExporter<Network>, StreamHandle) {
        let streaming = StreamingOtlpExporter::new(&self.exporter, config).expect("it works");
        let handle = streaming.handle();
        (streaming, handle)
    }
}

fn span(id: u64) -> Span {
    Span {
        trace_id: vec![7; 16],
        span_id: (id + 1).to_be_bytes().to_vec(),
        name: "work".into(),
        ..Span::default()
    }
}

fn spans(count: u64) -> Vec<Span> {
    (0..count).map(span).collect()
}

/// The law, and that nothing is told twice.
fn check(stats: &ExportStats) {
    assert_eq!(
        stats.total_taken,
        stats.total_exported + stats.total_failed + stats.pending,
        "{stats:?}"
    );
    assert_eq!(
        stats.latency.count,
        stats.successful_batches + stats.failed_batches,
        "{stats:?}"
    );
}

#[test]
fn requests_batches_and_single_spans_arrive() {
    let world = World::new();
    let resource = Resource {
        attributes: vec![KeyValue {
            key: "service.name".into(),
            value: Some(AnyValue {
                value: Some(any_value::Value::StringValue("shop".into())),
            }),
            ..KeyValue::default()
        }],
        ..Resource::default()
    };
    let scope = InstrumentationScope {
        name: "suite".into(),
        ..InstrumentationScope::default()
    };
    let config = StreamingConfig::new()
        .with_resource(resource)
        .with_scope(scope.clone());
    let (streaming, handle) = world.streaming(config);
    let of_its_own = SpanBatch::new(Resource::default(), scope, (10..15).map(span).collect());
    let items: Vec<StreamItem> = vec![
        span(0).into(),
        of_its_own.into(),
        span(1).into(),
        batch(100, 7).into(),
        batch(0, 0).into(),
    ];
    let stats = world
        .network
        .block_on(streaming.run(futures_util::stream::iter(items)));
    check(&stats);
    assert_eq!(
        (stats.total_taken, stats.total_exported, stats.total_failed),
        (14, 14, 0)
    );
    assert_eq!(
        (stats.successful_batches, stats.failed_batches),
        (3, 0),
        "an empty request is none"
    );
    assert_eq!(handle.stats(), stats);
    assert!(handle.is_finished() && handle.last_error().is_none());
    let alone: Vec<_> = world
        .collector
        .spans()
        .into_iter()
        .filter(|span| span.service_name() == "shop")
        .collect();
    assert_eq!(alone.len(), 2);
    assert!(alone.iter().all(|span| span.scope.name == "suite"));
    assert_eq!(world.exporter.stats().delivered, 14);
}

#[test]
fn batches_close_by_their_number() {
    let world = World::new();
    let (streaming, _) = world.streaming(StreamingConfig::new().with_batch_items_max(10));
    let stats = world
        .network
        .block_on(streaming.run(futures_util::stream::iter(spans(25))));
    assert_eq!((stats.total_exported, stats.successful_batches), (25, 3));
    let mut sizes: Vec<_> = world
        .collector
        .requests()
        .iter()
        .map(|request| request.items)
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [5, 10, 10]);
}

#[test]
fn batches_close_by_their_bytes_and_never_pass_them() {
    let world = World::new();
    let bytes_max = 1_000;
    let (streaming, _) = world.streaming(StreamingConfig::new().with_batch_bytes_max(bytes_max));
    let mut all = spans(100);
    // One that is larger than a batch goes alone.
    all[50].name = "x".repeat(5_000);
    let stats = world
        .network
        .block_on(streaming.run(futures_util::stream::iter(all)));
    assert_eq!(stats.total_exported, 100);
    let requests = world.collector.requests();
    let larger: Vec<_> = requests
        .iter()
        .filter(|request| request.encoded_len > bytes_max)
        .collect();
    assert_eq!(larger.len(), 1);
    assert_eq!(larger[0].items, 1);
    // And they are not tiny: 33 bytes a span, and no more than 6 of a frame.
    assert!(requests.len() <= 7, "{}", requests.len());
}

#[test]
fn batches_close_by_their_age() {
    let world = World::new();
    world.collector.answer(Answer::Ok.after(50 * MILLI));
    let (streaming, handle) = world.streaming(StreamingConfig::new().with_batch_age_max(250 * MILLI));
    let source = Source::of(spans(3));
    let run = world.network.spawn(streaming.run(source.stream()));
    world.network.block_on(async {
        world.network.clock().sleep(249 * MILLI).await;
        let stats = handle.stats();
        assert_eq!((stats.pending, stats.batches_in_flight), (3, 0));
        world.network.clock().sleep(2 * MILLI).await;
        assert_eq!(handle.stats().batches_in_flight, 1);
        // The next batch has an age of its own.
        world.network.clock().sleep(200 * MILLI).await;
        assert_eq!(handle.stats().total_exported, 3);
        source.push(span(3));
        world.network.clock().sleep(249 * MILLI).await;
        assert_eq!(handle.stats().batches_in_flight, 0);
        world.network.clock().sleep(60 * MILLI).await;
        assert_eq!(handle.stats().total_exported, 4);
        source.close();
        check(&run.await);
    });
    assert_eq!(world.collector.requests().len(), 2);
}

/// The source is polled only while there is room.
#[test]
fn the_source_feels_the_collectors_pace() {
    let world = World::new();
    world.collector.pause();
    let (streaming, handle) = world.streaming(StreamingConfig::new().with_concurrency_max(3));
    let source = Source::of((0..20).map(|number| batch(number * 10, 10)));
    source.close();
    let run = world.network.spawn(streaming.run(source.stream()));
    world.network.block_on(async {
        world.network.clock().sleep(Duration::from_secs(5)).await;
        assert_eq!((source.taken(), source.polls()), (3, 3));
        let stats = handle.stats();
        assert_eq!((stats.batches_in_flight, stats.pending), (3, 30));
        world.collector.resume();
        let stats = run.await;
        check(&stats);
        assert_eq!((stats.total_exported, stats.successful_batches), (200, 20));
    });
    assert!(source.is_dropped(), "the end of the source drops it");
}

/// What the run has in flight is no reason to lose what it takes next: the source waits for the room.
#[test]
fn the_source_waits_for_room_under_the_memory_limit() {
    const LIMIT: usize = 1 << 20;
    for protocol in [Protocol::Grpc, Protocol::HttpJson] {
        let network = Network::new(1);
        let collector = network.collector();
        collector.answer_with(|_| Answer::Ok.after(20 * MILLI));
        let exporter = Config::new()
            .with_protocol(protocol)
            .with_endpoint(collector.endpoint())
            .with_memory_limit(LIMIT)
            .build(network.clone())
            .expect("it works");
        let streaming = StreamingOtlpExporter::new(&exporter, StreamingConfig::new()).expect("it works");
        let handle = streaming.handle();
        let payload: &str = "x".repeat(LIMIT / 8).leak();
        let requests = (0..40).map(move |number| batch_with(number * 10, 1, payload));
        let stats = network.block_on(streaming.run(futures_util::stream::iter(requests)));
        check(&stats);
        let told = (stats.total_taken, stats.total_exported, stats.batches_in_flight);
        assert_eq!(told, (40, 40, 0), "{protocol:?}: {:?}", handle.last_error());
        let stats = exporter.stats();
        assert_eq!((stats.accepted, stats.delivered), (40, 40), "{protocol:?}");
        let mut ids: Vec<_> = collector
            .spans()
            .iter()
            .map(|span| span.span_id.clone())
            .collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 40, "{protocol:?}: each once");
    }
}

/// Memory that others hold is not waited for: nobody would tell when it is free. The error says it, and the run goes on.
#[test]
fn memory_that_others_hold_is_an_error_and_no_hang() {
    let world = World::with(Config::new().with_memory_limit(1 << 20));
    world.collector.pause();
    let payload: &str = "x".repeat(900 << 10).leak();
    let other = world
        .network
        .spawn(world.exporter.export(batch_with(0, 1, payload)));
    let (streaming, handle) = world.streaming(StreamingConfig::new());
    let requests = (1..4).map(|number| batch_with(number, 1, payload));
    let stats = world
        .network
        .block_on(streaming.run(futures_util::stream::iter(requests)));
    check(&stats);
    assert_eq!((stats.total_failed, stats.failed_batches), (3, 3));
    let error = handle.last_error().expect("it says why").to_string();
    assert!(error.contains("memory limit"), "{error}");
    world.collector.resume();
    assert!(world.network.block_on(other).is_ok());
}

/// One that waits for room is given up with the run, and counted once.
#[test]
fn what_waits_for_room_ends_with_the_run() {
    let world = World::with(Config::new().with_memory_limit(1 << 20));
    world.collector.pause();
    let payload: &str = "x".repeat(600 << 10).leak();
    let (streaming, handle) = world.streaming(StreamingConfig::new());
    let source = Source::of((0..4).map(|number| batch_with(number, 1, payload)));
    let mut run = Box::pin(streaming.run(source.stream()));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(run.as_mut().poll(&mut cx).is_pending());
    assert_eq!(source.taken(), 2, "one in flight, one that waits");
    let stats = handle.stats();
    assert_eq!((stats.pending, stats.batches_in_flight), (2, 2));
    drop(run);
    let stats = handle.stats();
    check(&stats);
    assert_eq!(
        (stats.total_taken, stats.total_failed, stats.failed_batches),
        (2, 2, 2)
    );
    let stats = world.exporter.stats();
    assert!(
        stats.is_conserved() && stats.accepted == 1 && stats.in_flight == 0,
        "{stats:?}"
    );
}

/// In flight at one time: all of them, and on one connection.
#[test]
fn exports_overlap_on_one_connection() {
    let world = World::new();
    world.collector.answer(Answer::Ok.after(100 * MILLI));
    let (streaming, _) = world.streaming(StreamingConfig::new().with_concurrency_max(10));
    let requests: Vec<_> = (0..100).map(|number| batch(number, 1)).collect();
    let stats = world
        .network
        .block_on(streaming.run(futures_util::stream::iter(requests)));
    assert_eq!(stats.total_exported, 100);
    assert!(
        (Duration::from_secs(1)..Duration::from_millis(1_200)).contains(&stats.elapsed),
        "ten rounds of ten: {:?}",
        stats.elapsed
    );
    assert!(stats.total_duration >= Duration::from_secs(10), "{stats:?}");
    assert_eq!(world.collector.connections().len(), 1);
}

#[test]
fn the_latency_is_that_of_the_export() {
    let world = World::new();
    world.collector.set_link(Link::new().with_latency(10 * MILLI));
    let (streaming, handle) =
        world.streaming(StreamingConfig::new().with_batch_age_max(Duration::from_secs(20)));
    let source = Source::of([StreamItem::from(batch(0, 1)), span(1).into()]);
    let run = world.network.spawn(streaming.run(source.stream()));
    world.network.block_on(async {
        // The span waits for its batch's age: twenty seconds that are no latency.
        world.network.clock().sleep(Duration::from_secs(30)).await;
        source.close();
        run.await;
    });
    let latency = handle.stats().latency;
    assert_eq!(latency.count, 2);
    // A connect and an answer: two round trips each, and the window's frames.
    assert!(latency.max <= 60 * MILLI, "{latency:?}");
    assert!(latency.p50 >= 20 * MILLI, "{latency:?}");
}

#[test]
fn what_fails_is_counted_and_the_run_goes_on() {
    let world = World::with(Config::new().with_retry_policy(RetryPolicy::never()));
    world.collector.answer_with(|request| match request.index {
        1 => Answer::status(Code::INVALID_ARGUMENT, "no"),
        2 => Answer::PartialSuccess {
            rejected: 4,
            message: "some".into(),
        },
        3 => Answer::unavailable(),
        _ => Answer::Ok,
    });
    let (streaming, handle) = world.streaming(StreamingConfig::new().with_concurrency_max(1));
    let requests: Vec<_> = (0..5).map(|number| batch(number * 10, 10)).collect();
    let stats = world
        .network
        .block_on(streaming.run(futures_util::stream::iter(requests)));
    check(&stats);
    assert_eq!((stats.total_exported, stats.total_failed), (26, 24));
    assert_eq!((stats.successful_batches, stats.failed_batches), (3, 2));
    let error = handle.last_error().expect("one failed");
    assert!(
        error.is_retryable(),
        "the last that failed was the fourth: {error}"
    );
}

#[test]
fn an_exporter_that_is_shut_down_ends_the_run() {
    let world = World::new();
    let (streaming, handle) = world.streaming(StreamingConfig::new().with_concurrency_max(2));
    let endless = futures_util::stream::repeat_with(|| batch(0, 1));
    let run = world.network.spawn(streaming.run(endless));
    world.network.block_on(async {
        world.network.clock().sleep(50 * MILLI).await;
        world.exporter.shutdown(Duration::from_secs(1)).await;
        check(&run.await);
    });
    assert!(handle.last_error().expect("it was shut down").is_shutdown());
    let stats = handle.stats();
    assert!(stats.total_exported > 0 && stats.total_failed > 0, "{stats:?}");
    assert_eq!(stats.total_exported, world.collector.counters().spans_accepted);
}

#[test]
fn a_source_that_panics_loses_nothing_of_what_it_gave() {
    let world = World::new();
    let (streaming, handle) = world.streaming(StreamingConfig::new());
    let mut number = 0;
    let source = futures_util::stream::poll_fn(move |_| {
        number += 1;
        assert!(number <= 4, "the source's own fault");
        Poll::Ready(Some(match number {
            1 => StreamItem::from(batch(0, 5)),
            _ => span(number).into(),
        }))
    });
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let result = catch_unwind(AssertUnwindSafe(|| world.network.block_on(streaming.run(source))));
    std::panic::set_hook(hook);
    let panic = result.expect_err("its panic goes on");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the source's own fault"));
    let stats = handle.stats();
    check(&stats);
    assert_eq!((stats.total_exported, stats.pending), (8, 0));
    assert!(handle.is_finished());
    assert_eq!(world.collector.counters().spans_accepted, 8);
}

/// Dropped after each of its polls: the account is closed, the exporter works, and nothing hangs.
#[test]
fn a_run_may_be_dropped_at_every_await() {
    let mut polls = 0;
    loop {
        polls += 1;
        let world = World::new();
        world.collector.answer(Answer::Ok.after(5 * MILLI));
        let config = StreamingConfig::new()
            .with_concurrency_max(2)
            .with_batch_items_max(4);
        let (streaming, handle) = world.streaming(config);
        let items = (0..30).map(|number| match number % 3 {
            0 => StreamItem::from(batch(1_000 + number * 10, 3)),
            _ => span(number).into(),
        });
        let source = Source::of(items);
        source.close();
        let mut run = Some(Box::pin(streaming.run(source.stream())));
        let mut left = polls;
        let ended = world.network.block_on_checked(
            std::future::poll_fn(|cx| {
                let polled = run.as_mut().expect("it is there").as_mut().poll(cx);
                left -= 1;
                match polled {
                    Poll::Ready(stats) => Poll::Ready(Some(stats)),
                    Poll::Pending if left == 0 => {
                        run = None;
                        Poll::Ready(None)
                    }
                    Poll::Pending => Poll::Pending,
                }
            }),
            || {
                let stats = handle.stats();
                assert_eq!(
                    stats.total_taken,
                    stats.total_exported + stats.total_failed + stats.pending
                );
                assert!(world.exporter.stats().is_conserved());
            },
        );
        let stats = handle.stats();
        check(&stats);
        assert_eq!(stats.pending, 0);
        assert!(handle.is_finished());
        assert!(source.is_dropped() || ended.is_some());
        let account = world.exporter.stats();
        assert_eq!((account.in_flight, account.delivered), (0, stats.total_exported));
        let outcome = world.network.block_on(world.exporter.export(batch(9_000, 1)));
        assert_eq!(outcome.expect("the exporter works on").delivered(), 1);
        if let Some(stats) = ended {
            assert_eq!((stats.total_exported, stats.total_failed), (50, 0));
            break;
        }
    }
    assert!(polls > 10, "{polls}");
}

/// A run that has ended but is kept does not hold up the exports of others.
#[test]
fn a_run_that_is_kept_after_its_end_drives_nothing() {
    let world = World::new();
    let (streaming, _) = world.streaming(StreamingConfig::new());
    let mut run = Box::pin(streaming.run(futures_util::stream::iter([batch(0, 1)])));
    let stats = world.network.block_on(run.as_mut());
    assert_eq!(stats.total_exported, 1);
    let begin = world.network.clock().now();
    let outcome = world.network.block_on(world.exporter.export(batch(1, 1)));
    assert_eq!(outcome.expect("delivered").delivered(), 1);
    assert!(world.network.clock().now() - begin < Duration::from_secs(1));
    // And it gives the same again.
    assert_eq!(world.network.block_on(run.as_mut()), stats);
}

#[test]
fn an_endless_source_lets_others_have_their_turn() {
    let world = World::new();
    let (streaming, handle) = world.streaming(StreamingConfig::new());
    // Empty requests take no room: nothing but the budget stops the run.
    let mut run = pin!(streaming.run(futures_util::stream::repeat_with(|| batch(0, 0))));
    let (bell, waker) = sources::Bell::new();
    for polls in 1..10 {
        assert!(run.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(bell.rung(), polls, "it comes back by itself");
    }
    assert_eq!(handle.stats().total_taken, 0);
}

#[test]
fn nothing_happens_before_the_first_poll() {
    let world = World::new();
    let (streaming, handle) = world.streaming(StreamingConfig::new());
    let source = Source::of(spans(3));
    let run = streaming.run(source.stream());
    assert_eq!((source.polls(), handle.is_finished()), (0, false));
    drop(run);
    assert!(handle.is_finished() && source.is_dropped());
    assert_eq!(handle.stats(), ExportStats::default());
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let world = World::new();
    for (config, name) in [
        (
            StreamingConfig::new().with_concurrency_max(0),
            "with_concurrency_max",
        ),
        (
            StreamingConfig::new().with_batch_items_max(0),
            "with_batch_items_max",
        ),
        (
            StreamingConfig::new().with_batch_bytes_max(0),
            "with_batch_bytes_max",
        ),
    ] {
        let error = StreamingOtlpExporter::new(&world.exporter, config).expect_err("it is refused");
        assert!(error.is_misuse() && error.to_string().contains(name), "{error}");
    }
}
