//! Encodes batches of spans in three ways, to be counted or timed.
//!
//! Under callgrind the inclusive instructions of `with_batch`, `from_owned` and `with_prost` are the figures; see
//! `benches/encode_instructions.sh`. Run by itself it prints nanoseconds a span.

use otlp_embed::pb::trace::ResourceSpans;
use otlp_embed::{Request, TraceBatch};
use otlp_embed_benches::timing::{timed, timed_on};
use otlp_embed_benches::{Call, SPANS, calls, owned, owned_request, resource, write};
use prost::Message;
use std::hint::black_box;

fn main() {
    let calls = calls();
    let mut batch = TraceBatch::new(&resource());
    let expected = owned_request(&calls).encode_to_vec();
    let request = warm_up(&mut batch, &calls);
    assert_eq!(
        request.segments().collect::<Vec<_>>().concat(),
        expected,
        "the ways have to agree"
    );
    println!("bytes_per_item {}", expected.len() / SPANS);
    println!("segments {}", request.segment_count());
    drop(request);
    let times = [
        (
            "with_batch",
            timed(|| drop(black_box(with_batch(&mut batch, &calls)))),
        ),
        (
            "from_owned",
            timed_on(|| owned(&calls), |spans| drop(black_box(from_owned(spans)))),
        ),
        ("with_prost", timed(|| drop(black_box(with_prost(&calls))))),
    ];
    for (way, time) in times {
        println!("ns_per_item {way} {}", time.as_nanos() as usize / SPANS);
    }
}

/// The same as [`with_batch`], not counted: the first requests take memory that all later ones use again.
#[inline(never)]
fn warm_up(batch: &mut TraceBatch, calls: &[Call]) -> Request {
    (0..2).for_each(|_| drop(with_batch_once(batch, calls)));
    with_batch_once(batch, calls)
}

/// Spans told to a batch.
#[inline(never)]
fn with_batch(batch: &mut TraceBatch, calls: &[Call]) -> Request {
    with_batch_once(batch, calls)
}

#[inline(always)]
fn with_batch_once(batch: &mut TraceBatch, calls: &[Call]) -> Request {
    write(batch, calls);
    batch.finish()
}

/// Spans that exist as messages.
#[inline(never)]
fn from_owned(spans: Vec<ResourceSpans>) -> Request {
    Request::from_spans(spans)
}

/// Messages built and then encoded, as exporters on `prost` do.
#[inline(never)]
fn with_prost(calls: &[Call]) -> Vec<u8> {
    owned_request(calls).encode_to_vec()
}
