//! Spans as the records keep them.

use super::value::{Value, attributes, find};
use super::{ReceivedResource, ReceivedScope};
use crate::pb::collector::ExportTraceServiceRequest;
use crate::pb::trace::{Span, span};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use prost::Message as _;

/// One span of one request.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceivedSpan {
    /// The [`index`](super::ReceivedRequest::index) of the request that brought it.
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
        self.resource.service_name()
    }

    /// Whether its status is an error.
    pub fn is_error(&self) -> bool {
        self.status_code == 2
    }
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

/// Takes a request message apart.
pub(in crate::testing::collector) fn into_spans(
    message: ExportTraceServiceRequest,
    request: u64,
) -> Vec<ReceivedSpan> {
    let mut spans = Vec::new();
    for group in message.resource_spans {
        let resource = ReceivedResource::new(group.resource, group.schema_url);
        for scope_group in group.scope_spans {
            let scope = ReceivedScope::new(scope_group.scope, scope_group.schema_url);
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
