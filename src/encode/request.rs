//! An encoded export request: immutable, shared, cheap to clone.

use crate::error::Error;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::time::Duration;

/// The kind of telemetry that a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// Spans.
    Traces,
}

impl Signal {
    /// The path of the gRPC method that takes this signal (OTLP specification, "OTLP/gRPC").
    pub const fn grpc_path(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        }
    }
}

/// One encoded export request, ready for the wire. Clones share its bytes.
#[derive(Clone)]
pub struct Request {
    shared: Arc<Shared>,
    headers: Option<Arc<[(String, String)]>>,
    timeout: Option<Duration>,
}

struct Shared {
    signal: Signal,
    items: u64,
    refused: u64,
    encoded_len: usize,
    segments: Vec<Bytes>,
}

impl Request {
    pub(crate) fn new(
        signal: Signal,
        items: u64,
        refused: u64,
        encoded_len: usize,
        segments: Vec<Bytes>,
    ) -> Self {
        let shared = Shared {
            signal,
            items,
            refused,
            encoded_len,
            segments,
        };
        Self {
            shared: Arc::new(shared),
            headers: None,
            timeout: None,
        }
    }

    /// A request of bytes that were encoded elsewhere: one export message of the signal, in pieces.
    #[doc(hidden)]
    pub fn from_segments(signal: Signal, items: u64, segments: Vec<Bytes>) -> Self {
        let encoded_len = segments.iter().map(Bytes::len).sum();
        Self::new(signal, items, 0, encoded_len, segments)
    }

    /// The signal it carries.
    pub fn signal(&self) -> Signal {
        self.shared.signal
    }

    /// The items it carries.
    pub fn items(&self) -> u64 {
        self.shared.items
    }

    /// Whether it carries nothing; such a request is never sent (OTLP specification, "OTLP/gRPC": no empty envelopes).
    pub fn is_empty(&self) -> bool {
        self.shared.items == 0
    }

    /// Items that the batch refused and that are not in it.
    pub fn refused(&self) -> u64 {
        self.shared.refused
    }

    /// The length of its encoded message in bytes.
    pub fn encoded_len(&self) -> usize {
        self.shared.encoded_len
    }

    /// Pieces of the encoded message.
    pub fn segment_count(&self) -> usize {
        self.shared.segments.len()
    }

    /// The encoded message, piece by piece; each piece shares the request's memory.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = Bytes> + '_ {
        self.shared.segments.iter().cloned()
    }

    /// One piece of the encoded message.
    #[cfg(feature = "grpc")]
    pub(crate) fn segment(&self, index: usize) -> Option<&Bytes> {
        self.shared.segments.get(index)
    }

    /// Adds a header to this request alone, after the exporter's own.
    ///
    /// # Errors
    ///
    /// A misuse error when the name or the value is not fit for gRPC metadata.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self, Error> {
        let header = crate::config::checked_header(name, value)?;
        let mut headers = self.headers.as_deref().map(<[_]>::to_vec).unwrap_or_default();
        headers.push(header);
        self.headers = Some(headers.into());
        Ok(self)
    }

    /// Gives this request a time of its own in place of the exporter's.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The headers of this request alone.
    pub fn headers(&self) -> &[(String, String)] {
        self.headers.as_deref().unwrap_or_default()
    }

    /// The time of this request alone, where it has one.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }
}

/// Shows what it carries and the names of its headers; their values may be secrets.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers().iter().map(|(name, _)| name).collect();
        f.debug_struct("Request")
            .field("signal", &self.signal())
            .field("items", &self.items())
            .field("encoded_len", &self.encoded_len())
            .field("headers", &names)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
