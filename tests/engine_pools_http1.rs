//! Pools of real HTTP/1.1 connections under an engine: bursts, stale connections, servers that hang up, ages.

use bytes::Bytes;
use otlp_embed::encode::Signal;
use otlp_embed::export::{Action, ConnId, CredentialHeaders, CredentialSource, Engine, ExportId, Fact};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::protocol::{Session, Settings};
use otlp_embed::time::Instant;
use otlp_embed::{Config, Error, Outcome, Protocol, Request};
use std::collections::BTreeMap;
use std::time::Duration;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
const OK_AND_CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

struct World {
    engine: Engine<Session>,
    now: Instant,
    ids: Vec<ConnId>,
    /// What each connection has carried, and how many requests were answered.
    wires: Vec<Wire>,
    verdicts: BTreeMap<ExportId, Result<Outcome, Error>>,
}

#[derive(Default)]
struct Wire {
    egress: Vec<u8>,
    answered: usize,
    is_closed: bool,
}

impl Wire {
    fn requests(&self) -> usize {
        let text = String::from_utf8_lossy(&self.egress);
        text.matches("POST /v1/traces HTTP/1.1\r\n").count()
    }
}

fn settings() -> Settings {
    let config = Config::new()
        .with_protocol(Protocol::HttpProtobuf)
        .with_endpoint("http://127.0.0.1:4318");
    config.settings().expect("settings that work")
}

fn request() -> Request {
    Request::from_segments(Signal::Traces, 1, vec![Bytes::from_static(b"\n\x00")])
}

impl World {
    fn new(settings: Settings) -> Self {
        Self {
            engine: Engine::with_settings(settings, 3),
            now: Instant::from_millis(1),
            ids: Vec::new(),
            wires: Vec::new(),
            verdicts: BTreeMap::new(),
        }
    }

    fn submit(&mut self) -> ExportId {
        let id = self.engine.submit(self.now, request());
        self.settle();
        id
    }

    fn fact(&mut self, fact: Fact<'_>) {
        self.engine.handle(self.now, fact);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Connect(id, _) => {
                    self.ids.push(id);
                    self.wires.push(Wire::default());
                    self.engine.handle(self.now, Fact::Connected(id));
                }
                Action::Transmit(id, pieces) => {
                    let bytes = pieces.concat();
                    self.wire(id).egress.extend_from_slice(&bytes);
                    self.engine.handle(self.now, Fact::Sent(id, bytes.len()));
                }
                Action::Close(id) => self.wire(id).is_closed = true,
                // Some tests give the answer themselves.
                Action::Authorize(..) => {}
                other => panic!("not part of this world: {other:?}"),
            }
        }
        while let Some((id, verdict)) = self.engine.poll_outcome() {
            self.verdicts.insert(id, verdict);
        }
        assert!(self.engine.stats().is_conserved());
    }

    fn wire(&mut self, id: ConnId) -> &mut Wire {
        let at = self.ids.iter().position(|known| *known == id);
        &mut self.wires[at.expect("it was asked for")]
    }

    /// Answers what a connection has under way.
    fn answer(&mut self, wire: usize, answer: &[u8]) {
        if self.wires[wire].is_closed || self.wires[wire].requests() == self.wires[wire].answered {
            return;
        }
        self.wires[wire].answered += 1;
        self.fact(Fact::Input(self.ids[wire], answer));
    }

    fn answer_all(&mut self, answer: &[u8]) {
        while self.engine.stats().exports_in_flight > 0 {
            (0..self.wires.len()).for_each(|wire| self.answer(wire, answer));
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.engine.poll_timeout().filter(|&at| at <= until) {
            self.now = self.now.max(at);
            self.fact(Fact::Timeout);
        }
        self.now = until;
    }

    fn live(&self) -> usize {
        self.wires.iter().filter(|wire| !wire.is_closed).count()
    }

    fn attempts(&mut self, id: ExportId) -> u32 {
        let verdict = self.verdicts.remove(&id).expect("it is settled");
        verdict.expect("success").attempts()
    }
}

#[test]
fn a_burst_goes_out_on_as_many_connections_as_are_allowed() {
    let mut world = World::new(settings());
    let ids: Vec<_> = (0..20).map(|_| world.submit()).collect();
    assert_eq!(world.live(), 4, "spec 8");
    world.answer_all(OK);
    assert!(ids.into_iter().all(|id| world.attempts(id) == 1));
    assert_eq!(world.engine.stats().connections, 4, "spec 24");
    world.pass(Duration::from_secs(100));
    assert_eq!(world.live(), 1);
}

#[test]
fn a_server_that_closes_after_each_answer_gets_a_connection_for_each() {
    let mut world = World::new(settings());
    let ids: Vec<_> = (0..20).map(|_| world.submit()).collect();
    world.answer_all(OK_AND_CLOSE);
    assert!(ids.into_iter().all(|id| world.attempts(id) == 1));
    assert_eq!((world.engine.stats().connections, world.live()), (20, 0));
    assert_eq!(world.engine.stats().possible_duplicates, 0);
}

#[test]
fn a_stale_connection_is_seen_through_at_once() {
    let mut world = World::new(settings());
    for _ in 0..4 {
        world.submit();
    }
    world.answer_all(OK);
    world.pass(Duration::from_secs(60));
    let id = world.submit();
    let used = (0..4).find(|&wire| world.wires[wire].requests() == 2);
    let used = used.expect("one was taken again");
    world.fact(Fact::Failed(world.ids[used], "reset by peer"));
    assert_eq!(world.wires.len(), 5, "spec 50: a new one, at once");
    assert_eq!(world.live(), 1);
    world.answer(4, OK);
    assert_eq!(world.attempts(id), 2);
    assert_eq!(world.engine.stats().possible_duplicates, 1);
}

#[test]
fn a_server_that_says_how_long_it_waits_is_not_written_to_later() {
    let mut world = World::new(settings());
    world.submit();
    world.answer(
        0,
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nkeep-alive: timeout=5\r\n\r\n",
    );
    // Nobody told the time in between.
    world.now = world.now + Duration::from_secs(6);
    let id = world.submit();
    world.answer_all(OK);
    assert_eq!(world.engine.stats().possible_duplicates, 0);
    assert_eq!(world.engine.stats().connections, 2);
    assert_eq!(world.attempts(id), 1);
}

#[test]
fn connections_past_their_time_cost_no_attempt() {
    let mut settings = settings();
    settings.retry = RetryPolicy::never();
    let mut world = World::new(settings);
    let keep = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nkeep-alive: timeout=5\r\n\r\n";
    for _ in 0..4 {
        world.submit();
    }
    world.answer_all(keep);
    assert_eq!(world.live(), 4);
    // Nobody told the time in between.
    world.now = world.now + Duration::from_secs(6);
    let id = world.submit();
    world.answer_all(keep);
    assert_eq!(world.attempts(id), 1, "spec 50");
    assert_eq!((world.engine.stats().retries, world.live()), (0, 1));
}

#[test]
fn connections_past_their_time_cost_no_attempt_while_credentials_are_awaited() {
    let mut settings = settings();
    settings.retry = RetryPolicy::never();
    settings.routes[0].credentials = Some(CredentialSource::new(|| String::from("token")));
    let mut world = World::new(settings);
    let keep = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nkeep-alive: timeout=5\r\n\r\n";
    let headers = CredentialHeaders::new(Vec::new());
    let authorize = |world: &mut World, id| world.fact(Fact::Authorized(id, &headers));
    let ids: Vec<_> = (0..4).map(|_| world.submit()).collect();
    ids.into_iter().for_each(|id| authorize(&mut world, id));
    world.answer_all(keep);
    let id = world.submit();
    world.now = world.now + Duration::from_secs(6);
    authorize(&mut world, id);
    world.answer_all(keep);
    assert_eq!(world.attempts(id), 1, "spec 50");
    assert_eq!(world.engine.stats().retries, 0);
}

#[test]
fn ageing_under_load_loses_and_repeats_nothing() {
    let mut settings = settings();
    settings.lanes[0].max_connection_age = Some(Duration::from_secs(2));
    let mut world = World::new(settings);
    let mut rng = fastrand::Rng::with_seed(9);
    let mut ids = Vec::new();
    for _ in 0..2_000 {
        (0..rng.usize(..3)).for_each(|_| ids.push(world.submit()));
        let wire = rng.usize(..world.wires.len().max(1));
        if wire < world.wires.len() {
            world.answer(wire, OK);
        }
        world.answer(world.wires.len().saturating_sub(1 + rng.usize(..4)), OK);
        world.pass(Duration::from_millis(rng.u64(..40)));
        assert!(world.live() <= 8);
    }
    world.answer_all(OK);
    let count = ids.len() as u64;
    for id in ids {
        assert_eq!(world.attempts(id), 1);
    }
    let stats = world.engine.stats();
    assert_eq!((stats.delivered, stats.possible_duplicates), (count, 0));
    assert!(stats.connections > 20, "{stats:?}");
}
