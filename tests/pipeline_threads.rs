//! Pipelines on threads and on real runtimes, against a collector on a socket.

use core::future::Future;
use core::task::{Context, Poll};
use otlp_embed::pipeline::{
    AdaptiveBatcher, Endpoints, Overflow, Pipeline, PipelineConfig, PipelineFuture, PipelineThread,
    QueueConfig,
};
use otlp_embed::rt::{Blocking, Runtime, Smol, Tokio};
use otlp_embed::testing::collector::Accepting;
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Config, DropReason, Exporter, Protocol, Resource, TraceBatch};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::task::Wake;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(60);

fn span(batch: &mut TraceBatch, id: u64) {
    let mut trace_id = [7; 16];
    trace_id[..8].copy_from_slice(&(id + 1).to_be_bytes());
    batch
        .span(trace_id, (id + 1).to_be_bytes(), "work")
        .times(1..2)
        .end();
}

fn config(overflow: Overflow) -> PipelineConfig {
    PipelineConfig::new()
        .with_resource(&Resource::new())
        .with_queue(QueueConfig::new().with_items_max(1_000).with_overflow(overflow))
}

fn exporter<R: Runtime>(collector: &Collector, runtime: R) -> Exporter<R> {
    Config::new()
        .with_endpoint(collector.endpoint())
        .with_protocol(Protocol::Grpc)
        .build(runtime)
        .expect("a config that can work")
}

/// Fails the test when `work` takes longer than any test should.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    let thread = std::thread::spawn(move || drop(sender.send(work())));
    match receiver.recv_timeout(LONG) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().expect_err("it sent nothing"));
        }
    }
}

/// Eight threads write under `Block` while the pipeline runs on a thread of its own.
fn flood<R: Runtime>(pipeline: &Pipeline, future: PipelineFuture<R>, collector: &Collector)
where
    PipelineFuture<R>: Send + 'static,
{
    const EACH: u64 = 2_000;
    let thread = future.run_on_thread().expect("a thread");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let pipeline = pipeline.clone();
            scope.spawn(move || {
                for at in 0..EACH {
                    pipeline
                        .spans(|batch| span(batch, number * EACH + at))
                        .expect("it runs");
                }
            });
        }
    });
    let flushed = pipeline.flush_blocking(LONG).expect("it runs");
    assert_eq!(flushed.pending, 0);
    assert_eq!(collector.counters().spans, 8 * EACH);
    let report = pipeline.shutdown_blocking(LONG);
    assert_eq!((report.stats.delivered, report.lost()), (8 * EACH, 0));
    assert_eq!(thread.join().expect("no panic"), report);
}

#[test]
fn threads_share_a_pipeline_on_a_blocking_runtime() {
    in_time(|| {
        let collector = Collector::start().expect("a collector");
        let exporter = exporter(&collector, Blocking::new().expect("sockets"));
        let (pipeline, future) = exporter.pipeline(config(Overflow::Block)).expect("works");
        flood(&pipeline, future, &collector);
    });
}

#[test]
fn threads_share_a_pipeline_on_smol() {
    in_time(|| {
        let collector = Collector::start().expect("a collector");
        let exporter = exporter(&collector, Smol::new());
        let (pipeline, future) = exporter.pipeline(config(Overflow::Block)).expect("works");
        flood(&pipeline, future, &collector);
    });
}

#[test]
fn threads_share_a_pipeline_whose_sockets_are_tokios() {
    in_time(|| {
        let collector = Collector::start().expect("a collector");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let tokio = Tokio::with_handle(runtime.handle().clone()).expect("it has timers");
        let exporter = exporter(&collector, tokio);
        let (pipeline, future) = exporter.pipeline(config(Overflow::Block)).expect("works");
        flood(&pipeline, future, &collector);
    });
}

#[test]
fn tasks_of_tokio_write_and_wait() {
    in_time(|| {
        let collector = Collector::start().expect("a collector");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let exporter = exporter(&collector, Tokio::current().expect("inside a runtime"));
            let (pipeline, future) = exporter.pipeline(config(Overflow::Block)).expect("works");
            let running = tokio::spawn(future);
            let producers: Vec<_> = (0..4)
                .map(|number| {
                    let pipeline = pipeline.clone();
                    tokio::spawn(async move {
                        for at in 0..1_000 {
                            pipeline
                                .spans_async(|batch| span(batch, number * 1_000 + at))
                                .await
                                .expect("it runs");
                        }
                    })
                })
                .collect();
            for producer in producers {
                producer.await.expect("no panic");
            }
            assert!(pipeline.flush(LONG).await.expect("it runs").is_delivered());
            let report = pipeline.shutdown(LONG).await;
            assert_eq!((report.stats.delivered, report.lost()), (4_000, 0));
            assert_eq!(running.await.expect("no panic"), report);
        });
        assert_eq!(collector.counters().spans, 4_000);
    });
}

#[test]
fn a_runtime_that_goes_first_ends_the_pipeline() {
    in_time(|| {
        let collector = Collector::start().expect("a collector");
        collector.answer(Answer::Never);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let tokio = Tokio::with_handle(runtime.handle().clone()).expect("it has timers");
        let exporter = exporter(&collector, tokio);
        let (pipeline, future) = exporter.pipeline(config(Overflow::Block)).expect("works");
        let thread = future.run_on_thread().expect("a thread");
        pipeline.spans(|batch| span(batch, 0)).expect("room");
        collector.wait_for_requests(1, LONG).expect("sent");
        drop(runtime);
        let report = thread.join().expect("no panic");
        assert_eq!(report.lost(), 1);
        assert!(pipeline.spans(|batch| span(batch, 1)).unwrap_err().is_closed());
        assert_eq!(pipeline.shutdown_blocking(SECOND), report);
    });
}

#[test]
fn a_thread_that_dies_is_an_error_and_no_hang() {
    /// A waker of the application's that panics where it is cloned ends the pipeline's future in the middle of a poll.
    struct Bad(PipelineFuture<Blocking>);
    impl Future for Bad {
        type Output = ();
        fn poll(mut self: core::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            let _future = &mut self.0;
            panic!("the thread of the pipeline dies");
        }
    }
    in_time(|| {
        let collector = Collector::start().expect("a collector");
        let exporter = exporter(&collector, Blocking::new().expect("sockets"));
        let (pipeline, future) = exporter
            .pipeline(
                config(Overflow::Block).with_queue(
                    QueueConfig::new()
                        .with_items_max(1)
                        .with_overflow(Overflow::Block),
                ),
            )
            .expect("works");
        pipeline.spans(|batch| span(batch, 0)).expect("room");
        let (begun, has_begun) = channel();
        let waiting = {
            let pipeline = pipeline.clone();
            std::thread::spawn(move || {
                begun.send(()).expect("received");
                pipeline.spans(|batch| span(batch, 1))
            })
        };
        has_begun.recv().expect("sent");
        let dying = std::thread::spawn(move || futures_executor::block_on(Bad(future)));
        dying.join().expect_err("it panics");
        assert!(waiting.join().expect("no panic").unwrap_err().is_closed());
        assert!(pipeline.flush_blocking(LONG).unwrap_err().is_shutdown());
        let report = pipeline.shutdown_blocking(LONG);
        assert_eq!(report.stats.dropped_for(DropReason::Cancelled), 1);
    });
}

#[test]
fn threads_wait_no_longer_than_they_may_though_nothing_runs() {
    in_time(|| {
        let collector = Collector::start().expect("a collector");
        let exporter = exporter(&collector, Blocking::new().expect("sockets"));
        let config = config(Overflow::Block).with_queue(
            QueueConfig::new()
                .with_items_max(1)
                .with_overflow(Overflow::Block),
        );
        let (pipeline, _future) = exporter.pipeline(config).expect("works");
        pipeline.spans(|batch| span(batch, 0)).expect("room");
        let short = Duration::from_millis(5);
        let mut batch = TraceBatch::new(&Resource::new());
        span(&mut batch, 1);
        let refusal = pipeline.send_blocking(batch.finish(), short).unwrap_err();
        assert!(refusal.is_timeout() && refusal.is_full(), "{refusal}");
        assert_eq!(pipeline.flush_blocking(short).expect("not ended").pending, 1);
        let report = pipeline.shutdown_blocking(short);
        assert_eq!((report.stats.queued, report.lost()), (1, 1));
    });
}

#[test]
fn a_blocking_shutdown_keeps_its_time_during_an_outage() {
    in_time(|| {
        let collector = Collector::start().expect("a collector");
        collector.set_accepting(Accepting::Refuse).expect("it listens");
        let exporter = exporter(&collector, Blocking::new().expect("sockets"));
        let (pipeline, future) = exporter.pipeline(config(Overflow::Block)).expect("works");
        let thread: PipelineThread = future.run_on_thread().expect("a thread");
        pipeline.spans(|batch| span(batch, 0)).expect("room");
        let report = pipeline.shutdown_blocking(Duration::from_millis(300));
        assert_eq!(report.lost(), 1);
        let report = thread.join().expect("no panic");
        assert_eq!(report.stats.dropped_for(DropReason::Shutdown), 1);
    });
}

#[test]
fn exporters_of_different_reactors_are_refused() {
    let collector = Collector::start().expect("a collector");
    let one = exporter(&collector, Blocking::new().expect("sockets"));
    let other = exporter(&collector, Blocking::new().expect("sockets"));
    let error = Endpoints::failover([one.clone(), other])
        .pipeline(config(Overflow::Block))
        .unwrap_err();
    assert!(
        error.is_misuse() && error.to_string().contains("runtime"),
        "{error}"
    );
    assert!(
        Endpoints::failover([one.clone(), one])
            .pipeline(config(Overflow::Block))
            .is_ok()
    );
}

#[test]
fn a_batcher_runs_on_a_thread() {
    in_time(|| {
        let collector = Collector::start().expect("a collector");
        let exporter = exporter(&collector, Blocking::new().expect("sockets"));
        let (batcher, driver) =
            AdaptiveBatcher::new(&exporter, Default::default(), &Resource::new()).expect("works");
        let thread = driver.run_on_thread().expect("a thread");
        for id in 0..100 {
            let mut batch = TraceBatch::new(&Resource::new());
            span(&mut batch, id);
            batcher.add_blocking(batch.finish(), LONG).expect("room");
        }
        assert!(batcher.flush_blocking(LONG).expect("it runs").is_delivered());
        drop(batcher);
        assert_eq!(thread.join().expect("no panic").stats.delivered, 100);
    });
}

/// A pipeline's future polled by nothing but a flag: each wake is needed, and none is lost.
#[test]
fn a_pipeline_is_polled_only_when_it_is_woken() {
    in_time(|| {
        struct Unpark(std::thread::Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let collector = Collector::start().expect("a collector");
        let exporter = exporter(&collector, Smol::new());
        let (pipeline, future) = exporter.pipeline(config(Overflow::Block)).expect("works");
        let runner = std::thread::spawn(move || {
            let waker = Arc::new(Unpark(std::thread::current())).into();
            let mut future = pin!(future);
            let mut polls = 0_u64;
            loop {
                polls += 1;
                if let Poll::Ready(report) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return (report, polls);
                }
                std::thread::park();
            }
        });
        for id in 0..50 {
            pipeline.spans(|batch| span(batch, id)).expect("room");
            assert!(pipeline.flush_blocking(LONG).expect("it runs").is_delivered());
        }
        drop(pipeline);
        let (report, polls) = runner.join().expect("no panic");
        assert_eq!(report.stats.delivered, 50);
        assert!(polls < 5_000, "it spins: {polls} polls for 50 batches");
    });
}
