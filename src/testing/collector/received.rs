//! What the collector received, in a form that reads well in a test.

use super::answer::Answer;
use super::call::HttpVersion;
use crate::config::{Compression, Protocol};
use crate::encode::Signal;
use crate::pb::collector::ExportTraceServiceRequest;
use crate::pb::common::{AnyValue, KeyValue, any_value};
use crate::pb::trace::{Span, span};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use prost::Message as _;

/// One call that arrived whole.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceivedRequest {
    /// Its number in the order of arrival, from zero. [`clear`](super::Collector::clear) does not reset it.
    pub index: u64,
    /// The connection it came on, numbered from zero in the order of accepting.
    pub connection: u64,
    /// Its HTTP/2 stream; on HTTP/1.1 its number on the connection, from one, calls that were turned away counted.
    pub stream_id: u32,
    /// What it carried.
    pub signal: Signal,
    /// How it was carried.
    pub protocol: Protocol,
    /// The version of HTTP that it came in.
    pub version: HttpVersion,
    /// How its body, or its message in gRPC, was compressed.
    pub compression: Compression,
    /// Header fields, pseudo-fields like `:path` first, which are made up for HTTP/1.1; names in lowercase, values that are not UTF-8 with replacement
    /// characters.
    pub headers: Vec<(String, String)>,
    /// The spans, data points, log records or profiles that it carried.
    pub items: u64,
    /// The length of [`message`](Self::message) in bytes.
    pub encoded_len: usize,
    /// The message in protobuf, decompressed, without a gRPC prefix; translated where it came in JSON.
    pub message: Bytes,
    /// The body as it came, compressed or in JSON, without a gRPC prefix.
    pub body: Bytes,
    /// What it was answered; nothing while the answer is being chosen.
    pub answer: Option<Answer>,
}

impl ReceivedRequest {
    /// The first value of a header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        values.next().map(|(_, value)| value.as_str())
    }

    /// The values of a header field, in their order.
    pub fn header_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        let values = self.headers.iter().filter(move |(known, _)| known == name);
        values.map(|(_, value)| value.as_str())
    }

    /// Whether it was answered with a success.
    pub fn is_accepted(&self) -> bool {
        self.answer
            .as_ref()
            .is_some_and(|answer| answer.is_success_over(self.protocol))
    }
}

/// One span of one request.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceivedSpan {
    /// The [`index`](ReceivedRequest::index) of the request that brought it.
    pub request: u64,
    /// What produced it.
    pub resource: Arc<ReceivedResource>,
    /// The instrumentation that produced it.
    pub scope: Arc<ReceivedScope>,
    /// The trace's id as it came, 16 bytes if it is valid.
    pub trace_id: Vec<u8>,
    /// The span's id as it came, 8 bytes if it is valid.
    pub span_id: Vec<u8>,
    /// The parent's id, empty for a root.
    pub parent_span_id: Vec<u8>,
    /// W3C `tracestate`.
    pub trace_state: String,
    /// W3C trace flags and OTLP's own above them.
    pub flags: u32,
    /// The name.
    pub name: String,
    /// The number of the kind: 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: i32,
    /// The start in nanoseconds since the Unix epoch.
    pub start_unix_nanos: u64,
    /// The end in nanoseconds since the Unix epoch.
    pub end_unix_nanos: u64,
    /// Attributes in their order.
    pub attributes: Vec<(String, Value)>,
    /// Attributes that were left out.
    pub dropped_attributes: u32,
    /// Events in their order.
    pub events: Vec<ReceivedEvent>,
    /// Events that were left out.
    pub dropped_events: u32,
    /// Links in their order.
    pub links: Vec<ReceivedLink>,
    /// Links that were left out.
    pub dropped_links: u32,
    /// The number of the status: 0 unset, 1 ok, 2 error.
    pub status_code: i32,
    /// The message of the status.
    pub status_message: String,
    /// The length of the encoded span in bytes.
    pub encoded_len: usize,
}

impl ReceivedSpan {
    /// The value of an attribute; the first, where there are several of the name.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        find(&self.attributes, key)
    }

    /// The resource's `service.name`, empty where it has none.
    pub fn service_name(&self) -> &str {
        match self.resource.attribute("service.name") {
            Some(Value::Str(name)) => name,
            _ => "",
        }
    }

    /// Whether its status is an error.
    pub fn is_error(&self) -> bool {
        self.status_code == 2
    }
}

/// The resource of a group of spans.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReceivedResource {
    /// Attributes in their order.
    pub attributes: Vec<(String, Value)>,
    /// Attributes that were left out.
    pub dropped_attributes: u32,
    /// The schema of the resource.
    pub schema_url: String,
}

impl ReceivedResource {
    /// The value of an attribute; the first, where there are several of the name.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        find(&self.attributes, key)
    }
}

/// The instrumentation scope of a group of spans.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReceivedScope {
    /// The name.
    pub name: String,
    /// The version.
    pub version: String,
    /// Attributes in their order.
    pub attributes: Vec<(String, Value)>,
    /// Attributes that were left out.
    pub dropped_attributes: u32,
    /// The schema of the spans.
    pub schema_url: String,
}

/// An event of a span.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceivedEvent {
    /// The time in nanoseconds since the Unix epoch.
    pub unix_nanos: u64,
    /// The name.
    pub name: String,
    /// Attributes in their order.
    pub attributes: Vec<(String, Value)>,
    /// Attributes that were left out.
    pub dropped_attributes: u32,
}

/// A link of a span.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceivedLink {
    /// The linked trace's id as it came.
    pub trace_id: Vec<u8>,
    /// The linked span's id as it came.
    pub span_id: Vec<u8>,
    /// W3C `tracestate`.
    pub trace_state: String,
    /// W3C trace flags and OTLP's own above them.
    pub flags: u32,
    /// Attributes in their order.
    pub attributes: Vec<(String, Value)>,
    /// Attributes that were left out.
    pub dropped_attributes: u32,
}

/// The value of an attribute (OTLP's `AnyValue`).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// No value.
    Empty,
    /// A string.
    Str(String),
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Values in their order.
    Array(Vec<Value>),
    /// Named values in their order.
    Map(Vec<(String, Value)>),
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Str(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl From<AnyValue> for Value {
    fn from(value: AnyValue) -> Self {
        match value.value {
            None => Self::Empty,
            Some(any_value::Value::StringValue(value)) => Self::Str(value),
            Some(any_value::Value::BoolValue(value)) => Self::Bool(value),
            Some(any_value::Value::IntValue(value)) => Self::Int(value),
            Some(any_value::Value::DoubleValue(value)) => Self::Double(value),
            Some(any_value::Value::BytesValue(value)) => Self::Bytes(value),
            Some(any_value::Value::ArrayValue(array)) => {
                Self::Array(array.values.into_iter().map(Self::from).collect())
            }
            Some(any_value::Value::KvlistValue(list)) => Self::Map(attributes(list.values)),
            // An index into a table of strings that only profiles have.
            Some(any_value::Value::StringValueStrindex(_)) => Self::Empty,
        }
    }
}

/// Takes a request message apart.
pub(super) fn into_spans(message: ExportTraceServiceRequest, request: u64) -> Vec<ReceivedSpan> {
    let mut spans = Vec::new();
    for group in message.resource_spans {
        let resource = group.resource.unwrap_or_default();
        let resource = Arc::new(ReceivedResource {
            attributes: attributes(resource.attributes),
            dropped_attributes: resource.dropped_attributes_count,
            schema_url: group.schema_url,
        });
        for scope_group in group.scope_spans {
            let scope = scope_group.scope.unwrap_or_default();
            let scope = Arc::new(ReceivedScope {
                name: scope.name,
                version: scope.version,
                attributes: attributes(scope.attributes),
                dropped_attributes: scope.dropped_attributes_count,
                schema_url: scope_group.schema_url,
            });
            let received = scope_group.spans.into_iter();
            spans.extend(received.map(|span| into_span(span, request, &resource, &scope)));
        }
    }
    spans
}

fn into_span(
    span: Span,
    request: u64,
    resource: &Arc<ReceivedResource>,
    scope: &Arc<ReceivedScope>,
) -> ReceivedSpan {
    let encoded_len = span.encoded_len();
    let status = span.status.unwrap_or_default();
    ReceivedSpan {
        request,
        resource: Arc::clone(resource),
        scope: Arc::clone(scope),
        trace_id: span.trace_id,
        span_id: span.span_id,
        parent_span_id: span.parent_span_id,
        trace_state: span.trace_state,
        flags: span.flags,
        name: span.name,
        kind: span.kind,
        start_unix_nanos: span.start_time_unix_nano,
        end_unix_nanos: span.end_time_unix_nano,
        attributes: attributes(span.attributes),
        dropped_attributes: span.dropped_attributes_count,
        events: span.events.into_iter().map(into_event).collect(),
        dropped_events: span.dropped_events_count,
        links: span.links.into_iter().map(into_link).collect(),
        dropped_links: span.dropped_links_count,
        status_code: status.code,
        status_message: status.message,
        encoded_len,
    }
}

fn into_event(event: span::Event) -> ReceivedEvent {
    ReceivedEvent {
        unix_nanos: event.time_unix_nano,
        name: event.name,
        attributes: attributes(event.attributes),
        dropped_attributes: event.dropped_attributes_count,
    }
}

fn into_link(link: span::Link) -> ReceivedLink {
    ReceivedLink {
        trace_id: link.trace_id,
        span_id: link.span_id,
        trace_state: link.trace_state,
        flags: link.flags,
        attributes: attributes(link.attributes),
        dropped_attributes: link.dropped_attributes_count,
    }
}

fn attributes(fields: Vec<KeyValue>) -> Vec<(String, Value)> {
    fields
        .into_iter()
        .map(|field| (field.key, field.value.map_or(Value::Empty, Value::from)))
        .collect()
}

fn find<'a>(attributes: &'a [(String, Value)], key: &str) -> Option<&'a Value> {
    let mut values = attributes.iter().filter(|(known, _)| known == key);
    values.next().map(|(_, value)| value)
}
