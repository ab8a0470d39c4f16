//! Time as the exporter sees it: a count of nanoseconds handed in with every fact.
//!
//! Nothing outside [`rt`](crate::rt) and `testing` reads a clock. A runtime chooses the zero of its own monotonic clock; only
//! differences between two instants of one runtime mean anything.

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

/// A point on the monotonic clock of one runtime, in nanoseconds since a zero of that runtime's choosing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The zero of the clock.
    pub const ZERO: Self = Self(0);
    /// The end of time, which no clock reaches: 584 years after [`ZERO`](Self::ZERO).
    pub const MAX: Self = Self(u64::MAX);

    /// The instant `nanos` nanoseconds after the zero of the clock.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The instant `millis` milliseconds after the zero of the clock, at most [`MAX`](Self::MAX).
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the zero of the clock.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`, zero when `earlier` is the later of the two.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Adds a duration; the sum stops at [`Instant::MAX`].
impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// The time between two instants; zero when the right one is later.
impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// A point in time at which something will be due, and what that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// When it is due.
    pub at: Instant,
    /// What is due.
    pub reason: DeadlineReason,
}

/// What becomes due at a [`Deadline`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DeadlineReason {
    /// The time given to one export is over.
    Export,
    /// A retry may begin: its backoff has passed.
    Backoff,
    /// A connection may be tried again.
    Reconnect,
    /// One address did not answer within the connect timeout.
    Connect,
    /// The session has upkeep to do.
    Session,
    /// A connection is as old as it may get, or was idle for too long beside another.
    Retire,
    /// An event that could not be told may be told now.
    Event,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Instant::MAX + Duration::from_secs(1), Instant::MAX);
        assert_eq!(Instant::ZERO + Duration::MAX, Instant::MAX);
        assert_eq!(Instant::ZERO - Instant::MAX, Duration::ZERO);
        assert_eq!(
            Instant::from_millis(1_500) - Instant::from_millis(500),
            Duration::from_secs(1)
        );
    }

    #[test]
    fn debug_shows_seconds() {
        assert_eq!(
            alloc::format!("{:?}", Instant::from_millis(1_500)),
            "1.500000000s"
        );
    }
}
