//! The words between a delivery and its shell: facts in, actions and events out.

use super::policies::BreakerState;
use super::verdict::ExportVerdict;
use crate::encode::{Request, Signal};
use crate::outcome::DropReason;
use crate::pipeline::stats::{FlushReport, PipelineStats};
use crate::time::Instant;

/// The name of one export among all of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// The name that the shell gives to a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlushId(pub u64);

/// The answer to a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The items were taken.
    Admitted,
    /// The queue is full and its producers wait: nothing was counted, ask again after
    /// [`WakeProducers`](DeliveryAction::WakeProducers).
    Full,
    /// The items were counted and dropped.
    Dropped(DropReason),
    /// The pipeline takes nothing more: nothing was counted.
    Closed,
}

/// What the shell tells.
#[derive(Debug)]
pub enum DeliveryFact {
    /// Nothing but the time: after a wake, and when [`poll_timeout`](super::Delivery::poll_timeout) is due.
    Tick,
    /// An export was handed to its exporter now; its latency runs from here. Without this fact it runs from the action.
    Submitted(BatchId),
    /// An export ended.
    Ended(BatchId, ExportVerdict),
    /// Everything admitted so far is to be exported without waiting for full batches.
    Flush {
        /// Its name.
        flush: FlushId,
        /// When the answer is due, whatever is left.
        until: Instant,
    },
    /// Nothing more is admitted, and what there is is exported until then at the latest. A further drain can only be earlier.
    Drain {
        /// When everything left is dropped.
        until: Instant,
    },
    /// An endpoint takes nothing more, for good.
    EndpointGone {
        /// Its leg.
        leg: usize,
        /// Its position in the leg.
        endpoint: usize,
    },
    /// The shell goes away: what is queued is dropped with this reason, what is in flight becomes unknown.
    Abandon(DropReason),
    /// This is the child of a fork: everything belongs to the parent.
    Forked,
}

/// What the shell is to do, in this order.
#[derive(Debug)]
pub enum DeliveryAction {
    /// Hand the request to the exporter; the answer is [`Ended`](DeliveryFact::Ended).
    Export {
        /// The name of this export.
        batch: BatchId,
        /// The leg.
        leg: usize,
        /// The position of the endpoint in the leg.
        endpoint: usize,
        /// What to export.
        request: Request,
        /// Whether an attempt before was sent whole and not answered.
        unanswered: bool,
    },
    /// Cancel the export; the answer is [`Ended`](DeliveryFact::Ended), at once.
    Cancel {
        /// Which export.
        batch: BatchId,
        /// Its leg.
        leg: usize,
        /// The position of its endpoint in the leg.
        endpoint: usize,
    },
    /// A flush is over; each is answered once, but those that were forgotten.
    Flushed {
        /// Which.
        flush: FlushId,
        /// What became of what it asked for.
        report: FlushReport,
    },
    /// There is room again, and somebody was told [`Full`](Admission::Full) since it was last said; or the pipeline closed.
    WakeProducers {
        /// Items there is room for.
        items: u64,
        /// Bytes there is room for.
        bytes: u64,
        /// Whether it was closed: all are to be woken.
        is_closed: bool,
    },
    /// The drain is over and everything is settled. Comes once; nothing comes after it but answers to later flushes.
    Drained(PipelineStats),
}

/// A transition worth telling an operator.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum DeliveryEvent {
    /// A circuit breaker changed its state.
    Breaker {
        /// The leg.
        leg: usize,
        /// The position of the endpoint in the leg.
        endpoint: usize,
        /// The state it went to.
        state: BreakerState,
        /// When an open one lets probes through.
        until: Option<Instant>,
    },
    /// Items were given up since the last question: all of one leg, signal and reason together, so that none is missing
    /// however late they are asked for.
    Lost {
        /// The leg.
        leg: usize,
        /// What they are.
        signal: Signal,
        /// Why.
        reason: DropReason,
        /// Items that certainly did not arrive.
        dropped: u64,
        /// Items that had been sent whole and not answered.
        unknown: u64,
        /// Items and bytes that the leg held when its queue was last found full.
        full: (u64, u64),
    },
    /// An endpoint is gone for good.
    EndpointGone {
        /// The leg.
        leg: usize,
        /// The position of the endpoint in the leg.
        endpoint: usize,
    },
}
