//! What goes on the wire in place of a request: its JSON, compressed, split so that it fits.

#[path = "support/world.rs"]
mod world;

use otlp_embed::coding::decode;
use otlp_embed::encode::Signal;
use otlp_embed::testing::Command;
use otlp_embed::{Compression, DropReason, Protocol};
use world::*;

/// A world whose requests have this form.
fn world_of(protocol: Protocol, compression: Compression, bytes_max: usize) -> World {
    World::with_settings(config(), |settings| {
        settings.request_bytes_max = bytes_max;
        for route in &mut settings.routes {
            route.protocol = protocol;
            route.compression = compression;
        }
    })
}

fn json(body: &[u8]) -> serde_json::Value {
    serde_json::from_slice(body).expect("JSON")
}

/// The spans of a request in JSON.
fn spans_of(body: &[u8]) -> usize {
    let spans = &json(body)["resourceSpans"][0]["scopeSpans"][0]["spans"];
    spans.as_array().expect("spans").len()
}

#[test]
fn a_plain_request_is_sent_without_a_copy() {
    let mut world = world_of(Protocol::Grpc, Compression::None, 64 << 20);
    let request = spans(2, 100);
    world.submit(request.clone());
    assert_eq!(
        world.calls(0)[0].0,
        request.segments().collect::<Vec<_>>().concat()
    );
    assert_eq!(
        world.stats().bytes_in_flight as usize,
        request.encoded_len(),
        "counted once"
    );
}

#[test]
fn compression_is_what_the_route_says() {
    let plain = spans(20, 500);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mut world = world_of(Protocol::HttpProtobuf, compression, 64 << 20);
        let id = world.submit(plain.clone());
        let (body, _) = world.calls(0).remove(0);
        assert!(body.len() < plain.encoded_len() / 4);
        let coding = compression.content_coding().expect("a compression");
        let message = decode(coding, &body, 1 << 20).expect("spec 29, 39");
        assert_eq!(message, plain.segments().collect::<Vec<_>>().concat());
        let held = plain.encoded_len() + body.len();
        assert_eq!(
            world.stats().bytes_in_flight as usize,
            held,
            "the memory limit covers both"
        );
        // A retry sends the same.
        world.say(0, Command::status(0, otlp_embed::Code::UNAVAILABLE));
        world.advance_to_timer();
        assert_eq!(world.calls(0)[1].0, body);
        world.say(0, Command::ok(1));
        assert_eq!(world.outcome(id).expect("delivered").delivered(), 20);
        assert_eq!(world.stats().bytes_in_flight, 0);
    }
}

#[test]
fn json_is_what_the_route_says() {
    let mut world = world_of(Protocol::HttpJson, Compression::None, 64 << 20);
    world.submit(spans(3, 10));
    let (body, _) = world.calls(0).remove(0);
    assert_eq!(spans_of(&body), 3, "spec 28, 31");
    let mut world = world_of(Protocol::HttpJson, Compression::Gzip, 64 << 20);
    world.submit(spans(3, 10));
    let packed = world.calls(0).remove(0).0;
    assert_eq!(decode("gzip", &packed, 1 << 20), Ok(body));
}

#[test]
fn the_cap_is_for_what_is_sent_before_compression() {
    // JSON of the same spans is longer.
    let len = spans(40, 10).encoded_len();
    for compression in [Compression::None, Compression::Gzip] {
        let mut world = world_of(Protocol::HttpJson, compression, len);
        let id = world.submit(spans(40, 10));
        let calls = world.calls(0);
        assert!(calls.len() > 1, "spec 1, 2");
        let coding = compression.content_coding().unwrap_or("identity");
        let bodies: Vec<Vec<u8>> = calls
            .iter()
            .map(|(body, _)| decode(coding, body, len).expect("spec 1: not over the cap"))
            .collect();
        assert_eq!(bodies.iter().map(|body| spans_of(body)).sum::<usize>(), 40);
        for call in 0..calls.len() as u16 {
            world.say(0, Command::ok(call));
        }
        assert_eq!(world.outcome(id).expect("delivered").delivered(), 40);
    }
    // What compression would make small enough is over the cap all the same.
    let mut world = world_of(Protocol::HttpProtobuf, Compression::Gzip, 1_000);
    let id = world.submit(spans(1, 2_000));
    assert_eq!(
        world.error(id).drop_reason(),
        Some(DropReason::TooLarge),
        "spec 1, 2"
    );
}

#[test]
fn a_record_whose_json_is_too_long_is_dropped() {
    let len = spans(1, 0).encoded_len() + 10;
    let mut world = world_of(Protocol::HttpJson, Compression::None, len);
    let id = world.submit(spans(2, 0));
    let error = world.error(id);
    assert_eq!(
        (error.counts().dropped, error.drop_reason()),
        (2, Some(DropReason::TooLarge))
    );
    assert!(world.ids.is_empty() && world.engine.is_idle());
}

#[test]
fn bytes_that_are_no_request_have_no_json() {
    let mut world = world_of(Protocol::HttpJson, Compression::None, 64 << 20);
    let garbage = bytes::Bytes::from_static(&[0xff; 50]);
    let id = world.submit(otlp_embed::Request::from_segments(
        Signal::Traces,
        3,
        vec![garbage],
    ));
    let error = world.error(id);
    assert_eq!(
        (error.counts().dropped, error.drop_reason()),
        (3, Some(DropReason::NotRetryable))
    );
    assert!(error.is_misuse() && world.ids.is_empty(), "{error}");
}

#[test]
fn a_size_named_for_what_was_sent_is_learned_for_what_is_encoded() {
    for (protocol, compression) in [
        (Protocol::HttpJson, Compression::None),
        (Protocol::HttpProtobuf, Compression::Gzip),
        (Protocol::HttpJson, Compression::Gzip),
    ] {
        let mut world = world_of(protocol, compression, 64 << 20);
        let plain = spans(200, 100);
        let id = world.submit(plain.clone());
        let len = world.calls(0)[0].0.len();
        // It names the size that it saw, which is that on the wire, and takes half of it.
        world.say(
            0,
            Command::TooLarge {
                call: 0,
                max: len as u32 / 2,
            },
        );
        let learned = world.engine.request_bytes_max(Signal::Traces);
        let half = plain.encoded_len() / 2;
        assert!(
            (half - half / 20..=half + half / 20).contains(&learned),
            "{learned} of {half}"
        );
        let calls = world.calls(0).len() as u16;
        assert!((3..=5).contains(&calls), "{calls}");
        for call in 1..calls {
            world.say(0, Command::ok(call));
        }
        assert_eq!(world.outcome(id).expect("delivered").delivered(), 200);
        assert_eq!(world.stats().bytes_in_flight, 0);
    }
}

#[test]
fn a_request_that_can_never_be_held_is_not_prepared() {
    let mut world = World::with_settings(config(), |settings| {
        settings.memory_limit_bytes = 1_000;
        settings.request_bytes_max = 500;
    });
    let id = world.submit(spans(30, 100));
    let error = world.error(id);
    assert_eq!(
        (error.counts().dropped, error.drop_reason()),
        (30, Some(DropReason::MemoryLimit))
    );
    assert!(error.is_misuse());
}
