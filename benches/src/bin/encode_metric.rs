//! Encodes batches of metrics in three ways, to be counted or timed.
//!
//! Under callgrind the inclusive instructions of `with_batch`, `from_owned` and `with_prost` are the figures; see
//! `benches/encode_instructions.sh`. Run by itself it prints nanoseconds a data point.

use otlp_embed::pb::metrics::ResourceMetrics;
use otlp_embed::{MetricBatch, Request};
use otlp_embed_benches::metrics::{
    POINTS, Series, owned_metrics, owned_metrics_request, series, write_metrics,
};
use otlp_embed_benches::resource;
use otlp_embed_benches::timing::{timed, timed_on};
use prost::Message;
use std::hint::black_box;

fn main() {
    let series = series();
    let mut batch = MetricBatch::new(&resource());
    let expected = owned_metrics_request(&series).encode_to_vec();
    let request = warm_up(&mut batch, &series);
    assert_eq!(
        request.segments().collect::<Vec<_>>().concat(),
        expected,
        "the ways have to agree"
    );
    println!("bytes_per_item {}", expected.len() / POINTS);
    println!("segments {}", request.segment_count());
    drop(request);
    let times = [
        (
            "with_batch",
            timed(|| drop(black_box(with_batch(&mut batch, &series)))),
        ),
        (
            "from_owned",
            timed_on(
                || owned_metrics(&series),
                |metrics| drop(black_box(from_owned(metrics))),
            ),
        ),
        ("with_prost", timed(|| drop(black_box(with_prost(&series))))),
    ];
    for (way, time) in times {
        println!("ns_per_item {way} {}", time.as_nanos() as usize / POINTS);
    }
}

/// The same as [`with_batch`], not counted: the first requests take memory that all later ones use again.
#[inline(never)]
fn warm_up(batch: &mut MetricBatch, series: &[Series]) -> Request {
    (0..2).for_each(|_| drop(with_batch_once(batch, series)));
    with_batch_once(batch, series)
}

/// Metrics told to a batch.
#[inline(never)]
fn with_batch(batch: &mut MetricBatch, series: &[Series]) -> Request {
    with_batch_once(batch, series)
}

#[inline(always)]
fn with_batch_once(batch: &mut MetricBatch, series: &[Series]) -> Request {
    write_metrics(batch, series);
    batch.finish()
}

/// Metrics that exist as messages.
#[inline(never)]
fn from_owned(metrics: Vec<ResourceMetrics>) -> Request {
    Request::from_metrics(metrics)
}

/// Messages built and then encoded, as exporters on `prost` do.
#[inline(never)]
fn with_prost(series: &[Series]) -> Vec<u8> {
    owned_metrics_request(series).encode_to_vec()
}
