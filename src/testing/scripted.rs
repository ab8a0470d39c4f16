//! A protocol without a wire format to speak of, so that a test or a fuzzer can say what the peer does.
//!
//! The peer's bytes are [`Command`]s of a fixed length, the exporter's bytes [`Frame`]s. Nothing is random and every
//! sequence of bytes has a meaning; what the peer may not say ends the connection.

use crate::code::Code;
use crate::config::Lane;
use crate::protocol::{Answer, CallEnd, CallId, Connection, Event, Failure, Outgoing, sealed};
use crate::time::Instant;
use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

/// Calls at a time until the peer sets another limit.
const CALLS_MAX: u32 = 100;

/// One connection of the scripted protocol.
///
/// The headers of the configuration stand in for what a real protocol negotiates: `scripted-limit` is the number of
/// calls at a time before the peer says otherwise, of which none stands for a handshake that is not done, `scripted-serial`
/// makes a connection that carries one call after the other, `scripted-lazy` leaves deadlines to the engine, `scripted-mute` ends a
/// connection without a word about its calls, and `scripted-open` makes opening fail with its value as the reason.
pub struct Scripted {
    limit: u32,
    is_serial: bool,
    is_lazy: bool,
    is_mute: bool,
    /// Calls by their number on this connection.
    calls: BTreeMap<u16, Call>,
    next: u16,
    held: bool,
    state: State,
    input: Vec<u8>,
    output: VecDeque<Vec<Bytes>>,
    events: VecDeque<Event>,
    /// Bytes that went to the socket queue, and that it took, ever.
    queued: u64,
    sent: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Draining,
    Closed,
}

struct Call {
    id: CallId,
    deadline: Instant,
    /// What the peer's flow control keeps back.
    unsent: Option<Vec<Bytes>>,
    /// The length of its request.
    len: usize,
    /// Where the request ends in the bytes of the connection.
    end: u64,
    is_sent: bool,
}

/// What the peer says. A call is named by the number in its [`Frame::Call`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Answers a call.
    Answer {
        /// The call.
        call: u16,
        /// The status.
        code: u8,
        /// Items refused in a partial success.
        rejected: u32,
        /// The wait asked for, in milliseconds; 0 for none.
        retry_after_ms: u32,
    },
    /// Refuses a call for its size, in the words of grpc-go.
    TooLarge {
        /// The call.
        call: u16,
        /// The largest size that it takes; 0 names none.
        max: u32,
    },
    /// Refuses a call: it was not processed.
    Refuse {
        /// The call.
        call: u16,
        /// Whether it may be repeated.
        is_retryable: bool,
    },
    /// Resets a call without an answer: it may have been processed if it was sent whole.
    Reset {
        /// The call.
        call: u16,
        /// Whether it may be repeated.
        is_retryable: bool,
    },
    /// Sets the number of calls at a time.
    Limit(u32),
    /// Drains the connection. Calls from this number on were not processed.
    Drain(u16),
    /// Ends the connection and every call on it.
    Die,
    /// Takes no further request bytes for now.
    Hold,
    /// Takes request bytes again.
    Go,
}

/// What the exporter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A call, with this number on its connection and so many bytes of request after the frame.
    Call(u16, u32),
    /// A call is cancelled.
    Cancel(u16),
    /// The credentials of the call that follows, with so many bytes of text after the frame: `name=value` in lines.
    Credentials(u16, u32),
}

impl Command {
    /// The length of every command.
    pub const LEN: usize = 12;

    /// The command's bytes: kind, argument, call (2), and two numbers of 4 bytes, all little-endian.
    pub fn encode(self) -> [u8; Self::LEN] {
        let (kind, arg, call, a, b) = match self {
            Self::Answer {
                call,
                code,
                rejected,
                retry_after_ms,
            } => (b'A', code, call, rejected, retry_after_ms),
            Self::TooLarge { call, max } => (b'T', 0, call, max, 0),
            Self::Refuse { call, is_retryable } => (b'R', u8::from(is_retryable), call, 0, 0),
            Self::Reset { call, is_retryable } => (b'X', u8::from(is_retryable), call, 0, 0),
            Self::Limit(limit) => (b'L', 0, 0, limit, 0),
            Self::Drain(call) => (b'D', 0, call, 0, 0),
            Self::Die => (b'K', 0, 0, 0, 0),
            Self::Hold => (b'H', 0, 0, 0, 0),
            Self::Go => (b'G', 0, 0, 0, 0),
        };
        let mut bytes = [kind, arg, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[2..4].copy_from_slice(&call.to_le_bytes());
        bytes[4..8].copy_from_slice(&a.to_le_bytes());
        bytes[8..].copy_from_slice(&b.to_le_bytes());
        bytes
    }

    /// A success without reservations.
    pub fn ok(call: u16) -> Self {
        Self::status(call, Code::OK)
    }

    /// An answer with a status and nothing else.
    pub fn status(call: u16, code: Code) -> Self {
        Self::Answer {
            call,
            code: u8::try_from(code.as_u32()).unwrap_or(u8::MAX),
            rejected: 0,
            retry_after_ms: 0,
        }
    }

    fn decode(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let [kind, arg, call_low, call_high, a0, a1, a2, a3, b0, b1, b2, b3] = *bytes;
        let call = u16::from_le_bytes([call_low, call_high]);
        let a = u32::from_le_bytes([a0, a1, a2, a3]);
        let retry_after_ms = u32::from_le_bytes([b0, b1, b2, b3]);
        Some(match kind {
            b'A' => Self::Answer {
                call,
                code: arg,
                rejected: a,
                retry_after_ms,
            },
            b'T' => Self::TooLarge { call, max: a },
            b'R' => Self::Refuse {
                call,
                is_retryable: arg != 0,
            },
            b'X' => Self::Reset {
                call,
                is_retryable: arg != 0,
            },
            b'L' => Self::Limit(a),
            b'D' => Self::Drain(call),
            b'K' => Self::Die,
            b'H' => Self::Hold,
            b'G' => Self::Go,
            _ => return None,
        })
    }
}

impl Frame {
    /// The length of a frame, without the request after it.
    pub const LEN: usize = 7;

    /// The frame at the head of `bytes`, where a whole one stands there.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let &[kind, low, high, a, b, c, d] = bytes.first_chunk::<{ Self::LEN }>()?;
        let call = u16::from_le_bytes([low, high]);
        match kind {
            b'C' => Some(Self::Call(call, u32::from_le_bytes([a, b, c, d]))),
            b'X' => Some(Self::Cancel(call)),
            b'H' => Some(Self::Credentials(call, u32::from_le_bytes([a, b, c, d]))),
            _ => None,
        }
    }

    fn encode(self) -> Bytes {
        let (kind, call, len) = match self {
            Self::Call(call, len) => (b'C', call, len),
            Self::Cancel(call) => (b'X', call, 0),
            Self::Credentials(call, len) => (b'H', call, len),
        };
        let mut bytes = vec![kind];
        bytes.extend(call.to_le_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.into()
    }
}

impl sealed::Sealed for Scripted {}

impl Connection for Scripted {
    fn open(lane: &Lane, _: Instant) -> Result<Self, String> {
        let header = |name: &str| {
            let mut headers = lane.headers.iter();
            headers.find_map(|(key, value)| (key == name).then_some(value))
        };
        if let Some(why) = header("scripted-open") {
            return Err(why.clone());
        }
        Ok(Self {
            limit: header("scripted-limit").map_or(CALLS_MAX, |limit| limit.parse().unwrap_or(CALLS_MAX)),
            is_serial: header("scripted-serial").is_some(),
            is_lazy: header("scripted-lazy").is_some(),
            is_mute: header("scripted-mute").is_some(),
            calls: BTreeMap::new(),
            next: 0,
            held: false,
            state: State::Open,
            input: Vec::new(),
            output: VecDeque::new(),
            events: VecDeque::new(),
            queued: 0,
            sent: 0,
        })
    }

    fn can_start(&self) -> bool {
        let limit = if self.is_serial {
            self.limit.min(1)
        } else {
            self.limit
        };
        self.state == State::Open && self.calls.len() < limit as usize
    }

    fn is_multiplexed(&self) -> bool {
        !self.is_serial
    }

    fn is_draining(&self) -> bool {
        self.state != State::Open
    }

    fn start(&mut self, _: Instant, call: CallId, outgoing: &Outgoing<'_>) -> Result<(), Failure> {
        if outgoing
            .request
            .headers()
            .iter()
            .any(|(name, _)| name == "scripted-unfit")
        {
            return Err(Failure::fatal("a header of the request is unfit"));
        }
        if !self.can_start() {
            return Err(Failure::retryable("the connection takes no further call"));
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        if self.next == 0 {
            self.drain();
        }
        let len = u32::try_from(outgoing.body.len()).unwrap_or(u32::MAX);
        let mut bytes = credentials(number, outgoing.credentials);
        bytes.push(Frame::Call(number, len).encode());
        bytes.extend_from_slice(outgoing.body.segments());
        let state = Call {
            id: call,
            deadline: outgoing.deadline,
            unsent: Some(bytes),
            len: outgoing.body.len(),
            end: u64::MAX,
            is_sent: false,
        };
        self.calls.insert(number, state);
        if !self.held {
            self.send(number);
        }
        Ok(())
    }

    /// The peer of this protocol forgets a request whose cancel it reads right behind it: only one that the socket has
    /// taken may arrive.
    fn cancel(&mut self, _: Instant, call: CallId) -> bool {
        let number = self.calls.iter().find(|(_, known)| known.id == call);
        let Some((&number, _)) = number else {
            return false;
        };
        let is_sent = self.calls.remove(&number).is_some_and(|call| call.is_sent);
        self.transmit(vec![Frame::Cancel(number).encode()]);
        is_sent
    }

    fn handle_input(&mut self, _: Instant, bytes: &[u8]) {
        if self.state == State::Closed {
            return;
        }
        self.input.extend_from_slice(bytes);
        let input = core::mem::take(&mut self.input);
        let mut rest = &input[..];
        while let Some((head, tail)) = rest.split_first_chunk::<{ Command::LEN }>() {
            rest = tail;
            match Command::decode(head) {
                Some(command) => self.obey(command),
                None => self.close("the peer sent an unknown command"),
            }
            if self.state == State::Closed {
                return;
            }
        }
        self.input = rest.to_vec();
    }

    fn handle_sent(&mut self, _: Instant, count: usize) {
        self.sent = self.sent.saturating_add(count as u64).min(self.queued);
        for call in self.calls.values_mut() {
            if !call.is_sent && call.end <= self.sent {
                call.is_sent = true;
                self.events.push_back(Event::RequestSent(call.id));
            }
        }
    }

    fn handle_eof(&mut self, _: Instant, reason: &str) {
        if self.state != State::Closed {
            self.close(reason);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.is_lazy {
            return;
        }
        let due = |(_, call): &(&u16, &Call)| call.deadline <= now;
        let due: Vec<u16> = self.calls.iter().filter(due).map(|(&number, _)| number).collect();
        for number in due {
            self.end(number, |sent| CallEnd::Expired { sent });
        }
    }

    fn poll_transmit(&mut self) -> Option<Vec<Bytes>> {
        self.output.pop_front()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = self.calls.values().map(|call| call.deadline);
        if self.is_lazy { None } else { deadlines.min() }
    }
}

impl Scripted {
    fn obey(&mut self, command: Command) {
        match command {
            Command::Answer {
                call,
                code,
                rejected,
                retry_after_ms,
            } => {
                let answer = Answer {
                    code: Code::from_u32(code.into()),
                    message: if rejected > 0 {
                        format!("{rejected} refused")
                    } else {
                        String::new()
                    },
                    rejected: rejected.into(),
                    retry_after: (retry_after_ms > 0).then(|| Duration::from_millis(retry_after_ms.into())),
                    http_status: None,
                    is_http: false,
                    location: None,
                };
                self.end(call, |_| CallEnd::Answered(answer));
            }
            Command::TooLarge { call, max } => {
                let len = self.calls.get(&call).map_or(0, |call| call.len);
                let message = match max {
                    0 => "the message is too large".to_owned(),
                    max => format!("grpc: received message larger than max ({len} vs. {max})"),
                };
                let answer = Answer {
                    code: Code::RESOURCE_EXHAUSTED,
                    message,
                    rejected: 0,
                    retry_after: None,
                    http_status: None,
                    is_http: false,
                    location: None,
                };
                self.end(call, |_| CallEnd::Answered(answer));
            }
            Command::Refuse { call, is_retryable } => {
                self.end(call, |_| {
                    CallEnd::Unprocessed(failure("the collector refused the call", is_retryable))
                });
            }
            Command::Reset { call, is_retryable } => {
                self.end(call, |sent| {
                    gone(sent, failure("the collector reset the call", is_retryable))
                });
            }
            Command::Limit(limit) => self.limit = limit,
            Command::Drain(first) => {
                self.drain();
                for number in self.calls.range(first..).map(|(&n, _)| n).collect::<Vec<_>>() {
                    self.end(number, |_| {
                        CallEnd::Unprocessed(Failure::retryable("the connection drains without the call"))
                    });
                }
            }
            Command::Die => self.close("the collector ended the connection"),
            Command::Hold => self.held = true,
            Command::Go => {
                self.held = false;
                for number in self.calls.keys().copied().collect::<Vec<_>>() {
                    self.send(number);
                }
            }
        }
    }

    fn send(&mut self, number: u16) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        let Some(bytes) = call.unsent.take() else { return };
        let end = self.transmit(bytes);
        if let Some(call) = self.calls.get_mut(&number) {
            call.end = end;
        }
    }

    /// Queues bytes and tells where they end on the connection.
    fn transmit(&mut self, bytes: Vec<Bytes>) -> u64 {
        if self.state != State::Closed {
            self.queued += bytes.iter().map(|piece| piece.len() as u64).sum::<u64>();
            self.output.push_back(bytes);
        }
        self.queued
    }

    fn end(&mut self, number: u16, end: impl FnOnce(bool) -> CallEnd) {
        if let Some(call) = self.calls.remove(&number) {
            self.events.push_back(Event::Ended(call.id, end(call.is_sent)));
        }
    }

    fn drain(&mut self) {
        if self.state == State::Open {
            self.state = State::Draining;
            self.events
                .push_back(Event::Draining("the collector drains the connection".to_owned()));
        }
    }

    fn close(&mut self, why: &str) {
        self.state = State::Closed;
        if self.is_mute {
            return;
        }
        for number in self.calls.keys().copied().collect::<Vec<_>>() {
            self.end(number, |sent| gone(sent, Failure::retryable(why)));
        }
        self.events.push_back(Event::Closed(why.to_owned()));
    }
}

/// The frame of the credentials, where there are any.
fn credentials(call: u16, headers: &[(String, String)]) -> Vec<Bytes> {
    if headers.is_empty() {
        return Vec::new();
    }
    let lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let text = lines.join("\n");
    let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
    vec![Frame::Credentials(call, len).encode(), text.into()]
}

fn failure(message: &str, is_retryable: bool) -> Failure {
    Failure {
        message: message.to_owned(),
        is_retryable,
    }
}

/// The end of a call whose connection or stream is gone.
fn gone(sent: bool, failure: Failure) -> CallEnd {
    if sent {
        CallEnd::Unanswered(failure)
    } else {
        CallEnd::Unprocessed(failure)
    }
}
