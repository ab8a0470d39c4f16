//! Arbitrary messages, made of bytes: every field, every kind of value, lengths around the widths of varints.

use arbitrary::{Arbitrary, Result, Unstructured};
use otlp_embed::pb::common::any_value::Value;
use otlp_embed::pb::common::{AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList};
use otlp_embed::pb::resource::Resource;
use otlp_embed::pb::trace::span::{Event, Link};
use otlp_embed::pb::trace::{ResourceSpans, ScopeSpans, Span, Status};

pub type Input<'a> = Unstructured<'a>;

/// Lengths at which something changes: widths of varints, heads around values, referencing, the size of a chunk.
const EDGES: [usize; 14] = [
    0, 1, 110, 121, 122, 127, 128, 1023, 1024, 4080, 16_383, 16_384, 40_000, 70_000,
];

/// What an exporter would send, from any bytes.
pub fn resource_spans_list(data: &[u8]) -> Vec<ResourceSpans> {
    list(&mut Input::new(data), 3, resource_spans).unwrap_or_default()
}

/// The messages without what a writer of spans cannot express.
pub fn normal(mut spans: Vec<ResourceSpans>) -> Vec<ResourceSpans> {
    for of_resource in &mut spans {
        let mut resource = of_resource.resource.take().unwrap_or_default();
        normal_attributes(&mut resource.attributes);
        of_resource.resource = Some(Resource {
            attributes: resource.attributes,
            ..Default::default()
        });
        for (at, of_scope) in of_resource.scope_spans.iter_mut().enumerate() {
            if at > 0 {
                of_scope.scope.get_or_insert_default();
            }
            match &mut of_scope.scope {
                Some(scope) => normal_attributes(&mut scope.attributes),
                None => of_scope.schema_url.clear(),
            }
            of_scope.spans.iter_mut().for_each(normal_span);
        }
    }
    spans
}

/// An id of the right length; zeros for what is none.
pub fn id<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}

fn normal_span(span: &mut Span) {
    span.trace_id = id::<16>(&span.trace_id).to_vec();
    span.span_id = id::<8>(&span.span_id).to_vec();
    if id::<8>(&span.parent_span_id) == [0; 8] {
        span.parent_span_id.clear();
    }
    span.kind = span.kind().into();
    normal_attributes(&mut span.attributes);
    span.events
        .iter_mut()
        .for_each(|event| normal_attributes(&mut event.attributes));
    span.links
        .retain(|link| id::<16>(&link.trace_id) != [0; 16] && id::<8>(&link.span_id) != [0; 8]);
    span.links
        .iter_mut()
        .for_each(|link| normal_attributes(&mut link.attributes));
    if let Some(status) = &mut span.status {
        status.code = status.code().into();
    }
}

pub fn normal_attributes(attributes: &mut [KeyValue]) {
    for attribute in attributes {
        attribute.key_strindex = 0;
        normal_value(attribute.value.get_or_insert_default());
    }
}

pub fn normal_value(value: &mut AnyValue) {
    match &mut value.value {
        Some(Value::ArrayValue(array)) => array.values.iter_mut().for_each(normal_value),
        Some(Value::KvlistValue(pairs)) => normal_attributes(&mut pairs.values),
        _ => {}
    }
}

fn resource_spans(input: &mut Input<'_>) -> Result<ResourceSpans> {
    Ok(ResourceSpans {
        resource: option(input, resource)?,
        scope_spans: list(input, 3, scope_spans)?,
        schema_url: text(input)?,
    })
}

pub fn resource(input: &mut Input<'_>) -> Result<Resource> {
    Ok(Resource {
        attributes: attributes(input)?,
        dropped_attributes_count: number(input)?,
        entity_refs: list(input, 2, entity_ref)?,
    })
}

fn entity_ref(input: &mut Input<'_>) -> Result<EntityRef> {
    Ok(EntityRef {
        schema_url: text(input)?,
        r#type: text(input)?,
        id_keys: list(input, 2, text)?,
        description_keys: list(input, 2, text)?,
    })
}

fn scope_spans(input: &mut Input<'_>) -> Result<ScopeSpans> {
    Ok(ScopeSpans {
        scope: option(input, scope)?,
        spans: list(input, 4, span)?,
        schema_url: text(input)?,
    })
}

pub fn scope(input: &mut Input<'_>) -> Result<InstrumentationScope> {
    Ok(InstrumentationScope {
        name: text(input)?,
        version: text(input)?,
        attributes: attributes(input)?,
        dropped_attributes_count: number(input)?,
    })
}

fn span(input: &mut Input<'_>) -> Result<Span> {
    Ok(Span {
        trace_id: id_bytes(input, 16)?,
        span_id: id_bytes(input, 8)?,
        trace_state: text(input)?,
        parent_span_id: id_bytes(input, 8)?,
        flags: number(input)?,
        name: text(input)?,
        kind: enumeration(input)?,
        start_time_unix_nano: number(input)?,
        end_time_unix_nano: number(input)?,
        attributes: attributes(input)?,
        dropped_attributes_count: number(input)?,
        events: list(input, 2, event)?,
        dropped_events_count: number(input)?,
        links: list(input, 2, link)?,
        dropped_links_count: number(input)?,
        status: option(input, |input| {
            Ok(Status {
                message: text(input)?,
                code: enumeration(input)?,
            })
        })?,
    })
}

fn event(input: &mut Input<'_>) -> Result<Event> {
    Ok(Event {
        time_unix_nano: number(input)?,
        name: text(input)?,
        attributes: attributes(input)?,
        dropped_attributes_count: number(input)?,
    })
}

fn link(input: &mut Input<'_>) -> Result<Link> {
    Ok(Link {
        trace_id: id_bytes(input, 16)?,
        span_id: id_bytes(input, 8)?,
        trace_state: text(input)?,
        attributes: attributes(input)?,
        dropped_attributes_count: number(input)?,
        flags: number(input)?,
    })
}

pub fn attributes(input: &mut Input<'_>) -> Result<Vec<KeyValue>> {
    list(input, 4, |input| attribute(input, 0))
}

fn attribute(input: &mut Input<'_>, depth: usize) -> Result<KeyValue> {
    Ok(KeyValue {
        key: text(input)?,
        value: option(input, |input| value(input, depth))?,
        key_strindex: if input.ratio(1, 16)? {
            input.arbitrary()?
        } else {
            0
        },
    })
}

pub fn value(input: &mut Input<'_>, depth: usize) -> Result<AnyValue> {
    // Deep in the tree only the kinds that end it.
    let kinds = if depth < 6 { 9 } else { 7 };
    let value = match input.int_in_range(0..=kinds - 1)? {
        0 => None,
        1 => Some(Value::StringValue(text(input)?)),
        2 => Some(Value::BoolValue(input.arbitrary()?)),
        3 => Some(Value::IntValue(number(input)?)),
        4 => Some(Value::DoubleValue(input.arbitrary()?)),
        5 => Some(Value::BytesValue(text(input)?.into_bytes())),
        6 => Some(Value::StringValueStrindex(input.arbitrary()?)),
        7 => {
            let values = list(input, 3, |input| value(input, depth + 1))?;
            Some(Value::ArrayValue(ArrayValue { values }))
        }
        _ => {
            let values = list(input, 3, |input| attribute(input, depth + 1))?;
            Some(Value::KvlistValue(KeyValueList { values }))
        }
    };
    Ok(AnyValue { value })
}

pub fn text(input: &mut Input<'_>) -> Result<String> {
    let choice = input.int_in_range(0..=255u8)?;
    let filler = char::from(b'a' + choice % 26);
    match choice {
        0..=199 => Ok(filler.to_string().repeat(usize::from(choice) % 40)),
        200..=223 => Ok(input.arbitrary()?),
        224..=251 => Ok(filler.to_string().repeat(EDGES[usize::from(choice) % 10])),
        _ => Ok(filler
            .to_string()
            .repeat(EDGES[usize::from(choice) % EDGES.len()])),
    }
}

pub fn id_bytes(input: &mut Input<'_>, len: usize) -> Result<Vec<u8>> {
    Ok(match input.int_in_range(0..=15u8)? {
        0 => vec![],
        1 => vec![0; len],
        2 => vec![1; 200],
        other => vec![other; len],
    })
}

/// A number of any magnitude, often none.
pub fn number<'a, T: Arbitrary<'a> + TryFrom<u64> + Default>(input: &mut Input<'a>) -> Result<T> {
    Ok(match input.int_in_range(0..=3u8)? {
        0 => T::default(),
        1 => T::try_from(u64::from(input.arbitrary::<u8>()?)).unwrap_or_default(),
        _ => input.arbitrary()?,
    })
}

pub fn enumeration(input: &mut Input<'_>) -> Result<i32> {
    if input.ratio(1, 16)? {
        input.arbitrary()
    } else {
        input.int_in_range(0..=6)
    }
}

pub fn option<'a, T>(input: &mut Input<'a>, some: impl Fn(&mut Input<'a>) -> Result<T>) -> Result<Option<T>> {
    if input.ratio(1, 8)? {
        Ok(None)
    } else {
        some(input).map(Some)
    }
}

pub fn list<'a, T>(
    input: &mut Input<'a>,
    max: usize,
    element: impl Fn(&mut Input<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let len = input.int_in_range(0..=max)?;
    let mut elements = Vec::new();
    while elements.len() < len && !input.is_empty() {
        elements.push(element(input)?);
    }
    Ok(elements)
}
