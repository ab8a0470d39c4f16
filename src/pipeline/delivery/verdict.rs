//! What the end of an export means to a delivery.

use super::policies::{BreakerVerdict, Feedback};
use crate::code::Code;
use crate::encode::Request;
use crate::error::Error;
use crate::observe::ErrorType;
use crate::outcome::{DropReason, ItemCounts, Outcome};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// How an export ended: what is settled, what comes back, and what it says about the endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExportVerdict {
    /// Items that are settled; with the remainder they add up to the items of the request.
    pub counts: ItemCounts,
    /// Why the dropped ones of them were given up.
    pub drop_reason: Option<DropReason>,
    /// What is to be exported again; one request but where they cannot be joined.
    pub remainder: Vec<Request>,
    /// Whether an attempt for it was sent whole and not answered.
    pub unanswered: bool,
    /// What it says about the endpoint.
    pub class: VerdictClass,
    /// How long the collector asked to wait.
    pub retry_after: Option<Duration>,
    /// Whether the exporter takes nothing more, for good.
    pub is_gone: bool,
    /// The failure in words.
    pub error: Option<String>,
    /// Why the settled items count as failed that do.
    pub(crate) why: ErrorType,
}

/// What an export says about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictClass {
    /// It took the request, a partial success included.
    Success,
    /// It refused this request for good: it is up, and what it says about other requests nobody knows.
    Refused,
    /// It asks for less.
    Throttled,
    /// It failed, or the way to it.
    Failure,
    /// Nothing: the export ended on this side.
    Neutral,
}

impl ExportVerdict {
    /// Everything was delivered.
    pub fn delivered(items: u64) -> Self {
        Self::settled(ItemCounts {
            delivered: items,
            ..ItemCounts::default()
        })
    }

    /// Taken, with these counts.
    pub fn settled(counts: ItemCounts) -> Self {
        Self {
            counts,
            drop_reason: None,
            remainder: Vec::new(),
            unanswered: false,
            class: VerdictClass::Success,
            retry_after: None,
            is_gone: false,
            error: None,
            why: ErrorType::REJECTED,
        }
    }

    /// Failed for now: the remainder comes back.
    pub fn failed(remainder: Request, unanswered: bool, error: impl Into<String>) -> Self {
        Self {
            remainder: Vec::from([remainder]),
            unanswered,
            class: VerdictClass::Failure,
            error: Some(error.into()),
            ..Self::settled(ItemCounts::default())
        }
    }

    /// Sets what it says about the endpoint.
    pub fn with_class(mut self, class: VerdictClass) -> Self {
        self.class = class;
        self
    }

    /// Sets what is settled.
    pub fn with_counts(mut self, counts: ItemCounts, drop_reason: Option<DropReason>) -> Self {
        self.counts = counts;
        self.drop_reason = drop_reason;
        self
    }

    /// Sets the wait that the collector asked for.
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Says that the exporter takes nothing more.
    pub fn with_gone(mut self) -> Self {
        self.is_gone = true;
        self
    }

    /// The verdict of an exporter on a managed export, which hands back what may be exported again.
    pub fn from_export(mut result: Result<Outcome, Error>) -> Self {
        let remainder = result.as_mut().err().and_then(Error::take_remainder);
        let mut verdict = Self::of(&result, None);
        if let Some(remainder) = remainder {
            verdict.unanswered = remainder.unanswered;
            verdict.remainder = remainder.requests;
        }
        verdict
    }

    /// The verdict of an exporter; `remainder` is what may be exported again, and whether an attempt for it was sent whole
    /// and not answered.
    pub fn of(result: &Result<Outcome, Error>, remainder: Option<(Request, bool)>) -> Self {
        let error = match result {
            Ok(outcome) => return Self::settled(outcome.counts()),
            Err(error) => error,
        };
        Self {
            counts: error.counts(),
            drop_reason: error.drop_reason(),
            unanswered: remainder.as_ref().is_some_and(|(_, unanswered)| *unanswered),
            remainder: remainder.into_iter().map(|(request, _)| request).collect(),
            class: class_of(error),
            retry_after: error.retry_after(),
            is_gone: error.is_shutdown() || error.is_runtime_gone(),
            error: Some(error.to_string()),
            why: ErrorType::of(error),
        }
    }

    pub(super) fn breaker(&self) -> BreakerVerdict {
        match self.class {
            VerdictClass::Success | VerdictClass::Refused => BreakerVerdict::Success,
            VerdictClass::Failure => BreakerVerdict::Failure,
            // One that throttles is up and says when to come back: holds and concurrency obey, and a breaker would only add
            // a wait of its own.
            VerdictClass::Throttled | VerdictClass::Neutral => BreakerVerdict::Abandoned,
        }
    }

    pub(super) fn feedback(&self) -> Option<Feedback> {
        match self.class {
            VerdictClass::Success => Some(Feedback::Success),
            VerdictClass::Throttled => Some(Feedback::Throttled),
            VerdictClass::Failure => Some(Feedback::Failure),
            VerdictClass::Refused | VerdictClass::Neutral => None,
        }
    }
}

/// What an error says about the endpoint.
fn class_of(error: &Error) -> VerdictClass {
    let is_busy = error.grpc_status() == Some(Code::RESOURCE_EXHAUSTED) || error.http_status() == Some(429);
    let is_answer = error.grpc_status().is_some() || error.http_status().is_some();
    if error.is_retryable() {
        // The memory and the credentials are this side's.
        let is_ours = error.drop_reason() == Some(DropReason::MemoryLimit) || error.is_credentials();
        return match () {
            () if is_ours => VerdictClass::Neutral,
            () if is_busy || error.retry_after().is_some() => VerdictClass::Throttled,
            () => VerdictClass::Failure,
        };
    }
    // No attempt there can mend it, as with a certificate that expired: another endpoint may be whole.
    if !is_answer && (error.is_connect() || error.is_transport()) {
        return VerdictClass::Failure;
    }
    if !is_answer || error.is_cancelled() || error.is_shutdown() || error.is_runtime_gone() {
        return VerdictClass::Neutral;
    }
    let is_broken = matches!(
        error.grpc_status(),
        Some(Code::INTERNAL | Code::UNKNOWN | Code::UNIMPLEMENTED)
    ) || error.http_status().is_some_and(|status| status >= 500);
    match is_broken {
        true => VerdictClass::Failure,
        false => VerdictClass::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn an_endpoint_that_nothing_can_be_sent_to_is_down() {
        // Otherwise no breaker opens, and what is behind it never has its turn.
        for kind in [Kind::Connect, Kind::Transport] {
            let error = Error::new(kind, "TLS with it: its certificate has expired").into_final();
            assert!(!error.is_retryable());
            let verdict = ExportVerdict::of(&Err(error), None);
            assert_eq!(verdict.class, VerdictClass::Failure);
            assert_eq!(verdict.breaker(), BreakerVerdict::Failure);
        }
        for kind in [Kind::Misuse, Kind::TooLarge, Kind::Credentials, Kind::Cancelled] {
            let error = Error::new(kind, "it is this side's").into_final();
            assert_eq!(ExportVerdict::of(&Err(error), None).class, VerdictClass::Neutral);
        }
    }
}
