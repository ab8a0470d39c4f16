//! What the policies promise whatever they are told, and whenever: breaker, limiter, concurrency and batch size.

use otlp_embed::policy::{
    AdaptiveBatchConfig, AdaptiveBatchSize, AdaptiveConcurrency, BreakerConfig, BreakerState, BreakerVerdict,
    CircuitBreaker, ConcurrencyConfig, Feedback, Permit, RateDecision, RateLimit, RateLimiter,
};
use otlp_embed::time::Instant;
use proptest::prelude::*;
use std::time::Duration;

/// Something told to a breaker.
#[derive(Clone, Debug)]
enum Op {
    Begin,
    /// The permit at this place among those that are out.
    End(usize, BreakerVerdict),
    /// So many milliseconds pass, or go back.
    Pass(i64),
    Timeout,
}

fn op() -> impl Strategy<Value = Op> {
    let verdict = prop_oneof![
        1 => Just(BreakerVerdict::Success),
        4 => Just(BreakerVerdict::Failure),
        1 => Just(BreakerVerdict::Abandoned),
    ];
    prop_oneof![
        6 => Just(Op::Begin),
        6 => (any::<usize>(), verdict).prop_map(|(at, verdict)| Op::End(at, verdict)),
        2 => (-3_000..20_000_i64).prop_map(Op::Pass),
        1 => Just(Op::Timeout),
    ]
}

/// What a breaker must do, by a list of everything that happened.
#[derive(Default)]
struct Model {
    state: Option<BreakerState>,
    epoch: usize,
    /// How requests ended since the breaker closed, and when.
    ended: Vec<(u64, bool)>,
    open_until: u64,
    out: usize,
    succeeded: usize,
}

impl Model {
    fn enter(&mut self, state: BreakerState) {
        *self = Self {
            state: Some(state),
            epoch: self.epoch + 1,
            open_until: self.open_until,
            ..Self::default()
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_breaker_does_what_its_words_say(ops in prop::collection::vec(op(), 0..300), probes in 1..6_u32) {
        // Buckets of one second, which the model counts in as well.
        let config = BreakerConfig::new().with_window(Duration::from_secs(30)).with_requests_min(4).with_probes(probes);
        let probes = probes as usize;
        let (mut breaker, mut model) = (CircuitBreaker::new(config), Model::default());
        model.state = Some(BreakerState::Closed);
        let (mut told, mut latest) = (100_000_i64, 0_u64);
        let mut permits: Vec<(usize, Permit)> = Vec::new();
        for op in ops {
            if let Op::Pass(ms) = op {
                told = (told + ms).max(0);
                continue;
            }
            if matches!(op, Op::End(..)) && permits.is_empty() {
                continue;
            }
            let now = Instant::from_millis(told as u64);
            latest = latest.max(told as u64);
            if model.state == Some(BreakerState::Open) && latest >= model.open_until {
                model.enter(BreakerState::HalfOpen);
            }
            match op {
                Op::Begin => {
                    let allowed = match model.state {
                        Some(BreakerState::Open) => false,
                        Some(BreakerState::HalfOpen) => model.out + model.succeeded < probes,
                        _ => true,
                    };
                    match breaker.try_begin(now) {
                        Ok(permit) => {
                            prop_assert!(allowed, "more than {probes} out, or before its time");
                            model.out += 1;
                            permits.push((model.epoch, permit));
                        }
                        Err(refusal) => {
                            prop_assert!(!allowed);
                            let until = (model.state == Some(BreakerState::Open)).then(|| Instant::from_millis(model.open_until));
                            prop_assert_eq!(refusal.until, until);
                        }
                    }
                }
                Op::End(at, verdict) => {
                    let (epoch, permit) = permits.swap_remove(at % permits.len());
                    breaker.end(now, permit, verdict);
                    if epoch == model.epoch {
                        model.out -= 1;
                        let has_failed = verdict == BreakerVerdict::Failure;
                        match model.state {
                            Some(BreakerState::Closed) if verdict != BreakerVerdict::Abandoned => {
                                model.ended.push((latest / 1_000, has_failed));
                                let recent = model.ended.iter().filter(|(at, _)| latest / 1_000 - at < 30);
                                let (all, failed) = recent.fold((0, 0), |(all, failed), (_, f)| (all + 1, failed + usize::from(*f)));
                                if all >= 4 && 2 * failed >= all {
                                    model.open_until = latest + 30_000;
                                    model.enter(BreakerState::Open);
                                }
                            }
                            Some(BreakerState::HalfOpen) if has_failed => {
                                model.open_until = latest + 30_000;
                                model.enter(BreakerState::Open);
                            }
                            Some(BreakerState::HalfOpen) if verdict == BreakerVerdict::Success => {
                                model.succeeded += 1;
                                if model.succeeded == probes {
                                    model.enter(BreakerState::Closed);
                                }
                            }
                            _ => {}
                        }
                    }
                }
                Op::Timeout => breaker.handle_timeout(now),
                Op::Pass(_) => {}
            }
            prop_assert_eq!(Some(breaker.state(now)), model.state);
            let until = (model.state == Some(BreakerState::Open)).then(|| Instant::from_millis(model.open_until));
            prop_assert_eq!(breaker.poll_timeout(), until);
        }
    }

    #[test]
    fn over_any_stretch_no_more_passes_than_burst_and_rate(
        per_second in prop_oneof![1..20_u64, 1..5_000_000_000_u64],
        burst in 1..1_000_u64,
        steps in prop::collection::vec((0..1_000_u64, prop_oneof![Just(0_u64), 0..1_000_000_u64, 0..3_000_000_000_u64], any::<bool>()), 1..120),
    ) {
        let mut limiter = RateLimiter::new(RateLimit::items(per_second).with_burst(burst));
        let (mut told, mut now) = (1_000_000_u64, 0_u64);
        let mut passed: Vec<(u64, u64)> = Vec::new();
        for (amount, nanos, back) in steps {
            // Told an earlier time now and then, which must not bring anything.
            told = if back { told.saturating_sub(nanos) } else { told + nanos };
            now = now.max(told);
            let before = limiter.available(Instant::from_nanos(now));
            let decision = limiter.try_take(Instant::from_nanos(told), amount);
            match decision {
                RateDecision::Allowed => passed.push((now, amount)),
                RateDecision::Denied => prop_assert!(amount > burst),
                RateDecision::Throttled(wait) => {
                    prop_assert!(amount <= burst && amount > before && !wait.is_zero());
                    let then = Instant::from_nanos(now) + wait;
                    prop_assert_eq!(limiter.clone().try_take(then, amount), RateDecision::Allowed);
                }
            }
            prop_assert!(limiter.available(Instant::from_nanos(now)) <= burst);
        }
        for from in 0..passed.len() {
            let mut sum = 0_u128;
            for to in from..passed.len() {
                sum += u128::from(passed[to].1);
                let nanos = u128::from(passed[to].0 - passed[from].0);
                let most = u128::from(burst) * 1_000_000_000 + nanos * u128::from(per_second);
                prop_assert!(sum * 1_000_000_000 <= most, "{sum} in {nanos} ns");
            }
        }
    }

    #[test]
    fn a_concurrency_limit_stays_within_its_bounds(
        min in 1..10_usize,
        more in 0..60_usize,
        tolerance in 1.0..10.0_f64,
        steps in prop::collection::vec((any::<u64>(), prop_oneof![Just(0_u64), 0..1_000_000_000_u64, any::<u64>()], 0..8_u8), 0..500),
    ) {
        let config = ConcurrencyConfig::new().with_min(min).with_max(min + more).with_initial(min + more / 2).with_tolerance(tolerance);
        prop_assert!(config.check().is_ok());
        let mut concurrency = AdaptiveConcurrency::new(config);
        for (now, latency, kind) in steps {
            let feedback = match kind {
                0 => Feedback::Throttled,
                1 => Feedback::Failure,
                _ => Feedback::Success,
            };
            concurrency.record(Instant::from_nanos(now), Duration::from_nanos(latency), feedback);
            prop_assert!((min..=min + more).contains(&concurrency.limit()));
        }
    }

    #[test]
    fn a_batch_size_stays_within_its_bounds_and_counts_each_change(
        min in 1..100_usize,
        more in 0..5_000_usize,
        latencies in prop::collection::vec(prop_oneof![0..200_000_000_u64, any::<u64>()], 0..300),
    ) {
        let config = AdaptiveBatchConfig::new().with_items_min(min).with_items_max(min + more).with_items_initial(min);
        prop_assert!(config.check().is_ok());
        let mut size = AdaptiveBatchSize::new(config);
        let (mut changes, mut average) = (0, None::<f64>);
        for (done, latency) in (1..).zip(latencies) {
            let before = size.size();
            size.record(Duration::from_nanos(latency));
            let stats = size.stats();
            changes += u64::from(stats.size != before);
            prop_assert!((min..=min + more).contains(&stats.size) && stats.size == size.size());
            prop_assert_eq!((stats.batches, stats.adjustments), (done, changes));
            let latency = latency as f64;
            let expected = average.map_or(latency, |average: f64| 0.8 * average + 0.2 * latency);
            average = Some(expected);
            let found = stats.average_latency.as_nanos() as f64;
            prop_assert!((found - expected).abs() <= 10.0 + expected * 1e-9, "{found} for {expected}");
            let target = 50e6;
            if expected > 1.500_001 * target {
                prop_assert!(stats.size < before || before == min);
            } else if expected < 0.499_999 * target {
                prop_assert!(stats.size > before || before == min + more);
            } else if expected > 0.500_001 * target && expected < 1.499_999 * target {
                prop_assert_eq!(stats.size, before);
            }
        }
    }
}
