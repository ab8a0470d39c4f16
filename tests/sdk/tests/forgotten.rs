//! Futures of exporters that are leaked in the middle of sending: the SDK frees what it lent, others drive the channel on, and
//! everything arrives as it was. AddressSanitizer watches where this is run under it.

use futures_util::task::noop_waker;
use opentelemetry::KeyValue;
use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{Span, Tracer, TracerProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, SdkLoggerProvider};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{SdkMeterProvider, Temporality};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use otlp_embed::pb::metrics::metric::Data;
use otlp_embed::rt::Runtime;
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::Value;
use otlp_embed::{Config, Exporter, Protocol, Request, Resource, TraceBatch, rt, sdk};
use std::future::Future;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

/// Far more than sockets buffer, so that a collector that does not read leaves an export in the middle.
const TEXT_BYTES: usize = 1 << 20;
const TEXTS: usize = 16;
/// Polls after which an export has connected and is stuck in its socket.
const POLLS: usize = 2_000;

fn text(number: usize) -> String {
    char::from(b'a' + number as u8).to_string().repeat(TEXT_BYTES)
}

fn texts() -> Vec<String> {
    (0..TEXTS).map(text).collect()
}

/// An exporter that polls the exports of another until they are in the middle of sending, and leaks them.
#[derive(Debug)]
struct Leaky<E>(E);

impl<E> Leaky<E> {
    fn leak(&self, export: impl Future<Output = OTelSdkResult>) -> OTelSdkResult {
        let mut export = Box::pin(export);
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        for _ in 0..POLLS {
            if let Poll::Ready(verdict) = export.as_mut().poll(&mut cx) {
                panic!("the collector does not read, and yet: {verdict:?}");
            }
            thread::yield_now();
        }
        std::mem::forget(export);
        Ok(())
    }
}

impl<E: SpanExporter> SpanExporter for Leaky<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.leak(self.0.export(batch))
    }
}

impl<E: LogExporter> LogExporter for Leaky<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        // When this returns, the SDK frees the records.
        self.leak(self.0.export(batch))
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Leaky<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        // When this returns, the SDK overwrites the collection.
        self.leak(self.0.export(metrics))
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Delta
    }
}

/// One span, to have something that drives the channel.
fn other() -> Request {
    let mut batch = TraceBatch::new(&Resource::new());
    batch.span([1; 16], [2; 8], "other").end();
    batch.finish()
}

/// A collector that does not read, and an exporter to it.
fn world(protocol: Protocol) -> (Collector, Exporter<rt::Smol>) {
    let collector = Collector::start().expect("a collector");
    collector.pause();
    let config = Config::new()
        .with_protocol(protocol)
        .with_endpoint(collector.endpoint())
        .with_timeout(Duration::from_secs(120));
    (collector, config.build(rt::Smol::new()).expect("an exporter"))
}

/// The collector reads again, and another export drives what was leaked, until all has settled.
fn drive_on<R: Runtime>(collector: &Collector, exporter: &Exporter<R>, items: u64) {
    collector.resume();
    let mut others = 0;
    while exporter.stats().in_flight > 0 || others == 0 {
        smol::block_on(exporter.export(other())).expect("delivered");
        others += 1;
    }
    let stats = exporter.stats();
    assert_eq!(
        (stats.delivered, stats.accepted),
        (items + others, items + others)
    );
}

fn sorted(texts: impl Iterator<Item = Value>) -> Vec<String> {
    let texts = texts.map(|value| match value {
        Value::Str(text) => text,
        other => panic!("{other:?} in place of a text"),
    });
    let mut texts: Vec<_> = texts.collect();
    texts.sort_unstable();
    texts
}

#[test]
fn log_records_are_freed_while_they_are_sent() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let (collector, exporter) = world(protocol);
        let provider = SdkLoggerProvider::builder()
            .with_simple_exporter(Leaky(sdk::LogExporter::new(&exporter)))
            .build();
        let logger = provider.logger("lent");
        for number in 0..TEXTS {
            let mut record = logger.create_log_record();
            record.set_body(AnyValue::from(text(number)));
            logger.emit(record);
        }
        assert_eq!(exporter.stats().in_flight, TEXTS as u64);
        drop((logger, provider));
        drive_on(&collector, &exporter, TEXTS as u64);
        let logs = collector.logs();
        assert!(sorted(logs.iter().map(|log| log.body())) == texts());
    }
}

#[test]
fn metrics_are_overwritten_while_they_are_sent() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let (collector, exporter) = world(protocol);
        let provider = SdkMeterProvider::builder()
            .with_periodic_exporter(Leaky(sdk::MetricExporter::new(&exporter)))
            .build();
        let counter = provider.meter("lent").u64_counter("texts").build();
        for half in [0..TEXTS / 2, TEXTS / 2..TEXTS] {
            for number in half {
                counter.add(1, &[KeyValue::new("text", text(number))]);
            }
            provider.force_flush().expect("exported, as it seems");
        }
        drop((counter, provider));
        drive_on(&collector, &exporter, TEXTS as u64);
        let metrics = collector.metrics();
        let points = metrics.iter().flat_map(|metric| match &metric.metric.data {
            Some(Data::Sum(sum)) => sum.data_points.as_slice(),
            other => panic!("{other:?} in place of a sum"),
        });
        let attributes = points.flat_map(|point| point.attributes.clone());
        let attributes = attributes.map(|attribute| attribute.value.map_or(Value::Empty, Value::from));
        assert!(sorted(attributes) == texts());
    }
}

#[test]
fn spans_outlive_the_future_that_sends_them() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let (collector, exporter) = world(protocol);
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(Leaky(sdk::SpanExporter::new(&exporter)))
            .build();
        let tracer = provider.tracer("owned");
        for number in 0..TEXTS {
            let mut span = tracer.start("long");
            span.set_attribute(KeyValue::new("text", text(number)));
            span.end();
        }
        assert_eq!(exporter.stats().in_flight, TEXTS as u64);
        drop((tracer, provider));
        drive_on(&collector, &exporter, TEXTS as u64);
        let spans = collector.spans();
        assert!(sorted(spans.iter().filter_map(|span| span.attribute("text").cloned())) == texts());
    }
}

#[test]
fn a_leaked_export_that_was_never_polled_is_driven_by_others() {
    let collector = Collector::start().expect("a collector");
    let config = Config::new().with_endpoint(collector.endpoint());
    let exporter = config.build(rt::Smol::new()).expect("an exporter");
    {
        let provider = SdkTracerProvider::builder().build();
        let mut span = provider.tracer("owned").start("long");
        span.set_attribute(KeyValue::new("text", text(0)));
        let data = span.exported_data().expect("it records");
        let exporter = sdk::SpanExporter::new(&exporter);
        std::mem::forget(exporter.export(vec![data]));
    }
    drive_on(&collector, &exporter, 1);
    assert_eq!(
        collector
            .spans()
            .iter()
            .filter(|span| span.attribute("text").is_some())
            .count(),
        1
    );
}
