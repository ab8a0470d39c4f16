//! One call: its stream, and the reading of its answer.

use super::link::context;
use crate::protocol::Answer;
use crate::protocol::CallId;
use crate::protocol::http2::payload::Payload;
use crate::protocol::http2::reply::{Asked, Reply};
use crate::protocol::status::TooLarge;
use crate::time::Instant;
use core::future::Future;
use core::pin::Pin;
use core::task::Poll;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};

/// A call that is under way.
pub(super) struct Call {
    pub id: CallId,
    pub stream: u32,
    pub deadline: Instant,
    /// Whether the socket has taken the whole request.
    pub is_sent: bool,
    /// Items in the request.
    items: u64,
    asked: Asked,
    /// Keeps the stream open and resets it.
    pub sending: SendStream<Payload>,
    answer: Answering,
}

/// How far the answer is.
///
/// ```text
/// Head ──(HEADERS)──> Body ──(END_STREAM, trailers)──> read
///   └──────(error)──────┴────────────────────────────> read
/// ```
enum Answering {
    /// Nothing but interim responses came.
    Head(ResponseFuture),
    /// The body is coming in.
    Body(RecvStream, Reply),
    /// The answer was read or never came whole.
    Read,
}

/// How the reading of an answer ended.
pub(super) enum ReadEnd {
    /// With an answer.
    Answered(Answer),
    /// With an error on the stream or the connection.
    Broken(h2::Error),
    /// With more bytes than allowed.
    TooLarge,
}

impl Call {
    pub(super) fn new(
        id: CallId,
        deadline: Instant,
        items: u64,
        asked: Asked,
        response: ResponseFuture,
        sending: SendStream<Payload>,
    ) -> Self {
        Self {
            id,
            stream: response.stream_id().as_u32(),
            deadline,
            is_sent: false,
            items,
            asked,
            sending,
            answer: Answering::Head(response),
        }
    }

    /// Bytes of the answer that are held.
    pub(super) fn held(&self) -> usize {
        match &self.answer {
            Answering::Body(_, reply) => reply.held(),
            Answering::Head(_) | Answering::Read => 0,
        }
    }

    /// Reads what came of the answer, at most `response_bytes_max` bytes of it.
    pub(super) fn poll(&mut self, response_bytes_max: usize) -> Poll<ReadEnd> {
        let mut state = core::mem::replace(&mut self.answer, Answering::Read);
        loop {
            state = match state {
                Answering::Head(mut response) => match Pin::new(&mut response).poll(&mut context()) {
                    Poll::Pending => {
                        self.answer = Answering::Head(response);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(response)) => {
                        let reply = Reply::new(&response, self.asked, response_bytes_max);
                        Answering::Body(response.into_body(), reply)
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(ReadEnd::Broken(error)),
                },
                Answering::Body(mut body, mut reply) => match read_body(&mut body, &mut reply) {
                    Poll::Pending => {
                        self.answer = Answering::Body(body, reply);
                        return Poll::Pending;
                    }
                    Poll::Ready(BodyEnd::Trailers(trailers)) => {
                        return Poll::Ready(ReadEnd::of(reply.finish(trailers.as_ref(), self.items)));
                    }
                    Poll::Ready(BodyEnd::Broken(_)) if reply.has_status() => {
                        return Poll::Ready(ReadEnd::of(reply.finish(None, self.items)));
                    }
                    Poll::Ready(BodyEnd::Broken(error)) => return Poll::Ready(ReadEnd::Broken(error)),
                    Poll::Ready(BodyEnd::TooLarge) => return Poll::Ready(ReadEnd::TooLarge),
                },
                Answering::Read => return Poll::Pending,
            }
        }
    }
}

impl ReadEnd {
    fn of(answer: Result<Answer, TooLarge>) -> Self {
        answer.map_or(Self::TooLarge, Self::Answered)
    }
}

enum BodyEnd {
    Trailers(Option<http::HeaderMap>),
    Broken(h2::Error),
    TooLarge,
}

/// Reads the body to its end and hands its window back as it goes.
fn read_body(body: &mut RecvStream, reply: &mut Reply) -> Poll<BodyEnd> {
    loop {
        let bytes = match body.poll_data(&mut context()) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => break,
            Poll::Ready(Some(Err(error))) => return Poll::Ready(BodyEnd::Broken(error)),
            Poll::Ready(Some(Ok(bytes))) => bytes,
        };
        if reply.take(&bytes).is_err() {
            return Poll::Ready(BodyEnd::TooLarge);
        }
        // It fails only for more bytes than came.
        let _ = body.flow_control().release_capacity(bytes.len());
    }
    match body.poll_trailers(&mut context()) {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Ok(trailers)) => Poll::Ready(BodyEnd::Trailers(trailers)),
        Poll::Ready(Err(error)) => Poll::Ready(BodyEnd::Broken(error)),
    }
}
