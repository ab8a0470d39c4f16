//! Encodes batches of log records in three ways, to be counted or timed.
//!
//! Under callgrind the inclusive instructions of `with_batch`, `from_owned` and `with_prost` are the figures; see
//! `benches/encode_instructions.sh`. Run by itself it prints nanoseconds a record.

use otlp_embed::pb::logs::ResourceLogs;
use otlp_embed::{LogBatch, Request};
use otlp_embed_benches::logs::{LOGS, Line, lines, owned_logs, owned_logs_request, write_logs};
use otlp_embed_benches::resource;
use otlp_embed_benches::timing::{timed, timed_on};
use prost::Message;
use std::hint::black_box;

fn main() {
    let lines = lines();
    let mut batch = LogBatch::new(&resource());
    let expected = owned_logs_request(&lines).encode_to_vec();
    let request = warm_up(&mut batch, &lines);
    assert_eq!(
        request.segments().collect::<Vec<_>>().concat(),
        expected,
        "the ways have to agree"
    );
    println!("bytes_per_item {}", expected.len() / LOGS);
    println!("segments {}", request.segment_count());
    drop(request);
    let times = [
        (
            "with_batch",
            timed(|| drop(black_box(with_batch(&mut batch, &lines)))),
        ),
        (
            "from_owned",
            timed_on(|| owned_logs(&lines), |logs| drop(black_box(from_owned(logs)))),
        ),
        ("with_prost", timed(|| drop(black_box(with_prost(&lines))))),
    ];
    for (way, time) in times {
        println!("ns_per_item {way} {}", time.as_nanos() as usize / LOGS);
    }
}

/// The same as [`with_batch`], not counted: the first requests take memory that all later ones use again.
#[inline(never)]
fn warm_up(batch: &mut LogBatch, lines: &[Line]) -> Request {
    (0..2).for_each(|_| drop(with_batch_once(batch, lines)));
    with_batch_once(batch, lines)
}

/// Records told to a batch.
#[inline(never)]
fn with_batch(batch: &mut LogBatch, lines: &[Line]) -> Request {
    with_batch_once(batch, lines)
}

#[inline(always)]
fn with_batch_once(batch: &mut LogBatch, lines: &[Line]) -> Request {
    write_logs(batch, lines);
    batch.finish()
}

/// Records that exist as messages.
#[inline(never)]
fn from_owned(logs: Vec<ResourceLogs>) -> Request {
    Request::from_logs(logs)
}

/// Messages built and then encoded, as exporters on `prost` do.
#[inline(never)]
fn with_prost(lines: &[Line]) -> Vec<u8> {
    owned_logs_request(lines).encode_to_vec()
}
