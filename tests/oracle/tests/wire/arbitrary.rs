//! Arbitrary upstream messages of every signal, made of bytes: every field, every kind of value.

use arbitrary::{Arbitrary, Result, Unstructured};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
    number_data_point,
};
use opentelemetry_proto::tonic::profiles::v1development as profiles;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use std::ops::{Deref, DerefMut};

/// A message, or nothing once the bytes do not suffice.
pub type Made<T> = Result<T>;

/// Bytes that messages are made of.
pub struct Input<'a> {
    bytes: Unstructured<'a>,
    /// Whether only what upstream's JSON can tell is wanted: it has neither numbers that are none nor indices of strings.
    is_plain: bool,
}

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self {
            bytes: Unstructured::new(data),
            is_plain: false,
        }
    }

    pub fn plain(data: &'a [u8]) -> Self {
        Self {
            is_plain: true,
            ..Self::new(data)
        }
    }
}

impl<'a> Deref for Input<'a> {
    type Target = Unstructured<'a>;

    fn deref(&self) -> &Unstructured<'a> {
        &self.bytes
    }
}

impl<'a> DerefMut for Input<'a> {
    fn deref_mut(&mut self) -> &mut Unstructured<'a> {
        &mut self.bytes
    }
}

/// Spans, from any bytes.
pub fn resource_spans(input: &mut Input<'_>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: list(input, 3, |input| {
            Ok(ResourceSpans {
                resource: maybe(input, resource)?,
                scope_spans: list(input, 3, |input| {
                    Ok(ScopeSpans {
                        scope: maybe(input, scope)?,
                        spans: list(input, 6, span)?,
                        schema_url: text(input)?,
                    })
                })?,
                schema_url: text(input)?,
            })
        })
        .unwrap_or_default(),
    }
}

/// Log records, from any bytes.
pub fn resource_logs(input: &mut Input<'_>) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest {
        resource_logs: list(input, 3, |input| {
            Ok(ResourceLogs {
                resource: maybe(input, resource)?,
                scope_logs: list(input, 3, |input| {
                    Ok(ScopeLogs {
                        scope: maybe(input, scope)?,
                        log_records: list(input, 6, log_record)?,
                        schema_url: text(input)?,
                    })
                })?,
                schema_url: text(input)?,
            })
        })
        .unwrap_or_default(),
    }
}

/// Metrics of every kind, from any bytes.
pub fn resource_metrics(input: &mut Input<'_>) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest {
        resource_metrics: list(input, 3, |input| {
            Ok(ResourceMetrics {
                resource: maybe(input, resource)?,
                scope_metrics: list(input, 3, |input| {
                    Ok(ScopeMetrics {
                        scope: maybe(input, scope)?,
                        metrics: list(input, 6, metric)?,
                        schema_url: text(input)?,
                    })
                })?,
                schema_url: text(input)?,
            })
        })
        .unwrap_or_default(),
    }
}

/// Profiles with their dictionary, from any bytes.
pub fn resource_profiles(input: &mut Input<'_>) -> ExportProfilesServiceRequest {
    ExportProfilesServiceRequest {
        dictionary: maybe(input, dictionary).unwrap_or_default(),
        resource_profiles: list(input, 3, |input| {
            Ok(profiles::ResourceProfiles {
                resource: maybe(input, resource)?,
                scope_profiles: list(input, 3, |input| {
                    Ok(profiles::ScopeProfiles {
                        scope: maybe(input, scope)?,
                        profiles: list(input, 4, profile)?,
                        schema_url: text(input)?,
                    })
                })?,
                schema_url: text(input)?,
            })
        })
        .unwrap_or_default(),
    }
}

pub fn span(input: &mut Input<'_>) -> Result<Span> {
    Ok(Span {
        trace_id: id(input)?,
        span_id: id(input)?,
        trace_state: text(input)?,
        parent_span_id: id(input)?,
        flags: any(input)?,
        name: text(input)?,
        kind: enumeration(input)?,
        start_time_unix_nano: any(input)?,
        end_time_unix_nano: any(input)?,
        attributes: attributes(input)?,
        dropped_attributes_count: any(input)?,
        events: list(input, 2, |input| {
            Ok(Event {
                time_unix_nano: any(input)?,
                name: text(input)?,
                attributes: attributes(input)?,
                dropped_attributes_count: any(input)?,
            })
        })?,
        dropped_events_count: any(input)?,
        links: list(input, 2, |input| {
            Ok(Link {
                trace_id: id(input)?,
                span_id: id(input)?,
                trace_state: text(input)?,
                attributes: attributes(input)?,
                dropped_attributes_count: any(input)?,
                flags: any(input)?,
            })
        })?,
        dropped_links_count: any(input)?,
        status: maybe(input, |input| {
            Ok(Status {
                message: text(input)?,
                code: enumeration(input)?,
            })
        })?,
    })
}

pub fn log_record(input: &mut Input<'_>) -> Result<LogRecord> {
    Ok(LogRecord {
        time_unix_nano: any(input)?,
        observed_time_unix_nano: any(input)?,
        severity_number: enumeration(input)?,
        severity_text: text(input)?,
        body: maybe(input, |input| value(input, 4))?,
        attributes: attributes(input)?,
        dropped_attributes_count: any(input)?,
        flags: any(input)?,
        trace_id: id(input)?,
        span_id: id(input)?,
        event_name: text(input)?,
    })
}

pub fn metric(input: &mut Input<'_>) -> Result<Metric> {
    Ok(Metric {
        name: text(input)?,
        description: text(input)?,
        unit: text(input)?,
        metadata: attributes(input)?,
        data: maybe(input, data)?,
    })
}

fn data(input: &mut Input<'_>) -> Result<Data> {
    Ok(match input.int_in_range(0..=4)? {
        0 => Data::Gauge(Gauge {
            data_points: list(input, 5, number)?,
        }),
        1 => Data::Sum(Sum {
            data_points: list(input, 5, number)?,
            aggregation_temporality: enumeration(input)?,
            is_monotonic: any(input)?,
        }),
        2 => Data::Histogram(Histogram {
            data_points: list(input, 3, histogram)?,
            aggregation_temporality: enumeration(input)?,
        }),
        3 => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: list(input, 3, exponential)?,
            aggregation_temporality: enumeration(input)?,
        }),
        _ => Data::Summary(Summary {
            data_points: list(input, 3, summary)?,
        }),
    })
}

pub fn number(input: &mut Input<'_>) -> Result<NumberDataPoint> {
    Ok(NumberDataPoint {
        attributes: attributes(input)?,
        start_time_unix_nano: any(input)?,
        time_unix_nano: any(input)?,
        exemplars: list(input, 2, exemplar)?,
        flags: any(input)?,
        value: maybe(input, |input| {
            Ok(if any(input)? {
                number_data_point::Value::AsInt(any(input)?)
            } else {
                number_data_point::Value::AsDouble(double(input)?)
            })
        })?,
    })
}

pub fn histogram(input: &mut Input<'_>) -> Result<HistogramDataPoint> {
    Ok(HistogramDataPoint {
        attributes: attributes(input)?,
        start_time_unix_nano: any(input)?,
        time_unix_nano: any(input)?,
        count: any(input)?,
        sum: maybe(input, double)?,
        bucket_counts: list(input, 5, any)?,
        explicit_bounds: list(input, 5, double)?,
        exemplars: list(input, 2, exemplar)?,
        flags: any(input)?,
        min: maybe(input, double)?,
        max: maybe(input, double)?,
    })
}

pub fn exponential(input: &mut Input<'_>) -> Result<ExponentialHistogramDataPoint> {
    let buckets = |input: &mut Input<'_>| {
        Ok(Buckets {
            offset: any(input)?,
            bucket_counts: list(input, 5, any)?,
        })
    };
    Ok(ExponentialHistogramDataPoint {
        attributes: attributes(input)?,
        start_time_unix_nano: any(input)?,
        time_unix_nano: any(input)?,
        count: any(input)?,
        sum: maybe(input, double)?,
        scale: any(input)?,
        zero_count: any(input)?,
        positive: maybe(input, buckets)?,
        negative: maybe(input, buckets)?,
        flags: any(input)?,
        exemplars: list(input, 2, exemplar)?,
        min: maybe(input, double)?,
        max: maybe(input, double)?,
        zero_threshold: double(input)?,
    })
}

pub fn summary(input: &mut Input<'_>) -> Result<SummaryDataPoint> {
    Ok(SummaryDataPoint {
        attributes: attributes(input)?,
        start_time_unix_nano: any(input)?,
        time_unix_nano: any(input)?,
        count: any(input)?,
        sum: double(input)?,
        quantile_values: list(input, 3, |input| {
            Ok(ValueAtQuantile {
                quantile: double(input)?,
                value: double(input)?,
            })
        })?,
        flags: any(input)?,
    })
}

fn exemplar(input: &mut Input<'_>) -> Result<Exemplar> {
    Ok(Exemplar {
        filtered_attributes: attributes(input)?,
        time_unix_nano: any(input)?,
        span_id: id(input)?,
        trace_id: id(input)?,
        value: maybe(input, |input| {
            Ok(if any(input)? {
                exemplar::Value::AsInt(any(input)?)
            } else {
                exemplar::Value::AsDouble(double(input)?)
            })
        })?,
    })
}

pub fn profile(input: &mut Input<'_>) -> Result<profiles::Profile> {
    let value_type = |input: &mut Input<'_>| {
        Ok(profiles::ValueType {
            type_strindex: any(input)?,
            unit_strindex: any(input)?,
        })
    };
    Ok(profiles::Profile {
        sample_type: maybe(input, value_type)?,
        samples: list(input, 3, |input| {
            Ok(profiles::Sample {
                stack_index: any(input)?,
                attribute_indices: list(input, 3, any)?,
                link_index: any(input)?,
                values: list(input, 3, any)?,
                timestamps_unix_nano: list(input, 3, any)?,
            })
        })?,
        time_unix_nano: any(input)?,
        duration_nano: any(input)?,
        period_type: maybe(input, value_type)?,
        period: any(input)?,
        profile_id: id(input)?,
        dropped_attributes_count: any(input)?,
        original_payload_format: text(input)?,
        original_payload: id(input)?,
        attribute_indices: list(input, 3, any)?,
    })
}

fn dictionary(input: &mut Input<'_>) -> Result<profiles::ProfilesDictionary> {
    Ok(profiles::ProfilesDictionary {
        mapping_table: list(input, 2, |input| {
            Ok(profiles::Mapping {
                memory_start: any(input)?,
                memory_limit: any(input)?,
                file_offset: any(input)?,
                filename_strindex: any(input)?,
                attribute_indices: list(input, 3, any)?,
            })
        })?,
        location_table: list(input, 2, |input| {
            Ok(profiles::Location {
                mapping_index: any(input)?,
                address: any(input)?,
                lines: list(input, 2, |input| {
                    Ok(profiles::Line {
                        function_index: any(input)?,
                        line: any(input)?,
                        column: any(input)?,
                    })
                })?,
                attribute_indices: list(input, 3, any)?,
            })
        })?,
        function_table: list(input, 2, |input| {
            Ok(profiles::Function {
                name_strindex: any(input)?,
                system_name_strindex: any(input)?,
                filename_strindex: any(input)?,
                start_line: any(input)?,
            })
        })?,
        link_table: list(input, 2, |input| {
            Ok(profiles::Link {
                trace_id: id(input)?,
                span_id: id(input)?,
            })
        })?,
        string_table: list(input, 4, text)?,
        attribute_table: list(input, 2, |input| {
            Ok(profiles::KeyValueAndUnit {
                key_strindex: any(input)?,
                value: maybe(input, |input| value(input, 2))?,
                unit_strindex: any(input)?,
            })
        })?,
        stack_table: list(input, 2, |input| {
            Ok(profiles::Stack {
                location_indices: list(input, 4, any)?,
            })
        })?,
    })
}

pub fn resource(input: &mut Input<'_>) -> Result<Resource> {
    Ok(Resource {
        attributes: attributes(input)?,
        dropped_attributes_count: any(input)?,
        entity_refs: list(input, 2, |input| {
            Ok(EntityRef {
                schema_url: text(input)?,
                r#type: text(input)?,
                id_keys: list(input, 2, text)?,
                description_keys: list(input, 2, text)?,
            })
        })?,
    })
}

pub fn scope(input: &mut Input<'_>) -> Result<InstrumentationScope> {
    Ok(InstrumentationScope {
        name: text(input)?,
        version: text(input)?,
        attributes: attributes(input)?,
        dropped_attributes_count: any(input)?,
    })
}

fn attributes(input: &mut Input<'_>) -> Result<Vec<KeyValue>> {
    list(input, 3, |input| key_value(input, 3))
}

pub fn key_value(input: &mut Input<'_>, depth: u32) -> Result<KeyValue> {
    Ok(KeyValue {
        key: text(input)?,
        value: maybe(input, |input| value(input, depth))?,
        key_strindex: if input.ratio(1, 8)? { any(input)? } else { 0 },
    })
}

pub fn value(input: &mut Input<'_>, depth: u32) -> Result<AnyValue> {
    let value = match input.int_in_range(0..=8)? {
        0 => Value::BoolValue(any(input)?),
        1 => Value::IntValue(any(input)?),
        2 => Value::DoubleValue(double(input)?),
        3 => Value::BytesValue(id(input)?),
        4 if !input.is_plain => Value::StringValueStrindex(any(input)?),
        5 if depth > 0 => Value::ArrayValue(ArrayValue {
            values: list(input, 3, |input| value(input, depth - 1))?,
        }),
        6 if depth > 0 => Value::KvlistValue(KeyValueList {
            values: list(input, 3, |input| key_value(input, depth - 1))?,
        }),
        7 => return Ok(AnyValue { value: None }),
        _ => Value::StringValue(text(input)?),
    };
    Ok(AnyValue { value: Some(value) })
}

fn any<'a, T: Arbitrary<'a> + Default>(input: &mut Input<'a>) -> Result<T> {
    if input.ratio(1, 3)? {
        return Ok(T::default());
    }
    T::arbitrary(input)
}

fn double(input: &mut Input<'_>) -> Result<f64> {
    const SOME: [f64; 10] = [
        0.0,
        -0.0,
        1.0,
        0.1,
        1e300,
        -1e-300,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        9_007_199_254_740_993.0,
    ];
    let value = if input.ratio(1, 2)? {
        *input.choose(&SOME)?
    } else {
        any(input)?
    };
    Ok(match value {
        value if value.is_finite() => value,
        _ if input.is_plain => 1.0,
        // One of the many that are no number: JSON does not tell them apart.
        value if value.is_nan() => f64::NAN,
        value => value,
    })
}

fn enumeration(input: &mut Input<'_>) -> Result<i32> {
    if input.ratio(1, 8)? {
        return any(input);
    }
    input.int_in_range(0..=5)
}

fn id(input: &mut Input<'_>) -> Result<Vec<u8>> {
    let len = *input.choose(&[0, 8, 16, 1, 2, 3, 130])?;
    (0..len).map(|_| u8::arbitrary(input)).collect()
}

fn text(input: &mut Input<'_>) -> Result<String> {
    const SOME: [&str; 12] = [
        "", "a", "\"", "\\", "\n", "\u{1}", "/", "é", "\u{2028}", "😀", "name", "\u{7f}",
    ];
    let len = *input.choose(&[0, 1, 2, 3, 4, 20, 127])?;
    (0..len).map(|_| input.choose(&SOME).copied()).collect()
}

fn maybe<'a, T>(input: &mut Input<'a>, make: impl FnOnce(&mut Input<'a>) -> Result<T>) -> Result<Option<T>> {
    if input.ratio(1, 4)? {
        return Ok(None);
    }
    make(input).map(Some)
}

fn list<'a, T>(
    input: &mut Input<'a>,
    most: usize,
    mut make: impl FnMut(&mut Input<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let len = input.int_in_range(0..=most)?;
    (0..len).map(|_| make(input)).collect()
}
