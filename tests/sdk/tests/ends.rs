//! Runtimes, pipelines, futures and exporters that end before their providers, and providers that end first: it is told, counted,
//! and nobody waits for what is gone.

mod running;

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::LogProcessor;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{SdkMeterProvider, Temporality};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanExporter, SpanProcessor};
use otlp_embed::pipeline::{Overflow, PipelineConfig, QueueConfig};
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{DropReason, Protocol, sdk};
use running::faces::{assert_all_lost, assert_closed, blocking, current_thread, over_tokio, piped, piping};
use running::faces::{span_data, words};
use running::{add_metrics, assert_all_delivered, assert_settled, assert_spans_once};
use running::{batching, config, end_spans, within};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const SPANS: usize = 50;
const ITEMS: u64 = SPANS as u64;
/// The time that is given.
const SHORT: Duration = Duration::from_millis(300);
/// What nothing here reaches.
const BOUND: Duration = Duration::from_secs(30);
/// So that it is never the export's own end that ends a wait.
const EXPORT: Duration = Duration::from_secs(3600);

/// A runtime that ended under its exporter: told at once, not at the deadline.
#[test]
fn a_runtime_that_is_gone_is_told() {
    within(BOUND, "the program", || {
        let collector = Collector::start().expect("a collector");
        let runtime = current_thread();
        let exporter = over_tokio(&collector, runtime.handle().clone(), EXPORT);
        let provider = batching(sdk::SpanExporter::new(&exporter), 2048);
        drop(runtime);
        end_spans(&provider, 0, SPANS);
        let text = words(provider.force_flush());
        assert!(text.contains("runtime"), "{text}");
        let stats = exporter.stats();
        assert_settled(&stats);
        assert_eq!((stats.accepted, stats.delivered), (ITEMS, 0), "{stats:?}");
        provider.shutdown().expect("nothing is left");
    });
}

#[test]
fn a_pipeline_whose_runtime_is_gone_is_told() {
    within(BOUND, "the program", || {
        let collector = Collector::start().expect("a collector");
        let runtime = current_thread();
        let exporter = over_tokio(&collector, runtime.handle().clone(), EXPORT);
        let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
        runtime.spawn(future);
        let (provider, processor) = piping(&pipeline);
        end_spans(&provider, 0, SPANS);
        // The pipeline's future ends with it.
        drop(runtime);
        end_spans(&provider, SPANS, 2 * SPANS);
        let text = words(processor.force_flush());
        assert!(text.contains("pipeline has ended"), "{text}");
        let text = words(processor.shutdown_with_timeout(SHORT));
        assert!(text.contains("pipeline has ended"), "{text}");
        // The account was closed when the future ended; what came later is in the stats.
        assert_all_lost(&pipeline.shutdown_blocking(SHORT), ITEMS, "no runtime");
        let stats = exporter.stats();
        assert_settled(&stats);
        assert_eq!(stats.dropped_for(DropReason::Cancelled), ITEMS, "{stats:?}");
        assert_eq!(stats.dropped_for(DropReason::Shutdown), ITEMS, "{stats:?}");
    });
}

#[test]
fn a_future_that_was_dropped_is_told() {
    within(BOUND, "the program", || {
        let collector = Collector::start().expect("a collector");
        let exporter = blocking(config(&collector, Protocol::Grpc));
        let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
        let (provider, processor) = piping(&pipeline);
        end_spans(&provider, 0, SPANS);
        drop(future);
        end_spans(&provider, SPANS, 2 * SPANS);
        let text = words(processor.force_flush());
        assert!(text.contains("pipeline has ended"), "{text}");
        assert!(provider.shutdown().is_err(), "spans were lost");
        // The account was closed when the future ended; what came later is in the stats.
        assert_all_lost(&pipeline.shutdown_blocking(SHORT), ITEMS, "dropped");
        let stats = exporter.stats();
        assert_settled(&stats);
        assert_eq!(stats.dropped_for(DropReason::Cancelled), ITEMS, "{stats:?}");
        assert_eq!(stats.dropped_for(DropReason::Shutdown), ITEMS, "{stats:?}");
        assert_eq!(collector.counters().connections, 0);
    });
}

#[test]
fn a_pipeline_that_ends_before_its_provider_is_told() {
    within(BOUND, "the program", || {
        let collector = Collector::start().expect("a collector");
        let exporter = blocking(config(&collector, Protocol::Grpc));
        let (pipeline, thread) = piped(&exporter, PipelineConfig::new());
        let (provider, processor) = piping(&pipeline);
        let metrics = sdk::MetricExporter::queued(&pipeline);
        end_spans(&provider, 0, SPANS);
        assert_eq!(pipeline.shutdown_blocking(BOUND).lost(), 0);
        thread.join().expect("no panic");
        end_spans(&provider, SPANS, 2 * SPANS);
        let stats = exporter.stats();
        assert_settled(&stats);
        assert_eq!((stats.delivered, stats.accepted), (ITEMS, 2 * ITEMS), "{stats:?}");
        assert_eq!(stats.dropped_for(DropReason::Shutdown), ITEMS, "{stats:?}");
        assert_eq!(pipeline.stats().total.accepted, 2 * ITEMS);
        let text = words(processor.force_flush());
        assert!(text.contains("pipeline has ended"), "{text}");
        assert!(provider.shutdown().is_err(), "spans were lost");
        assert!(metrics.force_flush().is_err());
        assert!(metrics.shutdown().is_err());
        assert_closed(&metrics.shutdown());
    });
}

/// The processor keeps the pipeline; the user's handles are gone.
#[test]
fn a_provider_that_outlives_exporter_and_handle_delivers() {
    within(BOUND, "the program", || {
        let collector = Collector::start().expect("a collector");
        let exporter = blocking(config(&collector, Protocol::Grpc));
        let (pipeline, thread) = piped(&exporter, PipelineConfig::new());
        let provider = SdkTracerProvider::builder()
            .with_span_processor(sdk::SpanProcessor::new(&pipeline))
            .build();
        drop((pipeline, exporter));
        end_spans(&provider, 0, SPANS);
        provider.force_flush().expect("delivered");
        end_spans(&provider, SPANS, 2 * SPANS);
        drop(provider);
        let report = thread.join().expect("no panic");
        assert_all_delivered(&report.stats, 2 * ITEMS);
        assert_spans_once(&collector, 2 * SPANS);
    });
}

#[test]
fn a_batch_processor_that_outlives_the_exporters_handle_delivers() {
    within(BOUND, "the program", || {
        let collector = Collector::start().expect("a collector");
        let exporter = blocking(config(&collector, Protocol::Grpc));
        let provider = batching(sdk::SpanExporter::new(&exporter), 2048);
        drop(exporter);
        end_spans(&provider, 0, SPANS);
        drop(provider);
        assert_spans_once(&collector, SPANS);
    });
}

/// An exporter that the user shut down refuses, and says so.
#[test]
fn an_exporter_that_was_shut_down_is_told() {
    within(BOUND, "the program", || {
        let collector = Collector::start().expect("a collector");
        let exporter = blocking(config(&collector, Protocol::Grpc));
        let provider = batching(sdk::SpanExporter::new(&exporter), 2048);
        exporter.shutdown(SHORT).wait();
        end_spans(&provider, 0, SPANS);
        let text = words(provider.force_flush());
        assert!(text.contains("shut"), "{text}");
        let stats = exporter.stats();
        assert_settled(&stats);
        assert_eq!(stats.dropped_for(DropReason::Shutdown), ITEMS, "{stats:?}");
        provider.shutdown().expect("nothing is left");
    });
}

#[test]
fn exporters_take_nothing_after_their_shutdown() {
    let collector = Collector::start().expect("a collector");
    let exporter = blocking(config(&collector, Protocol::Grpc));
    let spans = sdk::SpanExporter::new(&exporter);
    spans.shutdown().expect("the first");
    assert_closed(&spans.shutdown());
    assert_closed(&SpanExporter::force_flush(&spans));
    assert_closed(&futures_executor::block_on(spans.export(Vec::new())));
    let metrics = sdk::MetricExporter::new(&exporter);
    metrics.shutdown().expect("the first");
    assert_closed(&metrics.shutdown());
    assert_closed(&futures_executor::block_on(
        metrics.export(&ResourceMetrics::default()),
    ));
    // The exporter is the user's, and goes on.
    let provider = batching(sdk::SpanExporter::new(&exporter), 2048);
    end_spans(&provider, 0, SPANS);
    provider.shutdown().expect("delivered");
    assert_all_delivered(&exporter.stats(), ITEMS);
}

/// An export that is dropped before its verdict is cancelled, and counted, however long it might have taken.
#[test]
fn a_dropped_export_is_counted() {
    for time in [EXPORT, Duration::MAX] {
        let collector = Collector::start().expect("a collector");
        collector.answer(Answer::Never);
        let runtime = current_thread();
        let exporter = over_tokio(&collector, runtime.handle().clone(), time);
        let spans = sdk::SpanExporter::new(&exporter);
        runtime.block_on(async {
            let export = spans.export(vec![span_data()]);
            let given_up = tokio::time::timeout(Duration::from_millis(50), export).await;
            assert!(given_up.is_err(), "{given_up:?}");
        });
        let stats = exporter.stats();
        assert_settled(&stats);
        assert_eq!((stats.accepted, stats.delivered), (1, 0), "{stats:?}");
    }
}

/// A log processor after its shutdown.
#[test]
fn log_processor_takes_nothing_after_its_shutdown() {
    let collector = Collector::start().expect("a collector");
    let exporter = blocking(config(&collector, Protocol::Grpc));
    let (pipeline, thread) = piped(&exporter, PipelineConfig::new());
    let processor = sdk::LogProcessor::new(&pipeline);
    processor.shutdown_with_timeout(SHORT).expect("nothing is queued");
    assert_closed(&processor.shutdown_with_timeout(SHORT));
    assert_closed(&processor.force_flush());
    assert!(!processor.event_enabled(opentelemetry::logs::Severity::Fatal, "", None));
    assert_eq!(pipeline.shutdown_blocking(BOUND).stats.accepted, 0);
    thread.join().expect("no panic");
}

/// The exporter of a reader that drops an export which is not ready at once, and one before it began.
#[derive(Debug)]
struct Hasty(sdk::MetricExporter);

impl PushMetricExporter for Hasty {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        drop(self.0.export(metrics));
        let mut export = pin!(self.0.export(metrics));
        match export.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

/// A reader with a time of its own drops the export that waits for room.
#[test]
fn a_collection_that_is_dropped_while_it_waits_for_room_is_counted() {
    within(BOUND, "the program", || {
        let collector = Collector::start().expect("a collector");
        let exporter = blocking(config(&collector, Protocol::HttpProtobuf));
        let queue = QueueConfig::new()
            .with_items_max(4)
            .with_overflow(Overflow::Block);
        // Nobody drives it.
        let (pipeline, future) = exporter
            .pipeline(PipelineConfig::new().with_queue(queue))
            .expect("a pipeline");
        let provider = SdkMeterProvider::builder()
            .with_periodic_exporter(Hasty(sdk::MetricExporter::queued(&pipeline)))
            .build();
        add_metrics(&provider, 3);
        provider.force_flush().expect("there is room");
        provider.force_flush().expect("its export is dropped");
        let stats = exporter.stats();
        assert_eq!((stats.accepted, stats.queued), (12, 3), "{stats:?}");
        let thread = future.run_on_thread().expect("a thread");
        let report = pipeline.shutdown_blocking(BOUND);
        assert_settled(&report.stats);
        assert_eq!((report.stats.delivered, report.lost()), (3, 9), "{report}");
        thread.join().expect("no panic");
    });
}
