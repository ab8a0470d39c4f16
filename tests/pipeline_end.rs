//! How a pipeline ends: shutdowns, dropped handles, a dropped future, an exporter that goes first. Nobody waits for ever: a
//! wait that nothing can end panics on this network.

#[path = "support/pipeline.rs"]
mod support;

use core::future::Future;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use otlp_embed::pipeline::Pipeline;
use otlp_embed::testing::Answer;
use otlp_embed::testing::collector::Accepting;
use otlp_embed::{DropReason, Report};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use support::{SECOND, blocking, config, span, spans, world};

/// Polls a future so many times, or until it is ready.
struct PollTimes<F> {
    future: F,
    left: u64,
}

impl<F: Future + Unpin> Future for PollTimes<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        match Pin::new(&mut self.future).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // After the last poll it is given up without waiting for a wake.
            Poll::Pending if self.left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn assert_conserved(pipeline: &Pipeline) {
    let stats = pipeline.stats();
    assert!(stats.is_conserved(), "{stats:?}");
}

#[test]
fn the_last_handle_lets_the_future_deliver_and_end() {
    let world = world();
    let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
    let running = world.network.spawn(future);
    world.network.block_on(async {
        let clone = pipeline.clone();
        drop(pipeline);
        clone.spans(|batch| span(batch, 0)).expect("one handle is left");
        drop(clone);
        let report = running.await;
        assert_eq!((report.stats.delivered, report.lost()), (1, 0));
    });
    assert_eq!(
        world.exporter.stats().delivered,
        1,
        "the account stays with the exporter"
    );
}

#[test]
fn handles_are_dropped_during_an_outage_and_nothing_is_lost() {
    let world = world();
    world.collector.set_accepting(Accepting::Refuse);
    let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
    let running = world.network.spawn(future);
    world.network.block_on(async {
        pipeline.send(spans(0, 7)).await.expect("room");
        drop(pipeline);
        world.network.clock().sleep(60 * SECOND).await;
        world.collector.set_accepting(Accepting::Serve);
        assert_eq!(running.await.stats.delivered, 7);
    });
}

#[test]
fn a_shutdown_during_backoff_ends_when_its_time_is_over() {
    let world = world();
    world.collector.answer(Answer::unavailable());
    let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
    let running = world.network.spawn(future);
    world.network.block_on(async {
        pipeline.send(spans(0, 7)).await.expect("room");
        world.network.clock().sleep(SECOND).await;
        let begin = world.network.clock().now();
        let report = pipeline.shutdown(3 * SECOND).await;
        assert_eq!(world.network.clock().now().since(begin), 3 * SECOND);
        assert_eq!(
            (report.stats.dropped_for(DropReason::Shutdown), report.lost()),
            (7, 7)
        );
        assert!(report.stats.is_conserved());
        assert_eq!(running.await, report);
        // What comes later is refused, and told at once.
        assert!(pipeline.spans(|_| ()).unwrap_err().is_closed());
        assert!(pipeline.send(spans(0, 1)).await.unwrap_err().is_closed());
        assert!(pipeline.flush(SECOND).await.unwrap_err().is_shutdown());
        assert_eq!(pipeline.shutdown(SECOND).await, report, "again");
        assert!(pipeline.is_closed());
    });
}

#[test]
fn a_shutdown_during_a_connect_ends_when_its_time_is_over() {
    let world = world();
    world.collector.partition();
    let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
    let running = world.network.spawn(future);
    world.network.block_on(async {
        pipeline.send(spans(0, 7)).await.expect("room");
        let begin = world.network.clock().now();
        let report = pipeline.shutdown(Duration::from_millis(1500)).await;
        assert_eq!(
            world.network.clock().now().since(begin),
            Duration::from_millis(1500)
        );
        assert_eq!(report.stats.dropped_for(DropReason::Shutdown), 7);
        running.await;
    });
}

#[test]
fn of_two_shutdowns_the_earlier_end_counts_for_both() {
    let world = world();
    world.collector.answer(Answer::Never);
    let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
    let running = world.network.spawn(future);
    world.network.block_on(async {
        pipeline.send(spans(0, 7)).await.expect("room");
        world.network.clock().sleep(SECOND).await;
        let begin = world.network.clock().now();
        let late = world.network.spawn(pipeline.shutdown(9 * SECOND));
        let early = pipeline.shutdown(2 * SECOND).await;
        assert_eq!(late.await, early);
        assert_eq!(world.network.clock().now().since(begin), 2 * SECOND);
        // It was sent whole, and no answer came.
        assert_eq!((early.stats.unknown, early.stats.dropped_total()), (7, 0));
        running.await;
    });
}

#[test]
fn who_waits_for_room_is_told_of_the_end() {
    let world = world();
    world.collector.set_accepting(Accepting::Refuse);
    let (pipeline, future) = world.exporter.pipeline(blocking(1)).expect("works");
    let running = world.network.spawn(future);
    world.network.block_on(async {
        pipeline.send(spans(0, 1)).await.expect("room");
        let waiting: Vec<_> = (1..5)
            .map(|id| {
                let pipeline = pipeline.clone();
                world.network.spawn(async move {
                    match id % 2 {
                        0 => pipeline.send(spans(id, 1)).await,
                        _ => pipeline.spans_async(|batch| span(batch, id)).await,
                    }
                })
            })
            .collect();
        world.network.clock().sleep(SECOND).await;
        let report = pipeline.shutdown(SECOND).await;
        assert_eq!(report.stats.accepted, 1, "whoever waited was never counted");
        for refused in waiting {
            assert!(refused.await.unwrap_err().is_closed());
        }
        running.await;
    });
}

#[test]
fn an_exporter_ends_with_its_pipelines() {
    let world = world();
    world.collector.answer(Answer::Ok.after(SECOND));
    let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
    let running = world.network.spawn(future);
    world.network.block_on(async {
        pipeline.send(spans(0, 3)).await.expect("room");
        let direct = world.network.spawn(world.exporter.export(spans(3, 2)));
        let report = world.exporter.shutdown(10 * SECOND).await;
        assert_eq!((report.stats.accepted, report.stats.delivered), (5, 5));
        assert_eq!(report.lost(), 0);
        direct.await.expect("delivered");
        assert_eq!(running.await.stats.delivered, 3);
        assert!(pipeline.try_send(spans(5, 1)).unwrap_err().is_closed());
        let error = world.exporter.export(spans(5, 1)).await.unwrap_err();
        assert!(error.is_shutdown());
    });
}

#[test]
fn an_exporter_reports_what_its_pipelines_lost() {
    let world = world();
    world.collector.set_accepting(Accepting::Refuse);
    let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
    let running = world.network.spawn(future);
    world.network.block_on(async {
        pipeline.send(spans(0, 3)).await.expect("room");
        let begin = world.network.clock().now();
        let report = world.exporter.shutdown(2 * SECOND).await;
        let took = world.network.clock().now().since(begin);
        assert!(
            took >= 2 * SECOND && took <= 2 * SECOND + Duration::from_millis(100),
            "{took:?}"
        );
        assert_eq!(
            (report.stats.dropped_for(DropReason::Shutdown), report.lost()),
            (3, 3)
        );
        assert_eq!(running.await.lost(), 3);
    });
}

#[test]
fn an_exporter_ends_though_nobody_runs_its_pipeline() {
    let world = world();
    let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
    world.network.block_on(async {
        pipeline.send(spans(0, 3)).await.expect("room");
        let begin = world.network.clock().now();
        let report = world.exporter.shutdown(2 * SECOND).await;
        assert!(world.network.clock().now().since(begin) <= 2 * SECOND + Duration::from_millis(100));
        assert_eq!((report.stats.queued, report.lost()), (3, 3));
    });
    // Run late, it finds its exporter gone.
    let report = world.network.block_on(future);
    assert_eq!(report.lost(), 3);
    assert_eq!(report.stats.queued, 0);
    assert_conserved(&pipeline);
}

#[test]
fn a_future_dropped_before_its_first_poll_refuses_everybody() {
    let world = world();
    let (pipeline, future) = world.exporter.pipeline(blocking(1)).expect("works");
    world.network.block_on(async {
        pipeline.send(spans(0, 1)).await.expect("room");
        let waiting = {
            let pipeline = pipeline.clone();
            world
                .network
                .spawn(async move { pipeline.send(spans(1, 1)).await })
        };
        let flush = world.network.spawn(pipeline.flush(SECOND));
        let shutdown = world.network.spawn(pipeline.shutdown(SECOND));
        world.network.clock().sleep(SECOND).await;
        drop(future);
        assert!(waiting.await.unwrap_err().is_closed());
        let _ = flush.await;
        assert_eq!(shutdown.await.stats.dropped_for(DropReason::Cancelled), 1);
        assert_conserved(&pipeline);
    });
}

/// Drops the pipeline's future after each possible number of polls, with producers, a flush and a shutdown that wait.
#[test]
fn a_future_dropped_at_any_poll_settles_everything() {
    let mut has_ended = false;
    for polls in 0..200 {
        let world = world();
        world
            .collector
            .answer(Answer::Ok.after(Duration::from_millis(30)));
        let (pipeline, future) = world.exporter.pipeline(blocking(4)).expect("works");
        let limited = world.network.spawn(PollTimes { future, left: polls });
        let sent = Arc::new(AtomicU64::new(0));
        let report: Report = world.network.block_on_checked(
            async {
                let producers: Vec<_> = (0..3)
                    .map(|number| {
                        let (pipeline, sent) = (pipeline.clone(), sent.clone());
                        world.network.spawn(async move {
                            for at in 0..4 {
                                let id = 10 * number + at;
                                let taken = match number {
                                    0 => pipeline.send(spans(id, 1)).await,
                                    _ => pipeline.spans_async(|batch| span(batch, id)).await,
                                };
                                sent.fetch_add(u64::from(taken.is_ok()), Ordering::Relaxed);
                            }
                        })
                    })
                    .collect();
                let flush = world.network.spawn(pipeline.flush(2 * SECOND));
                for producer in producers {
                    producer.await;
                }
                let _ = flush.await;
                pipeline.shutdown(2 * SECOND).await
            },
            || assert_conserved(&pipeline),
        );
        let total = pipeline.stats().total;
        assert_eq!(
            (total.queued, total.in_flight),
            (0, 0),
            "{polls} polls: {total:?}"
        );
        assert_eq!(total.accepted, sent.load(Ordering::Relaxed), "{polls} polls");
        assert_eq!(report.stats.accepted, total.accepted);
        let arrived = world.collector.spans().len() as u64;
        assert!(
            total.delivered <= arrived && arrived <= total.delivered + total.unknown,
            "{polls} polls"
        );
        has_ended = world.network.block_on(limited).is_some();
        if has_ended {
            assert_eq!(total.delivered, 12);
            break;
        }
        // The exporter is as good as before.
        world.collector.answer(Answer::Ok);
        let outcome = world.network.block_on(world.exporter.export(spans(90, 1)));
        assert_eq!(outcome.expect("delivered").delivered(), 1, "{polls} polls");
        let stats = world.exporter.stats();
        assert!(stats.is_conserved() && stats.in_flight == 0, "{stats:?}");
    }
    assert!(has_ended, "the loop reached the end of the pipeline's life");
}

/// Drops what handles give after each possible number of polls; the others go on.
#[test]
fn a_wait_dropped_at_any_poll_holds_nobody_up() {
    for polls in 0..6 {
        let world = world();
        world
            .collector
            .answer(Answer::Ok.after(Duration::from_millis(30)));
        let (pipeline, future) = world.exporter.pipeline(blocking(2)).expect("works");
        let running = world.network.spawn(future);
        world.network.block_on_checked(
            async {
                pipeline.send(spans(0, 2)).await.expect("room");
                {
                    let waits: [Pin<Box<dyn Future<Output = ()> + Send>>; 4] = [
                        Box::pin({
                            let send = pipeline.send(spans(2, 1));
                            async move { send.await.map_or((), |()| ()) }
                        }),
                        Box::pin({
                            let write = pipeline.spans_async(|batch| span(batch, 3));
                            async move { write.await.map_or((), |()| ()) }
                        }),
                        Box::pin({
                            let flush = pipeline.flush(SECOND);
                            async move { drop(flush.await) }
                        }),
                        Box::pin({
                            let behind = pipeline.send(spans(4, 1));
                            async move { behind.await.map_or((), |()| ()) }
                        }),
                    ];
                    let waits = waits.map(|future| world.network.spawn(PollTimes { future, left: polls }));
                    for wait in waits {
                        wait.await;
                    }
                }
                pipeline.send(spans(5, 1)).await.expect("its turn comes");
                assert_eq!(pipeline.shutdown(10 * SECOND).await.lost(), 0);
                running.await;
            },
            || assert_conserved(&pipeline),
        );
    }
}

#[test]
fn a_future_polled_after_its_end_gives_the_report_again() {
    let world = world();
    let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
    let mut future = pin!(future);
    drop(pipeline);
    let report = world.network.block_on(future.as_mut());
    let again = future.poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(again, Poll::Ready(report));
}

#[test]
fn a_future_kept_after_its_end_drives_nothing() {
    let world = world();
    world.collector.answer(Answer::Ok.after(SECOND));
    world.collector.answer_next(Answer::Ok.after(2 * SECOND));
    let (pipeline, mut future) = world.exporter.pipeline(config()).expect("works");
    let (end, ended) = futures_channel::oneshot::channel();
    let running = world.network.spawn(async move {
        let report = (&mut future).await;
        end.send(()).expect("somebody waits");
        // Kept, but never polled again.
        core::future::pending::<()>().await;
        drop((future, report));
    });
    world.network.block_on(async {
        let begin = world.network.clock().now();
        // On its way while the pipeline moves the connections, answered when that has ended.
        let direct = world.network.spawn(world.exporter.export(spans(3, 2)));
        pipeline.send(spans(0, 3)).await.expect("room");
        drop(pipeline);
        ended.await.expect("the pipeline ends");
        direct.await.expect("delivered");
        let took = world.network.clock().now().since(begin);
        assert!(took > 2 * SECOND && took < 3 * SECOND, "{took:?}");
    });
    drop(running);
}

#[test]
fn a_shutdown_wakes_pipelines_outside_its_locks() {
    /// An executor that looks at the account while it is woken.
    struct Looks(otlp_embed::Exporter<otlp_embed::testing::Network>, AtomicU64);
    impl std::task::Wake for Looks {
        fn wake(self: Arc<Self>) {
            assert!(self.0.stats().is_conserved());
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (told, tells) = std::sync::mpsc::channel();
    // A lock taken twice is a hang, which is to fail and not to last.
    std::thread::spawn(move || {
        let world = world();
        let (_pipeline, future) = world.exporter.pipeline(config()).expect("works");
        let looks = Arc::new(Looks(world.exporter.clone(), AtomicU64::new(0)));
        let waker = Waker::from(looks.clone());
        let mut future = pin!(future);
        assert!(
            future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        drop(world.exporter.shutdown(SECOND));
        told.send(looks.1.load(Ordering::SeqCst)).expect("somebody waits");
    });
    let woken = tells.recv_timeout(10 * SECOND);
    assert_eq!(woken, Ok(1));
}

#[test]
fn accounts_of_many_short_pipelines_add_up() {
    let world = world();
    for id in 0..20 {
        let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
        pipeline.try_send(spans(id, 1)).expect("room");
        drop(pipeline);
        world.network.block_on(future);
    }
    let stats = world.exporter.stats();
    assert_eq!((stats.accepted, stats.delivered), (20, 20));
}
