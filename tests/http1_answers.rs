//! What an answer of OTLP/HTTP comes to, by its status, its fields and its body.

#[path = "support/http1.rs"]
mod http1;

use http1::*;
use otlp_embed::pb::rpc;
use otlp_embed::protocol::{Answer, CallEnd};
use otlp_embed::{Code, Protocol, policy};
use prost::Message;

/// The answer that comes of these bytes; the connection is kept or not.
fn read(bytes: &[u8]) -> Answer {
    let mut wire = Wire::new();
    let call = wire.call(10);
    wire.input(bytes);
    wire.answer(call).clone()
}

fn status(message: &str, delay: Option<i64>) -> Vec<u8> {
    let info = delay.map(|seconds| rpc::Any {
        type_url: rpc::RetryInfo::TYPE_URL.into(),
        value: rpc::RetryInfo {
            retry_delay: Some(rpc::Duration { seconds, nanos: 0 }),
        }
        .encode_to_vec(),
    });
    rpc::Status {
        code: 3,
        message: message.into(),
        details: info.into_iter().collect(),
    }
    .encode_to_vec()
}

const PROTOBUF: &str = "content-type: application/x-protobuf\r\n";
const JSON: &str = "content-type: application/json\r\n";

#[test]
fn only_four_statuses_are_worth_another_attempt() {
    for number in (200..600).filter(|number| !matches!(number, 204 | 304)) {
        let answer = read(&answer(&format!("{number} Words"), "retry-after: 7\r\n", b""));
        let is_retryable = policy::is_retryable(answer.code, answer.retry_after.is_some());
        assert_eq!(
            is_retryable,
            matches!(number, 429 | 502 | 503 | 504),
            "spec 19, spec 20: {number} is {}",
            answer.code
        );
        let class = policy::classify(policy::AttemptResult::Http {
            status: number,
            retry_after: answer.retry_after,
        });
        assert_eq!(
            is_retryable,
            matches!(class, policy::Class::Retryable { .. }),
            "spec 19: the code read out of {number} and its own row say the same"
        );
        assert_eq!(
            answer.code == Code::OK,
            (200..300).contains(&number),
            "spec 53: {number}"
        );
        assert_eq!(answer.http_status, (number != 200).then_some(number));
        assert_eq!(answer.retry_after.is_some(), is_retryable, "spec 20: {number}");
    }
    for (number, code) in [
        (400, Code::INTERNAL),
        (401, Code::UNAUTHENTICATED),
        (403, Code::PERMISSION_DENIED),
        (404, Code::UNIMPLEMENTED),
        (413, Code::RESOURCE_EXHAUSTED),
        (500, Code::UNKNOWN),
    ] {
        assert_eq!(read(&answer(&number.to_string(), "", b"")).code, code, "spec 45");
    }
}

#[test]
fn a_wait_is_read_from_the_field_or_the_details() {
    let date = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let throttled = |fields: &str, body: &[u8]| {
        let answer = read(&answer("503 Service Unavailable", fields, body));
        answer.retry_after.map(|wait| wait.as_secs())
    };
    for (fields, expected) in [
        ("retry-after: 120\r\n", Some(120)),
        ("Retry-After: 0\r\n", Some(0)),
        (
            &format!("retry-after: Sun, 06 Nov 1994 08:50:37 GMT\r\n{date}"),
            Some(60),
        ),
        (
            &format!("{date}retry-after: Sunday, 06-Nov-94 08:50:37 GMT\r\n"),
            Some(60),
        ),
        ("retry-after: Sun, 06 Nov 1994 08:50:37 GMT\r\n", None),
        (
            &format!("retry-after: Sun, 06 Nov 1994 08:48:37 GMT\r\n{date}"),
            None,
        ),
        ("retry-after: -5\r\n", None),
        ("retry-after: soon\r\n", None),
        ("", None),
    ] {
        assert_eq!(throttled(fields, b""), expected, "spec 21: {fields:?}");
    }
    assert_eq!(throttled(PROTOBUF, &status("busy", Some(3))), Some(3), "spec 18");
    let both = format!("{PROTOBUF}retry-after: 9\r\n");
    assert_eq!(throttled(&both, &status("busy", Some(3))), Some(9));
    let json = br#"{"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"4s"}],"message":""}"#;
    assert_eq!(throttled(JSON, json), Some(4), "spec 18");
    let final_answer = read(&answer("400 Bad Request", PROTOBUF, &status("no", Some(3))));
    assert_eq!(final_answer.retry_after, None, "spec 20");
}

#[test]
fn the_words_of_a_failure_are_told_whatever_they_are_written_in() {
    let long = "x".repeat(100_000);
    for (fields, body, expected) in [
        (PROTOBUF, status("bad span", None), "Bad Request: bad span"),
        ("", status("bad span", None), "Bad Request: bad span"),
        (
            JSON,
            br#"{"code":99,"message":"bad\nspan"}"#.to_vec(),
            "Bad Request: bad\\nspan",
        ),
        (
            JSON,
            br#"{"error":"bad"}"#.to_vec(),
            r#"Bad Request: {"error":"bad"}"#,
        ),
        (JSON, b"{".to_vec(), "Bad Request: {"),
        (PROTOBUF, b"plain words".to_vec(), "Bad Request: plain words"),
        (PROTOBUF, Vec::new(), "Bad Request"),
        (
            "content-type: text/plain; charset=utf-8\r\n",
            b"no\r\n\x1b[31mway".to_vec(),
            "Bad Request: no\\r\\n\\u{1b}[31mway (text/plain)",
        ),
        (
            "content-type: text/html\r\n",
            b"<h1>Not here</h1>".to_vec(),
            "Bad Request: <h1>Not here</h1> (text/html)",
        ),
    ] {
        let answer = read(&answer("400 Bad Request", fields, &body));
        assert_eq!(answer.message, expected, "spec 26");
        assert_eq!(
            answer.code,
            Code::INTERNAL,
            "spec 26: the code of the body does not matter"
        );
    }
    for (fields, body) in [
        (PROTOBUF, status(&long, None)),
        (JSON, format!(r#"{{"message":"{long}"}}"#).into_bytes()),
        ("content-type: text/plain\r\n", long.clone().into_bytes()),
    ] {
        let answer = read(&answer("500 Oh", fields, &body));
        assert!(answer.message.len() < 3_000, "spec 26: bounded");
        assert!(answer.message.starts_with("Oh: xxxx"), "spec 26");
    }
    assert_eq!(read(&answer("503", "", b"")).message, "", "nothing was said");
}

#[test]
fn a_redirect_is_never_followed_and_names_its_target() {
    for number in [301, 302, 303, 307, 308] {
        let answer = read(&answer(
            &format!("{number} Elsewhere"),
            "location: https://other.example/v1/traces\r\n",
            b"",
        ));
        assert_eq!(answer.code, Code::UNKNOWN, "spec 53");
        assert_eq!(
            answer.location.as_deref(),
            Some("https://other.example/v1/traces"),
            "spec 53"
        );
        assert!(!policy::is_retryable(answer.code, false), "spec 53");
    }
    assert_eq!(read(&answer("200 OK", "location: /x\r\n", b"")).location, None);
    let odd = read(&answer(
        "302 Found",
        &format!("location: {}\r\n", "y".repeat(5_000)),
        b"",
    ));
    assert_eq!(odd.location.map(|location| location.len()), Some(1_024));
}

#[test]
fn an_odd_body_does_not_undo_success() {
    let warning = status("x", None);
    for (fields, body) in [
        (PROTOBUF, &[0xff, 0xff][..]),
        (PROTOBUF, b"<html>"),
        (PROTOBUF, &warning),
        (JSON, b"<html>"),
        (JSON, b"null"),
        ("content-type: text/html\r\n", b"<html>"),
        ("content-encoding: br\r\n", b"\x01\x02"),
        ("content-encoding: gzip\r\n", b"no gzip"),
        ("content-encoding: gzip, gzip\r\n", b"no gzip"),
    ] {
        let answer = read(&answer("200 OK", fields, body));
        assert_eq!(
            (answer.code, answer.rejected),
            (Code::OK, 0),
            "spec 53: {fields:?}"
        );
    }
    let many = [0x0a, 2, 8, 100];
    assert_eq!(
        read(&answer("200 OK", PROTOBUF, &many)).rejected,
        10,
        "no more than was sent"
    );
    let coded = read(&answer("500 Oh", "content-encoding: br\r\n", b"\x01"));
    assert!(coded.message.contains("br"), "{}", coded.message);
}

#[test]
fn an_answer_without_a_type_is_taken_in_the_form_of_its_request() {
    let mut settings = config().settings().expect("it works");
    settings.routes[0].protocol = Protocol::HttpJson;
    let mut wire = Wire::with(settings);
    let call = wire.call(10);
    wire.input(&answer(
        "200 OK",
        "",
        br#"{"partialSuccess":{"rejectedSpans":2}}"#,
    ));
    assert_eq!(wire.answer(call).rejected, 2, "spec 12");
}

#[test]
fn an_answer_larger_than_the_limit_is_final() {
    let mut settings = config().settings().expect("it works");
    settings.lanes[0].response_bytes_max = 100;
    let endless = |head: &str, more: &[u8]| {
        let mut wire = Wire::with(settings.clone());
        let call = wire.call(10);
        wire.input(head.as_bytes());
        let mut count = 0;
        while wire.ends.is_empty() {
            wire.input(more);
            count += 1;
            assert!(count < 1_000, "spec 4: {head}");
        }
        let CallEnd::Unanswered(failure) = wire.end(call) else {
            panic!("spec 4: {:?}", wire.end(call));
        };
        assert!(
            !failure.is_retryable && failure.message.contains("limit"),
            "spec 4: {failure:?}"
        );
        assert_eq!(wire.closed.len(), 1);
        count
    };
    for status in ["200 OK", "503 Busy"] {
        for kind in [PROTOBUF, "content-type: text/html\r\n", "content-encoding: x\r\n"] {
            let head = format!("HTTP/1.1 {status}\r\n{kind}");
            assert!(endless(&format!("{head}\r\n"), b"0123456789") <= 11, "spec 4");
            assert!(
                endless(
                    &format!("{head}transfer-encoding: chunked\r\n\r\n"),
                    b"a\r\n0123456789\r\n"
                ) <= 11,
                "spec 4"
            );
            let at_once = endless(&format!("{head}content-length: 101\r\n\r\n"), b"0");
            assert!(at_once <= 1, "spec 4: told by the length");
        }
    }
    let mut wire = Wire::with(settings.clone());
    let call = wire.call(10);
    wire.input(&answer("500 Oh", "content-type: text/plain\r\n", &[b'x'; 100]));
    assert_eq!(wire.answer(call).code, Code::UNKNOWN, "spec 3: within the limit");
}

#[test]
fn a_compressed_answer_is_read_within_the_limit() {
    use otlp_embed::coding::compress;
    use otlp_embed::{Compression, Request, Signal};
    let compressed = |compression: Compression, bytes: &[u8]| -> Vec<u8> {
        let plain = Request::from_segments(Signal::Traces, 1, vec![bytes.to_vec().into()]);
        compress(compression, plain.body()).segments().concat()
    };
    let mut wire = Wire::new();
    wire.call(10);
    let (head, _) = wire.take_request();
    assert!(head.contains("\r\naccept-encoding: gzip,zstd"), "{head}");
    for (compression, name) in [(Compression::Gzip, "gzip"), (Compression::Zstd, "ZSTD")] {
        let partial = compressed(compression, &[0x0a, 7, 8, 3, 0x12, 3, b'o', b'l', b'd']);
        let fields = format!("{PROTOBUF}content-encoding: {name}\r\n");
        let said = read(&answer("200 OK", &fields, &partial));
        assert_eq!((said.rejected, &*said.message), (3, "old"), "spec 12, spec 29");
        let half = read(&answer("200 OK", &fields, &partial[..partial.len() / 2]));
        assert_eq!((half.code, half.rejected), (Code::OK, 0), "spec 53");
        let bomb = compressed(compression, &vec![0; 5 << 20]);
        assert!(bomb.len() < 1 << 20);
        let mut wire = Wire::new();
        let call = wire.call(10);
        wire.input(&answer("200 OK", &fields, &bomb));
        let CallEnd::Unanswered(failure) = wire.end(call) else {
            panic!("spec 4, spec 52: {:?}", wire.end(call));
        };
        assert!(
            !failure.is_retryable && failure.message.contains("limit"),
            "spec 4: {failure:?}"
        );
        assert_eq!(wire.closed.len(), 1);
    }
}
