//! What the collector says to a call.

use super::coding;
use crate::code::Code;
use crate::config::{Compression, Protocol};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use http::{HeaderName, HeaderValue};

/// The answer to one call.
///
/// Each has its form in every protocol: over gRPC a status travels in trailers, over OTLP/HTTP it is an HTTP status with
/// a `google.rpc.Status` as its body, in the format of the request.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// Every item is accepted.
    #[default]
    Ok,
    /// Some items are refused, or a warning goes with the success (OTLP specification, "Partial Success").
    PartialSuccess {
        /// Items refused; none makes the message a warning.
        rejected: i64,
        /// The words that go with it.
        message: String,
    },
    /// A failure. Over gRPC it is a status without a message body ("Trailers-Only"); over OTLP/HTTP it is the HTTP status
    /// that goes best with the code.
    Status {
        /// The status code.
        code: Code,
        /// `grpc-message`, percent-encoded on the way.
        message: String,
        /// The wait to put into a `RetryInfo`, and over OTLP/HTTP into `Retry-After` as well, in seconds rounded up.
        retry_info: Option<Duration>,
    },
    /// Another answer, later.
    Delay(Duration, Box<Answer>),
    /// Nothing at all: the call stays open.
    Never,
    /// The head of a success and nothing more: the call stays open.
    HeadersOnly,
    /// Head and message of a success; the end never comes and the call stays open.
    NoTrailers,
    /// Another answer on a connection that from now on drains: on HTTP/2 two GOAWAY frames, and calls under way end well;
    /// on HTTP/1.1 `Connection: close`.
    Drain(Box<Answer>),
    /// A GOAWAY whose last stream is the one before this call: neither this call nor a later one on the connection is
    /// answered, earlier ones are, and then the connection is closed. On HTTP/1.1 it is closed without an answer.
    GoAway {
        /// The HTTP/2 error code, zero being `NO_ERROR`.
        reason: u32,
        /// The debug data of the frame.
        debug_data: Bytes,
    },
    /// RST_STREAM with this HTTP/2 error code. On HTTP/1.1 the connection is torn down.
    Reset(u32),
    /// An HTTP status with a short text and nothing of OTLP or gRPC, as a proxy would answer.
    HttpStatus(u16),
    /// The connection is closed in order (FIN) without an answer.
    CloseConnection,
    /// The connection is torn down (RST) without an answer.
    AbortConnection,
    /// Whatever HTTP can express.
    Raw(RawAnswer),
    /// A success, partial success or status whose body is compressed: over gRPC the message, with `grpc-encoding`; over
    /// OTLP/HTTP the whole body, with `content-encoding`. It is `INTERNAL` where the build has no such compression.
    Compressed(Compression, Box<Answer>),
    /// As many bytes of another answer as they go over the connection (below TLS), and then the connection is closed
    /// without a word of TLS. On HTTP/2 these are bytes of frames, and other calls on the connection are lost. With
    /// `usize::MAX` the answer is whole, and a connection that seems to be kept alive is gone after it.
    Cut(usize, Box<Answer>),
    /// These bytes in the place of an answer, as they are, whatever they do to the connection; it goes on.
    Bytes(Bytes),
}

impl Answer {
    /// A status with a message and no details.
    pub fn status(code: Code, message: impl Into<String>) -> Self {
        Self::Status {
            code,
            message: message.into(),
            retry_info: None,
        }
    }

    /// `UNAVAILABLE`: the failure that every exporter is to retry.
    pub fn unavailable() -> Self {
        Self::status(Code::UNAVAILABLE, "the collector is not available")
    }

    /// `RESOURCE_EXHAUSTED` with a `RetryInfo` of this delay.
    pub fn throttled(delay: Duration) -> Self {
        Self::Status {
            code: Code::RESOURCE_EXHAUSTED,
            message: String::from("the collector is at its limit"),
            retry_info: Some(delay),
        }
    }

    /// This answer, `delay` later.
    pub fn after(self, delay: Duration) -> Self {
        Self::Delay(delay, Box::new(self))
    }

    /// This answer with its body compressed.
    ///
    /// # Panics
    ///
    /// Where the build has no such compression.
    pub fn compressed(self, compression: Compression) -> Self {
        assert!(
            coding::is_built(compression),
            "the feature `{}` is off",
            coding::name(compression)
        );
        Self::Compressed(compression, Box::new(self))
    }

    /// The first `bytes` of this answer and the end of the connection.
    pub fn cut_after(self, bytes: usize) -> Self {
        Self::Cut(bytes, Box::new(self))
    }

    /// The items of `items` that this answer accepts.
    pub(super) fn accepted(&self, protocol: Protocol, items: u64) -> u64 {
        match self {
            Self::PartialSuccess { rejected, .. } => {
                items.saturating_sub(u64::try_from(*rejected).unwrap_or(0))
            }
            Self::Delay(_, answer)
            | Self::Drain(answer)
            | Self::Compressed(_, answer)
            | Self::Cut(usize::MAX, answer) => answer.accepted(protocol, items),
            _ if self.is_success_over(protocol) => items,
            _ => 0,
        }
    }

    /// Whether this answer is a success over gRPC.
    pub fn is_success(&self) -> bool {
        self.is_success_over(Protocol::Grpc)
    }

    /// Whether this answer is a success over this protocol: a [`RawAnswer`] may be one over HTTP and none over gRPC.
    pub fn is_success_over(&self, protocol: Protocol) -> bool {
        match self {
            Self::Ok | Self::PartialSuccess { .. } => true,
            Self::Status { code, .. } => *code == Code::OK,
            // One that is cut after its end is whole.
            Self::Delay(_, answer)
            | Self::Drain(answer)
            | Self::Compressed(_, answer)
            | Self::Cut(usize::MAX, answer) => answer.is_success_over(protocol),
            Self::HttpStatus(status) => protocol != Protocol::Grpc && (200..300).contains(status),
            Self::Raw(raw) => raw.is_success_over(protocol),
            _ => false,
        }
    }
}

/// An answer put together by hand: interim heads, a head, a body in pieces, trailers.
///
/// On HTTP/2 each piece of the body is a DATA frame. On HTTP/1.1 the body is sent with `Content-Length`, or in chunks, each
/// piece one, where its length cannot be told in advance. A head that has `content-length` or `transfer-encoding` of its
/// own is left alone there, and the pieces are sent as they are, so that everything can be said that is wrong. A field
/// alone closes nothing: for `Connection: close` that is meant there is [`Answer::Drain`].
#[derive(Clone, Debug, PartialEq)]
pub struct RawAnswer {
    pub(super) informational: Vec<u16>,
    pub(super) status: u16,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) data: Vec<Bytes>,
    pub(super) trailers: Vec<(HeaderName, HeaderValue)>,
    pub(super) ends: bool,
    /// The time between two pieces of the body.
    pub(super) pace: Duration,
    /// Whether the last piece is repeated for ever.
    pub(super) is_endless: bool,
    /// How HTTP/1.1 tells the end of the body.
    pub(super) delimited: Delimited,
}

/// How HTTP/1.1 tells the end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delimited {
    LengthOrChunks,
    Chunks,
    Close,
}

/// The least time between two pieces of an endless body: without one, answering would never end.
const PACE_MIN: Duration = Duration::from_millis(1);

impl RawAnswer {
    /// A head with this HTTP status, no fields and no body, which ends the call.
    ///
    /// # Panics
    ///
    /// Where the status is not a number from 200 to 999.
    pub fn new(status: u16) -> Self {
        assert!((200..1000).contains(&status), "a final HTTP status is needed");
        Self {
            informational: Vec::new(),
            status,
            headers: Vec::new(),
            data: Vec::new(),
            trailers: Vec::new(),
            ends: true,
            pace: Duration::ZERO,
            is_endless: false,
            delimited: Delimited::LengthOrChunks,
        }
    }

    /// Sends an interim head before the final one.
    ///
    /// # Panics
    ///
    /// Where the status is not a number from 102 to 199: HTTP/2 knows no other (RFC 9113, section 8.6).
    pub fn informational(mut self, status: u16) -> Self {
        assert!((102..200).contains(&status), "an interim HTTP status is needed");
        self.informational.push(status);
        self
    }

    /// Adds a field to the head.
    ///
    /// # Panics
    ///
    /// Where name or value cannot be a header field.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push(field(name, value.as_ref()));
        self
    }

    /// Adds a piece to the body.
    pub fn data(mut self, bytes: impl Into<Bytes>) -> Self {
        self.data.push(bytes.into());
        self
    }

    /// Adds a field to the trailers. On HTTP/1.1 they come after the last chunk.
    ///
    /// # Panics
    ///
    /// Where name or value cannot be a header field.
    pub fn trailer(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.trailers.push(field(name, value.as_ref()));
        self
    }

    /// Leaves the call open after what was said; trailers, which would end it, are not sent.
    pub fn never_ends(mut self) -> Self {
        self.ends = false;
        self
    }

    /// Lets this time pass before each piece of the body but the first: a body that dribbles.
    pub fn paced(mut self, pace: Duration) -> Self {
        self.pace = if self.is_endless { pace.max(PACE_MIN) } else { pace };
        self
    }

    /// Repeats the last piece of the body for ever, at the pace of [`paced`](Self::paced), a millisecond at least, and no
    /// faster than the client takes it; on HTTP/2 it is cut to the room that the client's window has.
    ///
    /// # Panics
    ///
    /// Where there is no piece to repeat.
    pub fn endless(mut self) -> Self {
        assert!(!self.data.is_empty(), "an endless body needs a piece to repeat");
        self.is_endless = true;
        self.ends = false;
        self.pace = self.pace.max(PACE_MIN);
        self
    }

    /// Sends the body in chunks on HTTP/1.1, even where its length is known.
    pub fn chunked(mut self) -> Self {
        self.delimited = Delimited::Chunks;
        self
    }

    /// Ends the body with the connection on HTTP/1.1: neither a length nor chunks.
    pub fn until_close(mut self) -> Self {
        self.delimited = Delimited::Close;
        self
    }

    fn is_success_over(&self, protocol: Protocol) -> bool {
        if protocol != Protocol::Grpc {
            return (200..300).contains(&self.status);
        }
        let fields = if self.trailers.is_empty() {
            &self.headers
        } else {
            &self.trailers
        };
        self.ends
            && self.status == 200
            && fields
                .iter()
                .any(|(name, value)| name == "grpc-status" && value == "0")
    }
}

impl From<RawAnswer> for Answer {
    fn from(raw: RawAnswer) -> Self {
        Self::Raw(raw)
    }
}

fn field(name: &str, value: &[u8]) -> (HeaderName, HeaderValue) {
    let name = HeaderName::from_bytes(name.as_bytes()).expect("a valid name of a header field");
    let value = HeaderValue::from_bytes(value).expect("a valid value of a header field");
    (name, value)
}
