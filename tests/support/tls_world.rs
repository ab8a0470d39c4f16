//! The whole exporter against a server under TLS, behind a proxy or neither, in memory and on a virtual clock.
#![allow(dead_code, reason = "each test uses its own part")]

use otlp_embed::export::{Action, ConnId, Engine, ExportId, ExportState, Fact};
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::{Builder, ServerSession};
use otlp_embed::time::Instant;
use otlp_embed::{Config, Error, Outcome, Request};
use rustls::{ServerConfig, ServerConnection};
use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

#[path = "certificates.rs"]
mod certificates;

pub use certificates::*;

/// What answers at the other end of a connection.
pub enum Peer {
    /// A collector in plain text.
    Plain(Box<App>),
    /// A collector under TLS.
    Tls(Box<ServerConnection>, Box<App>),
    /// One that says these bytes once it has heard something, and nothing more.
    Script(Vec<u8>),
    /// One that never says a word.
    Silent,
    /// One that closes the connection at the first byte.
    Closer,
    /// A proxy that answers the head of a request like this, and then leads to a peer.
    Proxy(Vec<u8>, Option<Box<Peer>>),
}

/// What is spoken above TLS.
pub enum App {
    Http2(Box<ServerSession>),
    Http1(Http1),
    /// Takes every byte and answers nothing.
    Sink(Vec<u8>),
}

/// A server of HTTP/1.1 that reads requests with a length and accepts them all.
#[derive(Default)]
pub struct Http1 {
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    pub requests: Vec<Vec<u8>>,
}

impl Http1 {
    fn take(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        while let Some(len) = self.request_len() {
            self.requests.push(self.inbox.drain(..len).collect());
            self.outbox.extend(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
            );
        }
    }

    fn request_len(&self) -> Option<usize> {
        let head = self.inbox.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let text = std::str::from_utf8(&self.inbox[..head]).expect("a head in text");
        let len = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().expect("a length"))
        });
        let whole = head + len.expect("a request with a length");
        (self.inbox.len() >= whole).then_some(whole)
    }
}

impl App {
    fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        match self {
            Self::Http2(session) => session.handle_input(now, bytes),
            Self::Http1(http) => http.take(bytes),
            Self::Sink(taken) => taken.extend_from_slice(bytes),
        }
    }

    fn poll_transmit(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        match self {
            Self::Http2(session) => {
                while let Some(bytes) = session.poll_transmit() {
                    all.extend(bytes);
                }
            }
            Self::Http1(http) => all.append(&mut http.outbox),
            Self::Sink(_) => {}
        }
        all
    }
}

impl Peer {
    pub fn tls(config: Arc<ServerConfig>, app: App) -> Self {
        let connection = ServerConnection::new(config).expect("a server");
        Self::Tls(Box::new(connection), Box::new(app))
    }

    /// Takes bytes of the exporter, whether it still listens.
    pub fn answer(&mut self, now: Instant, mut bytes: &[u8], head: &mut Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Self::Plain(app) => {
                app.handle_input(now, bytes);
                Some(app.poll_transmit())
            }
            Self::Tls(tls, app) => {
                let mut is_over = false;
                while !bytes.is_empty() && !is_over {
                    is_over =
                        tls.read_tls(&mut bytes).expect("memory") == 0 || tls.process_new_packets().is_err();
                    let mut plain = Vec::new();
                    let _ = tls.reader().read_to_end(&mut plain);
                    app.handle_input(now, &plain);
                }
                let _ = tls.writer().write_all(&app.poll_transmit());
                let mut out = Vec::new();
                while tls.wants_write() {
                    tls.write_tls(&mut out).expect("memory");
                }
                Some(out)
            }
            Self::Script(words) => Some(std::mem::take(words)),
            Self::Silent => Some(Vec::new()),
            Self::Closer => None,
            Self::Proxy(answer, next) => {
                head.extend_from_slice(bytes);
                if !head.ends_with(b"\r\n\r\n") {
                    return Some(Vec::new());
                }
                let answer = std::mem::take(answer);
                if let Some(next) = next.take() {
                    *self = *next;
                }
                Some(answer)
            }
        }
    }

    /// What goes out as time passes.
    fn handle_timeout(&mut self, now: Instant) -> Vec<u8> {
        match self {
            Self::Tls(_, app) => {
                if let App::Http2(session) = &mut **app {
                    session.handle_timeout(now);
                }
                let mut head = Vec::new();
                self.answer(now, &[], &mut head).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }
}

/// One connection of the engine.
pub struct Wire {
    pub peer: Peer,
    /// What the exporter sent, as it was on the socket.
    pub heard: Vec<u8>,
    /// What a proxy was asked.
    pub asked: Vec<u8>,
    up: VecDeque<u8>,
    down: VecDeque<u8>,
    pub is_closed: bool,
    is_ended: bool,
}

/// An engine, the connections that it opened and what answers them.
pub struct TlsWorld {
    pub engine: Engine,
    pub now: Instant,
    pub builder: Builder,
    pub wires: BTreeMap<ConnId, Wire>,
    pub order: Vec<ConnId>,
    pub verdicts: BTreeMap<ExportId, Result<Outcome, Error>>,
    /// Bytes handed over at a time, in both directions.
    pub chunk: usize,
    /// After so many of the peers' bytes each connection ends.
    pub cut_after: Option<usize>,
    /// After so many of the exporter's bytes no socket takes any more.
    pub take_at_most: Option<usize>,
    pub said: usize,
    pub taken: usize,
    /// Where the peers' bytes are garbled, once, and with what.
    pub garble: Option<(usize, u8)>,
    /// The names that were looked up.
    pub resolved: Vec<String>,
    is_deaf: bool,
    peers: Box<MakePeer>,
    opened: u64,
}

/// Makes the peer of the connection of this number.
type MakePeer = dyn FnMut(&Builder, u64) -> Peer;

impl TlsWorld {
    pub fn new(config: Config, peers: impl FnMut(&Builder, u64) -> Peer + 'static) -> Self {
        Self {
            engine: Engine::new(config, 7).unwrap_or_else(|error| panic!("{error}")),
            now: Instant::from_millis(1),
            builder: Collector::builder(),
            wires: BTreeMap::new(),
            order: Vec::new(),
            verdicts: BTreeMap::new(),
            chunk: usize::MAX,
            cut_after: None,
            take_at_most: None,
            said: 0,
            taken: 0,
            garble: None,
            resolved: Vec::new(),
            is_deaf: false,
            peers: Box::new(peers),
            opened: 0,
        }
    }

    pub fn submit(&mut self, request: Request) -> ExportId {
        let id = self.engine.submit(self.now, request);
        self.settle();
        id
    }

    /// Exports and runs until the verdict is there.
    pub fn export(&mut self, request: Request) -> Result<Outcome, Error> {
        let id = self.submit(request);
        self.run_until_settled(id)
    }

    pub fn run_until_settled(&mut self, id: ExportId) -> Result<Outcome, Error> {
        for _ in 0..1_000_000 {
            if let Some(verdict) = self.verdicts.remove(&id) {
                return verdict;
            }
            assert!(
                self.step() || self.pass_time(),
                "nothing can happen any more, and no verdict"
            );
        }
        panic!("no verdict after a million steps");
    }

    pub fn fact(&mut self, fact: Fact<'_>) {
        self.engine.handle(self.now, fact);
        let stats = self.engine.stats();
        assert!(stats.is_conserved(), "{stats:?}");
        self.settle();
    }

    /// Moves what can be moved without time passing; whether anything was.
    pub fn step(&mut self) -> bool {
        let ids: Vec<ConnId> = self.wires.keys().copied().collect();
        let mut has_moved = false;
        for id in ids {
            has_moved |= self.step_wire(id);
        }
        has_moved
    }

    fn step_wire(&mut self, id: ConnId) -> bool {
        let (now, chunk) = (self.now, self.chunk);
        let Some(wire) = self.wires.get_mut(&id).filter(|wire| !wire.is_closed) else {
            return false;
        };
        let room = self.take_at_most.map_or(usize::MAX, |most| most - self.taken);
        let up: Vec<u8> = {
            let count = wire.up.len().min(chunk).min(room);
            wire.up.drain(..count).collect()
        };
        let moved = !up.is_empty();
        if moved {
            self.taken += up.len();
            wire.heard.extend(&up);
            match wire.peer.answer(now, &up, &mut wire.asked) {
                Some(answer) => wire.down.extend(answer),
                None => wire.is_ended = true,
            }
            self.fact(Fact::Sent(id, up.len()));
        }
        let left = self.cut_after.map_or(usize::MAX, |cut| cut - self.said);
        let Some(wire) = self.wires.get_mut(&id).filter(|wire| !wire.is_closed) else {
            return moved;
        };
        if self.is_deaf {
            return moved;
        }
        let count = wire.down.len().min(chunk).min(left);
        let mut down: Vec<u8> = wire.down.drain(..count).collect();
        if let Some((at, mask)) = self.garble {
            if let Some(byte) = at.checked_sub(self.said).and_then(|at| down.get_mut(at)) {
                *byte ^= mask;
                self.garble = None;
            }
        }
        self.said += count;
        let is_over = (wire.is_ended && wire.down.is_empty()) || left == count && self.cut_after.is_some();
        if !down.is_empty() {
            self.fact(Fact::Input(id, &down));
        }
        if is_over && self.wires.get(&id).is_some_and(|wire| !wire.is_closed) {
            self.wires.get_mut(&id).expect("it is there").is_closed = true;
            self.fact(Fact::Eof(id));
            return true;
        }
        moved || !down.is_empty()
    }

    /// Lets time pass until something is due; whether anything was.
    pub fn pass_time(&mut self) -> bool {
        let Some(at) = self.engine.poll_timeout() else {
            return false;
        };
        self.now = self.now.max(at);
        let now = self.now;
        for wire in self.wires.values_mut().filter(|wire| !wire.is_closed) {
            let said = wire.peer.handle_timeout(now);
            wire.down.extend(said);
        }
        self.fact(Fact::Timeout);
        true
    }

    fn settle(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Resolve(id, name) => {
                    self.resolved.push(name.to_string());
                    let address = std::net::SocketAddr::from(([127, 0, 0, 1], name.port));
                    self.engine.handle(self.now, Fact::Resolved(id, &[address]));
                }
                Action::Connect(id, _) => {
                    self.opened += 1;
                    let peer = (self.peers)(&self.builder, self.opened);
                    self.order.push(id);
                    self.wires.insert(
                        id,
                        Wire {
                            peer,
                            heard: Vec::new(),
                            asked: Vec::new(),
                            up: VecDeque::new(),
                            down: VecDeque::new(),
                            is_closed: false,
                            is_ended: false,
                        },
                    );
                    self.engine.handle(self.now, Fact::Connected(id));
                }
                Action::Transmit(id, pieces) => {
                    if let Some(wire) = self.wires.get_mut(&id) {
                        pieces.iter().for_each(|piece| wire.up.extend(piece));
                    }
                }
                Action::Close(id) => {
                    if let Some(wire) = self.wires.get_mut(&id) {
                        wire.is_closed = true;
                    }
                }
                other => panic!("not expected: {other:?}"),
            }
        }
        while let Some((id, verdict)) = self.engine.poll_outcome() {
            self.verdicts.insert(id, verdict);
        }
    }

    pub fn state(&self, id: ExportId) -> Option<ExportState> {
        self.engine.state(id)
    }

    /// Bytes that the exporter gave to sockets and that they have not taken.
    pub fn waiting(&self) -> usize {
        self.wires.values().map(|wire| wire.up.len()).sum()
    }

    /// From now on nothing that the peers say arrives.
    pub fn deafen(&mut self) {
        self.is_deaf = true;
    }

    /// The end of TLS, as the server of a connection says it.
    pub fn close_notify(&mut self, id: ConnId) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(Wire {
            peer: Peer::Tls(tls, _),
            ..
        }) = self.wires.get_mut(&id)
        {
            tls.send_close_notify();
            while tls.wants_write() {
                tls.write_tls(&mut out).expect("memory");
            }
        }
        out
    }

    /// Whether the exporter has ended TLS on a connection.
    pub fn has_closed(&mut self, id: ConnId) -> bool {
        let wire = self.wires.get_mut(&id).expect("it is there");
        // What waited when the socket was closed.
        let left: Vec<u8> = wire.up.drain(..).collect();
        let Peer::Tls(tls, _) = &mut wire.peer else {
            return false;
        };
        let mut left = &left[..];
        while !left.is_empty() && tls.read_tls(&mut left).is_ok_and(|count| count > 0) {
            let _ = tls.process_new_packets();
        }
        tls.process_new_packets()
            .is_ok_and(|state| state.peer_has_closed())
    }

    /// The connections that were opened.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Every connection's bytes on the socket, in the order of their opening.
    pub fn heard(&self) -> Vec<u8> {
        self.order
            .iter()
            .flat_map(|id| self.wires[id].heard.iter().copied())
            .collect()
    }

    pub fn last_wire(&self) -> &Wire {
        &self.wires[self.order.last().expect("a connection")]
    }
}

/// Lets a second pass: for deadlines that are told in whole seconds.
pub const SECOND: Duration = Duration::from_secs(1);
