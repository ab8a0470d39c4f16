//! Pools of HTTP/1.1 connections to several destinations, with parts and credentials, against a hostile world on fixed seeds:
//! whatever the account says is what the collectors saw, item for item.

#[path = "support/chance.rs"]
mod chance;

use chance::Chance;
use fastrand::Rng;
use otlp_embed::export::{Engine, Fact};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::testing::collector::{RawAnswer, ReceivedRequest, Value};
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{
    Code, Compression, Config, Credentials, CredentialsError, ItemCounts, LogBatch, Protocol, Request,
    Resource, Signal, TraceBatch,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Seeds of a run, each a world of its own.
const SEEDS: std::ops::Range<u64> = 0..100;

/// Facts of one world at most: about ten times what the longest takes.
const STEPS_MAX: usize = 200_000;

static PAYLOAD: [u8; 40_000] = [b'x'; 40_000];

/// Where each signal goes.
const LANES: [(Signal, u16); 2] = [(Signal::Traces, 4318), (Signal::Logs, 4319)];

#[test]
fn every_item_is_accounted_for_as_the_collectors_saw_it() {
    let mut sum = Sum::default();
    for seed in seeds() {
        match std::panic::catch_unwind(|| World::new(seed).run()) {
            Ok(one) => sum.add(&one),
            Err(_) => panic!("seed {seed} fails"),
        }
    }
    println!("{sum:?}");
    // A simulation in which nothing happens proves nothing.
    let ItemCounts {
        delivered,
        rejected,
        dropped,
        unknown,
        ..
    } = sum.counts;
    let figures = [
        delivered,
        rejected,
        dropped,
        unknown,
        sum.retries,
        sum.splits,
        sum.calm,
        sum.resumed,
    ];
    assert!(figures.iter().all(|&figure| figure >= 20), "{sum:?}");
}

fn seeds() -> std::ops::Range<u64> {
    match std::env::var("POOLS_SEEDS").ok().and_then(|text| {
        let (from, to) = text.split_once(',')?;
        Some(from.parse().ok()?..to.parse().ok()?)
    }) {
        Some(range) => range,
        None => SEEDS,
    }
}

/// What happened in all worlds.
#[derive(Debug, Default)]
struct Sum {
    counts: ItemCounts,
    retries: u64,
    splits: u64,
    /// Items that came to worlds in which nothing goes wrong.
    calm: u64,
    /// Exports after a time in which nobody drove the engine.
    resumed: u64,
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.counts += other.counts;
        self.retries += other.retries;
        self.splits += other.splits;
        self.calm += other.calm;
        self.resumed += other.resumed;
    }
}

/// Tokens of one destination, with a name of its own in each; they may only be seen there.
struct Tokens {
    lane: usize,
    count: AtomicU64,
    /// Of a hundred asks, how many fail.
    evil: u64,
}

impl Credentials for Tokens {
    fn headers(&self) -> Result<Vec<(String, String)>, CredentialsError> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        if count.wrapping_mul(7_919) % 100 < self.evil {
            return match count % 3 {
                0 => Err("none now".into()),
                1 => Ok(vec![("content-length".into(), "1".into())]),
                // A panic that no hook writes about.
                _ => std::panic::resume_unwind(Box::new("on purpose")),
            };
        }
        Ok(vec![(
            "authorization".into(),
            format!("Bearer {}-{count}", self.lane),
        )])
    }
}

/// What is known of an export.
struct Sent {
    signal: Signal,
    items: std::ops::Range<u64>,
}

struct World {
    chance: Chance<Sent>,
    /// Of an export that brings none of its own.
    timeout: Duration,
    next_item: u64,
    /// Nothing goes wrong, and the collectors take everything.
    is_calm: bool,
    resumed: u64,
    /// Tokens that turned up where they do not belong.
    strays: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let is_calm = rng.u8(..4) == 0;
        let mut retry = RetryPolicy::default();
        if rng.u8(..4) == 0 || is_calm {
            retry.attempts_max = if is_calm { 1 } else { rng.u32(1..4) };
        }
        retry.initial = Duration::from_millis(rng.u64(1..300));
        retry.max = retry.initial.max(Duration::from_millis(rng.u64(1..3_000)));
        let strays = Arc::new(Mutex::new(Vec::new()));
        let timeout = match is_calm {
            true => Duration::from_secs(600),
            false => Duration::from_millis(rng.u64(1..8_000)),
        };
        let mut config = Config::new()
            .with_timeout(timeout)
            .with_connect_timeout(Duration::from_millis(rng.u64(1..4_000)))
            .with_http1_connections(rng.usize(1..6))
            .with_retry_policy(retry);
        if is_calm {
            config = config.with_connect_timeout(Duration::from_secs(60));
        }
        if rng.u8(..4) == 0 && !is_calm {
            config = config.with_memory_limit(rng.usize(1..200_000));
        }
        if rng.bool() {
            let smallest = if is_calm { 200_000 } else { 100 };
            config = config.with_request_limit(rng.usize(smallest..=200_000));
        }
        if rng.u8(..3) == 0 {
            config = config.with_max_connection_age(Duration::from_millis(rng.u64(1_000..5_000)));
        }
        let mut builders = Vec::new();
        for (lane, (signal, port)) in LANES.into_iter().enumerate() {
            let protocol =
                [Protocol::HttpProtobuf, Protocol::HttpProtobuf, Protocol::HttpJson][rng.usize(..3)];
            let compression = [Compression::None, Compression::Gzip][rng.usize(..2)];
            let has_credentials = rng.bool();
            let evil = if is_calm { 0 } else { rng.u64(..30) };
            config = config.for_signal(signal, |config| {
                let config = config
                    .with_protocol(protocol)
                    .with_compression(compression)
                    .with_endpoint(format!("http://127.0.0.1:{port}{}", path(signal)));
                match has_credentials {
                    true => config.with_credentials(Tokens {
                        lane,
                        count: AtomicU64::new(0),
                        evil,
                    }),
                    false => config,
                }
            });
            let mut builder = Collector::builder();
            if !is_calm || rng.bool() {
                builder = builder
                    .message_bytes_max([3_000, 50_000, 64 << 20][rng.usize(if is_calm { 1 } else { 0 }..3)]);
            }
            if rng.u8(..4) == 0 {
                builder = builder.requests_per_connection(rng.u64(1..5));
            }
            let answers = Mutex::new(rng.fork());
            let evil = if is_calm { 0 } else { rng.u8(..100) };
            let keep = rng.bool();
            let strays = strays.clone();
            builder.inbox().answer_with(move |request| {
                let token = request.header("authorization");
                let prefix = format!("Bearer {lane}-");
                if token.is_some() != has_credentials
                    || token.is_some_and(|token| !token.starts_with(&prefix))
                {
                    strays.lock().unwrap().push(format!("{lane}: {token:?}"));
                }
                let mut rng = answers.lock().expect("no panic");
                if rng.u8(..100) < evil {
                    answer(&mut rng)
                } else if keep {
                    // The client's last moment is before the server's.
                    RawAnswer::new(200).header("keep-alive", "timeout=5").into()
                } else {
                    Answer::Ok
                }
            });
            builders.push((port, builder));
        }
        let socket = [10, 1_000, 100_000, usize::MAX][rng.usize(if is_calm { 1 } else { 0 }..4)];
        let faults = if is_calm {
            0
        } else {
            [0, 0, 1, 10, 50][rng.usize(..5)]
        };
        let engine = Engine::new(config, seed).expect("settings that work");
        let mut chance = Chance::new(rng, engine, builders);
        (chance.socket, chance.faults) = (socket, faults);
        Self {
            chance,
            timeout,
            next_item: 0,
            is_calm,
            resumed: 0,
            strays,
        }
    }

    fn run(mut self) -> Sum {
        let mut to_come = self.chance.rng.usize(1..60);
        let is_shut_down = self.chance.rng.u8(..8) == 0 && !self.is_calm;
        for _ in 0..STEPS_MAX {
            if to_come > 0 && self.chance.rng.u8(..10) == 0 {
                to_come -= 1;
                self.submit();
            }
            if to_come == 0 && is_shut_down && self.chance.rng.u8(..50) == 0 {
                self.chance.fact(Fact::Shutdown);
            }
            if !self.is_calm {
                self.chance.perturb();
            }
            let has_moved = self.chance.act() | self.authorize() | self.chance.move_bytes();
            let is_settled = self.chance.is_settled();
            if to_come == 0 && is_settled {
                // What still lies with a slow socket arrives before the reckoning.
                self.chance.socket = usize::MAX;
                if !has_moved {
                    return self.audit();
                }
            }
            if !has_moved && is_settled && self.chance.rng.bool() {
                // Nobody drives the engine for a while, and then there is another export.
                self.chance.now = self.chance.now + Duration::from_millis(self.chance.rng.u64(..12_000));
                self.resumed += 1;
                to_come -= 1;
                self.submit();
            } else if !has_moved || self.chance.rng.u8(..8) == 0 {
                self.chance.pass_time(has_moved || to_come > 0);
            }
        }
        panic!(
            "{} exports without a verdict after {STEPS_MAX} steps, {:?}",
            self.chance.open(),
            self.chance.engine.stats()
        );
    }

    fn submit(&mut self) {
        let signal = LANES[self.chance.rng.usize(..LANES.len())].0;
        let items = self.next_item..self.next_item + self.chance.rng.u64(0..8);
        let payload = [0, 0, 10, 500, 5_000, 40_000][self.chance.rng.usize(..6)];
        let payload = core::str::from_utf8(&PAYLOAD[..payload]).expect("ASCII");
        let mut request = request(signal, items.clone(), payload);
        let mut timeout = self.timeout;
        if self.chance.rng.bool() && !self.is_calm {
            timeout = Duration::from_micros(self.chance.rng.u64(0..4_000_000));
            request = request.with_timeout(timeout);
        }
        self.next_item = items.end;
        self.chance.submit(request, timeout, Sent { signal, items });
    }

    /// Answers some of those who ask for credentials.
    fn authorize(&mut self) -> bool {
        let has_asked = !self.chance.asked.is_empty();
        if has_asked && self.chance.rng.bool() {
            let at = self.chance.rng.usize(..self.chance.asked.len());
            let (id, authorization) = self.chance.asked.swap_remove(at);
            match authorization.ask() {
                Ok(headers) => self.chance.fact(Fact::Authorized(id, &headers)),
                Err(why) => self.chance.fact(Fact::AuthorizeFailed(id, &why)),
            }
        }
        has_asked
    }

    /// Compares the verdicts with what the collectors recorded.
    fn audit(self) -> Sum {
        assert_eq!(
            *self.strays.lock().unwrap(),
            [""; 0],
            "credentials leave their origin"
        );
        // The answers to each item.
        let mut answers: BTreeMap<u64, Vec<Option<Answer>>> = BTreeMap::new();
        for (_, builder) in &self.chance.builders {
            let inbox = builder.inbox();
            let requests: BTreeMap<u64, ReceivedRequest> = inbox
                .requests()
                .into_iter()
                .map(|request| (request.index, request))
                .collect();
            let spans = inbox
                .spans()
                .into_iter()
                .map(|span| (span.request, span.attribute("id").cloned()));
            let logs = inbox
                .logs()
                .into_iter()
                .map(|log| (log.request, log.attribute("id")));
            for (request, item) in spans.chain(logs) {
                let Some(Value::Int(item)) = item else {
                    panic!("an item without an id")
                };
                let answer = requests[&request].answer.clone();
                answers.entry(item as u64).or_default().push(answer);
            }
        }
        let mut sums = ItemCounts::default();
        let mut duplicates = 0;
        for (id, export) in &self.chance.exports {
            let verdict = export.verdict.as_ref().expect("every export has one");
            let counts = match verdict {
                Ok(outcome) => outcome.counts(),
                Err(error) => error.counts(),
            };
            sums += counts;
            let items = export.of.items.end - export.of.items.start;
            assert_eq!(counts.total(), items, "{verdict:?}");
            let of = |item: u64| answers.get(&item).map_or(&[][..], Vec::as_slice);
            let context = || {
                let seen: Vec<_> = export.of.items.clone().map(of).collect();
                format!("{id:?} {:?}: {verdict:?}, answered: {seen:?}", export.of.signal)
            };
            let count = |test: &dyn Fn(&[Option<Answer>]) -> bool| {
                export.of.items.clone().filter(|&item| test(of(item))).count() as u64
            };
            let may_be = |test: fn(&Answer) -> bool| {
                move |answers: &[Option<Answer>]| {
                    answers.iter().any(|answer| answer.as_ref().is_some_and(test))
                }
            };
            assert!(
                counts.delivered <= count(&may_be(may_succeed)),
                "delivered: {}",
                context()
            );
            assert!(
                counts.rejected <= count(&may_be(may_reject)) || self.is_picky(),
                "rejected: {}",
                context()
            );
            let is_lost = |answers: &[Option<Answer>]| {
                answers
                    .iter()
                    .all(|answer| answer.as_ref().is_some_and(is_failure))
            };
            assert!(counts.dropped <= count(&is_lost), "dropped: {}", context());
            // Where every request of an item was refused in words, or none came, nobody can have accepted it.
            if self.is_calm {
                assert_eq!(counts.delivered, items, "calm: {}", context());
                assert_eq!(count(&|answers| answers.len() == 1), items, "calm: {}", context());
            }
            for item in export.of.items.clone() {
                let accepted = of(item)
                    .iter()
                    .flatten()
                    .filter(|answer| is_accepted(answer))
                    .count() as u64;
                duplicates += accepted.saturating_sub(1);
            }
        }
        let stats = self.chance.engine.stats();
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
        Sum {
            counts: sums,
            retries: stats.retries,
            splits: stats.splits,
            calm: if self.is_calm { sums.delivered } else { 0 },
            resumed: self.resumed,
        }
    }

    fn is_picky(&self) -> bool {
        self.chance
            .builders
            .iter()
            .any(|(_, builder)| builder.inbox().counters().calls_invalid > 0)
    }
}

fn path(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/v1/traces",
        _ => "/v1/logs",
    }
}

fn request(signal: Signal, items: std::ops::Range<u64>, payload: &'static str) -> Request {
    let resource = Resource::builder().attr("service.name", "pools").build();
    match signal {
        Signal::Traces => {
            let mut batch = TraceBatch::new(&resource);
            batch.scope("suite", "1");
            for id in items {
                let mut span = batch.span([7; 16], (id + 1).to_be_bytes(), "work");
                span.attr("id", id as i64).attr("payload", payload);
                span.end();
            }
            batch.finish()
        }
        _ => {
            let mut batch = LogBatch::new(&resource);
            batch.scope("suite", "1");
            for id in items {
                let mut record = batch.log();
                record.attr("id", id as i64).attr("payload", payload);
                record.end();
            }
            batch.finish()
        }
    }
}

/// Whether the collector may have accepted every item.
fn may_succeed(answer: &Answer) -> bool {
    match answer {
        Answer::Delay(_, answer) | Answer::Drain(answer) | Answer::Cut(_, answer) => may_succeed(answer),
        Answer::HeadersOnly | Answer::NoTrailers => true,
        _ => answer.is_success_over(Protocol::HttpProtobuf),
    }
}

/// Whether it certainly did.
fn is_accepted(answer: &Answer) -> bool {
    answer.is_success_over(Protocol::HttpProtobuf)
}

/// Whether it may have refused items for good.
fn may_reject(answer: &Answer) -> bool {
    match answer {
        Answer::Delay(_, answer) | Answer::Drain(answer) | Answer::Cut(_, answer) => may_reject(answer),
        Answer::PartialSuccess { .. } | Answer::Status { .. } | Answer::HttpStatus(_) | Answer::Raw(_) => {
            true
        }
        _ => false,
    }
}

/// Whether it said that it did not accept them.
fn is_failure(answer: &Answer) -> bool {
    match answer {
        Answer::Delay(_, answer) | Answer::Drain(answer) => is_failure(answer),
        Answer::Status { code, .. } => *code != Code::OK,
        Answer::HttpStatus(_) | Answer::Raw(_) => !answer.is_success_over(Protocol::HttpProtobuf),
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
        10 => Answer::Ok.cut_after(rng.usize(..200)),
        11 => Answer::Reset(rng.u32(..16)),
        12 => Answer::HttpStatus([400, 401, 401, 404, 408, 413, 429, 503][rng.usize(..8)]),
        13 => Answer::CloseConnection,
        14 => Answer::AbortConnection,
        15 => RawAnswer::new(200).informational(103).data(&[0; 5][..]).into(),
        16 => RawAnswer::new(200).header("keep-alive", "timeout=1").into(),
        17 => RawAnswer::new(503)
            .header("retry-after", ["0", "1", "x"][rng.usize(..3)])
            .into(),
        18 => RawAnswer::new(200).data(&[1, 2, 3][..]).until_close().into(),
        _ => Answer::Ok.cut_after(usize::MAX),
    }
}
