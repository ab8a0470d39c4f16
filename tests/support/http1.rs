//! A session of HTTP/1.1 opposite bytes written by hand, on a virtual clock.
#![allow(dead_code, reason = "each test uses its own part")]

use bytes::Bytes;
use otlp_embed::encode::Signal;
use otlp_embed::protocol::{Answer, CallEnd, CallId, Connection, Event, Failure, Session, Settings};
use otlp_embed::time::Instant;
use otlp_embed::{Config, Protocol, Request};
use std::collections::BTreeMap;
use std::time::Duration;

/// A session and what it said.
pub struct Wire {
    pub settings: Settings,
    pub session: Session,
    pub now: Instant,
    pub ends: BTreeMap<u64, CallEnd>,
    pub sent_calls: Vec<u64>,
    pub draining: Vec<String>,
    pub closed: Vec<String>,
    /// Everything that the session transmitted.
    pub transmitted: Vec<u8>,
    /// How much of it the socket took.
    pub taken: usize,
    next_call: u64,
}

pub fn config() -> Config {
    Config::new()
        .with_protocol(Protocol::HttpProtobuf)
        .with_endpoint("http://collector.example:4318")
}

/// A request of `len` bytes that carries ten items, in segments of uneven lengths.
pub fn request(len: usize) -> Request {
    let mut rest = Bytes::from((0..len).map(|at| at as u8).collect::<Vec<u8>>());
    let mut segments = Vec::new();
    let mut size = 1;
    while !rest.is_empty() {
        segments.push(rest.split_to(size.min(rest.len())));
        size = size * 3 + 1;
    }
    Request::from_segments(Signal::Traces, 10, segments)
}

/// A success with an empty body.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";

/// An answer of that status line and those fields, with a body of known length.
pub fn answer(status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 {status}\r\n{fields}content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}

impl Wire {
    pub fn new() -> Self {
        Self::with(config().settings().expect("settings that work"))
    }

    pub fn with(settings: Settings) -> Self {
        Self {
            session: Session::open(&settings.lanes[0], Instant::ZERO).expect("a session"),
            settings,
            now: Instant::from_millis(1),
            ends: BTreeMap::new(),
            sent_calls: Vec::new(),
            draining: Vec::new(),
            closed: Vec::new(),
            transmitted: Vec::new(),
            taken: 0,
            next_call: 0,
        }
    }

    /// Starts a call of `len` bytes that has ten seconds; nothing is sent yet.
    pub fn start(&mut self, len: usize) -> Result<u64, Failure> {
        self.start_request(&request(len))
    }

    pub fn start_request(&mut self, request: &Request) -> Result<u64, Failure> {
        self.start_with(request, &[])
    }

    pub fn start_with(
        &mut self,
        request: &Request,
        credentials: &[(String, String)],
    ) -> Result<u64, Failure> {
        let call = self.next_call;
        let mut outgoing = self
            .settings
            .outgoing(request, self.now + Duration::from_secs(10));
        outgoing.credentials = credentials;
        self.session.start(self.now, CallId(call), &outgoing)?;
        self.next_call += 1;
        self.collect();
        Ok(call)
    }

    /// Starts a call of `len` bytes and lets the socket take all of it.
    pub fn call(&mut self, len: usize) -> u64 {
        let call = self.start(len).expect("there is room");
        self.flush();
        call
    }

    /// The socket takes everything.
    pub fn flush(&mut self) {
        while self.taken < self.transmitted.len() {
            self.take(usize::MAX);
        }
    }

    /// The socket takes at most `count` bytes.
    pub fn take(&mut self, count: usize) {
        let count = count.min(self.transmitted.len() - self.taken);
        self.taken += count;
        self.session.handle_sent(self.now, count);
        self.collect();
    }

    /// The peer sends these bytes.
    pub fn input(&mut self, bytes: &[u8]) {
        self.session.handle_input(self.now, bytes);
        self.collect();
    }

    /// The peer sends these bytes, cut anywhere.
    pub fn input_cut(&mut self, bytes: &[u8], random: &mut fastrand::Rng) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = match random.u8(0..4) {
                0 => 1,
                1 => rest.len(),
                _ => random.usize(1..=rest.len().min(40)),
            };
            self.input(&rest[..count]);
            rest = &rest[count..];
        }
    }

    pub fn eof(&mut self, reason: &str) {
        self.session.handle_eof(self.now, reason);
        self.collect();
    }

    pub fn cancel(&mut self, call: u64) -> bool {
        let may_arrive = self.session.cancel(self.now, CallId(call));
        self.collect();
        may_arrive
    }

    /// Time passes, up to whatever is due.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        if self.session.poll_timeout().is_some_and(|at| at <= self.now) {
            self.session.handle_timeout(self.now);
        }
        self.collect();
    }

    pub fn end(&self, call: u64) -> &CallEnd {
        let end = self.ends.get(&call);
        end.unwrap_or_else(|| panic!("call {call} has no end: {:?}", self.closed))
    }

    pub fn answer(&self, call: u64) -> &Answer {
        match self.end(call) {
            CallEnd::Answered(answer) => answer,
            other => panic!("call {call} has no answer: {other:?}"),
        }
    }

    /// The head and the body of the one request that was transmitted since the last time.
    pub fn take_request(&mut self) -> (String, Vec<u8>) {
        self.flush();
        let bytes = std::mem::take(&mut self.transmitted);
        self.taken = 0;
        split_head(&bytes)
    }

    fn collect(&mut self) {
        while let Some(pieces) = self.session.poll_transmit() {
            assert!(
                pieces.iter().all(|piece| !piece.is_empty()),
                "a piece without bytes"
            );
            pieces
                .iter()
                .for_each(|piece| self.transmitted.extend_from_slice(piece));
        }
        while let Some(event) = self.session.poll_event() {
            assert!(self.closed.is_empty(), "nothing comes after the end: {event:?}");
            match event {
                Event::RequestSent(call) => {
                    assert!(!self.ends.contains_key(&call.0), "sent after its end: {call:?}");
                    assert!(!self.sent_calls.contains(&call.0), "sent twice: {call:?}");
                    self.sent_calls.push(call.0);
                }
                Event::Ended(call, end) => {
                    let earlier = self.ends.insert(call.0, end);
                    assert!(earlier.is_none(), "ended twice: {call:?}");
                }
                Event::Draining(why) => {
                    assert!(self.draining.is_empty(), "a connection drains once");
                    self.draining.push(why);
                }
                Event::Closed(why) => self.closed.push(why),
                other => panic!("HTTP/1.1 in plain text says nothing else: {other:?}"),
            }
        }
    }
}

impl Default for Wire {
    fn default() -> Self {
        Self::new()
    }
}

/// A request, taken apart at the end of its head.
pub fn split_head(bytes: &[u8]) -> (String, Vec<u8>) {
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a whole head");
    let head = String::from_utf8(bytes[..end + 4].to_vec()).expect("a head is ASCII");
    (head, bytes[end + 4..].to_vec())
}
