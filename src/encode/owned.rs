//! Owned spans through the same writers, exactly as `prost` encodes them.

use super::batch::{
    GROUP_RESOURCE, GROUP_SCHEMA_URL, GROUP_SCOPES, REQUEST_GROUPS, SCOPE_ATTRIBUTES,
    SCOPE_DROPPED_ATTRIBUTES, SCOPE_GROUP_ITEMS, SCOPE_GROUP_SCHEMA_URL, SCOPE_GROUP_SCOPE, SCOPE_NAME,
    SCOPE_VERSION,
};
use super::field::{fixed32_field, fixed64_field, text_field, varint_field};
use super::pinned::{self, Lender};
use super::request::{Request, Signal};
use super::segments::Segments;
use super::shared::SHARED_BYTES_MIN;
use super::sink::Sink;
use super::span as keys;
use super::value::{self, Place, ValueWriter};
use super::wire::{BYTES, VARINT, key, varint_len};
use crate::pb::collector::ExportTraceServiceRequest;
use crate::pb::common::any_value::Value;
use crate::pb::common::{AnyValue, EntityRef, InstrumentationScope, KeyValue};
use crate::pb::resource::Resource;
use crate::pb::trace::span::{Event, Link};
use crate::pb::trace::{ResourceSpans, ScopeSpans, Span, Status, TracesData};
use alloc::vec::Vec;

/// What a span is taken to need, to guess the size of the request.
const SPAN_BYTES: usize = 400;

/// Lists within lists that are written. A level of a key-value list is three messages, and decoders of protobuf refuse a
/// request with more than a hundred levels of messages: one such attribute would cost the whole batch.
const NESTING_MAX: usize = 30;

impl Request {
    /// Encodes owned spans; the bytes are those that `prost` writes for the same messages.
    ///
    /// The spans are kept in place as long as the request lives: texts and byte values of 1 KiB and more are referenced
    /// instead of copied. Nothing is checked or grouped, and nothing is left out but what lies in more than 30 lists within
    /// lists, where empty values stand instead: collectors refuse a request that nests deeper. Without spans the request
    /// is [empty](Self::is_empty) whatever resources and scopes there are, and is not sent.
    pub fn from_spans(spans: impl Into<Vec<ResourceSpans>>) -> Self {
        pinned::pin(spans.into(), |spans, lender| {
            let items: usize = spans
                .iter()
                .flat_map(|resource| &resource.scope_spans)
                .map(|scope| scope.spans.len())
                .sum();
            let mut writer = Writer {
                sink: Sink::default(),
                lender,
                span_width: 2,
                nesting: 0,
            };
            writer.sink.expect_len((items * SPAN_BYTES).next_power_of_two());
            spans.iter().for_each(|spans| writer.resource_spans(spans));
            let mut chunks = Vec::new();
            writer.sink.freeze(&mut chunks);
            let mut segments = Segments {
                chunks: &chunks,
                own: None,
                done: Vec::new(),
            };
            writer.sink.pieces().iter().for_each(|piece| segments.push(piece));
            Self::new(Signal::Traces, items as u64, 0, segments.finish())
        })
    }
}

impl From<ExportTraceServiceRequest> for Request {
    fn from(request: ExportTraceServiceRequest) -> Self {
        Self::from_spans(request.resource_spans)
    }
}

impl From<TracesData> for Request {
    fn from(data: TracesData) -> Self {
        Self::from_spans(data.resource_spans)
    }
}

const RESOURCE_ATTRIBUTES: u8 = key(1, BYTES);
const RESOURCE_DROPPED_ATTRIBUTES: u8 = key(2, VARINT);
const RESOURCE_ENTITY_REFS: u8 = key(3, BYTES);
const ENTITY_SCHEMA_URL: u8 = key(1, BYTES);
const ENTITY_TYPE: u8 = key(2, BYTES);
const ENTITY_ID_KEYS: u8 = key(3, BYTES);
const ENTITY_DESCRIPTION_KEYS: u8 = key(4, BYTES);

struct Writer<'s> {
    sink: Sink,
    lender: Lender<'s, Vec<ResourceSpans>>,
    span_width: usize,
    /// Lists around the value that is written.
    nesting: usize,
}

impl<'s> Writer<'s> {
    fn resource_spans(&mut self, spans: &'s ResourceSpans) {
        let count: usize = spans.scope_spans.iter().map(|scope| scope.spans.len()).sum();
        let frame = self.sink.open(REQUEST_GROUPS, guessed_width(count));
        if let Some(resource) = &spans.resource {
            self.resource(resource);
        }
        spans.scope_spans.iter().for_each(|spans| self.scope_spans(spans));
        self.text(GROUP_SCHEMA_URL, &spans.schema_url);
        self.sink.close(frame);
    }

    fn resource(&mut self, resource: &'s Resource) {
        let frame = self.sink.open(GROUP_RESOURCE, 1);
        self.attributes(RESOURCE_ATTRIBUTES, &resource.attributes);
        self.varint(RESOURCE_DROPPED_ATTRIBUTES, resource.dropped_attributes_count);
        resource
            .entity_refs
            .iter()
            .for_each(|entity| self.entity_ref(entity));
        self.sink.close(frame);
    }

    fn entity_ref(&mut self, entity: &'s EntityRef) {
        let frame = self.sink.open(RESOURCE_ENTITY_REFS, 1);
        self.text(ENTITY_SCHEMA_URL, &entity.schema_url);
        self.text(ENTITY_TYPE, &entity.r#type);
        entity
            .id_keys
            .iter()
            .for_each(|name| self.bytes_always(ENTITY_ID_KEYS, name.as_bytes()));
        let descriptions = entity.description_keys.iter();
        descriptions.for_each(|name| self.bytes_always(ENTITY_DESCRIPTION_KEYS, name.as_bytes()));
        self.sink.close(frame);
    }

    fn scope_spans(&mut self, spans: &'s ScopeSpans) {
        let frame = self.sink.open(GROUP_SCOPES, guessed_width(spans.spans.len()));
        if let Some(scope) = &spans.scope {
            self.scope(scope);
        }
        spans.spans.iter().for_each(|span| self.span(span));
        self.text(SCOPE_GROUP_SCHEMA_URL, &spans.schema_url);
        self.sink.close(frame);
    }

    fn scope(&mut self, scope: &'s InstrumentationScope) {
        let frame = self.sink.open(SCOPE_GROUP_SCOPE, 1);
        self.text(SCOPE_NAME, &scope.name);
        self.text(SCOPE_VERSION, &scope.version);
        self.attributes(SCOPE_ATTRIBUTES, &scope.attributes);
        self.varint(SCOPE_DROPPED_ATTRIBUTES, scope.dropped_attributes_count);
        self.sink.close(frame);
    }

    fn span(&mut self, span: &'s Span) {
        let frame = self.sink.open(SCOPE_GROUP_ITEMS, self.span_width);
        self.bytes(keys::SPAN_TRACE_ID, &span.trace_id);
        self.bytes(keys::SPAN_SPAN_ID, &span.span_id);
        self.text(keys::SPAN_TRACE_STATE, &span.trace_state);
        self.bytes(keys::SPAN_PARENT, &span.parent_span_id);
        self.text(keys::SPAN_NAME, &span.name);
        self.enumeration(keys::SPAN_KIND, span.kind);
        fixed64_field(&mut self.sink, keys::SPAN_START, span.start_time_unix_nano, false);
        fixed64_field(&mut self.sink, keys::SPAN_END, span.end_time_unix_nano, false);
        self.attributes(keys::SPAN_ATTRIBUTES, &span.attributes);
        self.varint(keys::SPAN_DROPPED_ATTRIBUTES, span.dropped_attributes_count);
        span.events.iter().for_each(|event| self.event(event));
        self.varint(keys::SPAN_DROPPED_EVENTS, span.dropped_events_count);
        span.links.iter().for_each(|link| self.link(link));
        self.varint(keys::SPAN_DROPPED_LINKS, span.dropped_links_count);
        if let Some(status) = &span.status {
            self.status(status);
        }
        if span.flags != 0 {
            self.sink.put(keys::SPAN_FLAGS);
            self.sink.put(span.flags.to_le_bytes());
        }
        self.span_width = self.sink.close(frame).max(2);
    }

    fn event(&mut self, event: &'s Event) {
        let frame = self.sink.open(keys::SPAN_EVENTS, keys::EVENT_WIDTH);
        fixed64_field(&mut self.sink, keys::EVENT_TIME, event.time_unix_nano, false);
        self.text(keys::EVENT_NAME, &event.name);
        self.attributes(keys::EVENT_ATTRIBUTES, &event.attributes);
        self.varint(keys::EVENT_DROPPED_ATTRIBUTES, event.dropped_attributes_count);
        self.sink.close(frame);
    }

    fn link(&mut self, link: &'s Link) {
        let frame = self.sink.open(keys::SPAN_LINKS, keys::EVENT_WIDTH);
        self.bytes(keys::LINK_TRACE_ID, &link.trace_id);
        self.bytes(keys::LINK_SPAN_ID, &link.span_id);
        self.text(keys::LINK_TRACE_STATE, &link.trace_state);
        self.attributes(keys::LINK_ATTRIBUTES, &link.attributes);
        self.varint(keys::LINK_DROPPED_ATTRIBUTES, link.dropped_attributes_count);
        fixed32_field(&mut self.sink, keys::LINK_FLAGS, link.flags, false);
        self.sink.close(frame);
    }

    fn status(&mut self, status: &'s Status) {
        let frame = self.sink.open(keys::SPAN_STATUS, 1);
        self.text(keys::STATUS_MESSAGE, &status.message);
        self.enumeration(keys::STATUS_CODE, status.code);
        self.sink.close(frame);
    }

    fn attributes(&mut self, tag: u8, attributes: &'s [KeyValue]) {
        attributes
            .iter()
            .for_each(|attribute| self.attribute(tag, attribute));
    }

    fn attribute(&mut self, tag: u8, attribute: &'s KeyValue) {
        if attribute.key.len() < SHARED_BYTES_MIN && attribute.key_strindex == 0 {
            let to = ValueWriter::new(&mut self.sink, Place::Attribute(tag, &attribute.key));
            // The common kinds, whose length is known beforehand.
            let written = match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
                Some(Value::StringValue(text)) if text.len() < SHARED_BYTES_MIN => Some(to.string(text)),
                Some(Value::BoolValue(value)) => Some(to.bool(*value)),
                Some(Value::IntValue(value)) => Some(to.int(*value)),
                Some(Value::DoubleValue(value)) => Some(to.double(*value)),
                _ => None,
            };
            if written.is_some() {
                return;
            }
        }
        let frame = self.sink.open(tag, 1);
        self.text(value::PAIR_KEY, &attribute.key);
        if let Some(value) = &attribute.value {
            self.value(value::PAIR_VALUE, value);
        }
        self.enumeration(value::PAIR_KEY_STRINDEX, attribute.key_strindex);
        self.sink.close(frame);
    }

    fn value(&mut self, tag: u8, value: &'s AnyValue) {
        let frame = self.sink.open(tag, 1);
        match &value.value {
            Some(Value::StringValue(text)) => self.bytes_always(value::VALUE_STRING, text.as_bytes()),
            Some(Value::BoolValue(value)) => self.sink.put([value::VALUE_BOOL, u8::from(*value)]),
            Some(Value::IntValue(value)) => {
                varint_field(&mut self.sink, value::VALUE_INT, *value as u64, true);
            }
            Some(Value::DoubleValue(value)) => {
                fixed64_field(&mut self.sink, value::VALUE_DOUBLE, value.to_bits(), true);
            }
            Some(Value::ArrayValue(_) | Value::KvlistValue(_)) if self.nesting == NESTING_MAX => {}
            Some(Value::ArrayValue(array)) => {
                self.nesting += 1;
                let list = self.sink.open(value::VALUE_ARRAY, 1);
                array
                    .values
                    .iter()
                    .for_each(|value| self.value(value::LIST_VALUES, value));
                self.sink.close(list);
                self.nesting -= 1;
            }
            Some(Value::KvlistValue(pairs)) => {
                self.nesting += 1;
                let list = self.sink.open(value::VALUE_KVLIST, 1);
                self.attributes(value::LIST_VALUES, &pairs.values);
                self.sink.close(list);
                self.nesting -= 1;
            }
            Some(Value::BytesValue(bytes)) => self.bytes_always(value::VALUE_BYTES, bytes),
            Some(Value::StringValueStrindex(index)) => {
                varint_field(
                    &mut self.sink,
                    value::VALUE_STRINDEX,
                    i64::from(*index) as u64,
                    true,
                );
            }
            None => {}
        }
        self.sink.close(frame);
    }

    fn text(&mut self, tag: u8, text: &'s str) {
        if text.len() < SHARED_BYTES_MIN {
            text_field(&mut self.sink, tag, text);
        } else {
            self.bytes_always(tag, text.as_bytes());
        }
    }

    fn bytes(&mut self, tag: u8, bytes: &'s [u8]) {
        if !bytes.is_empty() {
            self.bytes_always(tag, bytes);
        }
    }

    fn bytes_always(&mut self, tag: u8, bytes: &'s [u8]) {
        self.sink.put([tag]);
        self.sink.varint(bytes.len() as u64);
        if bytes.len() < SHARED_BYTES_MIN {
            self.sink.bytes(bytes);
        } else {
            self.sink.shared(self.lender.lend(bytes));
        }
    }

    fn varint(&mut self, tag: u8, value: u32) {
        varint_field(&mut self.sink, tag, value.into(), false);
    }

    /// Negative numbers take ten bytes, as protobuf has it for `int32` and enumerations.
    fn enumeration(&mut self, tag: u8, value: i32) {
        varint_field(&mut self.sink, tag, i64::from(value) as u64, false);
    }
}

fn guessed_width(spans: usize) -> usize {
    varint_len((spans * SPAN_BYTES) as u64)
}
