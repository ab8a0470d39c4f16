//! OTLP/HTTP on one HTTP/1.1 connection, without I/O.
//!
//! Owns the one call that such a connection carries at a time: its request, the answer's framing, its deadline, and the
//! judgement of how it ended. Never touches a socket and never tries a call again. It needs neither the standard library
//! nor the `http` crate.

mod call;
mod chunks;
mod head;
mod reader;
mod upload;

use self::call::{Answering, Call, Reading, too_large};
use self::head::Heads;
use self::reader::{BadHead, HeadReader, describe_foreign};
use self::upload::Upload;
use super::status::TooLarge;
use super::{CallEnd, CallId, Connection, Event, Failure, Outgoing, sealed};
use crate::config::Lane;
use crate::endpoint::GRPC_PORT;
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

/// Bytes handed to the socket and not taken yet, above which the rest of a request waits.
const OUTSTANDING_MAX: u64 = 1 << 20;

/// How long a socket may take for the end of a request whose answer is there, before the connection is given up.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// One connection of OTLP/HTTP over HTTP/1.1 (RFC 9112).
///
/// It is driven as [`Connection`] says, and carries one call at a time; it is kept for the next one unless the peer
/// closes it. The bytes of a request go to the socket as slices of the request itself, and at most a MiB of them is handed
/// out before the socket takes some.
///
/// HTTP/1.1 has no way to take a request back: a call that is cancelled or expires ends the connection, and says whether
/// the whole request was handed out, which may then still reach the peer.
///
/// A final status stands whatever becomes of the body behind it (OTLP specification, "OTLP/HTTP Response"); a body whose
/// end is unclear ends the connection, so that nothing in it can pass for another answer. What a peer sends without being
/// asked ends it too.
///
/// ```text
/// Idle ──(start)──> Busy ──(answer read)──> Idle
///   │                 └──(last answer, broken answer, deadline, cancel)──> Closed
///   └──(bytes without a request, as long idle as the peer allows, end of the connection)──^
/// ```
pub struct Http1 {
    state: State,
    heads: Heads,
    /// Bytes that were handed out since the connection was opened.
    produced: u64,
    /// Bytes that the socket took of them.
    sent: u64,
    /// Whether the peer answered a call.
    is_answered: bool,
    /// What to say of a peer that hangs up without a word.
    advice: &'static str,
    events: VecDeque<Event>,
    response_bytes_max: usize,
}

enum State {
    /// No call is under way.
    Idle(Idle),
    Busy(Box<Call>),
    Closed,
}

/// When an idle connection is given up.
#[derive(Clone, Copy, Default)]
struct Idle {
    /// The peer keeps it no longer.
    keep: Option<Instant>,
    /// The socket has still to take the end of a request whose answer is there.
    settle: Option<Instant>,
}

impl sealed::Sealed for Http1 {}

impl Connection for Http1 {
    fn open(lane: &Lane, _now: Instant) -> Result<Self, String> {
        Ok(Self {
            state: State::Idle(Idle::default()),
            heads: Heads::new(lane),
            produced: 0,
            sent: 0,
            is_answered: false,
            advice: if lane.endpoint.port() == GRPC_PORT {
                "; port 4317 is usually that of gRPC, OTLP/HTTP is served on port 4318"
            } else {
                ""
            },
            events: VecDeque::new(),
            response_bytes_max: lane.response_bytes_max,
        })
    }

    fn can_start(&self) -> bool {
        matches!(self.state, State::Idle(_)) && self.sent == self.produced
    }

    fn is_multiplexed(&self) -> bool {
        false
    }

    fn is_draining(&self) -> bool {
        match &self.state {
            State::Idle(_) => false,
            State::Busy(call) => call.last.is_some(),
            State::Closed => true,
        }
    }

    fn start(&mut self, now: Instant, call: CallId, outgoing: &Outgoing<'_>) -> Result<(), Failure> {
        if !self.can_start() {
            return Err(Failure::retryable("the connection takes no further call now"));
        }
        if outgoing.deadline <= now {
            return Err(Failure::retryable("the deadline passed before the call began"));
        }
        if matches!(&self.state, State::Idle(idle) if idle.keep.is_some_and(|at| at <= now)) {
            // Nobody told that the time had come.
            self.handle_timeout(now);
            return Err(Failure::retryable(
                "the connection was idle for as long as the peer keeps it",
            ));
        }
        let head = self.heads.of(outgoing).map_err(Failure::fatal)?;
        self.state = State::Busy(Box::new(Call {
            id: call,
            deadline: outgoing.deadline,
            items: outgoing.request.items(),
            protocol: outgoing.route.protocol,
            upload: Upload::new(head, outgoing.body),
            is_sent: false,
            sent_before: self.sent,
            is_later: self.is_answered,
            answer: Answering::Head(HeadReader::default()),
            last: None,
            idle_seconds: None,
        }));
        Ok(())
    }

    fn cancel(&mut self, _now: Instant, call: CallId) -> bool {
        match &self.state {
            State::Busy(known) if known.id == call => {}
            _ => return false,
        }
        let may_arrive = self.may_arrive();
        self.give_up("a call was cancelled, which HTTP/1.1 can do only by closing the connection");
        may_arrive
    }

    fn handle_early_input(&mut self, now: Instant, bytes: &[u8]) -> bool {
        match &self.state {
            State::Busy(call) if call.sent_before == self.sent && !bytes.is_empty() => {
                // They lay in the socket since before the request, and would pass for its answer.
                let words = describe_unsolicited(bytes, self.is_answered);
                if self.is_answered || bytes.starts_with(b"H") {
                    self.end(CallEnd::Unprocessed(Failure::retryable(&*words)));
                    self.close(&words);
                } else {
                    self.close_unspoken(&words);
                }
                true
            }
            _ => {
                self.handle_input(now, bytes);
                false
            }
        }
    }

    fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        let mut input = bytes;
        while !input.is_empty() {
            match &mut self.state {
                State::Closed => return,
                State::Idle(_) => return self.close(&describe_unsolicited(input, self.is_answered)),
                State::Busy(call) => {
                    let was_last = call.last.is_some();
                    let reading = call.read(&mut input, self.response_bytes_max);
                    if let (false, Some(why)) = (was_last, call.last) {
                        self.events.push_back(Event::Draining(why.into()));
                    }
                    self.handle_reading(now, reading);
                }
            }
        }
    }

    fn handle_sent(&mut self, _now: Instant, count: usize) {
        self.sent = self.produced.min(self.sent.saturating_add(count as u64));
        let is_all = self.sent == self.produced;
        match &mut self.state {
            State::Busy(call) if is_all && !call.is_sent && call.upload.is_whole() => {
                call.is_sent = true;
                self.events.push_back(Event::RequestSent(call.id));
            }
            State::Idle(idle) if is_all => idle.settle = None,
            _ => {}
        }
    }

    fn handle_eof(&mut self, _now: Instant, reason: &str) {
        let call = match &self.state {
            State::Closed => return,
            State::Idle(_) => return self.close(&format!("the idle connection was closed: {reason}")),
            State::Busy(call) => call,
        };
        let lost = match &call.answer {
            Answering::Body(..) => return self.finish_cut(&format!("the connection was lost: {reason}")),
            Answering::Head(head) => match head.end_of_input() {
                Err(BadHead::Foreign(first)) if !call.is_later => {
                    return self.close_unspoken(&describe_foreign(&first));
                }
                _ if !head.is_empty() => {
                    format!("the connection was lost in the head of an answer: {reason}")
                }
                _ if call.is_later => format!("the kept connection was lost before an answer: {reason}"),
                _ => format!(
                    "the connection was lost before the peer said anything: {reason}{}",
                    self.advice
                ),
            },
        };
        let is_sent = call.is_sent;
        self.end(unanswered(is_sent, Failure::retryable(&*lost)));
        self.close(&lost);
    }

    fn handle_timeout(&mut self, now: Instant) {
        match &self.state {
            State::Busy(call) if call.deadline <= now => {
                let sent = self.may_arrive();
                let expired = CallEnd::Expired { sent };
                let id = call.id;
                self.events.push_back(Event::Ended(id, expired));
                self.give_up(
                    "a call expired, and HTTP/1.1 can take a request back only by closing the connection",
                );
            }
            State::Idle(idle) if idle.settle.is_some_and(|at| at <= now) => {
                self.close("the peer answered a request and does not take the end of it");
            }
            State::Idle(idle) if idle.keep.is_some_and(|at| at <= now) => {
                self.close("the connection was idle for as long as the peer keeps it");
            }
            _ => {}
        }
    }

    fn poll_transmit(&mut self) -> Option<Vec<Bytes>> {
        let State::Busy(call) = &mut self.state else {
            return None;
        };
        let room = OUTSTANDING_MAX.saturating_sub(self.produced - self.sent);
        if room == 0 || !call.wants_more() {
            return None;
        }
        let pieces = call.upload.take(usize::try_from(room).unwrap_or(usize::MAX));
        self.produced += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        Some(pieces)
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Idle(idle) => idle.keep.into_iter().chain(idle.settle).min(),
            State::Busy(call) => Some(call.deadline),
            State::Closed => None,
        }
    }
}

impl Http1 {
    fn handle_reading(&mut self, now: Instant, reading: Reading) {
        match reading {
            Reading::More => {}
            Reading::Done => self.finish(now),
            Reading::Cut(why) => self.finish_cut(&format!("the answer breaks HTTP/1.1: {why}")),
            Reading::TooIdle => {
                let failure =
                    Failure::retryable("the peer closed a connection that was idle for too long (HTTP 408)");
                let words = failure.message.clone();
                self.end(CallEnd::Unprocessed(failure));
                self.close(&words);
            }
            Reading::Foreign(words) => self.close_unspoken(&words),
            Reading::Unreadable(failure) => {
                let words = failure.message.clone();
                let may_arrive = self.may_arrive();
                self.end(unanswered(may_arrive, failure));
                self.close(&words);
            }
        }
    }

    /// The answer is there in whole: the connection is kept where nothing speaks against it.
    fn finish(&mut self, now: Instant) {
        let State::Busy(call) = &self.state else { return };
        let is_whole = call.upload.is_whole();
        let (last, idle_seconds) = (call.last, call.idle_seconds);
        if let Err(why) = self.answer() {
            return self.close(&why);
        }
        if let Some(why) = last {
            return self.close(why);
        }
        if !is_whole {
            return self.close("the peer answered before it had the whole request");
        }
        // Servers tell how long they keep a connection, and close it a moment before they read the next request on it.
        let keep = idle_seconds.map(|seconds| match seconds {
            0..=2 => Duration::from_millis(seconds * 500),
            seconds => Duration::from_secs(seconds - 1),
        });
        self.state = State::Idle(Idle {
            keep: keep.map(|time| now + time),
            settle: (self.sent < self.produced).then(|| now + SETTLE_TIME),
        });
    }

    /// The status stands, the rest of the answer is lost, and the connection with it.
    fn finish_cut(&mut self, why: &str) {
        // It is over in any case.
        let _ = self.answer();
        self.close(why);
    }

    /// Ends the call with its answer.
    ///
    /// # Errors
    ///
    /// In words, when the answer cannot be read after all; the call has its end.
    fn answer(&mut self) -> Result<(), String> {
        let may_arrive = self.may_arrive();
        let State::Busy(call) = core::mem::replace(&mut self.state, State::Idle(Idle::default())) else {
            return Ok(());
        };
        let Answering::Body(reply, _) = call.answer else {
            return Ok(());
        };
        self.is_answered = true;
        let too_large = too_large(&reply);
        let (end, result) = match reply.finish(call.items) {
            Ok(answer) => (CallEnd::Answered(answer), Ok(())),
            Err(TooLarge) => {
                let words = too_large.message.clone();
                (unanswered(may_arrive, too_large), Err(words))
            }
        };
        self.events.push_back(Event::Ended(call.id, end));
        result
    }

    fn end(&mut self, end: CallEnd) {
        if let State::Busy(call) = core::mem::replace(&mut self.state, State::Idle(Idle::default())) {
            self.events.push_back(Event::Ended(call.id, end));
        }
    }

    /// The call is over from this side. What was handed out of its request cannot be called back.
    fn give_up(&mut self, why: &str) {
        match &self.state {
            State::Busy(call) if call.upload.is_untouched() => self.state = State::Idle(Idle::default()),
            _ => self.close(why),
        }
    }

    /// Whether the whole request of the call went out, or lies where nobody can take it back.
    fn may_arrive(&self) -> bool {
        matches!(&self.state, State::Busy(call) if call.upload.is_whole())
    }

    /// The peer never spoke HTTP/1: it processed nothing, whatever it was sent.
    fn close_unspoken(&mut self, why: &str) {
        self.end(CallEnd::Unprocessed(Failure::fatal(why)));
        self.close(why);
    }

    /// The connection is over; its call has its end.
    fn close(&mut self, why: &str) {
        if !matches!(self.state, State::Closed) {
            self.state = State::Closed;
            self.events.push_back(Event::Closed(why.into()));
        }
    }
}

/// A call that nothing will answer: the peer certainly did not process it unless it may have got all of it.
fn unanswered(may_arrive: bool, failure: Failure) -> CallEnd {
    if may_arrive {
        CallEnd::Unanswered(failure)
    } else {
        CallEnd::Unprocessed(failure)
    }
}

/// Bytes that came without a request, in words.
fn describe_unsolicited(bytes: &[u8], is_answered: bool) -> String {
    if !is_answered && !bytes.starts_with(b"H") {
        return describe_foreign(&bytes[..bytes.len().min(64)]);
    }
    "the peer sent bytes that no request asked for".into()
}
