//! What the service is watched with: three providers over one pipeline, and what was made, counted where it is made.

use super::Result;
use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::metrics::{Counter, Histogram, MeterProvider, UpDownCounter};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanKind, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use otlp_embed::pipeline::{Pipeline, PipelineConfig, PipelineThread};
use otlp_embed::{Config, Exporter, Report, TemporalityPreference, rt, sdk};
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often metrics are collected.
const INTERVAL: Duration = Duration::from_secs(1);
/// The attribute that tells log records apart.
pub const LOG_NUMBER: &str = "log.number";
/// The counter of requests that the account adds up.
pub const SERVED: &str = "shop.requests.served";

pub struct Telemetry {
    pub exporter: Exporter<rt::Blocking>,
    pub pipeline: Pipeline,
    pub made: Made,
    thread: Mutex<Option<PipelineThread>>,
    traces: SdkTracerProvider,
    logs: SdkLoggerProvider,
    metrics: SdkMeterProvider,
    tracer: SdkTracer,
    logger: SdkLogger,
    propagator: TraceContextPropagator,
    duration: Histogram<f64>,
    active: UpDownCounter<i64>,
    served: Counter<u64>,
}

/// What the application made, by its own count.
#[derive(Default)]
pub struct Made {
    spans: Mutex<HashSet<Vec<u8>>>,
    logs: AtomicU64,
    served: AtomicU64,
}

impl Made {
    pub fn spans(&self) -> HashSet<Vec<u8>> {
        lock(&self.spans).clone()
    }

    pub fn logs(&self) -> u64 {
        self.logs.load(Ordering::Relaxed)
    }

    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

impl Telemetry {
    pub fn start(endpoint: &str) -> Result<Self> {
        let exporter = Config::new()
            .with_endpoint(endpoint)
            .with_temporality_preference(TemporalityPreference::Delta)
            .with_observer(|event| super::say(format_args!("         {event}")))
            .build(rt::Blocking::new()?)?;
        let (pipeline, future) = exporter.pipeline(PipelineConfig::new())?;
        let thread = future.run_on_thread()?;
        let resource = Resource::builder().with_service_name("shop").build();
        let scope = InstrumentationScope::builder("shop.http")
            .with_version("1.0.0")
            .build();
        let traces = SdkTracerProvider::builder()
            .with_span_processor(sdk::SpanProcessor::new(&pipeline))
            .with_resource(resource.clone())
            .build();
        let logs = SdkLoggerProvider::builder()
            .with_log_processor(sdk::LogProcessor::new(&pipeline))
            .with_resource(resource.clone())
            .build();
        let reader = PeriodicReader::builder(sdk::MetricExporter::queued(&pipeline)).with_interval(INTERVAL);
        let metrics = SdkMeterProvider::builder()
            .with_reader(reader.build())
            .with_resource(resource)
            .build();
        let meter = metrics.meter_with_scope(scope.clone());
        Ok(Self {
            duration: meter
                .f64_histogram("http.server.request.duration")
                .with_unit("s")
                .with_boundaries(vec![0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0])
                .build(),
            active: meter
                .i64_up_down_counter("http.server.active_requests")
                .with_unit("{request}")
                .build(),
            served: meter.u64_counter(SERVED).with_unit("{request}").build(),
            tracer: traces.tracer_with_scope(scope.clone()),
            logger: logs.logger_with_scope(scope),
            propagator: TraceContextPropagator::new(),
            exporter,
            pipeline,
            made: Made::default(),
            thread: Mutex::new(Some(thread)),
            traces,
            logs,
            metrics,
        })
    }

    /// A context with a new span in it, a child of that of `parent`.
    pub fn span(&self, name: String, kind: SpanKind, parent: &Context, attributes: Vec<KeyValue>) -> Context {
        let builder = self
            .tracer
            .span_builder(name)
            .with_kind(kind)
            .with_attributes(attributes);
        parent.with_span(builder.start_with_context(&self.tracer, parent))
    }

    /// Ends the span of a context.
    pub fn end(&self, cx: &Context) {
        let span = cx.span();
        // Counted before it ends: whatever arrives has been made.
        lock(&self.made.spans).insert(span.span_context().span_id().to_bytes().to_vec());
        span.end();
    }

    /// Writes a log record that belongs to the span of a context.
    pub fn log(&self, cx: &Context, severity: Severity, text: String) {
        let _active = cx.clone().attach();
        let number = self.made.logs.fetch_add(1, Ordering::Relaxed);
        let mut record = self.logger.create_log_record();
        record.set_severity_number(severity);
        record.set_severity_text(severity.name());
        record.set_body(AnyValue::from(text));
        record.add_attribute(LOG_NUMBER, number as i64);
        self.logger.emit(record);
    }

    pub fn request_begins(&self) {
        self.active.add(1, &[]);
    }

    pub fn request_ends(&self, route: &'static str, status: u16, took: Duration) {
        let attributes = [
            KeyValue::new("http.request.method", "GET"),
            KeyValue::new("http.route", route),
            KeyValue::new("http.response.status_code", i64::from(status)),
        ];
        self.duration.record(took.as_secs_f64(), &attributes);
        self.active.add(-1, &[]);
        self.made.served.fetch_add(1, Ordering::Relaxed);
        self.served.add(1, &attributes[1..]);
    }

    pub fn extract(&self, headers: &hyper::HeaderMap) -> Context {
        self.propagator.extract(&super::http::Headers(headers))
    }

    pub fn inject(&self, cx: &Context, headers: &mut hyper::HeaderMap) {
        self.propagator
            .inject_context(cx, &mut super::http::HeadersMut(headers));
    }

    /// Ends the providers, then the pipeline, and tells what became of everything.
    pub fn shutdown(&self, timeout: Duration) -> Result<Report> {
        self.metrics.shutdown_with_timeout(timeout)?;
        self.traces.shutdown_with_timeout(timeout)?;
        self.logs.shutdown_with_timeout(timeout)?;
        self.pipeline.shutdown_blocking(timeout);
        let thread = lock(&self.thread).take().ok_or("it was shut down before")?;
        Ok(thread.join()?)
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
