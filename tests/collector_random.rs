//! Clients that say nearly the right thing, in pieces of any size, to a collector that answers anything: no panic, no bytes
//! without a bound, and an account of calls that adds up.

#[path = "support/collector_client.rs"]
#[allow(dead_code, reason = "shared with the tests of one call")]
mod collector_client;
#[path = "support/collector_http1.rs"]
#[allow(dead_code, reason = "shared with the tests of one call")]
mod collector_http1;

use bytes::Bytes;
use collector_client::{bytes_of_one_export, message};
use collector_http1::{Client, request};
use otlp_embed::testing::collector::{Builder, Fate, RawAnswer};
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Code, Compression};
use std::time::Duration;

fn answer(random: &mut fastrand::Rng) -> Answer {
    match random.u8(0..20) {
        0 => Answer::PartialSuccess {
            rejected: random.i64(..),
            message: "partly".into(),
        },
        1 => Answer::status(Code::from_u32(random.u32(0..20)), "no\r\nx: y"),
        2 => Answer::throttled(Duration::from_nanos(random.u64(..))),
        3 => answer(random).after(Duration::from_millis(random.u64(0..50))),
        4 => Answer::Never,
        5 => Answer::HeadersOnly,
        6 => Answer::NoTrailers,
        7 => Answer::Drain(Box::new(answer(random))),
        8 => Answer::GoAway {
            reason: random.u32(..),
            debug_data: Bytes::from(vec![b'd'; random.usize(0..20_000)]),
        },
        9 => Answer::Reset(random.u32(..)),
        10 => Answer::HttpStatus(random.u16(..)),
        11 => Answer::CloseConnection,
        12 => Answer::AbortConnection,
        13 => RawAnswer::new(random.u16(200..600))
            .informational(random.u16(102..200))
            .data(vec![b'x'; random.usize(0..3000)])
            .trailer("grpc-status", "0")
            .paced(Duration::from_millis(random.u64(0..5)))
            .into(),
        14 => RawAnswer::new(200).data(vec![b'x'; 5000]).endless().into(),
        15 => answer(random).compressed([Compression::Gzip, Compression::Zstd][random.usize(..2)]),
        16 => answer(random).cut_after(random.usize(0..300)),
        17 => Answer::Bytes(Bytes::from(vec![random.u8(..); random.usize(0..100)])),
        _ => Answer::Ok,
    }
}

/// What a client may say, from its first byte on.
fn script(random: &mut fastrand::Rng) -> Vec<u8> {
    let message = message(&["a", "b"]);
    if random.u8(0..3) == 0 {
        return bytes_of_one_export(&Collector::builder(), &message);
    }
    let mut said = Vec::new();
    for _ in 0..random.usize(1..5) {
        let path = ["/v1/traces", "/v1/logs", "/v1/metrics", "/"][random.usize(..4)];
        let content_type = ["application/x-protobuf", "application/json", "a/b"][random.usize(..3)];
        let mut fields = vec![("content-type", content_type)];
        match random.u8(0..8) {
            0 => fields.push(("content-encoding", "gzip")),
            1 => fields.push(("expect", "100-continue")),
            2 => fields.push(("connection", "close")),
            _ => {}
        }
        let body = if content_type == "application/json" {
            b"{}"
        } else {
            &message[..]
        };
        if random.bool() {
            said.extend(request(path, &fields, body));
            continue;
        }
        said.extend(format!("POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n").bytes());
        for (name, value) in fields {
            said.extend(format!("{name}: {value}\r\n").bytes());
        }
        said.extend(format!("\r\n{:x}\r\n", body.len()).bytes());
        said.extend_from_slice(body);
        said.extend_from_slice(b"\r\n0\r\n\r\n");
    }
    said
}

fn mutate(random: &mut fastrand::Rng, said: &mut Vec<u8>) {
    for _ in 0..random.usize(0..4) {
        let at = random.usize(..said.len());
        match random.u8(0..4) {
            0 => said[at] = random.u8(..),
            1 => said.truncate(at.max(1)),
            2 => said.insert(at, random.u8(..)),
            _ => {
                let again = said[at..].to_vec();
                said.extend(again);
            }
        }
    }
}

/// One client; gives how many requests were received, and whether a fault ended its connection.
fn exchange(seed: u64) -> (u64, Fate) {
    let mut random = fastrand::Rng::with_seed(seed);
    let builder: Builder = Collector::builder().message_bytes_max(random.usize(0..2000));
    let mut client = Client::new(&builder);
    client.chunk = random.usize(1..400);
    for _ in 0..10 {
        let answer = answer(&mut random);
        builder.inbox().answer_next(answer);
    }
    let mut said = script(&mut random);
    if random.bool() {
        mutate(&mut random, &mut said);
    }
    client.send(&said);
    let mut egress = client.unread().len();
    for _ in 0..100 {
        client.advance(Duration::from_millis(1));
        egress += client.unread().len();
    }
    assert!(egress < 2 << 20, "seed {seed}: {egress} bytes");
    let fate = client.session.fate();
    client.disconnect();
    // The end is the end: nothing is due, nothing is said, nothing changes.
    assert_ne!(client.session.fate(), Fate::Open, "seed {seed}");
    assert_eq!(client.session.poll_timeout(), None, "seed {seed}");
    client.unread();
    let counters = builder.inbox().counters();
    client.send(b"POST /v1/traces HTTP/1.1\r\nhost: a\r\n\r\n");
    client.disconnect();
    client.advance(Duration::from_secs(100));
    assert_eq!(client.unread(), b"", "seed {seed}");
    assert_eq!(builder.inbox().counters(), counters, "seed {seed}");

    let requests = builder.inbox().requests();
    assert_eq!(requests.len() as u64, counters.requests, "seed {seed}");
    assert_eq!(builder.inbox().connections()[0].requests, counters.requests);
    assert!(!builder.inbox().connections()[0].is_open, "seed {seed}");
    let accepted = requests.iter().filter(|request| request.is_accepted()).count();
    assert_eq!(accepted as u64, counters.requests_accepted, "seed {seed}");
    let bytes: usize = requests.iter().map(|request| request.encoded_len).sum();
    assert_eq!(bytes as u64, counters.message_bytes, "seed {seed}");
    // Rejections that are no sense of a number never make more accepted than came.
    assert!(counters.spans_accepted <= counters.spans, "seed {seed}");
    (counters.requests, fate)
}

#[test]
fn any_client_and_any_answer_end_well() {
    let mut received = 0;
    let mut fates = [0; 3];
    for seed in 0..5_000 {
        let (requests, fate) = exchange(seed);
        received += requests;
        fates[fate as usize] += 1;
    }
    // Each of these is met often, or the seeds say nothing.
    assert!(received > 2_000, "{received} requests");
    assert!(fates.iter().all(|count| *count > 100), "{fates:?}");
}
