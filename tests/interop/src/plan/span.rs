//! Spans.

use super::value::{Value, hex, pairs};
use super::{EPOCH, SCOPE, id, resource_pairs, values};
use otlp_embed::TraceBatch;
use otlp_embed::pb::trace::span::SpanKind;
use otlp_embed::pb::trace::status::StatusCode;
use serde_json::json;

pub(super) const EVENT: &str = "event";
pub(super) const FAILED: &str = "failed";
const KINDS: [SpanKind; 5] = [
    SpanKind::Internal,
    SpanKind::Server,
    SpanKind::Client,
    SpanKind::Producer,
    SpanKind::Consumer,
];

/// One span.
pub struct Span {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) parent: Option<[u8; 8]>,
    pub(super) name: String,
    pub(super) kind: SpanKind,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) attributes: Vec<(&'static str, Value)>,
    /// The event of a span that failed: its time and its attribute `n`.
    pub(super) failure: Option<(u64, i64)>,
}

impl Span {
    pub fn new(batch: u64, index: u64, text_bytes: usize) -> Self {
        let start = EPOCH + batch * 1_000_000_000 + index;
        let attributes = values(index, text_bytes);
        Self {
            trace_id: u128::from(batch + 1).to_be_bytes(),
            span_id: id(batch, index),
            parent: (index > 0).then(|| id(batch, index - 1)),
            name: format!("span {index}"),
            kind: KINDS[index as usize % KINDS.len()],
            start,
            end: start + 1_500,
            attributes,
            failure: (index % 10 == 0).then_some((start + 5, index as i64)),
        }
    }

    /// Writes the span into a batch.
    pub fn write(&self, batch: &mut TraceBatch) {
        let mut writer = batch.span(self.trace_id, self.span_id, &self.name);
        if let Some(parent) = self.parent {
            writer.parent(parent);
        }
        writer.kind(self.kind).times(self.start..self.end);
        for (key, value) in &self.attributes {
            writer.attr(key, value);
        }
        if let Some((time, n)) = self.failure {
            writer.event(EVENT, time, |event| _ = event.attr("n", n));
            writer.status(StatusCode::Error, FAILED);
        }
        writer.end();
    }

    /// The span in the form of `records.py`.
    pub fn to_json(&self) -> serde_json::Value {
        let events: Vec<_> = self
            .failure
            .iter()
            .map(|(time, n)| json!([EVENT, time.to_string(), pairs(&[("n", Value::Int(*n))])]))
            .collect();
        let status = match self.failure {
            Some(_) => json!([StatusCode::Error as i32, FAILED]),
            None => json!([StatusCode::Unset as i32, ""]),
        };
        json!({
            "signal": "traces",
            "resource": resource_pairs(),
            "scope": SCOPE,
            "trace_id": hex(&self.trace_id),
            "span_id": hex(&self.span_id),
            "parent_span_id": self.parent.map_or(String::new(), |id| hex(&id)),
            "name": self.name,
            "kind": self.kind as i32,
            "start": self.start.to_string(),
            "end": self.end.to_string(),
            "attributes": pairs(&self.attributes),
            "events": events,
            "status": status,
        })
    }
}
