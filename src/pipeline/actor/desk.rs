//! What an actor and its handles share: the mailbox, the account, and what the handles want.

use super::config::ActorConfig;
use crate::encode::Request;
use crate::error::Error;
use crate::export::{Origin, lock};
use crate::foreign::shield;
use crate::outcome::Outcome;
use crate::pipeline::exports::Ended;
use crate::pipeline::queue::{Bounded, Line, Weight, wake};
use crate::pipeline::{LatencyHistogram, LatencyStats};
use core::fmt;
use core::task::Waker;
use core::time::Duration;
use futures_channel::oneshot;
use futures_util::task::AtomicWaker;
use std::sync::Mutex;

pub(super) type Answer = Result<Outcome, Error>;
pub(super) type AnswerSender = oneshot::Sender<Answer>;
pub(super) type FlushSender = oneshot::Sender<()>;

/// What a handle sends.
pub(super) enum Message {
    Export(Request, AnswerSender),
    Flush(FlushSender),
}

impl Message {
    pub(super) fn weight(&self) -> Weight {
        Weight {
            class: 0,
            items: 1,
            bytes: match self {
                Self::Export(request, _) => request.encoded_len(),
                Self::Flush(_) => 0,
            },
        }
    }
}

/// What became of what an actor was sent.
///
/// Exact at every moment: what the mailbox has taken is `messages_processed + in_flight + queued`, but for flushes that wait for
/// the exports before them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActorStats {
    /// Messages that were answered: exports and flushes.
    pub messages_processed: u64,
    /// Exports that have ended, either way.
    pub export_count: u64,
    /// Exports that ended in an error: after their retries, or because the actor ended.
    pub error_count: u64,
    /// Items that the collector accepted.
    pub items_exported: u64,
    /// Items that it did not: refused, given up, or unanswered.
    pub items_failed: u64,
    /// Answers that nobody waited for any more.
    pub answers_dropped: u64,
    /// Messages that wait for the actor.
    pub queued: usize,
    /// Exports in flight.
    pub in_flight: usize,
    /// How long exports took, from submission to verdict, retries included; the time in the mailbox does not count.
    pub latency: LatencyStats,
}

impl fmt::Display for ActorStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} exports, {} of them failed; {} items exported, {} failed; {} queued, {} in flight; p50 {:?}, p95 {:?}, p99 {:?}",
            self.export_count,
            self.error_count,
            self.items_exported,
            self.items_failed,
            self.queued,
            self.in_flight,
            self.latency.p50,
            self.latency.p95,
            self.latency.p99
        )
    }
}

pub(super) struct Desk {
    /// Asked before anything else: a child of `fork` has no actor, and may have inherited held locks.
    pub(super) origin: Origin,
    pub(super) mailbox: Bounded<Message>,
    /// The actor.
    driver: AtomicWaker,
    /// Those who wait for the end.
    pub(super) ending: Line,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stats: ActorStats,
    latencies: LatencyHistogram,
    /// Messages that the actor has taken out of the mailbox.
    taken: u64,
    /// The time that a shutdown leaves; it runs from when the actor sees it, since handles know no clock.
    deadline: Option<Duration>,
    is_over: bool,
}

impl Desk {
    pub(super) fn new(config: &ActorConfig) -> Self {
        Self {
            origin: Origin::here(),
            mailbox: Bounded::new(config.mailbox as u64, config.mailbox_bytes_max),
            driver: AtomicWaker::new(),
            ending: Line::default(),
            state: Mutex::default(),
        }
    }

    pub(super) fn stats(&self) -> ActorStats {
        if self.origin.is_foreign() {
            return ActorStats::default();
        }
        let state = lock(&self.state);
        ActorStats {
            // Not what the mailbox holds: what has just left it is nowhere yet.
            queued: usize::try_from(self.mailbox.size().pushed - state.taken).unwrap_or(usize::MAX),
            latency: state.latencies.stats(),
            ..state.stats
        }
    }

    // The handles' side.

    pub(super) fn is_over(&self) -> bool {
        self.origin.is_foreign() || lock(&self.state).is_over
    }

    /// Takes nothing any more, and asks for the end within a time.
    pub(super) fn shut_down(&self, timeout: Duration) {
        if self.origin.is_foreign() {
            return;
        }
        {
            let deadline = &mut lock(&self.state).deadline;
            *deadline = Some(deadline.map_or(timeout, |earlier| earlier.min(timeout)));
        }
        self.mailbox.close();
        if let Some(waker) = self.driver.take() {
            wake(waker);
        }
    }

    // The actor's side.

    /// Notes the actor's waker. It comes before the actor looks.
    pub(super) fn register(&self, waker: &Waker) {
        self.driver.register(waker);
    }

    pub(super) fn take_deadline(&self) -> Option<Duration> {
        lock(&self.state).deadline.take()
    }

    /// An export was taken out of the mailbox.
    pub(super) fn begin(&self) {
        let mut state = lock(&self.state);
        state.taken += 1;
        state.stats.in_flight += 1;
    }

    /// A flush was taken out of the mailbox.
    pub(super) fn take_flush(&self) {
        lock(&self.state).taken += 1;
    }

    pub(super) fn end(&self, ended: &Ended) {
        let mut state = lock(&self.state);
        state.latencies.record(ended.latency);
        state
            .stats
            .end(ended.items, ended.counts().delivered, ended.result.is_err());
    }

    /// An export ends without a verdict of the exporter's.
    pub(super) fn give_up(&self, items: u64) {
        lock(&self.state).stats.end(items, 0, true);
    }

    pub(super) fn count_flush(&self) {
        lock(&self.state).stats.messages_processed += 1;
    }

    /// Answers, after the account was written.
    pub(super) fn answer(&self, to: AnswerSender, answer: Answer) {
        // The wake is the waiting future's own code.
        let sent = shield(|| to.send(answer).is_ok());
        if sent == Some(false) {
            lock(&self.state).stats.answers_dropped += 1;
        }
    }

    /// The account is closed; tells those who wait for that.
    pub(super) fn close(&self) {
        lock(&self.state).is_over = true;
        self.ending.wake_all();
    }
}

impl ActorStats {
    fn end(&mut self, items: u64, delivered: u64, is_error: bool) {
        self.in_flight -= 1;
        self.messages_processed += 1;
        self.export_count += 1;
        self.error_count += u64::from(is_error);
        self.items_exported += delivered;
        self.items_failed += items.saturating_sub(delivered);
    }
}
