//! An `h2` client coupled in memory to a session of the collector, on a virtual clock.

use bytes::Bytes;
use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, response};
use otlp_embed::testing::collector::{Builder, Fate, ServerSession};
use otlp_embed::time::Instant;
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub const TRACE_PATH: &str = "http://test/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A client, a session and the bytes between them.
pub struct Pair {
    pub session: ServerSession,
    pub now: Instant,
    /// Everything that the session has said.
    pub said: Vec<u8>,
    /// Everything that the client has said.
    pub asked: Vec<u8>,
    /// Bytes that are handed over at one time, in both directions.
    pub chunk: usize,
    pipe: Pipe,
    connection: Connection<Pipe, Bytes>,
    send: SendRequest<Bytes>,
    pub connection_end: Option<Result<(), h2::Error>>,
}

/// One call of the client and what has come of it.
pub struct Call {
    future: Option<ResponseFuture>,
    body: Option<RecvStream>,
    pub stream: SendStream<Bytes>,
    pub head: Option<response::Parts>,
    pub data: Vec<u8>,
    pub trailers: Option<HeaderMap>,
    pub is_ended: bool,
    pub error: Option<h2::Error>,
}

impl Pair {
    pub fn new(builder: &Builder) -> Self {
        Self::with_client(builder, &h2::client::Builder::new())
    }

    pub fn with_client(builder: &Builder, client: &h2::client::Builder) -> Self {
        let pipe = Pipe::default();
        let mut cx = Context::from_waker(Waker::noop());
        let mut handshake = Box::pin(client.handshake(pipe.clone()));
        let Poll::Ready(Ok((send, connection))) = handshake.as_mut().poll(&mut cx) else {
            panic!("the client's handshake over memory is ready at its first poll");
        };
        let mut pair = Self {
            session: builder.session(7),
            now: Instant::ZERO,
            said: Vec::new(),
            asked: Vec::new(),
            chunk: usize::MAX,
            pipe,
            connection,
            send,
            connection_end: None,
        };
        pair.pump();
        pair
    }

    /// Moves bytes until neither side has any.
    pub fn pump(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if self.connection_end.is_none() {
                if let Poll::Ready(end) = Pin::new(&mut self.connection).poll(&mut cx) {
                    self.connection_end = Some(end);
                }
            }
            let sent = std::mem::take(&mut self.pipe.0.borrow_mut().egress);
            self.asked.extend_from_slice(&sent);
            for chunk in sent.chunks(self.chunk.min(sent.len().max(1))) {
                self.session.handle_input(self.now, chunk);
            }
            let mut answered = Vec::new();
            while let Some(bytes) = self.session.poll_transmit() {
                answered.extend(bytes);
            }
            self.said.extend_from_slice(&answered);
            for chunk in answered.chunks(self.chunk.min(answered.len().max(1))) {
                self.pipe.0.borrow_mut().ingress.extend(chunk);
                let _ = Pin::new(&mut self.connection).poll(&mut cx).map(|end| {
                    self.connection_end.get_or_insert(end);
                });
            }
            if sent.is_empty() && answered.is_empty() {
                break;
            }
        }
        if self.session.fate() != Fate::Open && !self.pipe.0.borrow().is_eof {
            self.pipe.0.borrow_mut().is_eof = true;
            self.pump();
        }
    }

    pub fn advance(&mut self, duration: Duration) {
        self.now = self.now + duration;
        if self.session.poll_timeout().is_some_and(|at| at <= self.now) {
            self.session.handle_timeout(self.now);
        }
        self.pump();
    }

    /// The client goes away.
    pub fn disconnect(&mut self) {
        self.session.handle_eof(self.now);
        self.pump();
    }

    /// Opens a call without sending a body.
    pub fn open(&mut self, request: Request<()>) -> Call {
        let (future, stream) = self
            .send
            .send_request(request, false)
            .expect("a call can be opened");
        self.pump();
        Call {
            future: Some(future),
            body: None,
            stream,
            head: None,
            data: Vec::new(),
            trailers: None,
            is_ended: false,
            error: None,
        }
    }

    /// Sends a whole call with this body, and takes what comes back at once.
    pub fn call_with(&mut self, request: Request<()>, body: &[u8]) -> Call {
        let mut call = self.open(request);
        // Where the head alone was refused there is nobody to send to.
        let _ = call.stream.send_data(Bytes::copy_from_slice(body), true);
        self.pump();
        call.take();
        call
    }

    /// Exports a message.
    pub fn export(&mut self, message: &[u8]) -> Call {
        self.call_with(export_request(), &framed(message))
    }
}

impl Call {
    /// Takes what has come back.
    pub fn take(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        if let Some(future) = &mut self.future {
            match Pin::new(future).poll(&mut cx) {
                Poll::Pending => return,
                Poll::Ready(Err(error)) => {
                    self.future = None;
                    self.error = Some(error);
                    return;
                }
                Poll::Ready(Ok(response)) => {
                    self.future = None;
                    let (head, body) = response.into_parts();
                    self.head = Some(head);
                    self.body = Some(body);
                }
            }
        }
        let Some(body) = &mut self.body else { return };
        loop {
            match body.poll_data(&mut cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(chunk))) => self.data.extend_from_slice(&chunk),
                Poll::Ready(Some(Err(error))) => {
                    self.error = Some(error);
                    return;
                }
                Poll::Ready(None) => break,
            }
        }
        if let Poll::Ready(trailers) = body.poll_trailers(&mut cx) {
            self.is_ended = true;
            match trailers {
                Ok(trailers) => self.trailers = trailers,
                Err(error) => self.error = Some(error),
            }
        }
    }

    /// A field of the trailers, or of a head without any.
    pub fn field(&self, name: &str) -> Option<&str> {
        let head = self.head.as_ref().map(|head| &head.headers);
        let fields = self.trailers.as_ref().or(head)?;
        fields
            .get(name)
            .map(|value| value.to_str().expect("visible ASCII"))
    }

    pub fn grpc_status(&self) -> Option<&str> {
        self.field("grpc-status")
    }

    pub fn http_status(&self) -> Option<u16> {
        self.head.as_ref().map(|head| head.status.as_u16())
    }
}

/// What a client says from its preface to the END_STREAM of one export, and nothing after that.
pub fn bytes_of_one_export(builder: &Builder, message: &[u8]) -> Vec<u8> {
    let mut pair = Pair::new(builder);
    let mut call = pair.open(export_request());
    call.stream
        .send_data(Bytes::from(framed(message)), true)
        .expect("a call takes its body");
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut pair.connection).poll(&mut cx).is_pending());
    let last = std::mem::take(&mut pair.pipe.0.borrow_mut().egress);
    [pair.asked, last].concat()
}

pub fn export_request() -> Request<()> {
    Request::post(TRACE_PATH)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a valid request")
}

/// The message with its gRPC prefix.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend_from_slice(
        &u32::try_from(message.len())
            .expect("a small message")
            .to_be_bytes(),
    );
    framed.extend_from_slice(message);
    framed
}

/// An encoded request of one service, with a span for each name, its number in its ids.
pub fn message(names: &[&str]) -> Vec<u8> {
    let mut scope_spans = field(1, &[field(1, b"scope"), field(2, b"1.0")].concat());
    for (index, name) in names.iter().enumerate() {
        let number = u8::try_from(index + 1).expect("few names");
        let span = [
            field(1, &[number; 16]),
            field(2, &[number; 8]),
            field(4, &[9; 8]),
            field(5, name.as_bytes()),
            vec![6 << 3, 3],
            fixed64(7, 1_000),
            fixed64(8, 2_500),
            field(9, &attribute("http.route", &field(1, b"/chat"))),
            field(9, &attribute("retries", &[3 << 3, 2])),
            field(9, &attribute("tags", &field(5, &field(1, &field(1, b"a"))))),
            field(
                11,
                &[
                    fixed64(1, 1_700),
                    field(2, b"cache miss"),
                    field(3, &attribute("hit", &[2 << 3, 0])),
                ]
                .concat(),
            ),
            field(13, &[field(1, &[5; 16]), field(2, &[6; 8])].concat()),
            field(15, &[field(2, b"boom"), vec![3 << 3, 2]].concat()),
        ];
        scope_spans.extend(field(2, &span.concat()));
    }
    let resource = field(1, &attribute("service.name", &field(1, b"shop")));
    field(1, &[field(1, &resource), field(2, &scope_spans)].concat())
}

fn attribute(key: &str, value: &[u8]) -> Vec<u8> {
    [field(1, key.as_bytes()), field(2, value)].concat()
}

fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![tag << 3 | 2];
    let mut length = bytes.len();
    while length > 0x7f {
        field.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    field.push(u8::try_from(length).expect("seven bits"));
    field.extend_from_slice(bytes);
    field
}

fn fixed64(tag: u8, value: u64) -> Vec<u8> {
    let mut field = vec![tag << 3 | 1];
    field.extend_from_slice(&value.to_le_bytes());
    field
}

#[derive(Clone, Default)]
struct Pipe(Rc<RefCell<Bytestreams>>);

#[derive(Default)]
struct Bytestreams {
    ingress: Vec<u8>,
    egress: Vec<u8>,
    is_eof: bool,
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        if state.ingress.is_empty() && !state.is_eof {
            return Poll::Pending;
        }
        let count = state.ingress.len().min(buf.remaining());
        buf.put_slice(&state.ingress[..count]);
        state.ingress.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().egress.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
