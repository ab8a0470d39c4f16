//! OTLP/HTTP on HTTP/2, as a connection speaks it whose TLS negotiated `h2`.

#[path = "support/session_pair.rs"]
mod session_pair;

use otlp_embed::coding::compress;
use otlp_embed::protocol::{CallEnd, CallId, Connection, Http2, Settings};
use otlp_embed::{Code, Compression, Config, Protocol, Request, Signal};
use session_pair::*;
use std::time::Duration;

fn settings() -> Settings {
    Config::new()
        .with_protocol(Protocol::HttpProtobuf)
        .with_endpoint("http://collector.example:80")
        .with_header("x-tenant", "acme")
        .settings()
        .expect("settings that work")
}

fn pair(seed: u64) -> Pair<Http2> {
    Pair::open(seed, settings(), |_| {})
}

const PROTOBUF: &[(&str, &str)] = &[("content-type", "application/x-protobuf")];

#[test]
fn requests_go_out_as_they_are_under_a_head_of_http() {
    for seed in 0..5 {
        let mut pair = pair(seed);
        pair.server.otherwise = Behaviour::Http(200, PROTOBUF, Vec::new());
        for len in [0, 1, 247, 248, 16_384, 16_385, 300_000] {
            let call = pair.start(len).expect("there is room");
            pair.run();
            assert!(pair.log.is_ok(call), "{len} bytes: {:?}", pair.log.end(call));
            assert!(pair.log.answer(call).is_http);
            let (head, body) = pair.server.requests.pop().expect("the server read it");
            let expected: Vec<u8> = (0..len).map(|at| at as u8).collect();
            assert!(body == expected, "{len} bytes and no prefix");
            assert_eq!(head.method, "POST", "spec 27");
            assert_eq!(head.uri, "http://collector.example/v1/traces", "spec 27");
            let field = |name: &str| head.headers.get(name).map(|value| value.to_str().expect("text"));
            assert_eq!(field("content-type"), Some("application/x-protobuf"), "spec 28");
            assert_eq!(field("content-length"), Some(&*len.to_string()));
            assert_eq!(field("x-tenant"), Some("acme"));
            assert_eq!(field("content-encoding"), None, "spec 29");
            let agent = concat!("OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"));
            assert_eq!(field("user-agent"), Some(agent), "spec 42");
            for name in ["te", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding"] {
                assert_eq!(field(name), None, "gRPC's own");
            }
        }
        assert_eq!(pair.log.sent.len(), 7);
        assert!(pair.session.is_multiplexed());
    }
}

#[test]
fn the_route_and_the_attempt_say_what_goes_into_the_head() {
    let mut settings = settings();
    settings.routes[0].path = "/base/v1/traces?x=1".into();
    settings.routes[0].compression = Compression::Zstd;
    settings.routes[0].protocol = Protocol::HttpJson;
    settings.lanes[0].user_agent = "shop/1 OTel-OTLP-Exporter-Rust/0".into();
    let mut pair: Pair<Http2> = Pair::open(1, settings, |_| {});
    pair.server.otherwise = Behaviour::Http(200, PROTOBUF, Vec::new());
    let request = request(5).with_header("x-one", "1").expect("a header that works");
    for (name, value) in [("authorization", "Bearer hunter2"), ("x-tenant", "other")] {
        let secret = [(name.to_owned(), value.to_owned())];
        let mut outgoing = pair
            .settings
            .outgoing(&request, pair.now + Duration::from_secs(1));
        outgoing.credentials = &secret;
        let call = CallId(1_000);
        pair.session
            .start(pair.now, call, &outgoing)
            .expect("there is room");
        pair.run();
        pair.log.ends.clear();
        pair.log.sent.clear();
        let (head, _) = pair.server.requests.pop().expect("the server read it");
        assert_eq!(
            head.uri.path_and_query().expect("a path").as_str(),
            "/base/v1/traces?x=1"
        );
        assert_eq!(head.headers["content-type"], "application/json", "spec 28");
        assert_eq!(head.headers["content-encoding"], "zstd", "spec 29");
        assert_eq!(
            head.headers["user-agent"], "shop/1 OTel-OTLP-Exporter-Rust/0",
            "spec 42"
        );
        assert_eq!(head.headers["x-one"], "1");
        assert_eq!(
            head.headers.get_all(name).iter().count(),
            1,
            "it takes the place of another"
        );
        assert_eq!(head.headers[name], value);
    }
    let evil = [("x-token".to_owned(), "a\r\nb".to_owned())];
    let mut outgoing = pair
        .settings
        .outgoing(&request, pair.now + Duration::from_secs(1));
    outgoing.credentials = &evil;
    let failure = pair
        .session
        .start(pair.now, CallId(9), &outgoing)
        .expect_err("unfit");
    assert!(
        !failure.is_retryable && !failure.message.contains("a\r"),
        "{failure:?}"
    );
}

#[test]
fn secrets_stay_out_of_the_compression_table() {
    for is_grpc in [false, true] {
        let protocol = if is_grpc {
            Protocol::Grpc
        } else {
            Protocol::HttpProtobuf
        };
        let config = Config::new().with_protocol(protocol);
        let mut raw = Raw::<Http2>::of(config.settings().expect("settings that work"));
        let value = "s3cr3t-".repeat(40);
        let secret = [("x-api-token".to_owned(), value.clone())];
        let mut lengths = Vec::new();
        for call in 0..4 {
            // Twice as a header like any other, which is sent once and then named; twice as a secret.
            let mut request = request(1);
            if call < 2 {
                request = request
                    .with_header("x-plain", &value)
                    .expect("a header that works");
            }
            let mut outgoing = raw.settings.outgoing(&request, raw.now + Duration::from_secs(1));
            outgoing.credentials = if call < 2 { &[] } else { &secret };
            raw.session
                .start(raw.now, CallId(call), &outgoing)
                .expect("there is room");
            raw.flush();
            let frames = raw.frames();
            let head = frames.iter().rfind(|frame| frame.0 == 1);
            lengths.push(head.expect("HEADERS").3.len());
        }
        assert!(
            lengths[1] < 100 && lengths[2] > 150 && lengths[3] > 150,
            "{lengths:?}"
        );
    }
}

#[test]
fn answers_are_judged_by_their_http_status() {
    let partial = vec![0x0a, 7, 8, 3, 0x12, 3, b'o', b'l', b'd'];
    for seed in 0..10 {
        let mut pair = pair(seed);
        pair.server.next.extend([
            Behaviour::Http(200, PROTOBUF, partial.clone()),
            Behaviour::Http(
                202,
                &[("content-type", "application/json")],
                br#"{"partialSuccess":{"rejectedSpans":"2"}}"#.to_vec(),
            ),
            Behaviour::Http(
                503,
                &[("retry-after", "7"), ("content-type", "text/plain")],
                b"later".to_vec(),
            ),
            Behaviour::Http(400, &[("content-type", "text/html")], b"<p>\nno</p>".to_vec()),
            Behaviour::Http(301, &[("location", "https://other/")], Vec::new()),
            Behaviour::Http(200, PROTOBUF, vec![0xff; 3]),
            // What gRPC would take for a failure.
            Behaviour::Http(200, &[("grpc-status", "13")], Vec::new()),
            Behaviour::Http(413, &[], Vec::new()),
        ]);
        for _ in 0..8 {
            pair.start(2_000).expect("there is room");
            pair.run();
        }
        let answer = |call| pair.log.answer(call);
        assert_eq!((answer(0).rejected, &*answer(0).message), (3, "old"), "spec 12");
        assert_eq!(
            (answer(1).rejected, answer(1).http_status),
            (2, Some(202)),
            "spec 12"
        );
        assert_eq!(answer(2).code, Code::UNAVAILABLE, "spec 19");
        assert_eq!(answer(2).retry_after, Some(Duration::from_secs(7)), "spec 21");
        assert_eq!(answer(2).message, "Service Unavailable: later (text/plain)");
        assert_eq!(answer(3).code, Code::INTERNAL, "spec 20");
        assert_eq!(answer(3).message, "Bad Request: <p>\\nno</p> (text/html)");
        assert_eq!(answer(4).location.as_deref(), Some("https://other/"), "spec 53");
        assert!(pair.log.is_ok(5) && pair.log.is_ok(6), "spec 53");
        assert_eq!(answer(7).code, Code::RESOURCE_EXHAUSTED, "spec 20");
    }
}

#[test]
fn a_status_stands_though_the_stream_breaks_behind_it() {
    for (status, code) in [(200, Code::OK), (503, Code::UNAVAILABLE), (400, Code::INTERNAL)] {
        let mut pair = pair(1);
        pair.server.next.push_back(Behaviour::HttpCut(status));
        let call = pair.start(100).expect("there is room");
        pair.run();
        assert_eq!(pair.log.answer(call).code, code, "spec 53");
    }
}

#[test]
fn a_reset_without_an_answer_is_no_status() {
    for (reason, is_processed, is_retryable) in [
        (h2::Reason::REFUSED_STREAM, false, true),
        (h2::Reason::CANCEL, true, true),
        (h2::Reason::INTERNAL_ERROR, true, true),
        (h2::Reason::ENHANCE_YOUR_CALM, true, true),
        (h2::Reason::HTTP_1_1_REQUIRED, true, false),
    ] {
        let mut pair = pair(2);
        pair.server.next.push_back(Behaviour::Reset(reason));
        let call = pair.start(100).expect("there is room");
        pair.run();
        let (failure, was_processed) = match pair.log.end(call) {
            CallEnd::Unanswered(failure) => (failure, true),
            CallEnd::Unprocessed(failure) => (failure, false),
            other => panic!("{reason:?}: {other:?}"),
        };
        assert_eq!(
            (was_processed, failure.is_retryable),
            (is_processed, is_retryable),
            "spec 22, spec 46: {reason:?}"
        );
    }
}

#[test]
fn a_large_answer_is_final_and_many_are_bounded_together() {
    let mut pair = pair(3);
    pair.server
        .next
        .push_back(Behaviour::Http(200, PROTOBUF, vec![0; (4 << 20) + 1]));
    let call = pair.start(10).expect("there is room");
    pair.run();
    assert!(
        matches!(pair.log.end(call), CallEnd::Unanswered(failure) if !failure.is_retryable),
        "spec 4: {:?}",
        pair.log.end(call)
    );
    // A peer that answers every call with almost as much as it may, and never ends an answer.
    let mut raw = Raw::<Http2>::of(settings());
    let calls: Vec<u64> = (0..20).map(|_| raw.call(10)).collect();
    for at in 0..20 {
        let stream = 2 * at + 1;
        raw.input(&headers(stream, &[(":status", "200")], false));
        for _ in 0..64 {
            raw.input(&data(stream, &[b'x'; 16_000], false));
        }
    }
    let open = calls
        .iter()
        .filter(|call| !raw.log.ends.contains_key(call))
        .count();
    assert_eq!(open, 16, "spec 52: answers of a MB in 16 MiB");
    assert!(raw.log.closed.is_empty(), "{:?}", raw.log.closed);
}

#[test]
fn grpc_names_its_compression_and_flags_its_messages() {
    let mut settings = Config::new()
        .with_protocol(Protocol::Grpc)
        .settings()
        .expect("settings that work");
    settings.routes[0].compression = Compression::Gzip;
    settings.lanes[0].user_agent = "shop/1 OTel-OTLP-Exporter-Rust/0".into();
    let compressed = |bytes: &[u8]| -> Vec<u8> {
        let plain = Request::from_segments(Signal::Traces, 1, vec![bytes.to_vec().into()]);
        compress(Compression::Gzip, plain.body()).segments().concat()
    };
    let framed =
        |flag: u8, message: &[u8]| [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat();
    let partial = compressed(&[0x0a, 7, 8, 3, 0x12, 3, b'o', b'l', b'd']);
    let bomb = compressed(&vec![0; 5 << 20]);
    let answers: [(&str, Vec<u8>, Option<u64>); 6] = [
        ("gzip", framed(1, &partial), Some(3)),
        ("gzip", framed(0, &[0x0a, 2, 8, 2]), Some(2)),
        ("gzip", framed(1, b"no gzip"), Some(0)),
        ("identity", framed(1, &partial), Some(0)),
        ("br", framed(1, &partial), Some(0)),
        ("gzip", framed(1, &bomb), None),
    ];
    let mut raw = Raw::<Http2>::of(settings);
    for (at, (coding, message, rejected)) in answers.iter().enumerate() {
        let stream = 2 * at as u32 + 1;
        let call = raw.call(10);
        let frames = raw.frames();
        let request = frames
            .iter()
            .find(|frame| frame.0 == 0 && frame.2 == stream)
            .expect("DATA");
        assert_eq!(
            request.3[..5],
            [1, 0, 0, 0, 10],
            "spec 43: the message is flagged"
        );
        let head = [
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("grpc-encoding", coding),
        ];
        raw.input(&headers(stream, &head, false));
        message
            .chunks(16_000)
            .for_each(|chunk| raw.input(&data(stream, chunk, false)));
        raw.input(&trailers(stream, "0"));
        match rejected {
            Some(rejected) => {
                assert_eq!(raw.log.answer(call).code, Code::OK, "spec 53: {at}");
                assert_eq!(raw.log.answer(call).rejected, *rejected, "spec 12: {at}");
            }
            None => assert!(
                matches!(raw.log.end(call), CallEnd::Unanswered(failure) if !failure.is_retryable),
                "spec 4, spec 52: {:?}",
                raw.log.end(call)
            ),
        }
    }
    let mut pair = Pair::new(7);
    pair.settings = raw.settings;
    pair.start(10).expect("there is room");
    pair.run();
    let (head, _) = &pair.server.requests[0];
    assert_eq!(head.headers["grpc-encoding"], "gzip");
    assert_eq!(head.headers["grpc-accept-encoding"], "gzip,zstd,identity");
}
