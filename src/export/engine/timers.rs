//! Timers: what is due, in which order it fires.

use super::Engine;
use super::connections::Phase;
use crate::export::ExportId;
use crate::export::machine::Machine;
use crate::protocol::Connection;
use crate::time::{Deadline, DeadlineReason, Instant};
use core::time::Duration;

impl<P: Connection> Engine<P> {
    /// The earliest thing due.
    pub(super) fn earliest(&self) -> Option<Deadline> {
        let due = |at: Option<Instant>, reason| at.map(|at| Deadline { at, reason });
        let deadline = due(self.deadlines.first().map(|&(at, _)| at), DeadlineReason::Export);
        let gate = due(self.gates.first().map(|&(at, _)| at), DeadlineReason::Backoff);
        let lanes = (0..self.lanes.len()).flat_map(|lane| {
            [
                due(self.reconnect_at(lane), DeadlineReason::Reconnect),
                due(self.idle_until(lane), DeadlineReason::Retire),
            ]
        });
        let conns = self.conns.iter().filter_map(|conn| match &conn.phase {
            Phase::Resolving { until } => due(Some(*until), DeadlineReason::Connect),
            Phase::Connecting(attempt) => due(Some(attempt.until()), DeadlineReason::Connect),
            Phase::Open(open) => [
                due(open.session.poll_timeout(), DeadlineReason::Session),
                due(open.handshake_until(), DeadlineReason::Connect),
                due(open.age_at(), DeadlineReason::Retire),
            ]
            .into_iter()
            .flatten()
            .min(),
            Phase::Closing { until, .. } => due(Some(*until), DeadlineReason::Session),
        });
        let event = due(self.event_at(), DeadlineReason::Event);
        conns
            .chain(event)
            .chain(deadline)
            .chain(gate)
            .chain(lanes.flatten())
            .min()
    }

    /// Fires everything that is due. What a session knows of a call counts before the export's own deadline, which counts
    /// before the time of a name or an address: an export whose time is over is no attempt that failed.
    pub(super) fn fire_timers(&mut self) {
        if self.earliest().is_none_or(|deadline| deadline.at > self.now) {
            return;
        }
        self.fire_connections(Self::fire_session);
        self.fire_upkeep();
        self.pump();
        self.fire_deadlines();
        self.fire_connections(Self::fire_dial);
        self.fire_gates();
        self.pump();
        self.tell_outages();
    }

    /// Fires what is due before an export begins an attempt: a connection whose time is over takes none, which is found out
    /// late where nobody drives the engine in between.
    pub(super) fn catch_up(&mut self) {
        self.fire_connections(Self::fire_session);
        // What a session knows of a call that ends now counts before the export's own deadline.
        self.drain_sessions();
        self.fire_upkeep();
        self.fire_deadlines();
    }

    fn fire_connections(&mut self, fire: impl Fn(&mut Self, usize)) {
        let mut at = 0;
        while let Some(id) = self.conns.get(at).map(|conn| conn.id) {
            fire(self, at);
            // A connection that was closed makes room for the next at its place.
            if self.conns.get(at).is_some_and(|conn| conn.id == id) {
                at += 1;
            }
        }
    }

    fn fire_session(&mut self, at: usize) {
        let now = self.now;
        match &mut self.conns[at].phase {
            Phase::Open(open) => {
                if open.session.poll_timeout().is_some_and(|at| at <= now) {
                    open.session.handle_timeout(now);
                    open.is_dirty = true;
                }
                if open.handshake_until().is_some_and(|at| at <= now) {
                    self.handle_handshake_timeout(at);
                }
            }
            Phase::Closing { until, .. } if *until <= now => self.close(at),
            _ => {}
        }
    }

    fn fire_dial(&mut self, at: usize) {
        let id = self.conns[at].id;
        match &self.conns[at].phase {
            Phase::Resolving { until } if *until <= self.now => self.handle_resolve_timeout(id),
            Phase::Connecting(attempt) if attempt.until() <= self.now => self.handle_connect_timeout(id),
            _ => {}
        }
    }

    /// Ends the exports whose deadline has passed.
    pub(super) fn fire_deadlines(&mut self) {
        while let Some(&(at, id)) = self.deadlines.first() {
            if at > self.now {
                return;
            }
            let of_lane = |lane: usize| {
                let trouble = || self.lanes[lane].dialer.trouble().cloned();
                self.pending(lane).or_else(trouble)
            };
            let pending = self
                .pending_credentials(id)
                .or_else(|| self.lane_of(id).and_then(of_lane));
            if let Some(machine) = self.exports.get_mut(&id) {
                machine.explain(pending);
                if let Some((conn, _)) = machine.call() {
                    self.suspect(conn);
                }
            }
            self.abandon(id, Machine::expire);
        }
    }

    /// Lets the exports begin whose backoff has passed. One that is sent back does not come up again in this step.
    fn fire_gates(&mut self) {
        let later = self.now + Duration::from_nanos(1);
        let rest = self.gates.split_off(&(later, ExportId(0)));
        let due = core::mem::replace(&mut self.gates, rest);
        for (_, id) in due {
            self.admit(id);
        }
    }
}
