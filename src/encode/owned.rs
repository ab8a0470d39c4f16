//! Owned telemetry through the same writers, exactly as `prost` encodes it.

use super::batch::{
    GROUP_RESOURCE, GROUP_SCHEMA_URL, GROUP_SCOPES, REQUEST_GROUPS, SCOPE_ATTRIBUTES,
    SCOPE_DROPPED_ATTRIBUTES, SCOPE_GROUP_ITEMS, SCOPE_GROUP_SCHEMA_URL, SCOPE_GROUP_SCOPE, SCOPE_NAME,
    SCOPE_VERSION,
};
use super::field::{fixed64_field, text_field, varint_field};
use super::pinned::{self, Lender};
use super::request::{Request, Signal};
use super::segments::Segments;
use super::shared::SHARED_BYTES_MIN;
use super::sink::Sink;
use super::value::{self, Place, ValueWriter};
use super::wire::{BYTES, VARINT, key, varint_len};
use crate::pb::common::any_value::Value;
use crate::pb::common::{AnyValue, EntityRef, InstrumentationScope, KeyValue};
use crate::pb::resource::Resource;
use alloc::vec::Vec;

mod logs;
mod metrics;
mod spans;

/// Lists within lists that are written. A level of a key-value list is three messages, and decoders of protobuf refuse a
/// request with more than a hundred levels of messages: one such attribute would cost the whole batch.
const NESTING_MAX: usize = 30;

const RESOURCE_ATTRIBUTES: u8 = key(1, BYTES);
const RESOURCE_DROPPED_ATTRIBUTES: u8 = key(2, VARINT);
const RESOURCE_ENTITY_REFS: u8 = key(3, BYTES);
const ENTITY_SCHEMA_URL: u8 = key(1, BYTES);
const ENTITY_TYPE: u8 = key(2, BYTES);
const ENTITY_ID_KEYS: u8 = key(3, BYTES);
const ENTITY_DESCRIPTION_KEYS: u8 = key(4, BYTES);

/// The telemetry of one resource: `ResourceSpans` and its kin.
trait Group: Send + Sync + 'static {
    type Scope: ScopeGroup;

    /// Its resource, what is in it and its schema.
    fn parts(&self) -> (Option<&Resource>, &[Self::Scope], &str);
}

/// The telemetry of one scope: `ScopeSpans` and its kin.
trait ScopeGroup {
    type Item: Item;

    /// Its scope, what is in it and its schema.
    fn parts(&self) -> (Option<&InstrumentationScope>, &[Self::Item], &str);
}

/// A span, a log record or a metric.
trait Item {
    /// What one is taken to need, to guess the size of the request.
    const BYTES: usize;

    /// How many items of the signal it is: a metric is as many as it has data points.
    fn count(&self) -> usize {
        1
    }

    /// Writes the fields of its message.
    fn write<'s, S: Send + Sync + 'static>(&'s self, to: &mut Writer<'s, S>);
}

/// Encodes all groups as one request.
fn request<G: Group>(signal: Signal, groups: Vec<G>) -> Request {
    pinned::pin(groups, |groups, lender| {
        let scopes = || groups.iter().flat_map(|group| group.parts().1);
        let items = || scopes().flat_map(|scope| scope.parts().1);
        let (messages, count) = items().fold((0, 0), |(messages, count), item| {
            (messages + 1, count + item.count())
        });
        let mut writer = Writer {
            sink: Sink::default(),
            lender,
            item_width: 2,
            nesting: 0,
        };
        let guess = messages * <<G::Scope as ScopeGroup>::Item as Item>::BYTES;
        writer.sink.expect_len(guess.next_power_of_two());
        groups.iter().for_each(|group| writer.group(group));
        let mut chunks = Vec::new();
        writer.sink.freeze(&mut chunks);
        let mut segments = Segments {
            chunks: &chunks,
            own: None,
            done: Vec::new(),
        };
        writer.sink.pieces().iter().for_each(|piece| segments.push(piece));
        Request::new(signal, count as u64, 0, segments.finish())
    })
}

struct Writer<'s, S> {
    sink: Sink,
    lender: Lender<'s, S>,
    /// Guessed width of the next item's length.
    item_width: usize,
    /// Lists around the value that is written.
    nesting: usize,
}

impl<'s, S: Send + Sync + 'static> Writer<'s, S> {
    fn group<G: Group>(&mut self, group: &'s G) {
        let (resource, scopes, schema_url) = group.parts();
        let width = scopes.iter().map(|scope| guessed_width(scope.parts().1)).max();
        let frame = self.sink.open(REQUEST_GROUPS, width.unwrap_or(1));
        if let Some(resource) = resource {
            self.resource(resource);
        }
        scopes.iter().for_each(|scope| self.scope_group(scope));
        self.text(GROUP_SCHEMA_URL, schema_url);
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

    fn scope_group<G: ScopeGroup>(&mut self, group: &'s G) {
        let (scope, items, schema_url) = group.parts();
        let frame = self.sink.open(GROUP_SCOPES, guessed_width(items));
        if let Some(scope) = scope {
            self.scope(scope);
        }
        for item in items {
            let frame = self.sink.open(SCOPE_GROUP_ITEMS, self.item_width);
            item.write(self);
            self.item_width = self.sink.close(frame).max(2);
        }
        self.text(SCOPE_GROUP_SCHEMA_URL, schema_url);
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

fn guessed_width<I: Item>(items: &[I]) -> usize {
    varint_len((items.len() * I::BYTES) as u64)
}
