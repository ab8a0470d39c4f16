//! Which failures are worth another attempt, and how long to wait for it.

use super::refused;
use crate::code::Code;
use crate::error::Error;
use core::time::Duration;
use fastrand::Rng;

/// Steps of growth after which a wait stays as it is.
const GROWTH_STEPS_MAX: u32 = 1_000;

/// How the waits between the attempts of one export follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackoffStrategy {
    /// Every wait is [`initial`](RetryPolicy::initial). Exporters that failed together come back together.
    Fixed,
    /// The `n`th wait is `min(initial × multiplierⁿ⁻¹, max)`. Exporters that failed together come back together.
    Exponential,
    /// The `n`th wait is drawn evenly from the upper half of that, as the OTLP specification asks for ("OTLP/gRPC
    /// Throttling" and "OTLP/HTTP Connection": exponential backoff with random jitter).
    #[default]
    ExponentialJitter,
}

/// When an export is attempted again, and how often: exponential backoff with jitter, unless set otherwise.
///
/// The `n`th wait is drawn evenly from `[½, 1] × min(initial × multiplierⁿ⁻¹, max)`. Once the collector has asked for a
/// wait, none is shorter than that, and the waits grow from it (OTLP specification, "OTLP/gRPC Throttling"); one that
/// would end after the deadline ends the export at once instead.
///
/// A wait of its own that would pass the deadline, or the end of [`total`](Self::total), is shortened to half of the time
/// left, as long as that is not less than half of `initial`: an outage that ends shortly before is not missed.
///
/// ```
/// use core::time::Duration;
/// use otlp_embed::policy::{BackoffStrategy, RetryPolicy};
///
/// let policy = RetryPolicy::default()
///     .with_strategy(BackoffStrategy::Exponential)
///     .with_attempts_max(5)
///     .with_total(Some(Duration::from_secs(8)));
/// assert_eq!(policy.initial, Duration::from_millis(200));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// How the waits follow each other; exponentially and with jitter unless set.
    pub strategy: BackoffStrategy,
    /// The longest first wait, more than zero; 200 ms unless set.
    pub initial: Duration,
    /// The longest wait of all that the collector did not ask for, at least [`initial`](Self::initial); 5 s unless set.
    pub max: Duration,
    /// How many times as long each wait is as the one before, from 1 to 100; 2 unless set.
    pub multiplier: f64,
    /// Attempts in all, the first included, at least 1; without a limit (`u32::MAX`) unless set, the deadline being the limit.
    pub attempts_max: u32,
    /// The time after the beginning of the first attempt in which others may begin, more than zero; without a limit unless set,
    /// the deadline being the limit.
    pub total: Option<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            strategy: BackoffStrategy::default(),
            initial: Duration::from_millis(200),
            max: Duration::from_secs(5),
            multiplier: 2.0,
            attempts_max: u32::MAX,
            total: None,
        }
    }
}

impl RetryPolicy {
    /// The same wait before every further attempt, unless the collector asks for a longer one.
    pub fn fixed(wait: Duration) -> Self {
        Self {
            strategy: BackoffStrategy::Fixed,
            initial: wait,
            max: wait,
            ..Self::default()
        }
    }

    /// Sets [`strategy`](Self::strategy).
    pub fn with_strategy(mut self, strategy: BackoffStrategy) -> Self {
        self.strategy = strategy;
        self
    }

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

    /// Sets [`total`](Self::total).
    pub fn with_total(mut self, total: Option<Duration>) -> Self {
        self.total = total;
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
    /// that brought the hint. `retry_after` is the last hint: the wait is at least that, however long; with jitter there
    /// is up to an eighth on top, so that callers who were told the same do not come back in step.
    pub(crate) fn backoff(&self, attempt: u32, retry_after: Option<Duration>, rng: &mut Rng) -> Duration {
        let hint = retry_after.unwrap_or(Duration::ZERO);
        let base = self.initial.max(hint);
        let high = match self.strategy {
            BackoffStrategy::Fixed => return base,
            BackoffStrategy::Exponential => return self.grown(base, attempt, self.max.max(base)),
            BackoffStrategy::ExponentialJitter => self.grown(base, attempt, self.max.max(base)),
        };
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

    /// Whether these settings can work.
    ///
    /// # Errors
    ///
    /// Names the setting that cannot; the error [is a misuse](Error::is_misuse).
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |what| Err(refused("with_retry_policy", what));
        if self.attempts_max == 0 {
            return refuse("attempts_max is 0; 1 means no retry");
        }
        if !(1.0..=100.0).contains(&self.multiplier) {
            return refuse("multiplier lies outside 1 to 100");
        }
        if self.initial.is_zero() || self.max < self.initial {
            return refuse("initial must be more than zero and at most max");
        }
        if self.total.is_some_and(|total| total.is_zero()) {
            return refuse("total is zero; attempts_max of 1 means no retry");
        }
        Ok(())
    }
}

/// How one attempt ended, as far as it matters to whether another follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptResult {
    /// An answer over gRPC.
    Grpc {
        /// Its status, or the one that the gRPC specification derives for an answer without.
        code: Code,
        /// The wait that its `RetryInfo` asks for.
        retry_after: Option<Duration>,
    },
    /// An answer over OTLP/HTTP.
    Http {
        /// Its status.
        status: u16,
        /// The wait that its `Retry-After` or the `RetryInfo` in its body asks for.
        retry_after: Option<Duration>,
    },
    /// None: the connection could not be opened, or ended before the answer.
    Disconnected,
}

/// What follows from how an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class {
    /// The collector took the request, in part perhaps: it is never sent again.
    Accepted,
    /// Another attempt may succeed; `after` is the wait that the collector asks for.
    Retryable {
        /// At least this long; without it, the backoff decides.
        after: Option<Duration>,
    },
    /// No other attempt can succeed.
    Refused,
}

/// Tells what follows from how an attempt ended: the one table that exports go by.
///
/// - What was accepted is never sent again, with a partial success or without (OTLP specification, "Partial Success").
/// - Over gRPC, `CANCELLED`, `DEADLINE_EXCEEDED`, `ABORTED`, `OUT_OF_RANGE`, `UNAVAILABLE` and `DATA_LOSS` are retryable,
///   and `RESOURCE_EXHAUSTED` where it comes with `RetryInfo` ("OTLP/gRPC Response").
/// - Over HTTP, 429, 502, 503 and 504 are, and no other, whatever wait it asks for ("OTLP/HTTP Response").
/// - Where there is no answer, the request is sent again ("OTLP/HTTP Connection").
///
/// ```
/// use core::time::Duration;
/// use otlp_embed::policy::{AttemptResult, Class, classify};
///
/// let retry_after = Some(Duration::from_secs(3));
/// let throttled = AttemptResult::Http { status: 429, retry_after };
/// assert_eq!(classify(throttled), Class::Retryable { after: retry_after });
/// assert_eq!(classify(AttemptResult::Http { status: 400, retry_after }), Class::Refused);
/// ```
pub const fn classify(result: AttemptResult) -> Class {
    let after = match result {
        AttemptResult::Grpc { code: Code::OK, .. }
        | AttemptResult::Http {
            status: 200..=299, ..
        } => {
            return Class::Accepted;
        }
        AttemptResult::Grpc { code, retry_after } => match code {
            Code::CANCELLED
            | Code::DEADLINE_EXCEEDED
            | Code::ABORTED
            | Code::OUT_OF_RANGE
            | Code::UNAVAILABLE
            | Code::DATA_LOSS => retry_after,
            Code::RESOURCE_EXHAUSTED if retry_after.is_some() => retry_after,
            _ => return Class::Refused,
        },
        AttemptResult::Http { status, retry_after } => match status {
            429 | 502 | 503 | 504 => retry_after,
            _ => return Class::Refused,
        },
        AttemptResult::Disconnected => None,
    };
    Class::Retryable { after }
}

/// Whether a call over gRPC that ended in `code` may be repeated, by the table of [`classify`]; `throttled` tells that
/// the answer carried `RetryInfo`.
pub const fn is_retryable(code: Code, throttled: bool) -> bool {
    let retry_after = match throttled {
        true => Some(Duration::ZERO),
        false => None,
    };
    matches!(
        classify(AttemptResult::Grpc { code, retry_after }),
        Class::Retryable { .. }
    )
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
    fn fixed_and_exponential_waits_are_exact() {
        let waits = |strategy| {
            let policy = policy().with_strategy(strategy);
            [1, 2, 3, 6, 7].map(|attempt| {
                let (low, high) = range(&policy, attempt, None);
                assert_eq!(low, high, "{strategy:?}");
                low
            })
        };
        assert_eq!(waits(BackoffStrategy::Fixed), [MS(200); 5]);
        let doubled = [200, 400, 800, 5_000, 5_000].map(MS);
        assert_eq!(waits(BackoffStrategy::Exponential), doubled, "spec 17");
        let fixed = RetryPolicy::fixed(MS(700));
        assert!(fixed.check().is_ok());
        assert_eq!(range(&fixed, 9, None), (MS(700), MS(700)));
        for policy in [fixed, policy().with_strategy(BackoffStrategy::Exponential)] {
            let hint = Some(MS(9_000));
            assert_eq!(range(&policy, 1, hint), (MS(9_000), MS(9_000)), "spec 18");
            assert_eq!(range(&policy, 4, hint).0, MS(9_000), "spec 18: at least the hint");
        }
        let grown = range(
            &policy().with_strategy(BackoffStrategy::Exponential),
            3,
            Some(MS(1_000)),
        );
        assert_eq!(grown, (MS(4_000), MS(4_000)), "spec 18: growth from the hint");
    }

    #[test]
    fn the_table_of_attempts() {
        let after = Some(MS(3));
        for status in 0..=u16::from(u8::MAX) * 4 {
            let class = classify(AttemptResult::Http {
                status,
                retry_after: after,
            });
            let expected = match status {
                200..=299 => Class::Accepted,
                429 | 502 | 503 | 504 => Class::Retryable { after },
                _ => Class::Refused,
            };
            assert_eq!(class, expected, "spec 12, 19, 20: {status}");
        }
        let grpc = |code, retry_after| classify(AttemptResult::Grpc { code, retry_after });
        for retry_after in [None, after] {
            assert_eq!(grpc(Code::OK, retry_after), Class::Accepted, "spec 12, 53");
            let expected = Class::Retryable { after: retry_after };
            assert_eq!(grpc(Code::UNAVAILABLE, retry_after), expected, "spec 15, 18");
            assert_eq!(
                grpc(Code::INVALID_ARGUMENT, retry_after),
                Class::Refused,
                "spec 14"
            );
        }
        assert_eq!(grpc(Code::RESOURCE_EXHAUSTED, None), Class::Refused, "spec 16");
        assert_eq!(
            grpc(Code::RESOURCE_EXHAUSTED, after),
            Class::Retryable { after },
            "spec 16"
        );
        let nothing = Some(Duration::ZERO);
        let class = grpc(Code::RESOURCE_EXHAUSTED, nothing);
        assert_eq!(
            class,
            Class::Retryable { after: nothing },
            "spec 16: a hint of zero is one"
        );
        let lost = classify(AttemptResult::Disconnected);
        assert_eq!(lost, Class::Retryable { after: None }, "spec 22");
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
        assert!(refused(|p| p.total = Some(Duration::ZERO)));
        assert!(!refused(|p| p.total = Some(Duration::MAX)));
    }
}
