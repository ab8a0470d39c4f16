//! One connection of the collector that speaks HTTP/2, sans-IO: gRPC and OTLP/HTTP side by side.

use super::Ending;
use super::base::{Base, Verdict, text_fields};
use super::frames::{Sent, goaway_frame, say, send};
use super::pipe::Pipe;
use super::speech::Speech;
use crate::code::Code;
use crate::testing::collector::answer::{Answer, RawAnswer};
use crate::testing::collector::call::{HttpVersion, Plan, Refusal};
use crate::testing::collector::reply;
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use h2::server::{Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::task::Wake;

/// The connection's side of the server.
pub(super) struct Http2 {
    pipe: Pipe,
    link: Link,
    calls: Vec<Call>,
    /// Bytes of messages that have not arrived whole.
    buffered_bytes: usize,
    /// Whether a graceful shutdown has been asked for.
    is_draining: bool,
    /// The last stream to be processed, once a GOAWAY of our own has excluded later ones.
    last_stream_id: Option<u32>,
    end: Ending,
    woken: Arc<Woken>,
    waker: Waker,
}

enum Link {
    Handshake(Pin<Box<Handshake<Pipe, Bytes>>>),
    Open(Box<Connection<Pipe, Bytes>>),
    Over,
}

struct Call {
    stream_id: u32,
    phase: Phase,
}

enum Phase {
    /// The request is arriving.
    Receiving(Box<Receiving>),
    /// The answer is due later.
    Delayed {
        respond: SendResponse<Bytes>,
        plan: Plan,
        until: Instant,
        answer: Answer,
    },
    /// The body of the answer is being said.
    Saying(Box<Saying>),
    /// Nothing is said before the client or the connection ends the call; the handle keeps the stream open.
    Silent(SendResponse<Bytes>),
    /// As `Silent`, with the head already said.
    Open(SendStream<Bytes>),
    /// A call above the last stream: neither answered nor reset.
    Excluded { _respond: SendResponse<Bytes> },
}

struct Receiving {
    respond: SendResponse<Bytes>,
    plan: Plan,
    headers: Vec<(String, String)>,
    body: RecvStream,
    bytes: BytesMut,
}

struct Saying {
    stream: SendStream<Bytes>,
    speech: Speech,
    trailers: Vec<(HeaderName, HeaderValue)>,
    ends: bool,
}

/// How a step of a call ended.
enum Step {
    /// The call goes on in this phase.
    Keep(Phase),
    /// The call is over.
    Over,
}

/// Rounds of one step at most; every round but the last makes progress on finite input, so that this is never reached
/// unless `h2` wakes itself for nothing.
const ROUNDS_MAX: usize = 100_000;

impl Http2 {
    pub(super) fn new(base: &Base, is_draining: bool) -> Self {
        let pipe = Pipe::default();
        let woken = Arc::new(Woken::default());
        Self {
            link: Link::Handshake(Box::pin(base.settings.http2.handshake(pipe.clone()))),
            pipe,
            calls: Vec::new(),
            buffered_bytes: 0,
            is_draining,
            last_stream_id: None,
            end: Ending::Open,
            waker: Waker::from(Arc::clone(&woken)),
            woken,
        }
    }

    pub(super) fn handle_input(&mut self, base: &mut Base, now: Instant, bytes: &[u8]) {
        self.pipe.push(bytes);
        self.advance(base, now);
    }

    pub(super) fn handle_eof(&mut self, base: &mut Base, now: Instant) {
        self.pipe.push_eof();
        self.advance(base, now);
    }

    pub(super) fn handle_timeout(&mut self, base: &mut Base, now: Instant) {
        self.advance(base, now);
    }

    pub(super) fn drain(&mut self, base: &mut Base, now: Instant) {
        self.drain_link();
        self.advance(base, now);
    }

    pub(super) fn take_egress(&mut self) -> Vec<u8> {
        self.pipe.take_egress()
    }

    pub(super) fn has_egress(&self) -> bool {
        self.pipe.has_egress()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.calls.iter().filter_map(|call| match &call.phase {
            Phase::Delayed { until, .. } => Some(*until),
            Phase::Saying(saying) => saying.speech.due(),
            _ => None,
        });
        due.min()
    }

    pub(super) fn end(&self) -> Ending {
        self.end
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.len()
    }

    fn advance(&mut self, base: &mut Base, now: Instant) {
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        for _ in 0..ROUNDS_MAX {
            self.woken.clear();
            let mut is_busy = self.advance_link(base, &mut cx);
            while is_busy && self.advance_link(base, &mut cx) {}
            is_busy |= self.advance_calls(base, now, &mut cx);
            if matches!(self.link, Link::Over) || !(is_busy || self.woken.is_set()) {
                break;
            }
        }
        self.end_excluded();
        if matches!(self.link, Link::Over) {
            self.lose_calls(base);
        }
    }

    /// Lets `h2` read, write and accept; tells whether it gave anything.
    fn advance_link(&mut self, base: &Base, cx: &mut Context<'_>) -> bool {
        match &mut self.link {
            Link::Handshake(handshake) => match handshake.as_mut().poll(cx) {
                Poll::Pending => false,
                Poll::Ready(Ok(mut connection)) => {
                    if self.is_draining {
                        connection.graceful_shutdown();
                    }
                    self.link = Link::Open(Box::new(connection));
                    true
                }
                Poll::Ready(Err(_)) => {
                    self.close(Ending::Closed);
                    false
                }
            },
            Link::Open(connection) => match connection.poll_accept(cx) {
                Poll::Pending => false,
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.accept(base, request, respond);
                    true
                }
                // What `h2` wanted to say about it is in the pipe already.
                Poll::Ready(Some(Err(_)) | None) => {
                    self.close(Ending::Closed);
                    false
                }
            },
            Link::Over => false,
        }
    }

    fn accept(&mut self, base: &Base, request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let stream_id = respond.stream_id().as_u32();
        if self.last_stream_id.is_some_and(|last| stream_id > last) {
            let phase = Phase::Excluded { _respond: respond };
            self.calls.push(Call { stream_id, phase });
            return;
        }
        let (head, body) = request.into_parts();
        let (version, settings) = (HttpVersion::Http2, &base.settings);
        let plan = match Plan::new(version, &head.method, head.uri.path(), &head.headers, settings) {
            Ok(plan) => plan,
            Err(refusal) => return self.refuse(base, &mut respond, refusal),
        };
        let more = [
            (":scheme", head.uri.scheme_str()),
            (":authority", head.uri.authority().map(Authority::as_str)),
        ];
        let phase = Phase::Receiving(Box::new(Receiving {
            respond,
            plan,
            headers: text_fields(&head.method, head.uri.path(), &more, &head.headers),
            body,
            bytes: BytesMut::new(),
        }));
        self.calls.push(Call { stream_id, phase });
    }

    /// Lets every call go on as far as it can; tells whether one did.
    fn advance_calls(&mut self, base: &mut Base, now: Instant, cx: &mut Context<'_>) -> bool {
        let mut is_busy = false;
        for Call { stream_id, phase } in core::mem::take(&mut self.calls) {
            if matches!(self.link, Link::Over) {
                self.calls.push(Call { stream_id, phase });
                continue;
            }
            let step = match phase {
                Phase::Receiving(call) => {
                    self.advance_receiving(base, now, cx, stream_id, call, &mut is_busy)
                }
                Phase::Delayed {
                    mut respond,
                    plan,
                    until,
                    answer,
                } => {
                    if respond.poll_reset(cx).is_ready() {
                        cancelled(base)
                    } else if until <= now {
                        is_busy = true;
                        self.answer(base, now, stream_id, plan, respond, answer)
                    } else {
                        Step::Keep(Phase::Delayed {
                            respond,
                            plan,
                            until,
                            answer,
                        })
                    }
                }
                Phase::Saying(mut saying) => match saying.stream.poll_reset(cx) {
                    Poll::Pending => self.go_on(base, now, saying),
                    Poll::Ready(_) => cancelled(base),
                },
                Phase::Silent(mut respond) => match respond.poll_reset(cx) {
                    Poll::Pending => Step::Keep(Phase::Silent(respond)),
                    Poll::Ready(_) => cancelled(base),
                },
                Phase::Open(mut stream) => match stream.poll_reset(cx) {
                    Poll::Pending => Step::Keep(Phase::Open(stream)),
                    Poll::Ready(_) => cancelled(base),
                },
                Phase::Excluded { .. } => Step::Keep(phase),
            };
            match step {
                Step::Keep(phase) => self.calls.push(Call { stream_id, phase }),
                Step::Over => is_busy = true,
            }
        }
        is_busy
    }

    fn advance_receiving(
        &mut self,
        base: &mut Base,
        now: Instant,
        cx: &mut Context<'_>,
        stream_id: u32,
        mut call: Box<Receiving>,
        is_busy: &mut bool,
    ) -> Step {
        loop {
            match call.body.poll_data(cx) {
                Poll::Pending => return Step::Keep(Phase::Receiving(call)),
                Poll::Ready(Some(Ok(chunk))) => {
                    *is_busy = true;
                    if let Err(refusal) = self.take_chunk(base, &mut call, &chunk) {
                        self.buffered_bytes -= call.bytes.len();
                        self.refuse(base, &mut call.respond, refusal);
                        return Step::Over;
                    }
                }
                Poll::Ready(Some(Err(_))) => {
                    self.buffered_bytes -= call.bytes.len();
                    return cancelled(base);
                }
                Poll::Ready(None) => {
                    *is_busy = true;
                    self.buffered_bytes -= call.bytes.len();
                    return self.receive(base, now, stream_id, *call);
                }
            }
        }
    }

    fn take_chunk(&mut self, base: &Base, call: &mut Receiving, chunk: &Bytes) -> Result<(), Refusal> {
        // Fails only for a stream that is gone, which the next poll tells.
        let _ = call.body.flow_control().release_capacity(chunk.len());
        if call.bytes.is_empty() {
            call.bytes.reserve(call.plan.expected_bytes(chunk));
        }
        call.bytes.extend_from_slice(chunk);
        self.buffered_bytes += chunk.len();
        let bytes_max = base.settings.message_bytes_max;
        if self.buffered_bytes > bytes_max.saturating_mul(4).saturating_add(1024) {
            let message = "too many bytes arrive at one time on this connection".into();
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Err(call.plan.refuse(status, Code::RESOURCE_EXHAUSTED, message));
        }
        call.plan.check_size(&call.bytes, bytes_max)
    }

    /// Records a request that has arrived whole, and answers it.
    fn receive(&mut self, base: &mut Base, now: Instant, stream_id: u32, call: Receiving) -> Step {
        let Receiving {
            mut respond,
            plan,
            headers,
            bytes,
            ..
        } = call;
        let arrived = match plan.read(bytes.freeze(), &base.settings) {
            Ok(arrived) => arrived,
            Err(refusal) => {
                self.refuse(base, &mut respond, refusal);
                return Step::Over;
            }
        };
        let Verdict { answer, is_last } = base.receive(HttpVersion::Http2, stream_id, plan, headers, arrived);
        if is_last {
            self.drain_link();
        }
        self.answer(base, now, stream_id, plan, respond, answer)
    }

    fn answer(
        &mut self,
        base: &mut Base,
        now: Instant,
        stream_id: u32,
        plan: Plan,
        mut respond: SendResponse<Bytes>,
        answer: Answer,
    ) -> Step {
        match answer {
            Answer::Delay(delay, answer) => Step::Keep(Phase::Delayed {
                respond,
                plan,
                until: now + delay,
                answer: *answer,
            }),
            Answer::Never => Step::Keep(Phase::Silent(respond)),
            Answer::Drain(answer) => {
                self.drain_link();
                self.answer(base, now, stream_id, plan, respond, *answer)
            }
            Answer::GoAway { reason, debug_data } => {
                self.exclude_from(stream_id, reason, &debug_data);
                Step::Keep(Phase::Excluded { _respond: respond })
            }
            Answer::Reset(reason) => {
                respond.send_reset(Reason::from(reason));
                Step::Over
            }
            Answer::CloseConnection => {
                self.close(Ending::Closed);
                Step::Over
            }
            Answer::AbortConnection => {
                self.close(Ending::Aborted);
                Step::Over
            }
            Answer::Cut(bytes, answer) => match *answer {
                Answer::Delay(delay, answer) => {
                    let cut = Answer::Delay(delay, Box::new(Answer::Cut(bytes, answer)));
                    self.answer(base, now, stream_id, plan, respond, cut)
                }
                answer => self.cut(base, now, stream_id, plan, respond, answer, bytes),
            },
            Answer::Bytes(bytes) => {
                self.pipe.write(&bytes);
                Step::Keep(Phase::Silent(respond))
            }
            answer => {
                // Every answer that is no deed has its words.
                let raw = reply::compose(plan, answer).unwrap_or_else(|| reply::plain(500));
                self.speak(base, now, respond, raw)
            }
        }
    }

    /// Begins to say an answer.
    fn speak(
        &mut self,
        base: &Base,
        now: Instant,
        mut respond: SendResponse<Bytes>,
        mut raw: RawAnswer,
    ) -> Step {
        let speech = Speech::new(now, &mut raw);
        match send(&mut respond, &raw, speech.is_over()) {
            Ok(Sent::Everything) => Step::Over,
            Ok(Sent::Head(stream)) => self.go_on(
                base,
                now,
                Box::new(Saying {
                    stream,
                    speech,
                    trailers: raw.trailers,
                    ends: raw.ends,
                }),
            ),
            // The client has reset the stream, or HTTP/2 does not allow what the user put together.
            Err(_) => {
                respond.send_reset(Reason::INTERNAL_ERROR);
                cancelled(base)
            }
        }
    }

    /// Says what is due of an answer.
    fn go_on(&mut self, base: &Base, now: Instant, mut saying: Box<Saying>) -> Step {
        let trailers = HeaderMap::from_iter(saying.trailers.iter().cloned());
        match say(&mut saying.stream, &mut saying.speech, now, saying.ends, trailers) {
            Ok(true) if saying.ends => Step::Over,
            Ok(true) => Step::Keep(Phase::Open(saying.stream)),
            Ok(false) => Step::Keep(Phase::Saying(saying)),
            Err(_) => {
                saying.stream.send_reset(Reason::INTERNAL_ERROR);
                cancelled(base)
            }
        }
    }

    /// Says the first bytes of an answer and ends the connection.
    #[allow(clippy::too_many_arguments, reason = "all of it is the call")]
    fn cut(
        &mut self,
        base: &mut Base,
        now: Instant,
        stream_id: u32,
        plan: Plan,
        respond: SendResponse<Bytes>,
        answer: Answer,
        bytes: usize,
    ) -> Step {
        // What `h2` has to say to other calls goes out whole.
        self.flush_link();
        let mark = self.pipe.egress_bytes();
        let step = self.answer(base, now, stream_id, plan, respond, answer);
        self.flush_link();
        self.pipe.end_after(mark.saturating_add(bytes));
        self.close(Ending::Cut);
        step
    }

    fn refuse(&mut self, base: &Base, respond: &mut SendResponse<Bytes>, refusal: Refusal) {
        base.count_invalid();
        let raw = reply::refuse(refusal);
        let body: Vec<u8> = raw.data.iter().flatten().copied().collect();
        // A client that has gone already needs no refusal.
        if let Ok(Sent::Head(mut stream)) = send(respond, &raw, body.is_empty()) {
            stream.reserve_capacity(body.len());
            // Words without room in the client's window would wait in `h2` before the reset of a body that nobody reads,
            // and it takes a connection that ends meanwhile for a fault of its own.
            let fits = stream.capacity() >= body.len();
            let _ = stream.send_data(if fits { body.into() } else { Bytes::new() }, true);
        }
    }

    fn drain_link(&mut self) {
        self.is_draining = true;
        if let Link::Open(connection) = &mut self.link {
            connection.graceful_shutdown();
        }
    }

    /// Lets `h2` write what it has.
    fn flush_link(&mut self) {
        if let Link::Open(connection) = &mut self.link {
            let _ = connection.poll_closed(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Says GOAWAY with a last stream of our choosing, which `h2` has no words for.
    fn exclude_from(&mut self, stream_id: u32, reason: u32, debug_data: &[u8]) {
        let last = stream_id.saturating_sub(2);
        if self.last_stream_id.is_some_and(|earlier| earlier <= last) {
            return;
        }
        self.last_stream_id = Some(last);
        self.pipe.write(&goaway_frame(last, reason, debug_data));
    }

    /// Closes a connection whose every call is above the last stream.
    fn end_excluded(&mut self) {
        let Some(last) = self.last_stream_id else {
            return;
        };
        if self.calls.iter().all(|call| call.stream_id > last) {
            self.close(Ending::Closed);
        }
    }

    fn close(&mut self, end: Ending) {
        // Answers to other calls may still be inside `h2`.
        self.flush_link();
        self.link = Link::Over;
        if self.end == Ending::Open || end == Ending::Aborted {
            self.end = end;
        }
    }

    /// The connection is over: so is every call.
    fn lose_calls(&mut self, base: &Base) {
        let calls = core::mem::take(&mut self.calls);
        let answered_late = calls
            .iter()
            .filter(|call| !matches!(call.phase, Phase::Excluded { .. }));
        base.count_cancelled(answered_late.count() as u64);
        self.buffered_bytes = 0;
    }
}

fn cancelled(base: &Base) -> Step {
    base.count_cancelled(1);
    Step::Over
}

/// Whether something that `h2` waited for has come while it was polled.
#[derive(Default)]
struct Woken(AtomicBool);

impl Woken {
    fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
