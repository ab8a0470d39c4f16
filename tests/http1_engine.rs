//! The whole exporter over HTTP/1.1, opposite a server in memory, on a virtual clock.

use bytes::Bytes;
use otlp_embed::endpoint::Target;
use otlp_embed::export::{Action, ConnId, Engine, ExportId, Fact};
use otlp_embed::time::Instant;
use otlp_embed::{Config, DropReason, Error, Outcome, Protocol, Request, Signal};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";

/// What the server does with a request that it has read whole.
#[derive(Clone, Debug)]
enum Reaction {
    /// It says this.
    Say(Vec<u8>),
    /// It says this and closes the connection.
    SayAndClose(Vec<u8>),
    /// It says nothing.
    Hold,
}

struct World {
    engine: Engine,
    now: Instant,
    links: BTreeMap<ConnId, Link>,
    /// What the server does with the next requests; then it accepts.
    next: VecDeque<Reaction>,
    /// Bodies that the server read whole, in their order.
    requests: Vec<Vec<u8>>,
    /// Bodies that the server answered with a success.
    accepted: BTreeSet<Vec<u8>>,
    verdicts: BTreeMap<ExportId, Result<Outcome, Error>>,
    opened: usize,
    most_open: usize,
    /// Bytes that move at a time.
    chunk: Box<dyn FnMut() -> usize>,
}

#[derive(Default)]
struct Link {
    egress: VecDeque<u8>,
    inbox: Vec<u8>,
    ingress: VecDeque<u8>,
    is_closed: bool,
}

fn config() -> Config {
    Config::new()
        .with_protocol(Protocol::HttpProtobuf)
        .with_endpoint("http://127.0.0.1:4318")
}

/// A request of one item that nobody else sends.
fn request(number: u32) -> Request {
    let bytes = Bytes::from(number.to_be_bytes().repeat(5));
    Request::from_segments(Signal::Traces, 1, vec![bytes])
}

impl World {
    fn new(config: Config) -> Self {
        Self {
            engine: Engine::new(config, 7).expect("it works"),
            now: Instant::from_millis(1),
            links: BTreeMap::new(),
            next: VecDeque::new(),
            requests: Vec::new(),
            accepted: BTreeSet::new(),
            verdicts: BTreeMap::new(),
            opened: 0,
            most_open: 0,
            chunk: Box::new(|| usize::MAX),
        }
    }

    fn submit(&mut self, request: Request) -> ExportId {
        let id = self.engine.submit(self.now, request);
        self.settle();
        id
    }

    fn export(&mut self, request: Request) -> Result<Outcome, Error> {
        let id = self.submit(request);
        self.run_until(id)
    }

    fn run_until(&mut self, id: ExportId) -> Result<Outcome, Error> {
        loop {
            if let Some(verdict) = self.verdicts.remove(&id) {
                return verdict;
            }
            assert!(
                self.step() || self.pass_time(),
                "nothing can happen, and no verdict"
            );
        }
    }

    fn fact(&mut self, fact: Fact<'_>) {
        self.engine.handle(self.now, fact);
        self.settle();
    }

    fn settle(&mut self) {
        let stats = self.engine.stats();
        assert!(stats.is_conserved(), "{stats:?}");
        while let Some((id, verdict)) = self.engine.poll_outcome() {
            assert!(
                self.verdicts.insert(id, verdict).is_none(),
                "one verdict an export"
            );
        }
    }

    /// Moves what can move without time passing; whether anything did.
    fn step(&mut self) -> bool {
        let mut has_moved = false;
        while let Some(action) = self.engine.poll_action() {
            has_moved = true;
            match action {
                Action::Connect(conn, Target::Tcp(_)) => {
                    self.opened += 1;
                    self.links.insert(conn, Link::default());
                    self.most_open = self.most_open.max(self.links.len());
                    self.fact(Fact::Connected(conn));
                }
                Action::Transmit(conn, pieces) => {
                    if let Some(link) = self.links.get_mut(&conn) {
                        link.egress.extend(pieces.iter().flatten());
                    }
                }
                Action::Close(conn) => drop(self.links.remove(&conn)),
                other => panic!("not part of this world: {other:?}"),
            }
        }
        for conn in self.links.keys().copied().collect::<Vec<_>>() {
            has_moved |= self.carry_out(conn) | self.carry_in(conn);
        }
        has_moved
    }

    fn carry_out(&mut self, conn: ConnId) -> bool {
        let limit = (self.chunk)();
        let Some(link) = self.links.get_mut(&conn).filter(|link| !link.egress.is_empty()) else {
            return false;
        };
        let count = link.egress.len().min(limit);
        let bytes: Vec<u8> = link.egress.drain(..count).collect();
        if !link.is_closed {
            link.inbox.extend(bytes);
            self.serve(conn);
        }
        self.fact(Fact::Sent(conn, count));
        true
    }

    fn carry_in(&mut self, conn: ConnId) -> bool {
        let limit = (self.chunk)();
        let Some(link) = self.links.get_mut(&conn) else {
            return false;
        };
        let count = link.ingress.len().min(limit);
        if count > 0 {
            let bytes: Vec<u8> = link.ingress.drain(..count).collect();
            self.fact(Fact::Input(conn, &bytes));
            return true;
        }
        if link.is_closed {
            self.links.remove(&conn);
            self.fact(Fact::Eof(conn));
            return true;
        }
        false
    }

    /// The server reads what it has of a request.
    fn serve(&mut self, conn: ConnId) {
        let Some(link) = self.links.get_mut(&conn) else {
            return;
        };
        let Some(end) = link.inbox.windows(4).position(|at| at == b"\r\n\r\n") else {
            return;
        };
        let head = std::str::from_utf8(&link.inbox[..end]).expect("a head is ASCII");
        let (_, len) = head.rsplit_once("content-length: ").expect("a length");
        let end = end + 4 + len.parse::<usize>().expect("a number");
        if link.inbox.len() < end {
            return;
        }
        assert_eq!(
            link.inbox.len(),
            end,
            "no request behind one that was not answered"
        );
        let body = link
            .inbox
            .split_off(end - len.parse::<usize>().expect("a number"));
        link.inbox.clear();
        let reaction = self
            .next
            .pop_front()
            .unwrap_or_else(|| Reaction::Say(OK.to_vec()));
        self.requests.push(body.clone());
        let (Reaction::Say(bytes) | Reaction::SayAndClose(bytes)) = &reaction else {
            return;
        };
        if bytes.starts_with(b"HTTP/1.1 2") {
            self.accepted.insert(body);
        }
        link.ingress.extend(bytes);
        link.is_closed |= matches!(reaction, Reaction::SayAndClose(_));
    }

    fn pass_time(&mut self) -> bool {
        let Some(due) = self.engine.poll_timeout() else {
            return false;
        };
        self.now = self.now.max(due);
        self.fact(Fact::Timeout);
        true
    }

    /// Time passes without anything being due.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step() {}
        while self.engine.poll_timeout().is_some_and(|at| at <= end) {
            self.pass_time();
            while self.step() {}
        }
        self.now = end;
    }
}

fn say(status: &str, fields: &str) -> Reaction {
    Reaction::Say(format!("HTTP/1.1 {status}\r\n{fields}content-length: 0\r\n\r\n").into_bytes())
}

#[test]
fn exports_share_a_kept_connection() {
    let mut world = World::new(config());
    for number in 0..100 {
        let outcome = world.export(request(number)).expect("delivered");
        assert_eq!((outcome.delivered(), outcome.attempts()), (1, 1));
        world.wait(Duration::from_secs(5));
    }
    assert_eq!(world.opened, 1, "spec 24");
    assert_eq!(world.requests.len(), 100, "nothing was sent twice");
}

#[test]
fn many_exports_take_a_few_connections() {
    let mut world = World::new(config());
    let ids: Vec<_> = (0..50).map(|number| world.submit(request(number))).collect();
    for id in ids {
        assert_eq!(world.run_until(id).expect("delivered").delivered(), 1, "spec 7");
    }
    let limit = world.engine.settings().lanes[0].http1_connections_max;
    assert!(
        (2..=limit).contains(&world.most_open),
        "spec 8: {} at a time",
        world.most_open
    );
    assert_eq!(world.requests.len(), 50);
}

#[test]
fn statuses_decide_about_another_attempt() {
    for status in ["429 x", "502 x", "503 x", "504 x"] {
        let mut world = World::new(config());
        world.next.push_back(say(status, ""));
        let outcome = world.export(request(1)).expect("delivered");
        assert_eq!(
            (outcome.delivered(), outcome.attempts()),
            (1, 2),
            "spec 19: {status}"
        );
        assert_eq!(world.opened, 1, "spec 24: {status}");
    }
    for status in [
        "400 x", "401 x", "404 x", "408 x", "413 x", "500 x", "501 x", "307 x",
    ] {
        let mut world = World::new(config());
        world.next.push_back(say(status, "retry-after: 1\r\n"));
        let error = world.export(request(1)).expect_err("refused");
        assert!(!error.is_retryable(), "spec 20: {error}");
        assert_eq!(
            (error.attempts(), error.counts().rejected),
            (1, 1),
            "spec 14: {error}"
        );
        assert_eq!(error.http_status(), status[..3].parse().ok(), "{error}");
        assert_eq!(world.requests.len(), 1, "spec 20, spec 53: {status}");
    }
}

#[test]
fn a_wait_that_is_asked_for_is_kept() {
    let mut world = World::new(config());
    let (date, later) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:40 GMT");
    world.next.push_back(say("503 x", "retry-after: 2\r\n"));
    world
        .next
        .push_back(say("429 x", &format!("date: {date}\r\nretry-after: {later}\r\n")));
    let begin = world.now;
    let outcome = world.export(request(1)).expect("delivered");
    assert_eq!(outcome.attempts(), 3);
    let passed = world.now - begin;
    assert!(
        (5_000..8_000).contains(&passed.as_millis()),
        "spec 21: {passed:?}"
    );
    let mut world = World::new(config());
    world.next.push_back(say("503 x", "retry-after: 3600\r\n"));
    let begin = world.now;
    let error = world.export(request(1)).expect_err("too late");
    assert_eq!(world.now - begin, Duration::ZERO, "spec 21: it fails at once");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3_600)), "{error}");
}

#[test]
fn a_partial_success_is_an_outcome() {
    let mut world = World::new(config());
    let mut partial = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n".to_vec();
    partial.extend([0x0a, 7, 8, 1, 0x12, 3, b'o', b'l', b'd']);
    world.next.push_back(Reaction::Say(partial));
    let outcome = world.export(request(1)).expect("an outcome");
    assert_eq!((outcome.rejected(), outcome.delivered()), (1, 0), "spec 12");
    assert_eq!(world.requests.len(), 1, "spec 12");
}

#[test]
fn a_connection_that_the_server_closed_costs_no_export() {
    for is_told in [false, true] {
        let mut world = World::new(config());
        for number in 0..20 {
            // The server closes behind its answer, and says so or not.
            let mut answer = OK.to_vec();
            if is_told {
                answer.splice(15..17, *b"\r\nconnection: close\r\n");
            }
            world.next.push_back(Reaction::SayAndClose(answer));
            let outcome = world.export(request(number)).expect("delivered");
            assert_eq!(outcome.delivered(), 1, "spec 50");
            world.wait(Duration::from_secs(1));
        }
        assert_eq!(world.requests.len(), 20, "told {is_told}: nothing was sent twice");
        assert_eq!(world.opened, 20);
    }
    // The end of the connection is found only after the next request went out on it.
    let mut world = World::new(config());
    assert_eq!(world.export(request(0)).expect("delivered").delivered(), 1);
    let begin = world.now;
    for link in world.links.values_mut() {
        link.is_closed = true;
    }
    let id = world.submit(request(1));
    let outcome = world.run_until(id).expect("delivered");
    assert_eq!(outcome.delivered(), 1, "spec 50");
    assert_eq!(world.opened, 2);
    assert!(world.now - begin < Duration::from_secs(1), "spec 50");
    assert_eq!(world.requests.len(), 2);
}

#[test]
fn a_connection_that_the_peer_keeps_for_five_seconds_is_not_used_after_four() {
    let mut world = World::new(config());
    let kept = b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=5\r\ncontent-length: 0\r\n\r\n";
    for number in 0..10 {
        world.next.push_back(Reaction::Say(kept.to_vec()));
        let begin = world.now;
        let outcome = world.export(request(number)).expect("delivered");
        assert_eq!(
            (outcome.delivered(), world.now),
            (1, begin),
            "spec 50: without a wait"
        );
        // A shell that is not driven between two exports.
        world.now = world.now + Duration::from_secs(5);
    }
    assert_eq!(world.opened, 10);
    assert_eq!(world.engine.stats().unknown, 0);
}

#[test]
fn a_cancelled_export_does_not_hold_back_the_next() {
    for uses in 0..2 {
        let mut world = World::new(config());
        for number in 0..uses {
            world.export(request(number)).expect("delivered");
        }
        world.next.push_back(Reaction::Hold);
        let cancelled = world.submit(request(8));
        while world.step() {}
        world.fact(Fact::Cancel(cancelled));
        let error = world.run_until(cancelled).expect_err("cancelled");
        assert_eq!(error.counts().unknown, 1, "it was sent whole");
        let begin = world.now;
        let outcome = world.export(request(9)).expect("delivered");
        assert_eq!((outcome.delivered(), outcome.attempts()), (1, 1));
        assert_eq!(world.now, begin, "the endpoint is not to blame");
    }
}

#[test]
fn an_answer_that_never_ends_costs_one_export() {
    let mut world = World::new(config());
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";
    world.next.push_back(Reaction::Say(head.to_vec()));
    let begin = world.now;
    let error = world.export(request(1)).expect_err("it never ends");
    assert!(error.is_timeout(), "spec 49: {error}");
    assert_eq!(world.now - begin, Duration::from_secs(10), "spec 38, spec 49");
    assert_eq!(error.counts().unknown, 1);
    assert_eq!(
        world.export(request(2)).expect("delivered").delivered(),
        1,
        "spec 49"
    );
}

#[test]
fn a_peer_of_another_protocol_fails_for_good_and_is_named() {
    let mut world = World::new(config());
    world
        .next
        .push_back(Reaction::Say(vec![0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100]));
    let error = world.export(request(1)).expect_err("it speaks HTTP/2");
    assert!(
        !error.is_retryable() && error.to_string().contains("HTTP/2"),
        "{error}"
    );
    assert_eq!(error.drop_reason(), Some(DropReason::NotRetryable), "{error}");
}

#[test]
fn whatever_the_server_does_each_export_has_one_true_verdict() {
    let chunked =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4;x\r\n\x0a\x02\x08\x01\r\n0\r\n\r\n";
    let reactions = [
        Reaction::Say(OK.to_vec()),
        Reaction::Say(chunked.to_vec()),
        Reaction::SayAndClose(b"HTTP/1.1 200 OK\r\n\r\n\x0a".to_vec()),
        Reaction::SayAndClose(b"HTTP/1.1 20".to_vec()),
        Reaction::SayAndClose(Vec::new()),
        Reaction::SayAndClose(OK.to_vec()),
        Reaction::Say(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()),
        Reaction::Hold,
        say("503 x", "retry-after: 1\r\n"),
        say("429 x", ""),
        say("400 x", ""),
        say("408 x", "connection: close\r\n"),
        Reaction::Say(b"HTTP/1.1 nonsense\r\n\r\n".to_vec()),
    ];
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new(config());
        let mut cuts = random.fork();
        world.chunk = Box::new(move || {
            if cuts.bool() {
                cuts.usize(1..60)
            } else {
                usize::MAX
            }
        });
        let mut ids = BTreeMap::new();
        for number in 0..40 {
            let reaction = if random.bool() {
                &reactions[0]
            } else {
                random.choice(&reactions).expect("some")
            };
            world.next.push_back(reaction.clone());
            let id = world.submit(request(number));
            ids.insert(
                id,
                (
                    number.to_be_bytes().repeat(5),
                    world.now + Duration::from_secs(10),
                ),
            );
            match random.u8(0..8) {
                0 => world.fact(Fact::Cancel(id)),
                1 => {
                    // A network that loses a connection.
                    let conn = world.links.keys().copied().nth(random.usize(0..4));
                    if let Some(conn) = conn {
                        world.links.remove(&conn);
                        world.fact(Fact::Failed(conn, "reset by peer"));
                    }
                }
                2 => world.wait(Duration::from_millis(random.u64(1..3_000))),
                3 => drop(world.pass_time()),
                _ => drop(world.step()),
            }
        }
        for (id, (body, deadline)) in ids {
            let counts = match world.run_until(id) {
                Ok(outcome) => {
                    let is_true = outcome.delivered() == 0 || world.accepted.contains(&body);
                    assert!(is_true, "seed {seed}: {outcome:?} was never accepted");
                    outcome.counts()
                }
                Err(error) => {
                    let was_accepted = world.accepted.contains(&body);
                    let counts = error.counts();
                    assert!(
                        !was_accepted
                            || counts.dropped == 0
                            || world.requests.iter().filter(|sent| **sent == body).count() > 1,
                        "seed {seed}: told to be dropped, yet accepted: {error}"
                    );
                    counts
                }
            };
            assert_eq!(counts.total(), 1, "seed {seed}");
            assert!(world.now <= deadline || world.verdicts.len() < 40, "seed {seed}");
        }
        world.fact(Fact::Shutdown);
        while world.step() {}
        assert!(world.engine.is_idle(), "seed {seed}");
    }
}

#[test]
fn an_answer_that_lay_there_before_the_request_is_not_its_answer() {
    for stray in [OK, b"HTTP/1.1 400 x\r\ncontent-length: 0\r\n\r\n", b"H", b"\0"] {
        let mut world = World::new(config());
        world.export(request(1)).expect("delivered");
        let conn = *world.links.keys().next().expect("it is kept");
        // As a shell does that reads before it carries out what the export asks for.
        let id = world.submit(request(2));
        world.fact(Fact::Input(conn, stray));
        let outcome = world.run_until(id).expect("delivered");
        assert_eq!((outcome.delivered(), outcome.attempts()), (1, 2), "spec 50");
        assert_eq!((world.opened, world.requests.len()), (2, 2), "it was sent once");
        assert_eq!(world.now, Instant::from_millis(1), "without a wait");
        let stats = world.engine.stats();
        assert!(stats.is_conserved(), "{stats:?}");
    }
    // What the shell was not given it never gets: it may hand bytes to the kernel at once.
    let mut world = World::new(config());
    world.export(request(1)).expect("delivered");
    let conn = *world.links.keys().next().expect("it is kept");
    world.submit(request(2));
    world.fact(Fact::Input(conn, OK));
    while let Some(action) = world.engine.poll_action() {
        assert!(!matches!(action, Action::Transmit(..)), "{action:?}");
    }
    // Once the shell has the request, its count may come later than the answer.
    let mut world = World::new(config());
    world.export(request(1)).expect("delivered");
    let id = world.submit(request(2));
    let Some(Action::Transmit(conn, pieces)) = world.engine.poll_action() else {
        panic!("the request goes out");
    };
    world.fact(Fact::Input(conn, OK));
    world.fact(Fact::Sent(conn, pieces.iter().map(Bytes::len).sum()));
    assert_eq!(world.run_until(id).expect("delivered").attempts(), 1);
    world.export(request(3)).expect("delivered");
    assert_eq!(world.opened, 1, "spec 24");
}
