//! Metrics; the items are their data points.

use super::Kind::{
    Bool, Double, Enum, Fixed64, Id, Message as Nested, Sfixed64, Sint32, String, Uint32, Uint64,
};
use super::common::{KEY_VALUE, RESOURCE, SCOPE};
use super::{Field, Message};

/// `opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest`.
pub(super) static REQUEST: Message = Message {
    fields: &[Field::new(
        1,
        "resource_metrics",
        "resourceMetrics",
        Nested(&RESOURCE_METRICS),
    )
    .repeated()
    .always()
    .container()],
};

/// `opentelemetry.proto.metrics.v1.ResourceMetrics`.
static RESOURCE_METRICS: Message = Message {
    fields: &[
        Field::new(1, "resource", "resource", Nested(&RESOURCE)),
        Field::new(2, "scope_metrics", "scopeMetrics", Nested(&SCOPE_METRICS))
            .repeated()
            .container(),
        Field::new(3, "schema_url", "schemaUrl", String),
    ],
};

/// `opentelemetry.proto.metrics.v1.ScopeMetrics`.
static SCOPE_METRICS: Message = Message {
    fields: &[
        Field::new(1, "scope", "scope", Nested(&SCOPE)),
        Field::new(2, "metrics", "metrics", Nested(&METRIC))
            .repeated()
            .container(),
        Field::new(3, "schema_url", "schemaUrl", String),
    ],
};

/// `opentelemetry.proto.metrics.v1.Metric`.
static METRIC: Message = Message {
    fields: &[
        Field::new(1, "name", "name", String),
        Field::new(2, "description", "description", String),
        Field::new(3, "unit", "unit", String),
        Field::new(5, "gauge", "gauge", Nested(&GAUGE))
            .oneof()
            .container(),
        Field::new(7, "sum", "sum", Nested(&SUM)).oneof().container(),
        Field::new(9, "histogram", "histogram", Nested(&HISTOGRAM))
            .oneof()
            .container(),
        Field::new(
            10,
            "exponential_histogram",
            "exponentialHistogram",
            Nested(&EXPONENTIAL_HISTOGRAM),
        )
        .oneof()
        .container(),
        Field::new(11, "summary", "summary", Nested(&SUMMARY))
            .oneof()
            .container(),
        Field::new(12, "metadata", "metadata", Nested(&KEY_VALUE)).repeated(),
    ],
};

/// `opentelemetry.proto.metrics.v1.Gauge`.
static GAUGE: Message = Message {
    fields: &[data_points(&NUMBER_DATA_POINT)],
};

/// `opentelemetry.proto.metrics.v1.Sum`.
static SUM: Message = Message {
    fields: &[
        data_points(&NUMBER_DATA_POINT),
        AGGREGATION_TEMPORALITY,
        Field::new(3, "is_monotonic", "isMonotonic", Bool),
    ],
};

/// `opentelemetry.proto.metrics.v1.Histogram`.
static HISTOGRAM: Message = Message {
    fields: &[data_points(&HISTOGRAM_DATA_POINT), AGGREGATION_TEMPORALITY],
};

/// `opentelemetry.proto.metrics.v1.ExponentialHistogram`.
static EXPONENTIAL_HISTOGRAM: Message = Message {
    fields: &[
        data_points(&EXPONENTIAL_HISTOGRAM_DATA_POINT),
        AGGREGATION_TEMPORALITY,
    ],
};

/// `opentelemetry.proto.metrics.v1.Summary`.
static SUMMARY: Message = Message {
    fields: &[data_points(&SUMMARY_DATA_POINT)],
};

/// `opentelemetry.proto.metrics.v1.NumberDataPoint`.
static NUMBER_DATA_POINT: Message = Message {
    fields: &[
        START_TIME,
        TIME,
        Field::new(4, "as_double", "asDouble", Double).oneof(),
        Field::new(5, "exemplars", "exemplars", Nested(&EXEMPLAR)).repeated(),
        Field::new(6, "as_int", "asInt", Sfixed64).oneof(),
        Field::new(7, "attributes", "attributes", Nested(&KEY_VALUE)).repeated(),
        Field::new(8, "flags", "flags", Uint32),
    ],
};

/// `opentelemetry.proto.metrics.v1.HistogramDataPoint`.
static HISTOGRAM_DATA_POINT: Message = Message {
    fields: &[
        START_TIME,
        TIME,
        Field::new(4, "count", "count", Fixed64),
        Field::new(5, "sum", "sum", Double).optional(),
        Field::new(6, "bucket_counts", "bucketCounts", Fixed64).repeated(),
        Field::new(7, "explicit_bounds", "explicitBounds", Double).repeated(),
        Field::new(8, "exemplars", "exemplars", Nested(&EXEMPLAR)).repeated(),
        Field::new(9, "attributes", "attributes", Nested(&KEY_VALUE)).repeated(),
        Field::new(10, "flags", "flags", Uint32),
        Field::new(11, "min", "min", Double).optional(),
        Field::new(12, "max", "max", Double).optional(),
    ],
};

/// `opentelemetry.proto.metrics.v1.ExponentialHistogramDataPoint`.
static EXPONENTIAL_HISTOGRAM_DATA_POINT: Message = Message {
    fields: &[
        Field::new(1, "attributes", "attributes", Nested(&KEY_VALUE)).repeated(),
        START_TIME,
        TIME,
        Field::new(4, "count", "count", Fixed64),
        Field::new(5, "sum", "sum", Double).optional(),
        Field::new(6, "scale", "scale", Sint32),
        Field::new(7, "zero_count", "zeroCount", Fixed64),
        Field::new(8, "positive", "positive", Nested(&BUCKETS)),
        Field::new(9, "negative", "negative", Nested(&BUCKETS)),
        Field::new(10, "flags", "flags", Uint32),
        Field::new(11, "exemplars", "exemplars", Nested(&EXEMPLAR)).repeated(),
        Field::new(12, "min", "min", Double).optional(),
        Field::new(13, "max", "max", Double).optional(),
        Field::new(14, "zero_threshold", "zeroThreshold", Double),
    ],
};

/// `opentelemetry.proto.metrics.v1.ExponentialHistogramDataPoint.Buckets`.
static BUCKETS: Message = Message {
    fields: &[
        Field::new(1, "offset", "offset", Sint32),
        Field::new(2, "bucket_counts", "bucketCounts", Uint64).repeated(),
    ],
};

/// `opentelemetry.proto.metrics.v1.SummaryDataPoint`.
static SUMMARY_DATA_POINT: Message = Message {
    fields: &[
        START_TIME,
        TIME,
        Field::new(4, "count", "count", Fixed64),
        Field::new(5, "sum", "sum", Double),
        Field::new(6, "quantile_values", "quantileValues", Nested(&QUANTILE)).repeated(),
        Field::new(7, "attributes", "attributes", Nested(&KEY_VALUE)).repeated(),
        Field::new(8, "flags", "flags", Uint32),
    ],
};

/// `opentelemetry.proto.metrics.v1.SummaryDataPoint.ValueAtQuantile`.
static QUANTILE: Message = Message {
    fields: &[
        Field::new(1, "quantile", "quantile", Double),
        Field::new(2, "value", "value", Double),
    ],
};

/// `opentelemetry.proto.metrics.v1.Exemplar`.
static EXEMPLAR: Message = Message {
    fields: &[
        Field::new(2, "time_unix_nano", "timeUnixNano", Fixed64),
        Field::new(3, "as_double", "asDouble", Double).oneof(),
        Field::new(4, "span_id", "spanId", Id),
        Field::new(5, "trace_id", "traceId", Id),
        Field::new(6, "as_int", "asInt", Sfixed64).oneof(),
        Field::new(7, "filtered_attributes", "filteredAttributes", Nested(&KEY_VALUE)).repeated(),
    ],
};

const START_TIME: Field = Field::new(2, "start_time_unix_nano", "startTimeUnixNano", Fixed64);

const TIME: Field = Field::new(3, "time_unix_nano", "timeUnixNano", Fixed64);

const AGGREGATION_TEMPORALITY: Field = Field::new(
    2,
    "aggregation_temporality",
    "aggregationTemporality",
    Enum(&[
        "AGGREGATION_TEMPORALITY_UNSPECIFIED",
        "AGGREGATION_TEMPORALITY_DELTA",
        "AGGREGATION_TEMPORALITY_CUMULATIVE",
    ]),
);

const fn data_points(of: &'static Message) -> Field {
    Field::new(1, "data_points", "dataPoints", Nested(of))
        .repeated()
        .item()
}
