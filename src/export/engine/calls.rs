//! Calls: the way of an export onto a connection and back.

use super::Engine;
use super::connections::Phase;
use super::observe::Sign;
use crate::credentials::CredentialHeaders;
use crate::export::machine::{AttemptEnd, ExportState, Judge, LastFailure, Machine, Next};
use crate::export::{Action, ConnId, ExportId};
use crate::protocol::{CallEnd, CallId, Connection, Failure, Outgoing};
use crate::time::Instant;
use alloc::sync::Arc;

impl<P: Connection> Engine<P> {
    /// Lets an export whose gate is open begin an attempt, unless the endpoint's own gate is closed.
    pub(super) fn admit(&mut self, id: ExportId) {
        let Some(lane) = self.lane_of(id) else { return };
        let until = self.endpoint_gate(lane);
        let endpoint = self.endpoint_name(id);
        let Some(machine) = self.exports.get_mut(&id) else {
            return;
        };
        if machine.state() != ExportState::Init {
            return;
        }
        let Some(until) = until else {
            let route = self.settings.route(machine.signal());
            if let (Some(source), None) = (&route.credentials, machine.credentials()) {
                let rejected = machine.rejected_credentials().cloned();
                return self.ask_credentials(id, source.clone(), rejected);
            }
            machine.begin(self.now);
            self.lanes[lane].waiting.insert(id);
            return;
        };
        let why = self.lanes[lane].dialer.last_failure().cloned();
        if let (Some(failure), true) = (why.clone(), machine.is_single()) {
            return self.end_attempt(id, AttemptEnd::NotConnected(failure, until));
        }
        match machine.postpone(until, why, &self.settings.retry, &endpoint) {
            Next::Settled => self.settle(id),
            Next::Retry(_) | Next::Resend | Next::Reauthorize | Next::Split(_) => {
                self.gates.insert((until, id));
            }
        }
    }

    /// Starts the calls that wait, the oldest first, while a connection takes them.
    pub(super) fn start_calls(&mut self) {
        for lane in 0..self.lanes.len() {
            self.start_calls_of(lane);
        }
    }

    fn start_calls_of(&mut self, lane: usize) {
        while let Some(&id) = self.lanes[lane].waiting.first() {
            let Some(at) = self.free_connection(lane) else {
                return;
            };
            self.note_ready(at);
            let call = CallId(self.next_number());
            self.lanes[lane].waiting.pop_first();
            let (Phase::Open(open), Some(machine)) = (&mut self.conns[at].phase, self.exports.get_mut(&id))
            else {
                continue;
            };
            let deadline = machine.deadline();
            // One whose time is over is about to be settled, and is not sent any more.
            let (Some(request), Some(body), true) = (machine.request(), machine.body(), deadline > self.now)
            else {
                continue;
            };
            let outgoing = Outgoing {
                body,
                credentials: machine
                    .credentials()
                    .map(CredentialHeaders::as_slice)
                    .unwrap_or_default(),
                ..self.settings.outgoing(request, deadline)
            };
            let started = open.session.start(self.now, call, &outgoing);
            open.handle_start(self.now);
            if started.is_ok() {
                open.calls.insert(call, id);
            }
            machine.start(self.conns[at].id, call);
            if let Err(failure) = started {
                let end = match failure.is_retryable {
                    true => AttemptEnd::Call(CallEnd::Unprocessed(failure)),
                    false => AttemptEnd::Unfit(failure),
                };
                self.end_attempt(id, end);
            }
        }
    }

    /// Judges an attempt that is over.
    pub(super) fn end_attempt(&mut self, id: ExportId, end: AttemptEnd) {
        let endpoint = self.endpoint_name(id);
        let is_grpc = self
            .lane_of(id)
            .is_some_and(|lane| self.settings.lanes[lane].is_grpc);
        let Some(machine) = self.exports.get_mut(&id) else {
            return;
        };
        let sign = Sign::of(&end);
        let next = machine.end_attempt(
            &mut Judge {
                now: self.now,
                policy: &self.settings.retry,
                endpoint: &endpoint,
                is_grpc,
                rng: &mut self.rng,
            },
            end,
        );
        self.tell_attempt(id, sign, next);
        match next {
            Next::Settled => return self.settle(id),
            Next::Split(bytes_max) => return self.split(id, bytes_max),
            Next::Resend | Next::Reauthorize => {}
            Next::Retry(until) => {
                self.gates.insert((until, id));
            }
        }
        self.stats.retries += 1;
        self.account_attempt(id);
        if matches!(next, Next::Resend | Next::Reauthorize) {
            self.admit(id);
        }
    }

    /// The socket took a call's whole request.
    pub(super) fn handle_request_sent(&mut self, id: ExportId) {
        if let Some(machine) = self.exports.get_mut(&id) {
            machine.request_sent();
        }
    }

    /// A call ended because its connection did, without a word from the session.
    pub(super) fn handle_orphan(&mut self, id: ExportId, why: &str) {
        let failure = Failure::retryable(why);
        let end = match self.exports.get(&id).map(Machine::state) {
            Some(ExportState::WaitingResponse) => CallEnd::Unanswered(failure),
            _ => CallEnd::Unprocessed(failure),
        };
        self.end_attempt(id, AttemptEnd::Call(end));
    }

    /// Every export that waits for a connection of the lane has failed to get one.
    pub(super) fn fail_waiting(&mut self, lane: usize, failure: &LastFailure, next: Instant) {
        for id in core::mem::take(&mut self.lanes[lane].waiting) {
            self.end_attempt(id, AttemptEnd::NotConnected(failure.clone(), next));
        }
    }

    /// Every export that waits for a connection of the lane would wait in vain.
    pub(super) fn refuse_waiting(&mut self, lane: usize, failure: &LastFailure) {
        for id in core::mem::take(&mut self.lanes[lane].waiting) {
            self.end_attempt(id, AttemptEnd::Refused(failure.clone()));
        }
    }

    /// Ends an export from this side, wherever it is. One that has its verdict keeps it.
    pub(super) fn abandon(&mut self, id: ExportId, end: fn(&mut Machine, &Arc<str>) -> Next) {
        let (Some(lane), endpoint) = (self.lane_of(id), self.endpoint_name(id)) else {
            return;
        };
        let Some(machine) = self.exports.get_mut(&id) else {
            return;
        };
        if machine.state() == ExportState::Done {
            return;
        }
        if let Some(gate) = machine.gate() {
            self.gates.remove(&(gate, id));
        }
        self.lanes[lane].waiting.remove(&id);
        if self.authorizing.remove(&id) {
            let is_moot = |action: &Action| matches!(action, Action::Authorize(of, _) if *of == id);
            self.actions.retain(|action| !is_moot(action));
        }
        if let Some((conn, call)) = machine.call() {
            if self.cancel_call(conn, call) {
                self.handle_request_sent(id);
            }
        }
        let Some(machine) = self.exports.get_mut(&id) else {
            return;
        };
        // One that waits for its backoff tries nothing.
        let is_trying = machine.gate().is_none_or(|at| at <= self.now);
        end(machine, &endpoint);
        if let (true, Some(Err(error))) = (is_trying, machine.verdict()) {
            if error.is_timeout() {
                self.tell_attempt(id, Sign::Bad, Next::Settled);
            }
        }
        self.settle(id);
    }

    /// Whether the call's request may still reach the collector.
    fn cancel_call(&mut self, conn: ConnId, call: CallId) -> bool {
        let now = self.now;
        let Some(open) = self.open_mut(conn) else {
            return false;
        };
        open.end_call(now, call);
        open.is_dirty = true;
        open.session.cancel(now, call)
    }
}
