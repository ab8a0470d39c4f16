//! The states of a breaker and the one function that moves between them.

use super::BreakerState;
use super::window::Window;
use crate::time::Instant;
use alloc::boxed::Box;

/// What a breaker does, with exactly the data valid there.
///
/// ```text
///               trip (too many failed)
///    Closed ───────────────────────────> Open <──────────┐
///      ^                                  │              │
///      │                      open_for is │              │ trip (a probe failed)
///      │                    over: elapse  v              │
///      └───────────────────────────── HalfOpen ──────────┘
///         prove (enough probes succeeded)
/// ```
///
/// The full table and its graph are `tests/snapshots/breaker_table.txt` and `breaker_graph.dot`.
#[derive(Debug)]
pub(super) enum State {
    /// Requests pass, and how they end is counted.
    Closed(Box<Window>),
    /// Nothing passes before the time given.
    Open { until: Instant },
    /// Probes pass: so many are out, so many have succeeded.
    HalfOpen { out: u32, succeeded: u32 },
    /// What a state leaves behind while it is taken by value; nobody ever sees it.
    Failed,
}

/// What changes the state of a breaker.
#[derive(Debug)]
pub(super) enum Event {
    /// The endpoint fails; it is to be left alone until the time given.
    Trip(Instant),
    /// It has been left alone for long enough.
    Elapse,
    /// It works again: counting begins anew in this window.
    Prove(Box<Window>),
}

/// An event that has no meaning in a state, with both.
#[derive(Debug)]
pub(super) struct Illegal {
    pub(super) state: State,
    /// Shown where the pair is.
    #[allow(dead_code)]
    pub(super) event: Event,
}

impl State {
    /// The one way from state to state.
    ///
    /// # Errors
    ///
    /// Gives state and event back unchanged when the pair is not in the table.
    pub(super) fn advance(self, event: Event) -> Result<Self, Illegal> {
        match (self, event) {
            (Self::Closed(_) | Self::HalfOpen { .. }, Event::Trip(until)) => Ok(Self::Open { until }),
            (Self::Open { .. }, Event::Elapse) => Ok(Self::HalfOpen { out: 0, succeeded: 0 }),
            (Self::HalfOpen { .. }, Event::Prove(window)) => Ok(Self::Closed(window)),
            (state, event) => Err(Illegal { state, event }),
        }
    }

    /// The state without its data. The marker counts as closed: it can only be seen after a panic, and keeps no request
    /// from being made.
    pub(super) fn kind(&self) -> BreakerState {
        match self {
            Self::Closed(_) | Self::Failed => BreakerState::Closed,
            Self::Open { .. } => BreakerState::Open,
            Self::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}
