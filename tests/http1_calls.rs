//! Calls over HTTP/1.1 where nothing goes wrong.

#[path = "support/http1.rs"]
mod http1;

use bytes::Bytes;
use http1::*;
use otlp_embed::encode::Signal;
use otlp_embed::protocol::{CallEnd, CallId, Connection, Session};
use otlp_embed::time::Instant;
use otlp_embed::{Code, Compression, Protocol, Request};
use std::time::Duration;

#[test]
fn calls_of_every_size_go_out_whole_on_one_connection() {
    for seed in 0..5 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut wire = Wire::new();
        let sizes = [0, 1, 500, 16_384, 300_000, 3_000_000];
        for len in sizes {
            let call = wire.start(len).expect("spec 24: the connection is kept");
            while !wire.sent_calls.contains(&call) {
                let count = random.usize(1..=400_000);
                wire.take(count);
            }
            let (head, body) = wire.take_request();
            let expected: Vec<u8> = (0..len).map(|at| at as u8).collect();
            assert!(body == expected, "{len} bytes arrive as they were");
            let agent = env!("CARGO_PKG_VERSION");
            assert_eq!(
                head,
                format!(
                    "POST /v1/traces HTTP/1.1\r\nhost: collector.example:4318\r\n\
                     user-agent: OTel-OTLP-Exporter-Rust/{agent}\r\ncontent-type: application/x-protobuf\r\n{}\
                     content-length: {len}\r\n\r\n",
                    accepted(&head)
                ),
                "spec 27, spec 28, spec 42"
            );
            assert!(!wire.session.can_start(), "one call at a time");
            wire.input_cut(OK, &mut random);
            assert_eq!(
                (wire.answer(call).code, &*wire.answer(call).message),
                (Code::OK, "")
            );
            assert!(wire.answer(call).is_http);
            assert!(
                wire.session.poll_timeout().is_none(),
                "nothing is left to wait for"
            );
        }
        assert_eq!(wire.sent_calls.len(), sizes.len());
        assert!(!wire.session.is_multiplexed() && !wire.session.is_draining());
    }
}

/// The field that says what answers may be compressed with, where there is one.
fn accepted(head: &str) -> &str {
    let start = head.find("accept-encoding").unwrap_or(head.len());
    let rest = &head[start..];
    &rest[..rest.find("\r\n").map_or(0, |end| end + 2)]
}

#[test]
fn each_signal_has_its_path() {
    let mut wire = Wire::new();
    for (signal, path) in [
        (Signal::Traces, "/v1/traces"),
        (Signal::Metrics, "/v1/metrics"),
        (Signal::Logs, "/v1/logs"),
        (Signal::Profiles, "/v1development/profiles"),
        (Signal::Logs, "/v1/logs"),
    ] {
        let request = Request::from_segments(signal, 1, vec![Bytes::from_static(b"x")]);
        wire.start_request(&request).expect("there is room");
        let (head, _) = wire.take_request();
        assert!(
            head.starts_with(&format!("POST {path} HTTP/1.1\r\n")),
            "spec 27: {head}"
        );
        wire.input(OK);
    }
}

#[test]
fn the_route_says_what_goes_into_the_head() {
    let mut settings = config()
        .with_header("X-Tenant", "acme")
        .with_header("authorization", "Bearer old")
        .settings()
        .expect("settings that work");
    settings.routes[0].path = "/base/v1/traces?x=1".into();
    settings.routes[0].compression = Compression::Gzip;
    settings.routes[0].protocol = Protocol::HttpJson;
    settings.lanes[0].user_agent = "shop/1 OTel-OTLP-Exporter-Rust/0".into();
    let mut wire = Wire::with(settings);
    let request = request(3).with_header("x-one", "1").expect("a header that works");
    wire.start_request(&request).expect("there is room");
    let (head, _) = wire.take_request();
    for line in [
        "POST /base/v1/traces?x=1 HTTP/1.1\r\n",
        "\r\nuser-agent: shop/1 OTel-OTLP-Exporter-Rust/0\r\n",
        "\r\ncontent-type: application/json\r\n",
        "\r\ncontent-encoding: gzip\r\n",
        "\r\nx-tenant: acme\r\n",
        "\r\nauthorization: Bearer old\r\n",
        "\r\nx-one: 1\r\n",
    ] {
        assert!(
            head.contains(line),
            "spec 28, spec 29, spec 42: {line:?} in {head}"
        );
    }
    wire.input(OK);
    let secret = [("authorization".to_owned(), "Bearer new".to_owned())];
    wire.start_with(&request, &secret).expect("there is room");
    let (head, _) = wire.take_request();
    assert!(head.contains("\r\nauthorization: Bearer new\r\n"), "{head}");
    assert!(
        !head.contains("Bearer old"),
        "one takes the place of the other: {head}"
    );
    wire.input(OK);
    wire.start_request(&request).expect("there is room");
    let (head, _) = wire.take_request();
    assert!(
        head.contains("Bearer old") && !head.contains("Bearer new"),
        "{head}"
    );
}

#[test]
fn the_host_goes_without_the_port_of_its_scheme() {
    for (endpoint, host) in [
        ("http://collector:80", "collector"),
        ("http://collector:443", "collector:443"),
        ("http://[::1]:80", "[::1]"),
        ("http://[2001:db8::80]:4318", "[2001:db8::80]:4318"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
    ] {
        let settings = config().with_endpoint(endpoint).settings().expect("it works");
        let mut wire = Wire::with(settings);
        wire.call(1);
        let (head, _) = wire.take_request();
        assert!(
            head.contains(&format!("\r\nhost: {host}\r\n")),
            "{endpoint}: {head}"
        );
    }
}

#[test]
fn what_cannot_stand_in_a_head_fails_its_call_alone() {
    let mut wire = Wire::new();
    for (name, value) in [
        ("x-token", "a\r\nx-evil: 1"),
        ("x-token", "caf\u{e9}"),
        ("x token", "1"),
        ("X-Token", "1"),
        ("", "1"),
        ("content-length", "0"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("connection", "close"),
    ] {
        let secret = [(name.to_owned(), value.to_owned())];
        let failure = wire.start_with(&request(1), &secret).expect_err(name);
        assert!(!failure.is_retryable, "{name}: {failure:?}");
        assert!(
            !failure.message.contains("evil"),
            "a secret is not told: {failure:?}"
        );
    }
    let mut settings = config().settings().expect("it works");
    settings.routes[0].path = "/v1 HTTP/1.1\r\nx: y".into();
    let mut odd = Wire::with(settings);
    assert!(!odd.start(1).expect_err("a path with a line break").is_retryable);
    assert!(
        wire.transmitted.is_empty() && odd.transmitted.is_empty(),
        "nothing went out"
    );
    let call = wire.call(5);
    wire.input(OK);
    assert_eq!(wire.answer(call).code, Code::OK);
}

#[test]
fn a_request_counts_as_sent_with_its_last_byte() {
    let mut wire = Wire::new();
    let call = wire.start(40_000).expect("there is room");
    wire.take(wire.transmitted.len() - 1);
    assert!(wire.sent_calls.is_empty());
    wire.take(1);
    assert_eq!(wire.sent_calls, [call]);
}

#[test]
fn no_byte_of_a_request_is_copied() {
    let settings = config().settings().expect("settings that work");
    let mut session = Session::open(&settings.lanes[0], Instant::ZERO).expect("a session");
    let segments: Vec<Bytes> = [20_000, 300, 1, 30_000]
        .map(|len| Bytes::from(vec![7; len]))
        .into();
    let request = Request::from_segments(Signal::Traces, 1, segments.clone());
    let outgoing = settings.outgoing(&request, Instant::MAX);
    session
        .start(Instant::ZERO, CallId(1), &outgoing)
        .expect("there is room");
    let pieces: Vec<Bytes> = session.poll_transmit().expect("bytes wait");
    assert_eq!(
        pieces.len(),
        2 + segments.len(),
        "a head of two, then each segment as it is"
    );
    for (piece, segment) in pieces[2..].iter().zip(&segments) {
        assert_eq!(piece.as_ptr_range(), segment.as_ptr_range());
    }
    assert!(session.poll_transmit().is_none());
}

#[test]
fn the_session_waits_for_a_slow_socket() {
    let mut wire = Wire::new();
    let call = wire.start(10 << 20).expect("there is room");
    assert_eq!(wire.transmitted.len(), 1 << 20, "a MiB waits for the socket");
    let mut random = fastrand::Rng::with_seed(1);
    while wire.sent_calls.is_empty() {
        wire.take(random.usize(1..600_000));
        assert!(wire.transmitted.len() - wire.taken <= 1 << 20);
    }
    wire.input(OK);
    assert_eq!(wire.answer(call).code, Code::OK);
    assert!(wire.session.can_start());
}

#[test]
fn answers_come_in_every_shape() {
    let partial: &[u8] = &[0x0a, 7, 8, 3, 0x12, 3, b'o', b'l', b'd'];
    let protobuf = "content-type: application/x-protobuf\r\n";
    let chunked = |body: &[u8]| {
        let mut answer =
            format!("HTTP/1.1 200 OK\r\n{protobuf}Transfer-Encoding: Chunked\r\n\r\n").into_bytes();
        for byte in body.chunks(2) {
            answer.extend(format!("{:X};x=\"y\"\r\n", byte.len()).into_bytes());
            answer.extend(byte);
            answer.extend(b"\r\n");
        }
        answer.extend(b"0\r\nx-trailer: z\r\n\r\n");
        answer
    };
    let json = br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"old"}}"#;
    let shapes = [
        answer("200 OK", protobuf, partial),
        answer("200 OK", "", partial),
        answer(
            "202 Accepted",
            "content-type: Application/Protobuf; x=y\r\n",
            partial,
        ),
        chunked(partial),
        answer("200 OK", "Content-Type: application/json;charset=utf-8\r\n", json),
        [
            &b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"[..],
            &answer("200", protobuf, partial),
        ]
        .concat(),
        answer("200 OK", &format!("{protobuf}content-length: 9, 9\r\n"), partial),
        b"HTTP/1.1 200 OK\ncontent-length: 9\n\n"
            .iter()
            .chain(partial)
            .copied()
            .collect(),
    ];
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut wire = Wire::new();
        for (at, shape) in shapes.iter().enumerate() {
            let call = wire.call(10);
            wire.input_cut(shape, &mut random);
            let answer = wire.answer(call);
            assert_eq!(
                (answer.code, answer.rejected, &*answer.message),
                (Code::OK, 3, "old"),
                "spec 12, spec 48: shape {at}, seed {seed}"
            );
            assert_eq!(answer.http_status, (at == 2).then_some(202));
        }
        let call = wire.call(10);
        wire.input_cut(b"HTTP/1.1 204 No Content\r\n\r\n", &mut random);
        assert_eq!(wire.answer(call).code, Code::OK, "no body follows");
        assert!(wire.session.can_start(), "spec 24");
    }
}

#[test]
fn an_answer_may_end_with_the_connection() {
    for head in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\n",
    ] {
        let mut wire = Wire::new();
        let call = wire.call(10);
        wire.input(head.as_bytes());
        assert!(wire.session.is_draining() && wire.draining.len() == 1, "{head}");
        wire.input(&[0x0a, 2]);
        wire.input(&[8, 3]);
        assert!(!wire.ends.contains_key(&call), "more may come");
        wire.eof("end of file");
        assert_eq!(
            (wire.answer(call).code, wire.answer(call).rejected),
            (Code::OK, 3),
            "{head}"
        );
        assert_eq!(wire.closed.len(), 1);
    }
}

#[test]
fn the_last_answer_of_a_connection_ends_it() {
    for (head, is_last) in [
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n", true),
        ("HTTP/1.1 200 OK\r\nconnection: x, CLOSE\r\n", true),
        ("HTTP/1.1 200 OK\r\nconnection: x\r\nConnection: close\r\n", true),
        ("HTTP/1.0 200 OK\r\n", true),
        ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n", false),
        ("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n", false),
    ] {
        let mut wire = Wire::new();
        let call = wire.call(10);
        wire.input(format!("{head}content-length: 2\r\n\r\n").as_bytes());
        assert_eq!(wire.session.is_draining(), is_last, "{head}");
        assert!(!wire.ends.contains_key(&call), "the body is still to come");
        wire.input(&[0x0a, 0]);
        assert_eq!(wire.answer(call).code, Code::OK);
        assert_eq!(wire.closed.len(), usize::from(is_last), "{head}");
        assert_eq!(wire.session.can_start(), !is_last, "{head}");
    }
}

#[test]
fn a_connection_is_given_up_before_the_peer_gives_it_up() {
    for (hint, millis) in [
        ("timeout=5, max=100", 4_000),
        ("max=9,Timeout=2", 1_000),
        ("timeout=0", 0),
    ] {
        let mut wire = Wire::new();
        let call = wire.call(10);
        wire.input(&answer("200 OK", &format!("keep-alive: {hint}\r\n"), b""));
        assert_eq!(wire.answer(call).code, Code::OK);
        assert_eq!(
            wire.session.poll_timeout(),
            Some(wire.now + Duration::from_millis(millis)),
            "spec 50"
        );
        if millis > 0 {
            wire.pass(Duration::from_millis(millis - 1));
            wire.call(10);
            assert!(wire.session.poll_timeout() > Some(wire.now + Duration::from_secs(9)));
            wire.input(&answer("200 OK", &format!("keep-alive: {hint}\r\n"), b""));
        }
        wire.pass(Duration::from_millis(millis));
        assert!(
            wire.session.is_draining() && wire.closed.len() == 1,
            "spec 50: {hint}"
        );
    }
    // An engine that starts a call before it looks at its timers.
    let mut wire = Wire::new();
    wire.call(10);
    wire.input(&answer("200 OK", "keep-alive: timeout=5\r\n", b""));
    wire.now = wire.now + Duration::from_secs(4);
    assert!(wire.start(10).expect_err("it is too old").is_retryable, "spec 50");
    assert!(wire.session.is_draining());
    for hint in [
        "timeout=",
        "timeout=x",
        "timeout",
        "max=5",
        "timeout=99999999999999999999",
    ] {
        let mut wire = Wire::new();
        wire.call(10);
        wire.input(&answer("200 OK", &format!("keep-alive: {hint}\r\n"), b""));
        assert_eq!(wire.session.poll_timeout(), None, "{hint}");
    }
}

#[test]
fn deadlines_and_cancels_end_the_connection_and_say_what_may_arrive() {
    let mut wire = Wire::new();
    let call = wire.call(100);
    assert_eq!(
        wire.session.poll_timeout(),
        Some(wire.now + Duration::from_secs(10))
    );
    wire.pass(Duration::from_secs(10));
    assert_eq!(wire.end(call), &CallEnd::Expired { sent: true }, "spec 49");
    assert!(wire.session.is_draining() && wire.closed.len() == 1);
    // What the socket holds may still arrive.
    let mut wire = Wire::new();
    let call = wire.start(100).expect("there is room");
    wire.pass(Duration::from_secs(11));
    assert_eq!(wire.end(call), &CallEnd::Expired { sent: true }, "spec 49");
    // The end of a large request is still here.
    let mut wire = Wire::new();
    let call = wire.start(2 << 20).expect("there is room");
    wire.take(1_000_000);
    wire.pass(Duration::from_secs(11));
    assert_eq!(wire.end(call), &CallEnd::Expired { sent: false }, "spec 49");
    let transmitted = wire.transmitted.len();
    wire.flush();
    assert_eq!(wire.transmitted.len(), transmitted, "nothing more goes out");
    for (len, may_arrive) in [(100, true), (2 << 20, false)] {
        let mut wire = Wire::new();
        let call = wire.start(len).expect("there is room");
        assert!(!wire.cancel(99), "no such call");
        assert_eq!(wire.cancel(call), may_arrive);
        assert!(wire.ends.is_empty(), "no event follows a cancel");
        assert_eq!(wire.closed.len(), 1);
        assert!(!wire.cancel(call));
    }
    // A body that dribbles for ever.
    let mut wire = Wire::new();
    let call = wire.call(100);
    wire.input(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
    for _ in 0..99 {
        wire.pass(Duration::from_millis(100));
        wire.input(b"x");
    }
    assert!(wire.ends.is_empty());
    wire.pass(Duration::from_millis(100));
    assert_eq!(wire.end(call), &CallEnd::Expired { sent: true }, "spec 49");
}

#[test]
fn a_call_that_was_not_handed_out_leaves_the_connection_as_it_was() {
    let settings = config().settings().expect("it works");
    let mut session = Session::open(&settings.lanes[0], Instant::ZERO).expect("a session");
    let request = request(100);
    let outgoing = settings.outgoing(&request, Instant::from_millis(5));
    session
        .start(Instant::ZERO, CallId(1), &outgoing)
        .expect("there is room");
    assert!(!session.cancel(Instant::ZERO, CallId(1)));
    assert!(session.can_start() && session.poll_event().is_none());
    session
        .start(Instant::ZERO, CallId(2), &outgoing)
        .expect("there is room");
    session.handle_timeout(Instant::from_millis(5));
    assert!(session.can_start() && !session.is_draining());
    let failure = session.start(Instant::from_millis(5), CallId(3), &outgoing);
    assert!(failure.expect_err("no time is left").message.contains("deadline"));
    assert!(session.poll_transmit().is_none());
}
