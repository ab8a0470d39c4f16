//! Metrics to work on.
//!
//! The mix is that of a service with few instruments and many series: of eight metrics with 64 data points each, five are
//! sums of integers, one a gauge of floating-point numbers and two histograms with the 15 buckets of the SDK's default; each
//! point has three attributes.

use crate::{attribute, pb_resource, text};
use otlp_embed::pb::collector::ExportMetricsServiceRequest;
use otlp_embed::pb::common::any_value::Value;
use otlp_embed::pb::common::{InstrumentationScope, KeyValue};
use otlp_embed::pb::metrics::metric::Data;
use otlp_embed::pb::metrics::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, number_data_point,
};
use otlp_embed::{MetricBatch, Temporality};

/// Series of each metric.
pub const SERIES: usize = 64;
const SUMS: [&str; 5] = [
    "http.server.requests",
    "http.server.request.body.bytes",
    "http.server.response.body.bytes",
    "db.client.operations",
    "cache.hits",
];
const GAUGE: &str = "process.cpu.utilization";
const HISTOGRAMS: [&str; 2] = ["http.server.request.duration", "db.client.operation.duration"];
/// Data points in a batch.
pub const POINTS: usize = (SUMS.len() + 1 + HISTOGRAMS.len()) * SERIES;
const START: u64 = 1_700_000_000_000_000_000;
const TIME: u64 = START + 60_000_000_000;
const BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// What was measured of one combination of attributes.
pub struct Series {
    route: String,
    status: i64,
    count: i64,
    share: f64,
    counts: [u64; 15],
}

/// The series of one batch, the same each time.
pub fn series() -> Vec<Series> {
    let series = |number: u64| Series {
        route: format!("/api/v1/carts/{number}"),
        status: if number % 2 == 0 { 200 } else { 503 },
        count: (number * 317) as i64,
        share: number as f64 / 64.0,
        counts: std::array::from_fn(|bucket| number * bucket as u64 % 50),
    };
    (0..SERIES as u64).map(series).collect()
}

/// Writes all series as metrics.
pub fn write_metrics(batch: &mut MetricBatch, series: &[Series]) {
    batch.scope("shop.http", "0.3.1");
    for name in SUMS {
        let mut sum = batch
            .metric(name)
            .unit("1")
            .monotonic_sum(Temporality::Cumulative);
        for of in series {
            sum.point(START..TIME, of.count)
                .attr("http.request.method", "GET")
                .attr("http.route", &of.route)
                .attr("http.response.status_code", of.status)
                .end();
        }
    }
    let mut gauge = batch.metric(GAUGE).unit("1").gauge();
    for of in series {
        gauge
            .point(0..TIME, of.share)
            .attr("http.request.method", "GET")
            .attr("http.route", &of.route)
            .attr("http.response.status_code", of.status)
            .end();
    }
    gauge.end();
    for name in HISTOGRAMS {
        let mut histogram = batch.metric(name).unit("s").histogram(Temporality::Cumulative);
        for of in series {
            histogram
                .point(START..TIME, &BOUNDS, &of.counts)
                .sum(of.share)
                .min(0.001)
                .max(9.5)
                .attr("http.request.method", "GET")
                .attr("http.route", &of.route)
                .attr("http.response.status_code", of.status)
                .end();
        }
    }
}

/// Builds the same metrics as owned messages.
pub fn owned_metrics(series: &[Series]) -> Vec<ResourceMetrics> {
    let mut metrics: Vec<Metric> = SUMS
        .iter()
        .map(|name| {
            let sum = Sum {
                data_points: series
                    .iter()
                    .map(|of| number(of, START, number_data_point::Value::AsInt(of.count)))
                    .collect(),
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
                is_monotonic: true,
            };
            metric(name, "1", Data::Sum(sum))
        })
        .collect();
    let gauge = Gauge {
        data_points: series
            .iter()
            .map(|of| number(of, 0, number_data_point::Value::AsDouble(of.share)))
            .collect(),
    };
    metrics.push(metric(GAUGE, "1", Data::Gauge(gauge)));
    metrics.extend(HISTOGRAMS.iter().map(|name| {
        let histogram = Histogram {
            data_points: series.iter().map(distribution).collect(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
        };
        metric(name, "s", Data::Histogram(histogram))
    }));
    let scope = InstrumentationScope {
        name: "shop.http".into(),
        version: "0.3.1".into(),
        ..InstrumentationScope::default()
    };
    vec![ResourceMetrics {
        resource: Some(pb_resource()),
        scope_metrics: vec![ScopeMetrics {
            scope: Some(scope),
            metrics,
            schema_url: String::new(),
        }],
        schema_url: String::new(),
    }]
}

/// The request that holds the same metrics as owned messages.
pub fn owned_metrics_request(series: &[Series]) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest {
        resource_metrics: owned_metrics(series),
    }
}

fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric {
        name: name.into(),
        unit: unit.into(),
        data: Some(data),
        ..Metric::default()
    }
}

fn attributes(of: &Series) -> Vec<KeyValue> {
    vec![
        attribute("http.request.method", text("GET")),
        attribute("http.route", text(&of.route)),
        attribute("http.response.status_code", Value::IntValue(of.status)),
    ]
}

fn number(of: &Series, start: u64, value: number_data_point::Value) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(of),
        start_time_unix_nano: start,
        time_unix_nano: TIME,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

fn distribution(of: &Series) -> HistogramDataPoint {
    HistogramDataPoint {
        attributes: attributes(of),
        start_time_unix_nano: START,
        time_unix_nano: TIME,
        count: of.counts.iter().sum(),
        sum: Some(of.share),
        bucket_counts: of.counts.to_vec(),
        explicit_bounds: BOUNDS.to_vec(),
        min: Some(0.001),
        max: Some(9.5),
        ..HistogramDataPoint::default()
    }
}
