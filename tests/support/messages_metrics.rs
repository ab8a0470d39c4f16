//! Arbitrary metrics, made of bytes.

use super::groups::{Group, groups, normal};
use super::messages::{
    Input, attributes, enumeration, id_bytes, list, normal_attributes, number, option, text,
};
use super::messages_logs::normal_id;
use arbitrary::Result;
use otlp_embed::pb::metrics::exponential_histogram_data_point::Buckets;
use otlp_embed::pb::metrics::metric::Data;
use otlp_embed::pb::metrics::summary_data_point::ValueAtQuantile;
use otlp_embed::pb::metrics::{
    AggregationTemporality, DataPointFlags, Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint,
    Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum, Summary, SummaryDataPoint, exemplar,
    number_data_point,
};

/// What an exporter would send, from any bytes.
pub fn metric_groups(data: &[u8]) -> Vec<Group<Metric>> {
    groups(data, metric)
}

/// The metrics without what their writers cannot express; data points that make no sense stay.
pub fn normal_metrics(metrics: Vec<Group<Metric>>) -> Vec<Group<Metric>> {
    normal(metrics, normal_metric)
}

fn metric(input: &mut Input<'_>) -> Result<Metric> {
    Ok(Metric {
        name: text(input)?,
        description: text(input)?,
        unit: text(input)?,
        data: option(input, data)?,
        metadata: attributes(input)?,
    })
}

fn data(input: &mut Input<'_>) -> Result<Data> {
    Ok(match input.int_in_range(0..=4)? {
        0 => Data::Gauge(Gauge {
            data_points: list(input, 3, number_point)?,
        }),
        1 => Data::Sum(Sum {
            data_points: list(input, 3, number_point)?,
            aggregation_temporality: enumeration(input)?,
            is_monotonic: input.arbitrary()?,
        }),
        2 => Data::Histogram(Histogram {
            data_points: list(input, 3, histogram_point)?,
            aggregation_temporality: enumeration(input)?,
        }),
        3 => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: list(input, 3, exponential_point)?,
            aggregation_temporality: enumeration(input)?,
        }),
        _ => Data::Summary(Summary {
            data_points: list(input, 3, summary_point)?,
        }),
    })
}

fn number_point(input: &mut Input<'_>) -> Result<NumberDataPoint> {
    Ok(NumberDataPoint {
        attributes: attributes(input)?,
        start_time_unix_nano: number(input)?,
        time_unix_nano: number(input)?,
        exemplars: list(input, 2, exemplar)?,
        flags: number(input)?,
        value: option(input, |input| {
            Ok(if input.arbitrary()? {
                number_data_point::Value::AsInt(number(input)?)
            } else {
                number_data_point::Value::AsDouble(double(input)?)
            })
        })?,
    })
}

fn histogram_point(input: &mut Input<'_>) -> Result<HistogramDataPoint> {
    let bucket_counts = counts(input)?;
    let explicit_bounds = match input.int_in_range(0..=7u8)? {
        0 => list(input, 4, double)?,
        1 => vec![f64::NAN; bucket_counts.len().saturating_sub(1)],
        _ => (1..bucket_counts.len()).map(|bound| bound as f64 - 3.0).collect(),
    };
    Ok(HistogramDataPoint {
        attributes: attributes(input)?,
        start_time_unix_nano: number(input)?,
        time_unix_nano: number(input)?,
        count: number(input)?,
        sum: option(input, double)?,
        bucket_counts,
        explicit_bounds,
        exemplars: list(input, 2, exemplar)?,
        flags: number(input)?,
        min: option(input, double)?,
        max: option(input, double)?,
    })
}

fn exponential_point(input: &mut Input<'_>) -> Result<ExponentialHistogramDataPoint> {
    Ok(ExponentialHistogramDataPoint {
        attributes: attributes(input)?,
        start_time_unix_nano: number(input)?,
        time_unix_nano: number(input)?,
        count: number(input)?,
        sum: option(input, double)?,
        scale: input.arbitrary()?,
        zero_count: number(input)?,
        positive: option(input, buckets)?,
        negative: option(input, buckets)?,
        flags: number(input)?,
        exemplars: list(input, 2, exemplar)?,
        min: option(input, double)?,
        max: option(input, double)?,
        zero_threshold: double(input)?,
    })
}

fn buckets(input: &mut Input<'_>) -> Result<Buckets> {
    Ok(Buckets {
        offset: input.arbitrary()?,
        bucket_counts: counts(input)?,
    })
}

/// Few counts, or so many that lengths take more bytes and chunks end within them.
fn counts(input: &mut Input<'_>) -> Result<Vec<u64>> {
    Ok(match input.int_in_range(0..=15u8)? {
        0 => vec![number(input)?; 15],
        1 => vec![number::<u32>(input)?.into(); 64],
        2 => vec![1; 2_100],
        3 => list(input, 4, number)?,
        _ => list(input, 12, |input| Ok(input.arbitrary::<u8>()?.into()))?,
    })
}

fn summary_point(input: &mut Input<'_>) -> Result<SummaryDataPoint> {
    let quantile = |input: &mut Input<'_>| {
        Ok(ValueAtQuantile {
            quantile: if input.ratio(1, 16)? {
                double(input)?
            } else {
                f64::from(input.arbitrary::<u8>()?) / 255.0
            },
            value: if input.ratio(1, 16)? {
                double(input)?
            } else {
                number::<u32>(input)?.into()
            },
        })
    };
    Ok(SummaryDataPoint {
        attributes: attributes(input)?,
        start_time_unix_nano: number(input)?,
        time_unix_nano: number(input)?,
        count: number(input)?,
        sum: double(input)?,
        quantile_values: list(input, 3, quantile)?,
        flags: number(input)?,
    })
}

fn exemplar(input: &mut Input<'_>) -> Result<Exemplar> {
    Ok(Exemplar {
        filtered_attributes: attributes(input)?,
        time_unix_nano: number(input)?,
        span_id: id_bytes(input, 8)?,
        trace_id: id_bytes(input, 16)?,
        value: option(input, |input| {
            Ok(if input.arbitrary()? {
                exemplar::Value::AsInt(number(input)?)
            } else {
                exemplar::Value::AsDouble(double(input)?)
            })
        })?,
    })
}

fn double(input: &mut Input<'_>) -> Result<f64> {
    Ok(match input.int_in_range(0..=7u8)? {
        0 => 0.0,
        1 => -0.0,
        2 => 0.25,
        3 => f64::NAN,
        _ => input.arbitrary()?,
    })
}

fn normal_metric(metric: &mut Metric) {
    normal_attributes(&mut metric.metadata);
    match &mut metric.data {
        None => {}
        Some(Data::Gauge(gauge)) => gauge.data_points.iter_mut().for_each(normal_number),
        Some(Data::Sum(sum)) => {
            normal_temporality(&mut sum.aggregation_temporality);
            sum.data_points.iter_mut().for_each(normal_number);
        }
        Some(Data::Histogram(histogram)) => {
            normal_temporality(&mut histogram.aggregation_temporality);
            for point in &mut histogram.data_points {
                normal_attributes(&mut point.attributes);
                normal_exemplars(&mut point.exemplars);
                if !point.bucket_counts.is_empty() {
                    point.count = point
                        .bucket_counts
                        .iter()
                        .fold(0, |sum, count| sum.wrapping_add(*count));
                }
            }
        }
        Some(Data::ExponentialHistogram(histogram)) => {
            normal_temporality(&mut histogram.aggregation_temporality);
            for point in &mut histogram.data_points {
                normal_attributes(&mut point.attributes);
                normal_exemplars(&mut point.exemplars);
                for side in [&mut point.positive, &mut point.negative] {
                    side.take_if(|side| side.bucket_counts.is_empty());
                }
                let sides = [&point.positive, &point.negative].into_iter().flatten();
                let counts = sides.flat_map(|side| &side.bucket_counts);
                point.count = counts.fold(point.zero_count, |sum, count| sum.wrapping_add(*count));
            }
        }
        Some(Data::Summary(summary)) => {
            for point in &mut summary.data_points {
                normal_attributes(&mut point.attributes);
            }
        }
    }
}

fn normal_number(point: &mut NumberDataPoint) {
    normal_attributes(&mut point.attributes);
    normal_exemplars(&mut point.exemplars);
    if point.value.is_none() {
        point.flags |= DataPointFlags::NoRecordedValueMask as u32;
    }
}

fn normal_exemplars(exemplars: &mut [Exemplar]) {
    for exemplar in exemplars {
        normal_attributes(&mut exemplar.filtered_attributes);
        normal_id::<16>(&mut exemplar.trace_id);
        normal_id::<8>(&mut exemplar.span_id);
        exemplar.value.get_or_insert(exemplar::Value::AsInt(0));
    }
}

fn normal_temporality(temporality: &mut i32) {
    if *temporality != AggregationTemporality::Cumulative as i32 {
        *temporality = AggregationTemporality::Delta.into();
    }
}
