//! Arbitrary bytes from a server, mixed with everything that an engine does to a session of HTTP/1.1.
//!
//! Whatever comes, each call ends exactly once, nothing comes after the end of the connection, what is held stays bounded,
//! the requests go out as they are, and what is told about a request that may have arrived is true.

use super::input::Input;
use bytes::Bytes;
use otlp_embed::encode::Signal;
use otlp_embed::protocol::{CallEnd, CallId, Connection, Event, Session, Settings};
use otlp_embed::time::Instant;
use otlp_embed::{Config, Protocol, Request};
use std::time::Duration;

/// Bytes that may wait for the socket.
const WAITING_MAX: usize = 1 << 20;

/// What servers say, for the fuzzer to put together.
const PHRASES: [&[u8]; 32] = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 503 Service Unavailable\r\n",
    b"HTTP/1.1 400 Bad Request\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 204 No Content\r\n",
    b"HTTP/1.1 408 Request Timeout\r\n",
    b"HTTP/1.1 301 Moved\r\nlocation: https://other/\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"content-length: 0\r\n\r\n",
    b"content-length: 9\r\n",
    b"content-length: 18446744073709551615\r\n",
    b"transfer-encoding: chunked\r\n",
    b"connection: close\r\n",
    b"connection: keep-alive\r\n",
    b"keep-alive: timeout=1\r\n",
    b"content-type: application/json\r\n",
    b"content-type: text/html\r\n",
    b"content-encoding: gzip\r\n",
    b"content-encoding: zstd\r\n",
    b"retry-after: 5\r\n",
    b"retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\ndate: Sun, 06 Nov 1994 08:49:30 GMT\r\n",
    b"\r\n",
    b"\n",
    b"\x0a\x07\x08\x03\x12\x03old",
    b"9\r\n\x0a\x07\x08\x03\x12\x03old\r\n",
    b"0\r\n\r\n",
    b"0;x=y\r\ntrailer: z\r\n\r\n",
    b"{\"partialSuccess\":{\"rejectedSpans\":\"3\"}}",
    b"{\"message\":\"no\",\"details\":[{\"@type\":\"x/google.rpc.RetryInfo\",\"retryDelay\":\"3s\"}]}",
    b"\x00\x00\x06\x04\x00\x00\x00\x00\x00",
    b"\x15\x03\x01\x00\x02\x02\x46",
];

/// Runs one session through the steps that `data` describes.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut settings = Config::new()
        .with_protocol(Protocol::HttpProtobuf)
        .with_endpoint("http://localhost:1")
        .settings()
        .expect("settings that work");
    settings.lanes[0].response_bytes_max = 10_000;
    let mut world = World {
        session: Session::open(&settings.lanes[0], Instant::ZERO).expect("a session"),
        settings,
        now: Instant::ZERO,
        call: None,
        next_call: 0,
        transmitted: 0,
        taken: 0,
        is_gone: false,
        is_closed: false,
    };
    world.settle();
    while let Some(op) = input.byte() {
        world.step(op, &mut input);
        world.settle();
    }
    world.is_gone = true;
    world.session.handle_eof(world.now, "the end");
    world.settle();
    assert!(world.is_closed, "the end of the connection is told");
    assert!(world.call.is_none(), "every call has an end");
    assert!(!world.session.can_start() && world.session.is_draining());
    assert!(
        world.session.poll_timeout().is_none(),
        "nothing is left to wait for"
    );
}

struct World {
    settings: Settings,
    session: Session,
    now: Instant,
    /// The call that has no end yet.
    call: Option<Call>,
    next_call: u64,
    transmitted: usize,
    taken: usize,
    /// The socket takes nothing more.
    is_gone: bool,
    is_closed: bool,
}

/// A call as its bytes show it.
struct Call {
    id: u64,
    body_len: usize,
    /// Its bytes so far, up to the end of the head.
    head: Vec<u8>,
    has_head: bool,
    /// Bytes of it that went out.
    out: usize,
    /// Its length in bytes, once its head tells.
    len: Option<usize>,
    /// Where it ends in the outgoing stream.
    begin: usize,
    is_sent: bool,
}

impl Call {
    fn is_out(&self) -> bool {
        self.len == Some(self.out)
    }

    fn write(&mut self, piece: &[u8]) {
        self.out += piece.len();
        if !self.has_head {
            self.head.extend_from_slice(piece);
            if let Some(end) = self.head.windows(4).position(|at| at == b"\r\n\r\n") {
                self.has_head = true;
                let head = std::str::from_utf8(&self.head[..end]).expect("a head is ASCII");
                assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
                assert!(
                    head.ends_with(&format!("content-length: {}", self.body_len)),
                    "{head}"
                );
                self.len = Some(end + 4 + self.body_len);
            }
        } else {
            assert!(
                piece.iter().all(|byte| *byte == 0x5a),
                "the body goes out as it is"
            );
        }
        assert!(
            self.len.is_none_or(|len| self.out <= len),
            "more goes out than there is"
        );
    }
}

impl World {
    fn step(&mut self, op: u8, input: &mut Input<'_>) {
        let argument = input.byte().unwrap_or(0);
        let count = usize::from(argument);
        match op % 12 {
            0 => self.start(count),
            1 => self.start(count * 9_000),
            2 => self.input(input.bytes(count)),
            3 => self.take(count * 97),
            4 => self.take(usize::MAX),
            5 => {
                self.now = self.now + Duration::from_millis(u64::from(argument) * 10);
                self.session.handle_timeout(self.now);
                let due = self.session.poll_timeout();
                assert!(due.is_none_or(|at| at > self.now), "what was due is done");
            }
            6 => self.cancel(),
            7 => {
                self.is_gone = true;
                self.session.handle_eof(self.now, "reset");
            }
            8 => self.input(&PHRASES[count % PHRASES.len()].repeat(200)),
            9 => {
                for byte in PHRASES[count % PHRASES.len()] {
                    self.input(&[*byte]);
                }
            }
            _ => self.input(PHRASES[count % PHRASES.len()]),
        }
    }

    fn start(&mut self, len: usize) {
        let request = Request::from_segments(Signal::Traces, 5, vec![Bytes::from(vec![0x5a; len])]);
        let can_start = self.session.can_start();
        assert!(!can_start || self.call.is_none(), "one call at a time");
        let due = self.session.poll_timeout();
        let deadline = self.now + Duration::from_secs(2);
        let id = self.next_call;
        self.next_call += 1;
        let outgoing = self.settings.outgoing(&request, deadline);
        let started = self.session.start(self.now, CallId(id), &outgoing);
        let is_late = due.is_some_and(|at| at <= self.now);
        assert_eq!(
            can_start && !is_late,
            started.is_ok(),
            "a call begins where there is room: {started:?}"
        );
        if started.is_ok() {
            self.call = Some(Call {
                id,
                body_len: len,
                head: Vec::new(),
                has_head: false,
                out: 0,
                len: None,
                begin: self.transmitted,
                is_sent: false,
            });
        }
    }

    fn cancel(&mut self) {
        assert!(!self.session.cancel(self.now, CallId(u64::MAX)), "no such call");
        if let Some(call) = self.call.take() {
            let may_arrive = self.session.cancel(self.now, CallId(call.id));
            assert_eq!(may_arrive, call.is_out(), "what is with the socket may arrive");
        }
    }

    fn input(&mut self, bytes: &[u8]) {
        self.session.handle_input(self.now, bytes);
    }

    fn take(&mut self, count: usize) {
        if !self.is_gone {
            let count = count.min(self.transmitted - self.taken);
            self.taken += count;
            self.session.handle_sent(self.now, count);
        }
    }

    fn settle(&mut self) {
        while let Some(pieces) = self.session.poll_transmit() {
            assert!(!self.is_closed, "bytes after the end");
            let call = self.call.as_mut().expect("bytes belong to a call");
            for piece in &pieces {
                assert!(!piece.is_empty());
                self.transmitted += piece.len();
                call.write(piece);
            }
        }
        assert!(
            self.transmitted - self.taken <= WAITING_MAX,
            "too much waits for the socket"
        );
        while let Some(event) = self.session.poll_event() {
            assert!(!self.is_closed, "nothing comes after the end: {event:?}");
            match event {
                Event::RequestSent(CallId(id)) => {
                    let call = self.call.as_mut().expect("sent before its end");
                    assert!(call.id == id && !call.is_sent && call.is_out());
                    assert_eq!(self.taken, call.begin + call.out, "the socket took all of it");
                    call.is_sent = true;
                }
                Event::Ended(CallId(id), end) => {
                    let call = self.call.take().expect("ended once");
                    assert_eq!(call.id, id);
                    // What the socket holds may still arrive, unless the socket is gone.
                    let may_arrive = call.is_sent || (call.is_out() && !self.is_gone);
                    match end {
                        CallEnd::Unanswered(_) => {
                            assert!(may_arrive || call.is_out(), "in doubt, yet not handed out")
                        }
                        CallEnd::Expired { sent } => assert_eq!(sent, may_arrive),
                        CallEnd::Answered(answer) => {
                            assert!(answer.rejected <= 5, "more refused than sent");
                            assert!(answer.message.len() < 10_000 && answer.is_http);
                        }
                        CallEnd::Unprocessed(_) => {}
                    }
                }
                Event::Draining(_) => assert!(self.session.is_draining()),
                Event::Closed(_) => self.is_closed = true,
                other => panic!("HTTP/1.1 in plain text says nothing else: {other:?}"),
            }
        }
        if self.is_closed {
            assert!(self.session.is_draining() && !self.session.can_start());
            assert!(
                self.call.is_none(),
                "every call has its end before the connection has"
            );
        }
    }
}
