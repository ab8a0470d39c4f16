//! A session coupled to a server in memory, on a virtual clock.
//!
//! [`Pair`] puts it opposite a real `h2` server over a link that cuts the bytes at seeded places; [`Raw`] opposite
//! frames written by hand, for servers that break the rules.
#![allow(dead_code, unused_imports)]

#[path = "session_raw.rs"]
mod session_raw;

pub use session_raw::*;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response};
use otlp_embed::encode::Signal;
use otlp_embed::protocol::{Answer, CallEnd, CallId, Connection as _, Event, Failure, Session};
use otlp_embed::time::Instant;
use otlp_embed::{Code, Config, Request};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a server does with a call once it has read the request.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Success with an empty response.
    Ok,
    /// Success, with an empty DATA frame in front of the response.
    OkAfterEmptyData,
    /// Success with these bytes as the body, cut into DATA frames of the given length.
    Body(Vec<u8>, usize),
    /// A status in trailers.
    Status(u32, &'static str),
    /// A status in a head that ends the stream.
    TrailersOnly(u32, &'static str),
    /// A reset.
    Reset(Reason),
    /// An answer of plain HTTP: a status, fields and a body in DATA frames, a short one in frames of three bytes.
    Http(u16, &'static [(&'static str, &'static str)], Vec<u8>),
    /// The head of such an answer, and then the stream is reset.
    HttpCut(u16),
    /// No answer; the stream stays open.
    Hold,
}

/// The server's end of the link.
#[derive(Clone, Default)]
pub struct MemIo(Arc<Mutex<Mem>>);

#[derive(Default)]
struct Mem {
    inbox: VecDeque<u8>,
    outbox: VecDeque<u8>,
    is_ended: bool,
}

impl AsyncRead for MemIo {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mem = &mut *self.0.lock().expect("one thread");
        if mem.inbox.is_empty() && !mem.is_ended {
            return Poll::Pending;
        }
        let count = buf.remaining().min(mem.inbox.len());
        let (front, back) = mem.inbox.as_slices();
        let split = front.len().min(count);
        buf.put_slice(&front[..split]);
        buf.put_slice(&back[..count - split]);
        mem.inbox.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MemIo {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0.lock().expect("one thread").outbox.extend(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A request that the server is reading or holding.
struct Served {
    head: http::request::Parts,
    body: RecvStream,
    bytes: Vec<u8>,
    is_read: bool,
    respond: Option<SendResponse<Bytes>>,
    sending: Option<SendStream<Bytes>>,
}

/// An `h2` server polled by hand.
pub struct Server {
    io: MemIo,
    connection: Option<Connection<MemIo, Bytes>>,
    served: Vec<Served>,
    /// What it does with the next calls, in their order; then with all others.
    pub next: VecDeque<Behaviour>,
    pub otherwise: Behaviour,
    /// The heads and messages of all requests that it read whole.
    pub requests: Vec<(http::request::Parts, Vec<u8>)>,
}

impl Server {
    pub fn new(set: impl FnOnce(&mut h2::server::Builder)) -> Self {
        let io = MemIo::default();
        let mut builder = h2::server::Builder::new();
        set(&mut builder);
        // The handshake reads the client's preface first: it is completed by the first bytes.
        io.0.lock()
            .expect("one thread")
            .inbox
            .extend(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut handshake = pin!(builder.handshake::<_, Bytes>(io.clone()));
        let Poll::Ready(Ok(connection)) = handshake.as_mut().poll(&mut context()) else {
            panic!("the handshake needs no more than the preface");
        };
        Self {
            io,
            connection: Some(connection),
            served: Vec::new(),
            next: VecDeque::new(),
            otherwise: Behaviour::Ok,
            requests: Vec::new(),
        }
    }

    /// Begins a graceful shutdown in two steps.
    pub fn shut_down(&mut self) {
        self.connection.as_mut().expect("it runs").graceful_shutdown();
    }

    pub fn connection(&mut self) -> &mut Connection<MemIo, Bytes> {
        self.connection.as_mut().expect("it runs")
    }

    /// Whether it has said all it had to say and closed.
    pub fn is_done(&self) -> bool {
        self.connection.is_none()
    }

    /// Answers every held call now.
    pub fn release(&mut self, behaviour: &Behaviour) {
        for mut served in self.served.drain(..) {
            if served.is_read {
                act(&mut served, behaviour);
            }
        }
    }

    fn poll(&mut self) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let mut is_over = false;
        loop {
            match connection.poll_accept(&mut context()) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let (head, body) = request.into_parts();
                    self.served.push(Served {
                        head,
                        body,
                        bytes: Vec::new(),
                        is_read: false,
                        respond: Some(respond),
                        sending: None,
                    });
                }
                Poll::Ready(Some(Err(_)) | None) => {
                    is_over = true;
                    break;
                }
                Poll::Pending => break,
            }
        }
        let mut index = 0;
        while index < self.served.len() {
            let served = &mut self.served[index];
            index += 1;
            if served.is_read || !read(served) {
                continue;
            }
            served.is_read = true;
            self.requests
                .push((served.head.clone(), std::mem::take(&mut served.bytes)));
            let behaviour = self.next.pop_front().unwrap_or_else(|| self.otherwise.clone());
            if !matches!(behaviour, Behaviour::Hold) {
                act(served, &behaviour);
                index -= 1;
                self.served.remove(index);
            }
        }
        // What was answered goes out.
        if let Some(connection) = &mut self.connection {
            is_over |= connection.poll_closed(&mut context()).is_ready();
        }
        if is_over {
            self.connection = None;
        }
    }
}

fn read(served: &mut Served) -> bool {
    loop {
        match served.body.poll_data(&mut context()) {
            Poll::Ready(Some(Ok(bytes))) => {
                served.bytes.extend_from_slice(&bytes);
                let _ = served.body.flow_control().release_capacity(bytes.len());
            }
            Poll::Ready(None) => return true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => return false,
        }
    }
}

fn act(served: &mut Served, behaviour: &Behaviour) {
    let Some(mut respond) = served.respond.take() else {
        return;
    };
    let head = |status: Option<(u32, &'static str)>| {
        let mut head = Response::builder().header("content-type", "application/grpc");
        if let Some((code, message)) = status {
            head = head.header("grpc-status", code).header("grpc-message", message);
        }
        head.body(()).expect("a head")
    };
    let trailers = |code: u32, message: &'static str| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", code.into());
        if !message.is_empty() {
            trailers.insert("grpc-message", http::HeaderValue::from_static(message));
        }
        trailers
    };
    // A client that reset its stream hears nothing: errors of sending are its business.
    match behaviour {
        Behaviour::Http(status, fields, body) => {
            let mut head = Response::builder().status(*status);
            for (name, value) in *fields {
                head = head.header(*name, *value);
            }
            let head = head.body(()).expect("a head");
            let Ok(mut sending) = respond.send_response(head, body.is_empty()) else {
                return;
            };
            let mut chunks = body
                .chunks(if body.len() < 1_000 { 3 } else { 16_000 })
                .peekable();
            while let Some(chunk) = chunks.next() {
                let _ = sending.send_data(Bytes::copy_from_slice(chunk), chunks.peek().is_none());
            }
        }
        Behaviour::HttpCut(status) => {
            let head = Response::builder().status(*status).body(()).expect("a head");
            if let Ok(mut sending) = respond.send_response(head, false) {
                let _ = sending.send_data(Bytes::from_static(b"ab"), false);
                served.sending = Some(sending);
            }
        }
        Behaviour::Ok | Behaviour::OkAfterEmptyData | Behaviour::Body(..) => {
            let Ok(mut sending) = respond.send_response(head(None), false) else {
                return;
            };
            if matches!(behaviour, Behaviour::OkAfterEmptyData) {
                let _ = sending.send_data(Bytes::new(), false);
            }
            let (body, size) = match behaviour {
                Behaviour::Body(body, size) => (body.clone(), *size),
                _ => (vec![0; 5], 5),
            };
            for chunk in body.chunks(size.max(1)) {
                let _ = sending.send_data(Bytes::copy_from_slice(chunk), false);
            }
            let _ = sending.send_trailers(trailers(0, ""));
            served.sending = Some(sending);
        }
        Behaviour::Status(code, message) => {
            if let Ok(mut sending) = respond.send_response(head(None), false) {
                let _ = sending.send_trailers(trailers(*code, message));
            }
        }
        Behaviour::TrailersOnly(code, message) => {
            let _ = respond.send_response(head(Some((*code, message))), true);
        }
        Behaviour::Reset(reason) => respond.send_reset(*reason),
        Behaviour::Hold => {}
    }
}

/// A session, an `h2` server and the link between them.
pub struct Pair<S = Session> {
    pub settings: otlp_embed::protocol::Settings,
    pub session: S,
    pub server: Server,
    pub now: Instant,
    /// Bytes on their way to the server.
    upward: VecDeque<u8>,
    /// Whether the preface, which the server's handshake took, is off the front of `upward`.
    preface_left: usize,
    random: fastrand::Rng,
    pub log: Log,
    next_call: u64,
}

/// What a session reported.
#[derive(Default)]
pub struct Log {
    pub ends: BTreeMap<u64, CallEnd>,
    pub sent: Vec<u64>,
    pub draining: Vec<String>,
    pub closed: Vec<String>,
    /// How often the peer asked for fewer pings.
    pub calmed: usize,
}

impl Log {
    /// Takes every event of `session` and checks that each may still come.
    pub fn drain(&mut self, session: &mut impl otlp_embed::protocol::Connection) {
        while let Some(event) = session.poll_event() {
            assert!(self.closed.is_empty(), "nothing comes after the end: {event:?}");
            match event {
                Event::RequestSent(call) => {
                    assert!(!self.ends.contains_key(&call.0), "sent after its end: {call:?}");
                    assert!(!self.sent.contains(&call.0), "sent twice: {call:?}");
                    self.sent.push(call.0);
                }
                Event::Ended(call, end) => {
                    let earlier = self.ends.insert(call.0, end);
                    assert!(earlier.is_none(), "ended twice: {call:?}");
                }
                Event::Draining(why) => {
                    self.draining.push(why);
                    assert_eq!(self.draining.len(), 1, "a connection drains once");
                }
                Event::TooManyPings => self.calmed += 1,
                Event::Warned(what) | Event::Refused(what) => panic!("in plain text: {what}"),
                Event::Closed(why) => self.closed.push(why),
            }
        }
    }

    /// The end of a call that has one.
    pub fn end(&self, call: u64) -> &CallEnd {
        self.ends
            .get(&call)
            .unwrap_or_else(|| panic!("call {call} has no end"))
    }

    /// The answer of a call that has one.
    pub fn answer(&self, call: u64) -> &Answer {
        match self.end(call) {
            CallEnd::Answered(answer) => answer,
            other => panic!("call {call} has no answer: {other:?}"),
        }
    }

    /// Whether a call ended in success, with nothing refused.
    pub fn is_ok(&self, call: u64) -> bool {
        matches!(self.ends.get(&call), Some(CallEnd::Answered(answer)) if answer.code == Code::OK && answer.rejected == 0)
    }
}

impl Pair {
    pub fn new(seed: u64) -> Self {
        Self::with_server(
            seed,
            Config::new().with_protocol(otlp_embed::Protocol::Grpc),
            |_| {},
        )
    }

    pub fn with_server(seed: u64, config: Config, set: impl FnOnce(&mut h2::server::Builder)) -> Self {
        Self::open(seed, config.settings().expect("settings that work"), set)
    }
}

impl<S: otlp_embed::protocol::Connection> Pair<S> {
    /// A connection of the kind `S` opposite a server.
    pub fn open(
        seed: u64,
        settings: otlp_embed::protocol::Settings,
        set: impl FnOnce(&mut h2::server::Builder),
    ) -> Self {
        Self {
            session: S::open(&settings.lanes[0], Instant::ZERO).expect("a session"),
            settings,
            server: Server::new(set),
            now: Instant::ZERO,
            upward: VecDeque::new(),
            preface_left: 24,
            random: fastrand::Rng::with_seed(seed),
            log: Log::default(),
            next_call: 0,
        }
    }

    /// Starts a call of `len` bytes that has ten seconds; its number, unless the session refused.
    pub fn start(&mut self, len: usize) -> Result<u64, Failure> {
        self.start_request(&request(len))
    }

    pub fn start_request(&mut self, request: &Request) -> Result<u64, Failure> {
        let call = self.next_call;
        let deadline = self.now + Duration::from_secs(10);
        self.session
            .start(self.now, CallId(call), &self.settings.outgoing(request, deadline))?;
        self.next_call += 1;
        Ok(call)
    }

    /// Lets bytes flow, cut anywhere, until nothing moves any more.
    pub fn run(&mut self) {
        for _ in 0..1_000_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the pair does not come to rest");
    }

    /// The socket takes everything that waits for it.
    pub fn deliver(&mut self) {
        while self.send(usize::MAX) {}
        self.log.drain(&mut self.session);
    }

    /// Moves up to `count` bytes to the server; whether there were any.
    fn send(&mut self, count: usize) -> bool {
        self.collect();
        let count = count.min(self.upward.len());
        if count == 0 {
            return false;
        }
        let bytes: Vec<u8> = self.upward.drain(..count).collect();
        self.session.handle_sent(self.now, count);
        let skipped = self.preface_left.min(count);
        self.preface_left -= skipped;
        let mem = &mut *self.server.io.0.lock().expect("one thread");
        mem.inbox.extend(&bytes[skipped..]);
        true
    }

    fn collect(&mut self) {
        while let Some(pieces) = self.session.poll_transmit() {
            for piece in pieces {
                self.upward.extend(&*piece);
            }
        }
    }

    /// Moves one cut of bytes each way; whether anything moved.
    pub fn step(&mut self) -> bool {
        self.collect();
        let count = self.cut(self.upward.len());
        let mut has_moved = self.send(count);
        self.server.poll();
        let waiting = self.server.io.0.lock().expect("one thread").outbox.len();
        let count = self.cut(waiting);
        let bytes: Vec<u8> = {
            let mem = &mut *self.server.io.0.lock().expect("one thread");
            mem.outbox.drain(..count).collect()
        };
        if !bytes.is_empty() {
            has_moved = true;
            self.session.handle_input(self.now, &bytes);
        }
        self.log.drain(&mut self.session);
        has_moved
    }

    /// The link breaks: what is under way on it is lost.
    pub fn cut_off(&mut self, reason: &str) {
        self.session.handle_eof(self.now, reason);
        self.log.drain(&mut self.session);
    }

    /// Time passes, up to whatever is due.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        if self.session.poll_timeout().is_some_and(|at| at <= self.now) {
            self.session.handle_timeout(self.now);
        }
        self.log.drain(&mut self.session);
    }

    fn cut(&mut self, len: usize) -> usize {
        if len == 0 {
            return 0;
        }
        match self.random.u8(0..4) {
            0 => 1,
            1 => len,
            _ => self.random.usize(1..=len.min(4_096)),
        }
    }
}

/// A request of `len` bytes that carries ten items; its bytes come in segments of uneven lengths.
pub fn request(len: usize) -> Request {
    let bytes = Bytes::from((0..len).map(|at| at as u8).collect::<Vec<u8>>());
    let mut segments = Vec::new();
    let mut rest = bytes;
    let mut size = 1;
    while !rest.is_empty() {
        segments.push(rest.split_to(size.min(rest.len())));
        size = size * 3 + 1;
    }
    Request::from_segments(Signal::Traces, 10, segments)
}

pub fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
