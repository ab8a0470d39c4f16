//! What is sent: items with attributes of every kind, told apart by their batch and their place in it.

mod log;
mod metric;
pub mod sdk;
mod span;
mod value;

use crate::options::Options;
use log::Log;
use metric::Point;
use otlp_embed::{LogBatch, MetricBatch, Request, Resource, Signal, TraceBatch};
use span::Span;
use value::{Value, pairs};

const SERVICE: &str = "interop-rust";
const SCOPE: [&str; 2] = ["interop", "1.0"];
/// The start of the first item: some time in 2023, in nanoseconds.
const EPOCH: u64 = 1_700_000_000_000_000_000;
/// Items of the big batch, which share its text evenly.
const BIG_ITEMS: usize = 50;

/// One batch, in a form that both the exporter's writer and the manifest are made from.
pub struct Batch {
    /// Its number, from 0.
    pub number: usize,
    items: Items,
}

enum Items {
    Spans(Vec<Span>),
    Points(Vec<Point>),
    Logs(Vec<Log>),
}

/// The batches that a caller sends: every so many from its own number on.
pub fn of_caller(options: &Options, caller: usize) -> impl Iterator<Item = Batch> + use<> {
    let Options {
        signal,
        batches,
        callers,
        items,
        batch_bytes,
        ..
    } = *options;
    (caller..batches)
        .step_by(callers)
        .map(move |number| Batch::new(signal, number, items, batch_bytes / items))
}

/// The big batch, where one is wanted.
pub fn big(options: &Options) -> Option<Batch> {
    (options.big_bytes > 0).then(|| {
        Batch::new(
            options.signal,
            options.batches,
            BIG_ITEMS,
            options.big_bytes / BIG_ITEMS,
        )
    })
}

impl Batch {
    /// So many items with so many bytes of text each.
    pub fn new(signal: Signal, number: usize, count: usize, text_bytes: usize) -> Self {
        let batch = number as u64;
        let indices = 0..count as u64;
        let items = match signal {
            Signal::Metrics => Items::Points(
                indices
                    .map(|index| Point::new(batch, index, text_bytes))
                    .collect(),
            ),
            Signal::Logs => Items::Logs(indices.map(|index| Log::new(batch, index, text_bytes)).collect()),
            _ => Items::Spans(indices.map(|index| Span::new(batch, index, text_bytes)).collect()),
        };
        Self { number, items }
    }

    /// The request that carries the batch.
    pub fn encode(&self) -> Request {
        let resource = Resource::builder().attr("service.name", SERVICE).build();
        match &self.items {
            Items::Spans(spans) => {
                let mut batch = TraceBatch::new(&resource);
                batch.scope(SCOPE[0], SCOPE[1]);
                spans.iter().for_each(|span| span.write(&mut batch));
                batch.finish()
            }
            Items::Points(points) => {
                let mut batch = MetricBatch::new(&resource);
                batch.scope(SCOPE[0], SCOPE[1]);
                points.iter().for_each(|point| point.write(&mut batch));
                batch.finish()
            }
            Items::Logs(logs) => {
                let mut batch = LogBatch::new(&resource);
                batch.scope(SCOPE[0], SCOPE[1]);
                logs.iter().for_each(|log| log.write(&mut batch));
                batch.finish()
            }
        }
    }

    /// The items in the form of `records.py`.
    pub fn to_json(&self) -> Vec<serde_json::Value> {
        match &self.items {
            Items::Spans(spans) => spans.iter().map(Span::to_json).collect(),
            Items::Points(points) => points.iter().map(Point::to_json).collect(),
            Items::Logs(logs) => logs.iter().map(Log::to_json).collect(),
        }
    }
}

fn id(batch: u64, index: u64) -> [u8; 8] {
    ((batch + 1) << 32 | (index + 1)).to_be_bytes()
}

fn resource_pairs() -> Vec<serde_json::Value> {
    pairs(&[("service.name", Value::Text(SERVICE.into()))])
}

/// A value of every kind, and so many bytes of text.
fn values(index: u64, text_bytes: usize) -> Vec<(&'static str, Value)> {
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
    attributes
}
