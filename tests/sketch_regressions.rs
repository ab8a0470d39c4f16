//! Six faults of a well-known sketch of such a system, each of which this one must not have. The tests are named after them.

#[path = "support/batches.rs"]
#[allow(dead_code)]
mod batches;
#[path = "support/sources.rs"]
#[allow(dead_code)]
mod sources;

use batches::batch;
use otlp_embed::pipeline::{
    ActorConfig, AdaptiveBatcher, ExportQueue, ExporterActor, JobHandle, JobReport, Overflow, PipelineConfig,
    QueueConfig, SchedulerConfig, SmartScheduler, StreamingConfig, StreamingOtlpExporter,
};
use otlp_embed::policy::{AdaptiveBatchConfig, ConcurrencyConfig, RateLimit, RetryPolicy};
use otlp_embed::testing::collector::Accepting;
use otlp_embed::testing::{Answer, Network, SimulatedCollector};
use otlp_embed::{Config, Exporter, Protocol, Request, Resource};
use sources::{Bell, Source};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

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
}

fn quietly<T>(call: impl FnOnce() -> T) -> std::thread::Result<T> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let result = catch_unwind(AssertUnwindSafe(call));
    std::panic::set_hook(hook);
    result
}

/// Polls what must wait, and asserts that somebody holds its waker, or has woken it already.
fn waits<F: Future + ?Sized>(what: &str, future: Pin<&mut F>) {
    let (bell, waker) = Bell::new();
    let is_pending = future.poll(&mut Context::from_waker(&waker)).is_pending();
    assert!(is_pending, "{what} has nothing to wait for");
    drop(waker);
    let is_held = Arc::strong_count(&bell) > 1;
    assert!(
        is_held || bell.rung() > 0,
        "{what} is pending, and nobody will ever wake it"
    );
}

/// The sketch returned `Pending` without having a waker registered anywhere: whoever awaited it waited for ever.
#[test]
fn pending_without_a_waker() {
    let world = World::new();
    world.collector.answer(Answer::Never);

    let streaming = StreamingOtlpExporter::new(&world.exporter, StreamingConfig::new()).expect("it works");
    let source = Source::<Request>::of([]);
    let mut run = Box::pin(streaming.run(source.stream()));
    waits("a run without anything", run.as_mut());
    source.push(batch(0, 1));
    waits("a run with an export", run.as_mut());
    source.close();
    waits("a run whose source has ended", run.as_mut());

    let config = ActorConfig::new().with_mailbox(1).with_concurrency_max(1);
    let (handle, mut actor) = ExporterActor::new(&world.exporter, config).expect("it works");
    waits("an idle actor", Pin::new(&mut actor));
    let mut first = handle.export(batch(10, 1));
    waits("a caller whose request is queued", Pin::new(&mut first));
    let mut second = handle.export(batch(20, 1));
    waits("a caller who waits for room", Pin::new(&mut second));
    waits("a flush that waits for room", Pin::new(&mut handle.flush()));
    waits("an actor with an export", Pin::new(&mut actor));
    waits("a caller whose request is in flight", Pin::new(&mut first));
    waits("a shutdown", Pin::new(&mut handle.shutdown(SECOND)));
    waits("an actor that is shut down", Pin::new(&mut actor));

    let (scheduler, mut driver) = SmartScheduler::new(SchedulerConfig::new()).expect("it works");
    waits("an idle driver", Pin::new(&mut driver));
    let mut job = scheduler.submit(poll_fn(|cx| {
        // A job that keeps its waker, as jobs do.
        Box::leak(Box::new(cx.waker().clone()));
        Poll::<()>::Pending
    }));
    waits("the handle of a job that waits", Pin::new(&mut job));
    waits("a driver with a job", Pin::new(&mut driver));
    waits("the handle of a job that runs", Pin::new(&mut job));
    waits("a wait for all", Pin::new(&mut scheduler.wait_all()));

    let queue = QueueConfig::new()
        .with_items_max(1)
        .with_overflow(Overflow::Block);
    let plain = ExportQueue::new(queue).expect("it works");
    waits("a pop of nothing", Pin::new(&mut plain.pop()));
    plain.try_push(batch(0, 1)).expect("room");
    waits("a push without room", Pin::new(&mut plain.push(batch(1, 1))));

    let config = PipelineConfig::new()
        .with_resource(&Resource::new())
        .with_queue(queue);
    let (pipeline, mut future) = world.exporter.pipeline(config).expect("it works");
    waits("an idle pipeline", Pin::new(&mut future));
    pipeline.try_send(batch(30, 1)).expect("room");
    waits("a pipeline with a batch", Pin::new(&mut future));
    waits("a producer without room", pin!(pipeline.send(batch(40, 1))));
    waits("a flush", Pin::new(&mut pipeline.flush(SECOND)));
    waits("a shutdown", Pin::new(&mut pipeline.shutdown(SECOND)));
    waits("a pipeline that is shut down", Pin::new(&mut future));
}

/// The sketch polled in a loop as long as it had no client to send with.
#[test]
fn spinning_without_a_client() {
    // Without anything to do, and with work that nobody takes: an hour is a few wakes, not a core.
    for has_work in [false, true] {
        let world = World::new();
        world.collector.set_accepting(Accepting::Refuse);
        let streaming =
            StreamingOtlpExporter::new(&world.exporter, StreamingConfig::new()).expect("it works");
        let source = Source::<Request>::of([]);
        let mut run = Box::pin(streaming.run(source.stream()));
        let (handle, mut actor) = ExporterActor::new(&world.exporter, ActorConfig::new()).expect("it works");
        let (batcher, mut batches) =
            AdaptiveBatcher::new(&world.exporter, AdaptiveBatchConfig::new(), &Resource::new())
                .expect("it works");
        let (scheduler, mut jobs) = SmartScheduler::new(SchedulerConfig::new()).expect("it works");
        if has_work {
            source.push(batch(0, 1));
            drop(handle.try_export(batch(1, 1)).expect("room"));
            batcher.try_add(batch(2, 1)).expect("room");
            drop(scheduler.submit_export(&world.exporter, batch(3, 1)));
        }
        let mut polls = 0_u32;
        let mut hour = world.network.clock().sleep(3_600 * SECOND);
        world.network.block_on(poll_fn(|cx| {
            polls += 1;
            assert!(run.as_mut().poll(cx).is_pending());
            assert!(Pin::new(&mut actor).poll(cx).is_pending());
            assert!(Pin::new(&mut batches).poll(cx).is_pending());
            assert!(Pin::new(&mut jobs).poll(cx).is_pending());
            Pin::new(&mut hour).poll(cx)
        }));
        // Ten seconds of retries for three of them, five minutes for the batcher, whose waits grow.
        let polls_max = if has_work { 2_000 } else { 10 };
        assert!(
            polls <= polls_max,
            "{polls} polls in an hour, with work: {has_work}"
        );
        if has_work {
            assert_eq!(handle.stats().error_count, 1);
            assert_eq!(scheduler.stats().items_failed, 1);
            assert_eq!(batcher.stats().total.queued + batcher.stats().total.in_flight, 0);
        }
    }
}

/// The sketch took the time that a message had spent in its channel for the time of the export, and slowed down for it.
#[test]
fn channel_time_as_export_latency() {
    let world = World::new();
    world.collector.answer(Answer::Ok.after(50 * MILLI));
    let is_latency = |latency: Duration| (50 * MILLI..80 * MILLI).contains(&latency);

    // Twenty in the mailbox, one at a time: the last waits for a second.
    let config = ActorConfig::new().with_concurrency_max(1);
    let (handle, actor) = ExporterActor::new(&world.exporter, config).expect("it works");
    world.network.spawn(actor.run());
    for id in 0..20 {
        drop(handle.try_export(batch(id, 1)).expect("room"));
    }
    let begin = world.network.clock().now();
    world.network.block_on(handle.flush()).expect("flushed");
    assert!(world.network.clock().now() - begin >= SECOND);
    let latency = handle.stats().latency;
    assert!(is_latency(latency.p50) && is_latency(latency.max), "{latency:?}");

    // Spans that wait in the open batch of a run, and requests that wait for room.
    let config = StreamingConfig::new()
        .with_concurrency_max(1)
        .with_batch_age_max(5 * SECOND);
    let streaming = StreamingOtlpExporter::new(&world.exporter, config).expect("it works");
    let requests: Vec<_> = (100..120).map(|id| batch(id, 1)).collect();
    let stats = world
        .network
        .block_on(streaming.run(futures_util::stream::iter(requests)));
    assert!(stats.elapsed >= SECOND, "{stats}");
    assert!(
        is_latency(stats.latency.p50) && is_latency(stats.latency.max),
        "{stats}"
    );

    // Batches that wait for a driver that is late: by an hour.
    let (batcher, driver) =
        AdaptiveBatcher::new(&world.exporter, AdaptiveBatchConfig::new(), &Resource::new())
            .expect("it works");
    for id in 200..205 {
        batcher.try_add(batch(id, 1)).expect("room");
    }
    world.network.run_for(3_600 * SECOND);
    world.network.spawn(async move { drop(driver.await) });
    world
        .network
        .block_on(batcher.flush(60 * SECOND))
        .expect("flushed");
    let stats = batcher.batch_size();
    assert!(
        stats.batches > 0 && is_latency(stats.average_latency),
        "{stats:?}"
    );

    // Batches that wait in the queue of a pipeline for their turn: the last of them for a second.
    let config = PipelineConfig::new()
        .with_resource(&Resource::new())
        .with_batch(
            AdaptiveBatchConfig::new()
                .with_items_min(1)
                .with_items_initial(1)
                .with_items_max(1),
        )
        .with_concurrency(ConcurrencyConfig::new().with_min(1).with_initial(1).with_max(1));
    let (pipeline, future) = world.exporter.pipeline(config).expect("it works");
    world.network.spawn(async move { drop(future.await) });
    for id in 300..320 {
        pipeline.try_send(batch(id, 1)).expect("room");
    }
    let begin = world.network.clock().now();
    world
        .network
        .block_on(pipeline.flush(60 * SECOND))
        .expect("flushed");
    assert!(world.network.clock().now() - begin >= SECOND);
    let stats = pipeline.stats().legs[0].batcher;
    assert!(
        stats.batches == 20 && is_latency(stats.average_latency),
        "{stats:?}"
    );
}

/// The sketch counted down at the end of a job: one that panicked stayed counted for ever.
#[test]
fn counters_leaked_on_panic() {
    let (scheduler, mut driver) =
        SmartScheduler::new(SchedulerConfig::new().with_concurrency_max(1)).expect("it works");
    for round in 1..=20_u64 {
        let job = scheduler.submit(async { panic!("a job's own") });
        let polled = quietly(|| Pin::new(&mut driver).poll(&mut Context::from_waker(Waker::noop())));
        assert!(polled.expect("the driver goes on").is_pending());
        let stats = scheduler.stats();
        assert_eq!(
            (scheduler.task_count(), stats.running, stats.panicked),
            (0, 0, round)
        );
        assert!(futures_executor::block_on(job).is_err());
    }
    // One at a time: a place that leaked would let nobody in.
    let last = scheduler.submit(async { 1 });
    assert!(
        Pin::new(&mut driver)
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
    assert_eq!(futures_executor::block_on(last).ok(), Some(1));

    // Those who write into a pipeline: what they took of its room comes back.
    let world = World::new();
    let queue = QueueConfig::new().with_items_max(10);
    let config = PipelineConfig::new()
        .with_resource(&Resource::new())
        .with_queue(queue);
    let (pipeline, future) = world.exporter.pipeline(config).expect("it works");
    for _ in 0..100 {
        quietly(|| pipeline.try_spans(|_| panic!("a producer's own"))).expect_err("its panic goes on");
    }
    assert_eq!(pipeline.stats().total.queued, 0);
    pipeline
        .try_spans(|batch| batch.span([1; 16], [1; 8], "work").end())
        .expect("there is room");
    let future = world.network.spawn(future);
    world.network.block_on(pipeline.shutdown(SECOND));
    let report = world.network.block_on(future);
    assert_eq!(
        (report.stats.accepted, report.stats.delivered),
        (1, 1),
        "{report}"
    );

    // A source of a run.
    let streaming = StreamingOtlpExporter::new(&world.exporter, StreamingConfig::new()).expect("it works");
    let handle = streaming.handle();
    let panics = futures_util::stream::poll_fn(|_| -> Poll<Option<Request>> { panic!("a source's own") });
    let mut run = Box::pin(streaming.run(panics));
    quietly(|| {
        run.as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .map(drop)
    })
    .expect_err("it goes on");
    assert_eq!((handle.stats().batches_in_flight, handle.stats().pending), (0, 0));
    assert!(handle.is_finished());
}

/// The sketch knew the items of a task only from its result: when it failed, they were gone from every count.
#[test]
fn item_count_lost_when_a_task_fails() {
    let world = World::with(Config::new().with_retry_policy(RetryPolicy::never()));
    world.collector.answer_with(|request| match request.items {
        3 => Answer::unavailable(),
        5 => Answer::Never,
        _ => Answer::Ok,
    });
    let (scheduler, driver) = SmartScheduler::new(SchedulerConfig::new()).expect("it works");
    let driver = world.network.spawn(driver);
    world.network.block_on(async {
        let failed = scheduler.submit_export(&world.exporter, batch(0, 3));
        let cancelled = scheduler.submit_export(&world.exporter, batch(10, 5));
        let panicked: JobHandle<()> = scheduler.submit_with(|items| async move {
            items.add_done(7);
            items.add_failed(1);
            panic!("half way");
        });
        let well = scheduler.submit_export(&world.exporter, batch(20, 11));
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        world.network.clock().sleep(SECOND).await;
        std::panic::set_hook(hook);
        cancelled.cancel();
        let stats = scheduler.wait_all().await;
        let of = |report: JobReport| (report.items, report.items_failed);
        assert_eq!(of(failed.report()), (0, 3));
        assert_eq!(of(cancelled.report()), (0, 5));
        assert_eq!(of(panicked.report()), (7, 1));
        assert_eq!(of(well.report()), (11, 0));
        assert_eq!((stats.items, stats.items_failed), (18, 9));
        drop::<otlp_embed::pipeline::JobHandle<()>>(panicked);
    });
    drop(scheduler);
    world.network.block_on(driver);

    // And everywhere else.
    let streaming = StreamingOtlpExporter::new(&world.exporter, StreamingConfig::new()).expect("it works");
    let stats = world
        .network
        .block_on(streaming.run(futures_util::stream::iter([batch(0, 3), batch(10, 2)])));
    assert_eq!(
        (stats.total_taken, stats.total_exported, stats.total_failed),
        (5, 2, 3)
    );
    let (handle, actor) = ExporterActor::new(&world.exporter, ActorConfig::new()).expect("it works");
    let actor = world.network.spawn(actor.run());
    world.network.block_on(async {
        handle.export(batch(0, 3)).await.expect_err("it fails");
        let lost = handle.try_export(batch(10, 5)).expect("room");
        world.network.clock().sleep(SECOND).await;
        drop(lost);
        let stats = handle.shutdown(SECOND).await;
        assert_eq!((stats.items_exported, stats.items_failed), (0, 8));
        actor.await;
    });
    assert!(world.exporter.stats().is_conserved());
    assert_eq!(world.exporter.stats().in_flight, 0);
}

/// The sketch made a rate limiter for each call, whose bucket was always full.
#[test]
fn a_fresh_limiter_at_each_call() {
    let world = World::new();
    let rate = RateLimit::items(10);
    let config = PipelineConfig::new()
        .with_resource(&Resource::new())
        .with_rate_limit(rate);
    let (pipeline, future) = world.exporter.pipeline(config).expect("it works");
    world.network.spawn(future);
    let begin = world.network.clock().now();
    world.network.block_on(async {
        // Each through a handle of its own, each flushed on its own: one bucket for all of them.
        for call in 0..6 {
            let pipeline = pipeline.clone();
            pipeline.send(batch(call * 10, 10)).await.expect("queued");
            pipeline.flush(60 * SECOND).await.expect("flushed");
        }
    });
    let took = world.network.clock().now() - begin;
    assert_eq!(world.collector.counters().spans_accepted, 60);
    assert!(
        (5 * SECOND..7 * SECOND).contains(&took),
        "10 at once and 50 at 10 a second: {took:?}"
    );
}
