//! Dialing: names, addresses one after the other, and the endpoint's own backoff.

use super::Engine;
use super::connections::{Conn, Phase};
use crate::config::Lane;
use crate::endpoint::{Host, Name, Target};
use crate::export::machine::{LastFailure, Machine, Span};
use crate::export::{Action, ConnId};
use crate::protocol::Connection;
use crate::time::Instant;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// Failed addresses that an error names.
const ADDRESSES_NAMED_MAX: usize = 4;

/// Characters of a shell's reason that an error quotes.
const REASON_CHARS_MAX: usize = 256;

/// What is known of a lane's endpoint: the gate that its failures close.
#[derive(Default)]
pub(super) struct Dialer {
    /// No connection is tried before.
    gate: Instant,
    /// Dials and handshakes that failed, since the last that succeeded.
    failed: u32,
    /// Connections that ended without an answer, since the last answer.
    fruitless: u32,
    last: Option<LastFailure>,
}

/// The addresses of one connection, tried in turn.
pub(super) struct Attempt {
    targets: Vec<Target>,
    at: usize,
    /// The time of the present address, and when it is over.
    time: Duration,
    until: Instant,
    /// The addresses that failed, in words.
    failures: String,
}

impl Dialer {
    /// A connection is open and its handshake done.
    pub(super) fn handle_ready(&mut self) {
        self.failed = 0;
    }

    pub(super) fn handle_answered(&mut self) {
        self.fruitless = 0;
    }

    pub(super) fn last_failure(&self) -> Option<&LastFailure> {
        self.last.as_ref()
    }

    /// The last failure, while nothing has gone well since.
    pub(super) fn trouble(&self) -> Option<&LastFailure> {
        self.last
            .as_ref()
            .filter(|_| self.failed > 0 || self.fruitless > 0)
    }
}

impl Attempt {
    pub(super) fn target(&self) -> Target {
        self.targets[self.at].clone()
    }

    /// When the present address has had its time.
    pub(super) fn until(&self) -> Instant {
        self.until
    }
}

impl<P: Connection> Engine<P> {
    /// Opens a connection where exports wait for one, and gives up those for which none waits any more.
    pub(super) fn dial(&mut self) {
        (0..self.lanes.len()).for_each(|lane| self.dial_lane(lane));
    }

    fn dial_lane(&mut self, lane: usize) {
        if self.lanes[lane].waiting.is_empty() {
            // One that is added to others will be of use to the next exports.
            if !self.conns_of(lane).any(Conn::is_ready) {
                let is_needless = |conn: &Conn<P>| conn.lane == lane && conn.is_dialing();
                while let Some(at) = self.conns.iter().position(is_needless) {
                    self.close(at);
                }
            }
            return;
        }
        while self.wants_dial(lane) && self.now >= self.lanes[lane].dialer.gate {
            self.begin_dial(lane);
        }
    }

    /// Whether a further connection would help, gate aside. Until one has shown that the endpoint works, and what it can
    /// do, it is tried alone.
    fn wants_dial(&self, lane: usize) -> bool {
        let usable = self.conns_of(lane).filter(|conn| conn.is_usable()).count();
        let ready = self.conns_of(lane).filter(|conn| conn.is_ready()).count();
        let beginning = usable - ready;
        let waiting = self.lanes[lane].waiting.len();
        let beginning_max = if ready > 0 { waiting } else { waiting.min(1) };
        usable < self.connections_max(lane) && beginning < beginning_max
    }

    /// The lane's gate, while it is closed and no connection could take an export.
    pub(super) fn endpoint_gate(&self, lane: usize) -> Option<Instant> {
        let gate = self.lanes[lane].dialer.gate;
        (gate > self.now && !self.conns_of(lane).any(Conn::is_usable)).then_some(gate)
    }

    /// When a connection is tried again, where exports wait for that.
    pub(super) fn reconnect_at(&self, lane: usize) -> Option<Instant> {
        let state = &self.lanes[lane];
        (!state.waiting.is_empty() && self.wants_dial(lane)).then_some(state.dialer.gate)
    }

    /// What keeps the exports that wait from a connection, in words.
    pub(super) fn pending(&self, lane: usize) -> Option<LastFailure> {
        let settings = &self.settings.lanes[lane];
        self.conns_of(lane).find_map(|conn| match &conn.phase {
            Phase::Resolving { .. } => Some(LastFailure::pending(
                format!("resolve {}: no answer yet", dialed_name(settings)),
                "check the resolver",
            )),
            Phase::Connecting(attempt) => {
                let separator = if attempt.failures.is_empty() { "" } else { ", " };
                let (failures, target) = (&attempt.failures, dialed_target(settings, &attempt.target()));
                Some(LastFailure::pending(
                    format!("{failures}{separator}connect to {target}: no answer yet"),
                    "check the address, the network and firewalls",
                ))
            }
            Phase::Open(_) if conn.is_usable() && !conn.is_ready() => Some(LastFailure::pending(
                "the connection is open, but its handshake is not done yet",
                "check that the endpoint speaks the protocol that its URL says",
            )),
            Phase::Open(_) if conn.is_usable() => Some(LastFailure::pending(
                "the collector takes no further call on this connection now",
                "check how many calls it admits at a time, and that it answers them",
            )),
            Phase::Open(_) | Phase::Closing { .. } => None,
        })
    }

    fn begin_dial(&mut self, lane: usize) {
        let id = ConnId(self.next_number());
        let settings = &self.settings.lanes[lane];
        let (host, port) = dialed(settings);
        let given = &settings.addresses;
        let targets = match host {
            // They stand for the endpoint's name, which the proxy resolves itself.
            _ if !given.is_empty() && settings.proxy.is_none() => {
                given.iter().copied().map(Target::Tcp).collect()
            }
            Host::Ip(ip) => vec![Target::Tcp(SocketAddr::new(*ip, port))],
            Host::Unix(path) => vec![Target::Unix(path.clone())],
            Host::Name(host) => {
                let name = Name {
                    host: host.clone(),
                    port,
                };
                self.actions.push_back(Action::Resolve(id, name));
                let until = self.now + self.lane_timeout(lane);
                self.conns.push(Conn {
                    id,
                    lane,
                    phase: Phase::Resolving { until },
                });
                return;
            }
        };
        let phase = self.begin_connect(lane, id, targets);
        self.conns.push(Conn { id, lane, phase });
    }

    /// Asks for the first of the addresses, of which there is at least one.
    fn begin_connect(&mut self, lane: usize, id: ConnId, targets: Vec<Target>) -> Phase<P> {
        let time = self.connect_time(lane, targets.len());
        let attempt = Attempt {
            time,
            until: self.now + time,
            at: 0,
            failures: String::new(),
            targets,
        };
        self.actions.push_back(Action::Connect(id, attempt.target()));
        Phase::Connecting(attempt)
    }

    /// The time of an address: the connect timeout, or less where the addresses after it would otherwise get none within
    /// the latest deadline of those that wait for it.
    fn connect_time(&self, lane: usize, left: usize) -> Duration {
        let mut time = self.settings.lanes[lane].connect_timeout;
        let waiting = self.lanes[lane].waiting.iter();
        let deadlines = waiting.filter_map(|id| self.exports.get(id).map(Machine::deadline));
        if let (true, Some(deadline)) = (left > 1, deadlines.max()) {
            let share = (deadline - self.now) / u32::try_from(left).unwrap_or(u32::MAX);
            time = time.min(share);
        }
        time
    }

    pub(super) fn handle_resolved(&mut self, id: ConnId, addresses: &[SocketAddr]) {
        let Some(at) = self.position(id) else { return };
        if !matches!(self.conns[at].phase, Phase::Resolving { .. }) {
            return;
        }
        if addresses.is_empty() {
            return self.handle_resolve_failed(id, "the name has no address");
        }
        let phase = self.begin_connect(self.conns[at].lane, id, interleaved(addresses));
        self.conns[at].phase = phase;
    }

    pub(super) fn handle_resolve_failed(&mut self, id: ConnId, why: &str) {
        let Some(at) = self.position(id) else { return };
        if !matches!(self.conns[at].phase, Phase::Resolving { .. }) {
            return;
        }
        let name = dialed_name(&self.settings.lanes[self.conns[at].lane]);
        let text = format!("resolve {name}: {}", shortened(why));
        self.dial_failed(
            at,
            LastFailure::connect(text, "check the endpoint's host name and the resolver"),
        );
    }

    /// The address did not do; the next one is tried, or all waiting exports have failed to connect.
    pub(super) fn handle_connect_failed(&mut self, id: ConnId, why: &str) {
        let Some(at) = self.position(id) else { return };
        let lane = self.conns[at].lane;
        let (next, text) = {
            let Phase::Connecting(attempt) = &mut self.conns[at].phase else {
                return;
            };
            if attempt.at < ADDRESSES_NAMED_MAX {
                let separator = if attempt.at > 0 { ", " } else { "" };
                let target = dialed_target(&self.settings.lanes[lane], &attempt.target());
                attempt.failures += &format!("{separator}connect to {target}: {}", shortened(why));
            }
            attempt.at += 1;
            let left = attempt.targets.len() - attempt.at;
            if left == 0 && attempt.at > ADDRESSES_NAMED_MAX {
                attempt.failures += &format!(", and {} more", attempt.at - ADDRESSES_NAMED_MAX);
            }
            ((left > 0).then_some(left), core::mem::take(&mut attempt.failures))
        };
        let Some(left) = next else {
            let advice = match &self.settings.lanes[lane].proxy {
                Some(_) => "check that the proxy listens there",
                None => "check that a collector listens there",
            };
            return self.dial_failed(at, LastFailure::connect(text, advice));
        };
        let (now, time) = (self.now, self.connect_time(lane, left));
        if let Phase::Connecting(attempt) = &mut self.conns[at].phase {
            attempt.failures = text;
            attempt.time = time;
            attempt.until = now + time;
            self.actions.push_back(Action::Connect(id, attempt.target()));
        }
    }

    /// The time of the present address is over.
    pub(super) fn handle_connect_timeout(&mut self, id: ConnId) {
        let Some(at) = self.position(id) else { return };
        let Phase::Connecting(attempt) = &self.conns[at].phase else {
            return;
        };
        let why = format!("no connection within {}", Span(attempt.time));
        self.handle_connect_failed(id, &why);
    }

    pub(super) fn handle_resolve_timeout(&mut self, id: ConnId) {
        let Some(at) = self.position(id) else { return };
        let time = self.lane_timeout(self.conns[at].lane);
        let why = format!("no answer within {}", Span(time));
        self.handle_resolve_failed(id, &why);
    }

    /// A dial failed: it is closed, the lane's gate with it, and every waiting export has failed an attempt, unless another
    /// connection may still take it.
    pub(super) fn dial_failed(&mut self, at: usize, failure: LastFailure) {
        let lane = self.conns[at].lane;
        self.close(at);
        self.stats.last_error = Some((**failure.message()).to_owned());
        let next = self.close_gate(lane, failure.clone(), false);
        if !self.conns_of(lane).any(Conn::is_usable) {
            self.fail_waiting(lane, &failure, next);
        }
    }

    /// Closes the lane's gate for as long as its failures ask for, and tells until when. A connection that was open
    /// may have been a stale one: the first of these leaves the gate open.
    pub(super) fn close_gate(&mut self, lane: usize, failure: LastFailure, was_connected: bool) -> Instant {
        let latest = self.lanes[lane]
            .waiting
            .last()
            .and_then(|id| self.exports.get(id));
        let left = latest.map(|machine| machine.deadline() - self.now);
        let dialer = &mut self.lanes[lane].dialer;
        let count = if was_connected {
            dialer.fruitless = dialer.fruitless.saturating_add(1);
            dialer.fruitless - 1
        } else {
            dialer.failed = dialer.failed.saturating_add(1);
            dialer.failed
        };
        dialer.last = Some(failure);
        if count > 0 {
            let policy = &self.settings.retry;
            let mut wait = policy.backoff(count, None, &mut self.rng);
            // The export that may wait longest is not to miss its deadline for the endpoint's backoff.
            if let Some(left) = left.filter(|left| *left <= wait) {
                wait = policy.shortened(left).unwrap_or(wait);
            }
            dialer.gate = dialer.gate.max(self.now + wait);
        }
        dialer.gate
    }
}

/// Where a lane's connections are dialed to: its proxy, or its endpoint.
fn dialed(lane: &Lane) -> (&Host, u16) {
    match &lane.proxy {
        Some(proxy) => (&proxy.host, proxy.port),
        None => (lane.endpoint.host(), lane.endpoint.port()),
    }
}

/// What is resolved, in words.
fn dialed_name(lane: &Lane) -> String {
    match (&lane.proxy, dialed(lane)) {
        (Some(_), (Host::Name(name), port)) => format!("proxy {name}:{port}"),
        _ => (**lane.endpoint.authority()).to_owned(),
    }
}

/// What is connected to, in words.
fn dialed_target(lane: &Lane, target: &Target) -> String {
    match (&lane.proxy, dialed(lane)) {
        (Some(_), (Host::Name(name), port)) => format!("proxy {name}:{port} at {target}"),
        (Some(_), _) => format!("proxy {target}"),
        (None, _) => format!("{target}"),
    }
}

/// The addresses of both families by turns, in the order of each, beginning with the family that the resolver put
/// first (RFC 8305, section 4).
fn interleaved(addresses: &[SocketAddr]) -> Vec<Target> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let mut same = addresses.iter().filter(|address| address.is_ipv6() == first);
    let mut other = addresses.iter().filter(|address| address.is_ipv6() != first);
    let mut all = Vec::with_capacity(addresses.len().min(ADDRESSES_MAX));
    while all.len() < ADDRESSES_MAX {
        let (a, b) = (same.next(), other.next());
        if a.is_none() && b.is_none() {
            break;
        }
        all.extend(a.into_iter().chain(b).copied().map(Target::Tcp));
    }
    all.truncate(ADDRESSES_MAX);
    all
}

fn shortened(reason: &str) -> &str {
    let end = reason.char_indices().nth(REASON_CHARS_MAX);
    &reason[..end.map_or(reason.len(), |(at, _)| at)]
}
