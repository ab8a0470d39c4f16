//! Exports of one owner, in flight together over one exporter.

use crate::encode::Request;
use crate::error::{Error, Kind};
use crate::export::{ExportId, Exporter, Flight, shield};
use crate::outcome::{ItemCounts, Outcome};
use crate::rt::{Runtime, Timer};
use crate::time::Instant;
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
    next: u64,
    /// Keeps the exporter's driver running.
    _exporter: Exporter<R>,
}

struct Running {
    id: u64,
    items: u64,
    begun: Instant,
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
        if let Some(flight) = &mut self.flight {
            let running = Running {
                id,
                items: request.items(),
                // What is made of the request on the way belongs to the export.
                begun: self.runtime.now(),
            };
            self.running.insert(flight.submit(request, None), running);
        }
        id
    }

    /// How many have no verdict yet.
    pub(super) fn len(&self) -> usize {
        self.flight.as_ref().map_or(0, Flight::len)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flight.as_ref().is_none_or(Flight::is_empty)
    }

    /// The next verdict; pending also while nothing is in flight.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let Some(flight) = &mut self.flight else {
            return Poll::Pending;
        };
        while let Poll::Ready((id, result)) = flight.poll(cx) {
            if let Some(running) = self.running.remove(&id) {
                return Poll::Ready(running.end(&self.runtime, result));
            }
        }
        Poll::Pending
    }

    /// Cancels all that is in flight and tells how each ended; drives nothing any more.
    pub(super) fn close(&mut self, mut tell: impl FnMut(Ended)) {
        if let Some(flight) = self.flight.as_mut().filter(|flight| !flight.is_foreign()) {
            for (export, running) in core::mem::take(&mut self.running) {
                if let Some(result) = flight.cancel(export) {
                    tell(running.end(&self.runtime, result));
                }
            }
        }
        self.running.clear();
        self.flight = None;
    }
}

/// Ready once it is `at`; also where the runtime is gone, and no time will come any more.
pub(super) fn poll_time<T: Timer>(timer: &mut T, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
    // The runtime's code: its panic counts as its end.
    shield(|| timer.poll_at(cx, at)).map_or(Poll::Ready(()), |polled| polled.map(drop))
}
