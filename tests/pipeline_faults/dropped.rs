//! Every future of the pipeline and of what stands beside it, dropped after each possible number of polls, in every weather: the
//! account holds after each event, nobody else hangs (a wait that nothing can end panics on this network), and the exporter
//! is as good as before.

use crate::batches::batch;
use crate::sources::Source;
use crate::support::{
    MILLI, PollTimes, SECOND, WEATHERS, World, at_every_poll, blocking, config, in_time, panics,
};
use otlp_embed::pipeline::{
    ActorConfig, AdaptiveBatcher, ExportQueue, ExporterActor, ExporterHandle, Overflow, Pipeline,
    QueueConfig, SchedulerConfig, SmartScheduler, StreamingConfig, StreamingOtlpExporter,
};
use otlp_embed::policy::AdaptiveBatchConfig;
use otlp_embed::testing::Network;
use otlp_embed::{Request, Resource};
use std::pin::Pin;

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

fn wait(future: impl Future + Send + 'static) -> Wait {
    Box::pin(async move {
        future.await;
    })
}

/// The future of a pipeline, while producers, flushes and shutdowns wait.
#[test]
fn the_future_of_a_pipeline() {
    in_time(|| {
        for weather in WEATHERS {
            at_every_poll("the pipeline's future", |polls| {
                let world = World::in_weather(weather);
                let (pipeline, future) = world.exporter.pipeline(blocking(3)).expect("works");
                let future = world.network.spawn(PollTimes::new(future, polls));
                let why = format!("{weather:?}, {polls} polls");
                let sent = world.network.block_on_checked(
                    async {
                        let producers = [0, 100].map(|first| {
                            let pipeline = pipeline.clone();
                            world.network.spawn(async move {
                                let mut sent = 0;
                                for id in first..first + 4 {
                                    sent += u64::from(pipeline.send(batch(id, 1)).await.is_ok());
                                }
                                sent
                            })
                        });
                        let flush = world.network.spawn(pipeline.flush(20 * SECOND));
                        let mut sent = 0;
                        for producer in producers {
                            sent += producer.await;
                        }
                        let _ = flush.await;
                        let shutdowns = [20, 30].map(|time| pipeline.shutdown(time * SECOND));
                        let [first, second] = shutdowns.map(|end| world.network.spawn(end));
                        assert_eq!(first.await, second.await, "{why}");
                        sent
                    },
                    || assert!(pipeline.stats().is_conserved()),
                );
                let total = pipeline.stats().total;
                assert_eq!(
                    (total.accepted, total.queued, total.in_flight),
                    (sent, 0, 0),
                    "{why}"
                );
                assert!(pipeline.try_send(batch(500, 1)).unwrap_err().is_closed(), "{why}");
                let has_ended = world.network.block_on(future).is_some();
                assert_eq!(has_ended, total.delivered == 8, "{why}: {total:?}");
                world.check_usable(&why);
                has_ended
            });
        }
    });
}

/// What a handle of a pipeline gives, dropped while others wait for the same.
fn of_a_pipeline(what: &str, begin: fn(&Pipeline) -> Wait) {
    for weather in WEATHERS {
        at_every_poll(what, |polls| {
            let world = World::in_weather(weather);
            let (pipeline, future) = world.exporter.pipeline(blocking(2)).expect("works");
            let future = world.network.spawn(future);
            let why = format!("{what}, {weather:?}, {polls} polls");
            let (has_ended, report) = world.network.block_on_checked(
                async {
                    pipeline.send(batch(0, 2)).await.expect("room");
                    let dropped = world.network.spawn(PollTimes::new(begin(&pipeline), polls));
                    // Stands behind it.
                    let behind = world.network.spawn(pipeline.send(batch(20, 1)));
                    let flush = world.network.spawn(pipeline.flush(60 * SECOND));
                    let has_ended = dropped.await.is_some();
                    let sent = behind.await;
                    let flushed = flush.await;
                    // A shutdown goes on though nobody waits for it, and refuses those who do.
                    assert!(sent.is_ok() || pipeline.is_closed(), "{why}");
                    assert!(flushed.is_ok() || pipeline.is_closed(), "{why}");
                    drop(pipeline.shutdown(60 * SECOND));
                    (has_ended, future.await)
                },
                || assert!(pipeline.stats().is_conserved()),
            );
            assert_eq!(report.lost(), 0, "{why}: {report}");
            assert_eq!(
                world.collector.counters().spans_accepted,
                report.stats.delivered,
                "{why}"
            );
            world.check_usable(&why);
            has_ended
        });
    }
}

#[test]
fn a_send_into_a_pipeline() {
    in_time(|| of_a_pipeline("a send", |pipeline| wait(pipeline.send(batch(10, 2)))));
}

#[test]
fn a_write_into_a_pipeline() {
    in_time(|| {
        of_a_pipeline("a write", |pipeline| {
            wait(pipeline.spans_async(|batch| batch.span([1; 16], [1; 8], "work").end()))
        });
    });
}

#[test]
fn a_flush_of_a_pipeline() {
    in_time(|| of_a_pipeline("a flush", |pipeline| wait(pipeline.flush(60 * SECOND))));
}

#[test]
fn a_shutdown_of_a_pipeline() {
    in_time(|| of_a_pipeline("a shutdown", |pipeline| wait(pipeline.shutdown(60 * SECOND))));
}

/// One of two pipelines on an exporter is dropped: the other one does not notice, though the first may have driven the connections.
#[test]
fn one_of_two_pipelines() {
    in_time(|| {
        for weather in WEATHERS {
            at_every_poll("the first pipeline", |polls| {
                let world = World::in_weather(weather);
                let why = format!("{weather:?}, {polls} polls");
                let (first, future) = world.exporter.pipeline(config()).expect("works");
                let (second, other) = world.exporter.pipeline(config()).expect("works");
                first.try_send(batch(0, 3)).expect("room");
                second.try_send(batch(10, 4)).expect("room");
                drop(first);
                let future = world.network.spawn(PollTimes::new(future, polls));
                let other = world.network.spawn(other);
                let (has_ended, report) = world.network.block_on_checked(
                    async {
                        let has_ended = future.await.is_some();
                        drop(second);
                        (has_ended, other.await)
                    },
                    || assert!(world.exporter.stats().is_conserved()),
                );
                assert_eq!((report.stats.delivered, report.lost()), (4, 0), "{why}");
                world.check_usable(&why);
                has_ended
            });
        }
    });
}

#[test]
fn the_driver_of_a_batcher() {
    in_time(|| {
        for weather in WEATHERS {
            at_every_poll("the batcher's driver", |polls| {
                let world = World::in_weather(weather);
                let why = format!("{weather:?}, {polls} polls");
                let (batcher, driver) =
                    AdaptiveBatcher::new(&world.exporter, AdaptiveBatchConfig::new(), &Resource::new())
                        .expect("works");
                let driver = world.network.spawn(PollTimes::new(driver, polls));
                let handle = batcher.clone();
                let adding = world.network.spawn(async move {
                    let mut added = 0;
                    for id in 0..4 {
                        added += u64::from(handle.add(batch(10 * id, 2)).await.is_ok()) * 2;
                        let written = handle.add_spans(|batch| batch.span([1; 16], [1; 8], "work").end());
                        added += u64::from(written.await.is_ok());
                        let _ = handle.flush(20 * SECOND).await;
                    }
                    drop(handle.pipeline().shutdown(20 * SECOND));
                    added
                });
                let has_ended = world.network.block_on_checked(
                    async {
                        let added = adding.await;
                        let has_ended = driver.await.is_some();
                        let total = batcher.stats().total;
                        assert_eq!(
                            (total.accepted, total.queued, total.in_flight),
                            (added, 0, 0),
                            "{why}"
                        );
                        assert!(!has_ended || total.delivered == 12, "{why}: {total:?}");
                        has_ended
                    },
                    || assert!(batcher.stats().is_conserved()),
                );
                world.check_usable(&why);
                has_ended
            });
        }
    });
}

#[test]
fn a_streaming_run() {
    in_time(|| {
        for weather in WEATHERS {
            at_every_poll("the run", |polls| {
                let world = World::in_weather(weather);
                let why = format!("{weather:?}, {polls} polls");
                let config = StreamingConfig::new().with_concurrency_max(2);
                let streaming = StreamingOtlpExporter::new(&world.exporter, config).expect("works");
                let handle = streaming.handle();
                let source = Source::<Request>::of((0..3).map(|id| batch(10 * id, 2)));
                let run = world
                    .network
                    .spawn(PollTimes::new(streaming.run(source.stream()), polls));
                let has_ended = world.network.block_on_checked(
                    async {
                        // The source has more, later.
                        world.network.clock().sleep(SECOND).await;
                        source.push(batch(50, 2));
                        world.network.clock().sleep(SECOND).await;
                        source.close();
                        run.await.is_some()
                    },
                    || {
                        let stats = handle.stats();
                        let sum = stats.total_exported + stats.total_failed + stats.pending;
                        assert_eq!(stats.total_taken, sum, "{stats}");
                    },
                );
                let stats = handle.stats();
                assert!(handle.is_finished(), "{why}");
                assert!(source.is_dropped(), "{why}");
                assert_eq!((stats.batches_in_flight, stats.pending), (0, 0), "{why}: {stats}");
                assert_eq!(stats.total_taken, 2 * source.taken() as u64, "{why}: {stats}");
                assert!(!has_ended || stats.total_exported == 8, "{why}: {stats}");
                world.check_usable(&why);
                has_ended
            });
        }
    });
}

/// The actor itself, while exports, flushes and shutdowns wait for it.
#[test]
fn an_actor() {
    in_time(|| {
        for weather in WEATHERS {
            at_every_poll("the actor", |polls| {
                let world = World::in_weather(weather);
                let why = format!("{weather:?}, {polls} polls");
                let config = ActorConfig::new().with_mailbox(2).with_concurrency_max(1);
                let (handle, actor) = ExporterActor::new(&world.exporter, config).expect("works");
                let actor = world.network.spawn(PollTimes::new(actor, polls));
                let (has_ended, delivered) = world.network.block_on(async {
                    let exports: Vec<_> = (0..5)
                        .map(|id| world.network.spawn(handle.export(batch(id, 1))))
                        .collect();
                    let flush = world.network.spawn(handle.flush());
                    let mut delivered = 0;
                    for export in exports {
                        delivered += export.await.map_or(0, |outcome| outcome.delivered());
                    }
                    let _ = flush.await;
                    let ends = [20, 30].map(|time| world.network.spawn(handle.shutdown(time * SECOND)));
                    for end in ends {
                        end.await;
                    }
                    (actor.await.is_some(), delivered)
                });
                let stats = handle.stats();
                assert_eq!((stats.queued, stats.in_flight), (0, 0), "{why}: {stats}");
                assert_eq!(stats.items_exported, delivered, "{why}: {stats}");
                assert!(!has_ended || delivered == 5, "{why}: {stats}");
                let refused = handle.try_export(batch(90, 1)).err().expect("it has ended");
                assert!(refused.is_closed(), "{why}");
                world.check_usable(&why);
                has_ended
            });
        }
    });
}

/// What a handle of an actor gives.
fn of_an_actor(what: &str, begin: fn(&ExporterHandle) -> Wait) {
    for weather in WEATHERS {
        at_every_poll(what, |polls| {
            let world = World::in_weather(weather);
            let why = format!("{what}, {weather:?}, {polls} polls");
            let config = ActorConfig::new().with_mailbox(1).with_concurrency_max(1);
            let (handle, actor) = ExporterActor::new(&world.exporter, config).expect("works");
            let actor = world.network.spawn(actor);
            let has_ended = world.network.block_on(async {
                // One in flight, one in the mailbox.
                let before = [0, 1].map(|id| world.network.spawn(handle.export(batch(id, 1))));
                world.network.clock().sleep(MILLI).await;
                let dropped = world.network.spawn(PollTimes::new(begin(&handle), polls));
                let behind = world.network.spawn(handle.export(batch(20, 1)));
                let has_ended = dropped.await.is_some();
                for export in before {
                    assert!(export.await.is_ok(), "{why}");
                }
                let behind = behind.await;
                assert!(behind.is_ok() || handle.is_closed(), "{why}");
                handle.shutdown(60 * SECOND).await;
                actor.await;
                has_ended
            });
            let stats = handle.stats();
            assert_eq!((stats.queued, stats.in_flight), (0, 0), "{why}: {stats}");
            assert_eq!(
                stats.items_exported,
                world.collector.counters().spans_accepted,
                "{why}: {stats}"
            );
            world.check_usable(&why);
            has_ended
        });
    }
}

#[test]
fn an_export_by_an_actor() {
    in_time(|| of_an_actor("an export", |handle| wait(handle.export(batch(10, 1)))));
}

#[test]
fn a_flush_of_an_actor() {
    in_time(|| of_an_actor("a flush", |handle| wait(handle.flush())));
}

#[test]
fn a_shutdown_of_an_actor() {
    in_time(|| of_an_actor("a shutdown", |handle| wait(handle.shutdown(60 * SECOND))));
}

#[test]
fn the_driver_of_a_scheduler() {
    in_time(|| {
        for weather in WEATHERS {
            at_every_poll("the scheduler's driver", |polls| {
                let world = World::in_weather(weather);
                let why = format!("{weather:?}, {polls} polls");
                let config = SchedulerConfig::new().with_concurrency_max(2);
                let (scheduler, driver) = SmartScheduler::new(config).expect("works");
                let driver = world.network.spawn(PollTimes::new(driver, polls));
                let jobs: Vec<_> = (0..4)
                    .map(|id| scheduler.submit_export(&world.exporter, batch(10 * id, 3)))
                    .collect();
                let stats = world.network.block_on(async {
                    let mut delivered = 0;
                    for job in jobs {
                        let outcome = world.network.spawn(job).await;
                        delivered += outcome.map_or(0, |job| job.map_or(0, |outcome| outcome.delivered()));
                    }
                    let stats = scheduler.wait_all().await;
                    assert_eq!(stats.items, delivered, "{why}: {stats}");
                    stats
                });
                assert_eq!(scheduler.task_count(), 0, "{why}");
                let ends = stats.completed + stats.abandoned + stats.refused;
                assert_eq!((stats.submitted, ends), (4, 4), "{why}: {stats}");
                // The request of a refused job was never begun, and is counted as failed all the same.
                assert_eq!(stats.items + stats.items_failed, 12, "{why}: {stats}");
                drop(scheduler);
                let has_ended = world.network.block_on(driver).is_some();
                assert!(!has_ended || stats.items == 12, "{why}: {stats}");
                world.check_usable(&why);
                has_ended
            });
        }
    });
}

/// Waits for jobs and their results.
#[test]
fn waits_for_jobs() {
    in_time(|| {
        for weather in WEATHERS {
            for is_wait_all in [false, true] {
                at_every_poll("a wait for jobs", |polls| {
                    let world = World::in_weather(weather);
                    let why = format!("{weather:?}, {polls} polls, wait_all: {is_wait_all}");
                    let (scheduler, driver) = SmartScheduler::new(SchedulerConfig::new()).expect("works");
                    let driver = world.network.spawn(driver);
                    let job = scheduler.submit_export(&world.exporter, batch(0, 3));
                    let dropped = match is_wait_all {
                        true => wait(scheduler.wait_all()),
                        false => wait(job),
                    };
                    let dropped = world.network.spawn(PollTimes::new(dropped, polls));
                    let has_ended = world.network.block_on(async {
                        let has_ended = dropped.await.is_some();
                        let stats = scheduler.wait_all().await;
                        assert_eq!((stats.items, stats.completed), (3, 1), "{why}: {stats}");
                        drop(scheduler);
                        driver.await;
                        has_ended
                    });
                    world.check_usable(&why);
                    has_ended
                });
            }
        }
    });
}

/// Exports, the driver and the end of the exporter that a pipeline stands on.
#[test]
fn futures_of_the_exporter_under_a_pipeline() {
    type Kind = (&'static str, fn(&World) -> Wait);
    let kinds: [Kind; 2] = [
        ("an export", |world| wait(world.exporter.export(batch(50, 2)))),
        ("a driver", |world| {
            let (driver, exporter) = (world.exporter.driver(), world.exporter.clone());
            let ended = world.network.clock().sleep(10 * SECOND);
            wait(async move {
                futures_util::future::select(Box::pin(driver), ended).await;
                drop(exporter);
            })
        }),
    ];
    in_time(move || {
        for (what, begin) in kinds {
            for weather in WEATHERS {
                at_every_poll(what, |polls| {
                    let world = World::in_weather(weather);
                    let why = format!("{what}, {weather:?}, {polls} polls");
                    let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
                    let future = world.network.spawn(future);
                    let dropped = world.network.spawn(PollTimes::new(begin(&world), polls));
                    pipeline.try_send(batch(0, 3)).expect("room");
                    let has_ended = world.network.block_on_checked(
                        async {
                            let has_ended = dropped.await.is_some();
                            drop(pipeline);
                            let report = future.await;
                            assert_eq!((report.stats.delivered, report.lost()), (3, 0), "{why}");
                            has_ended
                        },
                        || assert!(world.exporter.stats().is_conserved()),
                    );
                    world.check_usable(&why);
                    has_ended
                });
            }
        }
    });
}

/// A shutdown of the exporter that is dropped begins nothing before its first poll, and goes on after it.
#[test]
fn the_shutdown_of_the_exporter_under_a_pipeline() {
    in_time(|| {
        for weather in WEATHERS {
            at_every_poll("a shutdown of the exporter", |polls| {
                let world = World::in_weather(weather);
                let why = format!("{weather:?}, {polls} polls");
                let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
                pipeline.try_send(batch(0, 3)).expect("room");
                let future = world.network.spawn(future);
                let end = world.exporter.shutdown(60 * SECOND);
                let has_ended = world.network.block_on_checked(
                    async {
                        let has_ended = world.network.spawn(PollTimes::new(end, polls)).await.is_some();
                        drop(pipeline);
                        let report = future.await;
                        assert_eq!((report.stats.delivered, report.lost()), (3, 0), "{why}");
                        has_ended
                    },
                    || assert!(world.exporter.stats().is_conserved()),
                );
                let stats = world.network.block_on(world.exporter.shutdown(SECOND)).stats;
                assert_eq!((stats.queued, stats.in_flight), (0, 0), "{why}: {stats:?}");
                has_ended
            });
        }
    });
}

/// Both ends of a queue of its own.
#[test]
fn both_ends_of_a_queue() {
    in_time(|| {
        let queue = || {
            let config = QueueConfig::new()
                .with_items_max(1)
                .with_overflow(Overflow::Block);
            ExportQueue::new(config).expect("works")
        };
        let network = Network::new(1);
        at_every_poll("a push", |polls| {
            let queue = queue();
            queue.try_push(batch(0, 1)).expect("room");
            let dropped = network.spawn(PollTimes::new(queue.push(batch(1, 1)), polls));
            // It stands first.
            network.run_for(MILLI);
            let behind = network.spawn(queue.push(batch(2, 1)));
            network.block_on(async {
                network.clock().sleep(MILLI).await;
                assert!(queue.pop().await.is_some());
                network.clock().sleep(MILLI).await;
                while queue.try_pop().is_some() {
                    network.clock().sleep(MILLI).await;
                }
                behind.await.expect("its turn comes");
                dropped.await.is_some()
            })
        });
        at_every_poll("a pop", |polls| {
            let queue = queue();
            let dropped = network.spawn(PollTimes::new(queue.pop(), polls));
            network.run_for(MILLI);
            let behind = network.spawn(queue.pop());
            network.block_on(async {
                network.clock().sleep(MILLI).await;
                queue.push(batch(0, 1)).await.expect("room");
                network.clock().sleep(MILLI).await;
                // Nothing is lost: who was not dropped has it.
                let has_ended = dropped.await.is_some_and(|request| request.is_some());
                if has_ended {
                    queue.close();
                }
                assert_eq!(behind.await.is_some(), !has_ended);
                has_ended
            })
        });
    });
}

/// The watchdog and the planned panics of these tests do what they are for.
#[test]
fn a_future_is_dropped_after_its_last_poll() {
    struct Witness(std::sync::Arc<()>);
    let kept = std::sync::Arc::new(());
    let witness = Witness(kept.clone());
    let mut cut = Box::pin(PollTimes::new(
        async move {
            let _witness = &witness.0;
            std::future::pending::<()>().await;
        },
        2,
    ));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(cut.as_mut().poll(&mut cx).is_pending());
    assert_eq!(std::sync::Arc::strong_count(&kept), 2);
    assert!(cut.as_mut().poll(&mut cx).is_ready());
    assert_eq!(std::sync::Arc::strong_count(&kept), 1);
    assert!(panics(|| in_time(|| crate::support::planned())));
}
