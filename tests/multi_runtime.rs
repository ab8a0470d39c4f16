//! The service on three tokio runtimes: where what runs, what is delivered, and that it ends anywhere.

#[path = "support/batches.rs"]
#[allow(dead_code)]
mod batches;

use batches::batch;
use otlp_embed::pb::trace::Span;
use otlp_embed::pipeline::multi_runtime::{
    MultiRuntimeOtlpService, cpu_intensive_runtime, high_performance_runtime, io_intensive_runtime,
};
use otlp_embed::pipeline::{PipelineConfig, SpanBatch};
use otlp_embed::policy::AdaptiveBatchConfig;
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Config, Protocol, Resource};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// Batches that never close by themselves.
fn patient() -> PipelineConfig {
    let batch = AdaptiveBatchConfig::new().with_age_max(60 * MINUTE);
    PipelineConfig::new()
        .with_resource(&Resource::new())
        .with_batch(batch)
}

fn service(collector: &Collector, pipeline: PipelineConfig) -> MultiRuntimeOtlpService {
    let config = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(collector.endpoint());
    MultiRuntimeOtlpService::new(config, pipeline).expect("it works")
}

fn spans(count: u8) -> SpanBatch {
    let span = |id| Span {
        trace_id: vec![7; 16],
        span_id: vec![id; 8],
        name: "work".into(),
        ..Span::default()
    };
    SpanBatch {
        spans: (1..=count).map(span).collect(),
        ..SpanBatch::default()
    }
}

#[test]
fn every_builder_has_sockets_and_time() {
    for (mut builder, name) in [
        (high_performance_runtime(), "otlp-fast"),
        (io_intensive_runtime(), "otlp-io"),
        (cpu_intensive_runtime(), "otlp-cpu"),
    ] {
        let runtime = builder.build().expect("it works");
        let thread = runtime.block_on(async {
            // Each panics where its driver is off.
            tokio::net::TcpListener::bind("127.0.0.1:0")
                .await
                .expect("a socket");
            tokio::time::timeout(MINUTE, async {}).await.expect("in time");
            let name = async { std::thread::current().name().map(str::to_owned) };
            tokio::spawn(name).await.expect("no panic")
        });
        assert_eq!(thread.as_deref(), Some(name));
        let workers = runtime.metrics().num_workers();
        let cores = std::thread::available_parallelism()
            .expect("there are some")
            .get();
        assert!((1..=cores).contains(&workers), "{workers}");
    }
}

/// On no executor at all.
#[test]
fn spans_are_encoded_there_and_arrive() {
    let collector = Collector::start().expect("a socket");
    let service = service(&collector, PipelineConfig::new());
    let thread = Arc::new(Mutex::new(None));
    let seen = thread.clone();
    futures_executor::block_on(async {
        service.export_spans(spans(5)).await.expect("queued");
        let encode = move || {
            *seen.lock().unwrap() = std::thread::current().name().map(str::to_owned);
            batch(100, 3)
        };
        service.export_with(encode).await.expect("queued");
        let report = service.shutdown(MINUTE).await;
        assert_eq!(
            (report.stats.delivered, report.stats.accepted),
            (8, 8),
            "{report}"
        );
        assert_eq!(service.shutdown(MINUTE).await.stats.delivered, 8, "again");
        let error = service.export_spans(spans(1)).await.expect_err("it has ended");
        assert!(error.is_shutdown(), "{error}");
        assert!(
            service
                .start_background_tasks()
                .expect_err("it has ended")
                .is_shutdown()
        );
    });
    assert_eq!(thread.lock().unwrap().as_deref(), Some("otlp-cpu"));
    assert_eq!(collector.counters().spans_accepted, 8);
}

#[test]
fn the_upkeep_flushes_what_no_batch_would_send() {
    let collector = Collector::start().expect("a socket");
    let service = service(&collector, patient());
    futures_executor::block_on(service.export_spans(spans(2))).expect("queued");
    service
        .start_background_tasks_every(Duration::from_millis(1))
        .expect("it runs");
    service.start_background_tasks().expect("again changes nothing");
    collector.wait_for_spans(2, MINUTE).expect("flushed");
    // And again.
    futures_executor::block_on(service.export_spans(spans(3))).expect("queued");
    collector.wait_for_spans(5, MINUTE).expect("flushed");
    let report = service.shutdown_blocking(MINUTE);
    assert_eq!(report.stats.delivered, 5);
}

#[test]
fn a_flush_by_hand_needs_no_upkeep() {
    let collector = Collector::start().expect("a socket");
    let service = service(&collector, patient());
    futures_executor::block_on(async {
        service.export_spans(spans(2)).await.expect("queued");
        service.flush(MINUTE).await.expect("flushed");
    });
    assert_eq!(collector.counters().spans_accepted, 2);
}

/// tokio panics where a runtime is dropped in an async context: this service does not.
#[test]
fn it_may_be_shut_down_and_dropped_anywhere() {
    let collector = Collector::start().expect("a socket");
    for flavour in ["multi_thread", "current_thread", "smol"] {
        let test = {
            let service = service(&collector, PipelineConfig::new());
            async move {
                service.export_spans(spans(1)).await.expect("queued");
                service.start_background_tasks().expect("it runs");
                let report = service.shutdown(MINUTE).await;
                assert_eq!(report.stats.delivered, 1, "{flavour}");
                drop(service);
            }
        };
        match flavour {
            "multi_thread" => high_performance_runtime()
                .build()
                .expect("it works")
                .block_on(test),
            "current_thread" => tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("it works")
                .block_on(test),
            _ => smol::block_on(test),
        }
    }
    // Without a shutdown, in the middle of everything; and a blocking one in an async context.
    collector.answer(Answer::Never);
    let runtime = high_performance_runtime().build().expect("it works");
    runtime.block_on(async {
        let dropped = service(&collector, PipelineConfig::new());
        dropped.start_background_tasks().expect("it runs");
        dropped.export_spans(spans(1)).await.expect("queued");
        drop(dropped);
        let shut_down = service(&collector, PipelineConfig::new());
        shut_down.export_spans(spans(2)).await.expect("queued");
        let report = shut_down.shutdown_blocking(Duration::from_millis(10));
        assert!(report.stats.is_conserved(), "{report}");
        assert_eq!(
            (
                report.stats.delivered,
                report.stats.in_flight,
                report.stats.queued
            ),
            (0, 0, 0)
        );
    });
}

/// Ended from one of its own threads.
#[test]
fn it_may_be_dropped_on_its_own_runtimes() {
    let collector = Collector::start().expect("a socket");
    let service = Arc::new(service(&collector, PipelineConfig::new()));
    let inner = Mutex::new(Some(service.clone()));
    let (sender, receiver) = std::sync::mpsc::channel();
    let encode = move || {
        let last = inner.lock().unwrap().take().expect("once");
        // The test's own goes first.
        while Arc::strong_count(&last) > 1 {
            std::thread::yield_now();
        }
        drop(last);
        sender.send(()).expect("somebody waits");
        batch(0, 1)
    };
    {
        let mut export = Box::pin(service.export_with(encode));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(export.as_mut().poll(&mut cx).is_pending());
    }
    drop(service);
    receiver.recv_timeout(MINUTE).expect("no panic");
}

#[test]
fn what_panics_while_it_encodes_is_an_error() {
    let collector = Collector::start().expect("a socket");
    let service = service(&collector, PipelineConfig::new());
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let result = futures_executor::block_on(service.export_with(|| panic!("the caller's own")));
    std::panic::set_hook(hook);
    let error = result.expect_err("it panicked");
    assert!(error.to_string().contains("panicked"), "{error}");
    futures_executor::block_on(service.export_spans(spans(1))).expect("it works on");
    assert_eq!(service.shutdown_blocking(MINUTE).stats.delivered, 1);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let config = Config::new().with_endpoint("ftp://collector");
    assert!(
        MultiRuntimeOtlpService::new(config, PipelineConfig::new())
            .expect_err("refused")
            .is_misuse()
    );
    let collector = Collector::start().expect("a socket");
    let service = service(&collector, PipelineConfig::new());
    let error = service
        .start_background_tasks_every(Duration::ZERO)
        .expect_err("refused");
    assert!(error.is_misuse(), "{error}");
}
