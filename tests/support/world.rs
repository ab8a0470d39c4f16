//! A world for one engine: a virtual clock, a network that does what the test says, and a check after every fact.
#![allow(dead_code)]

use bytes::Bytes;
use otlp_embed::encode::Signal;
use otlp_embed::endpoint::{Name, Target};
use otlp_embed::export::{Action, Authorization, ConnId, Engine, ExportId, ExportState, Fact, Managed};
use otlp_embed::protocol::Settings;
use otlp_embed::testing::{Command, Frame, Scripted};
use otlp_embed::time::Instant;
use otlp_embed::{Config, Error, Outcome, Request, Resource, Stats, TraceBatch};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// What becomes of an attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dial {
    /// The socket opens at once.
    Accept,
    /// It fails at once.
    Refuse,
    /// It fails at once for this port, and opens at once for others.
    RefusePort(u16),
    /// The test answers.
    Manual,
}

/// One connection as the network sees it.
#[derive(Debug, Default)]
pub struct Wire {
    pub resolving: Option<Name>,
    pub targets: Vec<Target>,
    pub egress: Vec<u8>,
    pub unsent: usize,
    pub is_closed: bool,
}

pub struct World {
    pub engine: Engine<Scripted>,
    pub now: Instant,
    pub dial: Dial,
    /// Whether the socket takes bytes at once.
    pub takes: bool,
    pub ids: Vec<ConnId>,
    pub wires: Vec<Wire>,
    pub outcomes: BTreeMap<ExportId, Result<Outcome, Error>>,
    /// The actions of the last fact.
    pub last_actions: usize,
    /// Whether credentials are asked for at once; else the test does that.
    pub asks: bool,
    /// What was to be asked for and was not.
    pub asked: Vec<(ExportId, Authorization)>,
}

pub fn config() -> Config {
    Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_endpoint("http://127.0.0.1:4317")
}

pub fn request(items: u64) -> Request {
    request_of(Signal::Traces, items)
}

pub fn request_of(signal: Signal, items: u64) -> Request {
    Request::from_segments(
        signal,
        items,
        vec![Bytes::from_static(b"head"), Bytes::from_static(b"tail")],
    )
}

/// Spans with attributes of so many bytes.
pub fn spans(count: usize, payload: usize) -> Request {
    let mut batch = TraceBatch::new(&Resource::builder().attr("service.name", "shop").build());
    batch.scope("lib", "1.0");
    for number in 1..=count as u64 {
        let payload = "x".repeat(payload);
        batch
            .span([1; 16], number.to_be_bytes(), "work")
            .attr("payload", &*payload)
            .end();
    }
    batch.finish()
}

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl World {
    pub fn new(config: Config) -> Self {
        Self::seeded(config, 1)
    }

    pub fn seeded(config: Config, seed: u64) -> Self {
        Self::of(Engine::new(config, seed).expect("the settings work"))
    }

    /// A world with settings that a configuration alone does not give.
    pub fn of_settings(settings: Settings, seed: u64) -> Self {
        Self::of(Engine::with_settings(settings, seed))
    }

    fn of(engine: Engine<Scripted>) -> Self {
        Self {
            engine,
            now: Instant::from_millis(1_000),
            dial: Dial::Accept,
            takes: true,
            ids: Vec::new(),
            wires: Vec::new(),
            outcomes: BTreeMap::new(),
            last_actions: 0,
            asks: true,
            asked: Vec::new(),
        }
    }

    /// A world of settings that no setter gives.
    pub fn with_settings(config: Config, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = config.settings().expect("the settings work");
        change(&mut settings);
        Self::of_settings(settings, 1)
    }

    pub fn submit(&mut self, request: Request) -> ExportId {
        let id = self.engine.submit(self.now, request);
        self.settle_down();
        id
    }

    /// As [`submit`](Self::submit), for somebody who keeps the account of the items.
    pub fn submit_managed(&mut self, request: Request, managed: Managed) -> ExportId {
        let id = self.engine.submit_managed(self.now, request, managed);
        self.settle_down();
        id
    }

    pub fn fact(&mut self, fact: Fact<'_>) {
        self.engine.handle(self.now, fact);
        self.settle_down();
    }

    /// The peer of the `wire`th connection says something.
    pub fn say(&mut self, wire: usize, command: Command) {
        let id = self.ids[wire];
        self.fact(Fact::Input(id, &command.encode()));
    }

    /// Lets time pass, firing every timer on the way at its time.
    pub fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        let mut fired = 0;
        while let Some(at) = self.engine.poll_timeout().filter(|&at| at <= until) {
            assert!(fired < 10_000, "timers fire without an end at {at:?}");
            fired += 1;
            self.now = self.now.max(at);
            self.fact(Fact::Timeout);
        }
        self.now = until;
        self.fact(Fact::Timeout);
    }

    /// Lets time pass up to the next timer, and tells how long that took.
    pub fn advance_to_timer(&mut self) -> Duration {
        let at = self.engine.poll_timeout().expect("something is due");
        let passed = at.since(self.now);
        self.now = self.now.max(at);
        self.fact(Fact::Timeout);
        passed
    }

    /// The frames that the exporter wrote on a connection.
    pub fn frames(&self, wire: usize) -> Vec<Frame> {
        let mut rest = &self.wires[wire].egress[..];
        let mut frames = Vec::new();
        while let Some(frame) = Frame::decode(rest) {
            let body = match frame {
                Frame::Call(_, len) => len as usize,
                Frame::Cancel(_) => 0,
                Frame::Credentials(_, len) => len as usize,
            };
            rest = &rest[(Frame::LEN + body).min(rest.len())..];
            frames.push(frame);
        }
        frames
    }

    /// The requests of the calls on a connection, and the credentials of each.
    pub fn calls(&self, wire: usize) -> Vec<(Vec<u8>, String)> {
        let mut rest = &self.wires[wire].egress[..];
        let mut calls = Vec::new();
        let mut credentials = String::new();
        while let Some(frame) = Frame::decode(rest) {
            let (Frame::Call(_, len) | Frame::Credentials(_, len)) = frame else {
                rest = &rest[Frame::LEN..];
                continue;
            };
            let (body, tail) = rest[Frame::LEN..].split_at(len as usize);
            rest = tail;
            match frame {
                Frame::Credentials(..) => credentials = String::from_utf8(body.to_vec()).expect("text"),
                _ => calls.push((body.to_vec(), core::mem::take(&mut credentials))),
            }
        }
        calls
    }

    /// The length and the items of the request of each call on a connection.
    pub fn sizes(&self, wire: usize) -> Vec<(usize, u64)> {
        let size = |(body, _): (Vec<u8>, String)| {
            let len = body.len();
            let request = Request::from_encoded(Signal::Traces, body).expect("a request");
            (len, request.items())
        };
        self.calls(wire).into_iter().map(size).collect()
    }

    pub fn outcome(&mut self, id: ExportId) -> Result<Outcome, Error> {
        self.outcomes.remove(&id).expect("the export is settled")
    }

    pub fn error(&mut self, id: ExportId) -> Error {
        self.outcome(id).expect_err("the export failed")
    }

    pub fn state(&self, id: ExportId) -> Option<ExportState> {
        self.engine.state(id)
    }

    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Sockets that are open or opening.
    pub fn live_wires(&self) -> usize {
        self.wires.iter().filter(|wire| !wire.is_closed).count()
    }

    /// Does what the engine asks until it asks for nothing.
    fn settle_down(&mut self) {
        self.check();
        self.last_actions = 0;
        loop {
            let mut facts = Vec::new();
            while let Some(action) = self.engine.poll_action() {
                self.last_actions += 1;
                assert!(
                    self.last_actions < 100_000,
                    "one fact causes actions without an end"
                );
                facts.extend(self.act(action));
            }
            while let Some((id, outcome)) = self.engine.poll_outcome() {
                assert!(
                    self.outcomes.insert(id, outcome).is_none(),
                    "one outcome an export"
                );
                assert_eq!(self.engine.state(id), None);
            }
            self.check();
            if facts.is_empty() && (self.asked.is_empty() || !self.asks) {
                return;
            }
            if self.asks {
                for (id, authorization) in core::mem::take(&mut self.asked) {
                    self.answer_credentials(id, &authorization);
                }
            }
            for (wire, answer) in facts {
                let id = self.ids[wire];
                let fact = match answer {
                    Answer::Connected => Fact::Connected(id),
                    Answer::Refused => Fact::ConnectFailed(id, "connection refused"),
                    Answer::Sent(count) => Fact::Sent(id, count),
                };
                self.engine.handle(self.now, fact);
            }
        }
    }

    fn answer_credentials(&mut self, id: ExportId, authorization: &Authorization) {
        match authorization.ask() {
            Ok(headers) => self.engine.handle(self.now, Fact::Authorized(id, &headers)),
            Err(why) => self.engine.handle(self.now, Fact::AuthorizeFailed(id, &why)),
        }
    }

    fn act(&mut self, action: Action) -> Option<(usize, Answer)> {
        if let Action::Authorize(id, authorization) = action {
            self.asked.push((id, authorization));
            return None;
        }
        let (Action::Resolve(id, _) | Action::Connect(id, _) | Action::Transmit(id, _) | Action::Close(id)) =
            &action
        else {
            panic!("an unknown action: {action:?}")
        };
        let wire = match self.ids.iter().position(|known| known == id) {
            Some(wire) => wire,
            None => {
                self.ids.push(*id);
                self.wires.push(Wire::default());
                self.ids.len() - 1
            }
        };
        let state = &mut self.wires[wire];
        assert!(!state.is_closed, "an action on a closed connection: {action:?}");
        match action {
            Action::Resolve(_, name) => state.resolving = Some(name),
            Action::Connect(_, target) => {
                state.targets.push(target);
                let is_port = |port| matches!(state.targets.last(), Some(Target::Tcp(a)) if a.port() == port);
                match self.dial {
                    Dial::RefusePort(port) if is_port(port) => return Some((wire, Answer::Refused)),
                    Dial::Accept | Dial::RefusePort(_) => return Some((wire, Answer::Connected)),
                    Dial::Refuse => return Some((wire, Answer::Refused)),
                    Dial::Manual => {}
                }
            }
            Action::Transmit(_, pieces) => {
                let len: usize = pieces.iter().map(Bytes::len).sum();
                assert!(len > 0, "nothing to transmit");
                pieces
                    .iter()
                    .for_each(|piece| state.egress.extend_from_slice(piece));
                if self.takes {
                    return Some((wire, Answer::Sent(len)));
                }
                state.unsent += len;
            }
            Action::Close(_) => state.is_closed = true,
            _ => {}
        }
        None
    }

    fn check(&self) {
        let stats = self.engine.stats();
        assert!(stats.is_conserved(), "{stats:?}");
        assert_eq!(
            self.engine.poll_timeout(),
            self.engine.next_deadline().map(|d| d.at)
        );
    }
}

enum Answer {
    Connected,
    Refused,
    Sent(usize),
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}
