//! One connection of the collector, sans-IO.

use super::answer::Answer;
use super::builder::Settings;
use super::grpc::{self, Refusal};
use super::inbox::Inbox;
use super::pipe::Pipe;
use super::received::ReceivedRequest;
use super::respond::{
    goaway_frame, send_head, send_http_status, send_raw, send_status, send_success, send_unfinished,
};
use crate::code::Code;
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use h2::server::{Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::request;
use std::task::Wake;

/// The server's side of one connection, without I/O.
///
/// Call one of [`handle_input`](Self::handle_input), [`handle_eof`](Self::handle_eof),
/// [`handle_timeout`](Self::handle_timeout) and [`drain`](Self::drain), then take [`poll_transmit`](Self::poll_transmit)
/// until it gives `None`, look at [`fate`](Self::fate), and wait for input or for
/// [`poll_timeout`](Self::poll_timeout).
///
/// Hold input back while much of what was transmitted is unwritten: the session answers input and nothing else, so that
/// its memory is bounded by that.
pub struct ServerSession {
    number: u64,
    settings: Settings,
    inbox: Inbox,
    pipe: Pipe,
    link: Link,
    calls: Vec<Call>,
    /// Bytes of messages that have not arrived whole.
    buffered_bytes: usize,
    /// Requests received.
    received: u64,
    /// Whether a graceful shutdown has been asked for.
    is_draining: bool,
    /// The last stream to be processed, once a GOAWAY of our own has excluded later ones.
    last_stream_id: Option<u32>,
    fate: Fate,
    woken: Arc<Woken>,
    waker: Waker,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Open,
    /// It is over: close it in order once everything transmitted is written.
    Closed,
    /// Tear it down at once.
    Aborted,
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
        until: Instant,
        answer: Answer,
    },
    /// Nothing is said before the client or the connection ends the call; the handle keeps the stream open.
    Silent(SendResponse<Bytes>),
    /// As `Silent`, with the head already said.
    Open(SendStream<Bytes>),
    /// A call above the last stream: neither answered nor reset.
    Excluded { _respond: SendResponse<Bytes> },
}

struct Receiving {
    respond: SendResponse<Bytes>,
    head: request::Parts,
    body: RecvStream,
    bytes: BytesMut,
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

impl ServerSession {
    pub(super) fn new(number: u64, settings: Settings, inbox: Inbox) -> Self {
        let pipe = Pipe::default();
        let woken = Arc::new(Woken::default());
        inbox.count(|counters| counters.connections += 1);
        Self {
            number,
            link: Link::Handshake(Box::pin(settings.http2.handshake(pipe.clone()))),
            settings,
            inbox,
            pipe,
            calls: Vec::new(),
            buffered_bytes: 0,
            received: 0,
            is_draining: false,
            last_stream_id: None,
            fate: Fate::Open,
            waker: Waker::from(Arc::clone(&woken)),
            woken,
        }
    }

    /// Takes bytes from the client; none is a way to let a new session say its first words.
    pub fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        self.pipe.push(bytes);
        self.advance(now);
    }

    /// The client will send nothing more.
    pub fn handle_eof(&mut self, now: Instant) {
        self.pipe.push_eof();
        self.advance(now);
    }

    /// The time of [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    /// Begins a graceful shutdown: two GOAWAY frames, calls under way end well.
    pub fn drain(&mut self, now: Instant) {
        self.drain_link();
        self.advance(now);
    }

    /// Bytes for the client, in order.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.pipe.has_egress().then(|| self.pipe.take_egress())
    }

    /// When the next delayed answer is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.calls.iter().filter_map(|call| match call.phase {
            Phase::Delayed { until, .. } => Some(until),
            _ => None,
        });
        due.min()
    }

    /// What is to become of the connection.
    pub fn fate(&self) -> Fate {
        self.fate
    }

    fn advance(&mut self, now: Instant) {
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        for _ in 0..ROUNDS_MAX {
            self.woken.clear();
            let mut is_busy = self.advance_link(&mut cx);
            while is_busy && self.advance_link(&mut cx) {}
            is_busy |= self.advance_calls(now, &mut cx);
            if matches!(self.link, Link::Over) || !(is_busy || self.woken.is_set()) {
                break;
            }
        }
        self.end_excluded();
        if matches!(self.link, Link::Over) {
            self.lose_calls();
        }
    }

    /// Lets `h2` read, write and accept; tells whether it gave anything.
    fn advance_link(&mut self, cx: &mut Context<'_>) -> bool {
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
                    self.close(Fate::Closed);
                    false
                }
            },
            Link::Open(connection) => match connection.poll_accept(cx) {
                Poll::Pending => false,
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.accept(request, respond);
                    true
                }
                // What `h2` wanted to say about it is in the pipe already.
                Poll::Ready(Some(Err(_)) | None) => {
                    self.close(Fate::Closed);
                    false
                }
            },
            Link::Over => false,
        }
    }

    fn accept(&mut self, request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let stream_id = respond.stream_id().as_u32();
        if self.last_stream_id.is_some_and(|last| stream_id > last) {
            let phase = Phase::Excluded { _respond: respond };
            self.calls.push(Call { stream_id, phase });
            return;
        }
        let (head, body) = request.into_parts();
        if let Err(refusal) = grpc::check_head(&head) {
            self.refuse(&mut respond, refusal);
            return;
        }
        let phase = Phase::Receiving(Box::new(Receiving {
            respond,
            head,
            body,
            bytes: BytesMut::new(),
        }));
        self.calls.push(Call { stream_id, phase });
    }

    /// Lets every call go on as far as it can; tells whether one did.
    fn advance_calls(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let mut is_busy = false;
        for Call { stream_id, phase } in core::mem::take(&mut self.calls) {
            if matches!(self.link, Link::Over) {
                self.calls.push(Call { stream_id, phase });
                continue;
            }
            let step = match phase {
                Phase::Receiving(call) => self.advance_receiving(now, cx, stream_id, call, &mut is_busy),
                Phase::Delayed {
                    mut respond,
                    until,
                    answer,
                } => {
                    if respond.poll_reset(cx).is_ready() {
                        self.cancelled()
                    } else if until <= now {
                        is_busy = true;
                        self.answer(now, stream_id, respond, answer)
                    } else {
                        Step::Keep(Phase::Delayed {
                            respond,
                            until,
                            answer,
                        })
                    }
                }
                Phase::Silent(mut respond) => match respond.poll_reset(cx) {
                    Poll::Pending => Step::Keep(Phase::Silent(respond)),
                    Poll::Ready(_) => self.cancelled(),
                },
                Phase::Open(mut stream) => match stream.poll_reset(cx) {
                    Poll::Pending => Step::Keep(Phase::Open(stream)),
                    Poll::Ready(_) => self.cancelled(),
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
                    if let Err(refusal) = self.take_chunk(&mut call, &chunk) {
                        self.buffered_bytes -= call.bytes.len();
                        self.refuse(&mut call.respond, refusal);
                        return Step::Over;
                    }
                }
                Poll::Ready(Some(Err(_))) => {
                    self.buffered_bytes -= call.bytes.len();
                    return self.cancelled();
                }
                Poll::Ready(None) => {
                    *is_busy = true;
                    self.buffered_bytes -= call.bytes.len();
                    return self.receive(now, stream_id, *call);
                }
            }
        }
    }

    fn take_chunk(&mut self, call: &mut Receiving, chunk: &Bytes) -> Result<(), Refusal> {
        // Fails only for a stream that is gone, which the next poll tells.
        let _ = call.body.flow_control().release_capacity(chunk.len());
        call.bytes.extend_from_slice(chunk);
        self.buffered_bytes += chunk.len();
        if self.buffered_bytes
            > self
                .settings
                .message_bytes_max
                .saturating_mul(4)
                .saturating_add(1024)
        {
            let message = "too many bytes arrive at one time on this connection".into();
            return Err(Refusal::Grpc(Code::RESOURCE_EXHAUSTED, message));
        }
        grpc::check_size(&call.bytes, self.settings.message_bytes_max)
    }

    /// Records a request that has arrived whole, and answers it.
    fn receive(&mut self, now: Instant, stream_id: u32, call: Receiving) -> Step {
        let Receiving {
            mut respond,
            head,
            bytes,
            ..
        } = call;
        let (encoded_len, message) = match grpc::read_message(&bytes) {
            Ok(read) => read,
            Err(refusal) => {
                self.refuse(&mut respond, refusal);
                return Step::Over;
            }
        };
        let request = ReceivedRequest {
            index: 0,
            connection: self.number,
            stream_id,
            headers: text_fields(&head),
            items: 0,
            encoded_len,
            answer: None,
        };
        let answer = self.inbox.receive(request, message, self.settings.keep_requests);
        self.received += 1;
        if self.settings.requests_per_connection == Some(self.received) {
            self.drain_link();
        }
        self.answer(now, stream_id, respond, answer)
    }

    fn answer(
        &mut self,
        now: Instant,
        stream_id: u32,
        mut respond: SendResponse<Bytes>,
        answer: Answer,
    ) -> Step {
        let sent = match answer {
            Answer::Ok => send_success(&mut respond, 0, ""),
            Answer::PartialSuccess { rejected, message } => send_success(&mut respond, rejected, &message),
            Answer::Status {
                code,
                message,
                retry_info,
            } => send_status(&mut respond, code, &message, retry_info),
            Answer::Delay(delay, answer) => {
                return Step::Keep(Phase::Delayed {
                    respond,
                    until: now + delay,
                    answer: *answer,
                });
            }
            Answer::Never => return Step::Keep(Phase::Silent(respond)),
            Answer::HeadersOnly => send_head(&mut respond),
            Answer::NoTrailers => send_unfinished(&mut respond),
            Answer::Drain(answer) => {
                self.drain_link();
                return self.answer(now, stream_id, respond, *answer);
            }
            Answer::GoAway { reason, debug_data } => {
                self.exclude_from(stream_id, reason, &debug_data);
                return Step::Keep(Phase::Excluded { _respond: respond });
            }
            Answer::Reset(reason) => {
                respond.send_reset(Reason::from(reason));
                Ok(None)
            }
            Answer::HttpStatus(status) => send_http_status(&mut respond, status),
            Answer::CloseConnection => {
                self.close(Fate::Closed);
                Ok(None)
            }
            Answer::AbortConnection => {
                self.close(Fate::Aborted);
                Ok(None)
            }
            Answer::Raw(raw) => send_raw(&mut respond, raw),
        };
        match sent {
            Ok(Some(open)) => Step::Keep(Phase::Open(open)),
            Ok(None) => Step::Over,
            // The client has reset the stream, or HTTP/2 does not allow what the user put together.
            Err(_) => {
                respond.send_reset(Reason::INTERNAL_ERROR);
                self.cancelled()
            }
        }
    }

    fn refuse(&mut self, respond: &mut SendResponse<Bytes>, refusal: Refusal) {
        self.inbox.count(|counters| counters.calls_invalid += 1);
        // A client that has gone already needs no refusal.
        let _ = match refusal {
            Refusal::Http(status) => send_http_status(respond, status.as_u16()),
            Refusal::Grpc(code, message) => send_status(respond, code, &message, None),
        };
    }

    fn cancelled(&self) -> Step {
        self.inbox.count(|counters| counters.calls_cancelled += 1);
        Step::Over
    }

    fn drain_link(&mut self) {
        self.is_draining = true;
        if let Link::Open(connection) = &mut self.link {
            connection.graceful_shutdown();
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
            self.close(Fate::Closed);
        }
    }

    fn close(&mut self, fate: Fate) {
        // Answers to other calls may still be inside `h2`.
        if let Link::Open(connection) = &mut self.link {
            let _ = connection.poll_closed(&mut Context::from_waker(Waker::noop()));
        }
        self.link = Link::Over;
        if self.fate != Fate::Aborted {
            self.fate = fate;
        }
    }

    /// The connection is over: so is every call.
    fn lose_calls(&mut self) {
        let calls = core::mem::take(&mut self.calls);
        let answered_late = calls
            .iter()
            .filter(|call| !matches!(call.phase, Phase::Excluded { .. }));
        let lost = answered_late.count() as u64;
        self.inbox.count(|counters| counters.calls_cancelled += lost);
        self.buffered_bytes = 0;
    }
}

impl fmt::Debug for ServerSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSession")
            .field("number", &self.number)
            .field("calls", &self.calls.len())
            .field("received", &self.received)
            .field("fate", &self.fate)
            .finish_non_exhaustive()
    }
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

/// The fields of a head, pseudo-fields first.
fn text_fields(head: &request::Parts) -> Vec<(String, String)> {
    let mut texts = Vec::with_capacity(head.headers.len() + 4);
    texts.push((":method".into(), head.method.as_str().into()));
    texts.push((":path".into(), head.uri.path().into()));
    if let Some(scheme) = head.uri.scheme_str() {
        texts.push((":scheme".into(), scheme.into()));
    }
    if let Some(authority) = head.uri.authority() {
        texts.push((":authority".into(), authority.as_str().into()));
    }
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        texts.push((name.as_str().into(), value));
    }
    texts
}
