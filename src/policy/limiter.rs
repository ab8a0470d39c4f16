//! Rate limiter: how much may be sent now.
//!
//! Owns one token bucket, in whole numbers. Never reads a clock and never waits: it says how long to.

use super::refused;
use crate::error::Error;
use crate::time::Instant;
use core::time::Duration;

/// A token in the unit that the bucket counts in. A nanosecond at the rate of one a second is one such unit, so that no
/// fraction is ever lost.
const TOKEN: u128 = 1_000_000_000;

/// What a [`RateLimit`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RateUnit {
    /// Spans, log records, data points.
    Items,
    /// Encoded bytes, before compression.
    Bytes,
}

/// A rate, and how much may pass at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimit {
    /// How much may pass a second in the long run.
    pub per_second: u64,
    /// How much may pass at once after a pause; as much as in a second unless set.
    pub burst: u64,
    /// What is counted.
    pub unit: RateUnit,
}

impl RateLimit {
    /// So many items a second.
    pub const fn items(per_second: u64) -> Self {
        Self {
            per_second,
            burst: per_second,
            unit: RateUnit::Items,
        }
    }

    /// So many encoded bytes a second.
    pub const fn bytes(per_second: u64) -> Self {
        Self {
            unit: RateUnit::Bytes,
            ..Self::items(per_second)
        }
    }

    /// Sets [`burst`](Self::burst): at least the largest amount that is taken at once, which is never allowed otherwise.
    pub const fn with_burst(mut self, burst: u64) -> Self {
        self.burst = burst;
        self
    }

    /// What a request of so many items and bytes takes.
    pub const fn amount(&self, items: u64, bytes: u64) -> u64 {
        match self.unit {
            RateUnit::Items => items,
            RateUnit::Bytes => bytes,
        }
    }

    /// Whether these settings can work.
    ///
    /// # Errors
    ///
    /// Names the setting that cannot; the error [is a misuse](Error::is_misuse).
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |what| Err(refused("with_rate_limit", what));
        if self.per_second == 0 {
            return refuse("per_second is 0; nothing would ever be sent");
        }
        if self.burst == 0 {
            return refuse("burst is 0; nothing would ever be sent");
        }
        Ok(())
    }
}

/// What a [`RateLimiter`] says to an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateDecision {
    /// It may pass, and is taken from the bucket.
    Allowed,
    /// It may pass after this time, if nothing else is taken meanwhile. Nothing was taken.
    Throttled(Duration),
    /// It is more than the burst, so that it can never pass at once. Nothing was taken.
    Denied,
}

/// A token bucket: over any stretch of time, no more passes than the burst and what the rate gives for that time.
///
/// It counts in whole numbers and loses no fraction of a token, so that it gives exactly its rate over years. It begins
/// full. A `now` earlier than one it has seen counts as that.
///
/// ```
/// use core::time::Duration;
/// use otlp_embed::policy::{RateDecision, RateLimit, RateLimiter};
/// use otlp_embed::time::Instant;
///
/// let mut limiter = RateLimiter::new(RateLimit::items(1_000).with_burst(500));
/// let now = Instant::from_millis(1);
/// assert_eq!(limiter.try_take(now, 400), RateDecision::Allowed);
/// assert_eq!(limiter.try_take(now, 400), RateDecision::Throttled(Duration::from_millis(300)));
/// assert_eq!(limiter.try_take(now + Duration::from_millis(300), 400), RateDecision::Allowed);
/// assert_eq!(limiter.try_take(now, 501), RateDecision::Denied);
/// ```
#[derive(Clone, Debug)]
pub struct RateLimiter {
    limit: RateLimit,
    /// What is in the bucket, in parts of a token.
    level: u128,
    /// When that was so.
    now: Instant,
}

impl RateLimiter {
    /// A full bucket.
    pub fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            level: tokens(limit.burst),
            now: Instant::ZERO,
        }
    }

    /// Takes `amount` out of the bucket if it is there; all of it or nothing. An amount of nothing always passes.
    pub fn try_take(&mut self, now: Instant, amount: u64) -> RateDecision {
        self.fill(now);
        if amount > self.limit.burst {
            return RateDecision::Denied;
        }
        let wanted = tokens(amount);
        match self.level.checked_sub(wanted) {
            Some(rest) => {
                self.level = rest;
                RateDecision::Allowed
            }
            None => RateDecision::Throttled(self.wait_for(wanted - self.level)),
        }
    }

    /// Puts back what was taken and not used. The bucket holds no more than the burst.
    pub fn give_back(&mut self, amount: u64) {
        self.level = (self.level + tokens(amount)).min(tokens(self.limit.burst));
    }

    /// Whole tokens that could be taken at `now`.
    pub fn available(&self, now: Instant) -> u64 {
        // At most the burst.
        (self.filled(now) / TOKEN) as u64
    }

    /// The settings.
    pub fn limit(&self) -> &RateLimit {
        &self.limit
    }

    fn fill(&mut self, now: Instant) {
        self.level = self.filled(now);
        self.now = self.now.max(now);
    }

    /// What is in the bucket at `now`.
    fn filled(&self, now: Instant) -> u128 {
        let elapsed = now.since(self.now).as_nanos();
        // Two numbers of 64 bits each.
        let gained = elapsed * u128::from(self.limit.per_second);
        self.level.saturating_add(gained).min(tokens(self.limit.burst))
    }

    /// The time after which so much more is in the bucket.
    fn wait_for(&self, missing: u128) -> Duration {
        let per_second = u128::from(self.limit.per_second);
        if per_second == 0 {
            return Duration::MAX;
        }
        let nanos = missing.div_ceil(per_second);
        match u64::try_from(nanos / TOKEN) {
            // The remainder is less than a second.
            Ok(secs) => Duration::new(secs, (nanos % TOKEN) as u32),
            Err(_) => Duration::MAX,
        }
    }
}

fn tokens(amount: u64) -> u128 {
    u128::from(amount) * TOKEN
}
