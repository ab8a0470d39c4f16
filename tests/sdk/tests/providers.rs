//! Three providers of the SDK over one exporter: what they make arrives once, under their resource and their scopes, and the
//! application's handles tell what became of it.

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{Span, SpanKind, Status, Tracer, TracerProvider};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use otlp_embed::pipeline::PipelineConfig;
use otlp_embed::testing::Collector;
use otlp_embed::{Config, Exporter, Protocol, rt, sdk};
use std::time::Duration;

const TIME: Duration = Duration::from_secs(20);

struct Providers {
    traces: SdkTracerProvider,
    logs: SdkLoggerProvider,
    metrics: SdkMeterProvider,
}

fn resource() -> Resource {
    Resource::builder_empty()
        .with_attribute(KeyValue::new("service.name", "shop"))
        .build()
}

/// One item of each signal.
fn work(providers: &Providers) {
    let scope = InstrumentationScope::builder("lib").with_version("1.2").build();
    let tracer = providers.traces.tracer_with_scope(scope.clone());
    let mut span = tracer
        .span_builder("checkout")
        .with_kind(SpanKind::Server)
        .start(&tracer);
    span.set_attribute(KeyValue::new("items", 3));
    span.set_attribute(KeyValue::new("prompt", "p".repeat(5000)));
    span.add_event("paid", vec![KeyValue::new("amount", 2.5)]);
    span.set_status(Status::error("the bank did not answer"));
    span.end();
    let logger = providers.logs.logger_with_scope(scope.clone());
    let mut record = logger.create_log_record();
    record.set_severity_number(Severity::Warn);
    record.set_body(AnyValue::from("slow"));
    logger.emit(record);
    let meter = providers.metrics.meter_with_scope(scope);
    meter
        .u64_counter("requests")
        .build()
        .add(7, &[KeyValue::new("route", "/cart")]);
}

fn check(collector: &Collector) {
    let (spans, logs, metrics) = (collector.spans(), collector.logs(), collector.metrics());
    assert_eq!((spans.len(), logs.len(), metrics.len()), (1, 1, 1));
    let span = format!("{:?}", spans[0]);
    for part in [
        "checkout",
        "shop",
        "lib",
        "1.2",
        "paid",
        "the bank did not answer",
    ] {
        assert!(span.contains(part), "{part} is missing in {span}");
    }
    assert!(format!("{:?}", logs[0]).contains("slow"));
    assert!(format!("{:?}", metrics[0]).contains("requests"));
}

fn exporter(collector: &Collector, protocol: Protocol) -> Exporter<rt::Blocking> {
    let runtime = rt::Blocking::new().expect("a runtime");
    Config::new()
        .with_protocol(protocol)
        .with_endpoint(collector.endpoint())
        .build(runtime)
        .expect("an exporter")
}

#[test]
fn processors_write_into_one_pipeline() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let collector = Collector::start().expect("a collector");
        let exporter = exporter(&collector, protocol);
        let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
        let thread = future.run_on_thread().expect("a thread");
        let providers = Providers {
            traces: SdkTracerProvider::builder()
                .with_span_processor(sdk::SpanProcessor::new(&pipeline))
                .with_resource(resource())
                .build(),
            logs: SdkLoggerProvider::builder()
                .with_log_processor(sdk::LogProcessor::new(&pipeline))
                .with_resource(resource())
                .build(),
            metrics: SdkMeterProvider::builder()
                .with_periodic_exporter(sdk::MetricExporter::queued(&pipeline))
                .with_resource(resource())
                .build(),
        };
        work(&providers);
        providers.traces.force_flush().expect("flushed");
        providers.logs.force_flush().expect("flushed");
        providers.traces.shutdown_with_timeout(TIME).expect("shut down");
        providers.logs.shutdown_with_timeout(TIME).expect("shut down");
        providers.metrics.shutdown_with_timeout(TIME).expect("shut down");
        check(&collector);
        let stats = pipeline.stats();
        assert_eq!((stats.total.accepted, stats.total.delivered), (3, 3));
        assert_eq!(exporter.stats().delivered, 3);
        let report = pipeline.shutdown_blocking(TIME);
        assert_eq!(report.lost(), 0, "{report}");
        thread.join().expect("the pipeline ends");
    }
}

#[test]
fn exporters_serve_the_processors_of_the_sdk() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let collector = Collector::start().expect("a collector");
        let exporter = exporter(&collector, protocol);
        let providers = Providers {
            traces: SdkTracerProvider::builder()
                .with_batch_exporter(sdk::SpanExporter::new(&exporter))
                .with_resource(resource())
                .build(),
            logs: SdkLoggerProvider::builder()
                .with_batch_exporter(sdk::LogExporter::new(&exporter))
                .with_resource(resource())
                .build(),
            metrics: SdkMeterProvider::builder()
                .with_periodic_exporter(sdk::MetricExporter::new(&exporter))
                .with_resource(resource())
                .build(),
        };
        work(&providers);
        providers.traces.force_flush().expect("flushed");
        providers.traces.shutdown_with_timeout(TIME).expect("shut down");
        providers.logs.shutdown_with_timeout(TIME).expect("shut down");
        providers.metrics.shutdown_with_timeout(TIME).expect("shut down");
        check(&collector);
        let stats = exporter.stats();
        assert_eq!((stats.accepted, stats.delivered, stats.in_flight), (3, 3, 0));
    }
}
