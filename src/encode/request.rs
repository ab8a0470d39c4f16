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
    /// Data points.
    Metrics,
    /// Log records.
    Logs,
    /// Profiles, a signal in development.
    Profiles,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 4] = [Self::Traces, Self::Metrics, Self::Logs, Self::Profiles];

    /// The path of the gRPC method that takes this signal (OTLP specification, "OTLP/gRPC").
    pub const fn grpc_path(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Self::Profiles => "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
        }
    }

    /// The path of an HTTP endpoint that takes this signal, after the base endpoint's own (OTLP specification,
    /// "OTLP/HTTP Request").
    pub const fn http_path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
            Self::Logs => "/v1/logs",
            Self::Profiles => "/v1development/profiles",
        }
    }

    /// What it is called in messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Profiles => "profiles",
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Traces => 0,
            Self::Metrics => 1,
            Self::Logs => 2,
            Self::Profiles => 3,
        }
    }
}

/// Bytes in pieces, immutable and shared: an export message as it was encoded, or what goes to the peer in its place.
#[derive(Clone)]
pub struct Body {
    shared: Arc<Pieces>,
}

struct Pieces {
    len: usize,
    segments: Vec<Bytes>,
}

impl Body {
    pub(crate) fn new(segments: Vec<Bytes>) -> Self {
        let len = segments.iter().map(Bytes::len).sum();
        Self {
            shared: Arc::new(Pieces { len, segments }),
        }
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.shared.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.shared.len == 0
    }

    /// Whether both are the same bytes in the same memory.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// The pieces, in order.
    pub fn segments(&self) -> &[Bytes] {
        &self.shared.segments
    }
}

/// Shows the length alone.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// One encoded export request, ready for the wire. Clones share its bytes.
#[derive(Clone)]
pub struct Request {
    signal: Signal,
    items: u64,
    refused: u64,
    body: Body,
    headers: Option<Headers>,
    timeout: Option<Duration>,
}

/// Header fields of a request's own, in order.
pub(crate) type Headers = Arc<[(String, String)]>;

impl Request {
    pub(crate) fn new(signal: Signal, items: u64, refused: u64, segments: Vec<Bytes>) -> Self {
        Self {
            signal,
            items,
            refused,
            body: Body::new(segments),
            headers: None,
            timeout: None,
        }
    }

    /// A request of bytes that were encoded elsewhere: one export message of the signal, in pieces.
    #[doc(hidden)]
    pub fn from_segments(signal: Signal, items: u64, segments: Vec<Bytes>) -> Self {
        Self::new(signal, items, 0, segments)
    }

    /// A request that another library encoded: one export message of the signal (`ExportTraceServiceRequest` and its
    /// siblings, or what has their shape, as `TracesData`).
    ///
    /// The whole message is checked and its items are counted: spans, data points, log records or profiles. The bytes are
    /// shared, not copied; fields that are not known are kept as they are (OTLP specification, "Future Versions and
    /// Interoperability"). A message without items makes an empty request, which is never sent.
    ///
    /// ```
    /// use otlp_embed::{Request, Signal};
    ///
    /// // A resource with a scope with one span, which has nothing but its name.
    /// let message = b"\x0a\x0a\x12\x08\x12\x06\x2a\x04work".to_vec();
    /// let request = Request::from_encoded(Signal::Traces, message)?;
    /// assert_eq!(request.items(), 1);
    ///
    /// let error = Request::from_encoded(Signal::Traces, b"\x0a\x04\x12\x02\x12\x06".to_vec()).unwrap_err();
    /// assert!(error.to_string().contains("resource_spans[0].scope_spans[0].spans[0], byte 5"));
    /// # Ok::<(), otlp_embed::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A misuse error, when the bytes are no such message: it names the field and the byte. What is refused is what no
    /// receiver decodes: values cut off, known fields of another type, strings that are not UTF-8, messages nested more
    /// than 100 deep.
    pub fn from_encoded(signal: Signal, message: impl Into<Bytes>) -> Result<Self, Error> {
        let message = message.into();
        let segments = if message.is_empty() {
            Vec::new()
        } else {
            alloc::vec![message]
        };
        match super::count::count(signal, &segments) {
            Ok(items) => Ok(Self::new(signal, items, 0, segments)),
            Err(malformed) => Err(Error::misuse(alloc::format!(
                "the bytes are no export request of {}: {malformed}",
                signal.name()
            ))),
        }
    }

    /// Several requests of one signal, with the same headers and the same time of their own, as one: an export message is a
    /// repeated field, so that their bytes follow each other and none is copied. `None` where they differ in these, where
    /// there are none, and for several of profiles, of which each has a dictionary of its own.
    pub(crate) fn join(requests: &[Self]) -> Option<Self> {
        let (first, rest) = requests.split_first()?;
        if rest.is_empty() {
            return Some(first.clone());
        }
        let fits = |other: &Self| {
            other.signal == first.signal
                && other.signal != Signal::Profiles
                && other.headers() == first.headers()
                && other.timeout == first.timeout
        };
        rest.iter().all(fits).then(|| Self {
            signal: first.signal,
            items: requests.iter().map(|request| request.items).sum(),
            refused: requests.iter().map(|request| request.refused).sum(),
            body: Body::new(requests.iter().flat_map(Self::segments).collect()),
            headers: first.headers.clone(),
            timeout: first.timeout,
        })
    }

    /// A part of this request with its headers and its time; the first has the items that were refused.
    pub(crate) fn part(&self, items: u64, is_first: bool, segments: Vec<Bytes>) -> Self {
        Self {
            signal: self.signal,
            items,
            refused: if is_first { self.refused } else { 0 },
            body: Body::new(segments),
            headers: self.headers.clone(),
            timeout: self.timeout,
        }
    }

    /// What it has for itself: headers and a time.
    #[cfg(feature = "std")]
    pub(crate) fn own(&self) -> (Option<&Headers>, Option<Duration>) {
        (self.headers.as_ref(), self.timeout)
    }

    /// The same request with these headers and this time for itself.
    #[cfg(feature = "std")]
    pub(crate) fn with_own(self, headers: Option<Headers>, timeout: Option<Duration>) -> Self {
        Self {
            headers,
            timeout,
            ..self
        }
    }

    /// The signal it carries.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// The items it carries.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Whether it carries nothing; such a request is never sent (OTLP specification, "OTLP/gRPC": no empty envelopes).
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Items that the batch refused and that are not in it.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The length of its encoded message in bytes.
    pub fn encoded_len(&self) -> usize {
        self.body.len()
    }

    /// Pieces of the encoded message.
    pub fn segment_count(&self) -> usize {
        self.body.segments().len()
    }

    /// The encoded message, piece by piece; each piece shares the request's memory.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = Bytes> + '_ {
        self.body.segments().iter().cloned()
    }

    /// The encoded message.
    pub fn body(&self) -> &Body {
        &self.body
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

#[cfg(test)]
mod tests {
    use super::*;

    fn request(signal: Signal, items: u64, bytes: &'static [u8]) -> Request {
        Request::from_segments(signal, items, alloc::vec![Bytes::from_static(bytes)])
    }

    #[test]
    fn joined_requests_are_one_message_of_shared_bytes() {
        let (one, other) = (request(Signal::Logs, 2, b"ab"), request(Signal::Logs, 3, b"cde"));
        let joined = Request::join(&[one.clone(), other.clone()]).expect("they fit");
        assert_eq!((joined.items(), joined.encoded_len()), (5, 5));
        assert!(joined.segments().eq([&b"ab"[..], b"cde"]));
        for (segment, of) in joined.segments().zip([&one, &other]) {
            let shared = of.segments().next().expect("one");
            assert_eq!(segment.as_ptr(), shared.as_ptr(), "nothing is copied");
        }
        let own = |request: Request| request.with_header("x-tenant", "a").expect("a header");
        let timed = |request: Request| request.with_timeout(Duration::from_secs(1));
        let joined = Request::join(&[timed(own(one.clone())), timed(own(one.clone()))]).expect("alike");
        assert_eq!(joined.headers(), own(one.clone()).headers());
        assert_eq!(joined.timeout(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn requests_that_differ_are_not_joined() {
        let one = request(Signal::Logs, 2, b"ab");
        let owned = one.clone().with_header("x-tenant", "a").expect("a header");
        let timed = one.clone().with_timeout(Duration::from_secs(1));
        let spans = request(Signal::Traces, 2, b"ab");
        for other in [owned, timed, spans] {
            assert!(Request::join(&[one.clone(), other]).is_none());
        }
        assert!(Request::join(&[]).is_none());
        let profiles = request(Signal::Profiles, 1, b"p");
        assert!(
            Request::join(&[profiles.clone(), profiles.clone()]).is_none(),
            "a dictionary each"
        );
        assert!(Request::join(&[profiles]).is_some(), "alone it stays what it is");
    }
}
