//! What producers write through the handles of a pipeline, and how it arrives: batches, headers, sizes, overflow, flushes.

#[path = "support/pipeline.rs"]
mod support;

use otlp_embed::pipeline::{
    AdaptiveBatcher, Endpoints, Overflow, Pipeline, PipelineConfig, QueueConfig, Refusal,
};
use otlp_embed::policy::BreakerState;
use otlp_embed::testing::collector::Accepting;
use otlp_embed::testing::{Answer, Network};
use otlp_embed::{Config, DropReason, Protocol, Report, Resource, Signal, TraceBatch};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use support::{SECOND, World, blocking, config, span, spans, world, world_over};

trait Run {
    fn run<T>(&self, config: PipelineConfig, work: impl AsyncFnOnce(Pipeline) -> T) -> (T, Report);
    fn ids(&self) -> Vec<u64>;
}

impl Run for World {
    /// Runs the pipeline beside `work`, whose end is a shutdown.
    fn run<T>(&self, config: PipelineConfig, work: impl AsyncFnOnce(Pipeline) -> T) -> (T, Report) {
        let (pipeline, future) = self.exporter.pipeline(config).expect("a config that can work");
        let running = self.network.spawn(future);
        let watched = pipeline.clone();
        let exporter = self.exporter.clone();
        let done = self.network.block_on_checked(
            async {
                let done = work(pipeline.clone()).await;
                let report = pipeline.shutdown(600 * SECOND).await;
                assert_eq!(running.await, report, "the future's output");
                (done, report)
            },
            || {
                let stats = watched.stats();
                assert!(stats.is_conserved(), "{stats:?}");
                let stats = exporter.stats();
                assert!(stats.is_conserved(), "{stats:?}");
            },
        );
        assert_eq!(self.exporter.stats().in_flight, 0);
        done
    }

    fn ids(&self) -> Vec<u64> {
        let mut ids: Vec<_> = self
            .collector
            .spans()
            .iter()
            .map(|span| u64::from_be_bytes(span.span_id[..].try_into().expect("eight bytes")) - 1)
            .collect();
        ids.sort_unstable();
        ids
    }
}

#[test]
fn what_is_written_arrives_with_its_resource_and_scope() {
    let world = world();
    let (_, report) = world.run(config(), async |pipeline| {
        pipeline
            .spans(|batch| {
                batch.scope("shop", "1.0");
                span(batch, 0);
            })
            .expect("room");
        // The scope that the producer before named is its own.
        pipeline.spans(|batch| span(batch, 1)).expect("room");
        pipeline
            .logs(|batch| batch.log().body("almost full").end())
            .expect("room");
        pipeline
            .metrics(|batch| batch.metric("items").gauge().point(0..1, 3).end())
            .expect("room");
        let report = pipeline.flush(SECOND).await.expect("it runs");
        assert!(report.is_delivered(), "{report:?}");
        assert_eq!(report.counts.delivered, 4);
    });
    assert_eq!(
        (report.stats.accepted, report.stats.delivered, report.lost()),
        (4, 4, 0)
    );
    let spans = world.collector.spans();
    assert_eq!(spans.len(), 2);
    assert_eq!(world.collector.requests().len(), 3, "a request for each signal");
    let scope = |id: u8| {
        let span = spans
            .iter()
            .find(|span| span.span_id[7] == id + 1)
            .expect("arrived");
        span.scope.name.clone()
    };
    assert_eq!((scope(0).as_str(), scope(1).as_str()), ("shop", ""));
    assert_eq!(
        (world.collector.logs().len(), world.collector.metrics().len()),
        (1, 1)
    );
}

#[test]
fn producers_share_a_batch_until_it_is_due() {
    let world = world();
    world.run(config(), async |pipeline| {
        for id in 0..20 {
            pipeline.clone().spans(|batch| span(batch, id)).expect("room");
        }
        // Neither full nor flushed: it goes when it was open for 100 ms.
        world.network.clock().sleep(SECOND).await;
        assert_eq!(world.collector.requests().len(), 1);
    });
    assert_eq!(world.ids(), (0..20).collect::<Vec<_>>());
}

#[test]
fn headers_of_their_own_are_never_merged() {
    let world = world();
    world.run(config(), async |pipeline| {
        let acme = pipeline.with_header("x-scope-orgid", "acme").expect("a header");
        let other = pipeline.with_header("x-scope-orgid", "other").expect("a header");
        let both = acme.with_header("x-more", "1").expect("a header");
        for id in 0..4 {
            for (at, handle) in [&pipeline, &acme, &other, &both].into_iter().enumerate() {
                handle
                    .spans(|batch| span(batch, 10 * at as u64 + id))
                    .expect("room");
            }
        }
        // A request that says the same of itself may join.
        let request = spans(14, 1)
            .with_header("x-scope-orgid", "acme")
            .expect("a header");
        pipeline.send(request).await.expect("room");
        pipeline.flush(SECOND).await.expect("it runs");
    });
    let mut seen = Vec::new();
    for request in world.collector.requests() {
        let tenant = request.header("x-scope-orgid").map(str::to_owned);
        let more = request.header("x-more").is_some();
        seen.push((tenant, more, request.items));
    }
    seen.sort();
    let tenant = |name: &str| Some(name.to_owned());
    assert_eq!(
        seen,
        [
            (None, false, 4),
            (tenant("acme"), false, 5),
            (tenant("acme"), true, 4),
            (tenant("other"), false, 4)
        ]
    );
    assert!(
        world
            .exporter
            .pipeline(config())
            .expect("works")
            .0
            .with_header("bad name", "x")
            .is_err()
    );
}

#[test]
fn no_batch_on_grpc_passes_what_its_receivers_take() {
    let world = world();
    let text: &'static str = Box::leak("x".repeat(100 << 10).into_boxed_str());
    world.run(config(), async |pipeline| {
        for id in 0..120 {
            let write = |batch: &mut TraceBatch| {
                let mut trace_id = [7; 16];
                trace_id[..8].copy_from_slice(&(id as u64 + 1).to_be_bytes());
                batch
                    .span(trace_id, (id as u64 + 1).to_be_bytes(), "work")
                    .attr_shared("prompt", text)
                    .end();
            };
            pipeline.spans(write).expect("room for 12 of 32 MiB");
        }
        assert!(pipeline.flush(60 * SECOND).await.expect("it runs").is_delivered());
    });
    assert_eq!(world.ids(), (0..120).collect::<Vec<_>>());
    let sizes: Vec<_> = world
        .collector
        .requests()
        .iter()
        .map(|r| r.message.len())
        .collect();
    assert!(sizes.iter().all(|size| *size <= 4 << 20), "{sizes:?}");
    assert!(sizes.len() <= 6, "12 MiB in batches of 3.5: {sizes:?}");
}

#[test]
fn no_batch_passes_what_a_small_exporter_holds() {
    let network = Network::new(7);
    let collector = network.collector();
    let exporter = Config::new()
        .with_endpoint(collector.endpoint())
        .with_protocol(Protocol::HttpProtobuf)
        .with_memory_limit(256 << 10)
        .build(network.clone())
        .expect("a config that can work");
    let world = World {
        network,
        collector,
        exporter,
    };
    let text: &'static str = Box::leak("x".repeat(10 << 10).into_boxed_str());
    let ((), report) = world.run(config(), async |pipeline| {
        for id in 0..100_u64 {
            let write = |batch: &mut TraceBatch| {
                batch
                    .span([7; 16], (id + 1).to_be_bytes(), "work")
                    .attr_shared("prompt", text)
                    .end();
            };
            pipeline.spans(write).expect("room for 1 of 32 MiB");
        }
        assert!(pipeline.flush(60 * SECOND).await.expect("it runs").is_delivered());
    });
    assert_eq!((report.stats.delivered, report.lost()), (100, 0));
}

#[test]
fn a_larger_request_goes_alone() {
    let world = world_over(Protocol::HttpProtobuf);
    world.run(config().with_batch_bytes_max(1_000), async |pipeline| {
        pipeline.send(spans(0, 2)).await.expect("room");
        pipeline.send(spans(2, 100)).await.expect("room");
        pipeline.send(spans(102, 2)).await.expect("room");
        assert!(pipeline.flush(SECOND).await.expect("it runs").is_delivered());
    });
    let mut items: Vec<_> = world.collector.requests().iter().map(|r| r.items).collect();
    items.sort_unstable();
    assert_eq!(items, [2, 2, 100]);
}

#[test]
fn a_full_queue_that_blocks_loses_nothing() {
    let world = world();
    world
        .collector
        .answer(Answer::Ok.after(Duration::from_millis(50)));
    let (_, report) = world.run(blocking(10), async |pipeline| {
        let producers: Vec<_> = (0..5)
            .map(|number| {
                let pipeline = pipeline.clone();
                world.network.spawn(async move {
                    for at in 0..20 {
                        let id = number * 100 + at;
                        if at % 2 == 0 {
                            pipeline
                                .spans_async(|batch| span(batch, id))
                                .await
                                .expect("it runs");
                        } else {
                            pipeline.send(spans(id, 1)).await.expect("it runs");
                        }
                        let total = pipeline.stats().total;
                        assert!(total.queued + total.in_flight <= 10, "{total:?}");
                    }
                })
            })
            .collect();
        for producer in producers {
            producer.await;
        }
    });
    assert_eq!((report.stats.accepted, report.stats.delivered), (100, 100));
    assert_eq!(world.ids().len(), 100);
}

#[test]
fn a_full_queue_tells_who_does_not_wait() {
    let world = world();
    world.collector.set_accepting(Accepting::Refuse);
    let (_, report) = world.run(blocking(3), async |pipeline| {
        for id in 0..3 {
            pipeline.try_spans(|batch| span(batch, id)).expect("room");
        }
        let refusal = pipeline.try_spans(|batch| span(batch, 3)).unwrap_err();
        assert!(refusal.is_full() && refusal.drop_reason().is_none(), "{refusal}");
        assert!(pipeline.try_send(spans(3, 1)).unwrap_err().is_full());
        assert_eq!(pipeline.stats().total.accepted, 3);
        world.collector.set_accepting(Accepting::Serve);
    });
    assert_eq!((report.stats.delivered, report.lost()), (3, 0));
}

#[test]
fn a_full_queue_that_drops_never_waits_and_counts() {
    let world = world();
    world.collector.set_accepting(Accepting::Refuse);
    let queue = QueueConfig::new()
        .with_items_max(3)
        .for_signal(Signal::Logs, |logs| logs.with_overflow(Overflow::DropOldest));
    let ((), report) = world.run(config().with_queue(queue), async |pipeline| {
        for id in 0..3 {
            pipeline.spans(|batch| span(batch, id)).expect("room");
        }
        let refusal: Refusal = pipeline.spans(|batch| span(batch, 3)).unwrap_err();
        assert_eq!(refusal.drop_reason(), Some(DropReason::QueueFull));
        // Spans are not a log record's to evict.
        let refusal = pipeline.logs(|batch| batch.log().body("x").end()).unwrap_err();
        assert_eq!(refusal.drop_reason(), Some(DropReason::QueueFull));
        world.collector.set_accepting(Accepting::Serve);
    });
    assert_eq!(report.stats.dropped_for(DropReason::QueueFull), 2);
    assert_eq!((report.stats.accepted, report.stats.delivered), (5, 3));
}

#[test]
fn a_panic_in_a_writer_costs_the_item_it_was_writing() {
    let world = world();
    world.run(config(), async |pipeline| {
        pipeline.spans(|batch| span(batch, 0)).expect("room");
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            pipeline.spans(|batch| {
                span(batch, 1);
                let mut unfinished = batch.span([1; 16], [9; 8], "unfinished");
                unfinished.event("here", 1, |_| panic!("in the middle of an event"));
            })
        }));
        assert!(panicked.is_err());
        pipeline
            .spans(|batch| span(batch, 2))
            .expect("the pipeline goes on");
        assert!(pipeline.flush(SECOND).await.expect("it runs").pending == 0);
    });
    assert_eq!(world.ids(), [0, 1, 2]);
}

#[test]
fn a_flush_whose_time_is_over_tells_what_is_left() {
    let world = world();
    world.collector.set_accepting(Accepting::Refuse);
    let (_, report) = world.run(config(), async |pipeline| {
        pipeline.send(spans(0, 5)).await.expect("room");
        let begin = world.network.clock().now();
        let report = pipeline.flush(3 * SECOND).await.expect("it runs");
        assert_eq!(world.network.clock().now().since(begin), 3 * SECOND);
        assert_eq!((report.pending, report.counts.total()), (5, 0));
        // What came after a flush is not its matter.
        world.collector.set_accepting(Accepting::Serve);
        let flush = pipeline.flush(300 * SECOND);
        pipeline.send(spans(5, 1)).await.expect("room");
        let report = flush.await.expect("it runs");
        assert!(report.is_delivered());
    });
    assert_eq!(report.stats.delivered, 6);
}

#[test]
fn an_adaptive_batcher_takes_and_tells() {
    let world = world();
    let (batcher, driver) =
        AdaptiveBatcher::new(&world.exporter, Default::default(), &Resource::new()).expect("works");
    let driver = world.network.spawn(driver);
    world.network.block_on(async {
        for id in 0..50 {
            batcher.add(spans(id, 1)).await.expect("room");
        }
        batcher.add_spans(|batch| span(batch, 50)).await.expect("room");
        assert!(batcher.flush(SECOND).await.expect("it runs").is_delivered());
        assert!(batcher.batch_size().batches >= 1);
        assert_eq!(batcher.stats().total.delivered, 51);
        drop(batcher);
        assert_eq!(driver.await.stats.delivered, 51);
    });
}

/// As spec 11 asks.
#[test]
fn each_of_a_fan_out_gets_everything_and_settles_on_its_own() {
    let one = world();
    let second = one.network.collector();
    let backup = Config::new()
        .with_endpoint(second.endpoint())
        .with_protocol(Protocol::HttpProtobuf)
        .build(one.network.clone())
        .expect("works");
    second.set_accepting(Accepting::Refuse);
    let (pipeline, future) = Endpoints::fan_out([one.exporter.clone(), backup.clone()])
        .pipeline(config())
        .expect("works");
    let running = one.network.spawn(future);
    one.network.block_on(async {
        pipeline.send(spans(0, 5)).await.expect("room");
        one.network.clock().sleep(5 * SECOND).await;
        let stats = pipeline.stats();
        assert_eq!(
            stats.legs[0].account.delivered, 5,
            "the other one's outage is not its"
        );
        assert_eq!(stats.legs[1].account.delivered, 0);
        second.set_accepting(Accepting::Serve);
        let report = pipeline.shutdown(100 * SECOND).await;
        assert_eq!((report.stats.accepted, report.stats.delivered), (10, 10));
        running.await;
    });
    assert_eq!((one.exporter.stats().delivered, backup.stats().delivered), (5, 5));
    assert_eq!((one.collector.spans().len(), second.spans().len()), (5, 5));
}

#[test]
fn failover_delivers_where_the_first_is_down() {
    let world = world();
    let second = world.network.collector();
    let backup = Config::new()
        .with_endpoint(second.endpoint())
        .build(world.network.clone())
        .expect("works");
    world.collector.set_accepting(Accepting::Refuse);
    let (pipeline, future) = Endpoints::failover([world.exporter.clone(), backup])
        .pipeline(config())
        .expect("works");
    let running = world.network.spawn(future);
    world.network.block_on(async {
        for id in 0..20 {
            pipeline.send(spans(id, 1)).await.expect("room");
            world.network.clock().sleep(SECOND).await;
        }
        let report = pipeline.shutdown(100 * SECOND).await;
        assert_eq!((report.stats.delivered, report.lost()), (20, 0));
        running.await;
    });
    assert_eq!(second.spans().len(), 20);
}

#[test]
fn a_pipeline_without_an_exporter_is_refused() {
    let error = Endpoints::<Network>::round_robin([])
        .pipeline(config())
        .unwrap_err();
    assert!(error.is_misuse(), "{error}");
    let world = world();
    let error = world
        .exporter
        .pipeline(config().with_max_elapsed(Duration::ZERO))
        .unwrap_err();
    assert!(error.to_string().contains("with_max_elapsed"), "{error}");
}

#[test]
fn an_exporter_tells_the_breaker_and_the_age_of_what_waits() {
    let world = world();
    world.collector.set_accepting(Accepting::Refuse);
    let ((), report) = world.run(config(), async |pipeline| {
        for id in 0..20 {
            let tenant = pipeline
                .with_header("x-tenant", &id.to_string())
                .expect("a header");
            tenant.spans(|batch| span(batch, id)).expect("room");
        }
        world.network.clock().sleep(60 * SECOND).await;
        let stats = world.exporter.stats();
        assert_ne!(stats.breaker, Some(BreakerState::Closed), "{stats:?}");
        let age = stats.oldest_queued_age.expect("something waits");
        assert!(age > 30 * SECOND, "{age:?}");
        assert_eq!(stats.queued + stats.in_flight, 20);
        assert!(stats.last_error.is_some());
        world.collector.set_accepting(Accepting::Serve);
    });
    assert_eq!(
        (report.stats.delivered, report.lost()),
        (20, 0),
        "nothing was dropped for it"
    );
}
