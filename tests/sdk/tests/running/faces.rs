//! Faces and runtimes whose ends are tested, and what an end may say.

use super::{assert_settled, config};
use opentelemetry::Context;
use opentelemetry::trace::{Tracer, TracerProvider};
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanProcessor};
use otlp_embed::pipeline::{Pipeline, PipelineConfig, PipelineThread};
use otlp_embed::testing::Collector;
use otlp_embed::{Config, Exporter, Protocol, Report, rt, sdk};
use std::sync::Arc;
use std::time::Duration;

/// A processor that the provider and the test have both.
#[derive(Debug)]
pub struct Both<P>(pub Arc<P>);

impl<P: SpanProcessor> SpanProcessor for Both<P> {
    fn on_start(&self, span: &mut opentelemetry_sdk::trace::Span, cx: &Context) {
        self.0.on_start(span, cx);
    }

    fn on_end(&self, span: SpanData) {
        self.0.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }
}

pub fn current_thread() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

pub fn blocking(config: Config) -> Exporter<rt::Blocking> {
    config
        .build(rt::Blocking::new().expect("a runtime"))
        .expect("an exporter")
}

pub fn over_tokio(
    collector: &Collector,
    handle: tokio::runtime::Handle,
    time: Duration,
) -> Exporter<rt::Tokio> {
    let runtime = rt::Tokio::with_handle(handle).expect("it has all drivers");
    config(collector, Protocol::Grpc)
        .with_timeout(time)
        .build(runtime)
        .expect("an exporter")
}

/// A provider with our processor, which the test has as well.
pub fn piping(pipeline: &Pipeline) -> (SdkTracerProvider, Arc<sdk::SpanProcessor>) {
    let processor = Arc::new(sdk::SpanProcessor::new(pipeline));
    let provider = SdkTracerProvider::builder()
        .with_span_processor(Both(Arc::clone(&processor)))
        .build();
    (provider, processor)
}

pub fn piped(exporter: &Exporter<rt::Blocking>, config: PipelineConfig) -> (Pipeline, PipelineThread) {
    let (pipeline, future) = exporter.pipeline(config).expect("a pipeline");
    (pipeline, future.run_on_thread().expect("a thread"))
}

/// A span that ended, as the SDK hands it on.
pub fn span_data() -> SpanData {
    let provider = SdkTracerProvider::builder().build();
    let span = provider.tracer("late").start("late");
    span.exported_data().expect("it records")
}

pub fn assert_timeout(result: &OTelSdkResult, time: Duration, name: &str) {
    assert!(
        matches!(result, Err(OTelSdkError::Timeout(of)) if *of == time),
        "{name}: {result:?}"
    );
}

pub fn assert_closed(result: &OTelSdkResult) {
    assert!(matches!(result, Err(OTelSdkError::AlreadyShutdown)), "{result:?}");
}

pub fn words(result: OTelSdkResult) -> String {
    match result {
        Err(OTelSdkError::InternalFailure(text)) => text,
        other => panic!("{other:?} in place of a failure"),
    }
}

/// Everything was lost, and all of it is told.
pub fn assert_all_lost(report: &Report, items: u64, name: &str) {
    assert_settled(&report.stats);
    assert_eq!(report.stats.accepted, items, "{name}: {report}");
    assert_eq!(report.lost(), items, "{name}: {report}");
}
