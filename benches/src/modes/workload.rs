//! What is exported: spans of a web server, each with ids, times and values of its own.

use otlp_embed::pb::trace::span::SpanKind;
use otlp_embed::pb::trace::status::StatusCode;
use otlp_embed::{Request, Resource, TraceBatch};

/// A source of spans. It allocates nothing for a span, so that what is measured is the exporter.
pub struct Workload {
    batch: TraceBatch,
    number: u64,
}

/// When the first span began; each begins a microsecond after the one before.
const BEGIN_NS: u64 = 1_700_000_000_000_000_000;

impl Workload {
    /// Spans from `first` on: two workloads with the same number give the same spans.
    pub fn new(first: u64) -> Self {
        Self {
            batch: TraceBatch::new(&resource()),
            number: first,
        }
    }

    /// The next `spans` spans as one request.
    pub fn request(&mut self, spans: usize) -> Request {
        write_spans(&mut self.batch, self.number, spans);
        self.number += spans as u64;
        self.batch.finish()
    }
}

/// The process that the spans come from.
pub fn resource() -> Resource {
    Resource::builder()
        .attr("service.name", "shop")
        .attr("service.version", "1.4.2")
        .attr("host.name", "shop-7d9f-x2k4")
        .build()
}

/// Writes the spans `first..first + spans` into a batch.
pub fn write_spans(batch: &mut TraceBatch, first: u64, spans: usize) {
    batch.scope("shop.http", "0.3.1");
    (first..first + spans as u64).for_each(|number| write_span(batch, number));
}

/// Writes one span: six attributes, about 310 bytes with its share of the envelope.
#[inline]
pub fn write_span(batch: &mut TraceBatch, number: u64) {
    let (high, low) = (mix(number), mix(number ^ u64::MAX));
    let mut trace_id = [0; 16];
    trace_id[..8].copy_from_slice(&high.to_be_bytes());
    trace_id[8..].copy_from_slice(&(low | 1).to_be_bytes());
    let span_id = (mix(number + (1 << 62)) | 1).to_be_bytes();
    let parent = (mix(number + (1 << 61)) | 1).to_be_bytes();
    let begin = BEGIN_NS + number * 1_000;
    let user = digits(*b"user-00000000", low % 100_000_000);
    let path = digits(*b"/api/v1/shops/17/carts/00000000", high % 100_000_000);
    let status = if number % 50 == 0 { 503 } else { 200 };
    let mut span = batch.span(trace_id, span_id, "GET /carts/{cart}");
    span.parent(parent)
        .kind(SpanKind::Server)
        .times(begin..begin + 50_000 + low % 1_000_000);
    span.attr("http.request.method", "GET")
        .attr("http.route", "/api/v1/shops/{shop}/carts/{cart}")
        .attr("url.path", text(&path))
        .attr("http.response.status_code", status);
    span.attr("server.address", "shop.example.com")
        .attr("user.id", text(&user));
    span.status(StatusCode::Ok, "").end();
}

/// A template whose last eight places are the digits of a number.
fn digits<const N: usize>(mut template: [u8; N], mut number: u64) -> [u8; N] {
    for place in template.iter_mut().rev().take(8) {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
    template
}

fn text(ascii: &[u8]) -> &str {
    std::str::from_utf8(ascii).unwrap_or_default()
}

/// Spreads a number over 64 bits, each number to another (the finish of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use otlp_embed::Signal;
    use std::collections::HashSet;

    #[test]
    fn spans_are_as_large_as_the_table_says_and_have_ids_of_their_own() {
        let mut workload = Workload::new(0);
        let (first, second) = (workload.request(512), workload.request(512));
        assert_ne!(
            first.segments().collect::<Vec<_>>(),
            second.segments().collect::<Vec<_>>()
        );
        assert!(
            (300..=320).contains(&(first.encoded_len() / 512)),
            "{} bytes a span",
            first.encoded_len() / 512
        );
        let bytes = first.segments().collect::<Vec<_>>().concat();
        let read = Request::from_encoded(Signal::Traces, bytes).expect("it is a request");
        assert_eq!(read.items(), 512);
        let ids: HashSet<_> = (0..100_000).map(|number| mix(number + (1 << 62)) | 1).collect();
        assert_eq!(ids.len(), 100_000);
    }
}
