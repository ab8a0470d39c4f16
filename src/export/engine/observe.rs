//! What the engine tells about itself, beside its outcomes.

use super::Engine;
use super::outage::Health;
use crate::config::ConfigReport;
use crate::encode::Signal;
use crate::error::Error;
use crate::export::ExportId;
use crate::export::machine::{AttemptEnd, Machine, Next};
use crate::observe::{Budget, Event, EventKind, SelfMetrics, Transition};
use crate::outcome::{DropReason, Outcome};
use crate::policy::{self, Class};
use crate::protocol::{CallEnd, Connection, Peer};
use crate::time::Instant;
use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

/// Bytes of a peer's words that go into an event.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// What the end of an attempt says about the endpoint.
pub(super) enum Sign {
    /// It works.
    Good,
    /// It does not.
    Bad,
    /// It works, and asks for a pause.
    Throttled(Duration),
    /// Nothing.
    None,
}

impl Sign {
    pub(super) fn of(end: &AttemptEnd) -> Self {
        let answer = match end {
            AttemptEnd::Call(CallEnd::Answered(answer)) => answer,
            AttemptEnd::Stale(_) => return Self::None,
            AttemptEnd::NotConnected(..)
            | AttemptEnd::Refused(_)
            | AttemptEnd::NotAuthorized(_)
            | AttemptEnd::Unfit(_)
            | AttemptEnd::Call(_) => return Self::Bad,
        };
        match policy::classify(answer.result()) {
            Class::Accepted => Self::Good,
            Class::Retryable { after: Some(wait) } => Self::Throttled(wait),
            Class::Retryable { after: None } => Self::Bad,
            // It is told of with the items that it refused.
            Class::Refused => Self::None,
        }
    }
}

impl<P: Connection> Engine<P> {
    /// What the exporter has to tell to whoever runs the program, in its order; nothing unless [`observe`](Self::observe) was
    /// called or the configuration has an observer. What nobody takes is bounded, and the rest counted.
    pub fn poll_event(&mut self) -> Option<Event<'static>> {
        self.events.poll()
    }

    /// Says whether anybody takes events from [`poll_event`](Self::poll_event); while nobody does, none is made.
    pub fn observe(&mut self, is_observed: bool) {
        if self.events.is_on() == is_observed {
            return;
        }
        self.events.listen(is_observed);
        self.tell_outages();
    }

    /// The self-metrics at this moment.
    pub fn self_metrics(&self) -> SelfMetrics {
        SelfMetrics::new(self.meter.clone(), crate::observe::Origin::all(&self.settings))
    }

    /// Whether an event waits for [`poll_event`](Self::poll_event).
    #[cfg(feature = "std")]
    pub(crate) fn has_events(&self) -> bool {
        self.events.is_waiting()
    }

    /// Tells of something that happened to `items` in a layer above, under the engine's own limit.
    #[cfg(feature = "std")]
    pub(crate) fn tell(
        &mut self,
        now: Instant,
        endpoint: Option<&Arc<str>>,
        kind: EventKind,
        items: u64,
        make: impl FnOnce() -> Transition<'static>,
    ) -> bool {
        self.advance_clock(now);
        self.events.tell(self.now, endpoint, kind, items, make)
    }

    /// Has the next event of a kind told whenever it comes: it is the end of something that was told to have begun.
    #[cfg(feature = "std")]
    pub(crate) fn release(&mut self, endpoint: Option<&Arc<str>>, kind: EventKind) {
        self.events.release(endpoint, kind);
    }

    /// How errors name the endpoint of a signal, or that of all of them, where there is one.
    #[cfg(feature = "std")]
    pub(crate) fn name_of(&self, signal: Option<Signal>) -> Option<&Arc<str>> {
        match (signal, &*self.settings.lanes) {
            (Some(signal), _) => Some(&self.settings.route(signal).endpoint_name),
            (None, [lane]) => Some(&lane.endpoint_name),
            (None, _) => None,
        }
    }

    /// Items that another account books were given up, or left without an answer: told with the end of the outage. Whether
    /// there is one.
    #[cfg(feature = "std")]
    pub(crate) fn note_loss(
        &mut self,
        signal: Signal,
        reason: Option<DropReason>,
        dropped: u64,
        unknown: u64,
    ) -> bool {
        let lane = self.settings.route(signal).lane;
        self.lanes[lane].health.handle_loss(reason, dropped, unknown)
    }

    /// Tells what became of the configuration.
    pub(crate) fn tell_config(&mut self, report: &ConfigReport) {
        let listed = |texts: &mut dyn Iterator<Item = &str>| -> Vec<Cow<'static, str>> {
            texts.map(|text| Cow::Owned(String::from(text))).collect()
        };
        let refused = listed(&mut report.refused());
        let warnings = listed(&mut report.warnings());
        let now = self.now;
        if !refused.is_empty() {
            let make = || Transition::ConfigRefused { settings: refused };
            self.events.tell(now, None, EventKind::ConfigRefused, 0, make);
        }
        if !warnings.is_empty() {
            let make = || Transition::ConfigWarned { settings: warnings };
            self.events.tell(now, None, EventKind::ConfigWarned, 0, make);
        }
    }

    /// A connection of a lane is able to take its first call.
    pub(super) fn tell_connected(&mut self, lane: usize, peer: &Peer) {
        let lane = &self.settings.lanes[lane];
        let name = &lane.endpoint_name;
        self.events
            .tell(self.now, Some(name), EventKind::Connected, 0, || {
                Transition::Connected {
                    protocol: if lane.is_grpc { "gRPC" } else { "OTLP/HTTP" },
                    http: peer.http,
                    tls: peer.tls,
                    alpn: peer.alpn,
                }
            });
    }

    /// A connection is not as it should be.
    pub(super) fn tell_warning(&mut self, lane: usize, what: &str) {
        let name = &self.settings.lanes[lane].endpoint_name;
        self.events.tell(self.now, Some(name), EventKind::Warned, 0, || {
            Transition::Warned {
                message: shortened(what),
            }
        });
    }

    /// An attempt of an export ended that said something about its endpoint.
    pub(super) fn tell_attempt(&mut self, id: ExportId, sign: Sign, next: Next) {
        let (Some(lane), Some(machine)) = (self.lane_of(id), self.exports.get(&id)) else {
            return;
        };
        let name = &self.settings.lanes[lane].endpoint_name;
        let health = &mut self.lanes[lane].health;
        match sign {
            Sign::Good => health.handle_success(self.now, name, &mut self.events),
            // What is resent at once has met a server that goes, or a connection that was gone.
            Sign::Bad if next != Next::Resend => {
                let words = || failure_of(machine);
                let begins = health.handle_failure(self.now, name, &mut self.events, words);
                self.stats.outages += u64::from(begins);
            }
            Sign::Throttled(wait) => {
                let signal = machine.signal();
                let name = &self.settings.route(signal).endpoint_name;
                let make = || Transition::Throttled { signal, wait };
                let (now, items) = (self.now, machine.items());
                self.events
                    .tell(now, Some(name), EventKind::Throttled, items, make);
            }
            Sign::Bad | Sign::None => {}
        }
    }

    /// An export has its verdict: tells what the collector refused, and books what was lost.
    pub(super) fn tell_verdict(&mut self, id: ExportId) {
        let Some(machine) = self.exports.get(&id) else {
            return;
        };
        let Some(verdict) = machine.verdict() else { return };
        let signal = machine.signal();
        let route = self.settings.route(signal);
        let (counts, reason) = match verdict {
            Ok(outcome) => (outcome.counts(), None),
            Err(error) => (error.counts(), error.drop_reason()),
        };
        // What comes back to another account is lost once that gives it up.
        if !machine.is_managed() {
            let health = &mut self.lanes[route.lane].health;
            health.handle_loss(reason, counts.dropped, counts.unknown);
        }
        let name = Some(&route.endpoint_name);
        let (now, items) = (self.now, counts.rejected);
        if items > 0 {
            self.events.tell(now, name, EventKind::Rejected, items, || {
                let message = match verdict {
                    Ok(outcome) => shortened(outcome.message().unwrap_or("it did not say why")),
                    Err(error) => shortened(error.message()),
                };
                Transition::Rejected {
                    signal,
                    items,
                    message,
                }
            });
        } else if let Some(message) = verdict.as_ref().ok().and_then(Outcome::message) {
            self.events
                .tell(now, name, EventKind::Warned, 0, || Transition::Warned {
                    message: shortened(message),
                });
        }
    }

    /// A request found no room.
    pub(super) fn tell_budget(&mut self, signal: Signal, items: u64) {
        let (bytes, bytes_max) = (
            self.stats.bytes_in_flight,
            self.settings.memory_limit_bytes as u64,
        );
        let make = || Transition::BudgetReached {
            budget: Budget::Memory,
            signal,
            items,
            reason: DropReason::MemoryLimit,
            bytes,
            bytes_max,
            held: None,
        };
        self.events
            .tell(self.now, None, EventKind::MemoryLimitReached, items, make);
    }

    /// Tells of outages what may be told now.
    pub(super) fn tell_outages(&mut self) {
        self.each_health(Health::reconcile);
    }

    /// Tells of outages what is left to tell.
    pub(super) fn finish_outages(&mut self) {
        self.each_health(Health::finish);
    }

    /// When an outage, or its end, may be told that could not be.
    pub(super) fn event_at(&self) -> Option<Instant> {
        if !self.events.is_on() {
            return None;
        }
        let lanes = self.lanes.iter().zip(&self.settings.lanes);
        lanes
            .filter_map(|(lane, settings)| lane.health.due(&settings.endpoint_name, &self.events))
            .min()
    }

    fn each_health(&mut self, tell: fn(&mut Health, Instant, &Arc<str>, &mut crate::observe::Events)) {
        for (lane, settings) in self.lanes.iter_mut().zip(&self.settings.lanes) {
            tell(
                &mut lane.health,
                self.now,
                &settings.endpoint_name,
                &mut self.events,
            );
        }
    }
}

/// Why an attempt failed, with what to do about it.
fn failure_of(machine: &Machine) -> String {
    match (machine.verdict(), machine.last_failure()) {
        (Some(Err(error)), _) if error.is_timeout() => String::from(error.message()),
        (_, Some(failure)) => failure.to_string(),
        (Some(Err(error)), None) => String::from(Error::message(error)),
        (_, None) => String::from("an attempt failed"),
    }
}

/// The first words of a message, as an event carries them.
fn shortened(message: &str) -> Cow<'static, str> {
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(String::from(&message[..end]))
}
