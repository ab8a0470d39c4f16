//! Calls on a connection where nothing goes wrong.

#[path = "support/session_pair.rs"]
mod session_pair;

use bytes::Bytes;
use otlp_embed::encode::Signal;
use otlp_embed::protocol::{CallEnd, CallId, Connection, Session};
use otlp_embed::time::Instant;
use otlp_embed::{Code, Config, Request};
use session_pair::*;
use std::time::Duration;

#[test]
fn calls_of_every_size_arrive_whole_over_any_cuts() {
    for seed in 0..5 {
        let mut pair = Pair::new(seed);
        let sizes = [0, 1, 242, 243, 247, 248, 16_379, 16_380, 70_000, 300_000];
        for len in sizes {
            let call = pair.start(len).expect("there is room");
            pair.run();
            assert!(
                pair.log.is_ok(call),
                "{len} bytes, seed {seed}: {:?}",
                pair.log.end(call)
            );
            let (head, message) = pair.server.requests.pop().expect("the server read it");
            let expected: Vec<u8> = (0..len).map(|at| at as u8).collect();
            assert_eq!(message[..5], [&[0][..], &(len as u32).to_be_bytes()].concat());
            assert!(message[5..] == expected, "{len} bytes arrive as they were");
            assert_eq!(head.method, "POST");
            assert_eq!(head.uri.path(), Signal::Traces.grpc_path());
            assert_eq!(head.headers["te"], "trailers", "spec 43");
            assert_eq!(head.headers["content-type"], "application/grpc", "spec 43");
            assert_eq!(head.headers["grpc-timeout"], "10000000u", "spec 43");
            let agent = head.headers["user-agent"].to_str().expect("text");
            assert_eq!(
                agent,
                concat!("OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION")),
                "spec 42"
            );
        }
        assert_eq!(pair.log.sent.len(), sizes.len());
        assert!(
            pair.session.poll_timeout().is_none(),
            "nothing is left to wait for"
        );
    }
}

#[test]
fn headers_of_settings_and_request_go_out() {
    let config = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_header("X-Tenant", "acme")
        .with_header("x-trace-bin", "AAE=");
    let mut pair = Pair::with_server(1, config, |_| {});
    let request = request(3)
        .with_header("x-scope", "one")
        .expect("a header that works");
    pair.start_request(&request).expect("there is room");
    pair.run();
    let (head, _) = &pair.server.requests[0];
    assert_eq!(head.headers["x-tenant"], "acme");
    assert_eq!(head.headers["x-trace-bin"], "AAE=", "spec 43");
    assert_eq!(head.headers["x-scope"], "one");
}

#[test]
fn many_calls_share_the_connection() {
    for seed in 0..2 {
        let mut pair = Pair::with_server(
            seed,
            Config::new().with_protocol(otlp_embed::Protocol::Grpc),
            |server| {
                server.max_concurrent_streams(50);
            },
        );
        let mut calls = Vec::new();
        while calls.len() < 500 {
            while pair.session.can_start() && calls.len() < 500 {
                calls.push(pair.start(1_000).expect("there is room"));
            }
            pair.step();
        }
        pair.run();
        assert!(calls.iter().all(|call| pair.log.is_ok(*call)), "spec 7");
        assert_eq!(pair.server.requests.len(), 500);
    }
}

#[test]
fn calls_wait_for_the_room_that_the_peer_gives() {
    let mut raw = Raw::silent(Config::new().with_protocol(otlp_embed::Protocol::Grpc));
    let first = raw.call(10);
    assert!(!raw.session.can_start(), "one call before SETTINGS");
    assert!(raw.start(10).is_err());
    raw.input(&settings(&[(3, 0)]));
    raw.input(&success(1));
    assert!(raw.log.is_ok(first));
    assert!(!raw.session.can_start(), "spec 48: no stream is allowed");
    raw.input(&settings(&[(3, 10)]));
    for _ in 0..10 {
        raw.call(10);
    }
    assert!(!raw.session.can_start(), "spec 48: ten streams are allowed");
}

#[test]
fn windows_that_shrink_below_zero_hold_a_call_back() {
    let mut raw = Raw::new();
    let call = raw.call(100_000);
    assert!(raw.log.sent.is_empty(), "65,535 bytes fit into the window");
    raw.input(&settings(&[(4, 10)]));
    raw.input(&frame(8, 0, 0, &1_000_000_u32.to_be_bytes()));
    raw.input(&frame(8, 0, 1, &60_000_u32.to_be_bytes()));
    raw.flush();
    assert!(raw.log.sent.is_empty(), "spec 48: the window is still below zero");
    raw.input(&frame(8, 0, 1, &60_000_u32.to_be_bytes()));
    raw.input(&settings(&[(5, 40_000)]));
    raw.input(&frame(8, 0, 1, &60_000_u32.to_be_bytes()));
    raw.flush();
    assert_eq!(raw.log.sent, [call]);
    raw.input(&success(1));
    assert!(raw.log.is_ok(call));
    let total: usize = raw.frames().iter().filter(|f| f.0 == 0).map(|f| f.3.len()).sum();
    assert_eq!(total, 100_005);
}

#[test]
fn a_request_counts_as_sent_with_its_last_byte() {
    let mut raw = Raw::new();
    let call = raw.start(40_000).expect("there is room");
    let left = raw.transmitted.len() - raw.sent;
    raw.take(left - 1);
    assert!(raw.log.sent.is_empty());
    raw.take(1);
    assert_eq!(raw.log.sent, [call]);
}

#[test]
fn no_byte_of_a_request_is_copied() {
    let settings = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .settings()
        .expect("settings that work");
    let mut session = Session::open(&settings.lanes[0], Instant::ZERO).expect("a session");
    let segments: Vec<Bytes> = [20_000, 300, 1, 30_000]
        .map(|len| Bytes::from(vec![7; len]))
        .into();
    let request = Request::from_segments(Signal::Traces, 1, segments.clone());
    session
        .start(
            Instant::ZERO,
            CallId(1),
            &settings.outgoing(&request, Instant::MAX),
        )
        .expect("there is room");
    let pieces: Vec<Bytes> = session.poll_transmit().expect("bytes wait");
    let shared: usize = pieces
        .iter()
        .filter(|piece| {
            let of_request = |segment: &Bytes| segment.as_ptr_range().contains(&piece.as_ptr());
            segments.iter().any(of_request)
        })
        .map(Bytes::len)
        .sum();
    assert_eq!(shared, 50_301);
    let total: usize = pieces.iter().map(Bytes::len).sum();
    assert!(
        total - shared < 1_000,
        "what is left is heads: {}",
        total - shared
    );
}

#[test]
fn the_session_waits_for_a_slow_socket() {
    let mut raw = Raw::new();
    raw.input(&settings(&[(4, 1 << 30)]));
    raw.input(&frame(8, 0, 0, &(1_u32 << 30).to_be_bytes()));
    raw.flush();
    let call = raw.start(10 << 20).expect("there is room");
    let outstanding = raw.transmitted.len() - raw.sent;
    assert!(
        outstanding < (1 << 20) + (64 << 10),
        "{outstanding} bytes wait for the socket"
    );
    assert!(!raw.session.can_start(), "a call would queue behind the socket");
    while raw.log.sent.is_empty() {
        raw.take(400_000);
        assert!(raw.transmitted.len() - raw.sent < (1 << 20) + (64 << 10));
    }
    raw.input(&success(1));
    assert!(raw.log.is_ok(call));
    assert!(raw.session.can_start());
}

#[test]
fn answers_come_in_every_shape() {
    let partial = [0, 0, 0, 0, 9, 0x0a, 7, 8, 3, 0x12, 3, b'o', b'l', b'd'];
    for seed in 0..20 {
        let mut pair = Pair::new(seed);
        pair.server.next.extend([
            Behaviour::Ok,
            Behaviour::OkAfterEmptyData,
            Behaviour::Body(partial.to_vec(), 1),
            Behaviour::Body(partial.to_vec(), 6),
            Behaviour::Body(Vec::new(), 1),
            Behaviour::Status(3, "bad%20span"),
            Behaviour::TrailersOnly(16, "who%3F"),
            Behaviour::Status(14, ""),
        ]);
        for _ in 0..8 {
            pair.start(2_000).expect("there is room");
            pair.run();
        }
        for ok in [0, 1, 4] {
            assert!(pair.log.is_ok(ok), "spec 48: {ok}: {:?}", pair.log.end(ok));
        }
        for refused in [2, 3] {
            let answer = pair.log.answer(refused);
            assert_eq!((answer.code, answer.rejected), (Code::OK, 3), "spec 12");
            assert_eq!(answer.message, "old");
        }
        let told = |call: u64| (pair.log.answer(call).code, pair.log.answer(call).message.clone());
        assert_eq!(told(5), (Code::INVALID_ARGUMENT, "bad span".into()), "spec 44");
        assert_eq!(told(6), (Code::UNAUTHENTICATED, "who?".into()), "spec 48");
        assert_eq!(told(7), (Code::UNAVAILABLE, String::new()));
    }
}

#[test]
fn interim_answers_and_padding_change_nothing() {
    let mut raw = Raw::new();
    let call = raw.call(10);
    let padded_head = {
        let mut payload = vec![3];
        payload.extend(block(&[(":status", "200"), ("content-type", "application/grpc")]));
        payload.extend([0; 3]);
        frame(1, 0x4 | 0x8, 1, &payload)
    };
    let answer = [
        headers(1, &[(":status", "103")], false),
        headers(1, &[(":status", "103"), ("link", "x")], false),
        padded_head,
        frame(0, 0x8, 1, &[2, 0, 0, 0, 0, 0]),
        frame(0, 0x8, 1, &[4, 0, 0, 0, 0]),
        data(1, &[], false),
        frame(0, 0x8, 1, &[1, 0, 0, 0]),
        trailers(1, "0"),
    ]
    .concat();
    for byte in answer {
        raw.input(&[byte]);
    }
    assert!(raw.log.is_ok(call), "spec 48: {:?}", raw.log.end(call));
}

#[test]
fn deadlines_and_cancels_reset_the_stream_and_nothing_else() {
    let mut pair = Pair::new(3);
    pair.server.otherwise = Behaviour::Hold;
    let held = pair.start(100).expect("there is room");
    pair.run();
    let cancelled = pair.start(100).expect("there is room");
    assert_eq!(pair.session.poll_timeout(), Some(Instant::from_millis(10_000)));
    pair.session.cancel(pair.now, CallId(cancelled));
    pair.session.cancel(pair.now, CallId(99));
    pair.run();
    pair.pass(Duration::from_secs(10));
    assert_eq!(pair.log.end(held), &CallEnd::Expired { sent: true }, "spec 49");
    assert!(
        !pair.log.ends.contains_key(&cancelled),
        "no event follows a cancel"
    );
    pair.run();
    assert!(pair.session.poll_timeout().is_none());
    pair.server.otherwise = Behaviour::Ok;
    pair.server.release(&Behaviour::Ok);
    let next = pair.start(100).expect("there is room");
    pair.run();
    assert!(pair.log.is_ok(next), "spec 49: the next export works");
}

#[test]
fn a_call_that_the_peer_never_reads_expires_as_far_as_it_went() {
    // A small request lies with the socket in whole, which may take it yet.
    let mut raw = Raw::silent(Config::new().with_protocol(otlp_embed::Protocol::Grpc));
    let call = raw.start(10).expect("there is room");
    raw.pass(Duration::from_secs(11));
    assert_eq!(raw.log.end(call), &CallEnd::Expired { sent: true }, "spec 49");
    // Flow control holds the end of a large one back.
    let mut raw = Raw::new();
    let blocked = raw.call(100_000);
    raw.pass(Duration::from_secs(11));
    assert_eq!(
        raw.log.end(blocked),
        &CallEnd::Expired { sent: false },
        "spec 49: flow control never opened"
    );
    raw.flush();
    let last = raw.frames().pop().expect("frames");
    assert_eq!((last.0, last.2), (3, 1), "the stream is reset");
    let next = raw.call(10);
    raw.input(&frame(8, 0, 0, &100_u32.to_be_bytes()));
    raw.flush();
    raw.input(&success(3));
    assert!(raw.log.is_ok(next));
}

#[test]
fn a_deadline_in_the_past_starts_nothing() {
    let mut raw = Raw::new();
    let before = raw.transmitted.len();
    let failure = raw
        .session
        .start(raw.now, CallId(7), &raw.settings.outgoing(&request(1), raw.now))
        .expect_err("no time is left");
    assert!(failure.message.contains("deadline"));
    raw.flush();
    assert_eq!(raw.transmitted.len(), before);
}

#[test]
fn a_session_is_send() {
    fn is_send<T: Send>() {}
    is_send::<Session>();
}

#[test]
fn a_header_that_http_forbids_is_refused_where_it_is_set() {
    for name in [
        "upgrade",
        "Connection",
        "keep-alive",
        "proxy-connection",
        "expect",
    ] {
        let error = request(1).with_header(name, "x").expect_err(name);
        assert!(error.is_misuse() && error.to_string().contains(name), "{error}");
    }
}
