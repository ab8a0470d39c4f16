//! The states of one export and the one function that moves between them.

use super::Verdict;
use crate::export::{ConnId, ExportState};
use crate::protocol::CallId;
use crate::time::Instant;
use alloc::boxed::Box;
use core::fmt;

/// Where an export is, with exactly the data valid there.
///
/// ```text
///           begin             start              request sent
///   Init ──────────> Connecting ─────> Sending ───────────────> WaitingResponse
///   │ ^ postpone       │                 │                          │
///   │ └────────────────┴──────retry──────┴───────────retry──────────┤
///   │                                                               │
///   └─── give up, expire, cancel, shut down ──> Done <── answer ────┘
///                  (from everywhere)                 (from Sending as well)
/// ```
///
/// The full table and its graph are `tests/snapshots/machine_table.txt` and `machine_graph.dot`.
#[derive(Debug)]
pub(super) enum State {
    /// Waits for the gate: until its backoff has passed.
    Init { until: Instant },
    /// Waits for a connection with room for a call: names, TCP, handshake, other calls.
    Connecting,
    /// A call is under way; the socket has not taken all of its request.
    Sending { conn: ConnId, call: CallId },
    /// The socket has taken the whole request.
    WaitingResponse { conn: ConnId, call: CallId },
    /// Settled.
    Done(Verdict),
    /// What a state leaves behind while it is taken by value; nobody ever sees it.
    Failed,
}

/// What moves an export on.
#[derive(Debug)]
pub(super) enum Event {
    /// The export is decided before any attempt.
    Refuse(Verdict),
    /// The gate is open.
    Begin,
    /// The gate stays closed until a later time.
    Postpone(Instant),
    /// A connection took the call.
    Start { conn: ConnId, call: CallId },
    /// The socket took the whole request.
    RequestSent,
    /// The attempt failed and another follows at this time.
    Retry(Instant),
    /// The collector's final word.
    Answer(Verdict),
    /// The attempt failed, and no other follows.
    GiveUp(Verdict),
    /// The deadline passed.
    Expire(Verdict),
    /// The caller lost interest.
    Cancel(Verdict),
    /// The exporter was shut down.
    ShutDown(Verdict),
}

/// An event that has no meaning in a state, with both.
pub(super) struct Illegal {
    pub(super) state: State,
    pub(super) event: Event,
}

impl State {
    /// The one way from state to state.
    ///
    /// # Errors
    ///
    /// Gives state and event back unchanged when the pair is not in the table.
    pub(super) fn advance(self, event: Event) -> Result<Self, Box<Illegal>> {
        use Event as E;
        use State as S;
        Ok(match (self, event) {
            (S::Init { .. }, E::Refuse(verdict)) => S::Done(verdict),
            (S::Init { .. }, E::Begin) => S::Connecting,
            (S::Init { .. }, E::Postpone(until)) => S::Init { until },
            (S::Connecting, E::Start { conn, call }) => S::Sending { conn, call },
            (S::Sending { conn, call }, E::RequestSent) => S::WaitingResponse { conn, call },
            (S::Connecting | S::Sending { .. } | S::WaitingResponse { .. }, E::Retry(until)) => {
                S::Init { until }
            }
            // A collector may answer before it has read the request.
            (S::Sending { .. } | S::WaitingResponse { .. }, E::Answer(verdict)) => S::Done(verdict),
            (
                S::Init { .. } | S::Connecting | S::Sending { .. } | S::WaitingResponse { .. },
                E::GiveUp(verdict) | E::Expire(verdict) | E::Cancel(verdict) | E::ShutDown(verdict),
            ) => S::Done(verdict),
            (state, event) => return Err(Box::new(Illegal { state, event })),
        })
    }

    /// The state without its data. The marker counts as done: it can only be seen after a panic.
    pub(super) fn kind(&self) -> ExportState {
        match self {
            Self::Init { .. } => ExportState::Init,
            Self::Connecting => ExportState::Connecting,
            Self::Sending { .. } => ExportState::Sending,
            Self::WaitingResponse { .. } => ExportState::WaitingResponse,
            Self::Done(_) | Self::Failed => ExportState::Done,
        }
    }
}

impl fmt::Debug for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in {:?}", self.event, self.state)
    }
}
