//! Metrics.

use crate::messages_metrics::metric_groups;
use crate::twin::{Twin, agree, enumeration, message};
use crate::{full_attributes, full_resource, full_scope, groups};
use opentelemetry_proto::tonic::collector::metrics::v1 as their_collector;
use opentelemetry_proto::tonic::metrics::v1 as theirs;
use otlp_embed::pb::{collector, metrics};
use proptest::prelude::*;
use prost::Message;

message!(metrics::MetricsData, theirs::MetricsData { resource_metrics });
message!(
    metrics::ResourceMetrics,
    theirs::ResourceMetrics {
        resource,
        scope_metrics,
        schema_url
    }
);
message!(
    metrics::ScopeMetrics,
    theirs::ScopeMetrics {
        scope,
        metrics,
        schema_url
    }
);
message!(
    metrics::Metric,
    theirs::Metric {
        name,
        description,
        unit,
        metadata,
        data
    }
);
message!(metrics::Gauge, theirs::Gauge { data_points });
message!(
    metrics::Sum,
    theirs::Sum {
        data_points,
        aggregation_temporality,
        is_monotonic
    }
);
message!(
    metrics::Histogram,
    theirs::Histogram {
        data_points,
        aggregation_temporality
    }
);
message!(
    metrics::ExponentialHistogram,
    theirs::ExponentialHistogram {
        data_points,
        aggregation_temporality
    }
);
message!(metrics::Summary, theirs::Summary { data_points });
message!(
    metrics::NumberDataPoint,
    theirs::NumberDataPoint {
        attributes,
        start_time_unix_nano,
        time_unix_nano,
        exemplars,
        flags,
        value,
    }
);
message!(
    metrics::HistogramDataPoint,
    theirs::HistogramDataPoint {
        attributes,
        start_time_unix_nano,
        time_unix_nano,
        count,
        sum,
        bucket_counts,
        explicit_bounds,
        exemplars,
        flags,
        min,
        max,
    }
);
message!(
    metrics::ExponentialHistogramDataPoint,
    theirs::ExponentialHistogramDataPoint {
        attributes,
        start_time_unix_nano,
        time_unix_nano,
        count,
        sum,
        scale,
        zero_count,
        positive,
        negative,
        flags,
        exemplars,
        min,
        max,
        zero_threshold,
    }
);
message!(
    metrics::exponential_histogram_data_point::Buckets,
    theirs::exponential_histogram_data_point::Buckets {
        offset,
        bucket_counts
    }
);
message!(
    metrics::SummaryDataPoint,
    theirs::SummaryDataPoint {
        attributes,
        start_time_unix_nano,
        time_unix_nano,
        count,
        sum,
        quantile_values,
        flags,
    }
);
message!(
    metrics::summary_data_point::ValueAtQuantile,
    theirs::summary_data_point::ValueAtQuantile { quantile, value }
);
message!(
    metrics::Exemplar,
    theirs::Exemplar {
        filtered_attributes,
        time_unix_nano,
        span_id,
        trace_id,
        value,
    }
);
message!(
    collector::ExportMetricsServiceRequest,
    their_collector::ExportMetricsServiceRequest { resource_metrics }
);
message!(
    collector::ExportMetricsServiceResponse,
    their_collector::ExportMetricsServiceResponse { partial_success }
);
message!(
    collector::ExportMetricsPartialSuccess,
    their_collector::ExportMetricsPartialSuccess {
        rejected_data_points,
        error_message,
    }
);

macro_rules! variants {
    ($($ours:ident)::+, $($theirs:ident)::+ { $($name:ident),* $(,)? }) => {
        impl Twin for $($ours)::+ {
            type Theirs = $($theirs)::+;

            fn theirs(self) -> Self::Theirs {
                match self {
                    $(Self::$name(value) => Self::Theirs::$name(value.theirs()),)*
                }
            }

            fn ours(theirs: Self::Theirs) -> Self {
                match theirs {
                    $(Self::Theirs::$name(value) => Self::$name(Twin::ours(value)),)*
                }
            }
        }
    };
}

variants!(
    metrics::metric::Data,
    theirs::metric::Data {
        Gauge,
        Sum,
        Histogram,
        ExponentialHistogram,
        Summary
    }
);
variants!(
    metrics::number_data_point::Value,
    theirs::number_data_point::Value { AsDouble, AsInt }
);
variants!(
    metrics::exemplar::Value,
    theirs::exemplar::Value { AsDouble, AsInt }
);

/// A metric of every kind with every field set to something that is no default.
fn full_request() -> collector::ExportMetricsServiceRequest {
    use metrics::metric::Data;
    let exemplar = |value| metrics::Exemplar {
        filtered_attributes: full_attributes(),
        time_unix_nano: 1,
        span_id: vec![2; 8],
        trace_id: vec![3; 16],
        value: Some(value),
    };
    let exemplars = || {
        vec![
            exemplar(metrics::exemplar::Value::AsDouble(4.0)),
            exemplar(metrics::exemplar::Value::AsInt(-5)),
        ]
    };
    let number = |value| metrics::NumberDataPoint {
        attributes: full_attributes(),
        start_time_unix_nano: 6,
        time_unix_nano: 7,
        exemplars: exemplars(),
        flags: 1,
        value: Some(value),
    };
    let numbers = || {
        vec![
            number(metrics::number_data_point::Value::AsDouble(8.0)),
            number(metrics::number_data_point::Value::AsInt(-9)),
        ]
    };
    let histogram = metrics::HistogramDataPoint {
        attributes: full_attributes(),
        start_time_unix_nano: 10,
        time_unix_nano: 11,
        count: 12,
        sum: Some(13.0),
        bucket_counts: vec![5, 7],
        explicit_bounds: vec![14.0],
        exemplars: exemplars(),
        flags: 1,
        min: Some(15.0),
        max: Some(16.0),
    };
    let side = |offset| metrics::exponential_histogram_data_point::Buckets {
        offset,
        bucket_counts: vec![17, 1 << 40],
    };
    let exponential = metrics::ExponentialHistogramDataPoint {
        attributes: full_attributes(),
        start_time_unix_nano: 18,
        time_unix_nano: 19,
        count: 20,
        sum: Some(21.0),
        scale: -22,
        zero_count: 23,
        positive: Some(side(-24)),
        negative: Some(side(25)),
        flags: 1,
        exemplars: exemplars(),
        min: Some(26.0),
        max: Some(27.0),
        zero_threshold: 28.0,
    };
    let summary = metrics::SummaryDataPoint {
        attributes: full_attributes(),
        start_time_unix_nano: 29,
        time_unix_nano: 30,
        count: 31,
        sum: 32.0,
        quantile_values: vec![metrics::summary_data_point::ValueAtQuantile {
            quantile: 0.5,
            value: 33.0,
        }],
        flags: 1,
    };
    let all = [
        Data::Gauge(metrics::Gauge {
            data_points: numbers(),
        }),
        Data::Sum(metrics::Sum {
            data_points: numbers(),
            aggregation_temporality: 2,
            is_monotonic: true,
        }),
        Data::Histogram(metrics::Histogram {
            data_points: vec![histogram],
            aggregation_temporality: 1,
        }),
        Data::ExponentialHistogram(metrics::ExponentialHistogram {
            data_points: vec![exponential],
            aggregation_temporality: 2,
        }),
        Data::Summary(metrics::Summary {
            data_points: vec![summary],
        }),
    ];
    let metric = |data| metrics::Metric {
        name: "metric".into(),
        description: "what it means".into(),
        unit: "s".into(),
        metadata: full_attributes(),
        data: Some(data),
    };
    let scope_metrics = vec![metrics::ScopeMetrics {
        scope: Some(full_scope()),
        metrics: all.into_iter().map(metric).collect(),
        schema_url: "scope".into(),
    }];
    let resource_metrics = vec![metrics::ResourceMetrics {
        resource: Some(full_resource()),
        scope_metrics,
        schema_url: "resource".into(),
    }];
    collector::ExportMetricsServiceRequest { resource_metrics }
}

#[test]
fn a_message_with_every_field_is_the_same_on_both_sides() {
    let request = full_request();
    agree(metrics::MetricsData {
        resource_metrics: request.resource_metrics.clone(),
    });
    agree(request);
    for partial_success in [
        None,
        Some(collector::ExportMetricsPartialSuccess {
            rejected_data_points: -3,
            error_message: "no".into(),
        }),
    ] {
        agree(collector::ExportMetricsServiceResponse { partial_success });
    }
}

#[test]
fn enumerations_have_the_same_names_and_numbers() {
    enumeration!(
        metrics::AggregationTemporality,
        theirs::AggregationTemporality {
            Unspecified,
            Delta,
            Cumulative
        }
    );
    enumeration!(
        metrics::DataPointFlags,
        theirs::DataPointFlags {
            DoNotUse,
            NoRecordedValueMask
        }
    );
}

proptest! {
    #[test]
    fn arbitrary_messages_are_the_same_on_both_sides(data in prop::collection::vec(any::<u8>(), 0..2_000)) {
        agree(collector::ExportMetricsServiceRequest { resource_metrics: groups::messages(&metric_groups(&data)) });
    }
}

/// What is encoded here can be read there.
#[test]
fn upstream_reads_what_a_batch_writes() {
    let metrics = full_request().resource_metrics;
    let request = otlp_embed::Request::from_metrics(metrics.clone());
    let bytes = request.segments().collect::<Vec<_>>().concat();
    let read = their_collector::ExportMetricsServiceRequest::decode(&*bytes).expect("valid protobuf");
    assert_eq!(
        <Vec<metrics::ResourceMetrics> as Twin>::ours(read.resource_metrics),
        metrics
    );
}
