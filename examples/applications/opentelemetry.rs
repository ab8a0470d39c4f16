//! The OpenTelemetry SDK with traces, logs and metrics over one pipeline, in a program without an async runtime.
//!
//! ```sh
//! cargo run --example opentelemetry [URL]
//! ```
//!
//! Processors encode at the end of a span or record, on its own thread; one more thread exports. The providers are shut down
//! first, then the pipeline, whose report tells what became of every item.

mod support;

use opentelemetry::logs::{LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::metrics::{Counter, Histogram, MeterProvider};
use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use otlp_embed::pb::metrics::metric::Data;
use otlp_embed::pb::metrics::{NumberDataPoint, number_data_point};
use otlp_embed::pipeline::PipelineConfig;
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::{ReceivedSpan, Value};
use otlp_embed::{Config, Protocol, rt, sdk};
use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::time::Duration;
use support::{Comparison, Destination, Result, close, exit_code, say};

const ORDERS: u64 = 40;
/// Every so many orders the bank declines.
const DECLINED_EVERY: u64 = 8;

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<()> {
    let destination = Destination::from_args()?;

    // One exporter, one pipeline, one thread, for all three signals.
    let exporter = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(&destination.endpoint)
        .with_observer(support::warn)
        .build(rt::Blocking::new()?)?;
    let (pipeline, future) = exporter.pipeline(PipelineConfig::new())?;
    let thread = future.run_on_thread()?;

    let resource = Resource::builder()
        .with_service_name("shop")
        .with_attribute(KeyValue::new("deployment.environment.name", "demo"))
        .build();
    let traces = SdkTracerProvider::builder()
        .with_span_processor(sdk::SpanProcessor::new(&pipeline))
        .with_resource(resource.clone())
        .build();
    let logs = SdkLoggerProvider::builder()
        .with_log_processor(sdk::LogProcessor::new(&pipeline))
        .with_resource(resource.clone())
        .build();
    let metrics = SdkMeterProvider::builder()
        .with_periodic_exporter(sdk::MetricExporter::queued(&pipeline))
        .with_resource(resource)
        .build();

    let mut shop = Shop::new(&traces, &logs, &metrics);
    (1..=ORDERS).for_each(|number| shop.order(number));

    // Each provider flushes and ends its own part. The pipeline is the application's, and tells how it went.
    for failure in [traces.shutdown(), logs.shutdown(), metrics.shutdown()]
        .into_iter()
        .filter_map(std::result::Result::err)
    {
        say(format_args!("A provider's shutdown: {failure}"));
    }
    pipeline.shutdown_blocking(Duration::from_secs(5));
    let report = thread.join()?;

    if let Some(collector) = &destination.collector {
        shop.made.compare(collector)?;
    }
    close(&report, &exporter.stats())
}

/// A shop, and what it is watched with.
struct Shop {
    tracer: SdkTracer,
    logger: SdkLogger,
    orders: Counter<u64>,
    values: Histogram<f64>,
    /// The order before, which the next one links to.
    previous: Option<SpanContext>,
    made: Made,
}

impl Shop {
    fn new(traces: &SdkTracerProvider, logs: &SdkLoggerProvider, metrics: &SdkMeterProvider) -> Self {
        let scope = InstrumentationScope::builder("shop.checkout")
            .with_version("1.4.0")
            .build();
        let meter = metrics.meter_with_scope(scope.clone());
        Self {
            tracer: traces.tracer_with_scope(scope.clone()),
            logger: logs.logger_with_scope(scope),
            orders: meter.u64_counter("shop.orders").with_unit("{order}").build(),
            values: meter
                .f64_histogram("shop.order.value")
                .with_unit("EUR")
                .with_boundaries(vec![10.0, 50.0, 100.0])
                .build(),
            previous: None,
            made: Made::default(),
        }
    }

    /// Checks out an order: a span, within it one for the stock and one for the bank.
    fn order(&mut self, number: u64) {
        let value = number as f64 * 2.5;
        let checkout = self
            .tracer
            .span_builder("checkout")
            .with_kind(SpanKind::Server)
            .with_attributes([KeyValue::new("order.number", number as i64)])
            .start(&self.tracer);
        let cx = Context::current_with_span(checkout);
        // What is logged while this lives belongs to the span.
        let _active = cx.clone().attach();
        self.made.spans += 1;
        if let Some(previous) = self.previous.replace(cx.span().span_context().clone()) {
            let attributes = vec![KeyValue::new("link.reason", "the same customer")];
            cx.span().add_link(previous, attributes);
            self.made.links += 1;
        }

        self.reserve(number);
        let outcome = match self.charge(number, value) {
            Ok(()) => "paid",
            Err(error) => {
                cx.span().set_status(Status::error(error.to_string()));
                self.made.errors += 1;
                self.log(Severity::Error, format!("order {number} failed: {error}"));
                "declined"
            }
        };
        self.orders.add(1, &[KeyValue::new("order.outcome", outcome)]);
        self.values.record(value, &[]);
        self.made.value += value;
        *self.made.orders.entry(outcome.into()).or_default() += 1;
    }

    /// Takes the goods from the shelf.
    fn reserve(&mut self, number: u64) {
        self.tracer.in_span("reserve stock", |cx| {
            let shelf = KeyValue::new("shelf", (number % 7) as i64);
            cx.span().add_event("reserved", vec![shelf]);
        });
        self.made.spans += 1;
        self.made.events += 1;
        self.log(
            Severity::Info,
            format!("the goods of order {number} are reserved"),
        );
    }

    /// Asks the bank.
    fn charge(&mut self, number: u64, value: f64) -> std::result::Result<(), Declined> {
        let builder = self
            .tracer
            .span_builder("charge card")
            .with_kind(SpanKind::Client)
            .with_attributes([KeyValue::new("amount", value)]);
        self.made.spans += 1;
        self.tracer.in_span_with_builder(builder, |cx| {
            if number % DECLINED_EVERY != 0 {
                return Ok(());
            }
            cx.span().record_error(&Declined);
            cx.span().set_status(Status::error("declined"));
            self.made.events += 1;
            self.made.errors += 1;
            Err(Declined)
        })
    }

    fn log(&mut self, severity: Severity, text: String) {
        let mut record = self.logger.create_log_record();
        record.set_severity_number(severity);
        record.set_severity_text(severity.name());
        record.set_body(text.into());
        self.logger.emit(record);
        self.made.records += 1;
    }
}

/// What the bank says.
#[derive(Debug)]
struct Declined;

impl std::fmt::Display for Declined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the bank declined")
    }
}

impl std::error::Error for Declined {}

/// What the shop has made.
#[derive(Default)]
struct Made {
    spans: usize,
    events: usize,
    links: usize,
    errors: usize,
    records: usize,
    /// Orders by what became of them.
    orders: BTreeMap<String, i64>,
    value: f64,
}

impl Made {
    /// Compares it with what the collector has received.
    fn compare(&self, collector: &Collector) -> Result<()> {
        let spans = collector.spans();
        let logs = collector.logs();
        let by_id: HashMap<_, _> = spans.iter().map(|span| (span.span_id.clone(), span)).collect();
        let parent = |span: &ReceivedSpan| by_id.get(&span.parent_span_id).copied();
        let nested = spans.iter().filter(|span| {
            parent(span).is_some_and(|parent| parent.name == "checkout" && parent.trace_id == span.trace_id)
        });
        let correlated = logs.iter().filter(|log| {
            let span = by_id.get(&log.record.span_id);
            span.is_some_and(|span| span.trace_id == log.record.trace_id)
        });
        let is_ours = |service: &str, scope: &str, version: &str| {
            (service, scope, version) == ("shop", "shop.checkout", "1.4.0")
        };
        let of_shop = spans
            .iter()
            .map(|span| is_ours(span.service_name(), &span.scope.name, &span.scope.version))
            .chain(logs.iter().map(|log| {
                let (service, scope) = (log.resource.service_name(), &log.scope);
                is_ours(service, &scope.name, &scope.version)
            }));

        let mut table = Comparison::default();
        table
            .row("spans", self.spans, spans.len())
            .row("  within a checkout", 2 * ORDERS, nested.count())
            .row(
                "  errors",
                self.errors,
                spans.iter().filter(|span| span.is_error()).count(),
            )
            .row(
                "  events",
                self.events,
                spans.iter().map(|span| span.events.len()).sum::<usize>(),
            )
            .row(
                "  links",
                self.links,
                spans.iter().map(|span| span.links.len()).sum::<usize>(),
            )
            .row("log records", self.records, logs.len())
            .row("  in their spans", self.records, correlated.count())
            .row(
                "items of service and scope",
                self.spans + self.records,
                of_shop.filter(|is_ours| *is_ours).count(),
            );
        self.compare_metrics(collector, &mut table)?;
        table.check()?;
        say("Each item arrived once, under its service and scope");
        Ok(())
    }

    fn compare_metrics(&self, collector: &Collector, table: &mut Comparison) -> Result<()> {
        // They are cumulative: the last collection has all.
        let last: BTreeMap<_, _> = collector
            .metrics()
            .into_iter()
            .map(|received| (received.metric.name, received.metric.data))
            .collect();
        for (name, data) in last {
            match data {
                Some(Data::Sum(sum)) => {
                    let arrived = sum
                        .data_points
                        .into_iter()
                        .map(orders)
                        .collect::<Option<BTreeMap<_, _>>>();
                    let arrived = arrived.ok_or_else(|| format!("{name} has a point without an outcome"))?;
                    for (outcome, made) in &self.orders {
                        let arrived = arrived.get(outcome).copied().unwrap_or_default();
                        table.row(format_args!("{name}, {outcome}"), made, arrived);
                    }
                }
                Some(Data::Histogram(histogram)) => {
                    let points = &histogram.data_points;
                    let count: u64 = points.iter().map(|point| point.count).sum();
                    let sum: f64 = points.iter().filter_map(|point| point.sum).sum();
                    table
                        .row(&name, ORDERS, count)
                        .row("  their sum", self.value, sum);
                }
                _ => return Err(format!("the metric {name} came in an unexpected form").into()),
            }
        }
        Ok(())
    }
}

/// The outcome that a point of the counter is about, and how many orders had it.
fn orders(point: NumberDataPoint) -> Option<(String, i64)> {
    let outcome = point
        .attributes
        .into_iter()
        .find(|field| field.key == "order.outcome")?;
    match (Value::from(outcome.value?), point.value?) {
        (Value::Str(outcome), number_data_point::Value::AsInt(count)) => Some((outcome, count)),
        _ => None,
    }
}
