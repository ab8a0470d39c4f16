//! Counts over a sliding stretch of time, in bounded memory.

use crate::time::Instant;
use core::time::Duration;

/// Stretches of equal length that a window is counted in.
pub(super) const BUCKETS: usize = 30;

/// How requests ended of late.
#[derive(Debug)]
pub(super) struct Window {
    bucket_nanos: u64,
    /// A ring: what belongs to the stretch `n` since the zero of the clock stands at `n % BUCKETS`.
    buckets: [Bucket; BUCKETS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Which stretch it counts.
    stretch: u64,
    requests: u32,
    failures: u32,
}

impl Window {
    pub(super) fn new(window: Duration) -> Self {
        let nanos = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        Self {
            bucket_nanos: (nanos / BUCKETS as u64).max(1),
            buckets: [Bucket::default(); BUCKETS],
        }
    }

    /// Counts one request that ended at `now`.
    pub(super) fn record(&mut self, now: Instant, has_failed: bool) {
        let stretch = self.stretch(now);
        let bucket = &mut self.buckets[(stretch % BUCKETS as u64) as usize];
        if bucket.stretch != stretch {
            *bucket = Bucket {
                stretch,
                ..Bucket::default()
            };
        }
        bucket.requests = bucket.requests.saturating_add(1);
        bucket.failures = bucket.failures.saturating_add(u32::from(has_failed));
    }

    /// Requests in the window that ends at `now`, and how many of them failed.
    pub(super) fn totals(&self, now: Instant) -> (u64, u64) {
        let stretch = self.stretch(now);
        let recent = self
            .buckets
            .iter()
            .filter(|bucket| bucket.stretch <= stretch && stretch - bucket.stretch < BUCKETS as u64);
        recent.fold((0, 0), |(requests, failures), bucket| {
            (
                requests + u64::from(bucket.requests),
                failures + u64::from(bucket.failures),
            )
        })
    }

    fn stretch(&self, now: Instant) -> u64 {
        now.as_nanos() / self.bucket_nanos
    }
}
