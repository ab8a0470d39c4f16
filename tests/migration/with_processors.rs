//! A shop on tokio, with three signals of the OpenTelemetry SDK.

use opentelemetry::logs::{LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::trace::{Span, SpanKind, Status, Tracer};
use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use otlp_embed::pipeline::{Pipeline, PipelineConfig, PipelineThread};
use otlp_embed::sdk::{LogProcessor, MetricExporter, SpanProcessor};
use otlp_embed::{Config, Protocol, TemporalityPreference, rt};
use std::error::Error;
use std::time::Duration;

const TENANT: &str = "acme";
const TIMEOUT: Duration = Duration::from_secs(5);

pub struct Arguments {
    pub endpoint: String,
    pub over_grpc: bool,
}

struct Telemetry {
    traces: SdkTracerProvider,
    logs: SdkLoggerProvider,
    metrics: SdkMeterProvider,
    pipeline: Pipeline,
    thread: PipelineThread,
}

pub async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let telemetry = start(&arguments)?;
    checkout(&telemetry.logs, 1);
    checkout(&telemetry.logs, 2);
    tokio::task::spawn_blocking(move || telemetry.shutdown()).await??;
    Ok(())
}

fn pipeline(arguments: &Arguments) -> Result<(Pipeline, PipelineThread), Box<dyn Error>> {
    let protocol = if arguments.over_grpc {
        Protocol::Grpc
    } else {
        Protocol::HttpProtobuf
    };
    let exporter = Config::new()
        .with_protocol(protocol)
        .with_endpoint(&arguments.endpoint)
        .with_timeout(TIMEOUT)
        .with_header("x-scope-orgid", TENANT)
        .with_temporality_preference(TemporalityPreference::Delta)
        .build(rt::Blocking::new()?)?;
    let (pipeline, future) = exporter.pipeline(PipelineConfig::new())?;
    Ok((pipeline, future.run_on_thread()?))
}

fn start(arguments: &Arguments) -> Result<Telemetry, Box<dyn Error>> {
    let (pipeline, thread) = pipeline(arguments)?;
    let resource = || Resource::builder().with_service_name("shop").build();
    let traces = SdkTracerProvider::builder().with_resource(resource());
    let logs = SdkLoggerProvider::builder().with_resource(resource());
    let meters = SdkMeterProvider::builder().with_resource(resource());
    let telemetry = Telemetry {
        traces: traces.with_span_processor(SpanProcessor::new(&pipeline)).build(),
        logs: logs.with_log_processor(LogProcessor::new(&pipeline)).build(),
        metrics: meters
            .with_periodic_exporter(MetricExporter::queued(&pipeline))
            .build(),
        pipeline,
        thread,
    };
    global::set_tracer_provider(telemetry.traces.clone());
    global::set_meter_provider(telemetry.metrics.clone());
    Ok(telemetry)
}

fn checkout(logs: &SdkLoggerProvider, order: i64) {
    let tracer = global::tracer("cart");
    let span = tracer.span_builder("checkout").with_kind(SpanKind::Server);
    let mut span = span.start(&tracer);
    span.set_attribute(KeyValue::new("order", order));
    span.add_event("paid", vec![KeyValue::new("amount", 2.5)]);
    if order == 2 {
        span.set_status(Status::error("sold out"));
        let logger = logs.logger("stock");
        let mut record = logger.create_log_record();
        record.set_severity_number(Severity::Warn);
        record.set_body("nothing left".into());
        logger.emit(record);
    }
    span.end();
    let meter = global::meter("cart");
    let orders = meter.u64_counter("orders").build();
    orders.add(1, &[KeyValue::new("kind", "web")]);
    let amount = meter.f64_histogram("amount").with_unit("EUR").build();
    amount.record(2.5, &[]);
    meter.i64_up_down_counter("stock").build().add(-1, &[]);
}

impl Telemetry {
    fn shutdown(self) -> OTelSdkResult {
        // In an outage each of them fails, and the report is worth the most.
        let ends = [
            self.metrics.shutdown(),
            self.traces.shutdown(),
            self.logs.shutdown(),
        ];
        self.pipeline.shutdown_blocking(TIMEOUT);
        let report = self
            .thread
            .join()
            .map_err(|error| OTelSdkError::InternalFailure(error.to_string()))?;
        println!("{report}");
        ends.into_iter().collect()
    }
}
