//! Metrics and their data points (`opentelemetry.proto.metrics.v1`).

use super::common::{InstrumentationScope, KeyValue};
use super::resource::Resource;
use alloc::string::String;
use alloc::vec::Vec;

/// Metrics at rest: the same content as a request, for files and queues.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MetricsData {
    /// The metrics, grouped by the resource that produced them.
    #[prost(message, repeated, tag = "1")]
    pub resource_metrics: Vec<ResourceMetrics>,
}

/// The metrics of one resource.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResourceMetrics {
    /// The resource; none means unknown.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// Its metrics, grouped by the scope that recorded them.
    #[prost(message, repeated, tag = "2")]
    pub scope_metrics: Vec<ScopeMetrics>,
    /// URL of the schema that the resource follows.
    #[prost(string, tag = "3")]
    pub schema_url: String,
}

/// The metrics of one scope.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ScopeMetrics {
    /// The scope; none means unknown.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<InstrumentationScope>,
    /// Its metrics.
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
    /// URL of the schema that the scope and the metrics follow.
    #[prost(string, tag = "3")]
    pub schema_url: String,
}

/// One metric: what is measured, and its data points.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metric {
    /// What it is called.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it means, for people.
    #[prost(string, tag = "2")]
    pub description: String,
    /// Its unit in the notation of UCUM.
    #[prost(string, tag = "3")]
    pub unit: String,
    /// What describes the metric itself, for consumers that know the names; keys are unique.
    #[prost(message, repeated, tag = "12")]
    pub metadata: Vec<KeyValue>,
    /// Its kind, with the data points.
    #[prost(oneof = "metric::Data", tags = "5, 7, 9, 10, 11")]
    pub data: Option<metric::Data>,
}

/// Parts of a [`Metric`].
pub mod metric {
    /// The kinds of metrics.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Data {
        /// Values as they are at a time.
        #[prost(message, tag = "5")]
        Gauge(super::Gauge),
        /// Sums of what was measured.
        #[prost(message, tag = "7")]
        Sum(super::Sum),
        /// Distributions over buckets with explicit bounds.
        #[prost(message, tag = "9")]
        Histogram(super::Histogram),
        /// Distributions over buckets whose bounds grow exponentially.
        #[prost(message, tag = "10")]
        ExponentialHistogram(super::ExponentialHistogram),
        /// Distributions as quantiles, from older systems.
        #[prost(message, tag = "11")]
        Summary(super::Summary),
    }
}

/// Values as they are at a time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Gauge {
    /// The data points.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<NumberDataPoint>,
}

/// Sums of what was measured.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sum {
    /// The data points.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<NumberDataPoint>,
    /// An [`AggregationTemporality`].
    #[prost(enumeration = "AggregationTemporality", tag = "2")]
    pub aggregation_temporality: i32,
    /// Whether it only ever grows.
    #[prost(bool, tag = "3")]
    pub is_monotonic: bool,
}

/// Distributions over buckets with explicit bounds.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Histogram {
    /// The data points.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<HistogramDataPoint>,
    /// An [`AggregationTemporality`].
    #[prost(enumeration = "AggregationTemporality", tag = "2")]
    pub aggregation_temporality: i32,
}

/// Distributions over buckets whose bounds grow exponentially.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExponentialHistogram {
    /// The data points.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<ExponentialHistogramDataPoint>,
    /// An [`AggregationTemporality`].
    #[prost(enumeration = "AggregationTemporality", tag = "2")]
    pub aggregation_temporality: i32,
}

/// Distributions as quantiles, from older systems.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Summary {
    /// The data points.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<SummaryDataPoint>,
}

/// The stretch of time that the data points of a metric speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum AggregationTemporality {
    /// Not told; not to be used.
    Unspecified = 0,
    /// Since the last report.
    Delta = 1,
    /// Since a fixed start.
    Cumulative = 2,
}

/// Masks of the bits in the `flags` of data points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum DataPointFlags {
    /// No mask at all.
    DoNotUse = 0,
    /// Whether there is no value, of a series that had one before.
    NoRecordedValueMask = 1,
}

/// One data point of a gauge or a sum.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NumberDataPoint {
    /// What describes it; keys are unique.
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
    /// Since when it counts, in nanoseconds of the Unix epoch; 0 where that is not known.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// When it was taken, in nanoseconds of the Unix epoch.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// Measurements that went into it.
    #[prost(message, repeated, tag = "5")]
    pub exemplars: Vec<Exemplar>,
    /// See [`DataPointFlags`].
    #[prost(uint32, tag = "8")]
    pub flags: u32,
    /// The value.
    #[prost(oneof = "number_data_point::Value", tags = "4, 6")]
    pub value: Option<number_data_point::Value>,
}

/// Parts of a [`NumberDataPoint`].
pub mod number_data_point {
    /// A number of either kind.
    #[derive(Clone, Copy, PartialEq, prost::Oneof)]
    pub enum Value {
        /// A floating-point number.
        #[prost(double, tag = "4")]
        AsDouble(f64),
        /// An integer.
        #[prost(sfixed64, tag = "6")]
        AsInt(i64),
    }
}

/// One data point of a histogram with explicit bounds.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HistogramDataPoint {
    /// What describes it; keys are unique.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// Since when it counts, in nanoseconds of the Unix epoch; 0 where that is not known.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// When it was taken, in nanoseconds of the Unix epoch.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// Measurements: the sum of the buckets where there are any.
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    /// The sum of the measured values, where none is negative.
    #[prost(double, optional, tag = "5")]
    pub sum: Option<f64>,
    /// Measurements by bucket: one more than bounds, or none.
    #[prost(fixed64, repeated, tag = "6")]
    pub bucket_counts: Vec<u64>,
    /// The bounds between the buckets, ascending; each belongs to the bucket below it.
    #[prost(double, repeated, tag = "7")]
    pub explicit_bounds: Vec<f64>,
    /// Measurements that went into it.
    #[prost(message, repeated, tag = "8")]
    pub exemplars: Vec<Exemplar>,
    /// See [`DataPointFlags`].
    #[prost(uint32, tag = "10")]
    pub flags: u32,
    /// The least value measured.
    #[prost(double, optional, tag = "11")]
    pub min: Option<f64>,
    /// The greatest value measured.
    #[prost(double, optional, tag = "12")]
    pub max: Option<f64>,
}

/// One data point of a histogram whose bounds grow exponentially.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExponentialHistogramDataPoint {
    /// What describes it; keys are unique.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
    /// Since when it counts, in nanoseconds of the Unix epoch; 0 where that is not known.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// When it was taken, in nanoseconds of the Unix epoch.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// Measurements: the sum of all buckets.
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    /// The sum of the measured values, where none is negative.
    #[prost(double, optional, tag = "5")]
    pub sum: Option<f64>,
    /// The resolution: each bound is `2^(2^-scale)` times the one below it.
    #[prost(sint32, tag = "6")]
    pub scale: i32,
    /// Measurements of zero, or within the threshold of it.
    #[prost(fixed64, tag = "7")]
    pub zero_count: u64,
    /// Measurements above zero.
    #[prost(message, optional, tag = "8")]
    pub positive: Option<exponential_histogram_data_point::Buckets>,
    /// Measurements below zero.
    #[prost(message, optional, tag = "9")]
    pub negative: Option<exponential_histogram_data_point::Buckets>,
    /// See [`DataPointFlags`].
    #[prost(uint32, tag = "10")]
    pub flags: u32,
    /// Measurements that went into it.
    #[prost(message, repeated, tag = "11")]
    pub exemplars: Vec<Exemplar>,
    /// The least value measured.
    #[prost(double, optional, tag = "12")]
    pub min: Option<f64>,
    /// The greatest value measured.
    #[prost(double, optional, tag = "13")]
    pub max: Option<f64>,
    /// How far from zero a value may be and still count as zero.
    #[prost(double, tag = "14")]
    pub zero_threshold: f64,
}

/// Parts of an [`ExponentialHistogramDataPoint`].
pub mod exponential_histogram_data_point {
    use alloc::vec::Vec;

    /// Adjacent buckets on one side of zero.
    #[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
    pub struct Buckets {
        /// The index of the first bucket.
        #[prost(sint32, tag = "1")]
        pub offset: i32,
        /// Measurements by bucket.
        #[prost(uint64, repeated, tag = "2")]
        pub bucket_counts: Vec<u64>,
    }
}

/// One data point of a summary.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SummaryDataPoint {
    /// What describes it; keys are unique.
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
    /// Since when it counts, in nanoseconds of the Unix epoch; 0 where that is not known.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// When it was taken, in nanoseconds of the Unix epoch.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// Measurements.
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    /// The sum of the measured values, where none is negative.
    #[prost(double, tag = "5")]
    pub sum: f64,
    /// Values at quantiles of the distribution.
    #[prost(message, repeated, tag = "6")]
    pub quantile_values: Vec<summary_data_point::ValueAtQuantile>,
    /// See [`DataPointFlags`].
    #[prost(uint32, tag = "8")]
    pub flags: u32,
}

/// Parts of a [`SummaryDataPoint`].
pub mod summary_data_point {
    /// The value below which a share of the measurements lies.
    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub struct ValueAtQuantile {
        /// The share, 0 to 1; 0 is the minimum, 1 the maximum.
        #[prost(double, tag = "1")]
        pub quantile: f64,
        /// The value.
        #[prost(double, tag = "2")]
        pub value: f64,
    }
}

/// One measurement, as an example of what went into a data point.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Exemplar {
    /// Attributes of the measurement that the data point does not have; keys are unique.
    #[prost(message, repeated, tag = "7")]
    pub filtered_attributes: Vec<KeyValue>,
    /// When it was measured, in nanoseconds of the Unix epoch.
    #[prost(fixed64, tag = "2")]
    pub time_unix_nano: u64,
    /// The span in which it was measured: 8 bytes, or none.
    #[prost(bytes = "vec", tag = "4")]
    pub span_id: Vec<u8>,
    /// The trace in which it was measured: 16 bytes, or none.
    #[prost(bytes = "vec", tag = "5")]
    pub trace_id: Vec<u8>,
    /// The value.
    #[prost(oneof = "exemplar::Value", tags = "3, 6")]
    pub value: Option<exemplar::Value>,
}

/// Parts of an [`Exemplar`].
pub mod exemplar {
    /// A number of either kind.
    #[derive(Clone, Copy, PartialEq, prost::Oneof)]
    pub enum Value {
        /// A floating-point number.
        #[prost(double, tag = "3")]
        AsDouble(f64),
        /// An integer.
        #[prost(sfixed64, tag = "6")]
        AsInt(i64),
    }
}
