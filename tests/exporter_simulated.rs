//! The whole exporter, from request to verdict, against the collector's session on a virtual clock.

#[path = "support/batches.rs"]
mod batches;
#[path = "support/simulation.rs"]
mod simulation;

use batches::{batch, batch_with};
use otlp_embed::export::{Action, Engine, Fact};
use otlp_embed::protocol::Session;
use otlp_embed::testing::collector::RawAnswer;
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::time::Instant;
use otlp_embed::{Code, Config, ItemCounts};
use simulation::Simulation;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

fn simulation() -> Simulation {
    Simulation::new(
        Config::new().with_protocol(otlp_embed::Protocol::Grpc),
        Collector::builder(),
    )
}

/// An answer of status OK whose message lies in the last of two DATA frames, the other being empty.
fn with_empty_data() -> Answer {
    Answer::Raw(
        RawAnswer::new(200)
            .header("content-type", "application/grpc")
            .data(&b""[..])
            .data(&[0, 0, 0, 0, 0][..])
            .trailer("grpc-status", "0"),
    )
}

#[test]
fn a_thousand_late_answers_cost_no_other_export_its_verdict() {
    let mut world = simulation();
    let late = Answer::Ok.after(Duration::from_millis(15));
    for round in 0..1_000 {
        world.builder.inbox().answer_next(late.clone());
        let expired = world.submit(batch(2 * round, 1).with_timeout(Duration::from_millis(10)));
        let other = world.submit(batch(2 * round + 1, 1));
        let outcome = world
            .run_until_settled(other)
            .unwrap_or_else(|e| panic!("round {round}: {e}"));
        assert_eq!((outcome.delivered(), outcome.attempts()), (1, 1), "round {round}");
        let error = world.run_until_settled(expired).expect_err("too late");
        assert!(error.is_timeout(), "round {round}: {error}");
        assert_eq!(error.counts().unknown, 1, "round {round}");
        // The answer arrives for a call that was reset.
        world.run_for(Duration::from_millis(6));
    }
    let stats = world.engine.stats();
    assert_eq!(
        (stats.delivered, stats.unknown, stats.in_flight),
        (1_000, 1_000, 0)
    );
}

#[test]
fn a_thousand_empty_data_frames_cost_no_export_its_verdict() {
    let mut world = simulation();
    for round in 0..1_000 {
        world.builder.inbox().answer_next(with_empty_data());
        let first = world.submit(batch(2 * round, 1));
        let second = world.submit(batch(2 * round + 1, 1));
        for id in [first, second] {
            let outcome = world
                .run_until_settled(id)
                .unwrap_or_else(|e| panic!("round {round}: {e}"));
            assert_eq!((outcome.delivered(), outcome.attempts()), (1, 1), "round {round}");
        }
    }
    assert_eq!(
        world.builder.inbox().counters().spans,
        2_000,
        "nothing was sent twice"
    );
}

/// The collector's bytes are cut after each possible count, on every connection that follows too.
#[test]
fn a_connection_that_ends_at_any_byte_ends_in_the_right_verdict() {
    let mut whole = simulation();
    whole.export(batch(0, 3)).expect("delivered");
    let total = whole.said;
    assert!(total > 50, "{total}");
    let mut verdicts = Vec::new();
    for cut in 0..=total {
        let mut world = simulation();
        world.cut_after = Some(cut);
        let verdict = world.export(batch(0, 3));
        let received = world.builder.inbox().counters().requests;
        let counts = match &verdict {
            Ok(outcome) => outcome.counts(),
            Err(error) => error.counts(),
        };
        assert_eq!(counts.total(), 3, "cut after {cut}");
        match &verdict {
            Ok(outcome) => assert_eq!(outcome.delivered(), 3, "cut after {cut}"),
            // Here the socket takes everything at once, so the whole request is always with the collector.
            Err(error) => assert_eq!(
                (counts.unknown > 0, received > 0),
                (true, true),
                "cut after {cut}: {error}"
            ),
        }
        verdicts.push(verdict.is_ok());
    }
    assert!(!verdicts[0] && verdicts[total], "from nothing to everything");
    assert!(
        verdicts.is_sorted(),
        "more of an answer is never worse: {verdicts:?}"
    );
}

/// The socket takes only so many bytes, then the connection ends: `unknown` exactly where it took the whole request.
#[test]
fn unknown_begins_where_the_socket_took_the_whole_request() {
    let mut reference = simulation();
    let taken = Rc::new(Cell::new(0));
    let counter = taken.clone();
    reference.on_transmit = Box::new(move |chunks| {
        counter.set(counter.get() + chunks.iter().map(bytes::Bytes::len).sum::<usize>());
    });
    reference.builder.inbox().answer(Answer::Never);
    reference.submit(batch(0, 3));
    reference.run_for(Duration::from_millis(1));
    let total = taken.get();
    let mut seen = Vec::new();
    for limit in 0..=total {
        let counts = verdict_after_taking(limit);
        assert_eq!(counts.total(), 3);
        seen.push(
            counts
                == ItemCounts {
                    unknown: 3,
                    ..ItemCounts::default()
                },
        );
    }
    let first = seen
        .iter()
        .position(|unknown| *unknown)
        .expect("at the end it is unknown");
    assert!(
        seen[first..].iter().all(|unknown| *unknown),
        "once unknown, always unknown"
    );
    assert!(
        first > 24 + 9,
        "the preface alone carries no request: {first} of {total}"
    );
    assert!(
        first + 40 > total,
        "only what follows END_STREAM, such as a SETTINGS ACK, may be missing: {first} of {total}"
    );
}

/// The counts of an export of three items whose socket takes `limit` bytes and then fails; no other connection opens
/// before the deadline.
fn verdict_after_taking(limit: usize) -> ItemCounts {
    let config = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_endpoint("http://127.0.0.1:4317");
    let mut engine = Engine::<Session>::new(config, 7).expect("it works");
    let mut peer = Collector::builder().session(1);
    let now = Instant::from_millis(1);
    peer.handle_input(now, &[]);
    engine.submit(now, batch(0, 3));
    let (mut first, mut left) = (None, limit);
    while let Some(action) = engine.poll_action() {
        match action {
            Action::Connect(id, _) if first.is_none() => {
                first = Some(id);
                engine.handle(now, Fact::Connected(id));
                // Its preface, so that the windows and limits are known.
                while let Some(bytes) = peer.poll_transmit() {
                    engine.handle(now, Fact::Input(id, &bytes));
                }
            }
            Action::Transmit(id, chunks) => {
                let take = chunks.iter().map(bytes::Bytes::len).sum::<usize>().min(left);
                left -= take;
                engine.handle(now, Fact::Sent(id, take));
            }
            _ => {}
        }
    }
    engine.handle(
        now,
        Fact::Failed(first.expect("it was connected"), "connection reset"),
    );
    engine.handle(now + Duration::from_secs(60), Fact::Timeout);
    let (_, verdict) = engine.poll_outcome().expect("the deadline has passed");
    verdict.expect_err("nobody answered").counts()
}

/// Every byte of a large value reaches the socket in the memory that the caller gave.
#[test]
fn payload_bytes_reach_the_socket_without_a_copy() {
    static PAYLOAD: [u8; 300_000] = [b'x'; 300_000];
    let payload = core::str::from_utf8(&PAYLOAD).expect("it is ASCII");
    let request = batch_with(0, 1, payload);
    let own: Vec<_> = request.segments().map(|segment| segment.as_ptr_range()).collect();
    let total = request.encoded_len();
    let (shared, frames) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (shared_in, frames_in) = (shared.clone(), frames.clone());
    let mut world = simulation();
    world.on_transmit = Box::new(move |chunks| {
        for chunk in chunks {
            let range = chunk.as_ptr_range();
            if own
                .iter()
                .any(|own| own.start <= range.start && range.end <= own.end)
            {
                shared_in.set(shared_in.get() + chunk.len());
                frames_in.set(frames_in.get() + 1);
            }
        }
    });
    world.export(request).expect("delivered");
    let frames = total.div_ceil(16_384);
    let copied = total - shared.get();
    assert!(
        copied <= 247 * frames,
        "{copied} of {total} bytes were copied in {frames} frames"
    );
}

#[test]
fn six_callers_share_one_stream() {
    let mut world = Simulation::new(
        Config::new().with_protocol(otlp_embed::Protocol::Grpc),
        Collector::builder().max_concurrent_streams(1),
    );
    let ids: Vec<_> = (0..6)
        .map(|caller| world.submit(batch(caller * 10, 10)))
        .collect();
    for id in ids {
        assert_eq!(world.run_until_settled(id).expect("delivered").delivered(), 10);
    }
    assert_eq!(world.builder.inbox().counters().spans, 60);
}

#[test]
fn graceful_drains_under_load_lose_and_repeat_nothing() {
    let builder = Collector::builder().requests_per_connection(2);
    let mut world = Simulation::new(Config::new().with_protocol(otlp_embed::Protocol::Grpc), builder);
    for chunk in [usize::MAX, 1_000, 17] {
        world.chunk = chunk;
        let ids: Vec<_> = (0..30)
            .map(|caller| world.submit(batch(caller * 10, 10)))
            .collect();
        for id in ids {
            let outcome = world.run_until_settled(id).expect("spec 47");
            assert_eq!(outcome.delivered(), 10);
        }
    }
    assert_eq!(
        world.builder.inbox().counters().spans,
        900,
        "spec 47: nothing is repeated"
    );
    assert_eq!(world.engine.stats().possible_duplicates, 0);
}

#[test]
fn one_byte_at_a_time_is_enough() {
    let mut world = simulation();
    world.chunk = 1;
    world
        .builder
        .inbox()
        .answer_next(Answer::status(Code::UNAVAILABLE, "later"));
    let outcome = world.export(batch(0, 20)).expect("delivered");
    assert_eq!((outcome.delivered(), outcome.attempts()), (20, 2));
}

/// A retry would begin after the deadline: it is not waited for.
#[test]
fn a_hint_beyond_the_deadline_fails_at_once() {
    let mut world = simulation();
    world
        .builder
        .inbox()
        .answer_next(Answer::throttled(Duration::from_secs(60)));
    let start = world.now;
    let error = world.export(batch(0, 5)).expect_err("nothing to wait for");
    assert!(world.now - start < Duration::from_secs(1), "spec 21");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    assert_eq!(error.grpc_status(), Some(Code::RESOURCE_EXHAUSTED));
    assert!(error.is_retryable());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut world = simulation();
        world
            .builder
            .inbox()
            .answer_with(|request| match request.index % 3 {
                0 => Answer::unavailable(),
                1 => Answer::CloseConnection,
                _ => Answer::Ok,
            });
        for round in 0..20 {
            world.export(batch(round * 5, 5)).expect("delivered in the end");
        }
        (world.now, world.engine.stats())
    };
    assert_eq!(run(), run());
}

/// An export that never got a connection names what became of those before.
#[test]
fn a_collector_that_sends_everybody_away_is_named_to_those_who_waited() {
    let mut world = simulation();
    world.builder.inbox().answer(Answer::GoAway {
        reason: 0,
        debug_data: bytes::Bytes::new(),
    });
    let ids: Vec<_> = (0..50).map(|id| world.submit(batch(id, 1))).collect();
    for id in ids {
        let error = world.run_until_settled(id).expect_err("nobody is served");
        assert!(error.to_string().contains("GOAWAY"), "{error}");
        assert_eq!(error.counts().dropped, 1, "{error}");
    }
    let connections = world.builder.inbox().counters().connections;
    assert!(
        (2..20).contains(&connections),
        "{connections} connections in 10 s"
    );
}
