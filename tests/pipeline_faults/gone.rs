//! Parties that are gone: whoever was to get an answer, the actor, the driver, the pipeline's future, the handles.

use crate::batches::batch;
use crate::support::{MILLI, SECOND, World, blocking, in_time};
use futures_util::stream;
use otlp_embed::pipeline::{
    ActorConfig, AdaptiveBatcher, ExportQueue, ExporterActor, JobEnd, Overflow, QueueConfig, SchedulerConfig,
    SmartScheduler, StreamingConfig, StreamingOtlpExporter,
};
use otlp_embed::policy::AdaptiveBatchConfig;
use otlp_embed::testing::Answer;
use otlp_embed::{DropReason, Resource};

/// Nobody waits for the answers, the flushes and the ends: everything goes on and is counted.
#[test]
fn the_receivers_of_answers() {
    in_time(|| {
        let world = World::new();
        world.collector.answer(Answer::Ok.after(30 * MILLI));
        let (handle, actor) = ExporterActor::new(&world.exporter, ActorConfig::new()).expect("works");
        let (pipeline, future) = world.exporter.pipeline(blocking(10)).expect("works");
        let (scheduler, driver) = SmartScheduler::new(SchedulerConfig::new()).expect("works");
        for id in 0..3 {
            drop(handle.try_export(batch(id, 1)).expect("room"));
            drop(scheduler.submit_export(&world.exporter, batch(10 + id, 1)));
            pipeline.try_send(batch(20 + id, 1)).expect("room");
            drop(pipeline.flush(SECOND));
        }
        drop(handle.flush());
        drop(scheduler.wait_all());
        drop(handle.shutdown(10 * SECOND));
        drop(pipeline.shutdown(10 * SECOND));
        let jobs = scheduler.clone();
        drop(scheduler);
        let tasks = (
            world.network.spawn(actor),
            world.network.spawn(future),
            world.network.spawn(driver),
        );
        world.network.block_on(async {
            let actor = tasks.0.await;
            assert_eq!((actor.items_exported, actor.answers_dropped), (3, 3), "{actor}");
            let report = tasks.1.await;
            assert_eq!((report.stats.delivered, report.lost()), (3, 0), "{report}");
            let stats = jobs.wait_all().await;
            assert_eq!((stats.items, stats.completed), (3, 3), "{stats}");
            drop(jobs);
            tasks.2.await;
        });
        assert_eq!(world.collector.counters().spans_accepted, 9);
        world.check_usable("with nobody to tell");
    });
}

/// What moves everything is gone: everybody who waits is told, and whoever comes later, on tasks and on threads.
#[test]
fn whatever_moves_it() {
    in_time(|| {
        let world = World::new();
        world.collector.answer(Answer::Never);
        let (handle, actor) =
            ExporterActor::new(&world.exporter, ActorConfig::new().with_mailbox(1)).expect("works");
        let (pipeline, future) = world.exporter.pipeline(blocking(1)).expect("works");
        let (batcher, batches) =
            AdaptiveBatcher::new(&world.exporter, AdaptiveBatchConfig::new(), &Resource::new())
                .expect("works");
        let (scheduler, driver) = SmartScheduler::new(SchedulerConfig::new()).expect("works");
        pipeline.try_send(batch(0, 1)).expect("room");
        batcher.try_add(batch(1, 1)).expect("room");
        drop(handle.try_export(batch(2, 1)).expect("room"));
        let job = scheduler.submit_export(&world.exporter, batch(3, 4));
        let threads = {
            let (begun, has_begun) = std::sync::mpsc::channel();
            let (own, actors, adds) = (pipeline.clone(), handle.clone(), batcher.clone());
            let on_thread = |work: Box<dyn FnOnce() -> bool + Send>| {
                let begun = begun.clone();
                std::thread::spawn(move || {
                    begun.send(()).expect("received");
                    work()
                })
            };
            let (flushes, ends) = (pipeline.clone(), pipeline.clone());
            let threads = [
                on_thread(Box::new(move || own.spans(|_| ()).unwrap_err().is_closed())),
                on_thread(Box::new(move || {
                    let error = actors
                        .export_blocking(batch(4, 1), crate::support::LONG)
                        .unwrap_err();
                    error.is_shutdown()
                })),
                on_thread(Box::new(move || {
                    adds.flush_blocking(crate::support::LONG).is_err()
                })),
                on_thread(Box::new(move || {
                    flushes.flush_blocking(crate::support::LONG).is_err()
                })),
                on_thread(Box::new(move || {
                    let sent = ends.send_blocking(batch(5, 1), crate::support::LONG);
                    sent.unwrap_err().is_closed()
                })),
            ];
            threads.iter().for_each(|_| has_begun.recv().expect("sent"));
            threads
        };
        drop((actor, future, batches, driver));
        for thread in threads {
            assert!(thread.join().expect("no panic"), "it is told why");
        }
        world.network.block_on(async {
            assert!(pipeline.send(batch(9, 1)).await.unwrap_err().is_closed());
            assert!(pipeline.flush(SECOND).await.unwrap_err().is_shutdown());
            let report = pipeline.shutdown(SECOND).await;
            assert_eq!(report.stats.dropped_for(DropReason::Cancelled), 1, "{report}");
            assert!(batcher.add(batch(9, 1)).await.unwrap_err().is_closed());
            assert!(handle.export(batch(9, 1)).await.unwrap_err().is_shutdown());
            assert!(handle.flush().await.unwrap_err().is_shutdown());
            assert_eq!(handle.shutdown(SECOND).await.items_failed, 1);
            assert_eq!(job.await.unwrap_err().end(), JobEnd::Abandoned);
            let late = scheduler.submit(async {}).await;
            assert_eq!(late.unwrap_err().end(), JobEnd::Refused);
            let stats = scheduler.wait_all().await;
            assert_eq!((stats.items, stats.items_failed), (0, 4), "{stats}");
        });
        world.check_usable("with nothing that moves");
    });
}

/// Every handle and exporter is gone: what is queued is delivered all the same.
#[test]
fn the_handles_and_the_exporter() {
    in_time(|| {
        let world = World::new();
        world.collector.answer(Answer::Ok.after(30 * MILLI));
        let (handle, actor) = ExporterActor::new(&world.exporter, ActorConfig::new()).expect("works");
        let (pipeline, future) = world.exporter.pipeline(blocking(10)).expect("works");
        let streaming = StreamingOtlpExporter::new(&world.exporter, StreamingConfig::new()).expect("works");
        let run = streaming.run(stream::iter([batch(20, 3)]));
        pipeline.try_send(batch(0, 3)).expect("room");
        let answer = handle.try_export(batch(10, 3)).expect("room");
        drop((handle, pipeline));
        let World {
            network,
            collector,
            exporter,
        } = world;
        drop(exporter);
        let tasks = (network.spawn(actor), network.spawn(future), network.spawn(run));
        network.block_on(async {
            assert_eq!(answer.await.expect("delivered").delivered(), 3);
            assert_eq!(tasks.0.await.items_exported, 3);
            assert_eq!(tasks.1.await.stats.delivered, 3);
            assert_eq!(tasks.2.await.total_exported, 3);
        });
        assert_eq!(collector.counters().spans_accepted, 9);
    });
}

/// Producers or consumers of a queue of its own.
#[test]
fn the_other_end_of_a_queue() {
    in_time(|| {
        let config = QueueConfig::new()
            .with_items_max(1)
            .with_overflow(Overflow::Block);
        let queue = ExportQueue::new(config).expect("works");
        queue.try_push(batch(0, 1)).expect("room");
        let producer = {
            let queue = queue.clone();
            std::thread::spawn(move || queue.push_blocking(batch(1, 1), crate::support::LONG))
        };
        queue.close();
        assert!(producer.join().expect("no panic").unwrap_err().is_closed());
        assert!(queue.pop_blocking(SECOND).is_some(), "what is queued is kept");
        assert!(queue.pop_blocking(SECOND).is_none());
    });
}
