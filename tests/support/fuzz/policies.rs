//! Arbitrary settings, events and times for every policy.
//!
//! Whatever they are told, and in whatever order of time, they keep to their bounds and nothing panics.

use super::input::Input;
use otlp_embed::Code;
use otlp_embed::policy::{
    AdaptiveBatchConfig, AdaptiveBatchSize, AdaptiveConcurrency, AttemptResult, BreakerConfig, BreakerState,
    BreakerVerdict, CircuitBreaker, Class, ConcurrencyConfig, Feedback, RateDecision, RateLimit, RateLimiter,
    classify, is_retryable,
};
use otlp_embed::time::Instant;
use std::time::Duration;

/// Drives the policy that the first byte names.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    match input.byte().unwrap_or(0) % 5 {
        0 => breaker(&mut input),
        1 => limiter(&mut input),
        2 => concurrency(&mut input),
        3 => batch_size(&mut input),
        _ => table(&mut input),
    }
}

/// A number of any size, small ones more often than large ones.
fn number(input: &mut Input<'_>) -> u64 {
    let len = usize::from(input.byte().unwrap_or(0) % 9);
    let bytes = input.bytes(len);
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// A clock that goes forth, and back where the event says so.
struct Clock {
    told: u64,
    latest: u64,
}

impl Clock {
    fn tell(&mut self, input: &mut Input<'_>, is_back: bool) -> Instant {
        let step = number(input);
        self.told = match is_back {
            true => self.told.saturating_sub(step),
            false => self.told.saturating_add(step),
        };
        self.latest = self.latest.max(self.told);
        Instant::from_nanos(self.told)
    }
}

fn breaker(input: &mut Input<'_>) {
    let config = BreakerConfig::new()
        .with_window(Duration::from_nanos(number(input)))
        .with_requests_min(number(input) as u32)
        .with_failure_ratio(f64::from_bits(number(input)))
        .with_open_for(Duration::from_nanos(number(input)))
        .with_probes(number(input) as u32);
    let (is_valid, most) = (config.check().is_ok(), config.probes.clamp(1, 10_000) as usize);
    let mut breaker = CircuitBreaker::new(config);
    let mut clock = Clock { told: 0, latest: 0 };
    let mut permits = Vec::new();
    // Changes of state, and which of the permits out were given out since the last one.
    let (mut changes, mut state, mut failed) = (0, BreakerState::Closed, 0_u64);
    while let Some(op) = input.byte() {
        let now = clock.tell(input, op & 0x80 != 0);
        let open_until = breaker.poll_timeout();
        if open_until.is_some_and(|until| until.as_nanos() <= clock.latest) {
            // Whatever is told now finds it half-open.
            (changes, state) = (changes + 1, BreakerState::HalfOpen);
        }
        let before = changes;
        match op % 4 {
            0 | 1 => match breaker.try_begin(now) {
                Ok(permit) => {
                    assert_ne!(state, BreakerState::Open, "before its time");
                    permits.push((changes, permit));
                    let out = permits.iter().filter(|(since, _)| *since == changes).count();
                    assert!(state != BreakerState::HalfOpen || out <= most, "{out} probes");
                }
                Err(refusal) => {
                    assert_ne!(state, BreakerState::Closed);
                    assert_eq!(refusal.until, breaker.poll_timeout());
                    assert!(refusal.until.is_none_or(|until| until.as_nanos() > clock.latest));
                }
            },
            2 if !permits.is_empty() => {
                let (since, permit) = permits.swap_remove(usize::from(op >> 2) % permits.len());
                let verdict = match input.byte().unwrap_or(0) % 4 {
                    0 => BreakerVerdict::Success,
                    1 => BreakerVerdict::Abandoned,
                    _ => BreakerVerdict::Failure,
                };
                breaker.end(now, permit, verdict);
                failed += u64::from(verdict == BreakerVerdict::Failure);
                let is_changed = breaker.poll_timeout().is_some() != (state == BreakerState::Open)
                    || breaker.state(now) != state;
                if is_changed {
                    assert_eq!(since, before, "a permit of an earlier state counts for nothing");
                    assert_ne!(verdict, BreakerVerdict::Abandoned);
                    assert!(failed > 0);
                    changes += 1;
                }
            }
            _ => breaker.handle_timeout(now),
        }
        state = match breaker.poll_timeout() {
            Some(_) => BreakerState::Open,
            None => breaker.state(now),
        };
        if is_valid && failed == 0 {
            assert_eq!(state, BreakerState::Closed, "nothing failed");
        }
    }
}

fn limiter(input: &mut Input<'_>) {
    let limit = RateLimit::bytes(number(input)).with_burst(number(input));
    let mut limiter = RateLimiter::new(limit);
    let (mut clock, mut passed) = (Clock { told: 0, latest: 0 }, 0_i128);
    while let Some(op) = input.byte() {
        let now = clock.tell(input, op & 0x80 != 0);
        let amount = number(input);
        let before = limiter.available(Instant::from_nanos(clock.latest));
        match limiter.try_take(now, amount) {
            RateDecision::Allowed => {
                assert!(amount <= before);
                passed += i128::from(amount);
                if op & 1 != 0 {
                    limiter.give_back(amount);
                    passed -= i128::from(amount);
                }
            }
            RateDecision::Denied => assert!(amount > limit.burst),
            RateDecision::Throttled(wait) => {
                assert!(amount > before && amount <= limit.burst && !wait.is_zero());
                let then = Instant::from_nanos(clock.latest) + wait;
                if then < Instant::MAX {
                    let mut later = limiter.clone();
                    assert_eq!(later.try_take(then, amount), RateDecision::Allowed);
                }
            }
        }
        let gained = u128::from(clock.latest) * u128::from(limit.per_second) / 1_000_000_000;
        let most = i128::from(limit.burst) + i128::try_from(gained).unwrap_or(i128::MAX / 2);
        assert!(passed <= most, "{passed} of {most}");
        assert!(limiter.available(Instant::from_nanos(clock.latest)) <= limit.burst);
    }
}

fn concurrency(input: &mut Input<'_>) {
    let config = ConcurrencyConfig::new()
        .with_min(number(input) as usize)
        .with_max(number(input) as usize)
        .with_initial(number(input) as usize)
        .with_tolerance(f64::from_bits(number(input)))
        .with_probe_interval(Duration::from_nanos(number(input)));
    let min = config.min.max(1);
    let bounds = min..=config.max.max(min);
    let mut concurrency = AdaptiveConcurrency::new(config);
    let mut clock = Clock { told: 0, latest: 0 };
    while let Some(op) = input.byte() {
        assert!(bounds.contains(&concurrency.limit()));
        let now = clock.tell(input, op & 0x80 != 0);
        let latency = Duration::from_nanos(number(input));
        let feedback = match op % 8 {
            0 => Feedback::Throttled,
            1 => Feedback::Failure,
            _ => Feedback::Success,
        };
        // A whole round at once, now and then.
        for _ in 0..=(op >> 3 & 7) {
            concurrency.record(now, latency, feedback);
        }
    }
    assert!(bounds.contains(&concurrency.limit()));
}

fn batch_size(input: &mut Input<'_>) {
    let config = AdaptiveBatchConfig::new()
        .with_items_min(number(input) as usize)
        .with_items_max(number(input) as usize)
        .with_items_initial(number(input) as usize)
        .with_target_latency(Duration::from_nanos(number(input)))
        .with_adaptive_enabled(input.byte().unwrap_or(0) & 1 == 0);
    let min = config.items_min.max(1);
    let mut size = AdaptiveBatchSize::new(config);
    let (mut changes, mut batches) = (0, 0);
    while !input.0.is_empty() {
        let before = size.size();
        size.record(Duration::new(number(input), 0));
        batches += 1;
        changes += u64::from(size.size() != before);
        assert!((min..=config.items_max.max(min)).contains(&size.size()));
        let stats = size.stats();
        assert_eq!(
            (stats.size, stats.adjustments, stats.batches),
            (size.size(), changes, batches)
        );
    }
    assert!(config.adaptive_enabled || changes == 0);
}

fn table(input: &mut Input<'_>) {
    while let Some(kind) = input.byte() {
        let value = number(input);
        let retry_after = (kind & 2 != 0).then_some(Duration::from_nanos(value));
        let class = match kind & 1 {
            0 => {
                let code = Code::from_u32(value as u32);
                let class = classify(AttemptResult::Grpc { code, retry_after });
                let is = matches!(class, Class::Retryable { .. });
                assert_eq!(is, is_retryable(code, retry_after.is_some()));
                class
            }
            _ => {
                let status = value as u16;
                let class = classify(AttemptResult::Http { status, retry_after });
                let bare = classify(AttemptResult::Http {
                    status,
                    retry_after: None,
                });
                let is = |class| matches!(class, Class::Retryable { .. });
                assert_eq!(is(class), is(bare), "spec 20: a hint makes nothing retryable");
                class
            }
        };
        if let Class::Retryable { after } = class {
            assert_eq!(after, retry_after, "spec 18: the hint is passed on");
        }
    }
}
