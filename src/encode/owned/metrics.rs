//! Owned metrics.

use super::{Group, Item, ScopeGroup, Writer, request};
use crate::encode::field::{double_field, fixed64_field, sint32_field};
use crate::encode::metric::kind_keys as keys;
use crate::encode::metric::{self as metrics, exemplar_keys, optional, packed_varints, packed64};
use crate::encode::request::{Request, Signal};
use crate::pb::collector::ExportMetricsServiceRequest;
use crate::pb::common::InstrumentationScope;
use crate::pb::metrics::exponential_histogram_data_point::Buckets;
use crate::pb::metrics::metric::Data;
use crate::pb::metrics::{
    Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, MetricsData, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, SummaryDataPoint, exemplar, number_data_point,
};
use crate::pb::resource::Resource;
use alloc::vec::Vec;

impl Request {
    /// Encodes owned metrics; the bytes are those that `prost` writes for the same messages.
    ///
    /// The same holds as for [`from_spans`](Self::from_spans): long texts are referenced in place, nothing is checked or
    /// grouped. The items are data points; without any the request is [empty](Self::is_empty).
    pub fn from_metrics(metrics: impl Into<Vec<ResourceMetrics>>) -> Self {
        request(Signal::Metrics, metrics.into())
    }
}

impl From<ExportMetricsServiceRequest> for Request {
    fn from(request: ExportMetricsServiceRequest) -> Self {
        Self::from_metrics(request.resource_metrics)
    }
}

impl From<MetricsData> for Request {
    fn from(data: MetricsData) -> Self {
        Self::from_metrics(data.resource_metrics)
    }
}

impl Group for ResourceMetrics {
    type Scope = ScopeMetrics;

    fn parts(&self) -> (Option<&Resource>, &[ScopeMetrics], &str) {
        (self.resource.as_ref(), &self.scope_metrics, &self.schema_url)
    }
}

impl ScopeGroup for ScopeMetrics {
    type Item = Metric;

    fn parts(&self) -> (Option<&InstrumentationScope>, &[Metric], &str) {
        (self.scope.as_ref(), &self.metrics, &self.schema_url)
    }
}

impl Item for Metric {
    const BYTES: usize = 500;

    fn count(&self) -> usize {
        match &self.data {
            None => 0,
            Some(Data::Gauge(data)) => data.data_points.len(),
            Some(Data::Sum(data)) => data.data_points.len(),
            Some(Data::Histogram(data)) => data.data_points.len(),
            Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
            Some(Data::Summary(data)) => data.data_points.len(),
        }
    }

    fn write<'s, S: Send + Sync + 'static>(&'s self, to: &mut Writer<'s, S>) {
        to.text(metrics::METRIC_NAME, &self.name);
        to.text(metrics::METRIC_DESCRIPTION, &self.description);
        to.text(metrics::METRIC_UNIT, &self.unit);
        if let Some(data) = &self.data {
            to.data(data);
        }
        to.attributes(metrics::METRIC_METADATA, &self.metadata);
    }
}

impl<'s, S: Send + Sync + 'static> Writer<'s, S> {
    fn data(&mut self, data: &'s Data) {
        let key = match data {
            Data::Gauge(_) => metrics::METRIC_GAUGE,
            Data::Sum(_) => metrics::METRIC_SUM,
            Data::Histogram(_) => metrics::METRIC_HISTOGRAM,
            Data::ExponentialHistogram(_) => metrics::METRIC_EXPONENTIAL_HISTOGRAM,
            Data::Summary(_) => metrics::METRIC_SUMMARY,
        };
        // A metric is little more than its data.
        let frame = self.sink.open(key, self.item_width);
        match data {
            Data::Gauge(gauge) => self.points(&gauge.data_points, Self::number),
            Data::Sum(sum) => {
                self.points(&sum.data_points, Self::number);
                self.enumeration(metrics::DATA_TEMPORALITY, sum.aggregation_temporality);
                self.varint(metrics::DATA_IS_MONOTONIC, sum.is_monotonic.into());
            }
            Data::Histogram(histogram) => {
                self.points(&histogram.data_points, Self::histogram);
                self.enumeration(metrics::DATA_TEMPORALITY, histogram.aggregation_temporality);
            }
            Data::ExponentialHistogram(histogram) => {
                self.points(&histogram.data_points, Self::exponential_histogram);
                self.enumeration(metrics::DATA_TEMPORALITY, histogram.aggregation_temporality);
            }
            Data::Summary(summary) => self.points(&summary.data_points, Self::summary),
        }
        self.sink.close(frame);
    }

    fn points<P>(&mut self, points: &'s [P], write: impl Fn(&mut Self, &'s P)) {
        let mut width = 1;
        for point in points {
            let frame = self.sink.open(metrics::DATA_POINTS, width);
            write(self, point);
            width = self.sink.close(frame);
        }
    }

    fn number(&mut self, point: &'s NumberDataPoint) {
        self.times(point.start_time_unix_nano, point.time_unix_nano);
        match point.value {
            Some(number_data_point::Value::AsDouble(value)) => {
                fixed64_field(&mut self.sink, keys::NUMBER_DOUBLE, value.to_bits(), true);
            }
            Some(number_data_point::Value::AsInt(value)) => {
                fixed64_field(&mut self.sink, keys::NUMBER_INT, value as u64, true);
            }
            None => {}
        }
        self.exemplars(keys::NUMBER_EXEMPLARS, &point.exemplars);
        self.attributes(keys::NUMBER_ATTRIBUTES, &point.attributes);
        self.varint(keys::NUMBER_FLAGS, point.flags);
    }

    fn histogram(&mut self, point: &'s HistogramDataPoint) {
        self.times(point.start_time_unix_nano, point.time_unix_nano);
        let sink = &mut self.sink;
        fixed64_field(sink, keys::COUNT, point.count, false);
        optional(sink, keys::SUM, point.sum);
        packed64(
            sink,
            keys::HISTOGRAM_COUNTS,
            &point.bucket_counts,
            u64::to_le_bytes,
        );
        packed64(
            sink,
            keys::HISTOGRAM_BOUNDS,
            &point.explicit_bounds,
            f64::to_le_bytes,
        );
        self.exemplars(keys::HISTOGRAM_EXEMPLARS, &point.exemplars);
        self.attributes(keys::HISTOGRAM_ATTRIBUTES, &point.attributes);
        self.varint(keys::HISTOGRAM_FLAGS, point.flags);
        optional(&mut self.sink, keys::HISTOGRAM_MIN, point.min);
        optional(&mut self.sink, keys::HISTOGRAM_MAX, point.max);
    }

    fn exponential_histogram(&mut self, point: &'s ExponentialHistogramDataPoint) {
        self.attributes(keys::EXPONENTIAL_ATTRIBUTES, &point.attributes);
        self.times(point.start_time_unix_nano, point.time_unix_nano);
        let sink = &mut self.sink;
        fixed64_field(sink, keys::COUNT, point.count, false);
        optional(sink, keys::SUM, point.sum);
        sint32_field(sink, keys::EXPONENTIAL_SCALE, point.scale);
        fixed64_field(sink, keys::EXPONENTIAL_ZERO_COUNT, point.zero_count, false);
        self.buckets(keys::EXPONENTIAL_POSITIVE, point.positive.as_ref());
        self.buckets(keys::EXPONENTIAL_NEGATIVE, point.negative.as_ref());
        self.varint(keys::EXPONENTIAL_FLAGS, point.flags);
        self.exemplars(keys::EXPONENTIAL_EXEMPLARS, &point.exemplars);
        let sink = &mut self.sink;
        optional(sink, keys::EXPONENTIAL_MIN, point.min);
        optional(sink, keys::EXPONENTIAL_MAX, point.max);
        double_field(sink, keys::EXPONENTIAL_ZERO_THRESHOLD, point.zero_threshold);
    }

    fn buckets(&mut self, key: u8, buckets: Option<&'s Buckets>) {
        if let Some(buckets) = buckets {
            let frame = self.sink.open(key, 1);
            sint32_field(&mut self.sink, keys::BUCKETS_OFFSET, buckets.offset);
            packed_varints(&mut self.sink, keys::BUCKETS_COUNTS, &buckets.bucket_counts);
            self.sink.close(frame);
        }
    }

    fn summary(&mut self, point: &'s SummaryDataPoint) {
        self.times(point.start_time_unix_nano, point.time_unix_nano);
        fixed64_field(&mut self.sink, keys::COUNT, point.count, false);
        double_field(&mut self.sink, keys::SUM, point.sum);
        for value in &point.quantile_values {
            let frame = self.sink.open(keys::SUMMARY_QUANTILES, 1);
            double_field(&mut self.sink, keys::QUANTILE_QUANTILE, value.quantile);
            double_field(&mut self.sink, keys::QUANTILE_VALUE, value.value);
            self.sink.close(frame);
        }
        self.attributes(keys::SUMMARY_ATTRIBUTES, &point.attributes);
        self.varint(keys::SUMMARY_FLAGS, point.flags);
    }

    fn exemplars(&mut self, key: u8, exemplars: &'s [Exemplar]) {
        for exemplar in exemplars {
            let frame = self.sink.open(key, 1);
            let sink = &mut self.sink;
            fixed64_field(sink, exemplar_keys::TIME, exemplar.time_unix_nano, false);
            match exemplar.value {
                Some(exemplar::Value::AsDouble(value)) => {
                    fixed64_field(sink, exemplar_keys::DOUBLE, value.to_bits(), true);
                }
                Some(exemplar::Value::AsInt(value)) => {
                    fixed64_field(sink, exemplar_keys::INT, value as u64, true);
                }
                None => {}
            }
            self.bytes(exemplar_keys::SPAN_ID, &exemplar.span_id);
            self.bytes(exemplar_keys::TRACE_ID, &exemplar.trace_id);
            self.attributes(exemplar_keys::ATTRIBUTES, &exemplar.filtered_attributes);
            self.sink.close(frame);
        }
    }

    fn times(&mut self, start: u64, time: u64) {
        fixed64_field(&mut self.sink, keys::START, start, false);
        fixed64_field(&mut self.sink, keys::TIME, time, false);
    }
}
