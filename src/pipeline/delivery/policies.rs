//! The policies that decide for a delivery: the one place that names them.

use crate::time::Instant;
use alloc::collections::VecDeque;
use core::time::Duration;

/// When a circuit breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct BreakerConfig {
    /// How long a request counts.
    pub window: Duration,
    /// Requests in the window before it may open.
    pub requests_min: u32,
    /// The part of them that has to fail.
    pub failure_ratio: f64,
    /// How long it stays open.
    pub open_for: Duration,
    /// Requests let through to find out whether the endpoint is back.
    pub probes: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            requests_min: 10,
            failure_ratio: 0.5,
            open_for: Duration::from_secs(30),
            probes: 5,
        }
    }
}

/// What a circuit breaker does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerState {
    /// It lets through.
    #[default]
    Closed,
    /// It lets nothing through.
    Open,
    /// It lets some through, to see.
    HalfOpen,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerVerdict {
    /// The endpoint answered.
    Success,
    /// It failed.
    Failure,
    /// Nothing is known.
    Abandoned,
}

/// Leave for one request.
#[derive(Clone, Debug)]
pub struct Permit {
    round: u64,
}

/// The breaker is open.
#[derive(Clone, Copy, Debug)]
pub struct BreakerOpen {
    /// Until then.
    pub until: Option<Instant>,
}

/// A circuit breaker.
#[derive(Debug)]
pub struct CircuitBreaker {
    config: BreakerConfig,
    state: BreakerState,
    round: u64,
    until: Instant,
    out: u32,
    good: u32,
    window: VecDeque<(Instant, bool)>,
}

impl CircuitBreaker {
    /// A closed one.
    pub fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            state: BreakerState::Closed,
            round: 0,
            until: Instant::ZERO,
            out: 0,
            good: 0,
            window: VecDeque::new(),
        }
    }

    /// Its state.
    pub fn state(&self, now: Instant) -> BreakerState {
        match self.state {
            BreakerState::Open if now >= self.until => BreakerState::HalfOpen,
            state => state,
        }
    }

    /// When it changes by itself.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.state == BreakerState::Open).then_some(self.until)
    }

    /// Asks for leave.
    pub fn try_begin(&mut self, now: Instant) -> Result<Permit, BreakerOpen> {
        match (self.state, self.state(now)) {
            (_, BreakerState::Closed) => {}
            (_, BreakerState::Open) => {
                return Err(BreakerOpen {
                    until: Some(self.until),
                });
            }
            (BreakerState::Open, _) => self.go(BreakerState::HalfOpen, now),
            _ => {}
        }
        if self.state == BreakerState::HalfOpen {
            if self.out >= self.config.probes {
                return Err(BreakerOpen { until: None });
            }
            self.out += 1;
        }
        Ok(Permit { round: self.round })
    }

    /// A request ended.
    pub fn end(&mut self, now: Instant, permit: Permit, verdict: BreakerVerdict) {
        if permit.round != self.round {
            return;
        }
        if self.state == BreakerState::HalfOpen {
            self.out = self.out.saturating_sub(1);
            match verdict {
                BreakerVerdict::Failure => self.go(BreakerState::Open, now),
                BreakerVerdict::Success => {
                    self.good += 1;
                    if self.good >= self.config.probes {
                        self.go(BreakerState::Closed, now);
                    }
                }
                BreakerVerdict::Abandoned => {}
            }
            return;
        }
        if verdict == BreakerVerdict::Abandoned {
            return;
        }
        self.window.push_back((now, verdict == BreakerVerdict::Failure));
        while self.window.len() > 1_000
            || self
                .window
                .front()
                .is_some_and(|(at, _)| now.since(*at) > self.config.window)
        {
            self.window.pop_front();
        }
        let failed = self.window.iter().filter(|(_, failed)| *failed).count();
        let is_bad = failed as f64 >= self.config.failure_ratio * self.window.len() as f64;
        if self.window.len() >= self.config.requests_min as usize && is_bad {
            self.go(BreakerState::Open, now);
        }
    }

    fn go(&mut self, state: BreakerState, now: Instant) {
        self.state = state;
        self.round += 1;
        self.out = 0;
        self.good = 0;
        self.window.clear();
        self.until = now + self.config.open_for;
    }
}

/// What a rate limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateUnit {
    /// Items.
    Items,
    /// Bytes.
    Bytes,
}

/// A rate limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// So many a second.
    pub per_second: u64,
    /// So many at once.
    pub burst: u64,
    /// Of what.
    pub unit: RateUnit,
}

/// The answer of a rate limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateDecision {
    /// Go.
    Allowed,
    /// Wait.
    Throttled(Duration),
    /// Never.
    Denied,
}

/// A token bucket.
#[derive(Debug)]
pub struct RateLimiter {
    limit: RateLimit,
    /// Billionths of a token.
    level: u128,
    at: Instant,
}

const TOKEN: u128 = 1_000_000_000;

impl RateLimiter {
    /// A full one.
    pub fn new(limit: RateLimit) -> Self {
        Self {
            level: u128::from(limit.burst) * TOKEN,
            limit,
            at: Instant::ZERO,
        }
    }

    /// Asks for so much.
    pub fn try_take(&mut self, now: Instant, amount: u64) -> RateDecision {
        let most = u128::from(self.limit.burst) * TOKEN;
        let nanos = u128::from(now.as_nanos().saturating_sub(self.at.as_nanos()));
        self.level = most.min(self.level + nanos * u128::from(self.limit.per_second));
        self.at = self.at.max(now);
        let amount = u128::from(amount) * TOKEN;
        if amount > most {
            return RateDecision::Denied;
        }
        if amount <= self.level {
            self.level -= amount;
            return RateDecision::Allowed;
        }
        let wait = (amount - self.level).div_ceil(u128::from(self.limit.per_second.max(1)));
        RateDecision::Throttled(Duration::from_nanos(wait as u64))
    }

    /// Gives back what was not used.
    pub fn give_back(&mut self, amount: u64) {
        let most = u128::from(self.limit.burst) * TOKEN;
        self.level = most.min(self.level + u128::from(amount) * TOKEN);
    }
}

/// Bounds of concurrency.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ConcurrencyConfig {
    /// At least.
    pub min: usize,
    /// At most.
    pub max: usize,
    /// At first.
    pub initial: usize,
}

impl Default for ConcurrencyConfig {
    fn default() -> Self {
        Self {
            min: 1,
            max: 32,
            initial: 4,
        }
    }
}

impl ConcurrencyConfig {
    /// Always so many.
    pub fn with_fixed(mut self, count: usize) -> Self {
        (self.min, self.max, self.initial) = (count, count, count);
        self
    }
}

/// How an export went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// Well.
    Success,
    /// The collector asked for less.
    Throttled,
    /// Badly.
    Failure,
}

/// Concurrency that follows latency.
#[derive(Debug)]
pub struct AdaptiveConcurrency {
    config: ConcurrencyConfig,
    limit: usize,
}

impl AdaptiveConcurrency {
    /// At its initial limit.
    pub fn new(config: ConcurrencyConfig) -> Self {
        Self {
            limit: config.initial,
            config,
        }
    }

    /// The limit now.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// An export ended.
    pub fn record(&mut self, _now: Instant, _latency: Duration, feedback: Feedback) {
        self.limit = match feedback {
            Feedback::Success => (self.limit + 1).min(self.config.max),
            Feedback::Throttled => (self.limit / 2).max(self.config.min),
            Feedback::Failure => self.limit.saturating_sub(1).max(self.config.min),
        };
    }
}

/// How batches adapt.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdaptiveBatchConfig {
    /// At least.
    pub size_min: usize,
    /// At most.
    pub size_max: usize,
    /// At first.
    pub size_initial: usize,
    /// How long one stays open.
    pub timeout: Duration,
    /// What an export is to take.
    pub target_latency: Duration,
    /// Whether the size follows.
    pub adaptive_enabled: bool,
}

impl Default for AdaptiveBatchConfig {
    fn default() -> Self {
        Self {
            size_min: 10,
            size_max: 2_000,
            size_initial: 500,
            timeout: Duration::from_millis(100),
            target_latency: Duration::from_millis(50),
            adaptive_enabled: true,
        }
    }
}

/// What batches adapted to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct BatcherStats {
    /// The size now.
    pub size: usize,
    /// The average latency.
    pub average_latency: Duration,
    /// Exports.
    pub batches: u64,
    /// Changes of the size.
    pub adjustments: u64,
}

/// The size of batches.
#[derive(Debug)]
pub struct AdaptiveBatchSize {
    config: AdaptiveBatchConfig,
    stats: BatcherStats,
}

impl AdaptiveBatchSize {
    /// At its initial size.
    pub fn new(config: AdaptiveBatchConfig) -> Self {
        let stats = BatcherStats {
            size: config.size_initial,
            ..BatcherStats::default()
        };
        Self { config, stats }
    }

    /// The size now.
    pub fn size(&self) -> usize {
        self.stats.size
    }

    /// An export took so long.
    pub fn record(&mut self, latency: Duration) {
        let stats = &mut self.stats;
        stats.average_latency = match stats.batches {
            0 => latency,
            _ => stats.average_latency.mul_f64(0.8) + latency.mul_f64(0.2),
        };
        stats.batches += 1;
        let target = self.config.target_latency;
        let size = stats.size as f64;
        let next = match () {
            () if !self.config.adaptive_enabled => return,
            () if stats.average_latency > target.mul_f64(1.5) => size * 0.8,
            () if stats.average_latency < target / 2 => size * 1.2,
            () => return,
        };
        let next = (next as usize).clamp(self.config.size_min, self.config.size_max);
        stats.adjustments += u64::from(next != stats.size);
        stats.size = next;
    }

    /// What it came to.
    pub fn stats(&self) -> BatcherStats {
        self.stats
    }
}
