//! One connection, sans-IO.
//!
//! Owns everything between the bytes of a socket and the verdict of a call: framing, multiplexing, flow control, the
//! reading of answers. Never touches a socket, never sleeps, never retries; it is fed bytes and the time by the engine
//! and hands out bytes and events.
//!
//! # How a protocol is driven
//!
//! Call one `handle_*` method or [`start`](Connection::start), then drain [`poll_transmit`](Connection::poll_transmit) and
//! [`poll_event`](Connection::poll_event) until both return `None`, then wait for bytes or
//! [`poll_timeout`](Connection::poll_timeout).

#[cfg(any(feature = "http", feature = "http2"))]
mod decoding;
#[cfg(feature = "http2")]
mod grpc;
#[cfg(feature = "http")]
mod http1;
#[cfg(feature = "http2")]
mod http2;
mod never;
#[cfg(feature = "http")]
mod otlp_http;
#[cfg(any(feature = "http", feature = "http2"))]
mod proxy;
#[cfg(feature = "http2")]
mod quiet;
mod session;
#[cfg(any(feature = "http", feature = "http2"))]
mod status;
#[cfg(feature = "tls")]
mod tls;

pub use crate::config::{Lane, Proxy, Route, Settings};
#[cfg(feature = "http")]
pub use http1::Http1;
#[cfg(feature = "http2")]
pub use http2::Http2;
pub use never::Never;
#[cfg(feature = "http2")]
pub(crate) use quiet::quiet;
pub use session::Session;

use crate::code::Code;
use crate::encode::{Body, Request};
use crate::policy::AttemptResult;
use crate::time::Instant;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

/// One call on one connection, numbered by the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// One connection of one protocol, without I/O.
///
/// The trait is sealed: implementations live in this crate.
pub trait Connection: Sized + sealed::Sealed {
    /// Begins a connection whose socket has just been connected. What it wants to say first comes out of
    /// [`poll_transmit`](Self::poll_transmit).
    ///
    /// # Errors
    ///
    /// The reason in words, when the connection cannot be set up at all.
    fn open(lane: &Lane, now: Instant) -> Result<Self, String>;

    /// Whether [`start`](Self::start) would take a call now. `false` for ever once the connection drains or is closed.
    fn can_start(&self) -> bool;

    /// Whether the connection takes no further call, ever: it drains or is closed.
    fn is_draining(&self) -> bool;

    /// Whether it carries many calls at a time; with `false`, one after the other.
    fn is_multiplexed(&self) -> bool;

    /// What is spoken with the peer, as far as it is known.
    fn peer(&self) -> Peer {
        Peer::default()
    }

    /// Starts a call: the request and its metadata go out, its end comes back as [`Event::Ended`] exactly once,
    /// unless it is cancelled. Its deadline bounds the call and, over gRPC, is told to the peer.
    ///
    /// # Errors
    ///
    /// Gives the request's fate back at once when the call cannot be started; nothing was sent, no event follows.
    fn start(&mut self, now: Instant, call: CallId, outgoing: &Outgoing<'_>) -> Result<(), Failure>;

    /// Ends a call from this side: its stream is reset, no event follows. Whether its whole request may still reach the
    /// peer: what was handed out for the socket cannot be called back. `false` for a call that is not known.
    fn cancel(&mut self, now: Instant, call: CallId) -> bool;

    /// Takes bytes that the socket delivered.
    fn handle_input(&mut self, now: Instant, bytes: &[u8]);

    /// Takes bytes that the socket delivered before it was given any of the transmitted bytes that it has not accepted:
    /// they answer nothing of what those ask. Whether the connection is over for it, and those bytes are to be taken back.
    fn handle_early_input(&mut self, now: Instant, bytes: &[u8]) -> bool {
        self.handle_input(now, bytes);
        false
    }

    /// Takes the count of bytes that the socket accepted since the last time, in the order they were transmitted.
    fn handle_sent(&mut self, now: Instant, count: usize);

    /// The peer will send nothing more, or the socket failed for the reason given: every call ends.
    fn handle_eof(&mut self, now: Instant, reason: &str);

    /// The time of [`poll_timeout`](Self::poll_timeout) has come.
    fn handle_timeout(&mut self, now: Instant);

    /// Bytes for the socket, in order: each call continues where the last one ended.
    fn poll_transmit(&mut self) -> Option<Vec<Bytes>>;

    /// What happened.
    fn poll_event(&mut self) -> Option<Event>;

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    fn poll_timeout(&self) -> Option<Instant>;
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The version of HTTP.
    pub http: Option<&'static str>,
    /// The version of TLS.
    pub tls: Option<&'static str>,
    /// What was agreed on by ALPN.
    pub alpn: Option<&'static str>,
}

/// What goes out in one call.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// The request: its signal, its items and its own headers.
    pub request: &'a Request,
    /// What is sent of it: the message, or what was made of it as the route asks (JSON, compressed).
    pub body: &'a Body,
    /// The way that the signal goes.
    pub route: &'a Route,
    /// Headers of this attempt alone, whose values are secrets: lowercase names.
    pub credentials: &'a [(String, String)],
    /// When the call is over.
    pub deadline: Instant,
}

/// What a connection reports.
#[derive(Debug)]
pub enum Event {
    /// The socket took the last byte of the call's request (END_STREAM included).
    RequestSent(CallId),
    /// The call is over.
    Ended(CallId, CallEnd),
    /// The connection takes no further calls; those under way go on. In words: why.
    Draining(String),
    /// The peer drains the connection since it was pinged too often (GOAWAY, `too_many_pings`): further ones of its lane are
    /// to ping less.
    TooManyPings,
    /// Something is not as it should be, though the connection goes on. In words: what.
    Warned(String),
    /// The connection is over as after [`Closed`](Self::Closed), before the peer took any call, and another one would fare no
    /// better: what waits for it need not wait on. In words: why, and what to do about it.
    Refused(String),
    /// The connection is over and its socket is to be closed once what was transmitted has been written. Every call
    /// has ended. In words: why.
    Closed(String),
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum CallEnd {
    /// The peer answered, with success or with a failure.
    Answered(Answer),
    /// The call failed and the peer certainly did not process it: refused, above a GOAWAY's last stream, or never sent
    /// whole.
    Unprocessed(Failure),
    /// The socket took the whole request, or may still take what was handed out of it, and no answer came that could be
    /// read.
    Unanswered(Failure),
    /// The call's deadline passed.
    Expired {
        /// Whether the whole request was taken by the socket or may still be: what was handed out for it cannot be called
        /// back.
        sent: bool,
    },
}

/// An answer to a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The status; for an answer without one, what the gRPC specification derives from HTTP or from the reset.
    pub code: Code,
    /// The peer's words on the status, or on a partial success.
    pub message: String,
    /// Items refused in a partial success.
    pub rejected: u64,
    /// How long the peer asked to wait (`RetryInfo`).
    pub retry_after: Option<Duration>,
    /// The HTTP status, unless it was 200.
    pub http_status: Option<u16>,
    /// Whether the peer spoke OTLP/HTTP: then `code` is this crate's reading of the HTTP status and no gRPC status.
    pub is_http: bool,
    /// Where a redirect, which is never followed, points.
    pub location: Option<String>,
}

impl Answer {
    /// What the retry policy judges it by.
    pub(crate) fn result(&self) -> AttemptResult {
        let (code, retry_after) = (self.code, self.retry_after);
        match self.is_http {
            true => AttemptResult::Http {
                status: self.http_status.unwrap_or(200),
                retry_after,
            },
            false => AttemptResult::Grpc { code, retry_after },
        }
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In words, for the error message.
    pub message: String,
    /// Whether another attempt may succeed.
    pub is_retryable: bool,
}

impl Failure {
    /// A failure that another attempt may mend.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            is_retryable: true,
        }
    }

    /// A failure that no attempt can mend.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            is_retryable: false,
        }
    }
}

/// The connection of an engine that names none.
pub type Default = Session;

pub(crate) mod sealed {
    pub trait Sealed {}
}
