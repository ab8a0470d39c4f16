//! The one error of the crate: opaque, with predicates that answer what a caller does next.

use crate::code::Code;
use crate::export::Remainder;
use crate::outcome::{DropReason, ItemCounts};
use crate::policy::{self, AttemptResult, Class};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

/// Why something could not be built or an export did not succeed.
///
/// The text names what was tried, on which endpoint, and what to do about it; it is meant for people and is no API.
/// The predicates are. [`counts`](Self::counts) says where the items of the export ended up.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: Kind,
    message: String,
    endpoint: Option<Arc<str>>,
    counts: ItemCounts,
    drop_reason: Option<DropReason>,
    code: Option<Code>,
    http_status: Option<u16>,
    retry_after: Option<Duration>,
    location: Option<String>,
    attempts: u32,
    is_final: bool,
    /// `code` is this crate's reading of an answer over OTLP/HTTP.
    is_http: bool,
    source: Option<Box<dyn core::error::Error + Send + Sync>>,
    /// What an export hands back to whoever keeps the account of its items.
    remainder: Option<Remainder>,
}

/// What went wrong, as the crate itself distinguishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A setting that cannot work.
    Config,
    /// A call that cannot be served as it was made.
    Misuse,
    /// No connection could be opened.
    Connect,
    /// The connection failed, or the peer broke the protocol.
    Transport,
    /// The collector answered with a failure.
    Status,
    /// The deadline passed.
    Timeout,
    /// The export was cancelled.
    Cancelled,
    /// The exporter's memory limit was reached.
    MemoryLimit,
    /// A single record is larger than a request may be.
    TooLarge,
    /// The source of credentials gave none.
    Credentials,
    /// The exporter was shut down.
    Shutdown,
    /// The runtime is missing or gone.
    Runtime,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                message: message.into(),
                endpoint: None,
                counts: ItemCounts::default(),
                drop_reason: None,
                code: None,
                http_status: None,
                retry_after: None,
                location: None,
                attempts: 0,
                is_final: false,
                is_http: false,
                source: None,
                remainder: None,
            }),
        }
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    pub(crate) fn misuse(message: impl Into<String>) -> Self {
        Self::new(Kind::Misuse, message)
    }

    pub(crate) fn with_endpoint(mut self, endpoint: Arc<str>) -> Self {
        self.inner.endpoint = Some(endpoint);
        self
    }

    pub(crate) fn with_counts(mut self, counts: ItemCounts) -> Self {
        self.inner.counts = counts;
        self
    }

    pub(crate) fn with_drop_reason(mut self, reason: DropReason) -> Self {
        self.inner.drop_reason = Some(reason);
        self
    }

    pub(crate) fn with_code(mut self, code: Code) -> Self {
        self.inner.code = Some(code);
        self
    }

    /// Says that the status was read out of an answer over OTLP/HTTP, which carries none of gRPC.
    pub(crate) fn with_http(mut self, is_http: bool) -> Self {
        self.inner.is_http = is_http;
        self
    }

    pub(crate) fn with_location(mut self, location: String) -> Self {
        self.inner.location = Some(location);
        self
    }

    pub(crate) fn with_http_status(mut self, status: u16) -> Self {
        self.inner.http_status = Some(status);
        self
    }

    pub(crate) fn with_retry_after(mut self, delay: Duration) -> Self {
        self.inner.retry_after = Some(delay);
        self
    }

    pub(crate) fn with_attempts(mut self, attempts: u32) -> Self {
        self.inner.attempts = attempts;
        self
    }

    /// Hands back what may be exported again, which is then no part of the counts.
    pub(crate) fn with_remainder(mut self, remainder: Remainder, counts: ItemCounts) -> Self {
        self.inner.remainder = Some(remainder);
        self.inner.counts = counts;
        if counts.dropped == 0 {
            self.inner.drop_reason = None;
        }
        self
    }

    /// What a managed export hands back.
    #[doc(hidden)]
    pub fn remainder(&self) -> Option<&Remainder> {
        self.inner.remainder.as_ref()
    }

    /// As [`remainder`](Self::remainder), taking it.
    pub(crate) fn take_remainder(&mut self) -> Option<Remainder> {
        self.inner.remainder.take()
    }

    /// Marks a failure that no attempt can mend, whatever its kind says.
    pub(crate) fn into_final(mut self) -> Self {
        self.inner.is_final = true;
        self
    }

    /// The failure of one part of an export, told as that of the whole: `counts` and `attempts` are the export's, and of its
    /// parts so many failed; `which` of these this one was.
    pub(crate) fn into_whole(
        mut self,
        (failed, parts): (u64, u64),
        which: &str,
        counts: ItemCounts,
        attempts: u32,
    ) -> Self {
        if parts > 1 {
            let message = &self.inner.message;
            self.inner.message =
                alloc::format!("{failed} of the {parts} parts of the export failed, {which}: {message}");
        }
        self.with_counts(counts).with_attempts(attempts)
    }

    /// The same verdict, told as the loss of the runtime that caused it.
    #[cfg(feature = "std")]
    pub(crate) fn into_runtime_gone(mut self, reason: &str) -> Self {
        self.inner.kind = Kind::Runtime;
        self.inner.message = reason.into();
        self
    }

    #[cfg(feature = "std")]
    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn core::error::Error + Send + Sync>>,
    ) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// What went wrong.
    pub(crate) fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// The text without the endpoint.
    pub(crate) fn message(&self) -> &str {
        &self.inner.message
    }

    /// Whether the same export may succeed later: the collector or the way to it failed, not the request.
    pub fn is_retryable(&self) -> bool {
        if self.inner.is_final {
            return false;
        }
        match self.inner.kind {
            Kind::Connect | Kind::Transport | Kind::Timeout | Kind::MemoryLimit | Kind::Credentials => true,
            Kind::Status => matches!(policy::classify(self.last_answer()), Class::Retryable { .. }),
            Kind::Config
            | Kind::Misuse
            | Kind::Cancelled
            | Kind::TooLarge
            | Kind::Shutdown
            | Kind::Runtime => false,
        }
    }

    /// The last answer, where one came.
    fn last_answer(&self) -> AttemptResult {
        let retry_after = self.inner.retry_after;
        match self.inner.is_http {
            true => AttemptResult::Http {
                status: self.inner.http_status.unwrap_or(0),
                retry_after,
            },
            false => AttemptResult::Grpc {
                code: self.inner.code.unwrap_or(Code::UNKNOWN),
                retry_after,
            },
        }
    }

    /// Whether the deadline of the export passed, whatever failed before it: the text names the last failure. An export
    /// that was given up earlier, because the next attempt would have come too late, is judged by that failure instead.
    pub fn is_timeout(&self) -> bool {
        self.inner.kind == Kind::Timeout
    }

    /// Whether the caller or the configuration is at fault: the same call can never succeed.
    pub fn is_misuse(&self) -> bool {
        matches!(self.inner.kind, Kind::Config | Kind::Misuse)
    }

    /// Whether the export was given up because no connection could be opened.
    pub fn is_connect(&self) -> bool {
        self.inner.kind == Kind::Connect
    }

    /// Whether the connection failed, or the peer broke the protocol.
    #[cfg(feature = "std")]
    pub(crate) fn is_transport(&self) -> bool {
        self.inner.kind == Kind::Transport
    }

    /// Whether the export was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.inner.kind == Kind::Cancelled
    }

    /// Whether the exporter was shut down.
    pub fn is_shutdown(&self) -> bool {
        self.inner.kind == Kind::Shutdown
    }

    /// Whether the runtime that serves the sockets is missing or gone.
    pub fn is_runtime_gone(&self) -> bool {
        self.inner.kind == Kind::Runtime
    }

    /// Whether a single record is larger than a request may be, so that it was not sent.
    pub fn is_too_large(&self) -> bool {
        self.inner.kind == Kind::TooLarge
    }

    /// Whether the export was given up because the source of credentials gave none that could be sent.
    pub fn is_credentials(&self) -> bool {
        self.inner.kind == Kind::Credentials
    }

    /// The gRPC status of the last answer, where one came over gRPC; for an answer without one, what the gRPC
    /// specification derives from HTTP.
    pub fn grpc_status(&self) -> Option<Code> {
        self.inner.code.filter(|_| !self.inner.is_http)
    }

    /// Where the last answer wanted to redirect the export to. A redirect is never followed: credentials stay with the
    /// endpoint that they were given for.
    pub fn location(&self) -> Option<&str> {
        self.inner.location.as_deref()
    }

    /// The HTTP status of the last answer, where it was one that says more than success.
    pub fn http_status(&self) -> Option<u16> {
        self.inner.http_status
    }

    /// How long the collector asked to wait before the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// Where the items of the export ended up; all zero for an error outside an export.
    pub fn counts(&self) -> ItemCounts {
        self.inner.counts
    }

    /// Why the dropped items were given up, where any were.
    pub fn drop_reason(&self) -> Option<DropReason> {
        self.inner.drop_reason
    }

    /// Attempts made before the export was given up.
    pub fn attempts(&self) -> u32 {
        self.inner.attempts
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(endpoint) = &self.inner.endpoint {
            write!(f, "export to {endpoint}: ")?;
        }
        f.write_str(&self.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.inner;
        let mut s = f.debug_struct("Error");
        s.field("kind", &inner.kind).field("message", &inner.message);
        if let Some(endpoint) = &inner.endpoint {
            s.field("endpoint", endpoint);
        }
        if let Some(code) = self.grpc_status() {
            s.field("grpc_status", &code);
        }
        if let Some(status) = inner.http_status {
            s.field("http_status", &status);
        }
        if inner.counts.total() > 0 {
            s.field("counts", &inner.counts);
        }
        s.finish_non_exhaustive()
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}
