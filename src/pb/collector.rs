//! Requests and responses of the collector's trace service (`opentelemetry.proto.collector.trace.v1`).

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
