//! Ends that come at a bad time: each keeps its time, tells what became of everything, and lets nobody wait.

use crate::batches::batch;
use crate::sources::Source;
use crate::support::{MILLI, SECOND, World, blocking, config, in_time};
use otlp_embed::pipeline::{
    ActorConfig, AdaptiveBatcher, Endpoints, ExporterActor, Pipeline, PipelineConfig, StreamingConfig,
    StreamingOtlpExporter,
};
use otlp_embed::policy::{AdaptiveBatchConfig, BreakerConfig, BreakerState};
use otlp_embed::testing::Answer;
use otlp_embed::testing::collector::Accepting;
use otlp_embed::{DropReason, Report, Request, Resource};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Begins a shutdown of two seconds at a bad time, and gives its report; whoever waits is refused, and it takes the two seconds.
fn ends_in_time(world: &World, config: PipelineConfig, bad: impl AsyncFnOnce(&Pipeline)) -> Report {
    let (pipeline, future) = world.exporter.pipeline(config).expect("works");
    let future = world.network.spawn(future);
    world.network.block_on_checked(
        async {
            bad(&pipeline).await;
            let begin = world.network.clock().now();
            let flush = world.network.spawn(pipeline.flush(60 * SECOND));
            let end = pipeline.shutdown(2 * SECOND);
            assert!(pipeline.is_closed(), "at once");
            let report = end.await;
            assert_eq!(world.network.clock().now().since(begin), 2 * SECOND);
            assert!(flush.await.is_ok_and(|flushed| flushed.pending == 0));
            assert_eq!(future.await, report);
            assert!(report.stats.is_conserved());
            report
        },
        || assert!(pipeline.stats().is_conserved()),
    )
}

#[test]
fn during_a_backoff() {
    in_time(|| {
        let world = World::new();
        world.collector.answer(Answer::throttled(20 * SECOND));
        let report = ends_in_time(&world, config(), async |pipeline| {
            pipeline.send(batch(0, 5)).await.expect("room");
            world.network.clock().sleep(SECOND).await;
            assert_eq!(world.collector.counters().requests, 1);
        });
        assert_eq!(report.stats.dropped_for(DropReason::Shutdown), 5, "{report}");
        world.check_usable("after a shutdown during a backoff");
    });
}

#[test]
fn during_a_connect() {
    in_time(|| {
        let world = World::new();
        world.collector.partition();
        let report = ends_in_time(&world, config(), async |pipeline| {
            pipeline.send(batch(0, 5)).await.expect("room");
            world.network.clock().sleep(SECOND).await;
        });
        assert_eq!(report.stats.dropped_for(DropReason::Shutdown), 5, "{report}");
        world.check_usable("after a shutdown during a connect");
    });
}

#[test]
fn while_the_breaker_is_open() {
    in_time(|| {
        let world = World::new();
        world.collector.set_accepting(Accepting::Refuse);
        let breaker = BreakerConfig::new()
            .with_requests_min(1)
            .with_open_for(60 * SECOND);
        let report = ends_in_time(&world, config().with_breaker(breaker), async |pipeline| {
            pipeline.send(batch(0, 5)).await.expect("room");
            while world.exporter.stats().breaker != Some(BreakerState::Open) {
                world.network.clock().sleep(SECOND).await;
            }
            assert_eq!(pipeline.stats().total.in_flight, 0, "it is parked");
        });
        assert_eq!(report.stats.dropped_for(DropReason::Shutdown), 5, "{report}");
        world.check_usable("after a shutdown under an open breaker");
    });
}

#[test]
fn while_a_request_has_no_answer() {
    in_time(|| {
        let world = World::new();
        world.collector.answer(Answer::Never);
        let report = ends_in_time(&world, config(), async |pipeline| {
            pipeline.send(batch(0, 5)).await.expect("room");
            world.network.clock().sleep(SECOND).await;
        });
        assert_eq!(
            (report.stats.unknown, report.stats.dropped_total()),
            (5, 0),
            "{report}"
        );
        world.check_usable("after a shutdown without an answer");
    });
}

#[test]
fn during_a_flush() {
    in_time(|| {
        let world = World::new();
        world.collector.answer(Answer::Ok.after(SECOND));
        let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
        let future = world.network.spawn(future);
        world.network.block_on(async {
            pipeline.send(batch(0, 5)).await.expect("room");
            let flushes = [60 * SECOND, 500 * MILLI].map(|time| world.network.spawn(pipeline.flush(time)));
            world.network.clock().sleep(100 * MILLI).await;
            let report = pipeline.shutdown(10 * SECOND).await;
            let [patient, hasty] = flushes;
            let patient = patient.await.expect("answered before the end");
            let hasty = hasty.await.expect("answered in its time");
            assert_eq!((patient.counts.delivered, patient.pending), (5, 0));
            assert_eq!((hasty.counts.delivered, hasty.pending), (0, 5));
            assert_eq!((report.stats.delivered, report.lost()), (5, 0), "{report}");
            assert_eq!(future.await, report);
        });
    });
}

/// Of several, in any order, the earliest end counts, and each gets the report.
#[test]
fn several_times() {
    in_time(|| {
        for times in [[9, 2], [2, 9], [9, 0], [0, 9]] {
            for is_seen_between in [false, true] {
                let world = World::new();
                world.collector.answer(Answer::Never);
                let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
                let future = world.network.spawn(future);
                world.network.block_on(async {
                    pipeline.send(batch(0, 5)).await.expect("room");
                    world.network.clock().sleep(SECOND).await;
                    let begin = world.network.clock().now();
                    let first = world.network.spawn(pipeline.shutdown(times[0] * SECOND));
                    if is_seen_between {
                        world.network.clock().sleep(MILLI).await;
                    }
                    let second = pipeline.shutdown(times[1] * SECOND).await;
                    assert_eq!(first.await, second);
                    assert_eq!(future.await, second);
                    let took = world.network.clock().now().since(begin);
                    let earliest = times.into_iter().min().unwrap_or_default() * SECOND;
                    assert!(
                        took >= earliest && took <= earliest + MILLI,
                        "{times:?}: {took:?}"
                    );
                    assert_eq!(second.stats.unknown, 5, "{second}");
                    assert_eq!(pipeline.shutdown(SECOND).await, second, "and after the end");
                });
            }
        }
    });
}

/// Before anybody has polled the future: nothing more is taken, and what was is delivered once somebody does.
#[test]
fn before_the_first_poll() {
    in_time(|| {
        let world = World::new();
        let (pipeline, future) = world.exporter.pipeline(blocking(5)).expect("works");
        pipeline.try_send(batch(0, 5)).expect("room");
        let mut cx = Context::from_waker(Waker::noop());
        let mut waits = Box::pin(pipeline.send(batch(10, 1)));
        assert!(waits.as_mut().poll(&mut cx).is_pending());
        let mut flush = pipeline.flush(60 * SECOND);
        let mut end = pipeline.shutdown(60 * SECOND);
        assert!(Pin::new(&mut flush).poll(&mut cx).is_pending());
        assert!(Pin::new(&mut end).poll(&mut cx).is_pending());
        // Nobody runs it, and yet nobody waits for room.
        assert!(matches!(waits.as_mut().poll(&mut cx), Poll::Ready(Err(refused)) if refused.is_closed()));
        assert!(pipeline.try_send(batch(20, 1)).unwrap_err().is_closed());
        let written = pipeline.spans(|batch| batch.span([1; 16], [1; 8], "late").end());
        assert!(written.unwrap_err().is_closed());
        assert!(pipeline.is_closed());
        let report = world.network.block_on(future);
        assert_eq!(
            (report.stats.accepted, report.stats.delivered),
            (5, 5),
            "{report}"
        );
        let Poll::Ready(Ok(flushed)) = Pin::new(&mut flush).poll(&mut cx) else {
            panic!("the flush came before the end");
        };
        assert_eq!((flushed.counts.delivered, flushed.pending), (5, 0));
        assert_eq!(Pin::new(&mut end).poll(&mut cx), Poll::Ready(report));
    });
}

/// Of an empty pipeline, which nobody has polled: it ends at once, and the flush before it is answered.
#[test]
fn of_nothing() {
    in_time(|| {
        let world = World::new();
        let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
        let flush = pipeline.flush(SECOND);
        let end = pipeline.shutdown(Duration::ZERO);
        let report = world.network.block_on(future);
        world.network.block_on(async {
            assert_eq!(end.await, report);
            assert_eq!(flush.await.expect("answered").pending, 0);
            assert_eq!(report.stats.accepted, 0);
        });
    });
}

/// A closure that writes while the pipeline ends: the item is counted, whatever becomes of it.
#[test]
fn from_within_a_closure_that_writes() {
    in_time(|| {
        let world = World::new();
        let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
        let mut future = Box::pin(future);
        let mut cx = Context::from_waker(Waker::noop());
        pipeline
            .spans(|batch| {
                drop(pipeline.shutdown(60 * SECOND));
                assert!(
                    future.as_mut().poll(&mut cx).is_pending(),
                    "it waits for what is being written"
                );
                batch.span([1; 16], [1; 8], "last").end();
            })
            .expect("it had begun before the end");
        let report = world.network.block_on(future);
        assert_eq!(
            (report.stats.accepted, report.stats.delivered),
            (1, 1),
            "{report}"
        );

        // Its time is over before the closure is.
        let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
        let mut future = Box::pin(future);
        pipeline
            .spans(|batch| {
                drop(pipeline.shutdown(Duration::ZERO));
                assert!(future.as_mut().poll(&mut cx).is_ready());
                batch.span([1; 16], [1; 8], "too late").end();
            })
            .expect("it had begun before the end");
        let total = pipeline.stats().total;
        assert!(pipeline.stats().is_conserved());
        assert_eq!(
            (total.accepted, total.queued, total.dropped_total()),
            (1, 0, 1),
            "{total:?}"
        );
        world.check_usable("after a write that came too late");
    });
}

/// The exporter ends under everything that stands on it.
#[test]
fn of_the_exporter_under_all_that_stands_on_it() {
    in_time(|| {
        for accepting in [Accepting::Serve, Accepting::Refuse] {
            let world = World::new();
            world.collector.set_accepting(accepting);
            let (pipeline, future) = world.exporter.pipeline(blocking(4)).expect("works");
            let batch_config = AdaptiveBatchConfig::new();
            let (batcher, batches) =
                AdaptiveBatcher::new(&world.exporter, batch_config, &Resource::new()).expect("works");
            let (handle, actor) = ExporterActor::new(&world.exporter, ActorConfig::new()).expect("works");
            let streaming =
                StreamingOtlpExporter::new(&world.exporter, StreamingConfig::new()).expect("works");
            let source = Source::<Request>::of([batch(50, 4)]);
            let future = world.network.spawn(future);
            let batches = world.network.spawn(batches);
            let actor = world.network.spawn(actor);
            let run = world.network.spawn(streaming.run(source.stream()));
            world.network.block_on_checked(
                async {
                    pipeline.send(batch(0, 4)).await.expect("room");
                    let waits = world.network.spawn(pipeline.send(batch(10, 4)));
                    batcher.add(batch(20, 4)).await.expect("room");
                    let answer = world.network.spawn(handle.export(batch(30, 4)));
                    world.network.clock().sleep(MILLI).await;
                    let begin = world.network.clock().now();
                    let report = world.exporter.shutdown(2 * SECOND).await;
                    let took = world.network.clock().now().since(begin);
                    assert!(took <= 2 * SECOND + 100 * MILLI, "{took:?}");
                    assert!(report.stats.is_conserved(), "{report}");
                    // Whoever waited for room had it, or was refused.
                    assert!(waits.await.map_or_else(|refused| refused.is_closed(), |()| true));
                    let (first, second) = (future.await, batches.await);
                    let _ = answer.await;
                    // Both end by themselves at the first that they try on.
                    source.push(batch(60, 1));
                    assert!(handle.export(batch(40, 1)).await.unwrap_err().is_shutdown());
                    let stats = run.await;
                    assert_eq!(stats.pending, 0, "{stats}");
                    handle.shutdown(SECOND).await;
                    actor.await;
                    match accepting {
                        Accepting::Serve => assert_eq!(first.lost() + second.lost(), 0),
                        _ => assert_eq!((first.stats.delivered, second.lost()), (0, 4)),
                    }
                },
                || assert!(world.exporter.stats().is_conserved()),
            );
            let stats = world.exporter.stats();
            assert_eq!((stats.queued, stats.in_flight), (0, 0), "{stats:?}");
            let error = world
                .network
                .block_on(world.exporter.export(batch(70, 1)))
                .unwrap_err();
            assert!(error.is_shutdown(), "{error}");
        }
    });
}

/// One of several exporters ends: with failover the others take over, and the pipeline ends with the last.
#[test]
fn of_one_exporter_of_several() {
    in_time(|| {
        let world = World::new();
        let other = World::new();
        let collector = world.network.collector();
        let second = otlp_embed::Config::new()
            .with_endpoint(collector.endpoint())
            .build(world.network.clone())
            .expect("works");
        drop(other);
        let endpoints = Endpoints::failover([world.exporter.clone(), second.clone()]);
        let (pipeline, future) = endpoints.pipeline(config()).expect("works");
        let future = world.network.spawn(future);
        world.network.block_on(async {
            pipeline.send(batch(0, 2)).await.expect("room");
            pipeline.flush(60 * SECOND).await.expect("not ended");
            // It asks its pipelines to end, as it says.
            let report = second.shutdown(2 * SECOND).await;
            assert!(report.stats.is_conserved(), "{report}");
            let report = future.await;
            assert_eq!((report.stats.delivered, report.lost()), (2, 0), "{report}");
            assert!(pipeline.is_closed());
        });
        world.check_usable("the first goes on");
    });
}

/// An actor's, twice, during a backoff and during a connect.
#[test]
fn of_an_actor() {
    in_time(|| {
        for is_connecting in [false, true] {
            for times in [[9, 2], [2, 9]] {
                let world = World::new();
                match is_connecting {
                    true => world.collector.partition(),
                    false => world.collector.answer(Answer::throttled(8 * SECOND)),
                }
                let (handle, actor) = ExporterActor::new(&world.exporter, ActorConfig::new()).expect("works");
                let actor = world.network.spawn(actor);
                world.network.block_on(async {
                    let export = world.network.spawn(handle.export(batch(0, 5)));
                    world.network.clock().sleep(500 * MILLI).await;
                    let flush = world.network.spawn(handle.flush());
                    world.network.clock().sleep(MILLI).await;
                    let begin = world.network.clock().now();
                    let ends = times.map(|time| world.network.spawn(handle.shutdown(time * SECOND)));
                    for end in ends {
                        assert_eq!(end.await.items_failed, 5);
                    }
                    assert_eq!(world.network.clock().now().since(begin), 2 * SECOND);
                    assert!(export.await.is_err());
                    assert!(flush.await.unwrap_err().is_shutdown());
                    assert_eq!(actor.await, handle.shutdown(SECOND).await);
                });
                world.check_usable("after the actor");
            }
        }
    });
}
