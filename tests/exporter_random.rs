//! The whole exporter against a hostile world, on fixed seeds: whatever the account says is what the collector saw.

#[path = "support/batches.rs"]
#[allow(dead_code)]
mod batches;
#[path = "support/chance.rs"]
mod chance;

use batches::batch_with;
use bytes::Bytes;
use chance::Chance;
use fastrand::Rng;
use otlp_embed::Keepalive;
use otlp_embed::export::{Engine, ExportId, Fact};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::testing::collector::RawAnswer;
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Code, Config, ItemCounts};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// Seeds of a run, each a world of its own.
const SEEDS: std::ops::Range<u64> = 0..40;

/// Facts of one world at most: about ten times what the longest takes.
const STEPS_MAX: usize = 200_000;

static PAYLOAD: [u8; 400_000] = [b'x'; 400_000];

#[test]
fn the_account_is_what_the_collector_saw() {
    for seed in SEEDS {
        let run = std::panic::catch_unwind(|| World::new(seed).run());
        assert!(run.is_ok(), "seed {seed} fails");
    }
}

struct World {
    /// With the number of items of each export.
    chance: Chance<u64>,
    /// The first item of each export, by which its requests are told apart.
    firsts: BTreeMap<u64, ExportId>,
    next_item: u64,
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
        let engine = Engine::with_settings(settings, seed);
        let mut chance = Chance::new(rng, engine, vec![(4317, builder)]);
        (chance.socket, chance.faults) = (socket, faults);
        Self {
            chance,
            firsts: BTreeMap::new(),
            next_item: 0,
        }
    }

    fn run(mut self) {
        let mut to_come = self.chance.rng.usize(1..60);
        let is_shut_down = self.chance.rng.u8(..8) == 0;
        for _ in 0..STEPS_MAX {
            if to_come > 0 && self.chance.rng.u8(..10) == 0 {
                to_come -= 1;
                self.submit();
            }
            if to_come == 0 && is_shut_down && self.chance.rng.u8(..50) == 0 {
                self.chance.fact(Fact::Shutdown);
            }
            self.chance.perturb();
            let has_moved = self.chance.act() | self.chance.move_bytes();
            if to_come == 0 && self.chance.is_settled() {
                // What still lies with a slow socket arrives before the reckoning.
                self.chance.socket = usize::MAX;
                if !has_moved {
                    return self.audit();
                }
            }
            if !has_moved || self.chance.rng.u8(..8) == 0 {
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
        let items = self.chance.rng.u64(0..4);
        let payload = [0, 0, 0, 10, 2_000, 70_000, 400_000][self.chance.rng.usize(..7)];
        let payload = core::str::from_utf8(&PAYLOAD[..payload]).expect("ASCII");
        let mut request = batch_with(self.next_item, items, payload);
        let mut timeout = self.chance.engine.settings().routes[0].timeout;
        if self.chance.rng.bool() {
            timeout = Duration::from_micros(self.chance.rng.u64(0..4_000_000));
            request = request.with_timeout(timeout);
        }
        let id = self.chance.submit(request, timeout, items);
        self.firsts.insert(self.next_item, id);
        self.next_item += items.max(1);
    }

    /// Compares the verdicts with what the collector recorded.
    fn audit(self) {
        let inbox = self.chance.builders[0].1.inbox();
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
        for (id, export) in &self.chance.exports {
            let verdict = export.verdict.as_ref().expect("every export has one");
            let counts = match verdict {
                Ok(outcome) => outcome.counts(),
                Err(error) => error.counts(),
            };
            sums += counts;
            assert_eq!(counts.total(), export.of, "{verdict:?}");
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
            duplicates += accepted.saturating_sub(1) * export.of;
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
    }

    fn is_picky(&self) -> bool {
        self.chance.builders[0].1.inbox().counters().calls_invalid > 0
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
