//! How long exports took, in bounded memory.

use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// Each power of two is divided in so many buckets, and the first so many nanoseconds have one each.
const PARTS: u64 = 1 << PARTS_BITS;
const PARTS_BITS: u32 = 5;
/// Buckets for every 64-bit count of nanoseconds.
const BUCKETS: usize = ((64 - PARTS_BITS as usize) + 1) << PARTS_BITS;

/// Durations, counted in buckets that grow with them.
///
/// It takes 15 KiB once something is recorded, however much that is. A [`quantile`](Self::quantile) is wrong by no more than 1/64
/// (1.6 %) of the true one; the count, the greatest and the sum are exact. Durations beyond 584 years count as that.
///
/// ```
/// use core::time::Duration;
/// use otlp_embed::pipeline::LatencyHistogram;
///
/// let mut latencies = LatencyHistogram::new();
/// for millis in 1..=1_000 {
///     latencies.record(Duration::from_millis(millis));
/// }
/// let p95 = latencies.quantile(0.95).as_secs_f64();
/// assert!((p95 - 0.950).abs() <= 0.950 / 64.0);
/// ```
#[derive(Clone, Default)]
pub struct LatencyHistogram {
    /// Empty before the first record.
    buckets: Vec<u64>,
    count: u64,
    min: u64,
    max: u64,
    sum: Duration,
}

/// How long exports took: see [`LatencyHistogram`] for how exact the quantiles are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LatencyStats {
    /// Exports that were measured.
    pub count: u64,
    /// Half of them took no longer.
    pub p50: Duration,
    /// Of a hundred, 95 took no longer.
    pub p95: Duration,
    /// Of a hundred, 99 took no longer.
    pub p99: Duration,
    /// The longest, exactly.
    pub max: Duration,
}

impl LatencyHistogram {
    /// Without any duration.
    pub const fn new() -> Self {
        Self {
            buckets: Vec::new(),
            count: 0,
            min: 0,
            max: 0,
            sum: Duration::ZERO,
        }
    }

    /// Counts a duration.
    pub fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if self.buckets.is_empty() {
            self.buckets.resize(BUCKETS, 0);
            self.min = nanos;
        }
        self.buckets[bucket_of(nanos)] += 1;
        self.count += 1;
        self.min = self.min.min(nanos);
        self.max = self.max.max(nanos);
        self.sum = self.sum.saturating_add(duration);
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            self.clone_from(other);
            return;
        }
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// How many durations were counted.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// All of them together.
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// The duration that this share of them (from 0 to 1) does not exceed, and at least one has; zero without any.
    pub fn quantile(&self, share: f64) -> Duration {
        // The rank of the one that is asked for, from 1 on. A float holds it exactly up to 2^53.
        let rank = (share.clamp(0.0, 1.0) * self.count as f64).ceil() as u64;
        let rank = rank.clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(middle_of(bucket).clamp(self.min, self.max));
            }
        }
        Duration::ZERO
    }

    /// The quantiles that people ask for.
    pub fn stats(&self) -> LatencyStats {
        LatencyStats {
            count: self.count,
            p50: self.quantile(0.50),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
            max: Duration::from_nanos(self.max),
        }
    }
}

impl fmt::Debug for LatencyHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LatencyHistogram").field(&self.stats()).finish()
    }
}

/// The bucket of a count of nanoseconds: its highest bit, and the five bits after that.
fn bucket_of(nanos: u64) -> usize {
    if nanos < PARTS {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - PARTS_BITS;
    let part = (nanos >> shift) - PARTS;
    (u64::from(shift + 1) * PARTS + part) as usize
}

/// The middle of a bucket. The bucket is at most a 32nd as wide as its least value is great, so that the middle is within a
/// 64th of everything in it.
fn middle_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < PARTS {
        return bucket;
    }
    let shift = bucket / PARTS - 1;
    let least = (PARTS + bucket % PARTS) << shift;
    least + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_of_nanoseconds_is_within_a_64th_of_its_bucket() {
        let mut rng = fastrand::Rng::with_seed(7);
        let edges = (0..64).flat_map(|bit| {
            let power = 1_u64 << bit;
            [power - 1, power, power + 1]
        });
        let some = (0..100_000).map(|_| rng.u64(..) >> rng.u32(..64));
        for nanos in edges.chain(some).chain([u64::MAX]) {
            let bucket = bucket_of(nanos);
            assert!(bucket < BUCKETS, "{nanos}");
            let wrong = middle_of(bucket).abs_diff(nanos);
            assert!(wrong <= nanos / 64, "{nanos} is told as {}", middle_of(bucket));
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn buckets_are_in_the_order_of_their_durations() {
        let mut rng = fastrand::Rng::with_seed(8);
        for _ in 0..100_000 {
            let (a, b) = (rng.u64(..) >> rng.u32(..64), rng.u64(..) >> rng.u32(..64));
            assert!(bucket_of(a.min(b)) <= bucket_of(a.max(b)), "{a} {b}");
        }
    }

    #[test]
    fn quantiles_are_within_the_bound_of_the_true_ones() {
        let mut rng = fastrand::Rng::with_seed(9);
        for round in 0..50 {
            let count = rng.usize(1..2_000);
            let mut all: Vec<u64> = (0..count).map(|_| rng.u64(..) >> rng.u32(20..60)).collect();
            let mut histogram = LatencyHistogram::new();
            for nanos in &all {
                histogram.record(Duration::from_nanos(*nanos));
            }
            all.sort_unstable();
            for share in [0.0, 0.01, 0.5, 0.95, 0.99, 1.0] {
                let rank = ((share * count as f64).ceil() as usize).clamp(1, count);
                let (truth, told) = (all[rank - 1], histogram.quantile(share).as_nanos() as u64);
                assert!(
                    told.abs_diff(truth) <= truth / 64,
                    "{round} {share}: {told} for {truth}"
                );
            }
            let stats = histogram.stats();
            assert_eq!(stats.count, count as u64);
            assert_eq!(stats.max.as_nanos() as u64, all[count - 1]);
        }
    }

    #[test]
    fn nothing_takes_no_time() {
        let histogram = LatencyHistogram::new();
        assert_eq!(histogram.stats(), LatencyStats::default());
        assert_eq!(histogram.quantile(0.99), Duration::ZERO);
    }

    #[test]
    fn two_merged_are_as_one() {
        let (mut one, mut other, mut both) = Default::default();
        for micros in 0..1_000_u64 {
            let duration = Duration::from_micros(micros * micros);
            let half: &mut LatencyHistogram = if micros % 3 == 0 { &mut one } else { &mut other };
            half.record(duration);
            LatencyHistogram::record(&mut both, duration);
        }
        let mut merged = LatencyHistogram::new();
        merged.merge(&one);
        merged.merge(&LatencyHistogram::new());
        merged.merge(&other);
        assert_eq!(merged.stats(), both.stats());
        assert_eq!((merged.count(), merged.sum()), (both.count(), both.sum()));
    }
}
