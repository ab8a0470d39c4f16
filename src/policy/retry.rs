//! Which failures are worth another attempt, and how long to wait for it.

use crate::code::Code;
use crate::error::Error;
use alloc::format;
use core::time::Duration;

/// Exponential backoff with jitter between the attempts of one export.
///
/// The `n`th wait is drawn evenly from `[½, 1] × min(initial × multiplierⁿ⁻¹, max)`, and is never shorter than what the
/// collector asked for (OTLP specification, "OTLP/gRPC Throttling").
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The longest first wait; 1 s unless set.
    pub initial: Duration,
    /// The longest wait of all; 5 s unless set.
    pub max: Duration,
    /// How much longer each wait is than the one before; 2 unless set.
    pub multiplier: f64,
    /// Attempts in all, the first included; without a limit (`u32::MAX`) unless set, the deadline being the limit.
    pub attempts_max: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(200),
            max: Duration::from_secs(5),
            multiplier: 2.0,
            attempts_max: u32::MAX,
        }
    }
}

impl RetryPolicy {
    /// No second attempt.
    pub fn never() -> Self {
        Self {
            attempts_max: 1,
            ..Self::default()
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |what: &str| Err(Error::config(format!("with_retry_policy: {what}")));
        if self.attempts_max == 0 {
            return refuse("attempts_max is 0; 1 means no retry");
        }
        if !(1.0..=100.0).contains(&self.multiplier) {
            return refuse("multiplier lies outside 1 to 100");
        }
        if self.initial.is_zero() || self.max < self.initial {
            return refuse("initial must be more than zero and at most max");
        }
        Ok(())
    }
}

/// Whether a call that ended in `code` may be repeated; `throttled` tells that the answer carried `RetryInfo`.
///
/// The table of the OTLP specification, "OTLP/gRPC Response" (failures).
pub fn is_retryable(code: Code, throttled: bool) -> bool {
    match code {
        Code::CANCELLED
        | Code::DEADLINE_EXCEEDED
        | Code::ABORTED
        | Code::OUT_OF_RANGE
        | Code::UNAVAILABLE
        | Code::DATA_LOSS => true,
        Code::RESOURCE_EXHAUSTED => throttled,
        _ => false,
    }
}
