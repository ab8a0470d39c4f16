//! What the collector says to a call.

use crate::code::Code;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use http::{HeaderName, HeaderValue};

/// The answer to one call.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// Every span is accepted.
    #[default]
    Ok,
    /// Some spans are refused, or a warning goes with the success (OTLP specification, "Partial Success").
    PartialSuccess {
        /// Spans refused; none makes the message a warning.
        rejected: i64,
        /// The words that go with it.
        message: String,
    },
    /// A gRPC status without a message body ("Trailers-Only").
    Status {
        /// The status code.
        code: Code,
        /// `grpc-message`, percent-encoded on the way.
        message: String,
        /// The wait to put into a `RetryInfo` in `grpc-status-details-bin`.
        retry_info: Option<Duration>,
    },
    /// Another answer, later.
    Delay(Duration, Box<Answer>),
    /// Nothing at all: the stream stays open.
    Never,
    /// The head of a success and nothing more: the stream stays open.
    HeadersOnly,
    /// Head and message of a success; trailers never come and the stream stays open.
    NoTrailers,
    /// Another answer on a connection that from now on drains: two GOAWAY frames, calls under way end well.
    Drain(Box<Answer>),
    /// A GOAWAY whose last stream is the one before this call: neither this call nor a later one on the connection is
    /// answered, earlier ones are, and then the connection is closed.
    GoAway {
        /// The HTTP/2 error code, zero being `NO_ERROR`.
        reason: u32,
        /// The debug data of the frame.
        debug_data: Bytes,
    },
    /// RST_STREAM with this HTTP/2 error code.
    Reset(u32),
    /// An HTTP status with a short text and no `grpc-status`, as a proxy would answer.
    HttpStatus(u16),
    /// The connection is closed in order (FIN) without an answer.
    CloseConnection,
    /// The connection is torn down (RST) without an answer.
    AbortConnection,
    /// Whatever HTTP/2 can express.
    Raw(RawAnswer),
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

    /// The spans of `items` that this answer accepts.
    pub(super) fn accepted(&self, items: u64) -> u64 {
        match self {
            Self::Ok => items,
            Self::PartialSuccess { rejected, .. } => {
                items.saturating_sub(u64::try_from(*rejected).unwrap_or(0))
            }
            Self::Delay(_, answer) | Self::Drain(answer) => answer.accepted(items),
            Self::Raw(raw) if raw.is_success() => items,
            _ => 0,
        }
    }

    /// Whether this answer is a success.
    pub fn is_success(&self) -> bool {
        match self {
            Self::Ok | Self::PartialSuccess { .. } => true,
            Self::Delay(_, answer) | Self::Drain(answer) => answer.is_success(),
            Self::Raw(raw) => raw.is_success(),
            _ => false,
        }
    }
}

/// An answer put together by hand: interim heads, a head, DATA frames, trailers.
#[derive(Clone, Debug, PartialEq)]
pub struct RawAnswer {
    pub(super) informational: Vec<u16>,
    pub(super) status: u16,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) data: Vec<Bytes>,
    pub(super) trailers: Vec<(HeaderName, HeaderValue)>,
    pub(super) ends: bool,
}

impl RawAnswer {
    /// A head with this HTTP status, no fields and no body, which ends the stream.
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

    /// Adds a DATA frame.
    pub fn data(mut self, bytes: impl Into<Bytes>) -> Self {
        self.data.push(bytes.into());
        self
    }

    /// Adds a field to the trailers.
    ///
    /// # Panics
    ///
    /// Where name or value cannot be a header field.
    pub fn trailer(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.trailers.push(field(name, value.as_ref()));
        self
    }

    /// Leaves the stream open after what was said; trailers, which would end it, are not sent.
    pub fn never_ends(mut self) -> Self {
        self.ends = false;
        self
    }

    fn is_success(&self) -> bool {
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
