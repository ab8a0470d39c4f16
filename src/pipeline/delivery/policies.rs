//! The policies that decide for a delivery: the one place that names them.

pub use crate::policy::{
    AdaptiveBatchConfig, AdaptiveBatchSize, AdaptiveConcurrency, BatcherStats, BreakerConfig, BreakerOpen,
    BreakerState, BreakerVerdict, CircuitBreaker, ConcurrencyConfig, Feedback, Permit, RateDecision,
    RateLimit, RateLimiter, RateUnit,
};
