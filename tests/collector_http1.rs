//! The collector over OTLP/HTTP on HTTP/1.1, in memory: what it takes, and how it answers.

#[path = "support/collector_client.rs"]
#[allow(dead_code, reason = "shared with the tests of HTTP/2")]
mod collector_client;
#[path = "support/collector_http1.rs"]
mod collector_http1;

use collector_client::message;
use collector_http1::{Client, request};
use otlp_embed::encode::Signal;
use otlp_embed::testing::collector::{Builder, Fate, HttpVersion};
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Code, Compression, Protocol};
use std::time::Duration;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const TRACES: &str = "/v1/traces";

fn client_answering(answer: Answer) -> (Builder, Client) {
    let builder = Collector::builder().answer(answer);
    let client = Client::new(&builder);
    (builder, client)
}

fn export(client: &mut Client) {
    client.send(&request(TRACES, &[("content-type", PROTOBUF)], &message(&["a"])));
}

#[test]
fn requests_of_every_signal_are_taken_on_one_connection() {
    let builder = Collector::builder();
    let mut client = Client::new(&builder);
    // Two items each, in one scope of one resource: fields 1, 2 and 2.
    let items = [0x0a, 6, 0x12, 4, 0x12, 0, 0x12, 0];
    // Metrics: two gauges with one point each.
    let metrics = [
        0x0a, 14, 0x12, 12, 0x12, 4, 0x2a, 2, 0x0a, 0, 0x12, 4, 0x2a, 2, 0x0a, 0,
    ];
    for (path, body) in [
        ("/v1/traces", &items[..]),
        ("/v1/metrics", &metrics),
        ("/v1/logs", &items),
        ("/v1development/profiles", &items),
    ] {
        let response = client.post(path, PROTOBUF, body);
        assert_eq!((response.status, &*response.body), (200, &b""[..]), "{path}");
        assert_eq!(response.field("content-type"), Some(PROTOBUF));
    }
    let inbox = builder.inbox();
    let counters = inbox.counters();
    for signal in Signal::ALL {
        let of = counters.of(signal);
        assert_eq!(
            (of.requests, of.requests_accepted, of.items, of.items_accepted),
            (1, 1, 2, 2),
            "{signal:?}"
        );
    }
    assert_eq!((counters.requests, counters.spans), (4, 2));
    assert_eq!(
        (inbox.spans().len(), inbox.metrics().len(), inbox.logs().len()),
        (2, 2, 2)
    );
    let requests = inbox.requests();
    assert_eq!(requests[1].signal, Signal::Metrics);
    assert_eq!(requests[1].message, &metrics[..]);
    assert_eq!(requests[3].protocol, Protocol::HttpProtobuf);
    assert_eq!(requests[3].version, HttpVersion::Http1);
    assert_eq!(
        requests
            .iter()
            .map(|request| request.stream_id)
            .collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    assert_eq!(requests[0].header(":path"), Some("/v1/traces"));
    assert_eq!(requests[0].header("content-type"), Some(PROTOBUF));

    let connections = inbox.connections();
    assert_eq!(connections.len(), 1);
    assert_eq!((connections[0].number, connections[0].requests), (3, 4));
    assert_eq!(connections[0].version, Some(HttpVersion::Http1));
    assert!(connections[0].is_open && connections[0].tls.is_none());
    client.disconnect();
    assert!(!inbox.connections()[0].is_open);
}

#[test]
fn every_split_of_the_bytes_gives_the_same() {
    let length = request(TRACES, &[("content-type", PROTOBUF)], &message(&["a", "b"]));
    let body = message(&["a", "b"]);
    let mut chunked = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: test\r\ncontent-type: {PROTOBUF}\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    for piece in body.chunks(37) {
        chunked.extend(format!("{:X};ext=1\r\n", piece.len()).bytes());
        chunked.extend_from_slice(piece);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\nX-Trailer: 1\r\n\r\n");
    for sent in [length, chunked] {
        for chunk in [1, 2, 3, 7, 64, 1000] {
            let builder = Collector::builder();
            let mut client = Client::new(&builder);
            client.chunk = chunk;
            for call in 1..=2 {
                client.send(&sent);
                assert_eq!(client.response().expect("an answer").status, 200);
                assert_eq!(builder.inbox().counters().spans, 2 * call, "chunks of {chunk}");
            }
        }
        for length in 0..sent.len() {
            let builder = Collector::builder();
            let mut client = Client::new(&builder);
            client.send(&sent[..length]);
            client.disconnect();
            assert_eq!(client.session.fate(), Fate::Closed);
            assert_eq!(builder.inbox().counters().requests, 0, "cut after {length}");
        }
    }
}

#[test]
fn json_comes_in_and_goes_out() {
    let builder = Collector::builder();
    let mut client = Client::new(&builder);
    let body = br#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
        "scopeLogs":[{"logRecords":[{"timeUnixNano":"17","body":{"stringValue":"hello"},"traceId":"0102030405060708090a0b0c0d0e0f10"}]}]}]}"#;
    let response = client.post("/v1/logs", "application/json; charset=utf-8", body);
    assert_eq!((response.status, &*response.body), (200, &b"{}"[..]));
    assert_eq!(response.field("content-type"), Some(JSON));
    let log = &builder.inbox().logs()[0];
    assert_eq!(log.body(), "hello".into());
    assert_eq!(log.resource.service_name(), "shop");
    assert_eq!((log.record.time_unix_nano, log.record.trace_id[15]), (17, 16));
    let received = &builder.inbox().requests()[0];
    assert_eq!(received.protocol, Protocol::HttpJson);
    assert_eq!(received.body, &body[..]);
    assert_eq!(received.message.len(), received.encoded_len);

    builder.inbox().answer_next(Answer::PartialSuccess {
        rejected: 3,
        message: "no \"room\"".into(),
    });
    let response = client.post("/v1/metrics", JSON, b"{}");
    assert_eq!(
        std::str::from_utf8(&response.body).unwrap(),
        r#"{"partialSuccess":{"errorMessage":"no \"room\"","rejectedDataPoints":"3"}}"#
    );
    builder
        .inbox()
        .answer_next(Answer::throttled(Duration::from_millis(1_500)));
    let response = client.post(TRACES, JSON, b"{}");
    assert_eq!((response.status, response.field("retry-after")), (429, Some("2")));
    let body = std::str::from_utf8(&response.body).unwrap();
    assert!(
        body.contains(r#""code":8"#) && body.contains(r#""retryDelay":"1.500000000s""#),
        "{body}"
    );

    let response = client.post(TRACES, JSON, b"{\"resourceSpans\":");
    assert_eq!(
        (response.status, response.field("content-type")),
        (400, Some(JSON))
    );
    let body = std::str::from_utf8(&response.body).unwrap();
    assert!(body.contains(r#""code":3"#) && body.contains("line 1"), "{body}");
}

#[test]
fn failures_have_a_status_in_protobuf() {
    let (_, mut client) = client_answering(Answer::Status {
        code: Code::UNAVAILABLE,
        message: "later".into(),
        retry_info: Some(Duration::from_secs(2)),
    });
    let response = client.post(TRACES, PROTOBUF, b"");
    assert_eq!((response.status, response.field("retry-after")), (503, Some("2")));
    // code: 14, message: "later", and details.
    assert!(
        response
            .body
            .starts_with(&[0x08, 14, 0x12, 5, b'l', b'a', b't', b'e', b'r', 0x1a])
    );
    let url = b"type.googleapis.com/google.rpc.RetryInfo";
    assert!(response.body.windows(url.len()).any(|window| window == url));

    for (code, status) in [
        (Code::INVALID_ARGUMENT, 400),
        (Code::UNAUTHENTICATED, 401),
        (Code::PERMISSION_DENIED, 403),
        (Code::RESOURCE_EXHAUSTED, 429),
        (Code::INTERNAL, 500),
        (Code::DEADLINE_EXCEEDED, 504),
        (Code::from_u32(99), 500),
    ] {
        let (_, mut client) = client_answering(Answer::status(code, "no"));
        assert_eq!(client.post(TRACES, PROTOBUF, b"").status, status, "{code:?}");
    }
}

#[test]
fn partial_success_says_what_was_refused() {
    let (builder, mut client) = client_answering(Answer::PartialSuccess {
        rejected: 2,
        message: "no".into(),
    });
    let response = client.post(TRACES, PROTOBUF, &message(&["a", "b", "c"]));
    assert_eq!(response.status, 200);
    assert_eq!(response.body, [0x0a, 6, 0x08, 2, 0x12, 2, b'n', b'o']);
    let of = builder.inbox().counters().of(Signal::Traces);
    assert_eq!((of.items, of.items_accepted), (3, 1));
}

#[test]
fn what_is_no_export_is_turned_away_and_the_connection_goes_on() {
    let builder = Collector::builder();
    let mut client = Client::new(&builder);
    let grpc_path = Signal::Traces.grpc_path();
    for (path, content_type, status) in [
        ("/", PROTOBUF, 404),
        ("/v1/trace", PROTOBUF, 404),
        (TRACES, "text/plain", 415),
        (TRACES, "application/grpc", 415),
        (grpc_path, "application/grpc", 415),
    ] {
        let response = client.post(path, content_type, &message(&["a"]));
        assert_eq!(response.status, status, "{path} {content_type}");
        assert_eq!(response.field("connection"), None);
    }
    for method in ["GET", "PUT", "HEAD"] {
        client.send(format!("{method} /v1/traces HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
        let head = String::from_utf8(client.unread()).unwrap();
        assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
        assert!(head.contains("Allow: POST\r\n"));
        assert_eq!(head.ends_with("\r\n\r\n"), method == "HEAD", "{head}");
    }
    client.send(b"POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\n\r\n");
    assert_eq!(client.response().unwrap().status, 411);
    let response = client.post(TRACES, PROTOBUF, &[0x0a, 0x7f]);
    assert_eq!(
        (response.status, response.field("content-type")),
        (400, Some(PROTOBUF))
    );
    assert!(response.body.starts_with(&[0x08, 3, 0x12]), "{:?}", response.body);
    let counters = builder.inbox().counters();
    assert_eq!((counters.requests, counters.calls_invalid), (0, 10));
    assert_eq!(client.post(TRACES, PROTOBUF, &message(&["a"])).status, 200);
    assert_eq!(client.session.fate(), Fate::Open);
}

#[test]
fn heads_that_cannot_be_trusted_end_the_connection() {
    let with = |fields: &str| {
        format!(
            "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\n{fields}\r\n\r\n"
        )
    };
    let many = "x: y\r\n".repeat(300);
    let long = format!("x: {}", "y".repeat(300 << 10));
    for (head, status) in [
        (with("content-length: 1\r\ntransfer-encoding: chunked"), 400),
        (with("content-length: 1\r\ncontent-length: 2"), 400),
        (with("content-length: -1"), 400),
        (with("transfer-encoding: gzip, chunked"), 501),
        (with("transfer-encoding: chunked\r\n\r\nnonsense"), 400),
        (with("content-length: 1\r\nexpect: 200-ok"), 417),
        (with("content-length: 1\r\nhost: b"), 400),
        (with(many.trim_end()), 431),
        (with(&long), 431),
        ("POST /v1/traces HTTP/1.1\r\n\r\n".into(), 400),
        ("POST /v1/traces HTTP/2.0\r\n\r\n".into(), 505),
        ("\0\0\0".into(), 400),
        ("PRI * HTTP/1.1\r\nhost: a\r\n\r\n".into(), 404),
    ] {
        let builder = Collector::builder();
        let mut client = Client::new(&builder);
        client.send(head.as_bytes());
        let response = client.response().expect("an answer");
        assert_eq!(response.status, status, "{:.200}", head);
        if status != 404 {
            assert_eq!(response.field("connection"), Some("close"));
            assert_eq!(client.session.fate(), Fate::Closed, "{:.200}", head);
        }
        assert_eq!(builder.inbox().counters().calls_invalid, 1);
    }
}

#[test]
fn oversize_bodies_are_refused_before_they_have_come() {
    let builder = Collector::builder().message_bytes_max(100);
    let head = "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\n";
    let announced = format!("{head}content-length: 101\r\n\r\n");
    let chunks = format!(
        "{head}transfer-encoding: chunked\r\n\r\nffffffff\r\n{}",
        "x".repeat(101)
    );
    let wrong_path = format!(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{}",
        "x".repeat(101)
    );
    for (sent, status) in [(announced, 413), (chunks, 413), (wrong_path, 404)] {
        let mut client = Client::new(&builder);
        client.send(sent.as_bytes());
        let response = client.response().expect("an answer");
        assert_eq!(
            (response.status, response.field("connection")),
            (status, Some("close"))
        );
        assert_eq!(client.session.fate(), Fate::Closed);
    }
    let mut client = Client::new(&builder);
    assert_eq!(client.post(TRACES, PROTOBUF, &[0; 0]).status, 200);
}

#[test]
fn expectations_are_met_or_refused_before_the_body() {
    let builder = Collector::builder();
    let mut client = Client::new(&builder);
    let body = message(&["a"]);
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\nexpect: 100-Continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
    };
    client.send(head(TRACES).as_bytes());
    assert_eq!(client.response().unwrap().status, 100);
    assert_eq!(client.response(), None);
    client.send(&body);
    assert_eq!(client.response().unwrap().status, 200);
    client.send(head("/elsewhere").as_bytes());
    let response = client.response().unwrap();
    assert_eq!(
        (response.status, response.field("connection")),
        (404, Some("close"))
    );
    assert_eq!(client.session.fate(), Fate::Closed);
}

#[test]
fn connections_are_kept_or_closed_as_either_side_says() {
    let builder = Collector::builder().requests_per_connection(2);
    let mut client = Client::new(&builder);
    assert_eq!(client.post(TRACES, PROTOBUF, b"").field("connection"), None);
    assert_eq!(client.session.fate(), Fate::Open);
    let last = client.post(TRACES, PROTOBUF, b"");
    assert_eq!((last.status, last.field("connection")), (200, Some("close")));
    assert_eq!(client.session.fate(), Fate::Closed);

    let builder = Collector::builder();
    for fields in [&[("Connection", "keep-alive, Close")], &[("connection", "close")]] {
        let mut client = Client::new(&builder);
        client.send(&request(TRACES, &[("content-type", PROTOBUF), fields[0]], b""));
        assert_eq!(client.response().unwrap().field("connection"), Some("close"));
        assert_eq!(client.session.fate(), Fate::Closed);
    }
    let mut old = Client::new(&builder);
    old.send(
        b"POST /v1/traces HTTP/1.0\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
    );
    assert_eq!(old.response().unwrap().status, 200);
    assert_eq!(old.session.fate(), Fate::Closed);

    let mut drained = Client::new(&builder);
    builder
        .inbox()
        .answer_next(Answer::Drain(Box::new(Answer::unavailable())));
    let response = drained.post(TRACES, PROTOBUF, b"");
    assert_eq!(
        (response.status, response.field("connection")),
        (503, Some("close"))
    );
    assert_eq!(drained.session.fate(), Fate::Closed);

    // A drain from outside waits for the call under way, and for none where there is none.
    let mut busy = Client::new(&builder);
    busy.send(b"POST /v1/tr");
    busy.session.drain(busy.now);
    busy.send(
        b"aces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
    );
    assert_eq!(busy.response().unwrap().field("connection"), Some("close"));
    let mut idle = Client::new(&builder);
    assert_eq!(idle.post(TRACES, PROTOBUF, b"").status, 200);
    idle.session.drain(idle.now);
    assert_eq!(idle.session.fate(), Fate::Closed);
    assert_eq!(builder.inbox().counters().calls_cancelled, 0);
}

#[test]
fn calls_sent_ahead_are_answered_in_their_order() {
    let (builder, mut client) = client_answering(Answer::Ok.after(Duration::from_secs(1)));
    let sent = request(TRACES, &[("content-type", PROTOBUF)], b"");
    client.send(&[&*sent, &sent, &sent].concat());
    for call in 1..=3 {
        assert_eq!(builder.inbox().counters().requests, call);
        assert_eq!(client.response(), None);
        assert_eq!(
            client.session.poll_timeout(),
            Some(client.now + Duration::from_secs(1))
        );
        client.advance(Duration::from_secs(1));
        assert_eq!(client.response().unwrap().status, 200);
    }
    // What waits has a limit.
    builder.inbox().answer(Answer::Never);
    export(&mut client);
    client.send(&vec![b'x'; 2 << 20]);
    assert_eq!(client.session.fate(), Fate::Closed);
    assert_eq!(builder.inbox().counters().calls_cancelled, 1);
}

#[test]
fn compressed_requests_are_read_up_to_the_cap() {
    let builder = Collector::builder().message_bytes_max(1000);
    let mut client = Client::new(&builder);
    let plain = message(&["compressed"]);
    let large = message(&[&"n".repeat(2000)]);
    let gzip = |bytes: &[u8]| {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| zstd::stream::encode_all(bytes, 0).unwrap();
    let mut post = |encoding: &str, body: &[u8]| {
        client.send(&request(
            TRACES,
            &[("content-type", PROTOBUF), ("Content-Encoding", encoding)],
            body,
        ));
        client.response().expect("an answer")
    };
    assert_eq!(post("gzip", &gzip(&plain)).status, 200);
    assert_eq!(post("zstd", &zstd(&plain)).status, 200);
    assert_eq!(post("identity", &plain).status, 200);
    assert_eq!(post("gzip", &gzip(&large)).status, 413);
    assert_eq!(post("zstd", &zstd(&large)).status, 413);
    assert_eq!(post("gzip", &plain).status, 400);
    let unknown = post("br", &plain);
    assert_eq!(
        (unknown.status, unknown.field("accept-encoding")),
        (415, Some("gzip, zstd, identity"))
    );
    let requests = builder.inbox().requests();
    let compressions: Vec<_> = requests.iter().map(|request| request.compression).collect();
    assert_eq!(
        compressions,
        [Compression::Gzip, Compression::Zstd, Compression::None]
    );
    assert_eq!(
        (&*requests[0].body, &*requests[0].message),
        (&*gzip(&plain), &*plain)
    );
    assert!(
        builder
            .inbox()
            .spans()
            .iter()
            .all(|span| span.name == "compressed")
    );
}

#[test]
fn answers_are_compressed_on_order() {
    let partial = Answer::PartialSuccess {
        rejected: 1,
        message: "no".repeat(100),
    };
    let (builder, mut client) = client_answering(partial.clone());
    let plain = client.post(TRACES, PROTOBUF, b"").body;
    builder.inbox().answer(partial.compressed(Compression::Gzip));
    let response = client.post(TRACES, PROTOBUF, b"");
    assert_eq!(response.field("content-encoding"), Some("gzip"));
    let mut read = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*response.body), &mut read).unwrap();
    assert_eq!(read, plain);
    let status = Answer::status(Code::UNAVAILABLE, "x".repeat(100));
    builder.inbox().answer(status.compressed(Compression::Zstd));
    let response = client.post(TRACES, PROTOBUF, b"");
    assert_eq!(
        (response.status, response.field("content-encoding")),
        (503, Some("zstd"))
    );
    let read = zstd::stream::decode_all(&*response.body).unwrap();
    assert!(read.starts_with(&[0x08, 14, 0x12, 100]));
    assert!(!builder.inbox().requests()[2].is_accepted());
}

#[test]
fn paths_are_those_of_the_specification_unless_set() {
    let builder = Collector::builder().http_path(Signal::Traces, "/tenant/spans");
    let mut client = Client::new(&builder);
    assert_eq!(
        client
            .post("/tenant/spans?x=1", PROTOBUF, &message(&["a"]))
            .status,
        200
    );
    assert_eq!(client.post("http://test/tenant/spans", PROTOBUF, b"").status, 200);
    assert_eq!(client.post(TRACES, PROTOBUF, b"").status, 404);
    assert_eq!(
        builder.inbox().requests()[0].header(":path"),
        Some("/tenant/spans")
    );
}
