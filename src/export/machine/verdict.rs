//! The words of a verdict: what was tried, what came of it, what to do.

use super::{ExportState, Machine, Verdict};
use crate::code::Code;
use crate::error::{Error, Kind};
use crate::outcome::{DropReason, ItemCounts};
use crate::policy::RetryPolicy;
use crate::protocol::{Answer, Failure};
use crate::time::Instant;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

/// Bytes of a peer's message that go into the text of an error.
const PEER_MESSAGE_BYTES_MAX: usize = 1_024;

/// How the last failed attempt failed.
#[derive(Clone, Debug)]
pub(crate) struct LastFailure {
    kind: Kind,
    message: Arc<str>,
    advice: &'static str,
    code: Option<Code>,
    http_status: Option<u16>,
    is_http: bool,
    retry_after: Option<Duration>,
    location: Option<Arc<str>>,
    /// It has not failed yet; it only takes its time.
    is_pending: bool,
}

impl LastFailure {
    /// No connection could be opened.
    pub(crate) fn connect(message: impl Into<Arc<str>>, advice: &'static str) -> Self {
        Self {
            kind: Kind::Connect,
            message: message.into(),
            advice,
            code: None,
            http_status: None,
            is_http: false,
            retry_after: None,
            location: None,
            is_pending: false,
        }
    }

    /// No connection is open yet.
    pub(crate) fn pending(message: impl Into<Arc<str>>, advice: &'static str) -> Self {
        Self {
            is_pending: true,
            ..Self::connect(message, advice)
        }
    }

    /// The connection failed under the call.
    pub(super) fn transport(failure: Failure, is_grpc: bool) -> Self {
        let advice = match is_grpc {
            true => "check that the endpoint speaks OTLP over gRPC",
            false => "check that the endpoint speaks OTLP over HTTP",
        };
        Self {
            kind: Kind::Transport,
            ..Self::connect(failure.message, advice)
        }
    }

    /// The source of credentials gave none.
    pub(super) fn credentials(failure: Failure) -> Self {
        Self {
            kind: Kind::Credentials,
            ..Self::connect(failure.message, "check what with_credentials was given")
        }
    }

    /// The collector answered with a failure.
    pub(super) fn answered(answer: Answer) -> Self {
        let location: Option<Arc<str>> = answer.location.as_deref().map(|to| shortened(to).into());
        Self {
            kind: Kind::Status,
            message: described(&answer, location.as_deref()).into(),
            advice: match &location {
                Some(_) => {
                    "redirects are not followed, set the endpoint to where it leads if that is to be trusted"
                }
                None if answer.is_http => advice_on_http(answer.http_status.unwrap_or(200)),
                None => advice(answer.code),
            },
            code: Some(answer.code),
            http_status: answer.http_status,
            is_http: answer.is_http,
            retry_after: answer.retry_after,
            location,
            is_pending: false,
        }
    }

    /// The failure in words.
    pub(crate) fn message(&self) -> &Arc<str> {
        &self.message
    }
}

impl fmt::Display for LastFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.advice)
    }
}

/// Where the items end up, and why those that are dropped are.
pub(super) type Fate = (ItemCounts, Option<DropReason>);

impl Machine {
    /// The verdict at the deadline. It is a timeout whatever failed before, and carries what the last answer said.
    pub(super) fn deadline_passed(&self, endpoint: &Arc<str>) -> Verdict {
        let mut text = format!(
            "no verdict within {} after {}",
            Span(self.timeout()),
            Attempts(self.attempts)
        );
        text += match self.state() {
            ExportState::Connecting => ", while waiting for a connection",
            ExportState::Sending => ", while the collector was slow to take the request",
            ExportState::WaitingResponse => ", while waiting for the answer",
            ExportState::Init | ExportState::Done => "",
        };
        match &self.last {
            Some(last) if last.is_pending => text += &format!(": {last}"),
            Some(last) => text += &format!("; last failure: {last}"),
            None => text += "; check that the collector answers in time, or give the export more",
        }
        Err(self.error(Kind::Timeout, text, endpoint, self.fate(DropReason::Deadline)))
    }

    /// The verdict when the next attempt would come after the deadline, or after the time that the policy allows.
    pub(super) fn too_late(&self, until: Instant, policy: &RetryPolicy, endpoint: &Arc<str>) -> Verdict {
        if let Some(total) = policy.total.filter(|_| until < self.deadline) {
            let text = format!(
                "gave up after {}, since the next one would come later after the first than the {} that the retry policy \
                 allows in total",
                Attempts(self.attempts),
                Span(total)
            );
            return Err(self.failed(text, endpoint, DropReason::Attempts));
        }
        let text = format!(
            "gave up after {}, since the next one would come after the deadline of {}",
            Attempts(self.attempts),
            Span(self.timeout())
        );
        Err(self.failed(text, endpoint, DropReason::Deadline))
    }

    /// The verdict when the retry policy is exhausted.
    pub(super) fn out_of_attempts(&self, endpoint: &Arc<str>) -> Verdict {
        let text = format!(
            "gave up after {}, all that the retry policy allows",
            Attempts(self.attempts)
        );
        Err(self.failed(text, endpoint, DropReason::Attempts))
    }

    /// The verdict when the collector refused the export for good.
    pub(super) fn refused(&self, endpoint: &Arc<str>) -> Verdict {
        let counts = ItemCounts {
            rejected: self.items,
            ..ItemCounts::default()
        };
        let text = self
            .last
            .as_ref()
            .map_or_else(String::new, |last| format!("{last}"));
        Err(self.error(Kind::Status, text, endpoint, (counts, None)))
    }

    /// The verdict when the call failed in a way that no attempt can mend.
    pub(super) fn failed_for_good(&self, endpoint: &Arc<str>) -> Verdict {
        let (kind, text) = match &self.last {
            Some(last) => (last.kind, format!("{last}")),
            None => (Kind::Transport, String::new()),
        };
        let error = self.error(kind, text, endpoint, self.fate(DropReason::NotRetryable));
        Err(error.into_final())
    }

    /// The verdict of a cancelled export.
    pub(super) fn cancelled(&self, endpoint: &Arc<str>) -> Verdict {
        let text = format!("cancelled in {} after {}", self.state(), Attempts(self.attempts));
        Err(self.error(Kind::Cancelled, text, endpoint, self.fate(DropReason::Cancelled)))
    }

    /// The verdict of an export that outlived its exporter.
    pub(super) fn was_shut_down(&self, endpoint: &Arc<str>) -> Verdict {
        let mut text = format!(
            "the exporter was shut down after {}, before a verdict; give the shutdown more time",
            Attempts(self.attempts)
        );
        if let Some(last) = &self.last {
            text += &format!("; last failure: {last}");
        }
        Err(self.error(Kind::Shutdown, text, endpoint, self.fate(DropReason::Shutdown)))
    }

    /// An error of the last failure's kind: the failure, not the deadline, is what ended the export.
    fn failed(&self, text: String, endpoint: &Arc<str>, reason: DropReason) -> Error {
        match &self.last {
            Some(last) => self.error(
                last.kind,
                format!("{text}; last failure: {last}"),
                endpoint,
                self.fate(reason),
            ),
            None => self.error(Kind::Transport, text, endpoint, self.fate(reason)),
        }
    }

    fn error(&self, kind: Kind, mut text: String, endpoint: &Arc<str>, fate: Fate) -> Error {
        let (counts, reason) = fate;
        if counts.unknown > 0 {
            text += "; a request was sent whole and not answered, so the items may have arrived";
        }
        let mut error = Error::new(kind, text)
            .with_endpoint(endpoint.clone())
            .with_counts(counts)
            .with_attempts(self.attempts);
        if let Some(reason) = reason {
            error = error.with_drop_reason(reason);
        }
        if let Some(last) = &self.last {
            if let Some(code) = last.code {
                error = error.with_code(code).with_http(last.is_http);
            }
            if let Some(location) = &last.location {
                error = error.with_location((**location).to_owned());
            }
            if let Some(status) = last.http_status {
                error = error.with_http_status(status);
            }
            if let Some(delay) = last.retry_after {
                error = error.with_retry_after(delay);
            }
        }
        error
    }
}

/// An answer in words: its status, and what the peer said to it.
fn described(answer: &Answer, location: Option<&str>) -> String {
    let (code, message) = (answer.code, shortened(&answer.message).trim());
    let mut text = match answer.http_status {
        None if answer.is_http => String::from("the collector answered"),
        None => format!("the collector answered {code}"),
        // The words begin with the status themselves.
        Some(status) if names_status(message, status) => {
            return located(format!("the collector answered {message}"), location);
        }
        Some(status) if answer.is_http => format!("the collector answered HTTP {status}"),
        Some(status) => format!("the collector answered HTTP {status} ({code})"),
    };
    if !message.is_empty() {
        text += ": ";
        text += message;
    }
    located(text, location)
}

/// Whether the words begin with `HTTP` and the status.
fn names_status(message: &str, status: u16) -> bool {
    let rest = message
        .strip_prefix("HTTP ")
        .and_then(|rest| rest.strip_prefix(&*status.to_string()));
    rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

/// Adds where a redirect leads, unless the words say so.
fn located(text: String, location: Option<&str>) -> String {
    match location {
        Some(location) if !text.contains(location) => format!("{text}, a redirect to {location:?}"),
        _ => text,
    }
}

/// What to do about a status of OTLP/HTTP.
fn advice_on_http(status: u16) -> &'static str {
    match status {
        401 | 403 | 407 => "check the credentials in the headers",
        404 | 405 => "check the endpoint's path, and that an OTLP/HTTP receiver takes this signal there",
        406 | 415 => "check that the collector takes the protocol and the compression that are set",
        413 => "send smaller batches, or raise the collector's limits",
        429 | 500..=599 => "check the collector and what it exports to",
        400..=499 => "the collector's log says what it objects to",
        _ => "check that the endpoint is an OTLP/HTTP receiver",
    }
}

/// What to do about a status.
fn advice(code: Code) -> &'static str {
    match code {
        Code::UNAUTHENTICATED | Code::PERMISSION_DENIED => "check the credentials in the headers",
        Code::UNIMPLEMENTED | Code::NOT_FOUND => {
            "check that the endpoint is an OTLP/gRPC receiver that takes this signal"
        }
        Code::INVALID_ARGUMENT | Code::FAILED_PRECONDITION | Code::OUT_OF_RANGE => {
            "the collector's log says what it objects to"
        }
        Code::RESOURCE_EXHAUSTED => "send smaller batches, or raise the collector's limits",
        Code::UNAVAILABLE | Code::ABORTED | Code::CANCELLED | Code::DEADLINE_EXCEEDED => {
            "check the collector and what it exports to"
        }
        _ => "check the collector's log",
    }
}

fn shortened(message: &str) -> &str {
    let mut end = message.len().min(PEER_MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

/// A count of attempts in words.
struct Attempts(u32);

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 attempt"),
            n => write!(f, "{n} attempts"),
        }
    }
}

/// A duration as people write it: `10 s`, `250 ms`.
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, millis) = (self.0.as_secs(), self.0.subsec_millis());
        match (secs, millis) {
            (0, 0) => write!(f, "{} µs", self.0.subsec_micros()),
            (0, millis) => write!(f, "{millis} ms"),
            (secs, 0) => write!(f, "{secs} s"),
            (secs, millis) => write!(f, "{secs}.{millis:03} s"),
        }
    }
}
