//! What was handed out for the socket may still reach the peer, however its call ends.

#[path = "support/session_pair.rs"]
mod session_pair;

use otlp_embed::Config;
use otlp_embed::protocol::{CallEnd, CallId, Connection};
use session_pair::*;
use std::time::Duration;

/// Whether the bytes that went out carry the end of the request on `stream`.
fn has_end(raw: &Raw, stream: u32) -> bool {
    raw.frames()
        .iter()
        .any(|(kind, flags, on, _)| (*kind, flags & 1, *on) == (0, 1, stream))
}

#[test]
fn an_answer_too_large_before_the_socket_took_the_request_leaves_it_in_doubt() {
    let mut raw = Raw::new();
    let call = raw.start(10).expect("there is room");
    raw.input(&head(1));
    raw.input(&data(1, &[0, 0xff, 0xff, 0xff, 0xff], false));
    let end = raw.log.end(call).clone();
    raw.flush();
    assert!(has_end(&raw, 1), "the request goes out after all");
    assert!(matches!(end, CallEnd::Unanswered(_)), "{end:?}");
}

#[test]
fn an_answer_that_breaks_http2_before_the_socket_took_the_request_leaves_it_in_doubt() {
    let mut raw = Raw::new();
    let call = raw.start(10).expect("there is room");
    raw.input(&headers(1, &[("x", "y")], false));
    let end = raw.log.end(call).clone();
    raw.flush();
    assert!(has_end(&raw, 1), "the request goes out after all");
    assert!(matches!(end, CallEnd::Unanswered(_)), "{end:?}");
}

/// The socket still takes what it was given, with a GOAWAY behind it.
#[test]
fn a_connection_that_this_side_gives_up_leaves_what_was_handed_out_in_doubt() {
    let mut raw = Raw::new();
    let call = raw.start(10).expect("there is room");
    raw.input(&data(99, &[1], false));
    let end = raw.log.end(call).clone();
    raw.flush();
    assert!(has_end(&raw, 1), "the request goes out after all");
    assert!(matches!(end, CallEnd::Unanswered(_)), "{end:?}");
    let mut raw = Raw::new();
    let call = raw.start(10).expect("there is room");
    for _ in 0..20_000 {
        raw.input(&frame(6, 1, 0, &[0; 8]));
    }
    let end = raw.log.end(call).clone();
    raw.flush();
    assert!(has_end(&raw, 1), "the request goes out after all");
    assert!(matches!(end, CallEnd::Unanswered(_)), "{end:?}");
}

/// Fills the socket and leaves the last frame of a request inside of `h2`.
fn stuck_in_the_last_frame() -> (Raw, u64) {
    let mut raw = Raw::silent(Config::new().with_protocol(otlp_embed::Protocol::Grpc));
    raw.input(&settings(&[(3, 100), (4, 1 << 30)]));
    raw.input(&frame(8, 0, 0, &(1_u32 << 30).to_be_bytes()));
    raw.flush();
    let before = raw.transmitted.len();
    let call = raw.start((1 << 20) + 10_000).expect("there is room");
    let out = raw.transmitted.len() - before;
    assert!(out >= 1 << 20, "the socket is full: {out}");
    assert!(!has_end(&raw, 1), "the end is held back");
    (raw, call)
}

#[test]
fn a_frame_that_waited_for_the_socket_does_not_end_a_request_that_was_given_up() {
    for is_cancel in [true, false] {
        let (mut raw, call) = stuck_in_the_last_frame();
        let may_arrive = if is_cancel {
            raw.session.cancel(raw.now, CallId(call))
        } else {
            raw.pass(Duration::from_secs(10));
            *raw.log.end(call) == CallEnd::Expired { sent: true }
        };
        raw.flush();
        assert!(may_arrive || !has_end(&raw, 1), "cancelled: {is_cancel}");
        let last = raw.frames().pop().expect("frames");
        assert_eq!((last.0, last.2), (3, 1), "the stream is reset");
        let next = raw.call(10);
        raw.input(&success(3));
        assert!(raw.log.is_ok(next));
    }
}

#[test]
fn an_early_answer_to_a_request_that_windows_hold_back_costs_no_other_call_its_verdict() {
    for is_reset in [true, false] {
        let mut raw = Raw::new();
        let call = raw.call(200_000);
        let status = headers(
            1,
            &[
                (":status", "200"),
                ("content-type", "application/grpc"),
                ("grpc-status", "8"),
            ],
            true,
        );
        raw.input(&status);
        assert_eq!(raw.log.answer(call).code, otlp_embed::Code::RESOURCE_EXHAUSTED);
        raw.flush();
        if is_reset {
            raw.input(&rst(1, 0));
        }
        raw.input(&frame(8, 0, 0, &1_000_000_u32.to_be_bytes()));
        raw.input(&frame(8, 0, 1, &1_000_000_u32.to_be_bytes()));
        raw.flush();
        assert!(raw.log.closed.is_empty(), "{:?}", raw.log.closed);
        let next = raw.call(10);
        raw.input(&success(3));
        assert!(raw.log.is_ok(next), "{:?}", raw.log.ends);
    }
}

/// The answer comes while `h2` is in the middle of a frame, whose rest it puts back into its queue afterwards.
#[test]
fn an_early_answer_in_the_middle_of_a_frame_costs_no_other_call_its_verdict() {
    let mut raw = Raw::silent(Config::new().with_protocol(otlp_embed::Protocol::Grpc));
    let window = (1 << 20) + 100_000;
    raw.input(&settings(&[(3, 100), (4, window)]));
    raw.input(&frame(8, 0, 0, &(1_u32 << 30).to_be_bytes()));
    raw.flush();
    let call = raw.start(3 << 20).expect("there is room");
    assert!(!raw.session.can_start(), "the socket is full");
    raw.input(&headers(
        1,
        &[
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("grpc-status", "8"),
        ],
        true,
    ));
    assert_eq!(raw.log.answer(call).code, otlp_embed::Code::RESOURCE_EXHAUSTED);
    raw.flush();
    let last = raw.frames().pop().expect("frames");
    assert_eq!((last.0, last.2), (3, 1), "the stream is reset");
    raw.input(&frame(8, 0, 1, &(4_u32 << 20).to_be_bytes()));
    raw.flush();
    assert!(raw.log.closed.is_empty(), "{:?}", raw.log.closed);
    let next = raw.call(10);
    raw.input(&success(3));
    assert!(raw.log.is_ok(next), "{:?}", raw.log.ends);
}
