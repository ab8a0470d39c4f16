//! Arbitrary waits that a collector asks for: `Retry-After`, `RetryInfo` in a status of gRPC and of OTLP/HTTP.
//!
//! Whatever comes, nothing panics, what one layer reads the next one tells, and only throttling carries a wait.

use super::input::{Input, frame};
use bytes::Bytes;
use otlp_embed::encode::Signal;
use otlp_embed::pb::rpc;
use otlp_embed::protocol::{Answer, CallEnd, CallId, Connection, Event, Session};
use otlp_embed::time::Instant;
use otlp_embed::{Code, Config, Protocol, Request, policy};
use prost::Message;
use std::time::Duration;

/// Reads `data` as a header field, as a date beside another one, as details of gRPC and as a body.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.byte().unwrap_or(0);
    match kind % 4 {
        0 => {
            let len = usize::from(input.byte().unwrap_or(0));
            let value = input.bytes(len);
            retry_after(value, input.0);
        }
        1 => in_grpc(input.0),
        2 => in_body(input.0, "application/x-protobuf"),
        _ => in_body(input.0, "application/json"),
    }
}

fn retry_after(value: &[u8], date: &[u8]) {
    let wait = policy::retry_after(value, Some(date));
    let alone = policy::retry_after(value, None);
    let trimmed = value.trim_ascii();
    let is_count = !trimmed.is_empty() && trimmed.iter().all(u8::is_ascii_digit);
    assert_eq!(alone.is_some(), is_count, "only a count needs no date");
    if is_count {
        assert_eq!(wait, alone);
    }
    let is_field = |value: &[u8]| value.iter().all(|byte| (0x20..0x7f).contains(byte));
    if !is_field(value) || !is_field(date) {
        return;
    }
    let head = |status: u16| {
        let mut head = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nretry-after: ").into_bytes();
        for part in [value, b"\r\ndate: ", date, b"\r\n\r\n"] {
            head.extend_from_slice(part);
        }
        head
    };
    assert_eq!(
        over_http(&head(503)).retry_after,
        wait,
        "the answer tells what the field says"
    );
    assert_eq!(over_http(&head(400)).retry_after, None, "spec 20");
}

fn in_grpc(details: &[u8]) {
    let is_field = details.iter().all(|byte| (0x20..0x7f).contains(byte));
    if !is_field || details.len() > 100 {
        return;
    }
    let mut block = b"\x00\x0bgrpc-status\x018\x00\x17grpc-status-details-bin".to_vec();
    block.push(details.len() as u8);
    block.extend_from_slice(details);
    let answer = answered(
        Protocol::Grpc,
        &[
            frame(4, 0, 0, &[]),
            // `:status 200`.
            frame(1, 4, 1, &[0x88]),
            frame(1, 5, 1, &block),
        ]
        .concat(),
    );
    assert_eq!(
        answer.code,
        Code::RESOURCE_EXHAUSTED,
        "the details change no status"
    );
}

fn in_body(body: &[u8], content_type: &str) {
    let answer = |status: u16| {
        let mut answer = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        answer.extend_from_slice(body);
        over_http(&answer)
    };
    let throttled = answer(429);
    assert!(throttled.message.len() < 10_000, "bounded");
    assert!(!throttled.message.chars().any(char::is_control), "in one line");
    assert_eq!(answer(500).retry_after, None, "spec 20");
    if content_type.ends_with("json") {
        return;
    }
    let asked = rpc::Status::decode(body).ok().and_then(|status| {
        let infos = status
            .details
            .iter()
            .filter(|any| any.type_url.rsplit('/').next() == Some("google.rpc.RetryInfo"));
        let info = infos
            .filter_map(|any| rpc::RetryInfo::decode(&*any.value).ok())
            .next();
        info.map(|info| info.retry_delay.unwrap_or_default())
    });
    assert_eq!(asked.is_some(), throttled.retry_after.is_some(), "spec 18");
    if let (Some(asked), Some(wait)) = (asked, throttled.retry_after) {
        if asked.seconds < 0 && asked.nanos <= 0 {
            assert_eq!(wait, Duration::ZERO, "spec 18: a negative wait is none");
        }
    }
}

fn over_http(bytes: &[u8]) -> Answer {
    answered(Protocol::HttpProtobuf, bytes)
}

/// The answer that comes of a server's bytes to a request.
fn answered(protocol: Protocol, bytes: &[u8]) -> Answer {
    let config = Config::new()
        .with_protocol(protocol)
        .with_endpoint("http://localhost:1");
    let settings = config.settings().expect("settings that work");
    let mut session = Session::open(&settings.lanes[0], Instant::ZERO).expect("a session");
    let request = Request::from_segments(Signal::Traces, 1, vec![Bytes::from_static(b"x")]);
    let outgoing = settings.outgoing(&request, Instant::MAX);
    session
        .start(Instant::ZERO, CallId(1), &outgoing)
        .expect("there is room");
    while let Some(pieces) = session.poll_transmit() {
        session.handle_sent(Instant::ZERO, pieces.iter().map(Bytes::len).sum());
    }
    session.handle_input(Instant::ZERO, bytes);
    loop {
        match session.poll_event().expect("the call ends") {
            Event::Ended(_, CallEnd::Answered(answer)) => return answer,
            Event::Ended(_, end) => panic!("no answer: {end:?}"),
            _ => {}
        }
    }
}
