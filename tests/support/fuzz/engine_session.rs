//! Arbitrary bytes from peers and arbitrary facts, against the engine over the real session.
//!
//! Whatever comes, each export gets one verdict, no later than its deadline, the law of conservation holds after each
//! fact, one fact leads to a bounded count of actions, and a timer that fired is not due again.

use super::input::{Input, frame};
use bytes::Bytes;
use otlp_embed::encode::Signal;
use otlp_embed::export::{Action, ConnId, Engine, ExportId, Fact};
use otlp_embed::protocol::Session;
use otlp_embed::time::Instant;
use otlp_embed::{Config, Request};
use std::collections::BTreeMap;
use std::time::Duration;

/// Actions that one fact may lead to, with the few exports and connections that there are here.
const ACTIONS_MAX: usize = 64;

/// Exports under way at a time.
const EXPORTS_MAX: usize = 16;

/// Runs one engine through the steps that `data` describes.
pub fn run(data: &[u8]) {
    let config = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_endpoint("http://127.0.0.1:4317")
        .with_timeout(Duration::from_secs(2));
    let mut world = World {
        engine: Engine::new(config, 7).expect("it works"),
        now: Instant::ZERO,
        deadlines: BTreeMap::new(),
        conns: Vec::new(),
        accepted: 0,
    };
    let mut input = Input(data);
    while let Some(op) = input.byte() {
        world.step(op, &mut input);
    }
    world.pass(Duration::from_secs(10));
    assert!(world.deadlines.is_empty(), "every export has its verdict");
    world.fact(Fact::Shutdown);
    assert!(world.engine.is_idle(), "nothing is left");
    assert_eq!(world.engine.stats().settled().total(), world.accepted);
}

struct World {
    engine: Engine<Session>,
    now: Instant,
    /// Exports without a verdict.
    deadlines: BTreeMap<ExportId, Instant>,
    /// Connections that the engine has not closed, and the bytes that each socket has still to take.
    conns: Vec<(ConnId, usize)>,
    accepted: u64,
}

impl World {
    fn step(&mut self, op: u8, input: &mut Input<'_>) {
        let argument = input.byte().unwrap_or(0);
        let count = usize::from(argument);
        let conn = self
            .conns
            .get(usize::from(op >> 4) % self.conns.len().max(1))
            .copied();
        let known = conn.map(|(id, _)| id);
        match (op & 0xf, known) {
            (0 | 1, _) => self.submit(count * if op & 1 == 0 { 1 } else { 600 }),
            (2, _) => self.pass(Duration::from_millis(u64::from(argument) * 4)),
            (3, _) => {
                let id = self.deadlines.keys().nth(count % EXPORTS_MAX).copied();
                if let Some(id) = id {
                    self.fact(Fact::Cancel(id));
                }
            }
            (4 | 5, Some(id)) => self.fact(Fact::Connected(id)),
            (6, Some(id)) => self.fact(Fact::ConnectFailed(id, "refused")),
            (7, Some(id)) => self.fact(Fact::Eof(id)),
            (8, Some(id)) => self.fact(Fact::Failed(id, "reset")),
            (9, Some(id)) => self.take(id, count * 97),
            (10, Some(id)) => self.take(id, usize::MAX),
            (11, Some(id)) => self.fact(Fact::Input(id, input.bytes(count))),
            (12, Some(id)) => self.fact(Fact::Input(id, &frame(4, 0, 0, input.bytes(count % 5 * 6)))),
            (13, Some(id)) => {
                let stream = u32::from(argument);
                let answer = [
                    // `:status 200`, then `grpc-status: 0` as a literal.
                    frame(1, 4, stream, &[0x88]),
                    frame(0, 0, stream, &[0; 5]),
                    frame(1, 5, stream, b"\x00\x0bgrpc-status\x010"),
                ];
                self.fact(Fact::Input(id, &answer.concat()));
            }
            (_, Some(id)) => {
                let stream = u32::from(input.byte().unwrap_or(0));
                let payload = input.bytes(usize::from(argument >> 4));
                let repeat = if op & 1 == 0 { 1 } else { 100 };
                self.fact(Fact::Input(
                    id,
                    &frame(argument & 0xf, 0, stream, payload).repeat(repeat),
                ));
            }
            (_, None) => {}
        }
    }

    fn submit(&mut self, len: usize) {
        if self.deadlines.len() == EXPORTS_MAX {
            return;
        }
        let request = Request::from_segments(Signal::Traces, 3, vec![Bytes::from(vec![0x5a; len + 1])]);
        self.accepted += 3;
        let id = self.engine.submit(self.now, request);
        self.deadlines.insert(id, self.now + Duration::from_secs(2));
        self.settle();
    }

    /// Lets time pass from one timer to the next.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut fired = 0;
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= end) {
            fired += 1;
            assert!(fired < 10_000, "timers fire for ever at {at:?}");
            self.now = self.now.max(at);
            self.fact(Fact::Timeout);
            let due = self.engine.poll_timeout();
            assert!(
                due.is_none_or(|due| due > self.now),
                "a timer that fired is due again"
            );
        }
        self.now = end;
    }

    fn take(&mut self, conn: ConnId, count: usize) {
        let Some((_, left)) = self.conns.iter_mut().find(|(id, _)| *id == conn) else {
            return;
        };
        let count = count.min(*left);
        *left -= count;
        self.fact(Fact::Sent(conn, count));
    }

    fn fact(&mut self, fact: Fact<'_>) {
        self.engine.handle(self.now, fact);
        self.settle();
    }

    fn settle(&mut self) {
        let mut actions = 0;
        while let Some(action) = self.engine.poll_action() {
            actions += 1;
            assert!(actions < ACTIONS_MAX, "one fact leads to no end of actions");
            match action {
                Action::Connect(id, _) if self.conns.iter().all(|(known, _)| *known != id) => {
                    self.conns.push((id, 0));
                }
                Action::Transmit(id, chunks) => {
                    let conn = self.conns.iter_mut().find(|(known, _)| *known == id);
                    conn.expect("an open connection").1 += chunks.iter().map(Bytes::len).sum::<usize>();
                }
                Action::Close(id) => self.conns.retain(|(known, _)| *known != id),
                _ => {}
            }
        }
        while let Some((id, verdict)) = self.engine.poll_outcome() {
            let deadline = self.deadlines.remove(&id).expect("one verdict an export");
            assert!(self.now <= deadline, "a verdict after the deadline: {verdict:?}");
            let counts = match &verdict {
                Ok(outcome) => outcome.counts(),
                Err(error) => error.counts(),
            };
            assert_eq!(counts.total(), 3, "{verdict:?}");
        }
        let stats = self.engine.stats();
        assert!(stats.is_conserved(), "{stats:?}");
        assert_eq!(stats.in_flight, 3 * self.deadlines.len() as u64, "{stats:?}");
    }
}
