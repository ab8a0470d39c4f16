//! A collector that dies and returns: increments of delta metrics that were queued outlive it, each once; what an exporter
//! without a queue loses is told. And the temporality that an application asks for.

mod running;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use opentelemetry_sdk::trace::SdkTracerProvider;
use otlp_embed::pb::metrics::{AggregationTemporality, metric::Data, number_data_point::Value};
use otlp_embed::pipeline::{PipelineConfig, QueueConfig};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Config, DropReason, Exporter, Protocol, Signal, TemporalityPreference, rt, sdk};
use running::{LONG, assert_all_delivered, assert_settled, assert_spans_once, config, end_spans, within};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

/// Far less than an export may take, far more than an admission does.
const ADMISSION: Duration = Duration::from_secs(20);
/// What an outage shorter than this costs a pipeline nothing.
const PATIENCE: Duration = Duration::from_secs(3600);

fn delta(config: Config) -> Exporter<rt::Blocking> {
    config
        .with_temporality_preference(TemporalityPreference::Delta)
        .with_retry_policy(RetryPolicy::fixed(Duration::from_millis(20)))
        .build(rt::Blocking::new().expect("a runtime"))
        .expect("an exporter")
}

/// A provider that collects when it is told to.
fn metering(exporter: sdk::MetricExporter) -> SdkMeterProvider {
    let reader = PeriodicReader::builder(exporter).with_interval(PATIENCE).build();
    SdkMeterProvider::builder().with_reader(reader).build()
}

/// Increments of which each is another power of two: their sum tells which arrived, and whether one came twice.
struct Increments {
    provider: SdkMeterProvider,
    made: u32,
}

impl Increments {
    fn new(exporter: sdk::MetricExporter) -> Self {
        Self {
            provider: metering(exporter),
            made: 0,
        }
    }

    /// Adds the next one and collects it.
    fn add(&mut self) -> OTelSdkResult {
        let meter = self.provider.meter("outage");
        meter
            .u64_counter("work")
            .build()
            .add(1 << self.made, &[KeyValue::new("route", "/cart")]);
        self.made += 1;
        let provider = self.provider.clone();
        within(ADMISSION, "a collection", move || provider.force_flush())
    }

    fn sum(&self) -> u64 {
        (1 << self.made) - 1
    }
}

/// The values of the points that the collector accepted.
fn accepted(collector: &Collector) -> Vec<u64> {
    let requests = collector.requests();
    let accepted: HashSet<u64> = requests
        .iter()
        .filter(|request| request.is_accepted())
        .map(|request| request.index)
        .collect();
    let mut values = Vec::new();
    for received in collector.metrics() {
        if !accepted.contains(&received.request) {
            continue;
        }
        let Some(Data::Sum(sum)) = received.metric.data else {
            panic!("{received:?} is no sum");
        };
        assert_eq!(sum.aggregation_temporality, AggregationTemporality::Delta as i32);
        values.extend(sum.data_points.iter().map(|point| match point.value {
            Some(Value::AsInt(value)) => u64::try_from(value).expect("an increment"),
            ref other => panic!("{other:?}"),
        }));
    }
    values
}

/// The next one listens where the last one did.
fn restart(addr: SocketAddr) -> Collector {
    Collector::bind(addr).expect("its port is free again")
}

#[test]
fn queued_increments_outlive_a_collector_that_dies_and_returns() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson] {
        let collector = Collector::start().expect("a collector");
        let addr = collector.addr();
        let exporter = delta(config(&collector, protocol));
        let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
        let thread = future.run_on_thread().expect("a thread");
        let mut increments = Increments::new(sdk::MetricExporter::queued(&pipeline));
        let mut values = Vec::new();
        let mut living = Some(collector);
        for outage in 0..2 {
            for _ in 0..3 {
                increments.add().expect("admitted");
            }
            let flushed = pipeline.flush_blocking(LONG).expect("it runs");
            assert!(flushed.is_delivered(), "{flushed:?}");
            values.extend(accepted(&living.take().expect("it lives")));
            // It is dead now. Admission is all that the reader waits for.
            for _ in 0..5 {
                increments.add().expect("admitted");
            }
            let stats = pipeline.stats();
            assert_eq!(stats.total.queued + stats.total.in_flight, 5, "{stats:?}");
            assert_eq!(stats.total.delivered, 8 * outage + 3, "{stats:?}");
            living = Some(restart(addr));
        }
        let collector = living.expect("it lives");
        let provider = increments.provider.clone();
        within(LONG, "shutdown", move || provider.shutdown()).expect("flushed");
        let report = pipeline.shutdown_blocking(LONG);
        values.extend(accepted(&collector));
        values.sort_unstable();
        let made: Vec<u64> = (0..increments.made).map(|bit| 1 << bit).collect();
        // Collections may be merged by nobody on their way: each point is an increment of its own.
        assert_eq!(values, made, "{protocol:?}");
        assert_eq!(values.iter().sum::<u64>(), increments.sum());
        assert_all_delivered(&report.stats, u64::from(increments.made));
        thread.join().expect("no panic");
    }
}

/// Failures of every kind that passes, in the place of a death: nothing is lost.
#[test]
fn queued_increments_outlive_a_collector_that_is_unwell() {
    let collector = Collector::start().expect("a collector");
    for answer in [
        Answer::unavailable(),
        Answer::throttled(Duration::from_millis(30)),
        Answer::HttpStatus(503),
        Answer::Reset(7),
        Answer::AbortConnection,
        Answer::CloseConnection,
    ] {
        collector.answer_next(answer);
    }
    let exporter = delta(config(&collector, Protocol::Grpc));
    let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
    let thread = future.run_on_thread().expect("a thread");
    let mut increments = Increments::new(sdk::MetricExporter::queued(&pipeline));
    for _ in 0..20 {
        increments.add().expect("admitted");
    }
    let provider = increments.provider.clone();
    within(LONG, "shutdown", move || provider.shutdown()).expect("flushed");
    let report = pipeline.shutdown_blocking(LONG);
    assert_all_delivered(&report.stats, 20);
    assert_eq!(accepted(&collector).iter().sum::<u64>(), increments.sum());
    let counters = collector.counters();
    let refused = counters.requests - counters.requests_accepted;
    assert!(refused >= 6, "not every answer was met: {counters:?}");
    thread.join().expect("no panic");
}

/// Without a queue an outage costs what was collected in it: the reader is told, and so is the account.
#[test]
fn increments_without_a_queue_are_lost_and_told() {
    let collector = Collector::start().expect("a collector");
    let addr = collector.addr();
    let exporter = delta(config(&collector, Protocol::Grpc).with_timeout(Duration::from_millis(200)));
    let mut increments = Increments::new(sdk::MetricExporter::new(&exporter));
    increments.add().expect("delivered");
    let mut values = accepted(&collector);
    drop(collector);
    for _ in 0..3 {
        assert!(increments.add().is_err(), "there is no collector");
    }
    let stats = exporter.stats();
    assert_settled(&stats);
    assert_eq!((stats.accepted, stats.delivered), (4, 1), "{stats:?}");
    assert_eq!(
        stats.dropped_total() + stats.unknown,
        3,
        "each is told: {stats:?}"
    );
    let collector = restart(addr);
    increments.add().expect("delivered");
    values.extend(accepted(&collector));
    assert_eq!(values, [1, 16], "the first and the last");
    let stats = exporter.stats();
    assert_eq!((stats.accepted, stats.delivered), (5, 2), "{stats:?}");
    assert!(increments.provider.shutdown().is_ok());
}

/// A queue that has no room: the collection is dropped, the reader told, the items counted.
#[test]
fn a_collection_that_is_not_admitted_is_told() {
    let collector = Collector::start().expect("a collector");
    collector.answer(Answer::Never);
    let exporter = delta(config(&collector, Protocol::Grpc).with_timeout(PATIENCE));
    let queue = QueueConfig::new().with_items_max(3);
    let (pipeline, future) = exporter
        .pipeline(PipelineConfig::new().with_queue(queue))
        .expect("a pipeline");
    let thread = future.run_on_thread().expect("a thread");
    let mut increments = Increments::new(sdk::MetricExporter::queued(&pipeline));
    for _ in 0..3 {
        increments.add().expect("admitted");
    }
    for _ in 0..2 {
        assert!(increments.add().is_err(), "there is no room");
    }
    let stats = pipeline.stats();
    assert_eq!(stats.total.accepted, 5, "{stats:?}");
    assert_eq!(stats.total.dropped_for(DropReason::QueueFull), 2, "{stats:?}");
    let report = pipeline.shutdown_blocking(Duration::from_millis(500));
    assert_settled(&report.stats);
    assert_eq!(report.lost(), 5, "{report}");
    thread.join().expect("no panic");
}

/// Spans, too.
#[test]
fn spans_outlive_a_collector_that_dies_and_returns() {
    const EACH: usize = 3_000;
    let collector = Collector::start().expect("a collector");
    let addr = collector.addr();
    let exporter = delta(config(&collector, Protocol::Grpc));
    let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
    let thread = future.run_on_thread().expect("a thread");
    let provider = SdkTracerProvider::builder()
        .with_span_processor(sdk::SpanProcessor::new(&pipeline))
        .build();
    drop(collector);
    end_spans(&provider, 0, EACH);
    let told = within(LONG, "force_flush", {
        let provider = provider.clone();
        move || provider.force_flush()
    });
    assert!(told.is_err(), "nothing can have arrived");
    let collector = restart(addr);
    end_spans(&provider, EACH, 2 * EACH);
    within(LONG, "shutdown", move || provider.shutdown_with_timeout(LONG)).expect("all arrived");
    assert_all_delivered(&pipeline.shutdown_blocking(LONG).stats, 2 * EACH as u64);
    assert_spans_once(&collector, 2 * EACH);
    thread.join().expect("no panic");
}

/// spec 33: what the environment prefers, what the configuration sets, what the exporter is told.
#[test]
fn temporality_is_the_one_that_is_preferred() {
    let name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
    let of = |config: Config| {
        let runtime = rt::Blocking::new().expect("a runtime");
        let exporter = config.build(runtime).expect("an exporter");
        let (pipeline, _future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
        let direct = sdk::MetricExporter::new(&exporter);
        let queued = sdk::MetricExporter::queued(&pipeline);
        assert_eq!(direct.temporality(), queued.temporality());
        let told = queued.with_temporality(TemporalityPreference::LowMemory);
        assert_eq!(told.temporality(), Temporality::LowMemory);
        direct.temporality()
    };
    for (value, temporality) in [
        ("delta", Temporality::Delta),
        ("DELTA", Temporality::Delta),
        ("cumulative", Temporality::Cumulative),
        ("lowmemory", Temporality::LowMemory),
        ("", Temporality::Cumulative),
        ("sometimes", Temporality::Cumulative),
    ] {
        let config = Config::from_vars([(name, value)]).expect("an odd value falls through");
        assert_eq!(of(config), temporality, "{value:?}");
    }
    assert_eq!(of(Config::new()), Temporality::Cumulative);
    let delta = Config::new().with_temporality_preference(TemporalityPreference::Delta);
    assert_eq!(of(delta), Temporality::Delta);
}

/// Low memory: delta where the SDK keeps the sum, cumulative where the application does.
#[test]
fn low_memory_temporality_reaches_the_wire() {
    let collector = Collector::start().expect("a collector");
    let runtime = rt::Blocking::new().expect("a runtime");
    let exporter = config(&collector, Protocol::Grpc)
        .build(runtime)
        .expect("an exporter");
    let faces = sdk::MetricExporter::new(&exporter).with_temporality(TemporalityPreference::LowMemory);
    let provider = metering(faces);
    let meter = provider.meter("low");
    meter.u64_counter("counted").build().add(2, &[]);
    meter.i64_up_down_counter("up_down").build().add(-1, &[]);
    let _observed = meter
        .u64_observable_counter("observed")
        .with_callback(|observer| observer.observe(7, &[]))
        .build();
    provider.force_flush().expect("delivered");
    let (delta, cumulative) = (AggregationTemporality::Delta, AggregationTemporality::Cumulative);
    let mut found: Vec<_> = collector
        .metrics()
        .into_iter()
        .map(|received| match received.metric.data {
            Some(Data::Sum(sum)) => (received.metric.name, sum.aggregation_temporality),
            other => panic!("{other:?} is no sum"),
        })
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            (String::from("counted"), delta as i32),
            (String::from("observed"), cumulative as i32),
            (String::from("up_down"), cumulative as i32),
        ]
    );
    assert_eq!(exporter.stats().accepted, 3);
    assert_eq!(collector.counters().of(Signal::Metrics).items_accepted, 3);
}
