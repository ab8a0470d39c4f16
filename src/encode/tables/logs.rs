//! Log records.

use super::Kind::{Enum, Fixed32, Fixed64, Id, Message as Nested, String, Uint32};
use super::common::{ANY_VALUE, KEY_VALUE, RESOURCE, SCOPE};
use super::{Field, Message};

/// `opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest`.
pub(super) static REQUEST: Message = Message {
    fields: &[
        Field::new(1, "resource_logs", "resourceLogs", Nested(&RESOURCE_LOGS))
            .repeated()
            .always()
            .container(),
    ],
};

/// `opentelemetry.proto.logs.v1.ResourceLogs`.
static RESOURCE_LOGS: Message = Message {
    fields: &[
        Field::new(1, "resource", "resource", Nested(&RESOURCE)),
        Field::new(2, "scope_logs", "scopeLogs", Nested(&SCOPE_LOGS))
            .repeated()
            .container(),
        Field::new(3, "schema_url", "schemaUrl", String),
    ],
};

/// `opentelemetry.proto.logs.v1.ScopeLogs`.
static SCOPE_LOGS: Message = Message {
    fields: &[
        Field::new(1, "scope", "scope", Nested(&SCOPE)),
        Field::new(2, "log_records", "logRecords", Nested(&LOG_RECORD))
            .repeated()
            .item(),
        Field::new(3, "schema_url", "schemaUrl", String),
    ],
};

/// `opentelemetry.proto.logs.v1.LogRecord`.
static LOG_RECORD: Message = Message {
    fields: &[
        Field::new(1, "time_unix_nano", "timeUnixNano", Fixed64),
        Field::new(2, "severity_number", "severityNumber", Enum(SEVERITY)),
        Field::new(3, "severity_text", "severityText", String),
        Field::new(5, "body", "body", Nested(&ANY_VALUE)),
        Field::new(6, "attributes", "attributes", Nested(&KEY_VALUE)).repeated(),
        Field::new(7, "dropped_attributes_count", "droppedAttributesCount", Uint32),
        Field::new(8, "flags", "flags", Fixed32),
        Field::new(9, "trace_id", "traceId", Id),
        Field::new(10, "span_id", "spanId", Id),
        Field::new(11, "observed_time_unix_nano", "observedTimeUnixNano", Fixed64),
        Field::new(12, "event_name", "eventName", String),
    ],
};

static SEVERITY: &[&str] = &[
    "SEVERITY_NUMBER_UNSPECIFIED",
    "SEVERITY_NUMBER_TRACE",
    "SEVERITY_NUMBER_TRACE2",
    "SEVERITY_NUMBER_TRACE3",
    "SEVERITY_NUMBER_TRACE4",
    "SEVERITY_NUMBER_DEBUG",
    "SEVERITY_NUMBER_DEBUG2",
    "SEVERITY_NUMBER_DEBUG3",
    "SEVERITY_NUMBER_DEBUG4",
    "SEVERITY_NUMBER_INFO",
    "SEVERITY_NUMBER_INFO2",
    "SEVERITY_NUMBER_INFO3",
    "SEVERITY_NUMBER_INFO4",
    "SEVERITY_NUMBER_WARN",
    "SEVERITY_NUMBER_WARN2",
    "SEVERITY_NUMBER_WARN3",
    "SEVERITY_NUMBER_WARN4",
    "SEVERITY_NUMBER_ERROR",
    "SEVERITY_NUMBER_ERROR2",
    "SEVERITY_NUMBER_ERROR3",
    "SEVERITY_NUMBER_ERROR4",
    "SEVERITY_NUMBER_FATAL",
    "SEVERITY_NUMBER_FATAL2",
    "SEVERITY_NUMBER_FATAL3",
    "SEVERITY_NUMBER_FATAL4",
];
