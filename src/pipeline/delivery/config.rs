//! What a delivery is told once.

use super::policies::{AdaptiveBatchConfig, BreakerConfig, ConcurrencyConfig, RateLimit};
use crate::encode::Signal;
use crate::pipeline::Overflow;
use crate::policy::RetryPolicy;
use alloc::vec::Vec;
use core::time::Duration;

/// How a [`Delivery`](super::Delivery) works; each part was checked before.
#[derive(Clone, Debug)]
pub struct DeliveryConfig {
    /// The independent destinations, at least one.
    pub legs: Vec<LegConfig>,
    /// The most items a leg holds: open, queued and in flight together.
    pub items_max: u64,
    /// The most bytes a leg holds.
    pub bytes_max: u64,
    /// What happens to items that come when the queue is full, by [`Signal`].
    pub overflow: [Overflow; Signal::ALL.len()],
    /// Sizes of batches, and how long one stays open.
    pub batch: AdaptiveBatchConfig,
    /// How long an item is tried, from the moment the driver first sees it.
    pub max_elapsed: Duration,
    /// Waits before a batch that came back is exported again at the same endpoint. Only the waits count: `max_elapsed` is
    /// the limit here.
    pub retry: RetryPolicy,
    /// The circuit breaker of each endpoint; none of them parks a batch without one.
    pub breaker: Option<BreakerConfig>,
    /// The rate limit of each endpoint.
    pub rate_limit: Option<RateLimit>,
    /// The exports each endpoint may have in flight.
    pub concurrency: ConcurrencyConfig,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            legs: alloc::vec![LegConfig::default()],
            items_max: 1_000_000,
            bytes_max: 32 << 20,
            overflow: [Overflow::default(); Signal::ALL.len()],
            batch: AdaptiveBatchConfig::new(),
            max_elapsed: Duration::from_secs(300),
            retry: RetryPolicy::default(),
            breaker: Some(BreakerConfig::new()),
            rate_limit: None,
            concurrency: ConcurrencyConfig::new(),
        }
    }
}

/// One independent destination.
#[derive(Clone, Debug)]
pub struct LegConfig {
    /// Its endpoints, from 1 to 64.
    pub endpoints: usize,
    /// Which of them takes a batch.
    pub choice: Choice,
    /// The most bytes of a batch, by [`Signal`]; a single larger request goes alone.
    pub batch_bytes_max: [u64; Signal::ALL.len()],
}

impl Default for LegConfig {
    fn default() -> Self {
        Self {
            endpoints: 1,
            choice: Choice::Failover,
            batch_bytes_max: [(7 << 20) / 2; Signal::ALL.len()],
        }
    }
}

/// Which endpoint of several takes a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first, in order, whose breaker lets through; the others stand by.
    #[default]
    Failover,
    /// All whose breakers let through, in turn; one that is busy is passed over.
    RoundRobin,
}
