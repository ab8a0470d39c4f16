//! Which failures are worth another attempt, and how long to wait for it.

use crate::code::Code;
use crate::error::Error;
use alloc::format;
use core::time::Duration;
use fastrand::Rng;

/// Steps of growth after which a wait stays as it is.
const GROWTH_STEPS_MAX: u32 = 1_000;

/// Exponential backoff with jitter between the attempts of one export.
///
/// A wait of its own that would pass the deadline is shortened to half of the time left, as long as that is not less than
/// half of `initial`: an outage that ends shortly before the deadline is not missed.
///
/// The `n`th wait is drawn evenly from `[½, 1] × min(initial × multiplierⁿ⁻¹, max)`. Once the collector has asked for a
/// wait, none is shorter than that, and the waits grow from it (OTLP specification, "OTLP/gRPC Throttling").
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The longest first wait; 200 ms unless set.
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
    /// Sets [`initial`](Self::initial).
    pub fn with_initial(mut self, initial: Duration) -> Self {
        self.initial = initial;
        self
    }

    /// Sets [`max`](Self::max).
    pub fn with_max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// Sets [`multiplier`](Self::multiplier).
    pub fn with_multiplier(mut self, multiplier: f64) -> Self {
        self.multiplier = multiplier;
        self
    }

    /// Sets [`attempts_max`](Self::attempts_max).
    pub fn with_attempts_max(mut self, attempts_max: u32) -> Self {
        self.attempts_max = attempts_max;
        self
    }

    /// No second attempt.
    pub fn never() -> Self {
        Self {
            attempts_max: 1,
            ..Self::default()
        }
    }

    /// The wait before the next attempt.
    ///
    /// `attempt` counts the failed attempts so far, from 1; after a hint of the collector it counts from the attempt
    /// that brought the hint. `retry_after` is the last hint: the wait is at least that, however long, with up to an
    /// eighth on top, so that callers who were told the same do not come back in step.
    pub(crate) fn backoff(&self, attempt: u32, retry_after: Option<Duration>, rng: &mut Rng) -> Duration {
        let hint = retry_after.unwrap_or(Duration::ZERO);
        let base = self.initial.max(hint);
        let high = self.grown(base, attempt, self.max.max(base));
        let low = hint.max(high / 2);
        let high = match retry_after {
            Some(_) => high.max(low.saturating_add(low / 8)),
            None => high,
        };
        low.saturating_add(drawn(high - low, rng))
    }

    /// A wait in place of one that would pass the deadline, when the collector asked for none: half of the time `left`,
    /// so that the attempts come closer together towards the deadline, and none once that is less than the shortest
    /// first wait.
    pub(crate) fn shortened(&self, left: Duration) -> Option<Duration> {
        let half = left / 2;
        (half >= self.initial / 2).then_some(half)
    }

    /// `base × multiplierⁿ⁻¹`, at most `max`.
    fn grown(&self, base: Duration, attempt: u32, max: Duration) -> Duration {
        let (mut secs, max_secs) = (base.as_secs_f64(), max.as_secs_f64());
        // A multiplier of almost 1 does not get more than this many steps.
        for _ in 1..attempt.min(GROWTH_STEPS_MAX) {
            if secs >= max_secs {
                return max;
            }
            secs *= self.multiplier;
        }
        Duration::try_from_secs_f64(secs).map_or(max, |grown| grown.clamp(base, max))
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

/// Whether an answer may be repeated. Over OTLP/HTTP, whose statuses of 429, 502, 503 and 504 are read as `UNAVAILABLE`,
/// no other is, whatever wait it asks for (OTLP specification, "OTLP/HTTP Response").
pub(crate) fn is_retryable_answer(code: Code, throttled: bool, is_http: bool) -> bool {
    match is_http {
        true => code == Code::UNAVAILABLE,
        false => is_retryable(code, throttled),
    }
}

/// Evenly from nothing to `span`.
fn drawn(span: Duration, rng: &mut Rng) -> Duration {
    let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(rng.u64(0..=nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            initial: MS(200),
            max: MS(5_000),
            ..RetryPolicy::default()
        }
    }

    /// The shortest and the longest of many waits.
    fn range(policy: &RetryPolicy, attempt: u32, hint: Option<Duration>) -> (Duration, Duration) {
        let mut rng = Rng::with_seed(7);
        (0..2_000).fold((Duration::MAX, Duration::ZERO), |(low, high), _| {
            let wait = policy.backoff(attempt, hint, &mut rng);
            (low.min(wait), high.max(wait))
        })
    }

    #[test]
    fn waits_double_up_to_the_longest_and_spread_over_their_upper_half() {
        for (attempt, longest) in [
            (1, 200),
            (2, 400),
            (3, 800),
            (5, 3_200),
            (6, 5_000),
            (u32::MAX, 5_000),
        ] {
            let (low, high) = range(&policy(), attempt, None);
            assert!(
                low >= MS(longest) / 2 && low < MS(longest) * 52 / 100,
                "spec 17: {low:?}"
            );
            assert!(
                high <= MS(longest) && high > MS(longest) * 98 / 100,
                "spec 23: {high:?}"
            );
        }
    }

    #[test]
    fn a_hint_is_obeyed_and_grown_from() {
        let hint = Some(MS(1_000));
        let (low, high) = range(&policy(), 1, hint);
        assert!(
            low >= MS(1_000) && high > MS(1_100) && high <= MS(1_125),
            "spec 18: {low:?}, {high:?}"
        );
        let (low, high) = range(&policy(), 3, hint);
        assert!(
            low >= MS(2_000) && high > MS(3_900) && high <= MS(4_000),
            "spec 18: {low:?}, {high:?}"
        );
    }

    #[test]
    fn a_hint_beyond_the_longest_wait_is_obeyed_too() {
        let (low, high) = range(&policy(), 9, Some(MS(60_000)));
        assert!(
            low >= MS(60_000) && high <= MS(67_500),
            "spec 18: {low:?}, {high:?}"
        );
    }

    #[test]
    fn absurd_hints_and_settings_saturate() {
        let (low, _) = range(&policy(), u32::MAX, Some(Duration::MAX));
        assert_eq!(low, Duration::MAX, "spec 18");
        assert!(
            range(&policy(), 0, Some(Duration::ZERO)).1 <= MS(225),
            "a hint of zero is ordinary backoff"
        );
        let steady = RetryPolicy {
            multiplier: 1.0,
            ..policy()
        };
        assert!(range(&steady, u32::MAX, None).1 <= MS(200));
        let endless = RetryPolicy {
            max: Duration::MAX,
            multiplier: 100.0,
            ..policy()
        };
        assert!(range(&endless, u32::MAX, None).0 >= Duration::MAX / 2);
    }

    #[test]
    fn the_same_seed_gives_the_same_waits() {
        let waits = |seed| {
            let mut rng = Rng::with_seed(seed);
            [1, 2, 3].map(|attempt| policy().backoff(attempt, None, &mut rng))
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2), "spec 23: jitter differs between exporters");
    }

    #[test]
    fn the_table_of_retryable_codes() {
        let retryable = [1, 4, 10, 11, 14, 15];
        for number in 0..=20 {
            let code = Code::from_u32(number);
            assert_eq!(
                is_retryable(code, false),
                retryable.contains(&number),
                "spec 15: {code}"
            );
            let throttled = retryable.contains(&number) || number == 8;
            assert_eq!(is_retryable(code, true), throttled, "spec 16: {code}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let refused = |change: fn(&mut RetryPolicy)| {
            let mut policy = policy();
            change(&mut policy);
            policy.check().is_err()
        };
        assert!(!refused(|_| {}));
        assert!(refused(|p| p.attempts_max = 0));
        assert!(refused(|p| p.multiplier = 0.5));
        assert!(refused(|p| p.multiplier = f64::NAN));
        assert!(refused(|p| p.initial = Duration::ZERO));
        assert!(refused(|p| p.max = MS(1)));
    }
}
