//! Adaptive batch size: how many items an export should carry.
//!
//! Owns the average of how long exports take and the size that follows from it. Never sees a queue: the time that items
//! wait before their export is no measure of the collector.

use super::refused;
use crate::error::Error;
use core::time::Duration;

/// The bounds of a batch, and what its size follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdaptiveBatchConfig {
    /// The smallest size in items, at least 1; 10 unless set.
    pub items_min: usize,
    /// The largest size in items, at least [`items_min`](Self::items_min); 2,000 unless set.
    pub items_max: usize,
    /// The size to begin with, within the two bounds; 500 unless set.
    pub items_initial: usize,
    /// How long a batch waits to be full before it is exported as it is; 100 ms unless set. Zero is allowed.
    pub age_max: Duration,
    /// How long an export should take, more than zero; 50 ms unless set. A pipeline lets exports take longer while more than one batch waits:
    /// smaller ones would make its queue longer.
    pub target_latency: Duration,
    /// Whether the size follows the latency; `true` unless set. Otherwise it stays `items_initial`.
    pub adaptive_enabled: bool,
}

impl Default for AdaptiveBatchConfig {
    fn default() -> Self {
        Self {
            items_min: 10,
            items_max: 2_000,
            items_initial: 500,
            age_max: Duration::from_millis(100),
            target_latency: Duration::from_millis(50),
            adaptive_enabled: true,
        }
    }
}

impl AdaptiveBatchConfig {
    /// The defaults of every setting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`items_min`](Self::items_min).
    pub fn with_items_min(mut self, items_min: usize) -> Self {
        self.items_min = items_min;
        self
    }

    /// Sets [`items_max`](Self::items_max).
    pub fn with_items_max(mut self, items_max: usize) -> Self {
        self.items_max = items_max;
        self
    }

    /// Sets [`items_initial`](Self::items_initial).
    pub fn with_items_initial(mut self, items_initial: usize) -> Self {
        self.items_initial = items_initial;
        self
    }

    /// Sets [`age_max`](Self::age_max).
    pub fn with_age_max(mut self, age_max: Duration) -> Self {
        self.age_max = age_max;
        self
    }

    /// Sets [`target_latency`](Self::target_latency).
    pub fn with_target_latency(mut self, target_latency: Duration) -> Self {
        self.target_latency = target_latency;
        self
    }

    /// Sets [`adaptive_enabled`](Self::adaptive_enabled).
    pub fn with_adaptive_enabled(mut self, adaptive_enabled: bool) -> Self {
        self.adaptive_enabled = adaptive_enabled;
        self
    }

    /// Whether these settings can work.
    ///
    /// # Errors
    ///
    /// Names the setting that cannot; the error [is a misuse](Error::is_misuse).
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |what| Err(refused("with_batch", what));
        if self.items_min == 0 {
            return refuse("items_min is 0; 1 is the smallest batch");
        }
        if self.items_max < self.items_min {
            return refuse("items_max must be at least items_min");
        }
        if !(self.items_min..=self.items_max).contains(&self.items_initial) {
            return refuse("items_initial lies outside items_min to items_max");
        }
        if self.target_latency.is_zero() {
            return refuse("target_latency must be more than zero");
        }
        Ok(())
    }
}

/// What an adaptive batch size has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatcherStats {
    /// The size now, in items.
    pub size: usize,
    /// How long exports take, averaged with a weight of a fifth for the latest; zero before the first.
    pub average_latency: Duration,
    /// Batches whose export ended.
    pub batches: u64,
    /// How often the size changed.
    pub adjustments: u64,
}

/// The size of a batch, which follows how long exports take.
///
/// The latency is averaged exponentially, with a weight of 0.2 for the latest. Above one and a half times the target the
/// size shrinks to 0.8 of itself; below half of the target it grows to 1.2 times itself; between them, and beyond its
/// bounds, it stays.
///
/// ```
/// use core::time::Duration;
/// use otlp_embed::policy::{AdaptiveBatchConfig, AdaptiveBatchSize};
///
/// let mut size = AdaptiveBatchSize::new(AdaptiveBatchConfig::new());
/// size.record(Duration::from_millis(10));
/// assert_eq!(size.size(), 600);
/// size.record(Duration::from_secs(1));
/// assert_eq!((size.size(), size.stats().adjustments), (480, 2));
/// ```
#[derive(Clone, Debug)]
pub struct AdaptiveBatchSize {
    config: AdaptiveBatchConfig,
    size: usize,
    average_nanos: Option<u128>,
    batches: u64,
    adjustments: u64,
}

impl AdaptiveBatchSize {
    /// The initial size. Settings that [`check`](AdaptiveBatchConfig::check) refuses are taken for the nearest that
    /// work.
    pub fn new(config: AdaptiveBatchConfig) -> Self {
        let (min, max) = bounds(&config);
        Self {
            config,
            size: config.items_initial.clamp(min, max),
            average_nanos: None,
            batches: 0,
            adjustments: 0,
        }
    }

    /// Items that the next batch should carry.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Takes in how long the export of one batch took, from its submission to its verdict.
    ///
    /// Nothing else is a latency here: neither how long the items waited in a queue, nor how long it took to hand the
    /// batch over to whoever exports it. A program that measures those shrinks its batches when it should grow them.
    pub fn record(&mut self, latency: Duration) {
        self.adapt(latency, true);
    }

    /// As [`record`](Self::record), while more than one batch waits: the size does not shrink then. Smaller exports of a
    /// collector that is far away, or that takes as long for any, would make the queue longer, and the batches smaller still.
    pub fn record_backlogged(&mut self, latency: Duration) {
        self.adapt(latency, false);
    }

    fn adapt(&mut self, latency: Duration, may_shrink: bool) {
        let nanos = latency.as_nanos();
        let average = self
            .average_nanos
            .map_or(nanos, |average| (nanos + 4 * average + 2) / 5);
        self.average_nanos = Some(average);
        self.batches = self.batches.saturating_add(1);
        if !self.config.adaptive_enabled {
            return;
        }
        let target = self.config.target_latency.as_nanos();
        let (min, max) = bounds(&self.config);
        let wanted = if 2 * average > 3 * target {
            match may_shrink {
                true => self.size - self.size.div_ceil(5),
                false => self.size,
            }
        } else if 2 * average < target {
            self.size.saturating_add(self.size.div_ceil(5))
        } else {
            self.size
        };
        let wanted = wanted.clamp(min, max);
        if wanted != self.size {
            self.size = wanted;
            self.adjustments = self.adjustments.saturating_add(1);
        }
    }

    /// What has become of it so far.
    pub fn stats(&self) -> BatcherStats {
        BatcherStats {
            size: self.size,
            average_latency: duration(self.average_nanos.unwrap_or(0)),
            batches: self.batches,
            adjustments: self.adjustments,
        }
    }

    /// The settings.
    pub fn config(&self) -> &AdaptiveBatchConfig {
        &self.config
    }
}

fn bounds(config: &AdaptiveBatchConfig) -> (usize, usize) {
    let min = config.items_min.max(1);
    (min, config.items_max.max(min))
}

/// At most the longest time there is, of which this is an average.
fn duration(nanos: u128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    match u64::try_from(nanos / SECOND) {
        Ok(secs) => Duration::new(secs, (nanos % SECOND) as u32),
        Err(_) => Duration::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec::Vec;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn size() -> AdaptiveBatchSize {
        AdaptiveBatchSize::new(AdaptiveBatchConfig::new())
    }

    #[test]
    fn the_latest_export_weighs_a_fifth() {
        let mut size = size();
        let averages: Vec<_> = [100, 0, 0, 50]
            .map(|latency| {
                size.record(MS(latency));
                size.stats().average_latency
            })
            .into();
        let expected = [100_000, 80_000, 64_000, 61_200].map(Duration::from_micros);
        assert_eq!(averages, expected);
    }

    #[test]
    fn it_shrinks_above_one_and_a_half_times_the_target() {
        let mut size = size();
        size.record(MS(75));
        assert_eq!(size.size(), 500, "not above");
        let mut size = self::size();
        size.record(Duration::from_nanos(75_000_001));
        assert_eq!(size.size(), 400);
        size.record(Duration::MAX);
        assert_eq!(size.size(), 320);
        (0..100).for_each(|_| size.record(Duration::MAX));
        assert_eq!(size.size(), 10, "the least");
    }

    #[test]
    fn it_does_not_shrink_while_more_waits_and_still_grows() {
        let mut size = size();
        size.record_backlogged(MS(1_000));
        assert_eq!((size.size(), size.stats().adjustments), (500, 0));
        assert_eq!(
            size.stats().average_latency,
            MS(1_000),
            "it is measured all the same"
        );
        let mut size = self::size();
        size.record_backlogged(MS(1));
        assert_eq!(size.size(), 600);
    }

    #[test]
    fn it_grows_below_half_of_the_target() {
        let mut size = size();
        size.record(MS(25));
        assert_eq!(size.size(), 500, "not below");
        let mut size = self::size();
        size.record(Duration::from_nanos(24_999_999));
        assert_eq!(size.size(), 600);
        (0..100).for_each(|_| size.record(Duration::ZERO));
        assert_eq!(size.size(), 2_000, "the most");
        let stats = size.stats();
        // 600, 720, 864, 1,037, 1,245, 1,494, 1,793, 2,000.
        assert_eq!(
            (stats.batches, stats.adjustments),
            (101, 8),
            "each change and nothing else"
        );
    }

    #[test]
    fn the_smallest_sizes_can_grow_again() {
        let config = AdaptiveBatchConfig::new().with_items_min(1).with_items_initial(1);
        let mut size = AdaptiveBatchSize::new(config);
        size.record(MS(1));
        assert_eq!(size.size(), 2);
        (0..50).for_each(|_| size.record(Duration::MAX));
        assert_eq!(size.size(), 1, "and never to nothing");
    }

    #[test]
    fn switched_off_it_keeps_the_size_and_counts() {
        let config = AdaptiveBatchConfig::new().with_adaptive_enabled(false);
        let mut size = AdaptiveBatchSize::new(config);
        (0..10).for_each(|_| size.record(Duration::from_secs(9)));
        let stats = size.stats();
        assert_eq!((stats.size, stats.batches, stats.adjustments), (500, 10, 0));
        assert_eq!(stats.average_latency, Duration::from_secs(9));
    }

    /// A sketch of such a batcher measured how long it took to hand a batch to a channel: next to nothing while the
    /// channel has room, and the time until somebody else's export ends once it is full. Here a batch costs the collector
    /// 60 µs an item; whatever the hand-over takes, the size settles where an export takes about its target.
    #[test]
    fn channel_time_measured_as_export_latency() {
        let settle = |measure: fn(Duration) -> Duration| {
            let mut size = size();
            let mut exported = Duration::ZERO;
            for _ in 0..200 {
                exported = Duration::from_micros(60) * u32::try_from(size.size()).expect("at most 2,000");
                size.record(measure(exported));
            }
            exported
        };
        let exported = settle(|exported| exported);
        assert!((MS(25)..=MS(75)).contains(&exported), "{exported:?}");
        // What that sketch did: the batch grows to the most there is, and every export takes more than twice its target.
        let handed_over = settle(|_| Duration::from_micros(3));
        assert!(handed_over > MS(100), "{handed_over:?}");
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let default = AdaptiveBatchConfig::new();
        assert!(default.check().is_ok());
        for bad in [
            default.with_items_min(0),
            default.with_items_max(9),
            default.with_items_initial(9),
            default.with_items_initial(2_001),
            default.with_target_latency(Duration::ZERO),
        ] {
            let error = bad.check().expect_err("a setting that cannot work");
            assert!(error.is_misuse() && format!("{error}").starts_with("with_batch: "));
            let mut size = AdaptiveBatchSize::new(bad);
            for latency in [Duration::ZERO, Duration::MAX] {
                (0..50).for_each(|_| size.record(latency));
                assert!(size.size() >= 1);
            }
        }
        let endless = default
            .with_items_max(usize::MAX)
            .with_items_initial(usize::MAX - 1);
        let mut size = AdaptiveBatchSize::new(endless);
        size.record(Duration::ZERO);
        assert_eq!(size.size(), usize::MAX);
    }
}
