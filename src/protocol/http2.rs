//! OTLP over gRPC, or OTLP/HTTP, on one HTTP/2 connection, without I/O.
//!
//! Owns the calls of a connection: their streams, their deadlines, and the judgement of how each one ended. Never
//! touches a socket and never tries a call again; `h2` does the framing over an in-memory pipe, the pipe tells what the
//! socket took and what the peer said.

mod budget;
mod call;
mod egress;
mod frames;
mod head;
mod ingress;
mod keepalive;
mod link;
mod payload;
mod pipe;
mod reply;
mod verdict;

use self::budget::Budget;
use self::call::{Call, ReadEnd};
use self::frames::{Head, Kind};
use self::head::Heads;
use self::ingress::GoAway;
use self::keepalive::{Due, Pinger};
use self::link::{Link, reset};
use self::payload::{Payload, Upload};
use self::pipe::Pipe;
use self::reply::Asked;
use self::verdict::{describe_goaway, judge, unanswered};
use super::grpc::{self, PREFIX_LEN};
use super::quiet;
use super::{CallEnd, CallId, Connection, Event, Failure, Outgoing, sealed};
use crate::config::Lane;
use crate::time::Instant;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;
use core::task::Poll;
use h2::SendStream;

/// Calls under way at a time, however many more the peer would take.
const CALLS_MAX: usize = 1_000;

/// Bytes that `h2` reads before the answers among them are picked up, which bounds what it buffers.
const ROUND_BYTES: usize = 16 << 10;

/// Blank DATA frames after which the connection is given up in order. `h2` gives it up in disorder after a hundred.
const BLANK_FRAMES_MAX: u32 = 32;

/// Bytes of unfinished answers that are held, all calls together; a single answer may always be as long as it is allowed.
const HELD_BYTES_MAX: usize = 16 << 20;

/// Streams with news that are remembered one by one.
const NEWS_MAX: usize = 256;

/// One connection of gRPC (gRPC, "gRPC over HTTP2") or of OTLP/HTTP over HTTP/2, as its lane asks.
///
/// It is driven as [`Connection`] says. Calls are multiplexed; a call begins only while the peer has room for its stream,
/// and until the peer has sent its SETTINGS that is room for one. The bytes of a request go to the socket as slices of
/// the request itself, and at most about a MiB of them is handed out before the socket takes some.
///
/// What was handed out cannot be called back: a call that is cancelled or expires before the socket has taken all of its
/// request may still reach the peer, with the reset of its stream behind it, and says so.
///
/// A peer is free to answer early, late or not at all: a call ends with its answer, with its deadline or with the
/// connection, whichever comes first. A peer that floods the connection, answers without end or does not speak HTTP/2
/// loses it at once.
///
/// ```text
/// Open ──(GOAWAY, drain)──> Draining ──(last call ended)──> Closed
///   └────────(end of the connection, broken protocol)─────────^
/// ```
pub struct Http2 {
    state: State,
    /// `None` once the connection is over.
    link: Option<Link>,
    pipe: Pipe,
    heads: Heads,
    /// By stream, ascending.
    calls: VecDeque<Call>,
    /// Streams of calls that were answered before `h2` had written their requests, while it holds frames back.
    leaving: Vec<SendStream<Payload>>,
    news: News,
    budget: Budget,
    keepalive: Option<Pinger>,
    /// What the peer said in its last GOAWAY.
    goaway: Option<GoAway>,
    /// Why the connection is lost, where that is known better than `h2` knows it.
    lost: Option<Failure>,
    events: VecDeque<Event>,
    response_bytes_max: usize,
    /// Bytes of answers that are held until they are there in whole.
    held: usize,
    is_grpc: bool,
    is_quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Draining,
    Closed,
}

/// The streams on which frames came since their calls were last looked at.
#[derive(Default)]
struct News {
    streams: Vec<u32>,
    is_all: bool,
}

impl sealed::Sealed for Http2 {}

impl Connection for Http2 {
    fn open(lane: &Lane, now: Instant) -> Result<Self, String> {
        let _guard = quiet(lane.isolate_tracing);
        let pipe = Pipe::new();
        let mut link = Link::open(pipe.clone())?;
        let keepalive = lane.keepalive.zip(link.pings());
        let mut session = Self {
            state: State::Open,
            keepalive: keepalive.map(|(settings, pings)| Pinger::new(settings, pings, now)),
            link: Some(link),
            pipe,
            heads: Heads::new(lane)?,
            calls: VecDeque::new(),
            leaving: Vec::new(),
            news: News::default(),
            budget: Budget::new(now),
            goaway: None,
            lost: None,
            events: VecDeque::new(),
            response_bytes_max: lane.response_bytes_max,
            held: 0,
            is_grpc: lane.is_grpc,
            is_quiet: lane.isolate_tracing,
        };
        session.drive();
        Ok(session)
    }

    fn can_start(&self) -> bool {
        let Some(link) = &self.link else {
            return false;
        };
        // While `h2` holds frames back, streams that were reset may still count for it: a call would queue inside it.
        self.state == State::Open
            && self.calls.len() < link.streams_max().min(CALLS_MAX)
            && !self.pipe.wire().egress.is_blocked()
    }

    fn is_multiplexed(&self) -> bool {
        true
    }

    fn is_draining(&self) -> bool {
        self.state != State::Open
    }

    fn start(&mut self, now: Instant, call: CallId, outgoing: &Outgoing<'_>) -> Result<(), Failure> {
        let _guard = quiet(self.is_quiet);
        if !self.can_start() {
            return Err(Failure::retryable("the connection takes no further call now"));
        }
        let left = outgoing.deadline.since(now);
        if left.is_zero() {
            return Err(Failure::retryable("the deadline passed before the call began"));
        }
        let prefix = self.prefix(outgoing)?;
        let len = outgoing.body.len() + prefix.map_or(0, |prefix| prefix.len());
        let head = self.heads.of(outgoing, left).map_err(Failure::fatal)?;
        let link = self
            .link
            .as_mut()
            .ok_or_else(|| Failure::retryable("the connection is closed"))?;
        let (response, sending) = match link.begin(head) {
            Ok(stream) => stream,
            Err(failure) => {
                // The connection may have turned out to take no further call.
                self.drive();
                return Err(failure);
            }
        };
        let mut call = Call::new(
            call,
            outgoing.deadline,
            outgoing.request.items(),
            Asked {
                protocol: outgoing.route.protocol,
                is_grpc: self.is_grpc,
            },
            response,
            sending,
        );
        self.pipe
            .wire()
            .egress
            .add_upload(Upload::new(call.stream, outgoing.body, prefix));
        if let Err(error) = call.sending.send_data(Payload::new(len), true) {
            self.pipe.wire().egress.abandon(call.stream);
            return Err(Failure::retryable(error.to_string()));
        }
        self.calls.push_back(call);
        self.drive();
        Ok(())
    }

    fn cancel(&mut self, _now: Instant, call: CallId) -> bool {
        let _guard = quiet(self.is_quiet);
        let Some(at) = self.calls.iter().position(|known| known.id == call) else {
            return false;
        };
        let may_arrive = self.may_arrive(at);
        self.forget(at);
        self.drive();
        may_arrive
    }

    fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        if self.state == State::Closed {
            return;
        }
        let _guard = quiet(self.is_quiet);
        let mut is_flood = false;
        let fed = {
            let Self {
                calls,
                budget,
                news,
                goaway,
                keepalive,
                events,
                pipe,
                ..
            } = self;
            let mut wire = pipe.wire();
            if let (Some(pinger), false) = (&mut *keepalive, bytes.is_empty()) {
                pinger.handle_heard(now);
            }
            budget.refill(now, !wire.egress.is_blocked());
            wire.ingress.feed(bytes, |head, said| {
                let is_ours = find(calls, head.stream).is_some();
                is_flood |= !budget.pay(head, is_ours);
                news.note(head, is_ours);
                if let Some(said) = said {
                    if let Some(pinger) = keepalive {
                        if pinger.handle_goaway(said.code, &said.debug_data) {
                            events.push_back(Event::TooManyPings);
                        }
                    }
                    *goaway = Some(said);
                }
            })
        };
        if let Err(foreign) = fed {
            return self.close_unspoken(foreign.failure(self.is_grpc));
        }
        self.drive();
        let (is_overfull, blank_frames) = {
            let ingress = &self.pipe.wire().ingress;
            (ingress.is_overfull(), ingress.blank_frames())
        };
        if is_flood {
            self.lose("the peer floods the connection with frames that serve no call");
        } else if is_overfull {
            self.lose("the peer sends on and reads nothing of what it is answered");
        } else if blank_frames > BLANK_FRAMES_MAX {
            self.drain("the peer sent many DATA frames without data");
            self.drive();
        }
    }

    fn handle_sent(&mut self, now: Instant, count: usize) {
        let is_blocked = {
            let Self {
                calls,
                events,
                keepalive,
                pipe,
                ..
            } = self;
            let egress = &mut pipe.wire().egress;
            egress.handle_sent(count, |stream| {
                if let Some(call) = find(calls, stream).and_then(|at| calls.get_mut(at)) {
                    call.is_sent = true;
                    events.push_back(Event::RequestSent(call.id));
                }
            });
            if let Some(pinger) = keepalive {
                pinger.handle_sent(now, egress.taken());
            }
            egress.is_blocked()
        };
        if is_blocked {
            let _guard = quiet(self.is_quiet);
            self.drive();
        }
    }

    fn handle_eof(&mut self, _now: Instant, reason: &str) {
        if self.state == State::Closed {
            return;
        }
        let _guard = quiet(self.is_quiet);
        let (ended, is_silent) = {
            let mut wire = self.pipe.wire();
            wire.egress.discard();
            (wire.ingress.end(), wire.ingress.is_silent())
        };
        if let Err(foreign) = ended {
            return self.close_unspoken(foreign.failure(self.is_grpc));
        }
        let words = if is_silent {
            format!("the connection was lost before the peer said anything: {reason}")
        } else {
            format!("the connection was lost: {reason}")
        };
        self.lost = Some(Failure::retryable(words.clone()));
        self.drive();
        self.lose(&words);
    }

    fn handle_timeout(&mut self, now: Instant) {
        let _guard = quiet(self.is_quiet);
        let mut is_any = false;
        while let Some(at) = self.calls.iter().position(|call| call.deadline <= now) {
            is_any = true;
            let sent = self.may_arrive(at);
            if let Some(call) = self.forget(at) {
                self.events
                    .push_back(Event::Ended(call.id, CallEnd::Expired { sent }));
            }
        }
        if is_any {
            self.drive();
        }
        self.keep_alive(now);
    }

    fn poll_transmit(&mut self) -> Option<Vec<Bytes>> {
        self.pipe.wire().egress.take()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.calls.iter().map(|call| call.deadline).min();
        deadline.into_iter().chain(self.ping_due()).min()
    }
}

impl Http2 {
    /// What stands in front of a message: the prefix of gRPC, or nothing.
    fn prefix(&self, outgoing: &Outgoing<'_>) -> Result<Option<[u8; PREFIX_LEN]>, Failure> {
        let len = outgoing.body.len();
        // `h2` counts a payload in 31 bits.
        let framed = u32::try_from(len)
            .ok()
            .filter(|len| *len < i32::MAX as u32 - PREFIX_LEN as u32)
            .ok_or_else(|| {
                Failure::fatal(format!(
                    "a request of {len} bytes exceeds what HTTP/2 can frame here"
                ))
            })?;
        Ok(self
            .is_grpc
            .then(|| grpc::prefix(framed, outgoing.route.compression)))
    }

    /// Lets `h2` work until it has nothing more to do, and picks up what came of it.
    fn drive(&mut self) {
        loop {
            let unread = self.pipe.wire().ingress.unread_len();
            let Some(is_read) = self.round() else {
                return;
            };
            let (left, is_blocked) = {
                let wire = self.pipe.wire();
                (wire.ingress.unread_len(), wire.egress.is_blocked())
            };
            if left > 0 && left < unread && !is_blocked {
                continue;
            }
            if !is_blocked && left == 0 {
                self.news.clear();
            }
            // Reading gave windows back and dropped streams, which `h2` has yet to tell the peer.
            if is_read && self.round().is_none() {
                return;
            }
            break;
        }
        if !self.leaving.is_empty() && !self.pipe.wire().egress.is_blocked() {
            self.leaving.drain(..).for_each(|mut stream| reset(&mut stream));
            if self.round().is_none() {
                return;
            }
        }
        {
            let mut wire = self.pipe.wire();
            wire.egress.drop_abandoned();
            if let (Some(pinger), false) = (&mut self.keepalive, wire.egress.is_blocked()) {
                pinger.handle_written(wire.egress.produced());
            }
        }
        if self.state == State::Open {
            if let Some(refusal) = self.link.as_mut().and_then(Link::refusal) {
                let words = self.goaway.as_ref().map_or(refusal, describe_goaway);
                self.drain(&words);
            }
        }
        if self.state == State::Draining && self.calls.is_empty() {
            self.say_goodbye();
        }
    }

    fn ping_due(&self) -> Option<Instant> {
        let pinger = self.keepalive.as_ref().filter(|_| self.link.is_some())?;
        pinger.due(!self.calls.is_empty())
    }

    /// Pings a peer that was silent for long, and gives up one that does not answer.
    fn keep_alive(&mut self, now: Instant) {
        let Some(pinger) = self.keepalive.as_mut().filter(|_| self.link.is_some()) else {
            return;
        };
        match pinger.fire(now, !self.calls.is_empty()) {
            Due::Nothing => {}
            Due::Ping => self.drive(),
            Due::Dead(time) => self.lose(&format!(
                "the connection is dead: nothing came within {} s of a keepalive ping",
                time.as_secs_f32()
            )),
        }
    }

    /// Polls `h2` once and reads the answers that have news: whether there were any, `None` when the connection is over.
    fn round(&mut self) -> Option<bool> {
        let link = self.link.as_mut()?;
        self.pipe.wire().ingress.grant(ROUND_BYTES);
        let over = match link.poll() {
            Poll::Pending => None,
            Poll::Ready(result) => Some(result),
        };
        self.news.is_all |= over.is_some();
        let is_read = self.read_answers();
        if let Some(result) = over {
            let words = match (result, &self.goaway) {
                (_, Some(goaway)) => describe_goaway(goaway),
                (Err(error), None) => format!("the connection broke: {error}"),
                (Ok(()), None) => "the connection is done".into(),
            };
            if self.goaway.is_some() {
                self.drain(&words);
            }
            self.lose(&words);
            return None;
        }
        Some(is_read)
    }

    /// Looks at every call with news; whether there was one.
    fn read_answers(&mut self) -> bool {
        let News { streams, is_all } = core::mem::take(&mut self.news);
        if is_all {
            let mut at = 0;
            while at < self.calls.len() {
                at += usize::from(!self.read_answer(at));
            }
        } else {
            for stream in &streams {
                if let Some(at) = find(&self.calls, *stream) {
                    self.read_answer(at);
                }
            }
        }
        let is_any = is_all || !streams.is_empty();
        self.news = News { streams, is_all };
        is_any
    }

    /// Reads on in one answer; whether the call is over.
    fn read_answer(&mut self, at: usize) -> bool {
        let Some(call) = self.calls.get_mut(at) else {
            return false;
        };
        let held = call.held();
        let read = call.poll(self.response_bytes_max);
        self.held = self.held - held + call.held();
        let end = match read {
            Poll::Ready(end) => end,
            // Each answer may be large, and not all of them at once.
            Poll::Pending if self.held > self.response_bytes_max.max(HELD_BYTES_MAX) => ReadEnd::TooLarge,
            Poll::Pending => return false,
        };
        let may_arrive = self.may_arrive(at);
        if let Some(call) = self.remove(at) {
            let end = judge(
                end,
                self.is_grpc,
                may_arrive,
                self.goaway.as_ref(),
                self.lost.as_ref(),
            );
            self.release(call, end);
        }
        true
    }

    /// Takes a call out, with what is held of its answer.
    fn remove(&mut self, at: usize) -> Option<Call> {
        let call = self.calls.remove(at)?;
        self.held -= call.held();
        Some(call)
    }

    /// Ends a call. Dropping its stream resets it, unless both sides are done with it.
    fn release(&mut self, mut call: Call, end: CallEnd) {
        self.budget.refill_call();
        let mut wire = self.pipe.wire();
        let egress = &mut wire.egress;
        if !matches!(end, CallEnd::Answered(_)) {
            egress.revoke(call.stream);
        } else if egress.abandon(call.stream) {
            // The peer does not want the rest, which `h2` would send on as windows open. While it is in the middle of a
            // frame it does not know of a rest to drop.
            let is_blocked = egress.is_blocked();
            drop(wire);
            if is_blocked {
                self.leaving.push(call.sending);
            } else {
                reset(&mut call.sending);
            }
        }
        self.events.push_back(Event::Ended(call.id, end));
    }

    /// Whether the whole request of a call went out, or lies where nobody can take it back.
    fn may_arrive(&self, at: usize) -> bool {
        let call = self.calls.get(at);
        call.is_some_and(|call| call.is_sent || self.pipe.wire().egress.is_whole(call.stream))
    }

    /// Resets the stream of a call that nobody waits for any more.
    fn forget(&mut self, at: usize) -> Option<Call> {
        let mut call = self.remove(at)?;
        self.budget.refill_call();
        self.pipe.wire().egress.revoke(call.stream);
        reset(&mut call.sending);
        Some(call)
    }

    fn drain(&mut self, why: &str) {
        if self.state == State::Open {
            self.state = State::Draining;
            self.events.push_back(Event::Draining(why.into()));
        }
    }

    /// Closes a connection without calls in order: `h2` sends its GOAWAY if the socket has room for it.
    fn say_goodbye(&mut self) {
        if let Some(link) = &mut self.link {
            link.finish();
            // It is ready at once, or blocked by the socket; the connection is over in both cases.
            let _ = link.poll();
        }
        let words = self
            .goaway
            .as_ref()
            .map_or_else(|| "the connection was drained".into(), describe_goaway);
        self.lose(&words);
    }

    /// The connection is over: ends every call that has no end yet.
    fn lose(&mut self, why: &str) {
        let failure = self.lost.take().unwrap_or_else(|| Failure::retryable(why));
        self.close(why, |is_sent| unanswered(is_sent, failure.clone()));
    }

    /// The connection is over and the peer never spoke HTTP/2: it processed nothing, whatever it was sent.
    fn close_unspoken(&mut self, failure: Failure) {
        let words = failure.message.clone();
        self.close(&words, |_| CallEnd::Unprocessed(failure.clone()));
    }

    fn close(&mut self, why: &str, end: impl Fn(bool) -> CallEnd) {
        if self.state == State::Closed {
            return;
        }
        self.state = State::Closed;
        while !self.calls.is_empty() {
            let end = end(self.may_arrive(0));
            if let Some(call) = self.remove(0) {
                self.release(call, end);
            }
        }
        self.leaving.clear();
        self.link = None;
        self.pipe.wire().egress.drop_uploads();
        self.news = News::default();
        self.events.push_back(Event::Closed(why.into()));
    }
}

/// What `h2` says while it is let go is kept from the application, too.
impl Drop for Http2 {
    fn drop(&mut self) {
        let _guard = quiet(self.is_quiet);
        self.calls.clear();
        self.leaving.clear();
        self.link = None;
    }
}

impl News {
    fn note(&mut self, head: &Head, is_ours: bool) {
        if head.kind == Kind::GoAway || self.streams.len() >= NEWS_MAX {
            self.is_all = true;
        } else if is_ours && self.streams.last() != Some(&head.stream) {
            self.streams.push(head.stream);
        }
    }

    fn clear(&mut self) {
        self.streams.clear();
        self.is_all = false;
    }
}

/// The position of the call on `stream`.
fn find(calls: &VecDeque<Call>, stream: u32) -> Option<usize> {
    calls.binary_search_by_key(&stream, |call| call.stream).ok()
}
