//! Requests and responses of the collector's services (`opentelemetry.proto.collector.*`).
//!
//! The request of the profiles service is not modelled: profiles are exported as they were encoded.

use super::logs::ResourceLogs;
use super::metrics::ResourceMetrics;
use super::trace::ResourceSpans;
use alloc::string::String;
use alloc::vec::Vec;

/// What an exporter sends to the trace service.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExportTraceServiceRequest {
    /// The spans, grouped by the resource that produced them.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// What the trace service answers.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ExportTraceServiceResponse {
    /// Set where only a part was accepted, or where there is a warning.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<ExportTracePartialSuccess>,
}

/// How much of an accepted request was not taken, and why.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ExportTracePartialSuccess {
    /// Spans refused; 0 makes the message a mere warning.
    #[prost(int64, tag = "1")]
    pub rejected_spans: i64,
    /// The reason, for people.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// What an exporter sends to the metrics service.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExportMetricsServiceRequest {
    /// The metrics, grouped by the resource that produced them.
    #[prost(message, repeated, tag = "1")]
    pub resource_metrics: Vec<ResourceMetrics>,
}

/// What the metrics service answers.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ExportMetricsServiceResponse {
    /// Set where only a part was accepted, or where there is a warning.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<ExportMetricsPartialSuccess>,
}

/// How much of an accepted request was not taken, and why.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ExportMetricsPartialSuccess {
    /// Data points refused; 0 makes the message a mere warning.
    #[prost(int64, tag = "1")]
    pub rejected_data_points: i64,
    /// The reason, for people.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// What an exporter sends to the logs service.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExportLogsServiceRequest {
    /// The log records, grouped by the resource that produced them.
    #[prost(message, repeated, tag = "1")]
    pub resource_logs: Vec<ResourceLogs>,
}

/// What the logs service answers.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ExportLogsServiceResponse {
    /// Set where only a part was accepted, or where there is a warning.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<ExportLogsPartialSuccess>,
}

/// How much of an accepted request was not taken, and why.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ExportLogsPartialSuccess {
    /// Log records refused; 0 makes the message a mere warning.
    #[prost(int64, tag = "1")]
    pub rejected_log_records: i64,
    /// The reason, for people.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// What the profiles service answers.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ExportProfilesServiceResponse {
    /// Set where only a part was accepted, or where there is a warning.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<ExportProfilesPartialSuccess>,
}

/// How much of an accepted request was not taken, and why.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ExportProfilesPartialSuccess {
    /// Profiles refused; 0 makes the message a mere warning.
    #[prost(int64, tag = "1")]
    pub rejected_profiles: i64,
    /// The reason, for people.
    #[prost(string, tag = "2")]
    pub error_message: String,
}
