//! Calls that end badly, and what each end says about the request.

#[path = "support/session_pair.rs"]
mod session_pair;

use otlp_embed::protocol::{CallEnd, Connection, Failure};
use otlp_embed::{Code, Config};
use session_pair::*;
use std::time::Duration;

fn is_unprocessed(end: &CallEnd) -> bool {
    matches!(end, CallEnd::Unprocessed(failure) if failure.is_retryable)
}

fn is_unanswered(end: &CallEnd) -> bool {
    matches!(end, CallEnd::Unanswered(failure) if failure.is_retryable)
}

#[test]
fn resets_follow_the_table_of_grpc() {
    for (reset, code) in [
        (0, Code::INTERNAL),
        (1, Code::INTERNAL),
        (2, Code::INTERNAL),
        (3, Code::INTERNAL),
        (4, Code::INTERNAL),
        (6, Code::INTERNAL),
        (8, Code::CANCELLED),
        (9, Code::INTERNAL),
        (10, Code::INTERNAL),
        (11, Code::RESOURCE_EXHAUSTED),
        (12, Code::PERMISSION_DENIED),
        (13, Code::UNKNOWN),
        (5, Code::UNKNOWN),
        (0xdead, Code::UNKNOWN),
    ] {
        for with_head in [false, true] {
            let mut raw = Raw::new();
            let call = raw.call(10);
            if with_head {
                raw.input(&head(1));
                raw.input(&data(1, &[0, 0], false));
            }
            raw.input(&rst(1, reset));
            assert_eq!(raw.log.answer(call).code, code, "spec 46: {reset}");
            let next = raw.call(10);
            raw.input(&success(3));
            assert!(raw.log.is_ok(next), "the connection goes on");
        }
    }
}

#[test]
fn a_refused_stream_was_not_processed() {
    for is_sent in [false, true] {
        let mut raw = Raw::new();
        let call = raw.start(10).expect("there is room");
        if is_sent {
            raw.flush();
        }
        raw.input(&rst(1, 7));
        assert!(
            is_unprocessed(raw.log.end(call)),
            "spec 46: {:?}",
            raw.log.end(call)
        );
    }
}

#[test]
fn a_reset_after_the_status_changes_nothing() {
    let mut raw = Raw::new();
    let call = raw.call(100_000);
    raw.input(&headers(
        1,
        &[
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("grpc-status", "8"),
        ],
        true,
    ));
    raw.input(&rst(1, 0));
    assert_eq!(raw.log.answer(call).code, Code::RESOURCE_EXHAUSTED);
    raw.flush();
    assert_eq!(raw.log.sent.len(), 0);
}

#[test]
fn an_answer_without_a_status_is_judged_by_http() {
    for (status, code) in [
        ("400", Code::INTERNAL),
        ("401", Code::UNAUTHENTICATED),
        ("403", Code::PERMISSION_DENIED),
        ("404", Code::UNIMPLEMENTED),
        ("429", Code::UNAVAILABLE),
        ("502", Code::UNAVAILABLE),
        ("503", Code::UNAVAILABLE),
        ("504", Code::UNAVAILABLE),
        ("500", Code::UNKNOWN),
        ("200", Code::UNKNOWN),
        ("204", Code::UNKNOWN),
    ] {
        let mut raw = Raw::new();
        let call = raw.call(10);
        raw.input(&headers(
            1,
            &[(":status", status), ("content-type", "text/plain")],
            false,
        ));
        raw.input(&data(1, b"the proxy says no", true));
        let answer = raw.log.answer(call);
        assert_eq!(answer.code, code, "spec 45: {status}");
        assert!(answer.message.contains("the proxy says no"), "{}", answer.message);
        assert_eq!(answer.http_status, status.parse().ok().filter(|s| *s != 200));
    }
}

#[test]
fn a_redirect_is_named_and_not_followed() {
    let mut raw = Raw::new();
    let call = raw.call(10);
    raw.input(&headers(
        1,
        &[(":status", "307"), ("location", "https://elsewhere/")],
        true,
    ));
    let answer = raw.log.answer(call);
    assert_eq!((answer.code, answer.http_status), (Code::UNKNOWN, Some(307)));
    assert!(
        answer.message.contains("https://elsewhere/"),
        "spec 53: {}",
        answer.message
    );
}

#[test]
fn a_malformed_status_is_unknown() {
    for status in ["", "x", "-1", "4294967296", "0.0"] {
        let mut raw = Raw::new();
        let call = raw.call(10);
        raw.input(&head(1));
        raw.input(&trailers(1, status));
        assert_eq!(raw.log.answer(call).code, Code::UNKNOWN, "{status:?}");
    }
}

#[test]
fn an_answer_too_large_ends_at_once() {
    for announce in [true, false] {
        let mut raw = Raw::new();
        let call = raw.call(10);
        raw.input(&head(1));
        if announce {
            raw.input(&data(1, &[0, 0xff, 0xff, 0xff, 0xff], false));
        } else {
            // Many messages, each within the limit.
            raw.input(&data(1, &[0; 5], false));
            let mut total = 0;
            while raw.log.ends.is_empty() {
                raw.input(&data(1, &[0; 10_000], false));
                raw.flush();
                total += 10_000;
                assert!(total <= (4 << 20) + 10_000, "spec 3: the limit is 4 MiB");
            }
        }
        let failure = match raw.log.end(call) {
            CallEnd::Unanswered(failure) => failure,
            other => panic!("spec 4: {other:?}"),
        };
        assert!(
            !failure.is_retryable && failure.message.contains("larger"),
            "spec 4: {failure:?}"
        );
        let next = raw.call(10);
        raw.input(&success(3));
        assert!(raw.log.is_ok(next));
    }
}

#[test]
fn an_answer_that_breaks_http2_is_not_retried() {
    // A content-length that the body belies, and a head without a status.
    let lying = headers(1, &[(":status", "200"), ("content-length", "9")], false);
    for answer in [
        [lying, data(1, &[0; 5], true)].concat(),
        headers(1, &[("x", "y")], false),
    ] {
        let mut raw = Raw::new();
        let call = raw.call(10);
        raw.input(&answer);
        match raw.log.end(call) {
            CallEnd::Unanswered(failure) => {
                assert!(
                    !failure.is_retryable && failure.message.contains("HTTP/2"),
                    "{failure:?}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_peer_of_another_protocol_is_named() {
    for (bytes, words, is_retryable) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"[..],
            "it answered HTTP/1.1: \"HTTP/1.1 400 Bad Request\"",
            false,
        ),
        (b"HTTP/1.0 503 Service Unavailable\r\n\r\n", "503", true),
        (b"220 mail.example ESMTP\r\n", "220 mail.", false),
        (&[0xff; 64], "\\xff\\xff", false),
    ] {
        for size in [1, bytes.len()] {
            let mut raw = Raw::silent(Config::new().with_protocol(otlp_embed::Protocol::Grpc));
            let call = raw.call(10);
            for chunk in bytes.chunks(size) {
                raw.input(chunk);
            }
            match raw.log.end(call) {
                CallEnd::Unprocessed(failure) => {
                    assert!(failure.message.contains("does not speak HTTP/2"), "{failure:?}");
                    assert!(failure.message.contains(words), "{failure:?}");
                    assert_eq!(failure.is_retryable, is_retryable, "{failure:?}");
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(raw.log.closed.len(), 1);
            assert!(raw.session.is_draining() && !raw.session.can_start());
        }
    }
}

#[test]
fn a_lost_connection_leaves_only_whole_requests_in_doubt() {
    let mut raw = Raw::new();
    let answered = raw.call(10);
    raw.input(&success(1));
    let whole = raw.call(10);
    let half = raw.start(1_000).expect("there is room");
    raw.take(500);
    let unsent = raw.start(10).expect("there is room");
    raw.eof("connection reset by peer");
    assert!(raw.log.is_ok(answered));
    assert!(is_unanswered(raw.log.end(whole)), "{:?}", raw.log.end(whole));
    assert!(is_unprocessed(raw.log.end(half)), "{:?}", raw.log.end(half));
    assert!(is_unprocessed(raw.log.end(unsent)), "{:?}", raw.log.end(unsent));
    let CallEnd::Unanswered(failure) = raw.log.end(whole) else {
        unreachable!("asserted above");
    };
    assert!(
        failure.message.contains("connection reset by peer"),
        "{failure:?}"
    );
    assert_eq!(raw.log.closed.len(), 1);
    raw.input(&success(3));
    raw.eof("again");
    raw.cancel(whole);
    raw.pass(Duration::from_secs(60));
    assert_eq!(raw.log.closed.len(), 1, "nothing happens after the end");
}

#[test]
fn an_answer_that_came_before_the_end_counts() {
    let mut raw = Raw::new();
    let first = raw.call(10);
    let second = raw.call(10);
    raw.input(&[success(1), head(3)].concat());
    raw.eof("eof");
    assert!(raw.log.is_ok(first));
    assert!(is_unanswered(raw.log.end(second)), "a head is no answer");
}

#[test]
fn every_prefix_of_an_answer_ends_in_the_right_verdict() {
    let whole = [
        settings(&[(3, 100)]),
        frame(4, 1, 0, &[]),
        frame(6, 0, 0, &[0; 8]),
        headers(1, &[(":status", "103")], false),
        success(1),
    ]
    .concat();
    for is_sent in [true, false] {
        for len in 0..=whole.len() {
            let mut raw = Raw::silent(Config::new().with_protocol(otlp_embed::Protocol::Grpc));
            let call = raw.start(300).expect("there is room");
            if is_sent {
                raw.flush();
            } else {
                let left = raw.transmitted.len() - raw.sent;
                raw.take(left - 1);
            }
            raw.input(&whole[..len]);
            raw.eof("the peer closed the connection");
            let end = raw.log.end(call);
            if len == whole.len() {
                assert!(raw.log.is_ok(call), "{end:?}");
            } else if is_sent {
                assert!(is_unanswered(end), "{len}: {end:?}");
            } else {
                assert!(is_unprocessed(end), "{len}: {end:?}");
            }
            assert_eq!(raw.log.closed.len(), 1);
        }
    }
}

#[test]
fn a_peer_that_breaks_the_connection_is_told_apart_from_one_that_resets() {
    // A DATA frame on a stream that was never opened.
    let mut raw = Raw::new();
    let whole = raw.call(10);
    let handed_out = raw.start(10).expect("there is room");
    let blocked = raw.start(100_000).expect("there is room");
    raw.input(&data(99, &[1], false));
    for call in [whole, handed_out] {
        assert!(is_unanswered(raw.log.end(call)), "{:?}", raw.log.end(call));
    }
    assert!(
        is_unprocessed(raw.log.end(blocked)),
        "the peer's windows hold its end back: {:?}",
        raw.log.end(blocked)
    );
    assert_eq!(raw.log.closed.len(), 1);
    raw.flush();
    let last = raw.frames().pop().expect("frames");
    assert_eq!(last.0, 7, "the peer is told by a GOAWAY");
}

#[test]
fn a_request_too_large_for_grpc_is_refused() {
    let mut raw = Raw::new();
    let piece = bytes::Bytes::from(vec![0; 1 << 20]);
    let request =
        otlp_embed::Request::from_segments(otlp_embed::encode::Signal::Traces, 1, vec![piece; 1 << 12]);
    let failure: Failure = raw
        .session
        .start(
            raw.now,
            otlp_embed::protocol::CallId(1),
            &raw.settings.outgoing(&request, raw.now + Duration::from_secs(1)),
        )
        .expect_err("4 GiB do not fit");
    assert!(!failure.is_retryable, "{failure:?}");
    assert!(raw.session.can_start());
}
