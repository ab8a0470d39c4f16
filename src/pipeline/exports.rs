//! Exports of one owner, in flight together over one exporter.

use crate::encode::Request;
use crate::error::{Error, Kind};
use crate::export::{ExportId, Exporter, Flight, Offer, Prepared};
use crate::foreign::shield;
use crate::outcome::{DropReason, ItemCounts, Outcome};
use crate::rt::{Runtime, Timer};
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::HashMap;

/// Exports in flight. Each has its own retries, and the exporter accounts for all of them.
///
/// Dropping it cancels what is in flight. As long as it lives it may be what drives the exporter's connections: whoever polls
/// it keeps polling it, or closes it.
pub(super) struct Exports<R: Runtime> {
    runtime: R,
    /// None once it was closed.
    flight: Option<Flight<R>>,
    running: HashMap<ExportId, Running>,
    /// Those that the exporter's memory limit has no room for beside the others, in their order. There are others while there is
    /// one: their end is when it is tried again.
    held: VecDeque<Held>,
    next: u64,
    /// Keeps the exporter's driver running.
    _exporter: Exporter<R>,
}

struct Running {
    id: u64,
    items: u64,
    begun: Instant,
}

/// An export that waits for room.
struct Held {
    id: u64,
    items: u64,
    prepared: Box<Prepared>,
}

/// An export that has its verdict.
pub(super) struct Ended {
    pub(super) id: u64,
    /// Items of its request.
    pub(super) items: u64,
    /// From its submission to its verdict: nothing that it waited for before.
    pub(super) latency: Duration,
    pub(super) result: Result<Outcome, Error>,
}

impl Ended {
    /// Where its items ended up: each is counted, also where the error says nothing of them.
    pub(super) fn counts(&self) -> ItemCounts {
        let mut counts = match &self.result {
            Ok(outcome) => outcome.counts(),
            Err(error) => error.counts(),
        };
        counts.dropped += self.items.saturating_sub(counts.total());
        counts
    }
}

impl Running {
    fn end(self, runtime: &impl Runtime, result: Result<Outcome, Error>) -> Ended {
        Ended {
            id: self.id,
            items: self.items,
            latency: runtime.now().since(self.begun),
            result,
        }
    }
}

impl<R: Runtime> Exports<R> {
    /// `owner` is what the error names.
    ///
    /// # Errors
    ///
    /// The exporter belongs to a parent process.
    pub(super) fn new(exporter: &Exporter<R>, owner: &str) -> Result<Self, Error> {
        let flight = Flight::new(exporter);
        let Some(runtime) = flight.runtime().cloned() else {
            return Err(Error::new(
                Kind::Runtime,
                alloc::format!(
                    "{owner}: the exporter was built before a fork, and belongs to the parent process; build a new one in the \
                     child, with a new runtime"
                ),
            ));
        };
        Ok(Self {
            runtime,
            flight: Some(flight),
            running: HashMap::new(),
            held: VecDeque::new(),
            next: 0,
            _exporter: exporter.clone(),
        })
    }

    pub(super) fn runtime(&self) -> &R {
        &self.runtime
    }

    /// Whether this is another process than the exporter's: neither the runtime nor the connections may be touched.
    pub(super) fn is_foreign(&self) -> bool {
        self.flight.as_ref().is_some_and(Flight::is_foreign)
    }

    /// Begins an export; the number is greater than that of every export before. Not to be called once it was closed.
    pub(super) fn submit(&mut self, request: Request) -> u64 {
        let id = self.next;
        self.next += 1;
        self.offer(id, request.items(), Offer::New(request));
        id
    }

    /// Begins an export, or holds it where there is no room for it beside the others.
    fn offer(&mut self, id: u64, items: u64, offer: Offer) {
        let Some(flight) = &mut self.flight else { return };
        // What is made of the request on the way belongs to the export; the wait for room does not.
        let begun = self.runtime.now();
        let export = match flight.try_submit(offer, items) {
            Ok(export) => export,
            Err(prepared) if !flight.is_empty() => {
                self.held.push_back(Held { id, items, prepared });
                return;
            }
            // Others than these hold the memory, and nobody tells when they end: the error says so.
            Err(prepared) => flight.submit(prepared.request, None),
        };
        self.running.insert(export, Running { id, items, begun });
    }

    /// Begins what was held, as far as there is room now.
    fn offer_held(&mut self) {
        for _ in 0..self.held.len() {
            let held_before = self.held.len();
            let Some(Held { id, items, prepared }) = self.held.pop_front() else {
                return;
            };
            self.offer(id, items, Offer::Held(prepared));
            if self.held.len() == held_before {
                // It is at the end now; the order is theirs.
                self.held.rotate_right(1);
                return;
            }
        }
    }

    /// How many have no verdict yet.
    pub(super) fn len(&self) -> usize {
        self.flight.as_ref().map_or(0, Flight::len) + self.held.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether one waits for room: no further one is to be submitted then.
    pub(super) fn is_held_up(&self) -> bool {
        !self.held.is_empty()
    }

    /// The next verdict; pending also while nothing is in flight.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let Some(flight) = &mut self.flight else {
            return Poll::Pending;
        };
        while let Poll::Ready((id, result)) = flight.poll(cx) {
            if let Some(running) = self.running.remove(&id) {
                self.offer_held();
                return Poll::Ready(running.end(&self.runtime, result));
            }
        }
        Poll::Pending
    }

    /// Cancels all that is in flight and tells how each ended; drives nothing any more.
    pub(super) fn close(&mut self, mut tell: impl FnMut(Ended)) {
        if let Some(flight) = self.flight.as_mut().filter(|flight| !flight.is_foreign()) {
            // First: none is to begin in the place of another.
            for Held { id, items, .. } in core::mem::take(&mut self.held) {
                tell(Ended {
                    id,
                    items,
                    latency: Duration::ZERO,
                    result: Err(never_begun(items)),
                });
            }
            for (export, running) in core::mem::take(&mut self.running) {
                if let Some(result) = flight.cancel(export) {
                    tell(running.end(&self.runtime, result));
                }
            }
        }
        self.running.clear();
        // In another process what they point into may be locked for ever.
        core::mem::forget(core::mem::take(&mut self.held));
        self.flight = None;
    }
}

/// What becomes of an export that waited for room to the end.
fn never_begun(items: u64) -> Error {
    let counts = ItemCounts {
        dropped: items,
        ..ItemCounts::default()
    };
    let text = "the export was cancelled before the memory limit had room for it; nothing was sent";
    Error::new(Kind::Cancelled, text)
        .with_counts(counts)
        .with_drop_reason(DropReason::Cancelled)
}

/// Ready once it is `at`; also where the runtime is gone, and no time will come any more.
pub(super) fn poll_time<T: Timer>(timer: &mut T, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
    // The runtime's code: its panic counts as its end.
    shield(|| timer.poll_at(cx, at)).map_or(Poll::Ready(()), |polled| polled.map(drop))
}
