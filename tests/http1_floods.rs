//! Peers over HTTP/1.1 that say too much.

#[path = "support/http1.rs"]
mod http1;

use http1::*;
use otlp_embed::protocol::{CallEnd, Connection};

/// Feeds `more` behind `start` until the call ends; the bytes that it took.
fn flood(start: &[u8], more: &[u8]) -> (usize, CallEnd) {
    let mut wire = Wire::new();
    let call = wire.call(10);
    wire.input(start);
    let mut total = start.len();
    while wire.ends.is_empty() {
        assert!(total < 32 << 20, "spec 52: {} bytes and no end", total);
        wire.input(more);
        total += more.len();
    }
    assert!(wire.session.is_draining() && wire.closed.len() == 1, "spec 52");
    let end = wire.end(call).clone();
    (total, end)
}

#[test]
fn endless_heads_end_soon() {
    let kib = 1 << 10;
    for (start, more) in [
        (&b"HTTP/1.1 200 "[..], &[b'x'; 1_000][..]),
        (b"HTTP/1.1 200 OK\r\nx: ", &[b'x'; 1_000]),
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"),
        (
            b"HTTP/1.1 200 OK\r\n",
            b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: y\n",
        ),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"y"),
    ] {
        let (total, end) = flood(start, more);
        assert!(total <= 65 * kib, "spec 52: {total} bytes");
        let CallEnd::Unanswered(failure) = end else {
            panic!("spec 52: {end:?}");
        };
        assert!(!failure.is_retryable, "spec 52: {failure:?}");
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(129));
    let (_, end) = flood(many.as_bytes(), b"");
    assert!(
        matches!(end, CallEnd::Unanswered(failure) if failure.message.contains("128")),
        "spec 52"
    );
}

#[test]
fn a_large_head_in_small_pieces_costs_no_more_than_once() {
    let mut wire = Wire::new();
    let call = wire.call(10);
    let fields = (0..120).map(|at| format!("x-{at}: {}\r\n", "v".repeat(500)));
    let head = format!(
        "HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n",
        fields.collect::<String>()
    );
    assert!(head.len() > 60_000);
    for byte in head.as_bytes() {
        wire.input(&[*byte]);
    }
    assert_eq!(wire.answer(call).code, otlp_embed::Code::OK);
    assert!(wire.session.can_start());
}

#[test]
fn endless_bodies_end_at_the_limit() {
    let limit = 4 << 20;
    let data = [&b"400\r\n"[..], &[b'x'; 1_024], b"\r\n"].concat();
    let head = "HTTP/1.1 200 OK\r\n";
    for (start, more) in [
        (format!("{head}\r\n"), &data[..]),
        (format!("{head}transfer-encoding: chunked\r\n\r\n"), &data),
        (format!("{head}content-type: text/html\r\n\r\n"), &data),
        (format!("{head}content-encoding: br\r\n\r\n"), &data),
        (format!("{head}content-length: 4194305\r\n\r\n"), b"x"),
        (
            format!("{head}content-length: 18446744073709551615\r\n\r\n"),
            b"x",
        ),
    ] {
        let (total, end) = flood(start.as_bytes(), more);
        assert!(total < limit + (limit >> 4), "spec 52: {total}");
        let CallEnd::Unanswered(failure) = end else {
            panic!("spec 4, spec 52: {end:?}");
        };
        assert!(!failure.is_retryable, "spec 4: {failure:?}");
    }
}

#[test]
fn what_stands_between_chunks_ends_soon() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for (start, more) in [
        ("1;", &[b'x'; 100][..]),
        ("", b"1;abcdefgh\r\nx\r\n"),
        ("0\r\n", b"x: y\r\n"),
        ("0\r\nx: ", &[b'x'; 100]),
        ("", &[b'0'; 100]),
    ] {
        let (total, end) = flood(format!("{head}{start}").as_bytes(), more);
        assert!(total < 64 << 10, "spec 52: {total}");
        assert!(
            matches!(end, CallEnd::Answered(_)),
            "spec 53: the status stands: {end:?}"
        );
    }
}
