//! The connection of the engine: whichever protocols were built in, as its lane asks.

use super::{CallId, Connection, Event, Failure, Outgoing, sealed};
use crate::config::Lane;
use crate::endpoint::Scheme;
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// One connection to a collector, in the protocol that its lane asks for.
pub struct Session {
    inner: Inner,
}

enum Inner {
    #[cfg(feature = "http")]
    Http1(Box<super::http1::Http1>),
    #[cfg(feature = "http2")]
    Http2(Box<super::http2::Http2>),
    #[cfg(not(any(feature = "http", feature = "http2")))]
    Never(Box<super::Never>),
}

impl Inner {
    /// gRPC is spoken on HTTP/2, OTLP/HTTP in plain text on HTTP/1.1.
    #[cfg(any(feature = "http", feature = "http2"))]
    fn open(lane: &Lane, now: Instant) -> Result<Self, String> {
        #[cfg(feature = "http2")]
        if lane.is_grpc {
            return super::http2::Http2::open(lane, now).map(|inner| Self::Http2(Box::new(inner)));
        }
        #[cfg(feature = "http")]
        if !lane.is_grpc {
            return super::http1::Http1::open(lane, now).map(|inner| Self::Http1(Box::new(inner)));
        }
        let feature = if lane.is_grpc { "grpc" } else { "http" };
        Err(alloc::format!(
            "this build does not speak that protocol; enable the feature {feature}"
        ))
    }

    #[cfg(not(any(feature = "http", feature = "http2")))]
    fn open(lane: &Lane, now: Instant) -> Result<Self, String> {
        super::Never::open(lane, now).map(|inner| Self::Never(Box::new(inner)))
    }
}

/// Calls a method of the connection within.
macro_rules! inner {
    ($session:expr, $inner:ident => $call:expr) => {
        match $session {
            #[cfg(feature = "http")]
            Inner::Http1($inner) => $call,
            #[cfg(feature = "http2")]
            Inner::Http2($inner) => $call,
            #[cfg(not(any(feature = "http", feature = "http2")))]
            Inner::Never($inner) => $call,
        }
    };
}

impl sealed::Sealed for Session {}

impl Connection for Session {
    fn open(lane: &Lane, now: Instant) -> Result<Self, String> {
        if lane.endpoint.scheme() == Scheme::Https {
            return Err("the connection cannot be secured, and plain text is no substitute".into());
        }
        Inner::open(lane, now).map(|inner| Self { inner })
    }

    fn can_start(&self) -> bool {
        inner!(&self.inner, inner => inner.can_start())
    }

    fn is_draining(&self) -> bool {
        inner!(&self.inner, inner => inner.is_draining())
    }

    fn is_multiplexed(&self) -> bool {
        inner!(&self.inner, inner => inner.is_multiplexed())
    }

    fn start(&mut self, now: Instant, call: CallId, outgoing: &Outgoing<'_>) -> Result<(), Failure> {
        inner!(&mut self.inner, inner => inner.start(now, call, outgoing))
    }

    fn cancel(&mut self, now: Instant, call: CallId) -> bool {
        inner!(&mut self.inner, inner => inner.cancel(now, call))
    }

    fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        inner!(&mut self.inner, inner => inner.handle_input(now, bytes));
    }

    fn handle_sent(&mut self, now: Instant, count: usize) {
        inner!(&mut self.inner, inner => inner.handle_sent(now, count));
    }

    fn handle_eof(&mut self, now: Instant, reason: &str) {
        inner!(&mut self.inner, inner => inner.handle_eof(now, reason));
    }

    fn handle_timeout(&mut self, now: Instant) {
        inner!(&mut self.inner, inner => inner.handle_timeout(now));
    }

    fn poll_transmit(&mut self) -> Option<Vec<Bytes>> {
        inner!(&mut self.inner, inner => inner.poll_transmit())
    }

    fn poll_event(&mut self) -> Option<Event> {
        inner!(&mut self.inner, inner => inner.poll_event())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        inner!(&self.inner, inner => inner.poll_timeout())
    }
}
