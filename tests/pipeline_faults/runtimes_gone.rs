//! Runtimes and threads that go first: tasks are dropped, timers and sockets fail, and whoever waits elsewhere is told.

use crate::batches::batch;
use crate::executor;
use crate::sources::Source;
use crate::support::{LONG, blocking, in_time, panics, planned};
use futures_util::StreamExt;
use otlp_embed::pipeline::{
    ActorConfig, ExporterActor, ExporterHandle, JobHandle, Pipeline, SchedulerConfig, SmartScheduler,
    StreamHandle, StreamingConfig, StreamingOtlpExporter,
};
use otlp_embed::rt::{Blocking, Runtime, Smol, Tokio};
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Config, Exporter, Outcome, Protocol, Request};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

type Task = Pin<Box<dyn Future<Output = ()>>>;
type SendTask = Pin<Box<dyn Future<Output = ()> + Send>>;
type Job = JobHandle<Result<Outcome, otlp_embed::Error>>;

fn exporter<R: Runtime>(runtime: R, collector: &Collector) -> Exporter<R> {
    Config::new()
        .with_protocol(Protocol::Grpc)
        .with_timeout(LONG)
        .with_endpoint(collector.endpoint())
        .build(runtime)
        .expect("it works")
}

fn silent() -> Collector {
    let collector = Collector::start().expect("a collector");
    collector.answer(Answer::Never);
    collector
}

/// What threads hold of tasks that run elsewhere, each with one batch that gets no answer.
struct Ends {
    pipeline: Pipeline,
    actor: ExporterHandle,
    run: StreamHandle,
    source: Source<Request>,
}

impl Ends {
    /// The three tasks, and what is held of them.
    fn new<R: Runtime + 'static>(exporter: &Exporter<R>) -> (Self, [Task; 3]) {
        let (ends, future, actor, run) = Self::parts(exporter);
        let future = async {
            future.await;
        };
        let actor = async {
            actor.await;
        };
        let run = async {
            run.await;
        };
        (ends, [Box::pin(future), Box::pin(actor), Box::pin(run)])
    }

    #[allow(clippy::type_complexity, reason = "each is a task of its own")]
    fn parts<R: Runtime>(
        exporter: &Exporter<R>,
    ) -> (
        Self,
        otlp_embed::pipeline::PipelineFuture<R>,
        ExporterActor<R>,
        otlp_embed::pipeline::StreamingRun<R, crate::sources::Tap<Request>>,
    ) {
        let (pipeline, future) = exporter.pipeline(blocking(1)).expect("works");
        let (actor, acting) = ExporterActor::new(exporter, ActorConfig::new()).expect("works");
        let streaming = StreamingOtlpExporter::new(exporter, StreamingConfig::new()).expect("works");
        let (run, source) = (streaming.handle(), Source::of([batch(20, 1)]));
        pipeline.try_send(batch(0, 1)).expect("room");
        drop(actor.try_export(batch(10, 1)).expect("room"));
        let running = streaming.run(source.stream());
        let ends = Self {
            pipeline,
            actor,
            run,
            source,
        };
        (ends, future, acting, running)
    }

    /// Whatever ran the tasks is gone, or goes, and what it had is told.
    fn check(&self) {
        let sent = self.pipeline.send_blocking(batch(1, 1), LONG);
        assert!(sent.unwrap_err().is_closed());
        assert!(self.pipeline.spans(|_| ()).unwrap_err().is_closed());
        assert!(self.pipeline.flush_blocking(LONG).unwrap_err().is_shutdown());
        let report = self.pipeline.shutdown_blocking(LONG);
        assert_eq!((report.stats.accepted, report.lost()), (1, 1), "{report}");
        assert!(report.stats.is_conserved() && report.stats.queued + report.stats.in_flight == 0);
        let error = self.actor.export_blocking(batch(11, 1), LONG).unwrap_err();
        assert!(error.is_shutdown(), "{error}");
        let stats = futures_executor::block_on(self.actor.shutdown(LONG));
        assert_eq!(
            (stats.items_failed, stats.in_flight, stats.queued),
            (1, 0, 0),
            "{stats}"
        );
        assert!(self.run.is_finished() && self.source.is_dropped());
        let stats = self.run.stats();
        // What it had not taken stays with its source.
        let taken = self.source.taken() as u64;
        assert_eq!((stats.total_failed, stats.pending), (taken, 0), "{stats}");
    }
}

/// A tokio runtime is dropped with its tasks, while a thread waits for room, and another for a job.
fn a_tokio_runtime_goes(runtime: tokio::runtime::Runtime) {
    let collector = silent();
    let tokio = Tokio::with_handle(runtime.handle().clone()).expect("it has timers");
    let exporter = exporter(tokio, &collector);
    let (ends, future, actor, run) = Ends::parts(&exporter);
    let (scheduler, driver) = SmartScheduler::new(SchedulerConfig::new()).expect("works");
    let job: Job = scheduler.submit_export(&exporter, batch(30, 1));
    runtime.spawn(future);
    runtime.spawn(actor);
    runtime.spawn(run);
    runtime.spawn(driver);
    let waiting = {
        let pipeline = ends.pipeline.clone();
        std::thread::spawn(move || pipeline.spans(|_| ()).unwrap_err().is_closed())
    };
    let asking = std::thread::spawn(move || futures_executor::block_on(job).is_err());
    // On the current thread nothing has run until here.
    runtime.block_on(async {
        let collector = Arc::new(collector);
        let inbox = collector.clone();
        let arrived = tokio::task::spawn_blocking(move || inbox.wait_for_requests(4, LONG).map(drop));
        arrived.await.expect("no panic").expect("all were sent");
    });
    drop(runtime);
    ends.check();
    assert!(waiting.join().expect("no panic"));
    assert!(asking.join().expect("no panic"));
    let stats = futures_executor::block_on(scheduler.wait_all());
    assert_eq!((stats.abandoned, stats.items_failed), (1, 1), "{stats}");
    let stats = exporter.stats();
    assert!(stats.is_conserved() && stats.in_flight == 0, "{stats:?}");
    let error = futures_executor::block_on(exporter.export(batch(90, 1))).unwrap_err();
    assert!(error.counts().total() == 1, "an error and no hang: {error}");
}

#[test]
fn of_tokio_on_one_thread() {
    in_time(|| {
        a_tokio_runtime_goes(
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime"),
        );
    });
}

#[test]
fn of_tokio_on_many_threads() {
    in_time(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        a_tokio_runtime_goes(builder.worker_threads(2).enable_all().build().expect("a runtime"));
    });
}

/// Its futures are polled elsewhere: they find its timers and sockets gone.
#[test]
fn of_tokio_under_futures_polled_elsewhere() {
    in_time(|| {
        let collector = silent();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let tokio = Tokio::with_handle(runtime.handle().clone()).expect("it has timers");
        let exporter = exporter(tokio, &collector);
        let (ends, future, actor, run) = Ends::parts(&exporter);
        let tasks: [SendTask; 3] = [
            Box::pin(async move { drop(future.await) }),
            Box::pin(async move {
                actor.await;
            }),
            Box::pin(async move {
                run.await;
            }),
        ];
        let threads = tasks.map(|task| std::thread::spawn(|| futures_executor::block_on(task)));
        collector.wait_for_requests(3, LONG).expect("all were sent");
        drop(runtime);
        let [pipeline, actor, run] = threads;
        pipeline.join().expect("no panic");
        // An actor lives on without its runtime: each export tells why it cannot be done.
        ends.actor
            .export_blocking(batch(12, 1), LONG)
            .expect_err("no sockets");
        drop(ends.actor.shutdown(LONG));
        actor.join().expect("no panic");
        run.join().expect("no panic");
        assert!(ends.pipeline.spans(|_| ()).unwrap_err().is_closed());
        let report = ends.pipeline.shutdown_blocking(LONG);
        assert_eq!(report.lost(), 1, "{report}");
        assert_eq!(ends.run.stats().total_failed, 1);
        assert!(exporter.stats().is_conserved());
    });
}

/// An executor of smol's goes with its tasks; the reactor lives on.
#[test]
fn of_smol() {
    in_time(|| {
        let collector = Collector::start().expect("a collector");
        let (tell, mut told) = futures_channel::mpsc::unbounded();
        collector.answer_with(move |_| {
            let _ = tell.unbounded_send(());
            Answer::Never
        });
        let exporter = exporter(Smol::new(), &collector);
        let (ends, tasks) = Ends::new(&exporter);
        let executor = smol::LocalExecutor::new();
        for task in tasks {
            executor.spawn(task).detach();
        }
        smol::block_on(executor.run(async {
            for _ in 0..3 {
                told.next().await.expect("the collector lives");
            }
        }));
        drop(executor);
        ends.check();
        collector.answer(Answer::Ok);
        let outcome = smol::block_on(exporter.export(batch(90, 1))).expect("delivered");
        assert_eq!(outcome.delivered(), 1);
        assert!(exporter.stats().is_conserved());
    });
}

/// A loop written by hand goes with its tasks.
#[test]
fn written_by_hand() {
    in_time(|| {
        let collector = Arc::new(silent());
        let handle = executor::Handle::new().expect("a loop");
        let exporter = exporter(handle.clone(), &collector);
        let (ends, mut tasks) = Ends::new(&exporter);
        let inbox = collector.clone();
        handle.block_on(std::future::poll_fn(move |cx| {
            for task in &mut tasks {
                assert!(task.as_mut().poll(cx).is_pending());
            }
            // Woken once more for each that arrives.
            if inbox.counters().requests < 3 {
                cx.waker().wake_by_ref();
                return std::task::Poll::Pending;
            }
            std::task::Poll::Ready(())
        }));
        ends.check();
        assert!(exporter.stats().is_conserved());
    });
}

/// A thread that runs a pipeline ends in a panic; those of a run and an actor likewise.
#[test]
fn a_thread_of_a_blocking_runtime() {
    in_time(|| {
        let collector = silent();
        let exporter = exporter(Blocking::new().expect("sockets"), &collector);
        let (ends, future, actor, run) = Ends::parts(&exporter);
        let tasks: [SendTask; 3] = [
            Box::pin(async move { drop(future.await) }),
            Box::pin(async move {
                actor.await;
            }),
            Box::pin(async move {
                run.await;
            }),
        ];
        for task in tasks {
            let dying = std::thread::spawn(move || {
                let _task = task;
                planned()
            });
            dying.join().expect_err("it panics");
        }
        ends.check();
        assert!(exporter.stats().is_conserved());
    });
}

/// A thread that polls a pipeline blocks in it; another ends it, and what it had is told.
#[test]
fn a_blocking_runtime_is_shut_down_from_elsewhere() {
    in_time(|| {
        let collector = silent();
        let exporter = exporter(Blocking::new().expect("sockets"), &collector);
        let (pipeline, future) = exporter.pipeline(blocking(1)).expect("works");
        let thread = future.run_on_thread().expect("a thread");
        pipeline
            .spans(|batch| batch.span([1; 16], [1; 8], "work").end())
            .expect("room");
        let waiting = {
            let pipeline = pipeline.clone();
            std::thread::spawn(move || pipeline.spans(|_| ()).unwrap_err().is_closed())
        };
        collector.wait_for_requests(1, LONG).expect("sent");
        let late = {
            let pipeline = pipeline.clone();
            std::thread::spawn(move || pipeline.shutdown_blocking(LONG))
        };
        let report = pipeline.shutdown_blocking(std::time::Duration::from_millis(20));
        assert!(report.stats.is_conserved(), "{report}");
        let told = thread.join().expect("no panic");
        assert_eq!((told.stats.unknown, told.lost()), (1, 1), "{told}");
        assert_eq!(late.join().expect("no panic"), told);
        assert!(waiting.join().expect("no panic"));
        // The exporter is as good as before.
        collector.answer(Answer::Ok);
        let outcome = futures_executor::block_on(exporter.export(batch(90, 1)));
        assert_eq!(outcome.expect("delivered").delivered(), 1);
    });
}

/// The first poll of a pipeline on a blocking runtime is dropped with it: there is no second to drop it at.
#[test]
fn a_blocking_runtime_that_never_ran() {
    in_time(|| {
        let collector = silent();
        let exporter = exporter(Blocking::new().expect("sockets"), &collector);
        let (ends, tasks) = Ends::new(&exporter);
        drop(tasks);
        ends.check();
        // Nothing was begun that would have to be ended.
        assert_eq!(collector.counters().requests, 0);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(!panics(|| Box::pin(exporter.shutdown(LONG))
            .as_mut()
            .poll(&mut cx)));
    });
}
