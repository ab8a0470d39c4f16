//! What is sent: spans with attributes of every kind, told apart by their batch and their place in it.

use crate::options::Options;
use otlp_embed::encode::{IntoValue, ValueWriter, Written};
use otlp_embed::pb::trace::span::SpanKind;
use otlp_embed::pb::trace::status::StatusCode;
use otlp_embed::{Request, Resource, TraceBatch};
use serde_json::json;
use std::sync::Arc;

const SERVICE: &str = "interop-rust";
const SCOPE: [&str; 2] = ["interop", "1.0"];
const EVENT: &str = "event";
const FAILED: &str = "failed";
const KINDS: [SpanKind; 5] = [
    SpanKind::Internal,
    SpanKind::Server,
    SpanKind::Client,
    SpanKind::Producer,
    SpanKind::Consumer,
];
/// The start of the first span: some time in 2023, in nanoseconds.
const EPOCH: u64 = 1_700_000_000_000_000_000;
/// Spans of the big batch, which share its text evenly.
const BIG_SPANS: usize = 50;

/// One batch, in a form that both the exporter's writer and the manifest are made from.
pub struct Batch {
    /// Its number, from 0.
    pub number: usize,
    /// Its spans.
    pub spans: Vec<Span>,
}

/// One span.
pub struct Span {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    parent: Option<[u8; 8]>,
    name: String,
    kind: SpanKind,
    start: u64,
    end: u64,
    attributes: Vec<(&'static str, Value)>,
    /// The event of a span that failed: its time and its attribute `n`.
    failure: Option<(u64, i64)>,
}

enum Value {
    Text(String),
    /// Text that the request refers to, and does not copy.
    Shared(Arc<str>),
    Int(i64),
    Double(f64),
    Bool(bool),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Map(Vec<(&'static str, Value)>),
}

/// The batches that a caller sends: every so many from its own number on.
pub fn of_caller(options: &Options, caller: usize) -> impl Iterator<Item = Batch> + use<> {
    let (batches, callers, spans) = (options.batches, options.callers, options.spans);
    (caller..batches)
        .step_by(callers)
        .map(move |number| Batch::new(number, spans, 0))
}

/// The big batch, where one is wanted.
pub fn big(options: &Options) -> Option<Batch> {
    (options.big_bytes > 0).then(|| Batch::new(options.batches, BIG_SPANS, options.big_bytes / BIG_SPANS))
}

impl Batch {
    fn new(number: usize, spans: usize, text_bytes: usize) -> Self {
        let spans = (0..spans).map(|index| Span::new(number as u64, index as u64, text_bytes));
        Self {
            number,
            spans: spans.collect(),
        }
    }

    /// The request that carries the batch.
    pub fn encode(&self) -> Request {
        let resource = Resource::builder().attr("service.name", SERVICE).build();
        let mut batch = TraceBatch::new(&resource);
        batch.scope(SCOPE[0], SCOPE[1]);
        for span in &self.spans {
            let mut writer = batch.span(span.trace_id, span.span_id, &span.name);
            if let Some(parent) = span.parent {
                writer.parent(parent);
            }
            writer.kind(span.kind).times(span.start..span.end);
            for (key, value) in &span.attributes {
                writer.attr(key, value);
            }
            if let Some((time, n)) = span.failure {
                writer.event(EVENT, time, |event| _ = event.attr("n", n));
                writer.status(StatusCode::Error, FAILED);
            }
            writer.end();
        }
        batch.finish()
    }
}

impl Span {
    fn new(batch: u64, index: u64, text_bytes: usize) -> Self {
        let start = EPOCH + batch * 1_000_000_000 + index;
        let id = |index: u64| ((batch + 1) << 32 | (index + 1)).to_be_bytes();
        let mut attributes = vec![
            ("text", Value::Text(format!("grüße \"{index}\"\n"))),
            ("empty", Value::Text(String::new())),
            ("negative", Value::Int(-(index as i64))),
            ("large", Value::Int(i64::MAX - index as i64)),
            ("ratio", Value::Double(index as f64 / 3.0)),
            ("flag", Value::Bool(index % 2 == 0)),
            ("raw", Value::Bytes(vec![0, 255, index as u8])),
            (
                "list",
                Value::List(vec![
                    Value::Text("a".into()),
                    Value::Int(1),
                    Value::List(vec![Value::Bool(true)]),
                ]),
            ),
            (
                "map",
                Value::Map(vec![("inner", Value::Map(vec![("deep", Value::Double(1.5))]))]),
            ),
        ];
        if text_bytes > 0 {
            let text = char::from(b'a' + (index % 26) as u8)
                .to_string()
                .repeat(text_bytes);
            attributes.push(("prompt", Value::Shared(text.into())));
        }
        Self {
            trace_id: u128::from(batch + 1).to_be_bytes(),
            span_id: id(index),
            parent: (index > 0).then(|| id(index - 1)),
            name: format!("span {index}"),
            kind: KINDS[index as usize % KINDS.len()],
            start,
            end: start + 1_500,
            attributes,
            failure: (index % 10 == 0).then_some((start + 5, index as i64)),
        }
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
            "resource": pairs(&[("service.name", Value::Text(SERVICE.into()))]),
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

impl Value {
    fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => json!({ "string": text }),
            Self::Shared(text) => json!({ "string": **text }),
            Self::Int(int) => json!({ "int": int.to_string() }),
            Self::Double(double) => json!({ "double": double }),
            Self::Bool(bool) => json!({ "bool": bool }),
            Self::Bytes(bytes) => json!({ "bytes": hex(bytes) }),
            Self::List(values) => json!({ "array": values.iter().map(Self::to_json).collect::<Vec<_>>() }),
            Self::Map(values) => json!({ "kvlist": pairs(values) }),
        }
    }
}

impl IntoValue for &Value {
    fn write_value(self, to: ValueWriter<'_>) -> Written {
        match self {
            Value::Text(text) => to.string(text),
            Value::Shared(text) => to.shared(text.clone()),
            Value::Int(int) => to.int(*int),
            Value::Double(double) => to.double(*double),
            Value::Bool(bool) => to.bool(*bool),
            Value::Bytes(bytes) => to.bytes(bytes),
            Value::List(values) => to.array(|list| values.iter().for_each(|value| _ = list.push(value))),
            Value::Map(values) => {
                to.kvlist(|map| values.iter().for_each(|(key, value)| _ = map.attr(key, value)))
            }
        }
    }
}

fn pairs(attributes: &[(&str, Value)]) -> Vec<serde_json::Value> {
    attributes
        .iter()
        .map(|(key, value)| json!([key, value.to_json()]))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
