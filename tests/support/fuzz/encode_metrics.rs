//! Metrics as `prost` encodes them, whichever way they are told.

use super::batches::{same_bytes, same_message, write_groups};
use super::encode_roundtrip::{Any, message};
use crate::support::groups::{Group, grouped, messages};
use crate::support::messages::id;
use crate::support::messages_metrics::{metric_groups, normal_metrics};
use otlp_embed::encode::{
    Buckets, Distribution, ExemplarWriter, ExponentialBuckets, HasExemplars, Kind, Number, PointWriter,
    PointsWriter, points,
};
use otlp_embed::pb::collector::ExportMetricsServiceRequest;
use otlp_embed::pb::common::KeyValue;
use otlp_embed::pb::metrics::exponential_histogram_data_point::Buckets as PbBuckets;
use otlp_embed::pb::metrics::metric::Data;
use otlp_embed::pb::metrics::{
    AggregationTemporality, Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric,
    NumberDataPoint, SummaryDataPoint, exemplar, number_data_point,
};
use otlp_embed::{MetricBatch, Request, Resource, Temporality};

/// Encodes metrics made of the input in every way there is.
pub fn run(data: &[u8]) {
    let metrics = metric_groups(data);
    owned_metrics_are_as_prost_encodes_them(&metrics);
    let metrics = normal_metrics(metrics);
    let batch = &mut MetricBatch::new(&Resource::new());
    // The second round runs in the memory of the first.
    for _ in 0..2 {
        written_metrics_are_as_prost_encodes_them(batch, &metrics);
        order_and_repetition_do_not_matter(batch, &metrics);
    }
    abandoned_metrics_leave_no_trace(batch, &metrics);
}

fn expected(metrics: &[Group<Metric>]) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest {
        resource_metrics: messages(metrics),
    }
}

fn points_in(metrics: &[Group<Metric>]) -> u64 {
    let scopes = metrics.iter().flat_map(|group| &group.scopes);
    scopes
        .flat_map(|scope| &scope.items)
        .map(|metric| count(metric) as u64)
        .sum()
}

fn count(metric: &Metric) -> usize {
    match &metric.data {
        None => 0,
        Some(Data::Gauge(data)) => data.data_points.len(),
        Some(Data::Sum(data)) => data.data_points.len(),
        Some(Data::Histogram(data)) => data.data_points.len(),
        Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(Data::Summary(data)) => data.data_points.len(),
    }
}

/// What a batch makes of the metrics: data points that make sense, in metrics that have a name and points.
fn batched(metrics: &[Group<Metric>]) -> Vec<Group<Metric>> {
    grouped(metrics, |metric| {
        let mut metric = metric.clone();
        match &mut metric.data {
            Some(Data::Histogram(data)) => data.data_points.retain(makes_sense),
            Some(Data::ExponentialHistogram(data)) => data.data_points.retain(exponential_makes_sense),
            Some(Data::Summary(data)) => data.data_points.retain(summary_makes_sense),
            _ => {}
        }
        (count(&metric) > 0 && !metric.name.is_empty()).then_some(metric)
    })
}

fn makes_sense(point: &HistogramDataPoint) -> bool {
    let (counts, bounds) = (&point.bucket_counts, &point.explicit_bounds);
    let mut sorted = bounds.clone();
    sorted.sort_by(f64::total_cmp);
    sorted.dedup();
    (counts.len() == bounds.len() + 1 || counts.len() + bounds.len() == 0)
        && sorted == *bounds
        && fits(0, counts)
}

fn exponential_makes_sense(point: &ExponentialHistogramDataPoint) -> bool {
    let sides = || [&point.positive, &point.negative].into_iter().flatten();
    let counts: Vec<u64> = sides().flat_map(|side| side.bucket_counts.clone()).collect();
    let has_indexes = |side: &PbBuckets| {
        i32::try_from(i64::from(side.offset) + side.bucket_counts.len() as i64 - 1).is_ok()
    };
    point.zero_threshold >= 0.0 && fits(point.zero_count, &counts) && sides().all(has_indexes)
}

fn summary_makes_sense(point: &SummaryDataPoint) -> bool {
    let is_odd = |quantile: f64, value: f64| !(0.0..=1.0).contains(&quantile) || value < 0.0;
    !point
        .quantile_values
        .iter()
        .any(|value| is_odd(value.quantile, value.value))
}

fn fits(more: u64, counts: &[u64]) -> bool {
    counts.iter().map(|count| u128::from(*count)).sum::<u128>() + u128::from(more) <= u128::from(u64::MAX)
}

fn owned_metrics_are_as_prost_encodes_them(metrics: &[Group<Metric>]) {
    let request = Request::from(expected(metrics));
    same_bytes(&message(&request), &expected(metrics));
    assert_eq!(request.items(), points_in(metrics));
}

fn written_metrics_are_as_prost_encodes_them(batch: &mut MetricBatch, metrics: &[Group<Metric>]) {
    let grouped = batched(metrics);
    write_groups(batch, metrics, |batch, metric| _ = write(batch, metric, &InOrder));
    let (items, refused) = (points_in(&grouped), points_in(metrics) - points_in(&grouped));
    assert_eq!((batch.len() as u64, batch.refused()), (items, refused));
    if refused > 0 {
        assert!(batch.try_finish().expect_err("points were refused").is_misuse());
    }
    let request = batch.finish();
    same_bytes(&message(&request), &expected(&grouped));
    assert_eq!((request.items(), request.refused()), (items, refused));
    assert_eq!((batch.len(), batch.encoded_len(), batch.refused()), (0, 0, 0));
}

fn order_and_repetition_do_not_matter(batch: &mut MetricBatch, metrics: &[Group<Metric>]) {
    write_groups(batch, metrics, |batch, metric| {
        _ = write(batch, metric, &Backwards)
    });
    same_message(&message(&batch.finish()), &expected(&batched(metrics)));
}

fn abandoned_metrics_leave_no_trace(batch: &mut MetricBatch, metrics: &[Group<Metric>]) {
    let grouped = batched(metrics);
    let mut leaked = 0;
    write_groups(batch, metrics, |batch, metric| {
        // No kind, no point, a point alone, and a point beside others whose metric is abandoned as well.
        drop(batch.metric("kindless").metadata("a", "b"));
        std::mem::forget(batch.metric("pointless").metadata("a", "b").gauge());
        let mut lonely = batch.metric("lonely").summary();
        std::mem::forget(lonely.point(1..2, 3, 4.0));
        std::mem::forget(lonely);
        leaked += 1 + write(batch, metric, &Leaky);
    });
    let request = batch.finish();
    let refused = points_in(metrics) - points_in(&grouped);
    assert_eq!(request.refused(), refused + leaked);
    same_bytes(&message(&request), &expected(&grouped));
}

/// A way to write points; each says how many it wrote and abandoned beside the point.
trait Way {
    fn number(&self, to: &mut PointsWriter<'_, points::Numbers>, point: &NumberDataPoint) -> u64;
    fn histogram(&self, to: &mut PointsWriter<'_, points::Histograms>, point: &HistogramDataPoint) -> u64;
    fn exponential(
        &self,
        to: &mut PointsWriter<'_, points::ExponentialHistograms>,
        point: &ExponentialHistogramDataPoint,
    ) -> u64;
    fn summary(&self, to: &mut PointsWriter<'_, points::Summaries>, point: &SummaryDataPoint) -> u64;
    fn end<K: Kind>(&self, to: PointsWriter<'_, K>) {
        to.end();
    }
}

fn write(batch: &mut MetricBatch, metric: &Metric, way: &impl Way) -> u64 {
    let mut writer = batch
        .metric(&metric.name)
        .unit("to be overridden")
        .description(&metric.description)
        .unit(&metric.unit);
    for pair in &metric.metadata {
        writer = writer.metadata(&pair.key, Any(&pair.value));
    }
    macro_rules! each {
        ($to:expr, $data:expr, $write:ident) => {{
            let mut to = $to;
            let counts = $data.data_points.iter().map(|point| way.$write(&mut to, point));
            let count = counts.sum();
            way.end(to);
            count
        }};
    }
    let temporality = |number| match AggregationTemporality::try_from(number) {
        Ok(AggregationTemporality::Cumulative) => Temporality::Cumulative,
        _ => Temporality::Delta,
    };
    match &metric.data {
        None => 0,
        Some(Data::Gauge(data)) => each!(writer.gauge(), data, number),
        Some(Data::Sum(data)) if data.is_monotonic => {
            let to = writer.monotonic_sum(temporality(data.aggregation_temporality));
            each!(to, data, number)
        }
        Some(Data::Sum(data)) => each!(
            writer.sum(temporality(data.aggregation_temporality)),
            data,
            number
        ),
        Some(Data::Histogram(data)) => {
            let to = writer.histogram(temporality(data.aggregation_temporality));
            each!(to, data, histogram)
        }
        Some(Data::ExponentialHistogram(data)) => {
            let to = writer.exponential_histogram(temporality(data.aggregation_temporality));
            each!(to, data, exponential)
        }
        Some(Data::Summary(data)) => each!(writer.summary(), data, summary),
    }
}

fn begin_number<'p>(
    to: &'p mut PointsWriter<'_, points::Numbers>,
    point: &NumberDataPoint,
) -> PointWriter<'p, points::Numbers> {
    let times = point.start_time_unix_nano..point.time_unix_nano;
    match point.value {
        None => to.point_without_value(times),
        Some(number_data_point::Value::AsInt(value)) => to.point(times, value),
        Some(number_data_point::Value::AsDouble(value)) => to.point(times, value),
    }
}

fn begin_histogram<'p>(
    to: &'p mut PointsWriter<'_, points::Histograms>,
    point: &'p HistogramDataPoint,
) -> PointWriter<'p, points::Histograms> {
    let times = point.start_time_unix_nano..point.time_unix_nano;
    if point.bucket_counts.is_empty() && point.explicit_bounds.is_empty() {
        return to.point_without_buckets(times, point.count);
    }
    to.point(times, &point.explicit_bounds, &point.bucket_counts)
}

fn begin_exponential<'p>(
    to: &'p mut PointsWriter<'_, points::ExponentialHistograms>,
    point: &'p ExponentialHistogramDataPoint,
) -> PointWriter<'p, points::ExponentialHistograms> {
    let side = |side: &'p Option<PbBuckets>| {
        side.as_ref().map_or(Buckets::default(), |side| Buckets {
            offset: side.offset,
            counts: &side.bucket_counts,
        })
    };
    let buckets = ExponentialBuckets {
        scale: point.scale,
        zero_count: point.zero_count,
        zero_threshold: point.zero_threshold,
        positive: side(&point.positive),
        negative: side(&point.negative),
    };
    to.point(point.start_time_unix_nano..point.time_unix_nano, buckets)
}

fn write_attributes<K: Kind>(to: &mut PointWriter<'_, K>, attributes: &[KeyValue]) {
    for pair in attributes {
        to.attr(&pair.key, Any(&pair.value));
    }
}

fn write_exemplars<K: HasExemplars>(to: &mut PointWriter<'_, K>, exemplars: &[Exemplar], twice: bool) {
    for exemplar in exemplars {
        let write = |to: &mut ExemplarWriter<'_>| {
            if twice {
                to.trace([1; 16], [2; 8]);
            }
            to.trace(id(&exemplar.trace_id), id(&exemplar.span_id));
            for pair in &exemplar.filtered_attributes {
                to.attr(&pair.key, Any(&pair.value));
            }
        };
        let value = match exemplar.value {
            Some(exemplar::Value::AsDouble(value)) => Number::Double(value),
            Some(exemplar::Value::AsInt(value)) => Number::Int(value),
            None => unreachable!("normal exemplars have values"),
        };
        to.exemplar(value, exemplar.time_unix_nano, write);
    }
}

fn write_totals<K: Distribution>(
    to: &mut PointWriter<'_, K>,
    sum: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
) {
    if let Some(sum) = sum {
        to.sum(sum);
    }
    if let Some(min) = min {
        to.min(min);
    }
    if let Some(max) = max {
        to.max(max);
    }
}

/// In the order of the field numbers.
struct InOrder;

impl Way for InOrder {
    fn number(&self, to: &mut PointsWriter<'_, points::Numbers>, point: &NumberDataPoint) -> u64 {
        let mut to = begin_number(to, point);
        write_exemplars(&mut to, &point.exemplars, false);
        write_attributes(&mut to, &point.attributes);
        to.flags(point.flags).try_end().unwrap_or_default();
        0
    }

    fn histogram(&self, to: &mut PointsWriter<'_, points::Histograms>, point: &HistogramDataPoint) -> u64 {
        let mut to = begin_histogram(to, point);
        write_totals(&mut to, point.sum, point.min, point.max);
        write_exemplars(&mut to, &point.exemplars, false);
        write_attributes(&mut to, &point.attributes);
        to.flags(point.flags);
        0
    }

    fn exponential(
        &self,
        to: &mut PointsWriter<'_, points::ExponentialHistograms>,
        point: &ExponentialHistogramDataPoint,
    ) -> u64 {
        let mut to = begin_exponential(to, point);
        write_attributes(&mut to, &point.attributes);
        write_totals(&mut to, point.sum, point.min, point.max);
        to.flags(point.flags);
        write_exemplars(&mut to, &point.exemplars, false);
        0
    }

    fn summary(&self, to: &mut PointsWriter<'_, points::Summaries>, point: &SummaryDataPoint) -> u64 {
        let times = point.start_time_unix_nano..point.time_unix_nano;
        let mut to = to.point(times, point.count, point.sum);
        for value in &point.quantile_values {
            to.quantile(value.quantile, value.value);
        }
        write_attributes(&mut to, &point.attributes);
        to.flags(point.flags).end();
        0
    }
}

/// Everything twice, and rather from the back.
struct Backwards;

impl Way for Backwards {
    fn number(&self, to: &mut PointsWriter<'_, points::Numbers>, point: &NumberDataPoint) -> u64 {
        let mut to = begin_number(to, point);
        to.flags(77);
        write_attributes(&mut to, &point.attributes);
        write_exemplars(&mut to, &point.exemplars, true);
        to.flags(point.flags).end();
        to.attr("after", "the end")
            .exemplar(1, 2, |to| _ = to.attr("after", 1))
            .flags(3)
            .end();
        0
    }

    fn histogram(&self, to: &mut PointsWriter<'_, points::Histograms>, point: &HistogramDataPoint) -> u64 {
        let mut to = begin_histogram(to, point);
        write_attributes(&mut to, &point.attributes);
        let overridden = |value: Option<f64>| value.map(|_| 0.5);
        write_totals(
            &mut to,
            overridden(point.sum),
            overridden(point.min),
            overridden(point.max),
        );
        write_exemplars(&mut to, &point.exemplars, true);
        write_totals(&mut to, point.sum, point.min, point.max);
        to.flags(1).flags(point.flags).end();
        to.sum(1.0).min(1.0).max(1.0).flags(1).end();
        0
    }

    fn exponential(
        &self,
        to: &mut PointsWriter<'_, points::ExponentialHistograms>,
        point: &ExponentialHistogramDataPoint,
    ) -> u64 {
        let mut to = begin_exponential(to, point);
        to.flags(99);
        write_exemplars(&mut to, &point.exemplars, true);
        let overridden = |value: Option<f64>| value.map(|_| 0.5);
        write_totals(
            &mut to,
            overridden(point.sum),
            overridden(point.min),
            overridden(point.max),
        );
        write_totals(&mut to, point.sum, point.min, point.max);
        write_attributes(&mut to, &point.attributes);
        to.flags(point.flags).end();
        to.attr("after", "the end").sum(1.0).end();
        0
    }

    fn summary(&self, to: &mut PointsWriter<'_, points::Summaries>, point: &SummaryDataPoint) -> u64 {
        let times = point.start_time_unix_nano..point.time_unix_nano;
        let mut to = to.point(times, point.count, point.sum);
        write_attributes(&mut to, &point.attributes);
        to.flags(5);
        for value in &point.quantile_values {
            to.quantile(value.quantile, value.value);
        }
        to.flags(point.flags).end();
        to.quantile(0.5, 1.0).quantile(7.0, 1.0).end();
        0
    }
}

/// In order, with a leaked point before each, and the writer of each metric leaked.
struct Leaky;

impl Leaky {
    fn leak<K: HasExemplars>(mut point: PointWriter<'_, K>) -> u64 {
        point
            .attr("leaked", "x".repeat(3_000))
            .exemplar(1, 2, |to| _ = to.attr_shared("leaked", "x".repeat(3_000)));
        std::mem::forget(point);
        // A point of a metric without a name is refused at once, which counts the same.
        1
    }
}

impl Way for Leaky {
    fn number(&self, to: &mut PointsWriter<'_, points::Numbers>, point: &NumberDataPoint) -> u64 {
        let leaked = Self::leak(to.point(1..2, 3));
        InOrder.number(to, point) + leaked
    }

    fn histogram(&self, to: &mut PointsWriter<'_, points::Histograms>, point: &HistogramDataPoint) -> u64 {
        let leaked = Self::leak(to.point(1..2, &[1.0], &[2, 3]));
        InOrder.histogram(to, point) + leaked
    }

    fn exponential(
        &self,
        to: &mut PointsWriter<'_, points::ExponentialHistograms>,
        point: &ExponentialHistogramDataPoint,
    ) -> u64 {
        let leaked = Self::leak(to.point(1..2, ExponentialBuckets::default()));
        InOrder.exponential(to, point) + leaked
    }

    fn summary(&self, to: &mut PointsWriter<'_, points::Summaries>, point: &SummaryDataPoint) -> u64 {
        std::mem::forget(to.point(1..2, 3, 4.0));
        InOrder.summary(to, point) + 1
    }

    fn end<K: Kind>(&self, to: PointsWriter<'_, K>) {
        std::mem::forget(to);
    }
}
