//! Why a pipeline did not take what it was given.

use super::delivery::Admission;
use crate::error::{Error, Kind};
use crate::outcome::DropReason;
use core::fmt;

/// Why a [`Pipeline`](super::Pipeline) did not take what it was given.
///
/// It is small and copied, since a producer may meet it often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal(Why);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Full,
    Dropped(DropReason),
    TimedOut,
    Closed,
}

impl Refusal {
    pub(super) const FULL: Self = Self(Why::Full);
    #[cfg(feature = "opentelemetry_0_33")]
    pub(crate) const CLOSED: Self = Self(Why::Closed);
    pub(crate) const TIMED_OUT: Self = Self(Why::TimedOut);

    pub(super) fn of(admission: Admission) -> Self {
        Self(match admission {
            Admission::Dropped(reason) => Why::Dropped(reason),
            Admission::Closed => Why::Closed,
            Admission::Full | Admission::Admitted => Why::Full,
        })
    }

    /// Whether there was no room: the same may be taken later.
    pub fn is_full(&self) -> bool {
        matches!(
            self.0,
            Why::Full | Why::TimedOut | Why::Dropped(DropReason::QueueFull)
        )
    }

    /// Whether the pipeline has ended, or its future is gone.
    pub fn is_closed(&self) -> bool {
        self.0 == Why::Closed
    }

    /// Whether the time was over that the producer would wait for room.
    pub fn is_timeout(&self) -> bool {
        self.0 == Why::TimedOut
    }

    /// Why the items were dropped, where they were: they are counted then. Otherwise nothing was.
    pub fn drop_reason(&self) -> Option<DropReason> {
        match self.0 {
            Why::Dropped(reason) => Some(reason),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Why::Full => f.write_str("the pipeline's queue is full; wait for room, or raise its bounds"),
            Why::Dropped(reason) => write!(
                f,
                "the pipeline dropped it ({}); raise the bounds of its queue, or choose Overflow::Block to wait",
                reason.as_str()
            ),
            Why::TimedOut => {
                f.write_str("the pipeline's queue stayed full for as long as the producer would wait")
            }
            Why::Closed => f.write_str("the pipeline has ended: it was shut down, or its future was dropped"),
        }
    }
}

impl core::error::Error for Refusal {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal.0 {
            Why::Full | Why::Dropped(_) => Kind::MemoryLimit,
            Why::TimedOut => Kind::Timeout,
            Why::Closed => Kind::Shutdown,
        };
        Self::new(kind, alloc::format!("{refusal}"))
    }
}
