//! The network itself: who listens, who is connected, what is on its way, and what happens next.

use super::link::{Direction, Link, Parcel};
use super::trace::{NetworkEventKind as Kind, Trace};
use crate::testing::collector::{Accepting, Builder, Fate, ServerSession};
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::{IpAddr, SocketAddr};
use core::task::Waker;
use fastrand::Rng;
use std::io;

/// Bytes that a collector says and that were not read, above which it is told nothing more.
const UNREAD_BYTES_MAX: usize = 1 << 20;

pub(super) struct State {
    pub(super) rng: Rng,
    pub(super) hosts: Vec<Host>,
    pub(super) names: BTreeMap<Arc<str>, Vec<IpAddr>>,
    pub(super) dials: BTreeMap<u64, Dial>,
    pub(super) connections: BTreeMap<u64, Connection>,
    pub(super) next_dial: u64,
    next_connection: u64,
    pub(super) trace: Trace,
}

/// A collector on the network.
pub(super) struct Host {
    pub(super) address: SocketAddr,
    pub(super) builder: Builder,
    pub(super) link: Link,
    pub(super) accepting: Accepting,
    pub(super) is_paused: bool,
    /// Nothing gets through to it, or from it.
    pub(super) is_cut_off: bool,
    /// Who waits for something to arrive.
    pub(super) watchers: Vec<Waker>,
}

/// An attempt to connect.
pub(super) struct Dial {
    pub(super) to: SocketAddr,
    pub(super) at: Instant,
    pub(super) result: Option<io::Result<u64>>,
    pub(super) waker: Option<Waker>,
}

pub(super) struct Connection {
    host: usize,
    /// Nothing while it is told something, and once it is over.
    session: Option<Box<ServerSession>>,
    home: Home,
    /// The collector has not said its first words yet.
    is_new: bool,
    /// It is to drain, and was not told yet.
    pub(super) must_drain: bool,
    pub(super) up: Direction,
    pub(super) down: Direction,
    /// The exporter's socket.
    pub(super) socket: End,
    /// What has arrived there.
    pub(super) arrived: VecDeque<Bytes>,
    pub(super) arrived_bytes: usize,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

/// What the collector knows of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    /// It serves it.
    Serving,
    /// It has said everything, and throws away what still comes.
    Closed,
    /// It has forgotten it without a word: what comes is answered with a reset.
    Forgotten,
}

/// What an exporter's socket has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Open,
    /// The collector has said everything.
    Eof,
    Reset,
    /// The exporter has dropped it.
    Dropped,
}

/// What happens next, in the order in which it does where the time is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Dial(u64),
    Arrival(u64),
    Told(u64, Word),
}

/// What a session is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Word {
    /// It is connected.
    Hello,
    /// What the exporter sent.
    Input,
    /// A time that it asked for has come.
    Timeout,
    /// It is to drain.
    Drain,
}

impl State {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            rng,
            hosts: Vec::new(),
            names: BTreeMap::new(),
            dials: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_dial: 0,
            next_connection: 0,
            trace: Trace::default(),
        }
    }

    pub(super) fn host_at(&self, address: SocketAddr) -> Option<&Host> {
        self.hosts.iter().find(|host| host.address == address)
    }

    /// What is due first, and when.
    pub(super) fn next_event(&self) -> Option<(Instant, Event)> {
        let dials = self.dials.iter().filter_map(|(id, dial)| {
            let is_cut_off = self.host_at(dial.to).is_some_and(|host| host.is_cut_off);
            (dial.result.is_none() && !is_cut_off).then_some((dial.at, Event::Dial(*id)))
        });
        let connections = self.connections.iter().flat_map(|(id, connection)| {
            let [arrival, told] = connection.due(*id, &self.hosts[connection.host]);
            arrival.into_iter().chain(told)
        });
        dials.chain(connections).min()
    }

    /// An attempt to connect arrives where it goes.
    pub(super) fn dial(&mut self, now: Instant, id: u64) -> Option<Waker> {
        let to = self.dials.get(&id)?.to;
        let host = self.hosts.iter().position(|host| host.address == to);
        let accepting = host.map_or(Accepting::Refuse, |host| self.hosts[host].accepting);
        let result = match host {
            Some(host) if accepting != Accepting::Refuse => Ok(self.open(now, host)),
            _ => {
                self.trace.add(now, Kind::Refused { to });
                let known = host.is_some();
                let why = if known {
                    "it refuses"
                } else {
                    "nobody listens there"
                };
                let text = alloc::format!("connection refused by the simulated network: {why}");
                Err(io::Error::new(io::ErrorKind::ConnectionRefused, text))
            }
        };
        let dial = self.dials.get_mut(&id)?;
        dial.result = Some(result);
        dial.waker.take()
    }

    fn open(&mut self, now: Instant, at: usize) -> u64 {
        let id = self.next_connection;
        self.next_connection += 1;
        let to = self.hosts[at].address;
        self.trace.add(now, Kind::Opened { connection: id, to });
        let open = self.open_connections(at);
        let host = &self.hosts[at];
        let is_served = host.accepting == Accepting::Serve && open < host.builder.connections_max;
        let mut connection = Connection {
            host: at,
            session: is_served.then(|| Box::new(host.builder.session(id))),
            home: if is_served { Home::Serving } else { Home::Closed },
            is_new: is_served,
            must_drain: false,
            up: Direction::default(),
            down: Direction::default(),
            socket: End::Open,
            arrived: VecDeque::new(),
            arrived_bytes: 0,
            reader: None,
            writer: None,
        };
        if !is_served {
            let link = &host.link;
            connection.down.send_end(now, link, &mut self.rng, Parcel::Fin);
        }
        self.connections.insert(id, connection);
        id
    }

    /// Connections that the host knows of.
    pub(super) fn open_connections(&self, host: usize) -> usize {
        self.served(host).len()
    }

    /// Their numbers.
    pub(super) fn served(&self, host: usize) -> Vec<u64> {
        let of = self.connections.iter();
        of.filter(|(_, connection)| connection.host == host && connection.home == Home::Serving)
            .map(|(id, _)| *id)
            .collect()
    }

    /// What the exporter sends.
    pub(super) fn send_up(&mut self, now: Instant, id: u64, bytes: Bytes) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let link = &self.hosts[connection.host].link;
            connection.up.send(now, link, &mut self.rng, bytes);
        }
    }

    /// Bytes that the exporter's socket takes.
    pub(super) fn room_up(&self, id: u64) -> usize {
        let connection = self.connections.get(&id);
        connection.map_or(0, |connection| {
            connection.up.room(&self.hosts[connection.host].link)
        })
    }

    /// The exporter drops its socket.
    pub(super) fn hang_up(&mut self, now: Instant, id: u64) -> [Option<Waker>; 2] {
        let Some(connection) = self.connections.get_mut(&id) else {
            return [None, None];
        };
        let was_reset = connection.socket == End::Reset;
        connection.socket = End::Dropped;
        connection.arrived.clear();
        connection.arrived_bytes = 0;
        let wakers = [connection.reader.take(), connection.writer.take()];
        if was_reset || connection.home != Home::Serving {
            self.connections.remove(&id);
        } else {
            let link = &self.hosts[connection.host].link;
            connection.up.send_end(now, link, &mut self.rng, Parcel::Fin);
        }
        wakers
    }

    /// Something arrives at the exporter's socket; who is to be woken.
    pub(super) fn arrive(&mut self, now: Instant, id: u64) -> [Option<Waker>; 2] {
        let Some(connection) = self.connections.get_mut(&id) else {
            return [None, None];
        };
        let parcel = connection.down.take();
        let Some(parcel) = parcel.filter(|_| connection.socket != End::Dropped) else {
            return [None, None];
        };
        let is_broken = self.hosts[connection.host].link.breaks(&mut self.rng);
        match parcel {
            Parcel::Bytes(bytes) if !is_broken => {
                self.trace.add(
                    now,
                    Kind::Arrived {
                        connection: id,
                        is_upward: false,
                        bytes: bytes.len(),
                    },
                );
                connection.arrived_bytes += bytes.len();
                connection.arrived.push_back(bytes);
                [connection.reader.take(), None]
            }
            Parcel::Fin => {
                self.trace.add(
                    now,
                    Kind::Closed {
                        connection: id,
                        is_upward: false,
                    },
                );
                if connection.socket == End::Open {
                    connection.socket = End::Eof;
                }
                [connection.reader.take(), None]
            }
            Parcel::Reset | Parcel::Bytes(_) => self.reset(now, id),
        }
    }

    /// The connection is torn down on both sides, at once.
    pub(super) fn reset(&mut self, now: Instant, id: u64) -> [Option<Waker>; 2] {
        let Some(connection) = self.connections.get_mut(&id) else {
            return [None, None];
        };
        connection.up.clear();
        connection.down.clear();
        connection.home = Home::Closed;
        connection.session = None;
        if connection.socket == End::Dropped {
            self.connections.remove(&id);
            return [None, None];
        }
        self.trace.add(now, Kind::Reset { connection: id });
        connection.socket = End::Reset;
        [connection.reader.take(), connection.writer.take()]
    }

    /// Takes the session out that is told something, with what it is told.
    pub(super) fn begin(&mut self, now: Instant, id: u64, word: Word) -> Option<Telling> {
        let connection = self.connections.get_mut(&id)?;
        match word {
            Word::Hello => connection.is_new = false,
            Word::Drain => connection.must_drain = false,
            _ => {}
        }
        let parcel = match word {
            Word::Input => Some(connection.up.take()?),
            _ => None,
        };
        let is_broken = parcel.is_some() && self.hosts[connection.host].link.breaks(&mut self.rng);
        if is_broken && connection.socket != End::Dropped {
            return Some(Telling::Broken);
        }
        match &parcel {
            Some(Parcel::Bytes(bytes)) => self.trace.add(
                now,
                Kind::Arrived {
                    connection: id,
                    is_upward: true,
                    bytes: bytes.len(),
                },
            ),
            Some(_) => self.trace.add(
                now,
                Kind::Closed {
                    connection: id,
                    is_upward: true,
                },
            ),
            None => {}
        }
        let writer = connection.writer.take();
        if let Some(session) = connection.session.take() {
            return Some(Telling::Session(session, parcel, writer));
        }
        if connection.socket == End::Dropped {
            if matches!(parcel, Some(Parcel::Fin)) {
                self.connections.remove(&id);
            }
        } else if parcel.is_some() && connection.home == Home::Forgotten {
            let link = &self.hosts[connection.host].link;
            connection.down.clear();
            connection.down.send_end(now, link, &mut self.rng, Parcel::Reset);
        }
        Some(Telling::Nobody(writer))
    }

    /// Puts the session back, with what it said.
    pub(super) fn end(&mut self, now: Instant, id: u64, said: Said) {
        let connection = self.connections.get_mut(&id);
        // It may have been killed from within.
        let Some(connection) = connection.filter(|c| c.home == Home::Serving) else {
            return;
        };
        let link = &self.hosts[connection.host].link;
        for bytes in said.bytes {
            connection.down.send(now, link, &mut self.rng, bytes);
        }
        let end = match said.session.fate() {
            Fate::Open if !said.is_eof => {
                connection.session = Some(said.session);
                return;
            }
            Fate::Aborted => Parcel::Reset,
            Fate::Open | Fate::Closed => Parcel::Fin,
        };
        connection.home = Home::Closed;
        if connection.socket == End::Dropped {
            self.connections.remove(&id);
        } else {
            connection.down.send_end(now, link, &mut self.rng, end);
        }
    }

    /// Everything that waits for something at a host.
    pub(super) fn take_watchers(&mut self, id: u64) -> Vec<Waker> {
        let Some(connection) = self.connections.get(&id) else {
            return self
                .hosts
                .iter_mut()
                .flat_map(|host| core::mem::take(&mut host.watchers))
                .collect();
        };
        core::mem::take(&mut self.hosts[connection.host].watchers)
    }

    /// The host can be reached again: what was sent meanwhile gets through now, as TCP sends it again.
    pub(super) fn repair(&mut self, now: Instant, host: usize) {
        self.hosts[host].is_cut_off = false;
        let (address, at) = (self.hosts[host].address, now + self.hosts[host].link.latency());
        for connection in self.connections.values_mut().filter(|c| c.host == host) {
            connection.up.delay_to(at);
            connection.down.delay_to(at);
        }
        for dial in self.dials.values_mut().filter(|dial| dial.to == address) {
            dial.at = dial.at.max(at);
        }
    }

    /// The host knows nothing any more of its connections, and does not say so.
    pub(super) fn forget(&mut self, host: usize) {
        for connection in self.connections.values_mut().filter(|c| c.host == host) {
            if connection.home == Home::Serving {
                connection.home = Home::Forgotten;
                connection.session = None;
                connection.down.clear();
            }
        }
    }
}

impl Connection {
    /// When something arrives at the exporter, and when the collector's session is told something.
    fn due(&self, id: u64, host: &Host) -> [Option<(Instant, Event)>; 2] {
        let is_through = !host.is_cut_off;
        let down = self.down.next_at().filter(|_| is_through);
        let arrival = down.map(|at| (at, Event::Arrival(id)));
        let may_tell = !host.is_paused && self.down.bytes() + self.arrived_bytes < UNREAD_BYTES_MAX;
        // Where nobody is at home, the system answers.
        if !may_tell && self.home == Home::Serving {
            return [arrival, None];
        }
        let tell = |word| move |at| (at, Event::Told(id, word));
        let at_once = |is_wanted: bool| (is_wanted && self.session.is_some()).then_some(Instant::ZERO);
        let input = self.up.next_at().filter(|_| is_through);
        let timeout = self.session.as_ref().and_then(|session| session.poll_timeout());
        let words = [
            at_once(self.is_new).map(tell(Word::Hello)),
            at_once(self.must_drain).map(tell(Word::Drain)),
            input.map(tell(Word::Input)),
            timeout.map(tell(Word::Timeout)),
        ];
        [arrival, words.into_iter().flatten().min()]
    }
}

/// What is to be done outside the lock.
pub(super) enum Telling {
    /// The line breaks instead.
    Broken,
    /// There is no session any more.
    Nobody(Option<Waker>),
    Session(Box<ServerSession>, Option<Parcel>, Option<Waker>),
}

/// What a session said.
pub(super) struct Said {
    session: Box<ServerSession>,
    bytes: Vec<Bytes>,
    /// It was told the end of the exporter's side.
    is_eof: bool,
}

impl Said {
    /// Tells the session something; the closure that chooses its answers may run in it.
    pub(super) fn tell(
        mut session: Box<ServerSession>,
        now: Instant,
        word: Word,
        parcel: Option<Parcel>,
    ) -> Self {
        let is_eof = matches!(parcel, Some(Parcel::Fin | Parcel::Reset));
        match (word, parcel) {
            (Word::Input, Some(Parcel::Bytes(bytes))) => session.handle_input(now, &bytes),
            (Word::Input, _) => session.handle_eof(now),
            (Word::Hello, _) => session.handle_input(now, &[]),
            (Word::Timeout, _) => session.handle_timeout(now),
            (Word::Drain, _) => session.drain(now),
        }
        let mut bytes = Vec::new();
        while let Some(said) = session.poll_transmit() {
            bytes.push(Bytes::from(said));
        }
        Self {
            session,
            bytes,
            is_eof,
        }
    }
}
