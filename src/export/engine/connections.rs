//! Connections: from the resolving of a name to the close.

use super::Engine;
use super::dial::Attempt;
use crate::config::Lane;
use crate::endpoint::Scheme;
use crate::export::machine::{AttemptEnd, LastFailure, Span};
use crate::export::{Action, ConnId, ExportId};
use crate::protocol::{CallEnd, CallId, Connection, Event};
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use bytes::Bytes;
use core::time::Duration;
use fastrand::Rng;

/// Connections of a lane that drain with calls on them, or twice as many as take calls, if that is more. The oldest is
/// closed when there are more: a server that drains at once and never finishes would pile them up.
const DRAINING_MAX: usize = 8;

/// Connections that are over and only write their last bytes.
const CLOSING_MAX: usize = 8;

/// How long a connection that is over may take to write its last bytes.
const LINGER: Duration = Duration::from_secs(1);

/// One connection.
pub(super) struct Conn<P> {
    pub(super) id: ConnId,
    /// Where it leads.
    pub(super) lane: usize,
    pub(super) phase: Phase<P>,
}

/// How far a connection has come.
pub(super) enum Phase<P> {
    /// Its name is being resolved, at most until this time.
    Resolving { until: Instant },
    /// Its addresses are tried one after the other.
    Connecting(Attempt),
    /// Its socket is open.
    Open(Box<Open<P>>),
    /// It is over and writes its last bytes, at most until this time.
    Closing { unsent: usize, until: Instant },
}

/// A connection whose socket is open.
pub(super) struct Open<P> {
    pub(super) session: P,
    pub(super) calls: BTreeMap<CallId, ExportId>,
    /// Bytes handed to the shell that the socket has not taken.
    unsent: usize,
    /// Something went into the session since it was last drained.
    pub(super) is_dirty: bool,
    /// It was able to take a call once: its handshake is done.
    is_ready: bool,
    /// It carries one call after the other, as it showed when it was ready.
    is_serial: bool,
    /// A call was started on it.
    is_used: bool,
    /// The peer answered a call.
    is_answered: bool,
    /// When the first call was started after the peer's last byte.
    silent_since: Option<Instant>,
    /// The peer had not said a byte since that call was started, up to the last fact.
    was_silent: bool,
    /// When its last call began or ended; before that, when it was opened.
    pub(super) used_at: Instant,
    /// When its handshake has had its time.
    ready_by: Instant,
    /// When it is as old as it may get.
    age_at: Option<Instant>,
    /// Why it takes no further call, though its session would.
    pub(super) leaving: Option<Leaving>,
    over: Option<Over>,
}

/// Why a connection is left by this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// A call expired in a long silence: it may be dead.
    Silent,
    /// It is as old as it may get.
    Old,
    /// Another one is enough for the calls that there are.
    Idle,
    /// One that was used after it turned out to be closed by the peer.
    Stale,
}

impl Leaving {
    fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "the collector said nothing for too long",
            Self::Old => "the connection reached its maximum age",
            Self::Idle => "the connection was idle for too long",
            Self::Stale => "the connection is probably closed by the collector",
        }
    }

    /// Whether nothing is known against the endpoint.
    fn is_upkeep(self) -> bool {
        self != Self::Silent
    }
}

/// Why a connection is over.
struct Over {
    why: String,
    /// The socket still takes bytes.
    can_write: bool,
    /// No other connection would fare better.
    is_refused: bool,
}

impl Over {
    fn new(why: impl Into<String>, can_write: bool) -> Self {
        Self {
            why: why.into(),
            can_write,
            is_refused: false,
        }
    }
}

impl<P: Connection> Conn<P> {
    /// Whether a call can be started on it now.
    pub(super) fn can_start(&self) -> bool {
        match &self.phase {
            Phase::Open(open) => open.leaving.is_none() && open.over.is_none() && open.session.can_start(),
            _ => false,
        }
    }

    /// Whether its socket is open and its handshake done, and it takes calls now or later.
    pub(super) fn is_ready(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if open.is_ready) && self.is_usable()
    }

    /// When it was last used, if it takes calls and has none.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Open(open) if open.calls.is_empty() && self.is_ready() => Some(open.used_at),
            _ => None,
        }
    }

    /// Whether it takes calls now or later.
    pub(super) fn is_usable(&self) -> bool {
        match &self.phase {
            Phase::Resolving { .. } | Phase::Connecting(_) => true,
            Phase::Open(open) => open.over.is_none() && !open.is_ending(),
            Phase::Closing { .. } => false,
        }
    }

    /// Whether its socket is still to be opened.
    pub(super) fn is_dialing(&self) -> bool {
        matches!(self.phase, Phase::Resolving { .. } | Phase::Connecting(_))
    }

    fn is_draining(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if open.over.is_none() && open.is_ending())
    }

    fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }

    fn is_over(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if open.over.is_some())
    }
}

impl<P: Connection> Open<P> {
    /// Notes that a call is started.
    pub(super) fn handle_start(&mut self, now: Instant) {
        self.is_dirty = true;
        self.is_used = true;
        self.used_at = now;
        self.silent_since.get_or_insert(now);
    }

    /// Forgets a call that is over, and tells whose it was.
    pub(super) fn end_call(&mut self, now: Instant, call: CallId) -> Option<ExportId> {
        self.used_at = now;
        self.calls.remove(&call)
    }

    /// When its handshake has had its time, while it is not done.
    pub(super) fn handshake_until(&self) -> Option<Instant> {
        (!self.is_ready && self.over.is_none()).then_some(self.ready_by)
    }

    /// When it will be as old as it may get.
    pub(super) fn age_at(&self) -> Option<Instant> {
        self.age_at
            .filter(|_| self.leaving.is_none() && self.over.is_none())
    }

    /// Takes no further call once it is as old as it may get.
    pub(super) fn fire_age(&mut self, now: Instant) {
        if self.age_at().is_some_and(|at| at <= now) {
            self.leaving = Some(Leaving::Old);
        }
    }

    /// Whether it only finishes the calls that it has.
    fn is_ending(&self) -> bool {
        self.leaving.is_some() || self.session.is_draining()
    }

    /// Whether the peer had closed it before the call that is now lost: it carried one before, and its end is the first
    /// that was heard since.
    fn was_stale(&self) -> bool {
        let is_over = self.over.is_some() || self.session.is_draining();
        is_over && self.is_answered && self.was_silent && self.is_serial
    }
}

impl<P: Connection> Engine<P> {
    pub(super) fn handle_connected(&mut self, id: ConnId) {
        let Some(at) = self.position(id) else { return };
        let Phase::Connecting(attempt) = &self.conns[at].phase else {
            return;
        };
        let target = attempt.target();
        let lane = self.conns[at].lane;
        let settings = &self.settings.lanes[lane];
        match P::open(settings, self.now) {
            Ok(session) => {
                let ready_by = self.now + settings.connect_timeout;
                let age_at = settings
                    .max_connection_age
                    .map(|age| self.now + jittered(age, &mut self.rng));
                self.stats.connections += 1;
                self.conns[at].phase = Phase::Open(Box::new(Open {
                    session,
                    calls: BTreeMap::new(),
                    unsent: 0,
                    is_dirty: true,
                    is_ready: false,
                    is_serial: false,
                    is_used: false,
                    is_answered: false,
                    silent_since: None,
                    was_silent: false,
                    used_at: self.now,
                    ready_by,
                    age_at,
                    leaving: None,
                    over: None,
                }));
            }
            Err(why) => self.dial_failed(
                at,
                LastFailure::connect(
                    alloc::format!("open a session with {target}: {why}"),
                    "check the exporter's settings",
                ),
            ),
        }
    }

    pub(super) fn handle_input(&mut self, id: ConnId, bytes: &[u8]) {
        let now = self.now;
        let withheld = self.withheld(id);
        if let Some(open) = self.open_mut(id) {
            if !bytes.is_empty() {
                open.was_silent = open.silent_since.take().is_some();
            }
            open.is_dirty = true;
            if withheld == 0 || withheld < open.unsent {
                open.session.handle_input(now, bytes);
            } else if open.session.handle_early_input(now, bytes) {
                open.over = Some(Over::new("the peer sent bytes that no request asked for", false));
                let is_withheld =
                    |action: &Action| matches!(action, Action::Transmit(conn, _) if *conn == id);
                self.actions.retain(|action| !is_withheld(action));
            }
        }
    }

    /// Bytes for a socket that the shell has not been given yet.
    fn withheld(&self, id: ConnId) -> usize {
        let of_conn = |action: &Action| match action {
            Action::Transmit(conn, pieces) if *conn == id => pieces.iter().map(Bytes::len).sum(),
            _ => 0,
        };
        self.actions.iter().map(of_conn).sum()
    }

    /// The socket took bytes; a count beyond what it was given is cut.
    pub(super) fn handle_sent(&mut self, id: ConnId, count: usize) {
        let now = self.now;
        let Some(at) = self.position(id) else { return };
        match &mut self.conns[at].phase {
            Phase::Open(open) => {
                let count = count.min(open.unsent);
                if count > 0 {
                    open.unsent -= count;
                    open.session.handle_sent(now, count);
                    open.is_dirty = true;
                }
            }
            Phase::Closing { unsent, .. } => {
                *unsent = unsent.saturating_sub(count);
                if *unsent == 0 {
                    self.close(at);
                }
            }
            Phase::Resolving { .. } | Phase::Connecting(_) => {}
        }
    }

    /// The peer closed its side, or the socket failed.
    pub(super) fn handle_gone(&mut self, id: ConnId, why: &str) {
        let now = self.now;
        let Some(at) = self.position(id) else { return };
        match &mut self.conns[at].phase {
            Phase::Open(open) => {
                open.was_silent = open.silent_since.is_some();
                open.session.handle_eof(now, why);
                open.is_dirty = true;
                open.over = Some(Over::new(why, false));
            }
            Phase::Closing { .. } => self.close(at),
            Phase::Connecting(_) => self.handle_connect_failed(id, why),
            Phase::Resolving { .. } => {}
        }
    }

    /// Takes bytes and events out of every session that something went into.
    pub(super) fn drain_sessions(&mut self) {
        for at in 0..self.conns.len() {
            self.drain_session(at);
        }
    }

    fn drain_session(&mut self, at: usize) {
        let id = self.conns[at].id;
        loop {
            let Phase::Open(open) = &mut self.conns[at].phase else {
                return;
            };
            if !open.is_dirty {
                return;
            }
            while let Some(bytes) = open.session.poll_transmit() {
                let len: usize = bytes.iter().map(Bytes::len).sum();
                if len > 0 {
                    open.unsent += len;
                    self.actions.push_back(Action::Transmit(id, bytes));
                }
            }
            match open.session.poll_event() {
                Some(event) => self.handle_event(at, event),
                // Nothing to transmit and no event: the session is drained.
                None => {
                    open.is_dirty = false;
                    self.note_ready(at);
                }
            }
        }
    }

    /// Notes that the handshake of a connection is done once it is able to take a call, and what it can do.
    pub(super) fn note_ready(&mut self, at: usize) {
        let Conn { lane, phase, .. } = &mut self.conns[at];
        if let Phase::Open(open) = phase {
            if !open.is_ready && open.session.can_start() {
                open.is_ready = true;
                open.is_serial = !open.session.is_multiplexed();
                let lane = &mut self.lanes[*lane];
                lane.is_multiplexed = !open.is_serial;
                lane.dialer.handle_ready();
                if self.events.is_on() {
                    let (peer, lane) = (open.session.peer(), self.conns[at].lane);
                    self.tell_connected(lane, &peer);
                }
            }
        }
    }

    fn handle_event(&mut self, at: usize, event: Event) {
        let (now, lane) = (self.now, self.conns[at].lane);
        let Phase::Open(open) = &mut self.conns[at].phase else {
            return;
        };
        match event {
            Event::RequestSent(call) => {
                if let Some(&id) = open.calls.get(&call) {
                    self.handle_request_sent(id);
                }
            }
            Event::Ended(call, end) => {
                let Some(id) = open.end_call(now, call) else {
                    return;
                };
                match end {
                    CallEnd::Answered(_) => {
                        open.is_answered = true;
                        self.lanes[lane].dialer.handle_answered();
                    }
                    CallEnd::Unanswered(failure) if failure.is_retryable && open.was_stale() => {
                        self.leave_idle(lane);
                        return self.end_attempt(id, AttemptEnd::Stale(failure));
                    }
                    CallEnd::Expired { .. } => {
                        let conn = self.conns[at].id;
                        self.suspect(conn);
                    }
                    CallEnd::Unprocessed(_) | CallEnd::Unanswered(_) => {}
                }
                self.end_attempt(id, AttemptEnd::Call(end));
            }
            // The session is asked by `is_draining`; a drain in order is no failure.
            Event::Draining(_) => {}
            Event::TooManyPings => {
                if let Some(keepalive) =
                    &mut alloc::sync::Arc::make_mut(&mut self.settings).lanes[lane].keepalive
                {
                    keepalive.interval = keepalive.interval.saturating_mul(2);
                }
            }
            Event::Warned(what) => {
                self.tell_warning(lane, &what);
                self.stats.last_error = Some(what);
            }
            Event::Refused(why) => {
                let can_write = open.over.as_ref().is_none_or(|over| over.can_write);
                open.over = Some(Over {
                    why,
                    can_write,
                    is_refused: true,
                });
            }
            Event::Closed(why) => match &mut open.over {
                // Of a connection that was never ready, the session knows better what came in between.
                Some(over) if !open.is_ready => over.why = why,
                Some(_) => {}
                none => *none = Some(Over::new(why, true)),
            },
        }
    }

    /// A call expired on a connection. When the peer was silent for longer than a connection may take to open, it may be
    /// gone without a trace: further calls go to a new connection, and this one ends with its calls.
    pub(super) fn suspect(&mut self, id: ConnId) {
        let now = self.now;
        let Some(at) = self.position(id) else { return };
        let patience = self.settings.lanes[self.conns[at].lane].connect_timeout;
        if let Phase::Open(open) = &mut self.conns[at].phase {
            if open.silent_since.is_some_and(|since| now - since >= patience) {
                open.leaving = Some(Leaving::Silent);
            }
        }
    }

    /// The handshake of a connection takes too long: what it has begun is dropped.
    pub(super) fn handle_handshake_timeout(&mut self, at: usize) {
        let time = Span(self.settings.lanes[self.conns[at].lane].connect_timeout);
        let why = alloc::format!("the connection opened, but its handshake was not done within {time}");
        self.handle_gone(self.conns[at].id, &why);
    }

    /// Ends the connections that are over, those that drained to the end, and those that are too many.
    pub(super) fn reap(&mut self) {
        (0..self.lanes.len()).for_each(|lane| self.finish_drained(lane));
        while let Some(at) = self.conns.iter().position(Conn::is_over) {
            self.retire(at);
        }
        while self.conns.iter().filter(|conn| conn.is_closing()).count() > CLOSING_MAX {
            let oldest = self.conns.iter().position(Conn::is_closing);
            oldest.into_iter().for_each(|at| self.close(at));
        }
    }

    fn finish_drained(&mut self, lane: usize) {
        let draining_max = DRAINING_MAX.max(2 * self.connections_max(lane));
        let mut draining = self.conns_of(lane).filter(|conn| conn.is_draining()).count();
        for at in 0..self.conns.len() {
            if self.conns[at].lane != lane || !self.conns[at].is_draining() {
                continue;
            }
            let now = self.now;
            let Phase::Open(open) = &mut self.conns[at].phase else {
                continue;
            };
            let why = if open.calls.is_empty() {
                open.leaving.map_or("the connection drained", Leaving::as_str)
            } else if draining > draining_max {
                draining -= 1;
                "too many connections drain at the same time"
            } else {
                continue;
            };
            // What its calls have left to write must not reach a collector that they are told not to have reached.
            let can_write = open.calls.is_empty();
            open.session.handle_eof(now, why);
            open.is_dirty = true;
            open.over = Some(Over::new(why, can_write));
            self.drain_session(at);
        }
    }

    /// Ends a connection that is over: its calls, what its end says about the endpoint, and its socket.
    fn retire(&mut self, at: usize) {
        let (id, lane) = (self.conns[at].id, self.conns[at].lane);
        let closing = Phase::Closing {
            unsent: 0,
            until: self.now + LINGER,
        };
        let Phase::Open(mut open) = core::mem::replace(&mut self.conns[at].phase, closing) else {
            return;
        };
        let Some(over) = open.over.take() else { return };
        let advice = if over.is_refused {
            "no other attempt would fare better until then"
        } else {
            advice(&self.settings.lanes[lane], open.is_ready || open.is_used)
        };
        let failure = LastFailure::connect(over.why.as_str(), advice);
        let is_upkeep = open.leaving.is_some_and(Leaving::is_upkeep);
        let is_wanted = open.is_used || !self.lanes[lane].waiting.is_empty();
        if !open.is_answered && !is_upkeep && is_wanted {
            let was_connected = open.is_ready || open.is_used;
            self.stats.last_error = Some(over.why.clone());
            let next = self.close_gate(lane, failure.clone(), was_connected && !over.is_refused);
            // Another connection of the lane may still take those that wait.
            let is_other_usable = self.conns_of(lane).any(Conn::is_usable);
            match is_other_usable {
                false if over.is_refused => self.refuse_waiting(lane, &failure),
                false if !was_connected => self.fail_waiting(lane, &failure, next),
                _ => {}
            }
        }
        for (_, export) in core::mem::take(&mut open.calls) {
            self.handle_orphan(export, &over.why);
        }
        if let Some(at) = self.position(id) {
            match &mut self.conns[at].phase {
                Phase::Closing { unsent, .. } if over.can_write && open.unsent > 0 => *unsent = open.unsent,
                _ => self.close(at),
            }
        }
    }

    /// Whether another round of the pump would change anything.
    pub(super) fn can_move(&self) -> bool {
        let is_unfinished = |conn: &Conn<P>| match &conn.phase {
            Phase::Open(open) => open.is_dirty || open.over.is_some(),
            _ => false,
        };
        let has_work = |conn: &Conn<P>| !self.lanes[conn.lane].waiting.is_empty() && conn.can_start();
        self.conns
            .iter()
            .any(|conn| is_unfinished(conn) || has_work(conn))
    }

    /// Closes a connection and forgets it.
    pub(super) fn close(&mut self, at: usize) {
        let conn = self.conns.remove(at);
        self.actions.push_back(Action::Close(conn.id));
    }

    pub(super) fn close_all(&mut self) {
        while !self.conns.is_empty() {
            self.close(0);
        }
    }

    pub(super) fn position(&self, id: ConnId) -> Option<usize> {
        self.conns.iter().position(|conn| conn.id == id)
    }

    pub(super) fn open_mut(&mut self, id: ConnId) -> Option<&mut Open<P>> {
        let at = self.position(id)?;
        match &mut self.conns[at].phase {
            Phase::Open(open) => Some(open),
            _ => None,
        }
    }
}

/// What to do about a connection that serves no call.
fn advice(lane: &Lane, was_connected: bool) -> &'static str {
    if !was_connected && lane.endpoint.scheme() == Scheme::Https {
        "check the certificates and the TLS settings of both sides"
    } else if !was_connected && lane.proxy.is_some() {
        "check the proxy's settings"
    } else if lane.is_grpc {
        "check that the endpoint speaks OTLP over gRPC"
    } else {
        "check that the endpoint speaks OTLP over HTTP"
    }
}

/// A time within a tenth of `time`, so that connections that were opened together do not end together.
fn jittered(time: Duration, rng: &mut Rng) -> Duration {
    (time / 1_000).saturating_mul(rng.u32(900..=1_100))
}
