//! Policies: pure functions of a state, the time and an event.
//!
//! Owns the decisions about retries, about endpoints that fail, about rate, concurrency and the size of batches. Never
//! reads a clock, never sleeps, never touches a connection; randomness comes from a generator that the caller seeds.
//!
//! | policy | decides | fed by |
//! |---|---|---|
//! | [`RetryPolicy`] | whether and when a failed attempt is repeated | how the attempt ended |
//! | [`CircuitBreaker`] | whether an endpoint is asked at all | how its last requests ended |
//! | [`RateLimiter`] | whether an amount may be sent now | amounts |
//! | [`AdaptiveConcurrency`] | how many exports may be under way | how long each took, and throttling |
//! | [`AdaptiveBatchSize`] | how many items an export carries | how long each took |

mod batch_size;
mod breaker;
mod concurrency;
mod events;
mod limiter;
mod retry;
mod retry_after;

pub use batch_size::{AdaptiveBatchConfig, AdaptiveBatchSize, BatcherStats};
pub use breaker::{BreakerConfig, BreakerOpen, BreakerState, BreakerVerdict, CircuitBreaker, Permit};
pub use concurrency::{AdaptiveConcurrency, ConcurrencyConfig, Feedback};
pub(crate) use events::{EventLimiter, KeptBack};
pub use limiter::{RateDecision, RateLimit, RateLimiter, RateUnit};
pub use retry::{AttemptResult, BackoffStrategy, Class, RetryPolicy, classify, is_retryable};
pub use retry_after::retry_after;

use crate::error::Error;
use alloc::format;

/// The error for a setting that cannot work.
fn refused(setting: &str, what: &str) -> Error {
    Error::config(format!("{setting}: {what}"))
}
