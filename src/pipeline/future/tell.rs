//! What a pipeline tells the observers of its exporters.

use super::{Bounds, PipelineFuture};
use crate::encode::Signal;
use crate::observe::{Budget, EventKind, Transition};
use crate::outcome::DropReason;
use crate::pipeline::delivery::DeliveryEvent;
use crate::policy::BreakerState;
use crate::rt::Runtime;
use crate::time::Instant;

/// Items that a leg gave up for one reason.
struct Loss {
    signal: Signal,
    reason: DropReason,
    dropped: u64,
    unknown: u64,
    /// Items and bytes that were held when the queue was full.
    full: (u64, u64),
}

impl Loss {
    /// What is told of it, besides what the end of an outage says: only what comes of the queue itself.
    fn transition(&self, bounds: &Bounds) -> Option<(EventKind, Transition<'static>)> {
        let items = self.dropped + self.unknown;
        match self.reason {
            DropReason::QueueFull | DropReason::Evicted => {
                let reached = Transition::BudgetReached {
                    budget: Budget::Queue,
                    signal: self.signal,
                    items,
                    reason: self.reason,
                    bytes: self.full.1,
                    bytes_max: bounds.bytes_max,
                    held: Some((self.full.0, bounds.items_max)),
                };
                Some((EventKind::QueueLimitReached, reached))
            }
            DropReason::Expired => {
                let expired = Transition::Expired {
                    signal: self.signal,
                    items,
                    after: bounds.max_elapsed,
                };
                Some((EventKind::Expired, expired))
            }
            _ => None,
        }
    }
}

impl<R: Runtime> PipelineFuture<R> {
    /// Tells everything that there is to tell. No lock of the pipeline is held while an observer is called.
    pub(super) fn tell_events(&mut self) {
        while let Some(event) = self.shared.next_event() {
            match event {
                DeliveryEvent::Breaker {
                    leg,
                    endpoint,
                    state,
                    until,
                } => self.tell_breaker((leg, endpoint), state, until),
                DeliveryEvent::Lost {
                    leg,
                    signal,
                    reason,
                    dropped,
                    unknown,
                    full,
                } => {
                    let loss = Loss {
                        signal,
                        reason,
                        dropped,
                        unknown,
                        full,
                    };
                    self.tell_loss(leg, &loss);
                }
                // Whoever shut its exporter down knows.
                DeliveryEvent::EndpointGone { .. } => {}
            }
        }
    }

    /// An endpoint's own observer is told when its breaker opens, also after its probes failed, and when it closes.
    fn tell_breaker(&mut self, at: (usize, usize), state: BreakerState, until: Option<Instant>) {
        let now = self.runtime.now();
        let Some(endpoint) = self.endpoint(at) else { return };
        let name = endpoint.exporter.name_of(None);
        match state {
            BreakerState::HalfOpen => {}
            BreakerState::Open => {
                let pause = until.unwrap_or(now).since(now);
                let make = || Transition::BreakerOpened { pause };
                let is_told = endpoint
                    .exporter
                    .tell(name.as_ref(), EventKind::BreakerOpened, 0, make);
                let (_, was_told) = endpoint.stopped.get_or_insert((now, false));
                *was_told |= is_told;
            }
            BreakerState::Closed => {
                // One whose opening was not told is counted with the next that is.
                let Some((since, true)) = endpoint.stopped.take() else {
                    return;
                };
                let after = now.since(since);
                let make = || Transition::BreakerClosed { after };
                endpoint
                    .exporter
                    .tell_end(name.as_ref(), EventKind::BreakerClosed, make);
            }
        }
    }

    /// A loss belongs to one outage, that of the first endpoint of its leg that has one. What comes of the queue itself is
    /// told by the exporter that tells the leg's account.
    fn tell_loss(&self, leg: usize, loss: &Loss) {
        let of_leg = || self.endpoints.iter().filter(|endpoint| endpoint.leg == leg);
        // Written so that the first that takes it ends the search.
        let _ = of_leg().any(|endpoint| {
            let reason = Some(loss.reason);
            endpoint
                .exporter
                .note_loss(loss.signal, reason, loss.dropped, loss.unknown)
        });
        let Some(teller) = of_leg().next() else { return };
        let Some((kind, transition)) = loss.transition(&self.bounds) else {
            return;
        };
        // Where several may take it, no one endpoint is meant.
        let name = match of_leg().count() {
            1 => teller.exporter.name_of(Some(loss.signal)),
            _ => None,
        };
        let items = loss.dropped + loss.unknown;
        teller.exporter.tell(name.as_ref(), kind, items, || transition);
    }
}
