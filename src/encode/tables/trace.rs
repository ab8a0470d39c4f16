//! Spans.

use super::Kind::{Enum, Fixed32, Fixed64, Id, Message as Nested, String, Uint32};
use super::common::{KEY_VALUE, RESOURCE, SCOPE};
use super::{Field, Message};

/// `opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest`.
pub(super) static REQUEST: Message = Message {
    fields: &[
        Field::new(1, "resource_spans", "resourceSpans", Nested(&RESOURCE_SPANS))
            .repeated()
            .always()
            .container(),
    ],
};

/// `opentelemetry.proto.trace.v1.ResourceSpans`.
static RESOURCE_SPANS: Message = Message {
    fields: &[
        Field::new(1, "resource", "resource", Nested(&RESOURCE)),
        Field::new(2, "scope_spans", "scopeSpans", Nested(&SCOPE_SPANS))
            .repeated()
            .container(),
        Field::new(3, "schema_url", "schemaUrl", String),
    ],
};

/// `opentelemetry.proto.trace.v1.ScopeSpans`.
static SCOPE_SPANS: Message = Message {
    fields: &[
        Field::new(1, "scope", "scope", Nested(&SCOPE)),
        Field::new(2, "spans", "spans", Nested(&SPAN)).repeated().item(),
        Field::new(3, "schema_url", "schemaUrl", String),
    ],
};

/// `opentelemetry.proto.trace.v1.Span`.
static SPAN: Message = Message {
    fields: &[
        Field::new(1, "trace_id", "traceId", Id),
        Field::new(2, "span_id", "spanId", Id),
        Field::new(3, "trace_state", "traceState", String),
        Field::new(4, "parent_span_id", "parentSpanId", Id),
        Field::new(5, "name", "name", String),
        Field::new(6, "kind", "kind", Enum(SPAN_KIND)),
        Field::new(7, "start_time_unix_nano", "startTimeUnixNano", Fixed64),
        Field::new(8, "end_time_unix_nano", "endTimeUnixNano", Fixed64),
        Field::new(9, "attributes", "attributes", Nested(&KEY_VALUE)).repeated(),
        Field::new(10, "dropped_attributes_count", "droppedAttributesCount", Uint32),
        Field::new(11, "events", "events", Nested(&EVENT)).repeated(),
        Field::new(12, "dropped_events_count", "droppedEventsCount", Uint32),
        Field::new(13, "links", "links", Nested(&LINK)).repeated(),
        Field::new(14, "dropped_links_count", "droppedLinksCount", Uint32),
        Field::new(15, "status", "status", Nested(&STATUS)),
        Field::new(16, "flags", "flags", Fixed32),
    ],
};

/// `opentelemetry.proto.trace.v1.Span.Event`.
static EVENT: Message = Message {
    fields: &[
        Field::new(1, "time_unix_nano", "timeUnixNano", Fixed64),
        Field::new(2, "name", "name", String),
        Field::new(3, "attributes", "attributes", Nested(&KEY_VALUE)).repeated(),
        Field::new(4, "dropped_attributes_count", "droppedAttributesCount", Uint32),
    ],
};

/// `opentelemetry.proto.trace.v1.Span.Link`.
static LINK: Message = Message {
    fields: &[
        Field::new(1, "trace_id", "traceId", Id),
        Field::new(2, "span_id", "spanId", Id),
        Field::new(3, "trace_state", "traceState", String),
        Field::new(4, "attributes", "attributes", Nested(&KEY_VALUE)).repeated(),
        Field::new(5, "dropped_attributes_count", "droppedAttributesCount", Uint32),
        Field::new(6, "flags", "flags", Fixed32),
    ],
};

/// `opentelemetry.proto.trace.v1.Status`.
static STATUS: Message = Message {
    fields: &[
        Field::new(2, "message", "message", String),
        Field::new(3, "code", "code", Enum(STATUS_CODE)),
    ],
};

static SPAN_KIND: &[&str] = &[
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];

static STATUS_CODE: &[&str] = &["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];
