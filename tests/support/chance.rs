//! An engine, its connections and the collectors behind them, where chance decides what moves next and what breaks.
//!
//! The random tests share it. Their seeds are worth keeping, so that the order of the draws is part of what it does.

use fastrand::Rng;
use otlp_embed::endpoint::Target;
use otlp_embed::export::{Action, Authorization, ConnId, Engine, ExportId, Fact};
use otlp_embed::testing::collector::{Builder, Fate, ServerSession};
use otlp_embed::time::Instant;
use otlp_embed::{Error, Outcome, Request};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Times in a row that the engine may be due at the time that it already is.
const STANDSTILL_MAX: usize = 200;

/// One export of the run, with what the test knows of it.
pub struct Export<T> {
    pub of: T,
    pub deadline: Instant,
    pub verdict: Option<Result<Outcome, Error>>,
}

pub struct Chance<T> {
    pub rng: Rng,
    pub engine: Engine,
    pub now: Instant,
    /// The collectors, each behind a port.
    pub builders: Vec<(u16, Builder)>,
    pub exports: BTreeMap<ExportId, Export<T>>,
    /// Credentials that were asked for and are not there yet.
    pub asked: Vec<(ExportId, Authorization)>,
    /// Bytes that a socket takes at a time at most.
    pub socket: usize,
    /// How often a connection or a connect fails, in a thousand steps.
    pub faults: u32,
    links: BTreeMap<ConnId, Link>,
    opened: u64,
    standstill: usize,
}

/// One connection, as the shell and the network see it.
struct Link {
    session: ServerSession,
    /// Given to the shell, not taken by the socket.
    handed_out: VecDeque<u8>,
    /// Taken by the socket, not yet with the collector.
    under_way: VecDeque<u8>,
    /// Bytes that the socket took and the engine was not told of: completions come late.
    unreported: usize,
    /// Said by the collector, not yet with the engine.
    coming: VecDeque<u8>,
    /// The engine has been told of the end.
    is_over: bool,
}

impl<T> Chance<T> {
    pub fn new(rng: Rng, engine: Engine, builders: Vec<(u16, Builder)>) -> Self {
        Self {
            rng,
            engine,
            now: Instant::from_millis(1),
            builders,
            exports: BTreeMap::new(),
            asked: Vec::new(),
            socket: usize::MAX,
            faults: 0,
            links: BTreeMap::new(),
            opened: 0,
            standstill: 0,
        }
    }

    /// Submits a request whose timeout is known to be this one.
    pub fn submit(&mut self, request: Request, timeout: Duration, of: T) -> ExportId {
        let id = self.engine.submit(self.now, request);
        let export = Export {
            of,
            deadline: self.now + timeout,
            verdict: None,
        };
        self.exports.insert(id, export);
        self.settle();
        id
    }

    pub fn is_settled(&self) -> bool {
        self.exports.values().all(|export| export.verdict.is_some())
    }

    /// Exports without a verdict.
    pub fn open(&self) -> usize {
        self.exports
            .values()
            .filter(|export| export.verdict.is_none())
            .count()
    }

    /// What nobody asked for: cancels, connections that end on either side, facts out of their order.
    pub fn perturb(&mut self) {
        if self.rng.u8(..200) == 0 && !self.exports.is_empty() {
            let at = self.rng.usize(..self.exports.len());
            let id = *self.exports.keys().nth(at).expect("within");
            self.fact(Fact::Cancel(id));
        }
        if self.rng.u32(..1_000) >= self.faults || self.links.is_empty() {
            return;
        }
        let at = self.rng.usize(..self.links.len());
        let id = *self.links.keys().nth(at).expect("within");
        self.report_sent(id, usize::MAX);
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.is_over = true;
        // What the socket took may arrive or be lost with the connection.
        let arrives = self.rng.usize(..=link.under_way.len());
        let bytes: Vec<u8> = link.under_way.drain(..).take(arrives).collect();
        link.session.handle_input(self.now, &bytes);
        link.session.handle_eof(self.now);
        let fact = if self.rng.bool() {
            Fact::Eof(id)
        } else {
            Fact::Failed(id, "reset")
        };
        self.fact(fact);
    }

    /// Does what the engine asks for.
    pub fn act(&mut self) -> bool {
        let mut has_acted = false;
        while let Some(action) = self.engine.poll_action() {
            has_acted = true;
            match action {
                Action::Connect(id, Target::Tcp(address)) => match self.rng.u32(..1_000) {
                    fate if fate < self.faults => self.fact(Fact::ConnectFailed(id, "refused")),
                    // Nobody ever hears of it again.
                    fate if fate < 2 * self.faults => {}
                    _ => self.connect(id, address.port()),
                },
                Action::Transmit(id, chunks) => {
                    if let Some(link) = self.links.get_mut(&id) {
                        link.handed_out.extend(chunks.iter().flatten());
                    }
                }
                Action::Close(id) => {
                    if let Some(mut link) = self.links.remove(&id) {
                        // What the socket took still arrives, what it did not is dropped.
                        let bytes: Vec<u8> = link.under_way.drain(..).collect();
                        link.session.handle_input(self.now, &bytes);
                        link.session.handle_eof(self.now);
                    }
                }
                Action::Authorize(id, authorization) => self.asked.push((id, authorization)),
                other => panic!("not part of this world: {other:?}"),
            }
        }
        self.settle();
        has_acted
    }

    fn connect(&mut self, id: ConnId, port: u16) {
        self.opened += 1;
        let builder = self.builders.iter().find(|(known, _)| *known == port);
        let mut session = builder.expect("an endpoint").1.session(self.opened);
        session.handle_input(self.now, &[]);
        let link = Link {
            session,
            handed_out: VecDeque::new(),
            under_way: VecDeque::new(),
            unreported: 0,
            coming: VecDeque::new(),
            is_over: false,
        };
        self.links.insert(id, link);
        self.fact(Fact::Connected(id));
    }

    /// The completion of a write: always before the end of the connection is told.
    fn report_sent(&mut self, id: ConnId, count: usize) {
        if let Some(link) = self.links.get_mut(&id) {
            let count = count.min(link.unreported);
            link.unreported -= count;
            self.fact(Fact::Sent(id, count));
        }
    }

    /// Moves some bytes of some connections, in pieces of any size.
    pub fn move_bytes(&mut self) -> bool {
        let mut has_moved = false;
        let ids: Vec<ConnId> = self.links.keys().copied().collect();
        for id in ids {
            let largest = [1, 9, 100, 20_000, 5_000_000][self.rng.usize(..5)];
            let (a, b) = (self.rng.usize(1..=largest), self.rng.usize(1..=largest));
            let order = self.rng.u8(..4);
            let is_prompt = self.rng.bool();
            if let Some(link) = self.links.get_mut(&id).filter(|link| !link.is_over) {
                let count = link.handed_out.len().min(a).min(self.socket);
                if count > 0 && order != 0 {
                    let bytes: Vec<u8> = link.handed_out.drain(..count).collect();
                    link.under_way.extend(&bytes);
                    link.unreported += count;
                    has_moved = true;
                }
                has_moved |= count > 0 || link.unreported > 0;
            }
            if order == 3 || is_prompt {
                self.report_sent(id, b);
            }
            if let Some(link) = self.links.get_mut(&id).filter(|link| !link.is_over) {
                let count = link.under_way.len().min(b);
                if count > 0 && order != 1 {
                    let bytes: Vec<u8> = link.under_way.drain(..count).collect();
                    link.session.handle_input(self.now, &bytes);
                }
                has_moved |= count > 0;
                while let Some(bytes) = link.session.poll_transmit() {
                    link.coming.extend(bytes);
                }
                let count = link.coming.len().min(b);
                let fate = link.session.fate();
                if fate == Fate::Aborted || (link.coming.is_empty() && fate != Fate::Open) {
                    has_moved = true;
                    self.report_sent(id, usize::MAX);
                    if let Some(link) = self.links.get_mut(&id) {
                        link.is_over = true;
                    }
                    self.fact(if fate == Fate::Aborted {
                        Fact::Failed(id, "reset")
                    } else {
                        Fact::Eof(id)
                    });
                } else if count > 0 && order != 2 {
                    let bytes: Vec<u8> = link.coming.drain(..count).collect();
                    self.fact(Fact::Input(id, &bytes));
                    has_moved = true;
                }
                has_moved |= count > 0;
            }
        }
        has_moved
    }

    /// To the next thing due, or by a little where other things go on.
    pub fn pass_time(&mut self, is_little: bool) {
        let sessions = self
            .links
            .values()
            .filter_map(|link| link.session.poll_timeout())
            .min();
        let engine = self.engine.poll_timeout();
        let due = [sessions, engine].into_iter().flatten().min();
        let until = if is_little {
            let little = self.now + Duration::from_micros(self.rng.u64(1..50_000));
            due.map_or(little, |due| due.min(little))
        } else {
            due.unwrap_or_else(|| panic!("nothing can happen any more: {:?}", self.engine.stats()))
        };
        self.standstill = if until > self.now { 0 } else { self.standstill + 1 };
        assert!(
            self.standstill < STANDSTILL_MAX,
            "due for ever: {:?}",
            self.engine.next_deadline()
        );
        self.now = self.now.max(until);
        for link in self.links.values_mut() {
            if link.session.poll_timeout().is_some_and(|at| at <= self.now) {
                link.session.handle_timeout(self.now);
            }
        }
        if engine.is_some_and(|at| at <= self.now) {
            self.fact(Fact::Timeout);
            let late = self
                .exports
                .values()
                .filter(|e| e.verdict.is_none() && e.deadline <= self.now);
            assert_eq!(late.count(), 0, "an export outlives its deadline");
        }
    }

    pub fn fact(&mut self, fact: Fact<'_>) {
        self.engine.handle(self.now, fact);
        let stats = self.engine.stats();
        assert!(stats.is_conserved(), "{stats:?}");
        self.settle();
    }

    fn settle(&mut self) {
        while let Some((id, verdict)) = self.engine.poll_outcome() {
            let export = self.exports.get_mut(&id).expect("an outcome of an export");
            assert!(self.now <= export.deadline, "an export outlives its deadline");
            assert!(export.verdict.is_none(), "one verdict an export");
            export.verdict = Some(verdict);
        }
    }
}
