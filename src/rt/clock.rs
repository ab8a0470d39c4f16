//! The monotonic clock of std.

use crate::time::Instant;

/// A clock that starts at its making.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    zero: std::time::Instant,
}

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "runtimes are where clocks are read")]
    pub(crate) fn start() -> Self {
        Self {
            zero: std::time::Instant::now(),
        }
    }

    #[allow(clippy::disallowed_methods, reason = "runtimes are where clocks are read")]
    pub(crate) fn now(&self) -> Instant {
        Instant::ZERO + self.zero.elapsed()
    }

    /// The same point in time on std's clock; `None` when that clock does not reach so far.
    #[cfg(feature = "smol")]
    pub(super) fn to_std(self, at: Instant) -> Option<std::time::Instant> {
        self.zero
            .checked_add(core::time::Duration::from_nanos(at.as_nanos()))
    }
}

/// The time since the Unix epoch.
#[allow(clippy::disallowed_methods, reason = "runtimes are where clocks are read")]
pub(crate) fn unix_time() -> core::time::Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default()
}
