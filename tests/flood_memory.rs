//! What a peer can make a connection hold (spec 52): the peak of its memory, whatever the peer sends.
//!
//! The figures are printed with `--nocapture`.

#[path = "support/http1.rs"]
mod http1;

use bytes::Bytes;
use http1::{Wire, answer};
use otlp_embed::protocol::{CallEnd, CallId, Connection, Event, Http2};
use otlp_embed::time::Instant;
use otlp_embed::{Compression, Config, Protocol, Request, Signal, coding};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

const MIB: usize = 1 << 20;

/// What one connection may hold beside what the test itself does: an answer as it came (its buffer grows by doubling), the
/// message that it decompresses to, and what reading that takes.
const PEAK_MAX: usize = 24 * MIB;

/// Bytes that a peer may send before it must have lost the connection or the call.
const SENT_MAX: usize = 64 * MIB;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Counts the bytes of each thread by itself.
struct Counting;

fn count(change: isize) {
    HELD.set(HELD.get() + change);
    PEAK.set(PEAK.get().max(HELD.get()));
}

#[allow(unsafe_code, reason = "a global allocator cannot be written without")]
// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        // Both may exist while bytes are moved.
        count(len as isize);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`.
        let moved = unsafe { System.realloc(memory, layout, len) };
        count(-(layout.size() as isize));
        moved
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most bytes that were held in `work` beside those held before it.
fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (usize::try_from(PEAK.get() - before).unwrap_or(0), result)
}

/// What a peer says: `start`, then `more` again and again.
struct Flood {
    name: &'static str,
    start: Vec<u8>,
    more: Vec<u8>,
}

fn flood(name: &'static str, start: impl Into<Vec<u8>>, more: impl Into<Vec<u8>>) -> Flood {
    Flood {
        name,
        start: start.into(),
        more: more.into(),
    }
}

/// 256 MiB of nothing.
fn bomb(coding: &str) -> Vec<u8> {
    if coding == "gzip" {
        return coding_of(coding, &vec![0; MIB]).repeat(256);
    }
    // A frame with a window of 2 MiB and blocks of 128 KiB that repeat one byte (RFC 8878, section 3.1.1).
    let block = |is_last: u32| (is_last | 1 << 1 | (128 << 10) << 3).to_le_bytes();
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x58];
    for at in 1..=2_048 {
        frame.extend_from_slice(&block(u32::from(at == 2_048))[..3]);
        frame.push(0);
    }
    frame
}

/// A `google.rpc.Status` of nothing but empty details: two bytes each, many more once it is parsed.
fn hollow_details(len: usize) -> Vec<u8> {
    [0x1a, 0].repeat(len / 2)
}

fn http1_floods() -> Vec<Flood> {
    let ok = "HTTP/1.1 200 OK\r\n";
    let chunked = format!("{ok}transfer-encoding: chunked\r\n\r\n");
    let proto = "content-type: application/x-protobuf\r\n";
    let json = "content-type: application/json\r\n";
    let mut floods = vec![
        flood("endless status line", "HTTP/1.1 200 ", [b'x'; 4_096]),
        flood("endless header", format!("{ok}x: "), [b'x'; 4_096]),
        flood("endless headers", ok, "a: b\r\n".repeat(500)),
        flood(
            "endless interim answers",
            "",
            "HTTP/1.1 100 Continue\r\n\r\n".repeat(100),
        ),
        flood("endless body", format!("{ok}\r\n"), [b'x'; 4_096]),
        flood("endless chunks", &*chunked, "1\r\nx\r\n".repeat(500)),
        flood("endless chunk extension", format!("{chunked}1;"), [b'x'; 4_096]),
        flood("endless chunk extensions", &*chunked, "1;x\r\nx\r\n".repeat(500)),
        flood(
            "endless trailers",
            format!("{chunked}0\r\n"),
            "a: b\r\n".repeat(500),
        ),
        flood(
            "announced too long",
            format!("{ok}content-length: 9999999999\r\n\r\n"),
            "x",
        ),
        flood(
            "hollow details",
            answer("400 x", proto, &hollow_details(4 * MIB)),
            "",
        ),
        flood(
            "hollow details, retryable",
            answer("503 x", proto, &hollow_details(4 * MIB)),
            "",
        ),
        flood(
            "JSON of brackets",
            answer("400 x", json, &b"[".repeat(4 * MIB)),
            "",
        ),
        flood(
            "JSON of zeros",
            answer("400 x", json, format!("[{}0]", "0,".repeat(MIB)).as_bytes()),
            "",
        ),
        flood(
            "JSON of zeros, shorter",
            answer("400 x", json, format!("[{}0]", "0,".repeat(120 << 10)).as_bytes()),
            "",
        ),
    ];
    for coding in ["gzip", "zstd"] {
        let bomb = bomb(coding);
        for (status, form) in [("200 OK", proto), ("400 x", json)] {
            let fields = format!("{form}content-encoding: {coding}\r\n");
            floods.push(flood("bomb", answer(status, &fields, &bomb), ""));
        }
        let hollow = coding_of(coding, &hollow_details(4 * MIB));
        let fields = format!("{proto}content-encoding: {coding}\r\n");
        floods.push(flood(
            "hollow details, compressed",
            answer("400 x", &fields, &hollow),
            "",
        ));
    }
    floods
}

fn coding_of(coding: &str, message: &[u8]) -> Vec<u8> {
    let compression = match coding {
        "gzip" => Compression::Gzip,
        _ => Compression::Zstd,
    };
    let request = Request::from_segments(Signal::Traces, 1, vec![Bytes::copy_from_slice(message)]);
    let compressed = coding::compress(compression, request.body());
    compressed.segments().concat()
}

#[test]
fn http1_holds_little_whatever_the_peer_sends() {
    for Flood { name, start, more } in http1_floods() {
        let mut wire = Wire::new();
        let call = wire.call(10);
        let (peak, sent) = peak(|| {
            let mut sent = 0;
            for piece in start.chunks(16 << 10) {
                if wire.ends.is_empty() {
                    wire.input(piece);
                    sent += piece.len();
                }
            }
            while wire.ends.is_empty() {
                assert!(sent < SENT_MAX, "spec 52: {name}: {sent} bytes and no end");
                wire.input(&more);
                sent += more.len();
            }
            sent
        });
        println!(
            "http/1.1, {name}: {peak} bytes held at most, {sent} sent, {}",
            kind(wire.end(call))
        );
        assert!(peak < PEAK_MAX, "spec 52: {name}: {peak} bytes held");
    }
}

fn kind(end: &CallEnd) -> &'static str {
    match end {
        CallEnd::Answered(_) => "answered",
        CallEnd::Unprocessed(_) => "unprocessed",
        CallEnd::Unanswered(_) => "unanswered",
        CallEnd::Expired { .. } => "expired",
    }
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field of a head that is not indexed, named and valued in full.
fn literal(name: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x00, name.len() as u8];
    bytes.extend_from_slice(name.as_bytes());
    if value.len() < 127 {
        bytes.push(value.len() as u8);
    } else {
        bytes.push(0x7f);
        let mut rest = value.len() - 127;
        while rest >= 128 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    bytes.extend_from_slice(value);
    bytes
}

fn http2_floods(is_grpc: bool) -> Vec<Flood> {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const END_HEADERS: u8 = 4;
    let settings = frame(4, 0, 0, &[]);
    let content_type = if is_grpc {
        "application/grpc"
    } else {
        "application/x-protobuf"
    };
    let head = [&[0x88][..], &literal("content-type", content_type.as_bytes())].concat();
    let begun = [&*settings, &frame(HEADERS, END_HEADERS, 1, &head)].concat();
    let message = if is_grpc {
        frame(DATA, 0, 1, &[0, 0, 0x3f, 0xff, 0xff])
    } else {
        Vec::new()
    };
    let interim = [0x08, 3, b'1', b'0', b'3'];
    // One field in the table, named by one byte again and again.
    let mut table = vec![0x40, 1, b'x', 0x7f, 0x81, 0x1e];
    table.extend([b'v'; 4_000]);
    let indexed = [&table[..], &[0xbe; 10_000]].concat();
    let large = literal("x", &[b'v'; 16_000]);
    let mut floods = vec![
        flood(
            "endless body",
            [&*begun, &message].concat(),
            frame(DATA, 0, 1, &[b'x'; 16_000]),
        ),
        flood(
            "endless small frames",
            &*begun,
            frame(DATA, 0, 1, b"x").repeat(100),
        ),
        flood(
            "endless empty frames",
            &*begun,
            frame(DATA, 0, 1, b"").repeat(100),
        ),
        flood(
            "endless padding",
            &*begun,
            frame(DATA, 8, 1, &[255; 256]).repeat(10),
        ),
        flood("pings", &*settings, frame(6, 0, 0, &[0; 8]).repeat(100)),
        flood("settings", &*settings, frame(4, 0, 0, &[]).repeat(100)),
        flood(
            "interim answers",
            &*settings,
            frame(HEADERS, END_HEADERS, 1, &interim).repeat(100),
        ),
        flood(
            "endless head",
            [&*settings, &frame(HEADERS, 0, 1, &large[..16_000])].concat(),
            frame(9, 0, 1, &large[..16_000]),
        ),
        flood(
            "endless empty continuations",
            [&*settings, &frame(HEADERS, 0, 1, &[0x88])].concat(),
            frame(9, 0, 1, &[]).repeat(100),
        ),
        flood(
            "a bomb of header compression",
            &*settings,
            frame(HEADERS, END_HEADERS, 1, &indexed),
        ),
        flood("unknown frames", &*settings, frame(0xfa, 0, 0, &[0; 16_000])),
        flood(
            "goaways",
            &*settings,
            frame(7, 0, 0, &[[0x7f, 255, 255, 255], [0; 4]].concat()).repeat(100),
        ),
    ];
    for coding in ["gzip", "zstd"] {
        let name = if is_grpc {
            "grpc-encoding"
        } else {
            "content-encoding"
        };
        let head = [&*head, &literal(name, coding.as_bytes())].concat();
        let mut bytes = [&*settings, &frame(HEADERS, END_HEADERS, 1, &head)].concat();
        let mut body = bomb(coding);
        if is_grpc {
            let len = (body.len() as u32).to_be_bytes();
            body = [&[1], &len[..], &body].concat();
        }
        for piece in body.chunks(16 << 10) {
            bytes.extend(frame(DATA, 0, 1, piece));
        }
        // Trailers that say success.
        let trailers = literal("grpc-status", b"0");
        bytes.extend(frame(HEADERS, END_HEADERS | 1, 1, &trailers));
        floods.push(flood("bomb", bytes, ""));
    }
    floods
}

/// Feeds floods to a call over HTTP/2; the socket takes what the session says.
fn http2_holds_little(is_grpc: bool) {
    let protocol = if is_grpc {
        Protocol::Grpc
    } else {
        Protocol::HttpProtobuf
    };
    let settings = Config::new()
        .with_protocol(protocol)
        .settings()
        .expect("settings that work");
    for Flood { name, start, more } in http2_floods(is_grpc) {
        let mut session = Http2::open(&settings.lanes[0], Instant::ZERO).expect("a session");
        let request = http1::request(10);
        let outgoing = settings.outgoing(&request, Instant::ZERO + Duration::from_secs(10));
        session
            .start(Instant::ZERO, CallId(1), &outgoing)
            .expect("there is room");
        assert!(drain(&mut session).is_none());
        let (peak, (sent, end)) = peak(|| {
            let mut sent = 0;
            let mut pieces = start.chunks(16 << 10);
            loop {
                let piece = pieces.next().unwrap_or(&more);
                assert!(sent < SENT_MAX, "spec 52: {name}: {sent} bytes and no end");
                session.handle_input(Instant::ZERO, piece);
                sent += piece.len();
                if let Some(end) = drain(&mut session) {
                    return (sent, end);
                }
            }
        });
        println!(
            "http/2, grpc {is_grpc}, {name}: {peak} bytes held at most, {sent} sent, {}",
            kind(&end)
        );
        assert!(peak < PEAK_MAX, "spec 52: {name}: {peak} bytes held");
        assert!(
            !matches!(end, CallEnd::Expired { .. }),
            "spec 52: {name}: {end:?}"
        );
    }
}

/// Lets the socket take everything; how the call ended, once it has.
fn drain(session: &mut Http2) -> Option<CallEnd> {
    while let Some(pieces) = session.poll_transmit() {
        session.handle_sent(Instant::ZERO, pieces.iter().map(Bytes::len).sum());
    }
    let mut ended = None;
    while let Some(event) = session.poll_event() {
        if let Event::Ended(_, end) = event {
            ended = Some(end);
        }
    }
    ended
}

#[test]
fn grpc_holds_little_whatever_the_peer_sends() {
    http2_holds_little(true);
}

#[test]
fn otlp_over_http2_holds_little_whatever_the_peer_sends() {
    http2_holds_little(false);
}
