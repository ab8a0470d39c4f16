//! Adaptive concurrency: how many exports may be under way at once.
//!
//! Owns the limit and the measurements that it follows. Never counts what is under way and never holds an export back:
//! its user compares the two.

#[cfg(test)]
mod tests;

use super::refused;
use crate::error::Error;
use crate::time::Instant;
use core::time::Duration;

/// Latencies below this one are taken for it: what is left is noise of schedulers.
const LATENCY_MIN: Duration = Duration::from_millis(1);
/// Latencies above this one are taken for it.
const LATENCY_MAX: Duration = Duration::from_secs(3_600);
/// Exports in the smallest round.
const ROUND_MIN: usize = 5;
/// The part of a latency that one at half the limit has to be below for a probe to go on.
const PROBE_GAIN: f64 = 0.8;

/// The bounds of a concurrency limit, and how it moves between them.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ConcurrencyConfig {
    /// The lowest limit, at least 1; 1 unless set.
    pub min: usize,
    /// The highest limit, at least [`min`](Self::min); 32 unless set.
    pub max: usize,
    /// The limit to begin with, within the two bounds; 4 unless set.
    pub initial: usize,
    /// How many times its best the latency may be while the limit grows, from 1 to 10; 1.5 unless set.
    pub tolerance: f64,
    /// How often the best latency is measured anew, more than zero; 30 s unless set.
    pub probe_interval: Duration,
}

impl Default for ConcurrencyConfig {
    fn default() -> Self {
        Self {
            min: 1,
            max: 32,
            initial: 4,
            tolerance: 1.5,
            probe_interval: Duration::from_secs(30),
        }
    }
}

impl ConcurrencyConfig {
    /// The defaults of every setting.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same limit always.
    pub fn fixed(limit: usize) -> Self {
        Self {
            min: limit,
            max: limit,
            initial: limit,
            ..Self::default()
        }
    }

    /// Sets [`min`](Self::min).
    pub fn with_min(mut self, min: usize) -> Self {
        self.min = min;
        self
    }

    /// Sets [`max`](Self::max).
    pub fn with_max(mut self, max: usize) -> Self {
        self.max = max;
        self
    }

    /// Sets [`initial`](Self::initial).
    pub fn with_initial(mut self, initial: usize) -> Self {
        self.initial = initial;
        self
    }

    /// Sets [`tolerance`](Self::tolerance).
    pub fn with_tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Sets [`probe_interval`](Self::probe_interval).
    pub fn with_probe_interval(mut self, probe_interval: Duration) -> Self {
        self.probe_interval = probe_interval;
        self
    }

    /// Whether these settings can work.
    ///
    /// # Errors
    ///
    /// Names the setting that cannot; the error [is a misuse](Error::is_misuse).
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |what| Err(refused("with_concurrency", what));
        if self.min == 0 {
            return refuse("min is 0; nothing would ever be sent");
        }
        if self.max < self.min {
            return refuse("max must be at least min");
        }
        if !(self.min..=self.max).contains(&self.initial) {
            return refuse("initial lies outside min to max");
        }
        if !(1.0..=10.0).contains(&self.tolerance) {
            return refuse("tolerance lies outside 1 to 10");
        }
        if self.probe_interval.is_zero() {
            return refuse("probe_interval must be more than zero");
        }
        Ok(())
    }
}

/// How an export ended, as far as the collector's load goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// It was answered: its latency counts.
    Success,
    /// The collector asked to be sent less.
    Throttled,
    /// It was not answered, or not in time.
    Failure,
}

/// A limit on exports under way that follows latency and throttling.
///
/// It grows while the latency stays near its best, shrinks when that rises, halves when the collector throttles, and
/// measures the best anew from time to time. A `now` earlier than one it has seen counts as that; a latency counts for at
/// least a millisecond and at most an hour.
///
/// ```
/// use core::time::Duration;
/// use otlp_embed::policy::{AdaptiveConcurrency, ConcurrencyConfig, Feedback};
/// use otlp_embed::time::Instant;
///
/// let mut concurrency = AdaptiveConcurrency::new(ConcurrencyConfig::new());
/// assert_eq!(concurrency.limit(), 4);
/// concurrency.record(Instant::from_millis(20), Duration::from_millis(10), Feedback::Throttled);
/// assert_eq!(concurrency.limit(), 2);
/// ```
///
/// # How it works
///
/// A collector that serves `k` exports at a time answers `k` of them as fast as one; more only wait in its queue, and the
/// latency grows in proportion. So the limit compares the latency now with the best there was, as TCP Vegas does, a
/// *round* at a time: as many exports as the limit, at least five, all begun since the limit last changed.
///
/// - Latency within [`tolerance`](ConcurrencyConfig::tolerance) of the best: grow. Doubling until the first sign of
///   overload, then by one (and a sixteenth). Only where the limit is used, so that a quiet program does not save up one
///   that it never tried.
/// - Latency exceeding the best by more than twice what the tolerance allows (1.5 allows up to 2 times the best): shrink to
///   the limit at which it would be within the tolerance, at most by half.
/// - Throttled: halve at once. Failed otherwise: to three quarters. Only for exports begun since the limit last shrank:
///   forty answers to one overload are one sign of it.
/// - Every [`probe_interval`](ConcurrencyConfig::probe_interval), and when the best falls by more than the tolerance, it is
///   measured anew: rounds at half the limit, a quarter and so on, until that no longer makes the latency better by a
///   fifth. Then there is no queue of this exporter's making; the latency is the best, and the limit goes back to what it
///   was. Without this, a queue that is always there would come to be taken for the best, and the limit would creep up
///   for ever.
///
/// Why not a gradient of two averages: the long one learns the queue that the limit itself has built. Why not additive
/// increase with multiplicative decrease alone: it finds a limit only by overload, again and again.
#[derive(Clone, Debug)]
pub struct AdaptiveConcurrency {
    config: ConcurrencyConfig,
    limit: usize,
    /// Whether there was no sign of overload yet.
    is_starting: bool,
    /// The best mean latency of a round since the last probe.
    best: Option<Duration>,
    /// When the best is to be measured anew.
    probe_at: Option<Instant>,
    /// The probe under way.
    probe: Option<Probe>,
    round: Round,
    /// When a sign of overload last had its effect.
    shrunk: Option<Instant>,
    /// The latest time told.
    now: Instant,
}

/// A measurement of the best latency at lower and lower limits.
#[derive(Clone, Copy, Debug)]
struct Probe {
    /// The limit to go back to.
    limit: usize,
    /// The mean latency of the round before.
    mean: Duration,
}

/// Exports measured at one limit.
#[derive(Clone, Copy, Debug)]
struct Round {
    began: Instant,
    /// Those that began in it and were answered, and their latencies in all.
    count: usize,
    sum: Duration,
    /// The time that exports were under way in it, added up.
    busy: Duration,
}

impl Round {
    fn new(began: Instant) -> Self {
        Self {
            began,
            count: 0,
            sum: Duration::ZERO,
            busy: Duration::ZERO,
        }
    }
}

impl AdaptiveConcurrency {
    /// The initial limit. Settings that [`check`](ConcurrencyConfig::check) refuses are taken for the nearest that work.
    pub fn new(config: ConcurrencyConfig) -> Self {
        let (min, max) = bounds(&config);
        Self {
            config,
            limit: config.initial.clamp(min, max),
            is_starting: true,
            best: None,
            probe_at: None,
            probe: None,
            round: Round::new(Instant::ZERO),
            shrunk: None,
            now: Instant::ZERO,
        }
    }

    /// Exports that may be under way at once.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Takes in how one export ended, and how long it was under way.
    pub fn record(&mut self, now: Instant, latency: Duration, feedback: Feedback) {
        self.now = self.now.max(now);
        let now = self.now;
        let began = Instant::from_nanos(now.as_nanos().saturating_sub(nanos(latency)));
        let probe_at = *self.probe_at.get_or_insert(now + self.config.probe_interval);
        if self.round.count == 0 && self.round.busy.is_zero() && self.best.is_none() {
            // The first export of all tells when the first round began.
            self.round.began = self.round.began.max(began);
        }
        self.round.busy = self
            .round
            .busy
            .saturating_add(latency.min(now - self.round.began));
        match feedback {
            Feedback::Success => {}
            Feedback::Throttled => return self.handle_overload(began, 1, 2),
            Feedback::Failure => return self.handle_overload(began, 3, 4),
        }
        if began < self.round.began {
            return;
        }
        self.round.count += 1;
        self.round.sum = self
            .round
            .sum
            .saturating_add(latency.clamp(LATENCY_MIN, LATENCY_MAX));
        if self.round.count < self.limit.max(ROUND_MIN) {
            return;
        }
        // A round of as many as fit in a `u32` is long enough.
        let mean = self.round.sum / u32::try_from(self.round.count).unwrap_or(u32::MAX);
        match self.probe {
            Some(probe) => self.handle_probe(probe, mean),
            None if now >= probe_at || self.is_far_below_best(mean) => self.begin_probe(self.limit, mean),
            None => self.handle_round(mean),
        }
    }

    /// The settings.
    pub fn config(&self) -> &ConcurrencyConfig {
        &self.config
    }

    /// Whether the best latency is out of date: some change made the collector much faster.
    fn is_far_below_best(&self, mean: Duration) -> bool {
        let best = self.best.unwrap_or(Duration::ZERO);
        best.as_secs_f64() > self.tolerance() * mean.as_secs_f64()
    }

    /// Halves the limit to see whether the latency gets better; `limit` is the one to go back to.
    fn begin_probe(&mut self, limit: usize, mean: Duration) {
        self.probe = Some(Probe { limit, mean });
        self.begin_round(self.limit / 2);
    }

    /// Goes on with the probe while it finds lower latencies, and ends it otherwise.
    fn handle_probe(&mut self, probe: Probe, mean: Duration) {
        let (min, _) = bounds(&self.config);
        if mean.as_secs_f64() < PROBE_GAIN * probe.mean.as_secs_f64() && self.limit > min {
            return self.begin_probe(probe.limit, mean);
        }
        self.probe = None;
        self.probe_at = Some(self.now + self.config.probe_interval);
        // The same but for noise.
        self.best = Some(mean.min(probe.mean));
        self.begin_round(probe.limit);
    }

    /// Moves the limit by what a round has shown.
    fn handle_round(&mut self, mean: Duration) {
        let best = self.best.map_or(mean, |best| best.min(mean));
        self.best = Some(best);
        let tolerance = self.tolerance();
        let ratio = mean.as_secs_f64() / best.as_secs_f64();
        let limit = self.limit;
        if ratio <= tolerance {
            let step = match self.is_starting {
                true => limit,
                false => 1 + limit / 16,
            };
            let grown = if self.is_used() {
                limit.saturating_add(step)
            } else {
                limit
            };
            self.begin_round(grown);
        } else if ratio > 2.0 * tolerance - 1.0 {
            self.is_starting = false;
            // At least one less, at most half less.
            let fitting = (limit as f64 * tolerance / ratio) as usize;
            self.begin_round(fitting.clamp(limit / 2, limit.saturating_sub(1)));
        } else {
            self.is_starting = false;
            self.begin_round(limit);
        }
    }

    fn tolerance(&self) -> f64 {
        match self.config.tolerance {
            tolerance if tolerance.is_finite() => tolerance.clamp(1.0, 10.0),
            _ => 1.0,
        }
    }

    /// Whether the exports of the round filled at least a third of the limit.
    fn is_used(&self) -> bool {
        let elapsed = (self.now - self.round.began).as_nanos();
        3 * self.round.busy.as_nanos() >= elapsed.saturating_mul(self.limit as u128)
    }

    /// Shrinks to a part of the limit, unless the export began before an earlier sign of overload had its effect.
    fn handle_overload(&mut self, began: Instant, numerator: usize, denominator: usize) {
        self.is_starting = false;
        if self.shrunk.is_some_and(|shrunk| began <= shrunk) {
            return;
        }
        self.shrunk = Some(self.now);
        // A probe under way is called off: its limit is none that anything was found for.
        let limit = self.probe.take().map_or(self.limit, |probe| probe.limit);
        let part = u128::try_from(limit).unwrap_or(u128::MAX) * numerator as u128 / denominator as u128;
        self.begin_round(usize::try_from(part).unwrap_or(limit));
    }

    /// Goes on at another limit, within the bounds; what is under way says nothing about it.
    fn begin_round(&mut self, limit: usize) {
        let (min, max) = bounds(&self.config);
        self.limit = limit.clamp(min, max);
        self.round = Round::new(self.now);
    }
}

fn bounds(config: &ConcurrencyConfig) -> (usize, usize) {
    let min = config.min.max(1);
    (min, config.max.max(min))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
