//! The protocols that were built in, as one.

use crate::config::Lane;
#[cfg(not(any(feature = "http", feature = "http2")))]
use crate::protocol::Never;
#[cfg(feature = "http")]
use crate::protocol::http1::Http1;
#[cfg(feature = "http2")]
use crate::protocol::http2::Http2;
use crate::protocol::{Connection, Event};
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::string::String;

/// Which version of HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

impl Version {
    /// In plain text, where nothing is negotiated: gRPC begins HTTP/2 with prior knowledge, OTLP/HTTP speaks HTTP/1.1.
    pub(super) fn plain(lane: &Lane) -> Self {
        if lane.is_grpc { Self::Http2 } else { Self::Http1 }
    }

    /// What both sides of TLS agreed on (ALPN). gRPC has to have HTTP/2; OTLP/HTTP falls back to HTTP/1.1 with a peer that
    /// does not say (OTLP specification, "OTLP/HTTP"). `None`: it is nothing that serves the lane.
    #[cfg(feature = "tls")]
    pub(super) fn negotiated(lane: &Lane, alpn: Option<&[u8]>) -> Option<Self> {
        match alpn {
            Some(b"h2") if lane.is_grpc || cfg!(feature = "http2") => Some(Self::Http2),
            Some(b"http/1.1") | None if !lane.is_grpc => Some(Self::Http1),
            _ => None,
        }
    }
}

/// One of the protocols.
pub(super) enum Inner {
    #[cfg(feature = "http")]
    Http1(Box<Http1>),
    #[cfg(feature = "http2")]
    Http2(Box<Http2>),
    #[cfg(not(any(feature = "http", feature = "http2")))]
    Never(Box<Never>),
}

/// Calls a method of the protocol within.
macro_rules! inner {
    ($inner:expr, $protocol:ident => $call:expr) => {
        match $inner {
            #[cfg(feature = "http")]
            Inner::Http1($protocol) => $call,
            #[cfg(feature = "http2")]
            Inner::Http2($protocol) => $call,
            #[cfg(not(any(feature = "http", feature = "http2")))]
            Inner::Never($protocol) => $call,
        }
    };
}
pub(super) use inner;

impl Inner {
    pub(super) fn open(version: Version, lane: &Lane, now: Instant) -> Result<Self, String> {
        #[cfg(not(any(feature = "http", feature = "http2")))]
        {
            let _ = version;
            Never::open(lane, now).map(|never| Self::Never(Box::new(never)))
        }
        #[cfg(any(feature = "http", feature = "http2"))]
        match version {
            #[cfg(feature = "http")]
            Version::Http1 => Http1::open(lane, now).map(|http| Self::Http1(Box::new(http))),
            #[cfg(feature = "http2")]
            Version::Http2 => Http2::open(lane, now).map(|http| Self::Http2(Box::new(http))),
            #[cfg(not(all(feature = "http", feature = "http2")))]
            _ => {
                let feature = if lane.is_grpc { "grpc" } else { "http" };
                Err(alloc::format!(
                    "this build does not speak that protocol; enable the feature {feature}"
                ))
            }
        }
    }

    /// The version of HTTP in words.
    pub(super) fn version(&self) -> &'static str {
        match self {
            #[cfg(feature = "http")]
            Self::Http1(_) => "HTTP/1.1",
            #[cfg(feature = "http2")]
            Self::Http2(_) => "HTTP/2",
            #[cfg(not(any(feature = "http", feature = "http2")))]
            Self::Never(_) => "none",
        }
    }

    /// Takes bytes; `is_early`, and what comes back, as in
    /// [`handle_early_input`](Connection::handle_early_input).
    pub(super) fn handle_input(&mut self, now: Instant, bytes: &[u8], is_early: bool) -> bool {
        inner!(self, protocol => if is_early {
            protocol.handle_early_input(now, bytes)
        } else {
            protocol.handle_input(now, bytes);
            false
        })
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        inner!(self, protocol => protocol.poll_event())
    }
}
