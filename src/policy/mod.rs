//! Policies: pure functions of a state, the time and an event.
//!
//! Owns the decisions about retries. Never reads a clock, never sleeps, never touches a connection; randomness comes
//! from a generator that the caller seeds.

mod events;
mod retry;
mod retry_after;

pub(crate) use events::{EventLimiter, KeptBack};
pub(crate) use retry::is_retryable_answer;
pub use retry::{RetryPolicy, is_retryable};
pub use retry_after::retry_after;
