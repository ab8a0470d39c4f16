//! Connections: from the resolving of a name to the close.

use super::Engine;
use super::dial::Attempt;
use crate::export::machine::{AttemptEnd, LastFailure};
use crate::export::{Action, ConnId, ExportId};
use crate::protocol::{CallEnd, CallId, Connection, Event};
use crate::time::Instant;
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use bytes::Bytes;
use core::time::Duration;

/// Connections that drain with calls on them. The oldest is closed when there are more: a server that drains at once
/// and never finishes would pile them up.
const DRAINING_MAX: usize = 8;

/// Connections that are over and only write their last bytes.
const CLOSING_MAX: usize = 8;

/// How long a connection that is over may take to write its last bytes.
const LINGER: Duration = Duration::from_secs(1);

/// One connection.
pub(super) struct Conn<P> {
    pub(super) id: ConnId,
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
    /// A call was started on it.
    is_used: bool,
    /// The peer answered a call.
    is_answered: bool,
    /// When the first call was started after the peer's last byte.
    silent_since: Option<Instant>,
    /// A call expired in a long silence: the connection may be dead, and takes no further call.
    is_suspect: bool,
    over: Option<Over>,
}

/// Why a connection is over.
struct Over {
    why: String,
    /// The socket still takes bytes.
    can_write: bool,
}

impl<P: Connection> Conn<P> {
    /// Whether a call can be started on it now.
    pub(super) fn can_start(&self) -> bool {
        match &self.phase {
            Phase::Open(open) => !open.is_suspect && open.over.is_none() && open.session.can_start(),
            _ => false,
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
        self.silent_since.get_or_insert(now);
    }

    /// Whether it only finishes the calls that it has.
    fn is_ending(&self) -> bool {
        self.is_suspect || self.session.is_draining()
    }
}

impl<P: Connection> Engine<P> {
    pub(super) fn handle_connected(&mut self, id: ConnId) {
        let Some(at) = self.position(id) else { return };
        let Phase::Connecting(attempt) = &self.conns[at].phase else {
            return;
        };
        let target = attempt.target();
        match P::open(&self.settings.lanes[0], self.now) {
            Ok(session) => {
                self.dialer.handle_connected();
                self.stats.connections += 1;
                self.conns[at].phase = Phase::Open(Box::new(Open {
                    session,
                    calls: BTreeMap::new(),
                    unsent: 0,
                    is_dirty: true,
                    is_ready: false,
                    is_used: false,
                    is_answered: false,
                    silent_since: None,
                    is_suspect: false,
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
        if let Some(open) = self.open_mut(id) {
            if !bytes.is_empty() {
                open.silent_since = None;
            }
            open.session.handle_input(now, bytes);
            open.is_dirty = true;
        }
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
                open.session.handle_eof(now, why);
                open.is_dirty = true;
                open.over = Some(Over {
                    why: why.to_owned(),
                    can_write: false,
                });
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
                    open.is_ready |= open.session.can_start();
                }
            }
        }
    }

    fn handle_event(&mut self, at: usize, event: Event) {
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
                let Some(id) = open.calls.remove(&call) else {
                    return;
                };
                match end {
                    CallEnd::Answered(_) => {
                        open.is_answered = true;
                        self.dialer.handle_answered();
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
            Event::Closed(why) => {
                open.over.get_or_insert(Over { why, can_write: true });
            }
        }
    }

    /// A call expired on a connection. When the peer was silent for longer than a connection may take to open, it may be
    /// gone without a trace: further calls go to a new connection, and this one ends with its calls.
    pub(super) fn suspect(&mut self, id: ConnId) {
        let (now, patience) = (self.now, self.settings.lanes[0].connect_timeout);
        if let Some(open) = self.open_mut(id) {
            open.is_suspect |= open.silent_since.is_some_and(|since| now - since >= patience);
        }
    }

    /// Ends the connections that are over, those that drained to the end, and those that are too many.
    pub(super) fn reap(&mut self) {
        self.finish_drained();
        while let Some(at) = self.conns.iter().position(Conn::is_over) {
            self.retire(at);
        }
        while self.conns.iter().filter(|conn| conn.is_closing()).count() > CLOSING_MAX {
            let oldest = self.conns.iter().position(Conn::is_closing);
            oldest.into_iter().for_each(|at| self.close(at));
        }
    }

    fn finish_drained(&mut self) {
        let mut draining = self.conns.iter().filter(|conn| conn.is_draining()).count();
        for at in 0..self.conns.len() {
            if !self.conns[at].is_draining() {
                continue;
            }
            let now = self.now;
            let Phase::Open(open) = &mut self.conns[at].phase else {
                continue;
            };
            let why = if open.calls.is_empty() && open.is_suspect {
                "the collector said nothing for too long"
            } else if open.calls.is_empty() {
                "the connection drained"
            } else if draining > DRAINING_MAX {
                draining -= 1;
                "too many connections drain at the same time"
            } else {
                continue;
            };
            // What its calls have left to write must not reach a collector that they are told not to have reached.
            let can_write = open.calls.is_empty();
            open.session.handle_eof(now, why);
            open.is_dirty = true;
            open.over = Some(Over {
                why: why.to_owned(),
                can_write,
            });
            self.drain_session(at);
        }
    }

    /// Ends a connection that is over: its calls, what its end says about the endpoint, and its socket.
    fn retire(&mut self, at: usize) {
        let id = self.conns[at].id;
        let closing = Phase::Closing {
            unsent: 0,
            until: self.now + LINGER,
        };
        let Phase::Open(mut open) = core::mem::replace(&mut self.conns[at].phase, closing) else {
            return;
        };
        let Some(over) = open.over.take() else { return };
        let failure =
            LastFailure::connect(over.why.as_str(), "check that the endpoint speaks OTLP over gRPC");
        if !open.is_answered && (open.is_used || !self.waiting.is_empty()) {
            let was_connected = open.is_ready || open.is_used;
            self.stats.last_error = Some(over.why.clone());
            let next = self.close_gate(failure.clone(), was_connected);
            if !was_connected {
                self.fail_waiting(&failure, next);
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
        self.conns.iter().any(is_unfinished)
            || (!self.waiting.is_empty() && self.conns.iter().any(Conn::can_start))
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
