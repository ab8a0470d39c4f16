//! The messages written by hand have the fields of the upstream ones: the same names, types and numbers.
//!
//! Each message is taken apart and put together again with every field named. A field that upstream adds, drops, renames
//! or retypes ends the compilation of this test; a field with another number ends in other bytes.

#[path = "../../../support/groups.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod groups;
mod logs;
#[path = "../../../support/messages.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod messages;
#[path = "../../../support/messages_logs.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod messages_logs;
#[path = "../../../support/messages_metrics.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod messages_metrics;
mod metrics;
mod twin;

use opentelemetry_proto::tonic::collector::trace::v1 as their_collector;
use opentelemetry_proto::tonic::common::v1 as their_common;
use opentelemetry_proto::tonic::resource::v1 as their_resource;
use opentelemetry_proto::tonic::trace::v1 as their_trace;
use otlp_embed::pb::{collector, common, resource, trace};
use proptest::prelude::*;
use prost::Message;
use twin::{Twin, agree, enumeration, message};

message!(common::AnyValue, their_common::AnyValue { value });
message!(common::ArrayValue, their_common::ArrayValue { values });
message!(common::KeyValueList, their_common::KeyValueList { values });
message!(
    common::KeyValue,
    their_common::KeyValue {
        key,
        value,
        key_strindex
    }
);
message!(
    common::InstrumentationScope,
    their_common::InstrumentationScope {
        name,
        version,
        attributes,
        dropped_attributes_count,
    }
);
message!(
    common::EntityRef,
    their_common::EntityRef {
        schema_url,
        r#type,
        id_keys,
        description_keys
    }
);
message!(
    resource::Resource,
    their_resource::Resource {
        attributes,
        dropped_attributes_count,
        entity_refs,
    }
);
message!(trace::TracesData, their_trace::TracesData { resource_spans });
message!(
    trace::ResourceSpans,
    their_trace::ResourceSpans {
        resource,
        scope_spans,
        schema_url
    }
);
message!(
    trace::ScopeSpans,
    their_trace::ScopeSpans {
        scope,
        spans,
        schema_url
    }
);
message!(
    trace::Span,
    their_trace::Span {
        trace_id,
        span_id,
        trace_state,
        parent_span_id,
        flags,
        name,
        kind,
        start_time_unix_nano,
        end_time_unix_nano,
        attributes,
        dropped_attributes_count,
        events,
        dropped_events_count,
        links,
        dropped_links_count,
        status,
    }
);
message!(
    trace::span::Event,
    their_trace::span::Event {
        time_unix_nano,
        name,
        attributes,
        dropped_attributes_count,
    }
);
message!(
    trace::span::Link,
    their_trace::span::Link {
        trace_id,
        span_id,
        trace_state,
        attributes,
        dropped_attributes_count,
        flags,
    }
);
message!(trace::Status, their_trace::Status { message, code });
message!(
    collector::ExportTraceServiceRequest,
    their_collector::ExportTraceServiceRequest { resource_spans }
);
message!(
    collector::ExportTraceServiceResponse,
    their_collector::ExportTraceServiceResponse { partial_success }
);
message!(
    collector::ExportTracePartialSuccess,
    their_collector::ExportTracePartialSuccess {
        rejected_spans,
        error_message,
    }
);

impl Twin for common::any_value::Value {
    type Theirs = their_common::any_value::Value;

    fn theirs(self) -> Self::Theirs {
        match self {
            Self::StringValue(value) => Self::Theirs::StringValue(value),
            Self::BoolValue(value) => Self::Theirs::BoolValue(value),
            Self::IntValue(value) => Self::Theirs::IntValue(value),
            Self::DoubleValue(value) => Self::Theirs::DoubleValue(value),
            Self::ArrayValue(value) => Self::Theirs::ArrayValue(value.theirs()),
            Self::KvlistValue(value) => Self::Theirs::KvlistValue(value.theirs()),
            Self::BytesValue(value) => Self::Theirs::BytesValue(value),
            Self::StringValueStrindex(value) => Self::Theirs::StringValueStrindex(value),
        }
    }

    fn ours(theirs: Self::Theirs) -> Self {
        match theirs {
            Self::Theirs::StringValue(value) => Self::StringValue(value),
            Self::Theirs::BoolValue(value) => Self::BoolValue(value),
            Self::Theirs::IntValue(value) => Self::IntValue(value),
            Self::Theirs::DoubleValue(value) => Self::DoubleValue(value),
            Self::Theirs::ArrayValue(value) => Self::ArrayValue(Twin::ours(value)),
            Self::Theirs::KvlistValue(value) => Self::KvlistValue(Twin::ours(value)),
            Self::Theirs::BytesValue(value) => Self::BytesValue(value),
            Self::Theirs::StringValueStrindex(value) => Self::StringValueStrindex(value),
        }
    }
}

/// A scope with every field.
fn full_scope() -> common::InstrumentationScope {
    common::InstrumentationScope {
        name: "scope".into(),
        version: "1".into(),
        attributes: full_attributes(),
        dropped_attributes_count: 11,
    }
}

/// A resource with every field.
fn full_resource() -> resource::Resource {
    let entity = common::EntityRef {
        schema_url: "schema".into(),
        r#type: "service".into(),
        id_keys: vec!["key0".into()],
        description_keys: vec!["key1".into()],
    };
    resource::Resource {
        attributes: full_attributes(),
        dropped_attributes_count: 12,
        entity_refs: vec![entity],
    }
}

/// Attributes of every kind of value, each something that is no default.
fn full_attributes() -> Vec<common::KeyValue> {
    use common::any_value::Value;
    let key_values = |values: Vec<Value>| -> Vec<_> {
        let pair = |(at, value)| common::KeyValue {
            key: format!("key{at}"),
            value: Some(common::AnyValue { value: Some(value) }),
            key_strindex: at as i32 + 1,
        };
        values.into_iter().enumerate().map(pair).collect()
    };
    let simple = || {
        vec![
            Value::StringValue("text".into()),
            Value::BoolValue(true),
            Value::IntValue(-5),
            Value::DoubleValue(1.5),
            Value::BytesValue(vec![1, 2, 3]),
            Value::StringValueStrindex(-7),
        ]
    };
    let any = |value| common::AnyValue { value: Some(value) };
    let mut values = simple();
    let list = common::ArrayValue {
        values: simple().into_iter().map(any).collect(),
    };
    values.push(Value::ArrayValue(list));
    values.push(Value::KvlistValue(common::KeyValueList {
        values: key_values(simple()),
    }));
    key_values(values)
}

/// A span with every field and every kind of value set to something that is no default.
fn full_request() -> collector::ExportTraceServiceRequest {
    let attributes = full_attributes();
    let event = trace::span::Event {
        time_unix_nano: 1,
        name: "event".into(),
        attributes: attributes.clone(),
        dropped_attributes_count: 2,
    };
    let link = trace::span::Link {
        trace_id: vec![3; 16],
        span_id: vec![4; 8],
        trace_state: "a=1".into(),
        attributes: attributes.clone(),
        dropped_attributes_count: 5,
        flags: 0x106,
    };
    let span = trace::Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        trace_state: "b=2".into(),
        parent_span_id: vec![3; 8],
        flags: 0x301,
        name: "span".into(),
        kind: 5,
        start_time_unix_nano: 6,
        end_time_unix_nano: 7,
        attributes: attributes.clone(),
        dropped_attributes_count: 8,
        events: vec![event],
        dropped_events_count: 9,
        links: vec![link],
        dropped_links_count: 10,
        status: Some(trace::Status {
            message: "failed".into(),
            code: 2,
        }),
    };
    let scope_spans = vec![trace::ScopeSpans {
        scope: Some(full_scope()),
        spans: vec![span],
        schema_url: "scope".into(),
    }];
    let resource_spans = vec![trace::ResourceSpans {
        resource: Some(full_resource()),
        scope_spans,
        schema_url: "resource".into(),
    }];
    collector::ExportTraceServiceRequest { resource_spans }
}

#[test]
fn a_message_with_every_field_is_the_same_on_both_sides() {
    let request = full_request();
    agree(trace::TracesData {
        resource_spans: request.resource_spans.clone(),
    });
    agree(request);
    for partial_success in [
        None,
        Some(collector::ExportTracePartialSuccess {
            rejected_spans: -3,
            error_message: "no".into(),
        }),
    ] {
        agree(collector::ExportTraceServiceResponse { partial_success });
    }
}

#[test]
fn enumerations_have_the_same_names_and_numbers() {
    enumeration!(
        trace::span::SpanKind,
        their_trace::span::SpanKind {
            Unspecified,
            Internal,
            Server,
            Client,
            Producer,
            Consumer,
        }
    );
    enumeration!(
        trace::status::StatusCode,
        their_trace::status::StatusCode { Unset, Ok, Error }
    );
    enumeration!(
        trace::SpanFlags,
        their_trace::SpanFlags {
            DoNotUse,
            TraceFlagsMask,
            ContextHasIsRemoteMask,
            ContextIsRemoteMask,
        }
    );
}

proptest! {
    #[test]
    fn arbitrary_messages_are_the_same_on_both_sides(data in prop::collection::vec(any::<u8>(), 0..2_000)) {
        agree(collector::ExportTraceServiceRequest { resource_spans: messages::resource_spans_list(&data) });
    }
}

/// What is encoded here can be read there.
#[test]
fn upstream_reads_what_a_batch_writes() {
    let spans = full_request().resource_spans;
    let request = otlp_embed::Request::from_spans(spans.clone());
    let bytes = request.segments().collect::<Vec<_>>().concat();
    let read = their_collector::ExportTraceServiceRequest::decode(&*bytes).expect("valid protobuf");
    assert_eq!(
        <Vec<trace::ResourceSpans> as Twin>::ours(read.resource_spans),
        spans
    );
}

mod profiles {
    //! What the profiles service answers; its request is not modelled.

    use crate::twin::{Twin, agree, message};
    use opentelemetry_proto::tonic::collector::profiles::v1development as theirs;
    use otlp_embed::pb::collector;

    message!(
        collector::ExportProfilesServiceResponse,
        theirs::ExportProfilesServiceResponse { partial_success }
    );
    message!(
        collector::ExportProfilesPartialSuccess,
        theirs::ExportProfilesPartialSuccess {
            rejected_profiles,
            error_message,
        }
    );

    #[test]
    fn answers_are_the_same_on_both_sides() {
        for partial_success in [
            None,
            Some(collector::ExportProfilesPartialSuccess {
                rejected_profiles: -3,
                error_message: "no".into(),
            }),
        ] {
            agree(collector::ExportProfilesServiceResponse { partial_success });
        }
    }
}
