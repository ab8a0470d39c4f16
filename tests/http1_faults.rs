//! Peers over HTTP/1.1 that break off, break the rules or speak something else.

#[path = "support/http1.rs"]
mod http1;

use http1::*;
use otlp_embed::Code;
use otlp_embed::protocol::{CallEnd, Connection};
use std::time::Duration;

#[test]
fn every_beginning_of_an_answer_has_its_end() {
    let bodies: [&[u8]; 3] = [
        b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\x0a\x02\x08\x03",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n\x0a\x02\x08\x03\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n\x0a\x02\x08\x03",
    ];
    for whole in bodies {
        let status = whole.windows(8).position(|at| at == b"\r\n200 OK").unwrap_or(0);
        let head = whole[status..]
            .windows(6)
            .rposition(|at| at == b"\r\n\r\n\x0a\x02" || at == b"\r\n\r\n4\r");
        let head = status + head.expect("a head") + 4;
        for len in 0..=whole.len() {
            for is_sent in [false, true] {
                let mut wire = Wire::new();
                let call = wire.start(100).expect("there is room");
                wire.take(if is_sent { usize::MAX } else { 1 });
                wire.input(&whole[..len]);
                wire.eof("reset by peer");
                match wire.end(call) {
                    CallEnd::Answered(answer) => {
                        assert!(len >= head, "{len} of {head}");
                        assert_eq!(answer.code, Code::OK, "spec 53");
                        let has_message = len >= whole.len() - 7 && answer.rejected == 3;
                        assert!(has_message || answer.rejected == 0);
                    }
                    CallEnd::Unanswered(failure) => {
                        assert!(
                            len < head && is_sent && failure.is_retryable,
                            "spec 22: {failure:?}"
                        );
                        assert!(failure.message.contains("reset by peer"), "{failure:?}");
                    }
                    CallEnd::Unprocessed(failure) => {
                        assert!(
                            len < head && !is_sent && failure.is_retryable,
                            "spec 22: {failure:?}"
                        );
                    }
                    other => panic!("{other:?}"),
                }
                assert_eq!(wire.closed.len(), 1);
            }
        }
    }
}

#[test]
fn a_request_that_was_not_taken_whole_was_not_processed() {
    for (taken, is_whole) in [(0, false), (1_000_000, false), (usize::MAX, true)] {
        let mut wire = Wire::new();
        let call = wire.start(1_048_000).expect("there is room");
        wire.take(taken);
        wire.eof("end of file");
        match wire.end(call) {
            CallEnd::Unanswered(_) => assert!(is_whole, "spec 22: {taken}"),
            CallEnd::Unprocessed(failure) => assert!(!is_whole && failure.is_retryable, "spec 22: {taken}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_stale_connection_is_told_by_what_the_socket_took() {
    for is_sent in [false, true] {
        let mut wire = Wire::new();
        wire.call(10);
        wire.input(OK);
        let call = wire.start(10).expect("spec 24");
        if is_sent {
            wire.flush();
        }
        wire.eof("end of file");
        let (failure, was_sent) = match wire.end(call) {
            CallEnd::Unanswered(failure) => (failure, true),
            CallEnd::Unprocessed(failure) => (failure, false),
            other => panic!("{other:?}"),
        };
        assert!(
            failure.is_retryable && was_sent == is_sent,
            "spec 50: {failure:?}"
        );
        assert!(failure.message.contains("kept connection"), "{failure:?}");
    }
    // Some servers say that they give up on an idle connection.
    let timeout = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let mut wire = Wire::new();
    wire.call(10);
    wire.input(OK);
    let call = wire.call(10);
    wire.input(timeout);
    assert!(
        matches!(wire.end(call), CallEnd::Unprocessed(failure) if failure.is_retryable),
        "spec 50"
    );
    let mut wire = Wire::new();
    let call = wire.call(10);
    wire.input(timeout);
    assert_eq!(
        wire.answer(call).http_status,
        Some(408),
        "spec 20: on a new one it is an answer"
    );
    let mut idle = Wire::new();
    idle.call(10);
    idle.input(OK);
    idle.input(timeout);
    assert!(idle.session.is_draining() && idle.closed.len() == 1);
}

#[test]
fn an_idle_connection_that_ends_says_so_once() {
    for uses in 0..2 {
        let mut wire = Wire::new();
        for _ in 0..uses {
            wire.call(10);
            wire.input(OK);
        }
        wire.eof("end of file");
        wire.eof("end of file");
        wire.input(OK);
        assert!(
            wire.closed.len() == 1 && wire.closed[0].contains("idle"),
            "{:?}",
            wire.closed
        );
        assert!(!wire.session.can_start() && wire.session.is_draining());
        assert!(wire.start(1).expect_err("it is over").is_retryable);
    }
}

#[test]
fn what_nobody_asked_for_ends_the_connection() {
    // Behind an answer, in the same piece or later, and on a connection without a request.
    for cut in [false, true] {
        let mut wire = Wire::new();
        let call = wire.call(10);
        if cut {
            wire.input(OK);
            wire.input(OK);
        } else {
            wire.input(&[OK, OK].concat());
        }
        assert_eq!(wire.answer(call).code, Code::OK);
        assert!(
            wire.closed.len() == 1 && wire.closed[0].contains("no request"),
            "{:?}",
            wire.closed
        );
        assert!(wire.start(1).is_err(), "no answer is taken for another's");
    }
    let mut wire = Wire::new();
    wire.input(OK);
    assert_eq!(wire.closed.len(), 1);
    let mut wire = Wire::new();
    wire.input(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    assert!(wire.closed[0].contains("HTTP/2"), "{:?}", wire.closed);
    let mut wire = Wire::new();
    wire.input(b"");
    assert!(wire.closed.is_empty() && wire.session.can_start());
}

#[test]
fn what_came_before_the_request_is_no_answer_to_it() {
    for (is_taken, is_refused) in [(false, true), (true, false)] {
        let mut wire = Wire::new();
        wire.call(10);
        wire.input(OK);
        let call = wire.start(10).expect("the connection is kept");
        if is_taken {
            wire.take(1);
        }
        let is_over = wire.session.handle_early_input(wire.now, OK);
        assert_eq!(is_over, is_refused);
        wire.flush();
        assert_eq!(wire.closed.len(), usize::from(is_refused), "{:?}", wire.closed);
        match wire.end(call) {
            CallEnd::Unprocessed(failure) => {
                assert!(is_refused && failure.is_retryable, "{failure:?}");
                assert!(failure.message.contains("no request"), "{failure:?}");
            }
            end => assert!(!is_refused && matches!(end, CallEnd::Answered(_)), "{end:?}"),
        }
    }
    let mut wire = Wire::new();
    let call = wire.start(10).expect("there is room");
    assert!(wire.session.handle_early_input(wire.now, b"SSH-2.0-x\r\n"));
    wire.flush();
    assert!(
        matches!(wire.end(call), CallEnd::Unprocessed(failure) if !failure.is_retryable),
        "another protocol stays one"
    );
    let mut wire = Wire::new();
    let call = wire.start(10).expect("there is room");
    assert!(!wire.session.handle_early_input(wire.now, b""));
    wire.flush();
    wire.input(OK);
    assert_eq!(wire.answer(call).code, Code::OK, "no bytes say nothing");
}

#[test]
fn a_body_whose_end_is_unclear_costs_the_connection_and_not_the_answer() {
    for fields in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 6\r\n",
        "content-length: -5\r\n",
        "content-length: +5\r\n",
        "content-length: 0x5\r\n",
        "content-length: 5 5\r\n",
        "content-length: ,\r\n",
        "content-length:\r\n",
        "content-length: 99999999999999999999999\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding:\r\n",
    ] {
        for (status, code) in [("200 OK", Code::OK), ("503 Busy", Code::UNAVAILABLE)] {
            let mut wire = Wire::new();
            let call = wire.call(10);
            wire.input(&[format!("HTTP/1.1 {status}\r\n{fields}\r\n").as_bytes(), OK].concat());
            assert_eq!(wire.answer(call).code, code, "spec 53: {fields:?}");
            assert_eq!(wire.closed.len(), 1, "{fields:?}");
            assert!(
                !wire.session.can_start() && wire.session.is_draining(),
                "{fields:?}"
            );
        }
    }
    // Not even where the chunks end as they should: another reader may go by the length.
    for head in [
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n",
    ] {
        let mut wire = Wire::new();
        let call = wire.call(10);
        wire.input(format!("{head}transfer-encoding: chunked\r\n\r\n0\r\n\r\n").as_bytes());
        assert_eq!(
            (wire.answer(call).code, wire.closed.len()),
            (Code::OK, 1),
            "{head}"
        );
    }
    for chunks in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloo\r\n0\r\n\r\n",
        "z\r\n",
        "\r\n",
        "11111111111111111\r\n",
    ] {
        let mut wire = Wire::new();
        let call = wire.call(10);
        wire.input(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}").as_bytes());
        assert_eq!(
            (wire.answer(call).code, wire.closed.len()),
            (Code::OK, 1),
            "spec 53: {chunks:?}"
        );
    }
}

#[test]
fn a_head_that_breaks_http_is_final() {
    for head in [
        &b"HTTP/1.1 200 OK\r\nbad field\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx : a\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 000 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: \x00\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n",
    ] {
        let mut wire = Wire::new();
        let call = wire.call(10);
        wire.input(head);
        let CallEnd::Unanswered(failure) = wire.end(call) else {
            panic!("{}: {:?}", head.escape_ascii(), wire.end(call));
        };
        assert!(!failure.is_retryable, "{failure:?}");
        assert!(failure.message.contains("HTTP/1.1"), "{failure:?}");
        assert_eq!(wire.closed.len(), 1);
    }
    // Before the request went out it cannot have been processed.
    let mut wire = Wire::new();
    let call = wire.start(2 << 20).expect("there is room");
    wire.take(1);
    wire.input(b"HTTP/1.1 abc\r\n\r\n");
    assert!(matches!(wire.end(call), CallEnd::Unprocessed(_)));
}

#[test]
fn a_peer_that_speaks_something_else_is_named() {
    for (bytes, words) in [
        (&[0, 0, 18, 4, 0, 0, 0, 0, 0, 0, 3, 0][..], "HTTP/2"),
        (&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], "protocol grpc"),
        (&[0x15, 3, 1, 0, 2, 2, 70], "https"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0"),
        (b"<html>", "<html>"),
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", "does not speak"),
        (b"HTTP/2 200\r\n", "does not speak"),
        (&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], "\\x01\\x02"),
    ] {
        for size in [1, 3, 64] {
            let mut wire = Wire::new();
            let call = wire.call(10);
            for piece in bytes.chunks(size) {
                wire.input(piece);
            }
            let CallEnd::Unprocessed(failure) = wire.end(call) else {
                panic!("{:?}", wire.end(call));
            };
            assert!(!failure.is_retryable, "{failure:?}");
            if size == 64 || bytes[0] == 0 {
                assert!(failure.message.contains(words), "{words}: {failure:?}");
            }
        }
    }
    // A few bytes and the end.
    let mut wire = Wire::new();
    let call = wire.call(10);
    wire.input(&[0, 0]);
    assert!(wire.ends.is_empty(), "it does not show yet");
    wire.eof("end of file");
    assert!(matches!(wire.end(call), CallEnd::Unprocessed(failure) if !failure.is_retryable));
    // A peer that answered before is broken rather than foreign.
    let mut wire = Wire::new();
    wire.call(10);
    wire.input(OK);
    let call = wire.call(10);
    wire.input(b"garbage");
    assert!(matches!(wire.end(call), CallEnd::Unanswered(failure) if !failure.is_retryable));
}

#[test]
fn a_peer_that_hangs_up_on_the_port_of_grpc_is_explained() {
    let settings = config()
        .with_endpoint("http://collector:4317")
        .settings()
        .expect("it works");
    let mut wire = Wire::with(settings);
    let call = wire.call(10);
    wire.eof("end of file");
    let CallEnd::Unanswered(failure) = wire.end(call) else {
        panic!("{:?}", wire.end(call));
    };
    assert!(failure.message.contains("4318"), "spec 32: {failure:?}");
}

#[test]
fn an_early_answer_ends_the_connection() {
    for (status, code) in [("413 Too Large", Code::RESOURCE_EXHAUSTED), ("200 OK", Code::OK)] {
        let mut wire = Wire::new();
        let call = wire.start(3 << 20).expect("there is room");
        wire.take(1_000_000);
        let before = wire.transmitted.len();
        wire.input(format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\n\x0a\x02").as_bytes());
        assert!(wire.ends.is_empty());
        wire.take(500_000);
        assert_eq!(
            wire.transmitted.len() > before,
            code == Code::OK,
            "a failure stops the request"
        );
        wire.input(&[8, 3]);
        assert_eq!(wire.answer(call).code, code);
        assert!(wire.closed.len() == 1 && wire.session.is_draining(), "{status}");
        let before = wire.transmitted.len();
        wire.flush();
        assert_eq!(wire.transmitted.len(), before, "nothing more goes out");
        assert!(wire.sent_calls.is_empty());
    }
}

#[test]
fn a_socket_that_tells_late_what_it_took_keeps_the_connection() {
    let mut wire = Wire::new();
    let call = wire.start(1_000).expect("there is room");
    wire.take(10);
    wire.input(OK);
    assert_eq!(wire.answer(call).code, Code::OK);
    assert!(
        !wire.session.can_start() && !wire.session.is_draining(),
        "the end is with the socket"
    );
    assert!(wire.start(1).is_err());
    wire.take(500);
    assert!(!wire.session.can_start());
    wire.flush();
    assert!(wire.session.can_start() && wire.session.poll_timeout().is_none());
    let call = wire.call(10);
    wire.input(OK);
    assert_eq!(wire.answer(call).code, Code::OK);
    // A peer that never takes it is given up.
    let mut wire = Wire::new();
    wire.start(1_000).expect("there is room");
    wire.input(OK);
    wire.pass(Duration::from_secs(1));
    assert!(wire.session.is_draining() && wire.closed.len() == 1);
}
