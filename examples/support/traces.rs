//! From the shop's spans to a request.

use super::shop::{Kind, SERVICES, Span, Value, resources};
use super::table::{Row, Table};
use otlp_embed::encode::{IntoValue, ValueWriter, Written};
use otlp_embed::pb::trace::span::SpanKind;
use otlp_embed::pb::trace::status::StatusCode;
use otlp_embed::{Request, TraceBatch};

/// The request, and a table of what is in it.
pub fn encode(spans: &[Span]) -> (Request, Table) {
    let resources = resources();
    let mut batch = TraceBatch::new(&resources[0]);
    let mut table = Table::default();
    for span in spans {
        let (scope, version) = span.scope;
        batch.resource(&resources[span.service]).scope(scope, version);
        write(&mut batch, span);
        let row = Row::span(SERVICES[span.service].name, scope, kind(span.kind) as i32);
        table.add(row, 1, span.error.is_some());
    }
    (batch.finish(), table)
}

fn write(batch: &mut TraceBatch, span: &Span) {
    let mut writer = batch.span(span.trace_id, span.span_id, &span.name);
    if let Some(parent) = span.parent {
        writer.parent(parent);
    }
    writer.kind(kind(span.kind)).times(span.times.clone());
    for (name, value) in &span.attributes {
        match value {
            // Referenced by the request instead of copied into it.
            Value::LongText(text) => writer.attr_shared(name, text.clone()),
            value => writer.attr(name, value),
        };
    }
    for event in &span.events {
        writer.event(event.name, event.unix_nanos, |writer| {
            for (name, value) in &event.attributes {
                writer.attr(name, value);
            }
        });
    }
    for (trace_id, span_id) in &span.links {
        writer.link(*trace_id, *span_id, |_| {});
    }
    if let Some(message) = &span.error {
        writer.status(StatusCode::Error, message);
    }
    writer.end();
}

fn kind(kind: Kind) -> SpanKind {
    match kind {
        Kind::Internal => SpanKind::Internal,
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Producer => SpanKind::Producer,
        Kind::Consumer => SpanKind::Consumer,
    }
}

impl IntoValue for &Value {
    fn write_value(self, to: ValueWriter<'_>) -> Written {
        match self {
            Value::Text(text) | Value::LongText(text) => to.string(text),
            Value::Int(number) => to.int(*number),
            Value::Float(number) => to.double(*number),
            Value::Bool(truth) => to.bool(*truth),
            Value::Texts(texts) => texts.as_slice().write_value(to),
        }
    }
}
