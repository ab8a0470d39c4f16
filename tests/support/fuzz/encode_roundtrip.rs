//! Whatever is encoded has to be what `prost` makes of the same messages.

use super::{encode_logs, encode_metrics};
use crate::support::messages::{id, normal, resource_spans_list};
use otlp_embed::encode::{ArrayWriter, IntoValue, KvListWriter, ValueWriter, Written};
use otlp_embed::pb::collector::ExportTraceServiceRequest;
use otlp_embed::pb::common::AnyValue;
use otlp_embed::pb::common::any_value::Value;
use otlp_embed::pb::trace::span::SpanKind;
use otlp_embed::pb::trace::status::StatusCode;
use otlp_embed::pb::trace::{ResourceSpans, ScopeSpans, Span};
use otlp_embed::{Request, Resource, SpanWriter, TraceBatch};
use prost::Message;

/// Encodes messages of every signal made of the input, in every way there is.
pub fn run(data: &[u8]) {
    spans(data);
    encode_logs::run(data);
    encode_metrics::run(data);
}

/// The part of spans alone.
pub fn spans(data: &[u8]) {
    let spans = resource_spans_list(data);
    owned_spans_are_as_prost_encodes_them(&spans);
    let spans = normal(spans);
    let batch = &mut TraceBatch::new(&Resource::new());
    // The second round runs in the memory of the first.
    for _ in 0..2 {
        written_spans_are_as_prost_encodes_them(batch, &spans);
        order_and_repetition_do_not_matter(batch, &spans);
    }
    abandoned_spans_leave_no_trace(batch, &spans);
}

/// The whole message of a request, after what must hold for every request.
pub fn message(request: &Request) -> Vec<u8> {
    let segments: Vec<_> = request.segments().collect();
    assert!(
        segments.iter().all(|segment| !segment.is_empty()),
        "an empty segment"
    );
    assert_eq!(segments.len(), request.segment_count());
    let message = segments.concat();
    assert_eq!(message.len(), request.encoded_len());
    message
}

fn owned_spans_are_as_prost_encodes_them(spans: &[ResourceSpans]) {
    let expected = ExportTraceServiceRequest {
        resource_spans: spans.to_vec(),
    };
    let request = Request::from_spans(spans);
    same_bytes(&message(&request), &expected);
    assert_eq!(request.items(), items(spans));
}

fn written_spans_are_as_prost_encodes_them(batch: &mut TraceBatch, spans: &[ResourceSpans]) {
    let (grouped, refused) = grouped(spans);
    write_all(batch, spans, write_in_order);
    assert_eq!(batch.refused(), refused);
    assert_eq!(batch.len() as u64, items(&grouped));
    let request = batch.finish();
    same_bytes(
        &message(&request),
        &ExportTraceServiceRequest {
            resource_spans: grouped.clone(),
        },
    );
    assert_eq!((request.items(), request.refused()), (items(&grouped), refused));
    assert_eq!(request.is_empty(), grouped.is_empty());
    assert_eq!((batch.len(), batch.encoded_len(), batch.refused()), (0, 0, 0));
}

fn order_and_repetition_do_not_matter(batch: &mut TraceBatch, spans: &[ResourceSpans]) {
    let (grouped, _) = grouped(spans);
    write_all(batch, spans, |writer, span| {
        writer
            .status(StatusCode::Error, "to be overridden")
            .kind(SpanKind::Consumer)
            .times(3..4);
        writer
            .parent([7; 8])
            .trace_state("a=b")
            .flags(9)
            .dropped_links_count(1)
            .dropped_events_count(2);
        writer.dropped_attributes_count(3);
        let status = span.status.clone().unwrap_or_default();
        writer.status(status.code(), &status.message).flags(span.flags);
        write_lists(writer, span);
        writer.dropped_attributes_count(span.dropped_attributes_count);
        writer
            .dropped_events_count(span.dropped_events_count)
            .dropped_links_count(span.dropped_links_count);
        writer
            .times(span.start_time_unix_nano..span.end_time_unix_nano)
            .kind(span.kind());
        writer
            .trace_state(&span.trace_state)
            .parent(id(&span.parent_span_id));
    });
    let decoded =
        ExportTraceServiceRequest::decode(&*message(&batch.finish())).expect("it is valid protobuf");
    let mut expected = grouped;
    for span in expected
        .iter_mut()
        .flat_map(|r| &mut r.scope_spans)
        .flat_map(|s| &mut s.spans)
    {
        span.status.get_or_insert_default();
    }
    // Encoded for the comparison because NaN is not equal to itself.
    same_bytes(
        &decoded.encode_to_vec(),
        &ExportTraceServiceRequest {
            resource_spans: expected,
        },
    );
}

fn abandoned_spans_leave_no_trace(batch: &mut TraceBatch, spans: &[ResourceSpans]) {
    let (grouped, refused) = grouped(spans);
    let mut leaked = 0;
    for of_resource in spans {
        enter_resource(batch, of_resource);
        for of_scope in &of_resource.scope_spans {
            enter_scope(batch, of_scope);
            for span in &of_scope.spans {
                let mut writer = batch.span([1; 16], [1; 8], &span.name);
                write_lists(&mut writer, span);
                std::mem::forget(writer);
                leaked += 1;
                write_in_order(
                    &mut batch.span(id(&span.trace_id), id(&span.span_id), &span.name),
                    span,
                );
            }
        }
    }
    let request = batch.finish();
    assert_eq!(request.refused(), refused + leaked);
    same_bytes(
        &message(&request),
        &ExportTraceServiceRequest {
            resource_spans: grouped,
        },
    );
}

#[track_caller]
fn same_bytes(written: &[u8], expected: &ExportTraceServiceRequest) {
    if written != expected.encode_to_vec() {
        let decoded = ExportTraceServiceRequest::decode(written);
        panic!("encoded as {decoded:#?}\ninstead of {expected:#?}");
    }
}

fn items(spans: &[ResourceSpans]) -> u64 {
    spans
        .iter()
        .flat_map(|resource| &resource.scope_spans)
        .map(|scope| scope.spans.len() as u64)
        .sum()
}

/// What a batch makes of the spans: each resource once, each scope once in it, nothing empty; and how many it refuses.
fn grouped(spans: &[ResourceSpans]) -> (Vec<ResourceSpans>, u64) {
    // The batch was made with an empty resource. Without spans a resource or a scope counts for the order of the others.
    let mut grouped = vec![ResourceSpans {
        resource: Some(Default::default()),
        ..Default::default()
    }];
    let mut refused = 0;
    for of_resource in spans {
        let resource = of_resource.resource.clone().unwrap_or_default();
        let same = |other: &ResourceSpans| {
            other.resource.as_ref().map(Message::encode_to_vec) == Some(resource.encode_to_vec())
                && other.schema_url == of_resource.schema_url
        };
        let at = grouped.iter().position(same).unwrap_or_else(|| {
            let schema_url = of_resource.schema_url.clone();
            grouped.push(ResourceSpans {
                resource: Some(resource.clone()),
                scope_spans: vec![],
                schema_url,
            });
            grouped.len() - 1
        });
        // No scope is not known as one before it has a span.
        let named = |scope: &&ScopeSpans| scope.scope.is_some() || !scope.spans.is_empty();
        for of_scope in of_resource.scope_spans.iter().filter(named) {
            let scopes = &mut grouped[at].scope_spans;
            let encoded = |scope: &ScopeSpans| scope.scope.as_ref().map(Message::encode_to_vec);
            let same = |other: &ScopeSpans| {
                encoded(other) == encoded(of_scope) && other.schema_url == of_scope.schema_url
            };
            let at = scopes.iter().position(same).unwrap_or_else(|| {
                scopes.push(ScopeSpans {
                    spans: vec![],
                    ..of_scope.clone()
                });
                scopes.len() - 1
            });
            for span in &of_scope.spans {
                if span.trace_id == [0; 16] || span.span_id == [0; 8] {
                    refused += 1;
                } else {
                    scopes[at].spans.push(as_written(span));
                }
            }
        }
    }
    for of_resource in &mut grouped {
        of_resource.scope_spans.retain(|scope| !scope.spans.is_empty());
    }
    grouped.retain(|resource| !resource.scope_spans.is_empty());
    (grouped, refused)
}

/// The span without what a writer cannot express.
fn as_written(span: &Span) -> Span {
    let mut span = span.clone();
    span.links
        .retain(|link| link.trace_id != [0; 16] && link.span_id != [0; 8]);
    if span.parent_span_id == [0; 8] {
        span.parent_span_id.clear();
    }
    span
}

fn write_all(batch: &mut TraceBatch, spans: &[ResourceSpans], write: impl Fn(&mut SpanWriter<'_>, &Span)) {
    for of_resource in spans {
        enter_resource(batch, of_resource);
        for of_scope in &of_resource.scope_spans {
            enter_scope(batch, of_scope);
            for span in &of_scope.spans {
                let mut writer = batch.span(id(&span.trace_id), id(&span.span_id), &span.name);
                write(&mut writer, span);
                // Half of them by dropping the writer.
                if span.kind == 0 {
                    writer.end();
                    writer
                        .attr("after", "the end")
                        .status(StatusCode::Error, "")
                        .parent([1; 8]);
                }
            }
        }
    }
}

fn enter_resource(batch: &mut TraceBatch, spans: &ResourceSpans) {
    let builder = Resource::builder().schema_url(&spans.schema_url);
    let attributes = spans.resource.iter().flat_map(|resource| &resource.attributes);
    let resource = attributes.fold(builder, |builder, pair| builder.attr(&pair.key, Any(&pair.value)));
    batch.resource(&resource.build());
}

fn enter_scope(batch: &mut TraceBatch, spans: &ScopeSpans) {
    // Spans without a scope come first in the messages, where no scope has been named yet.
    let Some(scope) = &spans.scope else { return };
    batch.scope_with(&scope.name, &scope.version, |writer| {
        for pair in &scope.attributes {
            writer.attr(&pair.key, Any(&pair.value));
        }
        writer
            .dropped_attributes_count(scope.dropped_attributes_count)
            .schema_url(&spans.schema_url);
    });
}

fn write_in_order(writer: &mut SpanWriter<'_>, span: &Span) {
    writer
        .trace_state(&span.trace_state)
        .parent(id(&span.parent_span_id))
        .kind(span.kind());
    writer.times(span.start_time_unix_nano..span.end_time_unix_nano);
    for pair in &span.attributes {
        writer.attr(&pair.key, Any(&pair.value));
    }
    writer.dropped_attributes_count(span.dropped_attributes_count);
    write_events(writer, span);
    writer.dropped_events_count(span.dropped_events_count);
    write_links(writer, span);
    writer.dropped_links_count(span.dropped_links_count);
    if let Some(status) = &span.status {
        writer.status(status.code(), &status.message);
    }
    writer.flags(span.flags);
}

fn write_lists(writer: &mut SpanWriter<'_>, span: &Span) {
    write_links(writer, span);
    for pair in &span.attributes {
        match pair.value.as_ref().and_then(|value| value.value.clone()) {
            // The same bytes whether they are copied or referenced.
            Some(Value::StringValue(text)) => writer.attr_shared(&pair.key, text),
            Some(Value::BytesValue(bytes)) => writer.attr_shared(&pair.key, bytes),
            _ => writer.attr(&pair.key, Any(&pair.value)),
        };
    }
    write_events(writer, span);
}

fn write_events(writer: &mut SpanWriter<'_>, span: &Span) {
    for event in &span.events {
        writer.event(&event.name, event.time_unix_nano, |to| {
            for pair in &event.attributes {
                to.attr(&pair.key, Any(&pair.value));
            }
            to.dropped_attributes_count(event.dropped_attributes_count);
        });
    }
}

fn write_links(writer: &mut SpanWriter<'_>, span: &Span) {
    for link in &span.links {
        writer.link(id(&link.trace_id), id(&link.span_id), |to| {
            to.trace_state(&link.trace_state);
            for pair in &link.attributes {
                to.attr(&pair.key, Any(&pair.value));
            }
            to.dropped_attributes_count(link.dropped_attributes_count)
                .flags(link.flags);
        });
    }
}

/// Writes an owned value by the calls that people make.
pub struct Any<'a>(pub &'a Option<AnyValue>);

impl IntoValue for Any<'_> {
    fn write_value(self, to: ValueWriter<'_>) -> Written {
        match self.0.as_ref().and_then(|value| value.value.as_ref()) {
            None => to.empty(),
            Some(Value::StringValue(value)) => value.write_value(to),
            Some(Value::BoolValue(value)) => value.write_value(to),
            Some(Value::IntValue(value)) => value.write_value(to),
            Some(Value::DoubleValue(value)) => value.write_value(to),
            Some(Value::BytesValue(value)) => value.as_slice().write_value(to),
            Some(Value::StringValueStrindex(value)) => to.string_index(*value),
            Some(Value::ArrayValue(array)) => to.array(|to: &mut ArrayWriter<'_>| {
                for value in &array.values {
                    to.push(Any(&Some(value.clone())));
                }
            }),
            Some(Value::KvlistValue(pairs)) => to.kvlist(|to: &mut KvListWriter<'_>| {
                for pair in &pairs.values {
                    to.attr(&pair.key, Any(&pair.value));
                }
            }),
        }
    }
}
