//! Arbitrary bytes from a peer, mixed with everything that an engine does to a session.
//!
//! Whatever comes, each call ends exactly once, what is held stays bounded, and the requests go out as they are.

use super::input::{Input, frame};
use bytes::Bytes;
use otlp_embed::encode::Signal;
use otlp_embed::protocol::{CallEnd, CallId, Connection, Event, Session};
use otlp_embed::time::Instant;
use otlp_embed::{Config, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Runs one session through the steps that `data` describes.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let config = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_endpoint("http://localhost:1");
    let mut settings = config.settings().expect("settings that work");
    if data.first().is_some_and(|byte| byte & 0x40 != 0) {
        settings.lanes[0].keepalive = Some(otlp_embed::Keepalive {
            interval: Duration::from_secs(3),
            timeout: Duration::from_secs(1),
            while_idle: data.len() % 2 == 0,
        });
    }
    let mut world = World {
        session: Session::open(&settings.lanes[0], Instant::ZERO).expect("a session"),
        settings,
        now: Instant::ZERO,
        open: BTreeSet::new(),
        sent: BTreeMap::new(),
        next_call: 0,
        transmitted: 0,
        taken: 0,
        is_closed: false,
        streams: BTreeMap::new(),
        given_up: BTreeSet::new(),
        outgoing: Outgoing::default(),
    };
    world.settle();
    while let Some(op) = input.byte() {
        world.step(op, &mut input);
        world.settle();
    }
    world.session.handle_eof(world.now, "the end");
    world.settle();
    assert!(world.is_closed, "the end of the connection is told");
    assert!(world.open.is_empty(), "every call has an end: {:?}", world.open);
    for stream in &world.given_up {
        assert!(
            !world.outgoing.ended.contains(stream),
            "told not to have gone out, yet ended later: {stream}"
        );
    }
    assert!(!world.session.can_start() && world.session.is_draining());
}

struct World {
    settings: otlp_embed::protocol::Settings,
    session: Session,
    now: Instant,
    /// Calls without an end.
    open: BTreeSet<u64>,
    /// Calls that were reported sent.
    sent: BTreeMap<u64, ()>,
    /// The stream of every call that began.
    streams: BTreeMap<u64, u32>,
    /// Streams whose requests were told not to have been handed out whole.
    given_up: BTreeSet<u32>,
    outgoing: Outgoing,
    next_call: u64,
    transmitted: usize,
    taken: usize,
    is_closed: bool,
}

impl World {
    fn step(&mut self, op: u8, input: &mut Input<'_>) {
        let argument = input.byte().unwrap_or(0);
        match op % 12 {
            0 | 1 => self.start(usize::from(argument) * if op % 12 == 0 { 1 } else { 600 }),
            2 => self.input(input.bytes(usize::from(argument))),
            3 => self.take(usize::from(argument) * 97),
            4 => self.take(usize::MAX),
            5 => {
                self.now = self.now + Duration::from_millis(u64::from(argument) * 10);
                self.session.handle_timeout(self.now);
                let due = self.session.poll_timeout();
                assert!(
                    due.is_none_or(|at| at > self.now),
                    "a deadline that passed is over"
                );
            }
            6 => {
                let call = u64::from(argument);
                self.session.cancel(self.now, CallId(call));
                self.open.remove(&call);
            }
            7 => self.session.handle_eof(self.now, "reset"),
            8 => self.input(&frame(4, 0, 0, input.bytes(usize::from(argument % 5) * 6))),
            9 => {
                let stream = u32::from(argument);
                let answer = [
                    // `:status 200`, then `grpc-status: 0` as a literal.
                    frame(1, 4, stream, &[0x88]),
                    frame(0, 0, stream, &[0; 5]),
                    frame(1, 5, stream, b"\x00\x0bgrpc-status\x010"),
                ];
                self.input(&answer.concat());
            }
            _ => {
                let kind = argument & 0xf;
                let flags = input.byte().unwrap_or(0);
                let stream = u32::from(input.byte().unwrap_or(0));
                let count = usize::from(input.byte().unwrap_or(0));
                let repeat = if op % 12 == 10 { 1 } else { 200 };
                self.input(&frame(kind, flags, stream, input.bytes(count)).repeat(repeat));
            }
        }
    }

    fn start(&mut self, len: usize) {
        let bytes = Bytes::from(vec![0x5a; len]);
        let request = Request::from_segments(Signal::Traces, 1, vec![bytes]);
        let can_start = self.session.can_start();
        let deadline = self.now + Duration::from_secs(2);
        let started = self.session.start(
            self.now,
            CallId(self.next_call),
            &self.settings.outgoing(&request, deadline),
        );
        assert_eq!(
            can_start,
            started.is_ok(),
            "a call begins where there is room: {started:?}"
        );
        if started.is_ok() {
            self.open.insert(self.next_call);
            let stream = 2 * u32::try_from(self.streams.len()).expect("few calls") + 1;
            self.streams.insert(self.next_call, stream);
        }
        self.next_call += 1;
    }

    fn input(&mut self, bytes: &[u8]) {
        self.session.handle_input(self.now, bytes);
    }

    fn take(&mut self, count: usize) {
        let count = count.min(self.transmitted - self.taken);
        self.taken += count;
        self.session.handle_sent(self.now, count);
    }

    fn settle(&mut self) {
        while let Some(pieces) = self.session.poll_transmit() {
            self.transmitted += pieces.iter().map(Bytes::len).sum::<usize>();
            pieces.iter().for_each(|piece| self.outgoing.read(piece));
        }
        let waiting = self.transmitted - self.taken;
        assert!(
            waiting < (1 << 20) + (1 << 17),
            "{waiting} bytes wait for the socket"
        );
        while let Some(event) = self.session.poll_event() {
            assert!(!self.is_closed, "nothing comes after the end: {event:?}");
            match event {
                Event::RequestSent(CallId(call)) => {
                    assert!(self.open.contains(&call), "sent after its end: {call}");
                    assert!(self.sent.insert(call, ()).is_none(), "sent twice: {call}");
                }
                Event::Ended(CallId(call), end) => {
                    assert!(self.open.remove(&call), "ended twice, or never begun: {call}");
                    let is_sent = self.sent.contains_key(&call);
                    let stream = self.streams[&call];
                    // What was handed out whole is in doubt, taken or not, and nothing else is.
                    let is_out = self.outgoing.ended.contains(&stream);
                    assert!(is_out || !is_sent, "sent without being handed out: {call}");
                    match end {
                        CallEnd::Unanswered(_) => assert!(is_out, "in doubt, yet never handed out: {call}"),
                        CallEnd::Expired { sent } => {
                            assert_eq!(sent, is_out, "{call}");
                            if !sent {
                                self.given_up.insert(stream);
                            }
                        }
                        CallEnd::Answered(_) | CallEnd::Unprocessed(_) => {}
                    }
                }
                Event::Draining(_) => assert!(self.session.is_draining()),
                Event::TooManyPings => assert!(self.settings.lanes[0].keepalive.is_some()),
                Event::Warned(what) | Event::Refused(what) => panic!("in plain text: {what}"),
                Event::Closed(_) => self.is_closed = true,
            }
        }
    }
}

/// Reads the frame heads of what goes out.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    is_after_preface: bool,
    /// Streams with a DATA frame that ends them.
    ended: BTreeSet<u32>,
}

impl Outgoing {
    fn read(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        if !self.is_after_preface && self.bytes.len() >= 24 {
            self.bytes.drain(..24);
            self.is_after_preface = true;
        }
        let mut at = 0;
        while let (true, Some(head)) = (self.is_after_preface, self.bytes.get(at..at + 9)) {
            let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            if self.bytes.len() < at + 9 + len {
                break;
            }
            if (head[3], head[4] & 1) == (0, 1) {
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                assert!(self.ended.insert(stream), "ended twice: {stream}");
            }
            at += 9 + len;
        }
        self.bytes.drain(..at);
    }
}
