//! Code of the application's that panics: jobs, observers, sources of credentials, closures that write, sources of a run, wakers,
//! runtimes. Each costs what it was doing and nothing else.

use crate::batches::batch;
use crate::support::{MILLI, SECOND, World, blocking, config, in_time, panics, planned};
use futures_util::{StreamExt, stream};
use otlp_embed::endpoint::Target;
use otlp_embed::pipeline::{
    ActorConfig, ExporterActor, Pipeline, SchedulerConfig, SmartScheduler, StreamingConfig,
    StreamingOtlpExporter,
};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::rt::{Resolve, Runtime};
use otlp_embed::testing::collector::Accepting;
use otlp_embed::testing::{Answer, Network};
use otlp_embed::time::Instant;
use otlp_embed::{Config, DropReason, Request};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// In an observer: it is caught, and the next event is told all the same.
#[test]
fn in_an_observer() {
    in_time(|| {
        let told = Arc::new(AtomicUsize::new(0));
        let count = told.clone();
        let world = World::with(Config::new().with_observer(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            planned()
        }));
        world.collector.set_accepting(Accepting::Refuse);
        let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
        let future = world.network.spawn(future);
        world.network.block_on(async {
            pipeline.send(batch(0, 3)).await.expect("room");
            world.network.clock().sleep(90 * SECOND).await;
            world.collector.set_accepting(Accepting::Serve);
            drop(pipeline);
            let report = future.await;
            assert_eq!((report.stats.delivered, report.lost()), (3, 0), "{report}");
        });
        assert!(told.load(Ordering::SeqCst) > 1, "it is told on");
    });
}

/// An observer, a source of credentials and a waker are called outside every lock: they may ask and write themselves.
#[test]
fn what_is_called_may_call_back() {
    in_time(|| {
        let pipelines = Arc::new(Mutex::new(None::<Pipeline>));
        let call_back = {
            let pipelines = pipelines.clone();
            move || {
                let pipeline = pipelines.lock().unwrap().clone();
                let Some(pipeline) = pipeline else { return 0 };
                assert!(pipeline.stats().is_conserved());
                let _ = pipeline.try_spans(|batch| batch.span([1; 16], [1; 8], "observed").end());
                drop(pipeline.flush(SECOND));
                1
            }
        };
        let (asked, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (on_ask, on_tell, ask_back) = (asked.clone(), told.clone(), call_back.clone());
        let world = World::with(
            Config::new()
                .with_observer(move |_| {
                    on_tell.fetch_add(call_back(), Ordering::SeqCst);
                })
                .with_credentials(move || {
                    on_ask.fetch_add(ask_back(), Ordering::SeqCst);
                    String::from("a token")
                }),
        );
        world.collector.set_accepting(Accepting::Refuse);
        let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
        *pipelines.lock().unwrap() = Some(pipeline.clone());
        let future = world.network.spawn(future);
        world.network.block_on(async {
            pipeline.send(batch(0, 3)).await.expect("room");
            world.network.clock().sleep(30 * SECOND).await;
            world.collector.set_accepting(Accepting::Serve);
            world.network.clock().sleep(60 * SECOND).await;
            pipelines.lock().unwrap().take();
            let report = pipeline.shutdown(10 * SECOND).await;
            assert!(report.stats.delivered > 3, "{report}");
            assert_eq!(report.lost(), 0, "{report}");
            future.await;
        });
        assert!(asked.load(Ordering::SeqCst) > 0 && told.load(Ordering::SeqCst) > 0);
    });
}

/// A waker may look at everything from within its wake: no lock is held across it.
#[test]
fn a_waker_may_look_at_what_woke_it() {
    struct Looks(World, Pipeline, AtomicUsize);
    impl Wake for Looks {
        fn wake(self: Arc<Self>) {
            assert!(self.0.exporter.stats().is_conserved());
            assert!(self.1.stats().is_conserved());
            self.2.fetch_add(1, Ordering::SeqCst);
        }
    }
    in_time(|| {
        let world = World::new();
        world.collector.answer(Answer::Never);
        let network = world.network.clone();
        let (pipeline, mut future) = world.exporter.pipeline(blocking(1)).expect("works");
        let exporter = world.exporter.clone();
        let looks = Arc::new(Looks(world, pipeline.clone(), AtomicUsize::new(0)));
        let waker = Waker::from(looks.clone());
        let mut cx = Context::from_waker(&waker);
        let mut woken = 0;
        let mut has_woken = |what: &str| {
            let now = looks.2.load(Ordering::SeqCst);
            assert!(now > woken, "{what} wakes");
            woken = now;
        };
        assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
        pipeline.try_send(batch(0, 1)).expect("room");
        has_woken("a request");
        let mut waits = Box::pin(pipeline.send(batch(1, 1)));
        assert!(waits.as_mut().poll(&mut cx).is_pending());
        assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
        let mut flush = pipeline.flush(60 * SECOND);
        has_woken("a flush");
        assert!(Pin::new(&mut flush).poll(&mut cx).is_pending());
        assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
        // Its pipelines are asked to end first.
        let mut end = exporter.shutdown(SECOND);
        assert!(Pin::new(&mut end).poll(&mut cx).is_pending());
        has_woken("a shutdown of the exporter");
        assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
        assert!(matches!(waits.as_mut().poll(&mut cx), Poll::Ready(Err(refused)) if refused.is_closed()));
        network.run_for(2 * SECOND);
        has_woken("the end of its time");
        assert!(Pin::new(&mut future).poll(&mut cx).is_ready());
        has_woken("the end of the pipeline");
        assert!(Pin::new(&mut flush).poll(&mut cx).is_ready());
    });
}

/// A waker that panics keeps nobody else from being woken, and nothing from being settled.
#[test]
fn in_a_waker() {
    struct Bad;
    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            planned()
        }
    }
    in_time(|| {
        let world = World::new();
        let bad = Waker::from(Arc::new(Bad));
        let mut cx = Context::from_waker(&bad);
        let (pipeline, mut future) = world.exporter.pipeline(blocking(1)).expect("works");
        pipeline.try_send(batch(0, 1)).expect("room");
        let mut send = Box::pin(pipeline.send(batch(1, 1)));
        assert!(send.as_mut().poll(&mut cx).is_pending());
        let mut flush = pipeline.flush(SECOND);
        assert!(Pin::new(&mut flush).poll(&mut cx).is_pending());
        let mut end = pipeline.shutdown(60 * SECOND);
        assert!(Pin::new(&mut end).poll(&mut cx).is_pending());
        // Once with the bad waker, and then with one that works.
        assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
        let report = world.network.block_on(&mut future);
        assert_eq!((report.stats.delivered, report.lost()), (1, 0), "{report}");
        assert!(matches!(send.as_mut().poll(&mut cx), Poll::Ready(Err(refused)) if refused.is_closed()));
        assert!(matches!(Pin::new(&mut flush).poll(&mut cx), Poll::Ready(Ok(_))));
        assert_eq!(Pin::new(&mut end).poll(&mut cx), Poll::Ready(report));

        let (handle, actor) = ExporterActor::new(&world.exporter, ActorConfig::new()).expect("works");
        let mut answer = handle.export(batch(2, 1));
        let mut flush = handle.flush();
        let mut end = handle.shutdown(60 * SECOND);
        assert!(
            Pin::new(&mut answer).poll(&mut cx).is_ready(),
            "the mailbox is closed"
        );
        assert!(Pin::new(&mut flush).poll(&mut cx).is_ready());
        assert!(Pin::new(&mut end).poll(&mut cx).is_pending());
        world.network.block_on(actor);
        assert!(Pin::new(&mut end).poll(&mut cx).is_ready());
    });
}

/// In a source of credentials: the batch is lost with the words, those after it are not.
#[test]
fn in_a_source_of_credentials() {
    in_time(|| {
        let is_bad = Arc::new(AtomicBool::new(true));
        let seen = is_bad.clone();
        let world = World::with(
            Config::new().with_credentials(move || match seen.load(Ordering::SeqCst) {
                true => planned(),
                false => String::from("a token"),
            }),
        );
        let (pipeline, future) = world.exporter.pipeline(config()).expect("works");
        let future = world.network.spawn(future);
        world.network.block_on_checked(
            async {
                pipeline.send(batch(0, 3)).await.expect("room");
                let flushed = pipeline.flush(60 * SECOND).await.expect("not ended");
                assert_eq!((flushed.counts.dropped, flushed.pending), (3, 0));
                is_bad.store(false, Ordering::SeqCst);
                pipeline.send(batch(10, 4)).await.expect("room");
                drop(pipeline);
                let report = future.await;
                assert_eq!((report.stats.delivered, report.lost()), (4, 3), "{report}");
            },
            || assert!(world.exporter.stats().is_conserved()),
        );
        // And over what stands beside the pipeline.
        is_bad.store(true, Ordering::SeqCst);
        let (scheduler, driver) = SmartScheduler::new(SchedulerConfig::new()).expect("works");
        let job = scheduler.submit_export(&world.exporter, batch(20, 2));
        let streaming = StreamingOtlpExporter::new(&world.exporter, StreamingConfig::new()).expect("works");
        drop(scheduler);
        world.network.block_on(driver);
        let error = world
            .network
            .block_on(job)
            .expect("no panic of the job")
            .unwrap_err();
        assert!(error.is_credentials(), "{error}");
        let stats = world
            .network
            .block_on(streaming.run(stream::iter([batch(30, 5)])));
        assert_eq!((stats.total_failed, stats.total_exported), (5, 0), "{stats}");
        is_bad.store(false, Ordering::SeqCst);
        world.check_usable("after the panics");
    });
}

/// In a closure that writes, from threads and tasks, alone and in line: the item is lost, its room is not.
#[test]
fn in_a_closure_that_writes() {
    in_time(|| {
        let world = World::new();
        let (pipeline, future) = world.exporter.pipeline(blocking(2)).expect("works");
        let write = |pipeline: &Pipeline, id: u8| {
            pipeline.try_spans(|batch| batch.span([id; 16], [id; 8], "kept").end())
        };
        for id in 1..=2 {
            assert!(panics(|| pipeline.spans(|_| planned())));
            assert!(panics(|| pipeline.try_logs(|_| planned())));
            assert!(panics(|| pipeline.metrics(|_| planned())));
            // What was finished before the panic is kept, what it tore is not.
            assert!(panics(|| pipeline.spans(|batch| {
                batch.span([id; 16], [id; 8], "kept").end();
                let mut torn = batch.span([9; 16], [9; 8], "torn");
                torn.event("in the middle of it", 1, |_| planned());
            })));
        }
        let total = pipeline.stats().total;
        assert_eq!((total.accepted, total.queued), (2, 2));
        // There is no room: these stand in line, and the first panics when its turn comes.
        let bad = pipeline.clone();
        let mut first = Box::pin(async move { bad.spans_async(|_| planned()).await });
        let mut second = Box::pin(pipeline.spans_async(|batch| batch.span([5; 16], [5; 8], "kept").end()));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        let future = world.network.spawn(future);
        world.network.run_for(SECOND);
        assert!(panics(|| first.as_mut().poll(&mut cx)));
        drop(first);
        assert!(matches!(second.as_mut().poll(&mut cx), Poll::Ready(Ok(()))));
        write(&pipeline, 6).expect("room");
        drop(second);
        drop(pipeline);
        let report = world.network.block_on(future);
        // What was torn is counted with the batch that it was to be in.
        assert_eq!((report.stats.delivered, report.lost()), (4, 2), "{report}");
        assert!(world.collector.spans().iter().all(|span| span.name == "kept"));
    });
}

/// In the source of a run, before its first item, between items, while exports are in flight, and in its drop.
#[test]
fn in_a_source_of_a_run() {
    struct DropsBadly;
    impl Drop for DropsBadly {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                planned();
            }
        }
    }
    in_time(|| {
        for items in 0..4_u64 {
            for is_late in [false, true] {
                let world = World::new();
                world.collector.answer(Answer::Ok.after(30 * MILLI));
                let config = StreamingConfig::new().with_concurrency_max(2);
                let streaming = StreamingOtlpExporter::new(&world.exporter, config).expect("works");
                let handle = streaming.handle();
                let late = DropsBadly;
                let ends = stream::poll_fn(move |_| -> Poll<Option<Request>> {
                    let _dropped_with_it = &late;
                    match is_late {
                        true => Poll::Ready(None),
                        false => planned(),
                    }
                });
                let source = stream::iter((0..items).map(|id| batch(id, 1))).chain(ends);
                let mut run = Box::pin(streaming.run(source));
                assert!(panics(|| world.network.block_on(run.as_mut())));
                let stats = handle.stats();
                assert_eq!((stats.total_exported, stats.total_failed), (items, 0), "{stats}");
                assert!(handle.is_finished());
                // Polled again, it tells the same.
                assert_eq!(world.network.block_on(run.as_mut()), stats);
                world.check_usable("after the panic");
            }
        }
    });
}

/// In a job, in its drop and in what it panics with: it costs the job alone.
#[test]
fn in_a_job() {
    /// Panics where it is dropped, once it is told to.
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            planned()
        }
    }
    in_time(|| {
        let (scheduler, driver) =
            SmartScheduler::new(SchedulerConfig::new().with_concurrency_max(1)).expect("works");
        let mut driver = pin!(driver);
        let mut cx = Context::from_waker(Waker::noop());
        let in_poll = scheduler.submit(async { planned() });
        let in_drop = scheduler.submit(async {
            let _late = Late;
        });
        let in_payload = scheduler.submit(async { std::panic::panic_any(Late) });
        let in_output = scheduler.submit(async { Late });
        drop(in_output);
        let cancelled = scheduler.submit(async {
            let _late = Late;
            std::future::pending::<()>().await;
        });
        let well = scheduler.submit(async { 7 });
        assert!(driver.as_mut().poll(&mut cx).is_pending());
        cancelled.cancel();
        assert!(driver.as_mut().poll(&mut cx).is_pending());
        assert_eq!(futures_executor::block_on(well).ok(), Some(7));
        assert!(futures_executor::block_on(in_poll).is_err());
        assert!(futures_executor::block_on(in_drop).is_err());
        assert!(futures_executor::block_on(in_payload).is_err());
        assert!(futures_executor::block_on(cancelled).is_err());
        let stats = futures_executor::block_on(scheduler.wait_all());
        assert_eq!(
            (stats.submitted, stats.waiting, stats.running),
            (6, 0, 0),
            "{stats}"
        );
        assert_eq!((stats.completed, stats.panicked), (1, 5), "{stats}");
        // One at a time: its place is free again.
        let after = scheduler.submit(async { 8 });
        assert!(driver.as_mut().poll(&mut cx).is_pending());
        assert_eq!(futures_executor::block_on(after).ok(), Some(8));
        drop(scheduler);
        assert!(driver.as_mut().poll(&mut cx).is_ready());
    });
}

/// A runtime whose clock panics when it is told to, once.
#[derive(Clone)]
struct Faulty {
    inner: Network,
    must_panic: Arc<AtomicBool>,
}

impl Runtime for Faulty {
    type Io = <Network as Runtime>::Io;
    type Timer = <Network as Runtime>::Timer;
    type Connecting = <Network as Runtime>::Connecting;
    type Resolving = <Network as Runtime>::Resolving;

    fn now(&self) -> Instant {
        if self.must_panic.swap(false, Ordering::SeqCst) {
            planned();
        }
        self.inner.now()
    }

    fn connect(&self, target: &Target) -> Self::Connecting {
        self.inner.connect(target)
    }

    fn resolve(&self, query: Resolve) -> Self::Resolving {
        self.inner.resolve(query)
    }

    fn timer(&self) -> Self::Timer {
        self.inner.timer()
    }
}

/// In the runtime: what it was under has ended, also where nobody drops what is left of it.
#[test]
fn in_the_runtime() {
    in_time(|| {
        let network = Network::new(3);
        let collector = network.collector();
        collector.answer(Answer::Never);
        let must_panic = Arc::new(AtomicBool::new(false));
        let exporter = Config::new()
            .with_endpoint(collector.endpoint())
            .with_retry_policy(RetryPolicy::never())
            .build(Faulty {
                inner: network.clone(),
                must_panic: must_panic.clone(),
            })
            .expect("works");
        let mut cx = Context::from_waker(Waker::noop());

        let (pipeline, mut future) = exporter.pipeline(blocking(1)).expect("works");
        pipeline.try_send(batch(0, 1)).expect("room");
        let mut send = Box::pin(pipeline.send(batch(1, 1)));
        assert!(send.as_mut().poll(&mut cx).is_pending());
        let mut flush = pipeline.flush(SECOND);
        must_panic.store(true, Ordering::SeqCst);
        assert!(panics(|| Pin::new(&mut future).poll(&mut cx)));
        assert!(matches!(send.as_mut().poll(&mut cx), Poll::Ready(Err(refused)) if refused.is_closed()));
        assert!(matches!(Pin::new(&mut flush).poll(&mut cx), Poll::Ready(Err(error)) if error.is_shutdown()));
        let report = network.block_on(pipeline.shutdown(SECOND));
        assert_eq!(report.stats.dropped_for(DropReason::Cancelled), 1, "{report}");
        assert_eq!(Pin::new(&mut future).poll(&mut cx), Poll::Ready(report));

        let streaming = StreamingOtlpExporter::new(&exporter, StreamingConfig::new()).expect("works");
        let handle = streaming.handle();
        let mut run = Box::pin(streaming.run(stream::iter([batch(2, 4)]).chain(stream::pending())));
        assert!(run.as_mut().poll(&mut cx).is_pending());
        must_panic.store(true, Ordering::SeqCst);
        assert!(panics(|| run.as_mut().poll(&mut cx)));
        let stats = handle.stats();
        assert_eq!((stats.batches_in_flight, stats.total_failed), (0, 4), "{stats}");
        assert!(handle.is_finished());
        assert_eq!(run.as_mut().poll(&mut cx), Poll::Ready(stats));

        let stats = exporter.stats();
        assert!(stats.is_conserved() && stats.in_flight == 0, "{stats:?}");
        collector.answer(Answer::Ok);
        let outcome = network.block_on(exporter.export(batch(10, 1)));
        assert_eq!(outcome.expect("delivered").delivered(), 1);
    });
}
