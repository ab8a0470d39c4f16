//! Metrics: the exporter, and its data on the wire.

use super::values::LentValue;
use super::{name_scope, resource, sdk_result, unix_nanos};
use crate::config::TemporalityPreference;
use crate::encode::{
    Buckets, Distribution, ExponentialBuckets, HasExemplars, MetricBatch, MetricWriter, Number, PointWriter,
    Request, Resource, Temporality,
};
use crate::export::lock;
use crate::sdk::MetricExporter;
use alloc::vec::Vec;
use core::time::Duration;
use otel_api_0_33::KeyValue;
use otel_sdk_0_33::error::OTelSdkResult;
use otel_sdk_0_33::metrics::Temporality as SdkTemporality;
use otel_sdk_0_33::metrics::data::{
    AggregatedMetrics, Exemplar, ExponentialHistogram, Gauge, Histogram, Metric, MetricData, ResourceMetrics,
    Sum,
};
use std::sync::Mutex;

/// The resource that the last collection had, and what it was encoded to.
#[derive(Debug, Default)]
pub(in crate::sdk) struct ResourceMemo(Mutex<Option<(otel_sdk_0_33::Resource, Resource)>>);

impl ResourceMemo {
    fn encoded(&self, of: &otel_sdk_0_33::Resource) -> Resource {
        let mut memo = lock(&self.0);
        if let Some((known, encoded)) = &*memo {
            if known == of {
                return encoded.clone();
            }
        }
        let encoded = resource(of);
        *memo = Some((of.clone(), encoded.clone()));
        encoded
    }
}

impl otel_sdk_0_33::metrics::exporter::PushMetricExporter for MetricExporter {
    fn export(&self, metrics: &ResourceMetrics) -> impl Future<Output = OTelSdkResult> + Send {
        let sending = self
            .outlet
            .send_with(|| request(&self.v0_33.encoded(metrics.resource()), metrics));
        async move { sdk_result(sending.await) }
    }

    fn force_flush(&self) -> OTelSdkResult {
        sdk_result(self.outlet.flush())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        sdk_result(self.outlet.shutdown(timeout))
    }

    fn temporality(&self) -> SdkTemporality {
        match self.temporality {
            TemporalityPreference::Cumulative => SdkTemporality::Cumulative,
            TemporalityPreference::Delta => SdkTemporality::Delta,
            TemporalityPreference::LowMemory => SdkTemporality::LowMemory,
        }
    }
}

fn request(resource: &Resource, metrics: &ResourceMetrics) -> Request {
    let mut batch = MetricBatch::new(resource);
    for of_scope in metrics.scope_metrics() {
        let scope = of_scope.scope();
        name_scope!(batch, scope.name(), scope);
        for metric in of_scope.metrics() {
            write_metric(&mut batch, metric);
        }
    }
    batch.finish()
}

fn write_metric(batch: &mut MetricBatch, metric: &Metric) {
    let to = batch
        .metric(metric.name())
        .description(metric.description())
        .unit(metric.unit());
    match metric.data() {
        AggregatedMetrics::F64(data) => write_data(to, data),
        AggregatedMetrics::U64(data) => write_data(to, data),
        AggregatedMetrics::I64(data) => write_data(to, data),
    }
}

/// A number that the SDK measures.
trait Measured: Copy + Into<Number> {
    fn as_f64(self) -> f64;
}

macro_rules! measured {
    ($($of:ty)*) => {$(
        impl Measured for $of {
            fn as_f64(self) -> f64 {
                self as f64
            }
        }
    )*};
}

measured! { f64 u64 i64 }

fn write_data<T: Measured>(to: MetricWriter<'_>, data: &MetricData<T>) {
    match data {
        MetricData::Gauge(gauge) => write_gauge(to, gauge),
        MetricData::Sum(sum) => write_sum(to, sum),
        MetricData::Histogram(histogram) => write_histogram(to, histogram),
        MetricData::ExponentialHistogram(histogram) => write_exponential(to, histogram),
    }
}

fn write_gauge<T: Measured>(to: MetricWriter<'_>, gauge: &Gauge<T>) {
    let times = gauge.start_time().map_or(0, unix_nanos)..unix_nanos(gauge.time());
    let mut to = to.gauge();
    for point in gauge.data_points() {
        let mut to = to.point(times.clone(), point.value());
        write_exemplars(&mut to, point.exemplars());
        write_attributes(&mut to, point.attributes());
        to.end();
    }
    to.end();
}

fn write_sum<T: Measured>(to: MetricWriter<'_>, sum: &Sum<T>) {
    let times = unix_nanos(sum.start_time())..unix_nanos(sum.time());
    let mut to = match sum.is_monotonic() {
        true => to.monotonic_sum(temporality(sum.temporality())),
        false => to.sum(temporality(sum.temporality())),
    };
    for point in sum.data_points() {
        let mut to = to.point(times.clone(), point.value());
        write_exemplars(&mut to, point.exemplars());
        write_attributes(&mut to, point.attributes());
        to.end();
    }
    to.end();
}

fn write_histogram<T: Measured>(to: MetricWriter<'_>, histogram: &Histogram<T>) {
    let times = unix_nanos(histogram.start_time())..unix_nanos(histogram.time());
    let mut to = to.histogram(temporality(histogram.temporality()));
    let (mut bounds, mut counts) = (Vec::new(), Vec::new());
    for point in histogram.data_points() {
        bounds.clear();
        bounds.extend(point.bounds());
        counts.clear();
        counts.extend(point.bucket_counts());
        // A view may leave the buckets out, and the count is all that is known.
        let mut to = match counts.is_empty() {
            true => to.point_without_buckets(times.clone(), point.count()),
            false => to.point(times.clone(), &bounds, &counts),
        };
        write_exemplars(&mut to, point.exemplars());
        write_attributes(&mut to, point.attributes());
        write_distribution(&mut to, point.sum(), point.min(), point.max());
        to.end();
    }
    to.end();
}

fn write_exponential<T: Measured>(to: MetricWriter<'_>, histogram: &ExponentialHistogram<T>) {
    let times = unix_nanos(histogram.start_time())..unix_nanos(histogram.time());
    let mut to = to.exponential_histogram(temporality(histogram.temporality()));
    let (mut above, mut below) = (Vec::new(), Vec::new());
    for point in histogram.data_points() {
        above.clear();
        above.extend(point.positive_bucket().counts());
        below.clear();
        below.extend(point.negative_bucket().counts());
        let buckets = ExponentialBuckets {
            scale: point.scale().into(),
            zero_count: point.zero_count(),
            zero_threshold: point.zero_threshold(),
            positive: Buckets {
                offset: point.positive_bucket().offset(),
                counts: &above,
            },
            negative: Buckets {
                offset: point.negative_bucket().offset(),
                counts: &below,
            },
        };
        let mut to = to.point(times.clone(), buckets);
        write_attributes(&mut to, point.attributes());
        write_distribution(&mut to, point.sum(), point.min(), point.max());
        write_exemplars(&mut to, point.exemplars());
        to.end();
    }
    to.end();
}

fn write_distribution<T: Measured, K: Distribution>(
    to: &mut PointWriter<'_, K>,
    sum: T,
    min: Option<T>,
    max: Option<T>,
) {
    to.sum(sum.as_f64());
    if let Some(min) = min {
        to.min(min.as_f64());
    }
    if let Some(max) = max {
        to.max(max.as_f64());
    }
}

fn write_attributes<'a, K: crate::encode::Kind>(
    to: &mut PointWriter<'_, K>,
    attributes: impl Iterator<Item = &'a KeyValue>,
) {
    for attribute in attributes {
        to.attr(attribute.key.as_str(), LentValue(&attribute.value));
    }
}

fn write_exemplars<'a, T: Measured + 'a, K: HasExemplars>(
    to: &mut PointWriter<'_, K>,
    exemplars: impl Iterator<Item = &'a Exemplar<T>>,
) {
    for exemplar in exemplars {
        to.exemplar(exemplar.value, unix_nanos(exemplar.time()), |to| {
            to.trace(*exemplar.trace_id(), *exemplar.span_id());
            for attribute in exemplar.filtered_attributes() {
                to.attr(attribute.key.as_str(), LentValue(&attribute.value));
            }
        });
    }
}

fn temporality(temporality: SdkTemporality) -> Temporality {
    match temporality {
        SdkTemporality::Delta => Temporality::Delta,
        // The rest are preferences for collecting; nothing is collected under them.
        _ => Temporality::Cumulative,
    }
}

#[cfg(test)]
mod tests {
    use super::{KeyValue, ResourceMemo};
    use otel_sdk_0_33::Resource;

    fn resource(name: &'static str) -> Resource {
        let builder = Resource::builder_empty();
        builder
            .with_attribute(KeyValue::new("service.name", name))
            .build()
    }

    #[test]
    fn a_resource_is_encoded_once_until_it_changes() {
        let memo = ResourceMemo::default();
        let first = memo.encoded(&resource("shop"));
        let again = memo.encoded(&resource("shop"));
        assert_eq!(first.message().as_ptr(), again.message().as_ptr());
        let other = memo.encoded(&resource("cart"));
        assert_ne!(first, other);
        assert_eq!(memo.encoded(&resource("shop")), first);
    }
}
