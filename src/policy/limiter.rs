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
    /// How much may pass a second in the long run, at least 1.
    pub per_second: u64,
    /// How much may pass at once after a pause, at least 1; as much as in a second unless set.
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    const NS: fn(u64) -> Instant = Instant::from_nanos;
    const YEAR_NANOS: u64 = 365 * 86_400 * TOKEN as u64;

    #[test]
    fn no_token_is_lost_or_won_in_years() {
        // Seven a second take 142,857,142.857… ns each: taken one by one, as soon as each is there.
        let mut limiter = RateLimiter::new(RateLimit::items(7).with_burst(1));
        let mut now = NS(0);
        assert_eq!(limiter.try_take(now, 1), RateDecision::Allowed);
        for _ in 0..700_000 {
            let RateDecision::Throttled(wait) = limiter.try_take(now, 1) else {
                panic!("there is one at a time");
            };
            now = now + wait;
            assert_eq!(
                limiter.try_take(now, 1),
                RateDecision::Allowed,
                "after the wait it passes"
            );
        }
        // Each may come less than a nanosecond late, and none early.
        let late = now.as_nanos() - 100_000 * TOKEN as u64;
        assert!(late <= 700_000, "{late} ns in {now:?}");

        let mut limiter = RateLimiter::new(RateLimit::items(3).with_burst(u64::MAX));
        assert_eq!(limiter.try_take(NS(0), u64::MAX), RateDecision::Allowed);
        let mut now = 0;
        // Looked at in uneven steps for a hundred years.
        while now < 100 * YEAR_NANOS {
            now += YEAR_NANOS / 7 + 1;
            assert_eq!(limiter.try_take(NS(now), 0), RateDecision::Allowed);
        }
        let expected = u128::from(now) * 3 / TOKEN;
        assert_eq!(u128::from(limiter.available(NS(now))), expected);
    }

    #[test]
    fn the_wait_is_the_shortest_that_is_long_enough() {
        for (per_second, amount) in [(1, 1), (3, 2), (7, 5), (1_000_000_007, 5), (u64::MAX, 5), (5, 5)] {
            let mut limiter = RateLimiter::new(RateLimit::bytes(per_second).with_burst(5));
            let start = NS(1_000);
            assert_eq!(limiter.try_take(start, 5), RateDecision::Allowed);
            let RateDecision::Throttled(wait) = limiter.try_take(start, amount) else {
                panic!("it is empty");
            };
            let just_before = start + (wait - Duration::from_nanos(1));
            let early = limiter.clone().try_take(just_before, amount);
            assert!(matches!(early, RateDecision::Throttled(_)), "{per_second}");
            assert_eq!(limiter.try_take(start + wait, amount), RateDecision::Allowed);
        }
    }

    #[test]
    fn more_than_the_burst_is_denied_and_costs_nothing() {
        let mut limiter = RateLimiter::new(RateLimit::items(10).with_burst(20));
        assert_eq!(limiter.try_take(NS(0), 21), RateDecision::Denied);
        assert_eq!(limiter.available(NS(0)), 20);
        assert_eq!(limiter.try_take(NS(0), 20), RateDecision::Allowed);
        let later = NS(YEAR_NANOS);
        assert_eq!(
            limiter.try_take(later, 21),
            RateDecision::Denied,
            "time does not help"
        );
        assert_eq!(limiter.available(later), 20);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut limiter = RateLimiter::new(RateLimit::items(10));
        assert_eq!(limiter.try_take(NS(0), 8), RateDecision::Allowed);
        limiter.give_back(5);
        assert_eq!(limiter.available(NS(0)), 7);
        limiter.give_back(u64::MAX);
        assert_eq!(limiter.available(NS(0)), 10, "no more than the burst");
    }

    #[test]
    fn a_time_that_runs_backwards_gives_nothing() {
        let mut limiter = RateLimiter::new(RateLimit::items(10));
        let at = |secs: u64| Instant::from_millis(secs * 1_000);
        assert_eq!(limiter.try_take(at(100), 10), RateDecision::Allowed);
        for _ in 0..50 {
            assert_eq!(limiter.try_take(at(1), 0), RateDecision::Allowed);
            assert_eq!(limiter.try_take(at(100), 0), RateDecision::Allowed);
        }
        assert_eq!(limiter.available(at(100)), 0);
        assert_eq!(limiter.available(at(101)), 10);
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        assert!(RateLimit::items(1).check().is_ok());
        for bad in [
            RateLimit::items(0).with_burst(1),
            RateLimit::bytes(1).with_burst(0),
        ] {
            let error = bad.check().expect_err("a setting that cannot work");
            assert!(error.is_misuse() && format!("{error}").starts_with("with_rate_limit: "));
        }
        let mut never = RateLimiter::new(RateLimit::items(0).with_burst(1));
        assert_eq!(never.try_take(NS(0), 1), RateDecision::Allowed);
        assert_eq!(
            never.try_take(Instant::MAX, 1),
            RateDecision::Throttled(Duration::MAX)
        );
        let mut most = RateLimiter::new(RateLimit::items(u64::MAX));
        assert_eq!(most.try_take(Instant::MAX, u64::MAX), RateDecision::Allowed);
        most.give_back(u64::MAX);
        assert_eq!(most.available(Instant::MAX), u64::MAX);
    }

    #[test]
    fn an_amount_is_of_the_unit_that_is_limited() {
        assert_eq!(RateLimit::items(1).amount(3, 500), 3);
        assert_eq!(RateLimit::bytes(1).amount(3, 500), 500);
    }
}
