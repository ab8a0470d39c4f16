//! The whole exporter against a hostile world, on fixed seeds: whatever the account says is what the collector saw.

#[path = "support/batches.rs"]
#[allow(dead_code)]
mod batches;

use batches::batch_with;
use bytes::Bytes;
use fastrand::Rng;
use otlp_embed::Keepalive;
use otlp_embed::endpoint::Target;
use otlp_embed::export::{Action, ConnId, Engine, ExportId, Fact};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::testing::collector::{Builder, Fate, RawAnswer, ServerSession};
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::time::Instant;
use otlp_embed::{Code, Config, Error, ItemCounts, Outcome};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

/// Seeds of a run, each a world of its own.
const SEEDS: std::ops::Range<u64> = 0..40;

/// Facts of one world at most: about ten times what the longest takes.
const STEPS_MAX: usize = 200_000;

/// Times in a row that the engine may be due at the time that it already is.
const STANDSTILL_MAX: usize = 200;

static PAYLOAD: [u8; 400_000] = [b'x'; 400_000];

#[test]
fn the_account_is_what_the_collector_saw() {
    for seed in SEEDS {
        let run = std::panic::catch_unwind(|| World::new(seed).run());
        assert!(run.is_ok(), "seed {seed} fails");
    }
}

/// One export of the run.
struct Export {
    items: u64,
    deadline: Instant,
    verdict: Option<Result<Outcome, Error>>,
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

struct World {
    rng: Rng,
    engine: Engine,
    builder: Builder,
    now: Instant,
    exports: BTreeMap<ExportId, Export>,
    /// The first item of each export, by which its requests are told apart.
    firsts: BTreeMap<u64, ExportId>,
    links: BTreeMap<ConnId, Link>,
    opened: u64,
    next_item: u64,
    standstill: usize,
    /// Bytes that a socket takes at a time at most.
    socket: usize,
    /// How often a connection or a connect fails, in a thousand steps.
    faults: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut retry = RetryPolicy::default();
        if rng.u8(..4) == 0 {
            retry.attempts_max = rng.u32(1..4);
        }
        retry.initial = Duration::from_millis(rng.u64(1..300));
        retry.max = retry.initial.max(Duration::from_millis(rng.u64(1..3_000)));
        let mut config = Config::new()
            .with_protocol(otlp_embed::Protocol::Grpc)
            .with_endpoint("http://127.0.0.1:4317")
            .with_timeout(Duration::from_millis(rng.u64(1..8_000)))
            .with_connect_timeout(Duration::from_millis(rng.u64(1..4_000)))
            .with_retry_policy(retry);
        if rng.u8(..4) == 0 {
            config = config.with_memory_limit(rng.usize(1..600_000));
        }
        let window = [0, 1, 1_000, 65_535, 1 << 20, 1 << 24, 1 << 24][rng.usize(..7)];
        let mut builder = Collector::builder()
            .max_concurrent_streams([0, 1, 2, 10, 128][rng.usize(..5).max(usize::from(rng.bool()))])
            .initial_window_size(window)
            .initial_connection_window_size([65_535, 1 << 20, 1 << 26][rng.usize(..3)])
            .max_frame_size([16_384, 100_000, (1 << 24) - 1][rng.usize(..3)])
            .message_bytes_max([100, 10_000, 64 << 20, 64 << 20][rng.usize(..4)]);
        if rng.u8(..4) == 0 {
            builder = builder.requests_per_connection(rng.u64(1..5));
        }
        let answers = Mutex::new(rng.fork());
        let evil = rng.u8(..100);
        builder.inbox().answer_with(move |_| {
            let mut rng = answers.lock().expect("no panic");
            if rng.u8(..100) < evil {
                answer(&mut rng)
            } else {
                Answer::Ok
            }
        });
        let socket = [10, 1_000, 100_000, usize::MAX][rng.usize(..4)];
        let faults = [0, 0, 1, 10, 50][rng.usize(..5)];
        let mut settings = config.settings().expect("settings that work");
        if rng.u8(..3) == 0 {
            settings.lanes[0].max_connection_age = Some(Duration::from_millis(rng.u64(1..3_000)));
        }
        if rng.u8(..3) == 0 {
            settings.lanes[0].keepalive = Some(Keepalive {
                interval: Duration::from_millis(rng.u64(1..2_000)),
                timeout: Duration::from_millis(rng.u64(1..2_000)),
                while_idle: rng.bool(),
            });
        }
        Self {
            engine: Engine::with_settings(settings, seed),
            rng,
            builder,
            now: Instant::from_millis(1),
            exports: BTreeMap::new(),
            firsts: BTreeMap::new(),
            links: BTreeMap::new(),
            opened: 0,
            next_item: 0,
            standstill: 0,
            faults,
            socket,
        }
    }

    fn run(mut self) {
        let mut to_come = self.rng.usize(1..60);
        let is_shut_down = self.rng.u8(..8) == 0;
        for _ in 0..STEPS_MAX {
            if to_come > 0 && self.rng.u8(..10) == 0 {
                to_come -= 1;
                self.submit();
            }
            if to_come == 0 && is_shut_down && self.rng.u8(..50) == 0 {
                self.fact(Fact::Shutdown);
            }
            self.perturb();
            let has_moved = self.act() | self.move_bytes();
            if to_come == 0 && self.exports.values().all(|e| e.verdict.is_some()) {
                // What still lies with a slow socket arrives before the reckoning.
                self.socket = usize::MAX;
                if !has_moved {
                    return self.audit();
                }
            }
            if !has_moved || self.rng.u8(..8) == 0 {
                self.pass_time(has_moved || to_come > 0);
            }
        }
        let open = self.exports.values().filter(|e| e.verdict.is_none()).count();
        panic!(
            "{open} exports without a verdict after {STEPS_MAX} steps, {:?}",
            self.engine.stats()
        );
    }

    fn submit(&mut self) {
        let items = self.rng.u64(0..4);
        let payload = [0, 0, 0, 10, 2_000, 70_000, 400_000][self.rng.usize(..7)];
        let payload = core::str::from_utf8(&PAYLOAD[..payload]).expect("ASCII");
        let mut request = batch_with(self.next_item, items, payload);
        let mut timeout = self.engine.settings().routes[0].timeout;
        if self.rng.bool() {
            timeout = Duration::from_micros(self.rng.u64(0..4_000_000));
            request = request.with_timeout(timeout);
        }
        let id = self.engine.submit(self.now, request);
        self.firsts.insert(self.next_item, id);
        self.next_item += items.max(1);
        let export = Export {
            items,
            deadline: self.now + timeout,
            verdict: None,
        };
        self.exports.insert(id, export);
        self.settle();
    }

    /// What nobody asked for: cancels, connections that end on either side, facts out of their order.
    fn perturb(&mut self) {
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

    fn act(&mut self) -> bool {
        let mut has_acted = false;
        while let Some(action) = self.engine.poll_action() {
            has_acted = true;
            match action {
                Action::Connect(id, Target::Tcp(_)) => match self.rng.u32(..1_000) {
                    fate if fate < self.faults => self.fact(Fact::ConnectFailed(id, "refused")),
                    // Nobody ever hears of it again.
                    fate if fate < 2 * self.faults => {}
                    _ => self.connect(id),
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
                other => panic!("not part of this world: {other:?}"),
            }
        }
        self.settle();
        has_acted
    }

    fn connect(&mut self, id: ConnId) {
        self.opened += 1;
        let mut session = self.builder.session(self.opened);
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
    fn move_bytes(&mut self) -> bool {
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
    fn pass_time(&mut self, is_little: bool) {
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

    fn fact(&mut self, fact: Fact<'_>) {
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

    /// Compares the verdicts with what the collector recorded.
    fn audit(self) {
        let inbox = self.builder.inbox();
        let mut received: BTreeMap<ExportId, Vec<Answer>> = BTreeMap::new();
        let mut duplicates = 0;
        let requests = inbox.requests();
        for span in inbox.spans() {
            let item = u64::from_be_bytes(span.span_id.as_slice().try_into().expect("8 bytes")) - 1;
            let Some(&id) = self.firsts.get(&item) else {
                continue;
            };
            let request = requests
                .iter()
                .find(|r| r.index == span.request)
                .expect("recorded");
            // A later GOAWAY that excludes an earlier call revokes whatever that was answered.
            let is_excluded = requests.iter().any(|other| {
                other.connection == request.connection
                    && other.stream_id <= request.stream_id
                    && other.answer.as_ref().is_some_and(is_goaway)
            });
            let answer = match request.answer.clone() {
                Some(answer) if !is_excluded => answer,
                _ => Answer::GoAway {
                    reason: 0,
                    debug_data: Bytes::new(),
                },
            };
            received.entry(id).or_default().push(answer);
        }
        let mut sums = ItemCounts::default();
        for (id, export) in &self.exports {
            let verdict = export.verdict.as_ref().expect("every export has one");
            let counts = match verdict {
                Ok(outcome) => outcome.counts(),
                Err(error) => error.counts(),
            };
            sums += counts;
            assert_eq!(counts.total(), export.items, "{verdict:?}");
            let answers = received.get(id).map_or(&[][..], Vec::as_slice);
            let context = || format!("{id:?}: {verdict:?}, received and answered: {answers:?}");
            if counts.delivered > 0 {
                // An answer that overtook the GOAWAY behind it stands.
                assert!(
                    answers
                        .iter()
                        .any(|answer| is_success(answer) || is_goaway(answer)),
                    "{}",
                    context()
                );
            }
            if counts.rejected > 0 {
                assert!(answers.iter().any(is_final) || self.is_picky(), "{}", context());
            }
            if counts.dropped > 0 {
                assert!(answers.iter().all(is_failure), "{}", context());
            }
            let accepted = answers.iter().filter(|answer| answer.is_success()).count() as u64;
            duplicates += accepted.saturating_sub(1) * export.items;
        }
        let stats = self.engine.stats();
        assert_eq!(
            (
                stats.delivered,
                stats.rejected,
                stats.unknown,
                stats.dropped.iter().sum()
            ),
            (sums.delivered, sums.rejected, sums.unknown, sums.dropped)
        );
        assert_eq!(
            (stats.in_flight, stats.exports_in_flight, stats.bytes_in_flight),
            (0, 0, 0)
        );
        assert!(
            stats.possible_duplicates >= duplicates,
            "{duplicates} duplicates: {stats:?}"
        );
    }

    fn is_picky(&self) -> bool {
        self.builder.inbox().counters().calls_invalid > 0
    }
}

/// Whether the collector said that it accepted the request: a status in the head stands, whatever follows.
fn is_success(answer: &Answer) -> bool {
    match answer {
        Answer::Drain(answer) | Answer::Delay(_, answer) => is_success(answer),
        Answer::Raw(raw) => format!("{raw:?}").contains("(\"grpc-status\", \"0\")"),
        _ => answer.is_success(),
    }
}

fn is_goaway(answer: &Answer) -> bool {
    match answer {
        Answer::Drain(answer) | Answer::Delay(_, answer) => is_goaway(answer),
        _ => matches!(answer, Answer::GoAway { .. }),
    }
}

/// Whether the collector processed the request and may be refused for good.
fn is_final(answer: &Answer) -> bool {
    match answer {
        Answer::Delay(_, answer) | Answer::Drain(answer) => is_final(answer),
        Answer::Ok => false,
        _ => true,
    }
}

/// Whether the collector said, or will say, that it did not process the request.
fn is_failure(answer: &Answer) -> bool {
    match answer {
        Answer::Drain(answer) | Answer::Delay(_, answer) => is_failure(answer),
        Answer::Status { .. } | Answer::GoAway { .. } | Answer::Reset(_) | Answer::HttpStatus(_) => true,
        Answer::Raw(_) => !is_success(answer) && !format!("{answer:?}").contains("content-length"),
        _ => false,
    }
}

fn answer(rng: &mut Rng) -> Answer {
    let codes = [0, 1, 4, 8, 11, 13, 14, 15, 99];
    match rng.u8(..20) {
        0 | 1 => Answer::Ok,
        2 => Answer::PartialSuccess {
            rejected: rng.i64(-1..3),
            message: "some".into(),
        },
        3 => Answer::status(Code::from_u32(codes[rng.usize(1..9)]), "no"),
        4 => Answer::throttled([Duration::ZERO, Duration::from_millis(20), Duration::MAX][rng.usize(..3)]),
        5 => answer(rng).after(Duration::from_millis(rng.u64(0..3_000))),
        6 => Answer::Never,
        7 => Answer::HeadersOnly,
        8 => Answer::NoTrailers,
        9 => Answer::Drain(Box::new(answer(rng))),
        10 => Answer::GoAway {
            reason: rng.u32(..14),
            debug_data: Bytes::from_static(b"too_many"),
        },
        11 => Answer::Reset(rng.u32(..16)),
        12 => Answer::HttpStatus([400, 404, 429, 503][rng.usize(..4)]),
        13 => Answer::CloseConnection,
        14 => Answer::AbortConnection,
        // A message larger than allowed, and one whose length belies its head.
        18 => RawAnswer::new(200)
            .data(&[0, 0xff, 0xff, 0xff, 0xff][..])
            .trailer("grpc-status", "0")
            .into(),
        19 => RawAnswer::new(200)
            .header("content-length", "9")
            .data(&[0; 5][..])
            .into(),
        15 => RawAnswer::new(200)
            .informational(103)
            .data(&[0; 5][..])
            .trailer("grpc-status", "0")
            .into(),
        16 => RawAnswer::new(200)
            .header("grpc-status", ["0", "-1", "\u{e9}", "14"][rng.usize(..4)])
            .never_ends()
            .into(),
        _ => RawAnswer::new(200)
            .data(&[1, 2, 3][..])
            .trailer("grpc-status", ["x", "", "999999999999"][rng.usize(..3)])
            .into(),
    }
}
