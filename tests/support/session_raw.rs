//! A session opposite frames written by hand.

use super::{Log, request};
use otlp_embed::Config;
use otlp_embed::protocol::{CallId, Connection, Failure, Session};
use otlp_embed::time::Instant;
use std::time::Duration;

/// A session opposite frames written by hand.
pub struct Raw<S = Session> {
    pub settings: otlp_embed::protocol::Settings,
    pub session: S,
    pub now: Instant,
    pub log: Log,
    /// Everything that the session transmitted.
    pub transmitted: Vec<u8>,
    /// How much of it the socket took.
    pub sent: usize,
    next_call: u64,
}

impl Raw {
    /// A session whose peer has said nothing yet.
    pub fn silent(config: Config) -> Self {
        Self::with_settings(config.settings().expect("settings that work"))
    }

    /// A session whose peer has sent its SETTINGS.
    pub fn new() -> Self {
        let mut raw = Self::silent(Config::new().with_protocol(otlp_embed::Protocol::Grpc));
        raw.input(&settings(&[]));
        raw.flush();
        raw
    }

    /// As [`silent`](Self::silent), with settings that were checked.
    pub fn with_settings(settings: otlp_embed::protocol::Settings) -> Self {
        Self::opened(settings)
    }
}

impl<S: Connection> Raw<S> {
    /// A connection of the kind `S` whose peer has sent its SETTINGS.
    pub fn of(checked: otlp_embed::protocol::Settings) -> Self {
        let mut raw = Self::opened(checked);
        raw.input(&settings(&[]));
        raw.flush();
        raw
    }

    fn opened(settings: otlp_embed::protocol::Settings) -> Self {
        let mut raw = Self {
            session: S::open(&settings.lanes[0], Instant::ZERO).expect("a session"),
            settings,
            now: Instant::ZERO,
            log: Log::default(),
            transmitted: Vec::new(),
            sent: 0,
            next_call: 0,
        };
        raw.flush();
        raw
    }

    /// Starts a call of `len` bytes and lets the socket take all of it.
    pub fn call(&mut self, len: usize) -> u64 {
        let call = self.start(len).expect("there is room");
        self.flush();
        call
    }

    /// Starts a call of `len` bytes; nothing is sent yet.
    pub fn start(&mut self, len: usize) -> Result<u64, Failure> {
        let call = self.next_call;
        let deadline = self.now + Duration::from_secs(10);
        self.session.start(
            self.now,
            CallId(call),
            &self.settings.outgoing(&request(len), deadline),
        )?;
        self.next_call += 1;
        self.collect();
        Ok(call)
    }

    /// The socket takes everything.
    pub fn flush(&mut self) {
        self.collect();
        while self.sent < self.transmitted.len() {
            self.take(usize::MAX);
        }
    }

    /// The socket takes at most `count` bytes.
    pub fn take(&mut self, count: usize) {
        self.collect();
        let count = count.min(self.transmitted.len() - self.sent);
        self.sent += count;
        self.session.handle_sent(self.now, count);
        self.collect();
    }

    /// The peer sends these bytes.
    pub fn input(&mut self, bytes: &[u8]) {
        self.session.handle_input(self.now, bytes);
        self.collect();
    }

    pub fn eof(&mut self, reason: &str) {
        self.session.handle_eof(self.now, reason);
        self.collect();
    }

    pub fn cancel(&mut self, call: u64) {
        self.session.cancel(self.now, CallId(call));
        self.collect();
    }

    /// Time passes, up to whatever is due.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        if self.session.poll_timeout().is_some_and(|at| at <= self.now) {
            self.session.handle_timeout(self.now);
        }
        self.collect();
    }

    /// The frames that the session transmitted: kind, flags, stream, payload.
    pub fn frames(&self) -> Vec<(u8, u8, u32, Vec<u8>)> {
        let mut rest = &self.transmitted[24..];
        let mut frames = Vec::new();
        while rest.len() >= 9 {
            let len = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
            let stream = u32::from_be_bytes([rest[5], rest[6], rest[7], rest[8]]);
            frames.push((rest[3], rest[4], stream, rest[9..9 + len].to_vec()));
            rest = &rest[9 + len..];
        }
        assert!(rest.is_empty(), "the outgoing stream ends between frames");
        frames
    }

    fn collect(&mut self) {
        while let Some(pieces) = self.session.poll_transmit() {
            for piece in pieces {
                self.transmitted.extend_from_slice(&piece);
            }
        }
        self.log.drain(&mut self.session);
    }
}

impl Default for Raw {
    fn default() -> Self {
        Self::new()
    }
}

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A SETTINGS frame.
pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in values {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(4, 0, 0, &payload)
}

/// A header block of literals that touch no table.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    let text = |block: &mut Vec<u8>, text: &str| {
        let len = text.len();
        if len < 127 {
            block.push(len as u8);
        } else {
            block.push(127);
            let mut left = len - 127;
            while left >= 128 {
                block.push((left % 128) as u8 | 0x80);
                left /= 128;
            }
            block.push(left as u8);
        }
        block.extend_from_slice(text.as_bytes());
    };
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// A HEADERS frame with a whole block; `ends` tells whether it ends the stream.
pub fn headers(stream: u32, fields: &[(&str, &str)], ends: bool) -> Vec<u8> {
    frame(1, 0x4 | u8::from(ends), stream, &block(fields))
}

/// The head of a gRPC answer.
pub fn head(stream: u32) -> Vec<u8> {
    headers(
        stream,
        &[(":status", "200"), ("content-type", "application/grpc")],
        false,
    )
}

/// A DATA frame.
pub fn data(stream: u32, payload: &[u8], ends: bool) -> Vec<u8> {
    frame(0, u8::from(ends), stream, payload)
}

/// Trailers with a status.
pub fn trailers(stream: u32, status: &str) -> Vec<u8> {
    headers(stream, &[("grpc-status", status)], true)
}

/// A whole answer of success.
pub fn success(stream: u32) -> Vec<u8> {
    [head(stream), data(stream, &[0; 5], false), trailers(stream, "0")].concat()
}

pub fn rst(stream: u32, code: u32) -> Vec<u8> {
    frame(3, 0, stream, &code.to_be_bytes())
}

pub fn goaway(last_stream: u32, code: u32, debug_data: &[u8]) -> Vec<u8> {
    let mut payload = last_stream.to_be_bytes().to_vec();
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(debug_data);
    frame(7, 0, 0, &payload)
}
