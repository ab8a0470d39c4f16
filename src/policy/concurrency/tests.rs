use super::*;
use alloc::collections::{BinaryHeap, VecDeque};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;
use fastrand::Rng;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// A collector that serves so many exports at a time, each in about the same time, with a queue before it; and a program
/// that always has as many exports under way as it may.
struct World {
    concurrency: AdaptiveConcurrency,
    servers: usize,
    service: Duration,
    /// Parts of a hundred by which a service may take longer.
    jitter: u64,
    /// Exports that may wait; more are throttled.
    queue_max: usize,
    /// Exports that the program wants under way at most.
    wanted: usize,
    /// When each was begun.
    queue: VecDeque<Instant>,
    /// When it ends and when it was begun, the next first.
    served: BinaryHeap<Reverse<(Instant, Instant)>>,
    now: Instant,
    answered: u64,
    throttled: u64,
    rng: Rng,
}

impl World {
    fn new(config: ConcurrencyConfig, servers: usize, service: Duration) -> Self {
        Self {
            concurrency: AdaptiveConcurrency::new(config),
            servers,
            service,
            jitter: 0,
            queue_max: usize::MAX,
            wanted: usize::MAX,
            queue: VecDeque::new(),
            served: BinaryHeap::new(),
            now: Instant::from_millis(1_000),
            answered: 0,
            throttled: 0,
            rng: Rng::with_seed(1),
        }
    }

    /// Runs for so long; gives the limits that there were.
    fn run(&mut self, time: Duration) -> Vec<usize> {
        let (until, mut limits) = (self.now + time, vec![self.concurrency.limit()]);
        while self.now < until {
            while self.queue.len() + self.served.len() < self.concurrency.limit().min(self.wanted) {
                if !self.begin() {
                    break;
                }
            }
            self.serve();
            let Some(Reverse((ends, began))) = self.served.pop() else {
                // Everything was throttled: the program waits a little.
                self.now = self.now + MS(10);
                continue;
            };
            self.now = self.now.max(ends);
            self.answered += 1;
            self.concurrency
                .record(self.now, self.now - began, Feedback::Success);
            let (min, max) = bounds(self.concurrency.config());
            assert!((min..=max).contains(&self.concurrency.limit()));
            limits.push(self.concurrency.limit());
        }
        limits
    }

    /// Begins an export, unless it is throttled.
    fn begin(&mut self) -> bool {
        self.serve();
        if self.served.len() >= self.servers && self.queue.len() >= self.queue_max {
            self.throttled += 1;
            self.concurrency.record(self.now, MS(1), Feedback::Throttled);
            return false;
        }
        self.queue.push_back(self.now);
        true
    }

    fn serve(&mut self) {
        while self.served.len() < self.servers {
            let Some(began) = self.queue.pop_front() else {
                return;
            };
            let more = self.service * u32::try_from(self.rng.u64(0..=self.jitter)).expect("small") / 100;
            self.served.push(Reverse((self.now + self.service + more, began)));
        }
    }
}

fn config() -> ConcurrencyConfig {
    ConcurrencyConfig::new()
}

fn extremes(limits: &[usize]) -> (usize, usize) {
    let min = limits.iter().min().expect("some");
    (*min, *limits.iter().max().expect("some"))
}

#[test]
fn the_limit_converges_to_what_the_collector_serves() {
    for servers in [2, 4, 8, 16] {
        for jitter in [0, 40] {
            let mut world = World::new(config(), servers, MS(20));
            world.jitter = jitter;
            world.run(Duration::from_secs(20));
            // Ten minutes with twenty probes, down to a quarter: it neither creeps up nor starves.
            let settled = world.run(Duration::from_secs(600));
            let (low, high) = extremes(&settled);
            assert!(
                high <= 2 * servers + 2,
                "{servers} served at a time, {jitter}: up to {high}"
            );
            assert!(
                low >= servers / 4,
                "{servers} served at a time, {jitter}: down to {low}"
            );
            let answered = world.answered as f64 / 620.0;
            let best = servers as f64 * 1_000.0 / (20.0 * (1.0 + jitter as f64 / 200.0));
            assert!(answered > 0.95 * best, "{servers}: {answered} a second of {best}");
        }
    }
}

#[test]
fn a_collector_that_serves_all_gets_the_most_there_may_be() {
    let mut world = World::new(config(), 1_000, MS(5));
    let limits = world.run(Duration::from_secs(2));
    assert_eq!(limits.last(), Some(&32));
    let doubled: Vec<_> = [4, 8, 16, 32]
        .into_iter()
        .filter(|limit| limits.contains(limit))
        .collect();
    assert_eq!(
        doubled,
        [4, 8, 16, 32],
        "it doubles until there is a reason not to"
    );
}

#[test]
fn a_limit_that_is_not_used_does_not_grow() {
    let mut world = World::new(config(), 1_000, MS(5));
    world.wanted = 1;
    let limits = world.run(Duration::from_secs(10));
    assert!(
        extremes(&limits).1 <= 4,
        "nothing was learned: {:?}",
        extremes(&limits)
    );
    world.wanted = usize::MAX;
    assert_eq!(world.run(Duration::from_secs(10)).last(), Some(&32));
}

#[test]
fn throttling_halves_once_an_overload_and_recovery_grows() {
    let mut concurrency = AdaptiveConcurrency::new(config().with_initial(32));
    let at = Instant::from_millis;
    for _ in 0..32 {
        concurrency.record(at(1_000), MS(50), Feedback::Throttled);
    }
    assert_eq!(
        concurrency.limit(),
        16,
        "all of these began before the first came back"
    );
    concurrency.record(at(1_051), MS(50), Feedback::Throttled);
    assert_eq!(concurrency.limit(), 8);
    for second in 2..10 {
        concurrency.record(at(second * 1_000), MS(50), Feedback::Throttled);
    }
    assert_eq!(concurrency.limit(), 1, "never below the least");

    let mut world = World::new(config(), 1_000, MS(20));
    world.concurrency = concurrency;
    world.now = at(20_000);
    let limits = world.run(Duration::from_secs(20));
    assert!(
        limits
            .windows(2)
            .all(|pair| pair[1] <= pair[0] + 2 || pair[1] <= 2 * pair[0])
    );
    assert_eq!(limits.last(), Some(&32), "recovery needs no help");
}

#[test]
fn a_failure_shrinks_it_less_than_throttling() {
    let mut concurrency = AdaptiveConcurrency::new(config().with_initial(16));
    concurrency.record(Instant::from_millis(500), MS(50), Feedback::Failure);
    assert_eq!(concurrency.limit(), 12);
    concurrency.record(Instant::from_millis(501), MS(50), Feedback::Failure);
    assert_eq!(concurrency.limit(), 12, "it began before");
}

#[test]
fn a_collector_with_a_short_queue_is_throttled_by_little() {
    let mut world = World::new(config(), 4, MS(20));
    world.queue_max = 2;
    world.run(Duration::from_secs(300));
    let part = world.throttled as f64 / (world.throttled + world.answered) as f64;
    assert!(part < 0.05, "{} of {}", world.throttled, world.answered);
    assert!(world.answered as f64 > 0.9 * 200.0 * 300.0, "{}", world.answered);
}

#[test]
fn a_collector_that_becomes_slower_or_faster_is_followed() {
    let mut world = World::new(config(), 8, MS(10));
    world.run(Duration::from_secs(60));
    // Every service takes ten times as long, whatever the limit: that is no queue, once it is measured.
    world.service = MS(100);
    world.run(Duration::from_secs(120));
    let slow = extremes(&world.run(Duration::from_secs(60)));
    assert!(slow.1 >= 8 && slow.1 <= 18, "{slow:?}");
    world.service = MS(10);
    world.servers = 2;
    world.run(Duration::from_secs(120));
    let few = extremes(&world.run(Duration::from_secs(60)));
    assert!(few.1 <= 6, "{few:?}");
    world.servers = 100;
    world.run(Duration::from_secs(120));
    assert_eq!(extremes(&world.run(Duration::from_secs(20))).1, 32);
}

#[test]
fn a_latency_that_falls_far_is_not_taken_for_the_best() {
    let mut world = World::new(config(), 8, MS(100));
    world.run(Duration::from_secs(70));
    assert!(world.concurrency.limit() > 8, "there is a queue");
    world.service = MS(10);
    // Not yet the time of a probe, which would set it right too.
    let probe_at = world.concurrency.probe_at.expect("a probe to come");
    let limits = world.run(MS(2_000));
    assert!(
        world.concurrency.probe_at > Some(probe_at),
        "one came before its time"
    );
    assert!(extremes(&limits).1 <= 18, "{:?}", extremes(&limits));
}

#[test]
fn absurd_latencies_harm_nothing() {
    let mut world = World::new(config(), 8, MS(20));
    world.run(Duration::from_secs(60));
    for latency in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        for _ in 0..100 {
            world.concurrency.record(world.now, latency, Feedback::Success);
            world.now = world.now + MS(1);
        }
        // One interval later it is where it was.
        world.run(Duration::from_secs(60));
        let (low, high) = extremes(&world.run(Duration::from_secs(60)));
        assert!(low >= 2 && high <= 18, "after {latency:?}: {low} to {high}");
    }
}

#[test]
fn a_time_that_runs_backwards_harms_nothing() {
    let mut concurrency = AdaptiveConcurrency::new(config());
    for step in 0..10_000_u64 {
        let now = Instant::from_millis(step * 7_919 % 10_007);
        let feedback = match step % 50 {
            0 => Feedback::Throttled,
            1 => Feedback::Failure,
            _ => Feedback::Success,
        };
        concurrency.record(now, MS(step % 40), feedback);
        assert!((1..=32).contains(&concurrency.limit()));
    }
    concurrency.record(Instant::MAX, MS(1), Feedback::Success);
    for _ in 0..1_000 {
        concurrency.record(Instant::ZERO, MS(1), Feedback::Success);
    }
    assert!((1..=32).contains(&concurrency.limit()));
}

#[test]
fn a_fixed_limit_stays() {
    let mut world = World::new(ConcurrencyConfig::fixed(6), 2, MS(20));
    world.queue_max = 1;
    assert_eq!(extremes(&world.run(Duration::from_secs(100))), (6, 6));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    assert!(config().check().is_ok() && ConcurrencyConfig::fixed(1).check().is_ok());
    for bad in [
        config().with_min(0),
        config().with_max(0),
        config().with_min(5),
        config().with_initial(33),
        config().with_tolerance(0.9),
        config().with_tolerance(f64::NAN),
        config().with_probe_interval(Duration::ZERO),
        config().with_min(usize::MAX),
    ] {
        let error = bad.check().expect_err("a setting that cannot work");
        assert!(
            error.is_misuse() && format!("{error}").starts_with("with_concurrency: "),
            "{bad:?}"
        );
        let mut concurrency = AdaptiveConcurrency::new(bad);
        for step in 1..100 {
            concurrency.record(Instant::from_millis(step), MS(step), Feedback::Success);
            assert!(concurrency.limit() >= 1);
        }
    }
}
