//! The collector on HTTP/2, in memory: gRPC of every signal, OTLP/HTTP beside it, compression, and faults of bytes.

#[path = "support/collector_client.rs"]
#[allow(dead_code, reason = "shared with the tests of gRPC")]
mod collector_client;

use bytes::Bytes;
use collector_client::{Call, Pair, export_request, framed, message};
use http::Request;
use otlp_embed::encode::Signal;
use otlp_embed::testing::collector::{Builder, Fate, HttpVersion, RawAnswer};
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::time::Instant;
use otlp_embed::{Code, Compression, Protocol};
use std::time::Duration;

const PROTOBUF: &str = "application/x-protobuf";

fn post(path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::post(format!("http://test{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

fn pair_answering(answer: Answer) -> (Builder, Pair) {
    let builder = Collector::builder().answer(answer);
    let pair = Pair::new(&builder);
    (builder, pair)
}

fn http_export(pair: &mut Pair) -> Call {
    let request = post("/v1/traces", &[("content-type", PROTOBUF)]);
    pair.call_with(request, &message(&["a"]))
}

#[test]
fn every_signal_comes_over_grpc_and_http_on_one_connection() {
    let builder = Collector::builder();
    let mut pair = Pair::new(&builder);
    // Two items each, in one scope of one resource: fields 1, 2 and 2.
    let items = [0x0a, 6, 0x12, 4, 0x12, 0, 0x12, 0];
    // Metrics: a sum with two points.
    let metrics = [0x0a, 10, 0x12, 8, 0x12, 6, 0x3a, 4, 0x0a, 0, 0x0a, 0];
    for signal in Signal::ALL {
        let body = if signal == Signal::Metrics {
            &metrics[..]
        } else {
            &items
        };
        let request = post(signal.grpc_path(), &[("content-type", "application/grpc")]);
        let call = pair.call_with(request, &framed(body));
        assert_eq!(
            (call.grpc_status(), &*call.data),
            (Some("0"), &[0; 5][..]),
            "{signal:?}"
        );
        let request = post(signal.http_path(), &[("content-type", PROTOBUF)]);
        let call = pair.call_with(request, body);
        assert!(call.is_ended && call.data.is_empty() && call.trailers.is_none());
        assert_eq!(
            (call.http_status(), call.field("content-type")),
            (Some(200), Some(PROTOBUF))
        );
        let of = builder.inbox().counters().of(signal);
        assert_eq!((of.requests_accepted, of.items_accepted), (2, 4), "{signal:?}");
    }
    let requests = builder.inbox().requests();
    assert!(
        requests
            .iter()
            .all(|request| request.version == HttpVersion::Http2)
    );
    let protocols: Vec<_> = requests[..2].iter().map(|request| request.protocol).collect();
    assert_eq!(protocols, [Protocol::Grpc, Protocol::HttpProtobuf]);
    assert_eq!(requests[0].message, requests[1].message);
    let connection = &builder.inbox().connections()[0];
    assert_eq!(
        (connection.version, connection.requests),
        (Some(HttpVersion::Http2), 8)
    );
}

#[test]
fn http_failures_have_a_status_in_the_requests_format() {
    let (_, mut pair) = pair_answering(Answer::throttled(Duration::from_secs(3)));
    let call = http_export(&mut pair);
    assert_eq!(
        (call.http_status(), call.field("retry-after")),
        (Some(429), Some("3"))
    );
    assert!(call.data.starts_with(&[0x08, 8, 0x12]) && call.grpc_status().is_none());
    let json = post("/v1/logs", &[("content-type", "application/json")]);
    let call = pair.call_with(json, b"{}");
    assert_eq!(call.field("content-type"), Some("application/json"));
    assert!(call.data.starts_with(b"{\"code\":8"));
    let unreadable = post("/v1/logs", &[("content-type", "application/json")]);
    let call = pair.call_with(unreadable, b"[");
    assert_eq!(call.http_status(), Some(400));
    assert!(call.data.starts_with(b"{\"code\":3"));
}

#[test]
fn what_is_no_export_is_turned_away() {
    let builder = Collector::builder().message_bytes_max(1000);
    let mut pair = Pair::new(&builder);
    let get = Request::get("http://test/v1/traces").body(()).unwrap();
    for (request, status) in [
        (post("/v1/trace", &[("content-type", PROTOBUF)]), 404),
        (post("/v1/traces", &[("content-type", "text/plain")]), 415),
        (post("/v1/traces", &[]), 415),
        (
            post(
                "/v1/traces",
                &[("content-type", PROTOBUF), ("content-encoding", "br")],
            ),
            415,
        ),
        (get, 405),
    ] {
        let call = pair.call_with(request, &message(&["a"]));
        assert_eq!(call.http_status(), Some(status));
    }
    let request = post("/v1/traces", &[("content-type", PROTOBUF)]);
    let call = pair.call_with(request, &message(&[&"n".repeat(2000)]));
    assert_eq!(
        (call.http_status(), call.field("content-type")),
        (Some(413), Some(PROTOBUF))
    );
    let counters = builder.inbox().counters();
    assert_eq!((counters.requests, counters.calls_invalid), (0, 6));
    assert_eq!(http_export(&mut pair).http_status(), Some(200));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn compressed(message: &[u8]) -> Vec<u8> {
    let mut framed = framed(message);
    framed[0] = 1;
    framed
}

#[test]
fn compressed_messages_are_read_up_to_the_cap() {
    let builder = Collector::builder().message_bytes_max(1000);
    let mut pair = Pair::new(&builder);
    let plain = message(&["compressed"]);
    let large = message(&[&"n".repeat(2000)]);
    let zstd = |bytes: &[u8]| zstd::stream::encode_all(bytes, 0).unwrap();
    let cases = [
        ("gzip", compressed(&gzip(&plain)), "0"),
        ("zstd", compressed(&zstd(&plain)), "0"),
        // The flag tells of each message whether it is compressed, whatever the field says.
        ("gzip", framed(&plain), "0"),
        ("gzip", compressed(&gzip(&large)), "8"),
        ("zstd", compressed(&zstd(&large)), "8"),
        ("gzip", compressed(&plain), "3"),
        ("identity", compressed(&gzip(&plain)), "13"),
        ("snappy", compressed(&plain), "12"),
    ];
    for (encoding, body, status) in cases {
        let mut request = export_request();
        request
            .headers_mut()
            .insert("grpc-encoding", encoding.parse().unwrap());
        let call = pair.call_with(request, &body);
        assert_eq!(call.grpc_status(), Some(status), "{encoding}");
        let accepts = (status == "12").then_some("gzip, zstd, identity");
        assert_eq!(call.field("grpc-accept-encoding"), accepts);
    }
    let requests = builder.inbox().requests();
    let compressions: Vec<_> = requests.iter().map(|request| request.compression).collect();
    assert_eq!(
        compressions,
        [Compression::Gzip, Compression::Zstd, Compression::None]
    );
    assert_eq!(
        (&*requests[0].message, &*requests[0].body),
        (&*plain, &*gzip(&plain))
    );

    let request = post(
        "/v1/traces",
        &[("content-type", PROTOBUF), ("content-encoding", "gzip")],
    );
    assert_eq!(pair.call_with(request, &gzip(&plain)).http_status(), Some(200));
}

#[test]
fn answers_are_compressed_on_order() {
    let partial = Answer::PartialSuccess {
        rejected: 1,
        message: "no".repeat(100),
    };
    let (builder, mut pair) = pair_answering(partial.clone());
    let plain = pair.export(&message(&["a", "b"])).data;
    builder.inbox().answer(partial.compressed(Compression::Gzip));
    let call = pair.export(&message(&["a", "b"]));
    assert_eq!(call.head.as_ref().unwrap().headers["grpc-encoding"], "gzip");
    assert_eq!((call.grpc_status(), call.data[0]), (Some("0"), 1));
    let mut read = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&call.data[5..]), &mut read).unwrap();
    assert_eq!(read, plain[5..]);
    assert_eq!(builder.inbox().counters().spans_accepted, 2);
}

#[test]
fn answers_are_cut_anywhere() {
    let exchange = |answer: Answer| {
        let (_, mut pair) = pair_answering(answer);
        let before = pair.said.len();
        let call = pair.export(&message(&["a"]));
        let end = pair.session.fate();
        // Acknowledgements of settings and windows may come before the answer.
        (pair.said[before..].to_vec(), end, call)
    };
    let (whole, fate, _) = exchange(Answer::unavailable());
    assert_eq!(fate, Fate::Open);
    let head = whole
        .windows(5)
        .rposition(|window| window == [1, 5, 0, 0, 0])
        .unwrap()
        - 3;
    for bytes in 0..=whole.len() - head {
        let (said, fate, call) = exchange(Answer::unavailable().cut_after(bytes));
        assert_eq!(fate, Fate::Closed);
        assert!(said.len() <= whole.len());
        assert!(whole.starts_with(&said), "cut after {bytes}");
        let is_whole = bytes == whole.len() - head;
        assert_eq!(call.grpc_status().is_some(), is_whole, "cut after {bytes}");
    }
}

#[test]
fn other_calls_have_their_answers_before_a_cut() {
    let builder = Collector::builder();
    let mut pair = Pair::new(&builder);
    builder.inbox().answer_next(Answer::Ok);
    builder.inbox().answer_next(Answer::Ok.cut_after(4));
    let body = Bytes::from(framed(&message(&["a"])));
    let mut first = pair.open(export_request());
    let mut second = pair.open(export_request());
    first.stream.send_data(body.clone(), true).unwrap();
    second.stream.send_data(body, true).unwrap();
    pair.pump();
    first.take();
    second.take();
    assert_eq!(first.grpc_status(), Some("0"));
    assert!(second.error.is_some() || second.head.is_none());
    assert_eq!(pair.session.fate(), Fate::Closed);
}

#[test]
fn garbage_instead_of_an_answer_reaches_the_client() {
    let (_, mut pair) = pair_answering(Answer::Bytes(Bytes::from_static(&[0xff; 32])));
    let call = pair.export(&message(&["a"]));
    assert!(pair.said.ends_with(&[0xff; 32]));
    assert!(
        call.error.is_some(),
        "a frame above the limit ends the connection"
    );
}

#[test]
fn bodies_dribble_and_never_end() {
    let dribble = RawAnswer::new(200)
        .data(&b"ab"[..])
        .data(&b"c"[..])
        .trailer("grpc-status", "0")
        .paced(Duration::from_secs(2));
    let (_, mut pair) = pair_answering(dribble.into());
    let mut call = pair.export(&message(&["a"]));
    assert_eq!((&*call.data, call.is_ended), (&b"ab"[..], false));
    assert_eq!(
        pair.session.poll_timeout(),
        Some(pair.now + Duration::from_secs(2))
    );
    pair.advance(Duration::from_secs(2));
    call.take();
    assert_eq!((&*call.data, call.grpc_status()), (&b"abc"[..], Some("0")));

    let endless = RawAnswer::new(200).data(vec![b'x'; 100_000]).endless();
    let (builder, mut pair) = pair_answering(endless.into());
    let mut call = pair.export(&message(&["a"]));
    for _ in 0..100 {
        pair.advance(Duration::from_millis(1));
        call.take();
    }
    // The client gives no more room than a window, so that no more than one has come.
    assert_eq!(call.data.len(), 65_535);
    assert!(!call.is_ended && call.error.is_none());
    call.stream.send_reset(h2::Reason::CANCEL);
    pair.pump();
    assert_eq!(pair.session.poll_timeout(), None);
    assert_eq!(builder.inbox().counters().calls_cancelled, 1);
}

#[test]
fn raw_answers_are_a_success_by_the_rules_of_their_protocol() {
    let (builder, mut pair) = pair_answering(RawAnswer::new(200).into());
    http_export(&mut pair);
    pair.export(&message(&["a"]));
    builder.inbox().answer(Answer::HttpStatus(202));
    http_export(&mut pair);
    builder.inbox().answer(Answer::status(Code::OK, ""));
    assert_eq!(http_export(&mut pair).http_status(), Some(200));
    assert_eq!(pair.export(&message(&["a"])).grpc_status(), Some("0"));
    let accepted: Vec<_> = builder
        .inbox()
        .requests()
        .iter()
        .map(|request| request.is_accepted())
        .collect();
    assert_eq!(accepted, [true, false, true, true, true]);
    assert_eq!(builder.inbox().counters().spans_accepted, 4);
}

/// An HTTP/2 frame of a short payload (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let head = [0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
    [&head[..], payload].concat()
}

/// What a refusal has to say waits for nothing: the client may take no byte of it, and go.
#[test]
fn a_refusal_without_room_for_its_words_is_a_status_alone() {
    let literal = |name: &str, value: &str| {
        let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        [vec![0], text(name), text(value)].concat()
    };
    let head = [
        literal(":method", "POST"),
        literal(":scheme", "http"),
        literal(":authority", "collector"),
        literal(":path", "/nowhere"),
    ]
    .concat();
    let bytes = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        // SETTINGS_INITIAL_WINDOW_SIZE of zero.
        frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]),
        // A call whose body goes on.
        frame(1, 4, 1, &head),
        frame(0, 0, 1, b"body"),
    ]
    .concat();
    let builder = Collector::builder();
    let mut session = builder.session(1);
    session.handle_input(Instant::ZERO, &bytes);
    let said: Vec<u8> = std::iter::from_fn(|| session.poll_transmit()).flatten().collect();
    assert_eq!(builder.inbox().counters().calls_invalid, 1);
    // An empty last DATA frame, and RST_STREAM with NO_ERROR for the rest of the body.
    let ends = [frame(0, 1, 1, &[]), frame(3, 0, 1, &[0; 4])].concat();
    assert!(
        said.windows(ends.len()).any(|window| window == ends),
        "{}",
        said.escape_ascii()
    );
    session.handle_eof(Instant::ZERO);
    drop(session);
    assert_eq!(builder.inbox().counters().calls_cancelled, 0);
}
