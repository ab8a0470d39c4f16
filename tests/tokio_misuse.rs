//! tokio where it is missing, going, or slow: an error or a result each time, never a panic.

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "not every batch is needed here")]
mod batches;

use batches::batch;
use core::task::{Context, Poll, Waker};
use otlp_embed::rt::Tokio;
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Config, Exporter};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

fn current_thread() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn one_worker() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a runtime")
}

fn exporter(runtime: &Runtime, collector: &Collector) -> Exporter<Tokio> {
    let tokio = Tokio::with_handle(runtime.handle().clone()).expect("it has a time driver");
    let config = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_endpoint(collector.endpoint());
    config.build(tokio).expect("the configuration works")
}

#[test]
fn outside_a_runtime_is_an_error_that_says_what_to_do() {
    let error = Tokio::current().expect_err("there is no runtime here");
    assert!(error.is_runtime_gone(), "{error:?}");
    assert!(error.to_string().contains("outside a tokio runtime"), "{error}");
}

#[test]
fn a_runtime_without_timers_is_an_error_that_says_what_to_do() {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .build()
        .expect("a runtime");
    let error = Tokio::with_handle(runtime.handle().clone()).expect_err("no deadline could be kept");
    assert!(error.to_string().contains("enable_all"), "{error}");
}

#[test]
fn a_runtime_without_io_is_an_error_that_says_what_to_do() {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let error = Tokio::with_handle(runtime.handle().clone()).expect_err("no socket could be opened");
    assert!(error.is_runtime_gone(), "{error:?}");
    assert!(error.to_string().contains("I/O driver"), "{error}");
}

/// The future is polled once, its runtime goes, and it is polled on by another executor.
#[test]
fn a_runtime_dropped_during_an_export_ends_it_in_an_error() {
    for runtime in [current_thread(), one_worker()] {
        let collector = Collector::builder()
            .answer(Answer::Never)
            .start()
            .expect("a collector");
        let exporter = exporter(&runtime, &collector);
        let mut export = Box::pin(exporter.export(batch(0, 5)));
        runtime.block_on(async {
            let sent = std::future::poll_fn(|cx| {
                let verdict = export.as_mut().poll(cx);
                assert!(verdict.is_pending(), "nobody answers");
                if collector.counters().requests > 0 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            });
            // The request goes out; whether the last poll saw it arrive depends on the collector's thread.
            let _ = tokio::time::timeout(Duration::from_millis(300), sent).await;
        });
        drop(runtime);
        let error = futures_executor::block_on(export.as_mut()).expect_err("its runtime is gone");
        assert!(error.is_runtime_gone(), "{error}");
        assert_eq!((error.counts().unknown, error.counts().total()), (5, 5));
        let error =
            futures_executor::block_on(exporter.export(batch(5, 5))).expect_err("its runtime is gone");
        assert!(error.is_runtime_gone(), "{error}");
        let stats = exporter.stats();
        assert!(stats.is_conserved() && stats.in_flight == 0, "{stats:?}");
    }
}

#[test]
fn a_runtime_dropped_before_the_first_poll_ends_it_in_an_error() {
    let collector = Collector::start().expect("a collector");
    let runtime = current_thread();
    let exporter = exporter(&runtime, &collector);
    drop(runtime);
    let error = futures_executor::block_on(exporter.export(batch(0, 5))).expect_err("its runtime is gone");
    assert!(error.is_runtime_gone(), "{error}");
    assert_eq!(error.counts().dropped, 5);
}

/// A future of a tokio exporter is dropped, and its exporter too, where there is no runtime.
#[test]
fn dropping_outside_a_runtime_is_fine() {
    let collector = Collector::builder()
        .answer(Answer::Never)
        .start()
        .expect("a collector");
    let runtime = current_thread();
    let exporter = exporter(&runtime, &collector);
    let mut export = Box::pin(exporter.export(batch(0, 5)));
    runtime.block_on(async {
        assert!(
            export
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
    });
    drop(export);
    assert!(exporter.stats().is_conserved());
    drop(exporter);
}

/// The futures may be polled outside the runtime, as long as something drives it.
#[test]
fn a_future_is_polled_by_another_executor() {
    let collector = Collector::start().expect("a collector");
    let runtime = one_worker();
    let exporter = exporter(&runtime, &collector);
    let outcome = futures_executor::block_on(exporter.export(batch(0, 5))).expect("delivered");
    assert_eq!(outcome.delivered(), 5);
}

#[test]
fn current_thread_and_one_worker_deliver() {
    for runtime in [current_thread(), one_worker()] {
        let collector = Collector::start().expect("a collector");
        let exporter = exporter(&runtime, &collector);
        let outcome = runtime.block_on(async {
            let mut export = pin!(exporter.export(batch(0, 5)));
            export.as_mut().await
        });
        assert_eq!(outcome.expect("delivered").delivered(), 5);
    }
}

/// A test that pauses tokio's clock sees the deadline come at once, and no busy loop until the real one.
#[test]
fn a_paused_clock_is_the_clock_of_the_deadline() {
    let collector = Collector::builder()
        .answer(Answer::Never)
        .start()
        .expect("a collector");
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let exporter = exporter(&runtime, &collector);
    let (verdict, passed) = runtime.block_on(async {
        let start = tokio::time::Instant::now();
        let verdict = exporter
            .export(batch(0, 5).with_timeout(Duration::from_secs(3_600)))
            .await;
        (verdict, start.elapsed())
    });
    assert!(verdict.expect_err("nobody answers").is_timeout());
    assert!(
        passed >= Duration::from_secs(3_600),
        "{passed:?} of an hour passed"
    );
}
