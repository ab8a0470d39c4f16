//! Times of very many calls in little memory.

use std::time::Duration;

/// Counts times in steps of a sixteenth of their size: a quantile is at most 6.25 % above the true one. The largest is
/// exact.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    largest: Duration,
}

const STEPS: u64 = 16;

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; (64 * STEPS) as usize],
            largest: Duration::ZERO,
        }
    }
}

impl Histogram {
    /// Adds one time.
    #[inline]
    pub fn record(&mut self, time: Duration) {
        self.counts[place(time.as_nanos() as u64)] += 1;
        self.largest = self.largest.max(time);
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.largest = self.largest.max(other.largest);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The largest.
    pub fn largest(&self) -> Duration {
        self.largest
    }

    /// The time that this share does not pass.
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                return Duration::from_nanos(end(at)).min(self.largest);
            }
        }
        self.largest
    }
}

/// Below 16 each number has its place; above, each power of two has sixteen.
fn place(ns: u64) -> usize {
    let power = u64::from(63 - (ns | 1).leading_zeros());
    if power < 4 {
        return ns as usize;
    }
    let step = (ns >> (power - 4)) & (STEPS - 1);
    ((power - 3) * STEPS + step) as usize
}

/// The largest number that has this place.
fn end(place: usize) -> u64 {
    let (row, step) = (place as u64 / STEPS, place as u64 % STEPS);
    if row == 0 {
        return step;
    }
    let width = 1 << (row - 1);
    (STEPS + step) * width + width - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_where_it_belongs() {
        for power in 0..60 {
            for ns in [(1 << power) - 1, 1 << power, (1 << power) + 1, 3 << power] {
                let end = end(place(ns));
                assert!(end >= ns && end - ns <= ns / STEPS, "{ns} is told as {end}");
                assert!(place(end) == place(ns) && place(end + 1) == place(ns) + 1);
            }
        }
    }

    #[test]
    fn quantiles_are_near() {
        let mut histogram = Histogram::default();
        (1..=10_000).for_each(|ns| histogram.record(Duration::from_nanos(ns)));
        for (share, exact) in [(0.5, 5_000), (0.99, 9_900), (0.999, 9_990)] {
            let told = histogram.quantile(share).as_nanos() as u64;
            assert!((exact..=exact + exact / 16).contains(&told), "{told} for {exact}");
        }
        assert_eq!(histogram.quantile(1.0), Duration::from_nanos(10_000));
        assert_eq!(histogram.count(), 10_000);
    }
}
