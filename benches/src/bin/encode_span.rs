//! Encodes batches of spans in three ways, to be counted or timed.
//!
//! Under callgrind the inclusive instructions of `with_batch`, `from_owned` and `with_prost` are the figures; see
//! `benches/encode_instructions.sh`. Run by itself it prints nanoseconds a span.

use otlp_embed::pb::trace::ResourceSpans;
use otlp_embed::{Request, TraceBatch};
use otlp_embed_benches::{Call, SPANS, calls, owned, owned_request, resource, write};
use prost::Message;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Times that each way is gone; the script divides by it.
const ROUNDS: usize = 8;

fn main() {
    let calls = calls();
    let mut batch = TraceBatch::new(&resource());
    let expected = owned_request(&calls).encode_to_vec();
    let request = with_batch(&mut batch, &calls);
    assert_eq!(
        request.segments().collect::<Vec<_>>().concat(),
        expected,
        "the ways have to agree"
    );
    println!("bytes_per_span {}", expected.len() / SPANS);
    println!("segments {}", request.segment_count());
    drop(request);
    let times = [
        (
            "with_batch",
            timed(|| drop(black_box(with_batch(&mut batch, &calls))), 1),
        ),
        (
            "from_owned",
            timed_on(|| owned(&calls), |spans| drop(black_box(from_owned(spans)))),
        ),
        ("with_prost", timed(|| drop(black_box(with_prost(&calls))), 0)),
    ];
    for (way, time) in times {
        println!("ns_per_span {way} {}", time.as_nanos() as usize / SPANS);
    }
}

/// Spans told to a batch.
#[inline(never)]
fn with_batch(batch: &mut TraceBatch, calls: &[Call]) -> Request {
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

/// The best of all rounds but those already gone.
fn timed(mut work: impl FnMut(), gone: usize) -> Duration {
    timed_rounds(ROUNDS - gone, || (), |()| work())
}

fn timed_on<T>(prepare: impl FnMut() -> T, work: impl FnMut(T)) -> Duration {
    timed_rounds(ROUNDS, prepare, work)
}

#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn timed_rounds<T>(rounds: usize, mut prepare: impl FnMut() -> T, mut work: impl FnMut(T)) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..rounds {
        let prepared = prepare();
        let begin = Instant::now();
        work(prepared);
        best = best.min(begin.elapsed());
    }
    best
}
