//! The whole exporter against the collector's session, in memory and on a virtual clock.

use otlp_embed::endpoint::Target;
use otlp_embed::export::{Action, ConnId, Engine, ExportId, Fact};
use otlp_embed::testing::collector::{Builder, Fate, ServerSession};
use otlp_embed::time::Instant;
use otlp_embed::{Config, Error, Outcome, Request};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Is shown what the engine gives to a socket.
pub type OnTransmit = Box<dyn FnMut(&[bytes::Bytes])>;

/// An engine, the connections it opened and the collector behind them.
pub struct Simulation {
    pub engine: Engine,
    pub now: Instant,
    pub builder: Builder,
    pub verdicts: BTreeMap<ExportId, Result<Outcome, Error>>,
    /// After so many of the collector's bytes, on all connections together, each connection ends.
    pub cut_after: Option<usize>,
    /// Bytes of the collector handed over so far.
    pub said: usize,
    /// Bytes handed over at a time, in both directions.
    pub chunk: usize,
    /// Every piece of memory that the engine gave to a socket.
    pub on_transmit: OnTransmit,
    links: BTreeMap<ConnId, Link>,
    opened: u64,
}

struct Link {
    session: ServerSession,
    egress: VecDeque<u8>,
    ingress: VecDeque<u8>,
    is_over: bool,
}

impl Simulation {
    pub fn new(config: Config, builder: Builder) -> Self {
        let config = config.with_endpoint("http://127.0.0.1:4317");
        Self::with_settings(config.settings().expect("it works"), builder)
    }

    /// As [`new`](Self::new), with settings that were checked.
    pub fn with_settings(settings: otlp_embed::protocol::Settings, builder: Builder) -> Self {
        Self {
            engine: Engine::with_settings(settings, 7),
            now: Instant::from_millis(1),
            builder,
            verdicts: BTreeMap::new(),
            cut_after: None,
            said: 0,
            chunk: usize::MAX,
            on_transmit: Box::new(|_| ()),
            links: BTreeMap::new(),
            opened: 0,
        }
    }

    pub fn submit(&mut self, request: Request) -> ExportId {
        let id = self.engine.submit(self.now, request);
        self.settle();
        id
    }

    pub fn fact(&mut self, fact: Fact<'_>) {
        self.engine.handle(self.now, fact);
        let stats = self.engine.stats();
        assert!(stats.is_conserved(), "{stats:?}");
        self.settle();
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
                self.step() || self.pass_time(None),
                "nothing can happen any more, and no verdict"
            );
        }
        panic!("no verdict after a million steps");
    }

    /// Moves bytes and time until `duration` has passed.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            while self.step() {}
            if !self.pass_time(Some(end)) {
                self.now = end;
                return;
            }
        }
    }

    /// Moves what can be moved without time passing; whether anything was.
    pub fn step(&mut self) -> bool {
        let mut has_moved = self.act();
        let ids: Vec<ConnId> = self.links.keys().copied().collect();
        for id in ids {
            has_moved |= self.carry_out(id) | self.carry_in(id);
        }
        has_moved
    }

    fn act(&mut self) -> bool {
        let mut has_acted = false;
        while let Some(action) = self.engine.poll_action() {
            has_acted = true;
            match action {
                Action::Connect(conn, Target::Tcp(_)) => {
                    self.opened += 1;
                    let mut session = self.builder.session(self.opened);
                    session.handle_input(self.now, &[]);
                    let link = Link {
                        session,
                        egress: VecDeque::new(),
                        ingress: VecDeque::new(),
                        is_over: false,
                    };
                    self.links.insert(conn, link);
                    self.fact(Fact::Connected(conn));
                }
                Action::Transmit(conn, chunks) => {
                    (self.on_transmit)(&chunks);
                    if let Some(link) = self.links.get_mut(&conn) {
                        link.egress.extend(chunks.iter().flatten());
                    }
                }
                Action::Close(conn) => {
                    if let Some(mut link) = self.links.remove(&conn) {
                        link.session.handle_eof(self.now);
                    }
                }
                other => panic!("not part of this world: {other:?}"),
            }
        }
        self.settle();
        has_acted
    }

    /// From the engine to the collector.
    fn carry_out(&mut self, conn: ConnId) -> bool {
        let Some(link) = self.links.get_mut(&conn).filter(|link| !link.egress.is_empty()) else {
            return false;
        };
        let count = link.egress.len().min(self.chunk);
        let bytes: Vec<u8> = link.egress.drain(..count).collect();
        link.session.handle_input(self.now, &bytes);
        self.fact(Fact::Sent(conn, count));
        true
    }

    /// From the collector to the engine.
    fn carry_in(&mut self, conn: ConnId) -> bool {
        let Some(link) = self.links.get_mut(&conn).filter(|link| !link.is_over) else {
            return false;
        };
        while let Some(bytes) = link.session.poll_transmit() {
            link.ingress.extend(bytes);
        }
        let left = self.cut_after.map_or(usize::MAX, |cut| cut - self.said);
        let count = link.ingress.len().min(self.chunk).min(left);
        if count > 0 {
            let bytes: Vec<u8> = link.ingress.drain(..count).collect();
            self.said += count;
            self.fact(Fact::Input(conn, &bytes));
            return true;
        }
        if left == 0 || (link.ingress.is_empty() && link.session.fate() != Fate::Open) {
            link.is_over = true;
            self.fact(Fact::Eof(conn));
            return true;
        }
        false
    }

    /// Lets time pass until something is due, at the latest at `end`; whether anything was due.
    fn pass_time(&mut self, end: Option<Instant>) -> bool {
        let sessions = self
            .links
            .values()
            .filter_map(|link| link.session.poll_timeout())
            .min();
        let engine = self.engine.poll_timeout();
        let Some(next) = [sessions, engine].into_iter().flatten().min() else {
            return false;
        };
        if end.is_some_and(|end| next > end) {
            return false;
        }
        self.now = self.now.max(next);
        for link in self.links.values_mut() {
            if link.session.poll_timeout().is_some_and(|at| at <= self.now) {
                link.session.handle_timeout(self.now);
            }
        }
        if engine.is_some_and(|at| at <= self.now) {
            self.fact(Fact::Timeout);
        }
        true
    }

    fn settle(&mut self) {
        while let Some((id, verdict)) = self.engine.poll_outcome() {
            assert!(
                self.verdicts.insert(id, verdict).is_none(),
                "one verdict an export"
            );
        }
    }
}
