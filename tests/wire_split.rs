//! Requests over a cap become several: full ones, of the same bytes (spec 1, spec 2).

use bytes::Bytes;
use otlp_embed::pb::collector::ExportTraceServiceRequest;
use otlp_embed::testing::wire::split;
use otlp_embed::{Request, Resource, Signal, TraceBatch};
use prost::Message;
use std::ops::Range;

const PAYLOAD: &str = {
    const BYTES: [u8; 3_000] = [b'x'; 3_000];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => unreachable!(),
    }
};

fn batch(spans: u64) -> Request {
    let mut batch = TraceBatch::new(&Resource::builder().attr("service.name", "shop").build());
    for id in 1..=spans {
        if id % 5 == 1 {
            batch.scope("suite", &id.to_string());
        }
        let mut span = batch.span([7; 16], id.to_be_bytes(), "work");
        span.times(1_000..2_000);
        span.attr_shared("payload", PAYLOAD);
        span.end();
    }
    batch.finish()
}

fn memory(bytes: &Bytes) -> Range<usize> {
    let start = bytes.as_ptr() as usize;
    start..start + bytes.len()
}

fn whole(request: &Request) -> Vec<u8> {
    request.segments().collect::<Vec<_>>().concat()
}

/// As spec 1 and 2 ask.
#[test]
fn parts_are_slices_of_the_request_but_for_heads() {
    let request = batch(30).with_header("x-tenant", "acme").expect("a header");
    let own: Vec<_> = request.segments().map(|segment| memory(&segment)).collect();
    let parts: Vec<_> = split(&request, 10_000).collect();
    assert_eq!(parts.len(), 10);
    for (part, fits) in parts {
        assert!(fits);
        assert_eq!(part.items(), 3);
        assert_eq!(part.headers(), request.headers());
        let segments = part.segments().map(|segment| memory(&segment));
        let new = segments.filter(|new| !own.iter().any(|old| old.start <= new.start && new.end <= old.end));
        let copied: usize = new.map(|new| new.len()).sum();
        // Keys and lengths of a resource and of two scopes at most.
        assert!((1..=12).contains(&copied), "{copied} bytes are new");
        let decoded = ExportTraceServiceRequest::decode(&whole(&part)[..]).expect("a request");
        let resource = decoded.resource_spans[0].resource.as_ref().expect("a resource");
        assert_eq!(resource.attributes.len(), 1);
        assert!(
            decoded.resource_spans[0]
                .scope_spans
                .iter()
                .all(|of_scope| of_scope.scope.is_some())
        );
    }
}

#[test]
fn what_fits_is_left_alone() {
    let request = batch(3);
    for bytes_max in [request.encoded_len(), usize::MAX] {
        let parts: Vec<_> = split(&request, bytes_max).collect();
        assert_eq!(parts.len(), 1);
        assert!(parts[0].1);
        assert!(
            parts[0]
                .0
                .segments()
                .map(|s| memory(&s))
                .eq(request.segments().map(|s| memory(&s)))
        );
    }
    let parts: Vec<_> = split(&request, request.encoded_len() - 1).collect();
    assert_eq!(
        parts.iter().map(|(part, _)| part.items()).collect::<Vec<_>>(),
        [2, 1]
    );
}

/// Down to single records (spec 2).
#[test]
fn a_record_that_is_too_large_alone_takes_no_other_with_it() {
    let mut batch = TraceBatch::new(&Resource::new());
    batch.scope("suite", "1");
    for (id, value) in [(1u64, "a"), (2, "b"), (3, PAYLOAD), (4, "d"), (5, "e")] {
        batch
            .span([7; 16], id.to_be_bytes(), "work")
            .attr("value", value)
            .end();
    }
    let request = batch.finish();
    let parts: Vec<_> = split(&request, 1_000)
        .map(|(part, fits)| (part.items(), fits))
        .collect();
    assert_eq!(parts, [(2, true), (1, false), (2, true)]);
    // Absurd caps make every record one that is too large.
    for bytes_max in [0, 1, 10] {
        let parts = split(&request, bytes_max).map(|(part, fits)| (part.items(), fits));
        assert_eq!(parts.collect::<Vec<_>>(), [(1, false); 5]);
    }
}

#[test]
fn refused_items_are_counted_once() {
    let mut batch = TraceBatch::new(&Resource::new());
    batch.scope("suite", "1");
    // An id of zeros is none.
    for id in 0..4u64 {
        batch.span([7; 16], id.to_be_bytes(), "work").end();
    }
    let request = batch.finish();
    let refused: Vec<_> = split(&request, 0).map(|(part, _)| part.refused()).collect();
    assert_eq!(refused, [1, 0, 0]);
}

#[test]
fn an_empty_request_has_no_parts() {
    let request = Request::from_encoded(Signal::Logs, &b"\x0a\x02\x12\x00"[..]).expect("envelopes");
    assert_eq!(split(&request, 1).count(), 0);
}

/// Scattered fields that are not known, which go with every part, and envelopes of nothing.
#[test]
fn hostile_shapes_take_no_more_than_their_size() {
    let span_and_unknown = [&b"\x12\x02\x2a\x00"[..], b"\xa0\x06\x01"].concat();
    let scope = span_and_unknown.repeat(20_000);
    let enclose = |inner: &[u8], key: u8| {
        let mut bytes = vec![key];
        prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
        bytes.extend(inner);
        bytes
    };
    let bytes = enclose(&enclose(&scope, 0x12), 0x0a);
    let request = Request::from_encoded(Signal::Traces, bytes).expect("spans");
    let parts: Vec<_> = split(&request, 0).collect();
    assert_eq!(parts.len(), 20_000);
    let head = parts[0].0.encoded_len();
    assert!(head > 60_000);
    assert!(
        parts
            .iter()
            .all(|(part, fits)| !fits && part.segment_count() <= 3)
    );
    let empty = b"\x0a\x02\x12\x00".repeat(500_000);
    let bytes = [&empty[..], b"\x0a\x06\x12\x04\x12\x02\x2a\x00"].concat();
    let request = Request::from_encoded(Signal::Traces, bytes).expect("a span");
    let parts: Vec<_> = split(&request, 8).collect();
    assert_eq!(parts.len(), 1);
    assert!(parts[0].1, "without the empty envelopes it fits");
    assert_eq!(whole(&parts[0].0), b"\x0a\x06\x12\x04\x12\x02\x2a\x00");
}
