//! Metrics of the SDK on the wire, compared with what the upstream makes of the same collection.

mod wire;

use opentelemetry::metrics::MeterProvider;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{NumberDataPoint, metric::Data};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{Aggregation, Instrument, SdkMeterProvider, Stream, Temporality};
use otlp_embed::pipeline::PipelineConfig;
use otlp_embed::{TemporalityPreference, sdk};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use wire::{Chance, messages, resource, sort_resource, world};

const TIME: Duration = Duration::from_secs(20);

/// Hands each collection to ours, and keeps what the upstream makes of it.
#[derive(Debug)]
struct Both {
    ours: sdk::MetricExporter,
    theirs: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
}

impl PushMetricExporter for Both {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let theirs = ExportMetricsServiceRequest::from(metrics);
        self.theirs.lock().expect("no panic").push(theirs);
        self.ours.export(metrics).await
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.ours.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.ours.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.ours.temporality()
    }
}

/// Histograms of this name are exponential.
fn view(instrument: &Instrument) -> Option<Stream> {
    let aggregation = match instrument.name() {
        "exponential" => Aggregation::Base2ExponentialHistogram {
            max_size: 20,
            max_scale: 5,
            record_min_max: true,
        },
        "bare" => Aggregation::ExplicitBucketHistogram {
            boundaries: Vec::new(),
            record_min_max: false,
        },
        _ => return None,
    };
    Stream::builder().with_aggregation(aggregation).build().ok()
}

/// Uses every instrument, of every kind of number.
fn measure(provider: &SdkMeterProvider, chance: &mut Chance) {
    let scope = InstrumentationScope::builder("meters")
        .with_version("1.0")
        .with_schema_url("https://example.com/scope")
        .with_attributes([KeyValue::new("scope.attribute", true)])
        .build();
    for meter in [provider.meter_with_scope(scope), provider.meter("plain")] {
        for _ in 0..1 + chance.below(10) {
            let attributes = [
                KeyValue::new("key", chance.below(3) as i64),
                KeyValue::new("value", chance.value()),
            ];
            meter
                .u64_counter("u64.counter")
                .with_unit("By")
                .build()
                .add(chance.below(1_000), &attributes);
            meter
                .f64_counter("f64.counter")
                .with_description("of halves")
                .build()
                .add(0.5, &attributes);
            let number = chance.number() / 1_000_000;
            meter
                .i64_up_down_counter("i64.up.down")
                .build()
                .add(number, &attributes);
            meter
                .f64_up_down_counter("f64.up.down")
                .build()
                .add(-1.25, &attributes);
            meter
                .u64_gauge("u64.gauge")
                .build()
                .record(chance.below(9), &attributes);
            meter.i64_gauge("i64.gauge").build().record(number, &attributes);
            meter
                .f64_gauge("f64.gauge")
                .build()
                .record(chance.float(), &attributes);
            let size = chance.below(20_000);
            meter
                .u64_histogram("u64.histogram")
                .build()
                .record(size, &attributes);
            let measured = size as f64 / 3.0 - 1_000.0;
            meter
                .f64_histogram("f64.histogram")
                .with_boundaries(vec![0.0, 10.0, 100.0])
                .build()
                .record(measured, &[]);
            meter.f64_histogram("exponential").build().record(measured, &[]);
            meter.u64_histogram("bare").build().record(size, &[]);
        }
        meter
            .u64_observable_counter("u64.observable")
            .with_callback(|observer| observer.observe(7, &[KeyValue::new("observed", true)]))
            .build();
        meter
            .f64_observable_gauge("f64.observable")
            .with_callback(|observer| observer.observe(0.0, &[]))
            .build();
    }
}

/// Resources' attributes come in any order, and empty buckets are none.
fn normal(mut request: ExportMetricsServiceRequest) -> ExportMetricsServiceRequest {
    for group in &mut request.resource_metrics {
        sort_resource(&mut group.resource);
        let metrics = group
            .scope_metrics
            .iter_mut()
            .flat_map(|scope| &mut scope.metrics);
        for metric in metrics {
            if let Some(Data::ExponentialHistogram(histogram)) = &mut metric.data {
                for point in &mut histogram.data_points {
                    for side in [&mut point.positive, &mut point.negative] {
                        side.take_if(|buckets| buckets.bucket_counts.is_empty());
                    }
                }
            }
        }
    }
    request
}

#[test]
fn collections_are_what_the_upstream_makes_of_them() {
    for (seed, preference) in (0..30).flat_map(|seed| {
        let preferences = [
            TemporalityPreference::Cumulative,
            TemporalityPreference::Delta,
            TemporalityPreference::LowMemory,
        ];
        preferences.map(|preference| (seed, preference))
    }) {
        let is_queued = seed % 2 == 0;
        let (collector, exporter) = world();
        let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
        let thread = future.run_on_thread().expect("a thread");
        let ours = match is_queued {
            true => sdk::MetricExporter::queued(&pipeline),
            false => sdk::MetricExporter::new(&exporter),
        };
        let theirs = Arc::new(Mutex::new(Vec::new()));
        let both = Both {
            ours: ours.with_temporality(preference),
            theirs: theirs.clone(),
        };
        let provider = SdkMeterProvider::builder()
            .with_periodic_exporter(both)
            .with_resource(resource())
            .with_view(view)
            .build();
        measure(&provider, &mut Chance(seed));
        provider.force_flush().expect("collected");
        measure(&provider, &mut Chance(seed + 1_000));
        provider.shutdown_with_timeout(TIME).expect("collected");
        pipeline.shutdown_blocking(TIME);
        thread.join().expect("it ends");

        let theirs: Vec<_> = theirs.lock().expect("no panic").drain(..).map(normal).collect();
        let received: Vec<ExportMetricsServiceRequest> = messages(&collector);
        let ours: Vec<_> = received.into_iter().map(normal).collect();
        assert!(theirs.len() >= 2, "seed {seed}");
        // A pipeline may put several collections into one message.
        let groups = |requests: Vec<ExportMetricsServiceRequest>| -> Vec<_> {
            let groups = requests.into_iter().flat_map(|request| request.resource_metrics);
            groups.filter(|group| !group.scope_metrics.is_empty()).collect()
        };
        let (ours, theirs) = (groups(ours), groups(theirs));
        assert_eq!(ours.len(), theirs.len(), "seed {seed}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(
                (&ours.resource, &ours.schema_url),
                (&theirs.resource, &theirs.schema_url)
            );
            assert_eq!(ours.scope_metrics.len(), theirs.scope_metrics.len());
            for (ours, theirs) in ours.scope_metrics.iter().zip(&theirs.scope_metrics) {
                assert_eq!(ours.scope, theirs.scope);
                assert_eq!(ours.metrics.len(), theirs.metrics.len(), "seed {seed}");
                for (ours, theirs) in ours.metrics.iter().zip(&theirs.metrics) {
                    assert_eq!(ours, theirs, "seed {seed}, {preference:?}, queued: {is_queued}");
                }
            }
        }
    }
}

/// The upstream writes zero.
#[test]
fn a_number_beyond_what_otlp_has_is_the_nearest_there_is() {
    let (collector, exporter) = world();
    let provider = SdkMeterProvider::builder()
        .with_periodic_exporter(sdk::MetricExporter::new(&exporter))
        .build();
    let beyond = u64::MAX - 5;
    provider
        .meter("m")
        .u64_gauge("beyond")
        .build()
        .record(beyond, &[]);
    provider.shutdown_with_timeout(TIME).expect("delivered");
    let received: Vec<ExportMetricsServiceRequest> = messages(&collector);
    let metric = &received[0].resource_metrics[0].scope_metrics[0].metrics[0];
    let Some(Data::Gauge(gauge)) = &metric.data else {
        panic!("{metric:?} is no gauge");
    };
    let [NumberDataPoint { value, .. }] = gauge.data_points.as_slice() else {
        panic!("{gauge:?}");
    };
    assert_eq!(*value, Some(Number::AsDouble(beyond as f64)));
}
