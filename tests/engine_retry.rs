//! Retries inside the deadline: backoff, hints, limits, and what each failure leaves of the items.

#[path = "support/world.rs"]
mod world;

use otlp_embed::export::{ExportState, Fact};
use otlp_embed::policy::{BackoffStrategy, RetryPolicy};
use otlp_embed::testing::Command;
use otlp_embed::time::DeadlineReason;
use otlp_embed::{Code, DropReason};
use std::time::Duration;
use world::*;

/// An answer that asks to wait.
fn throttled(call: u16, retry_after_ms: u32) -> Command {
    Command::Answer {
        call,
        code: u8::try_from(Code::RESOURCE_EXHAUSTED.as_u32()).expect("a small number"),
        rejected: 0,
        retry_after_ms,
    }
}

fn reset(call: u16) -> Command {
    Command::Reset {
        call,
        is_retryable: true,
    }
}

#[test]
fn a_retryable_status_is_retried_with_growing_waits() {
    let mut world = World::new(config());
    let id = world.submit(request(1));
    let mut longest = 200;
    for call in 0..4 {
        world.say(0, Command::status(call, Code::UNAVAILABLE));
        assert_eq!(world.state(id), Some(ExportState::Init), "spec 15");
        assert_eq!(
            world.engine.next_deadline().map(|due| due.reason),
            Some(DeadlineReason::Backoff)
        );
        let wait = world.advance_to_timer();
        assert!(
            (ms(longest / 2)..=ms(longest)).contains(&wait),
            "spec 17: {wait:?} of {longest}"
        );
        longest *= 2;
    }
    world.say(0, Command::ok(4));
    assert_eq!(world.outcome(id).expect("success").attempts(), 5);
    let stats = world.stats();
    assert_eq!(
        (stats.retries, stats.possible_duplicates),
        (4, 4),
        "spec 25: a proxy that lost the collector's answer says the same"
    );
}

#[test]
fn what_the_collector_asks_to_send_later_is_no_possible_duplicate() {
    let mut world = World::new(config());
    let id = world.submit(request(1));
    world.say(
        0,
        Command::Answer {
            call: 0,
            code: 14,
            rejected: 0,
            retry_after_ms: 50,
        },
    );
    world.advance_to_timer();
    world.say(0, Command::ok(1));
    assert!(world.outcome(id).is_ok());
    assert_eq!(world.stats().possible_duplicates, 0, "spec 25");
}

#[test]
fn waits_differ_between_exporters() {
    let wait = |seed| {
        let mut world = World::seeded(config(), seed);
        world.submit(request(1));
        world.say(0, Command::status(0, Code::UNAVAILABLE));
        world.advance_to_timer()
    };
    assert_eq!(wait(1), wait(1));
    assert_ne!(wait(1), wait(2), "spec 23");
}

#[test]
fn resource_exhausted_is_retried_only_with_a_hint() {
    let mut world = World::new(config());
    let id = world.submit(request(1));
    world.say(0, Command::status(0, Code::RESOURCE_EXHAUSTED));
    assert_eq!(world.error(id).counts().rejected, 1, "spec 16");

    let id = world.submit(request(1));
    world.say(0, throttled(1, 1_000));
    let wait = world.advance_to_timer();
    assert!((ms(1_000)..=ms(1_125)).contains(&wait), "spec 18: {wait:?}");
    world.say(0, throttled(2, 1_000));
    let wait = world.advance_to_timer();
    assert!((ms(1_000)..=ms(2_000)).contains(&wait), "spec 18: {wait:?}");
    world.say(0, Command::status(3, Code::UNAVAILABLE));
    let wait = world.advance_to_timer();
    assert!(
        (ms(2_000)..=ms(4_000)).contains(&wait),
        "spec 18: growth from the hint: {wait:?}"
    );
    world.say(0, Command::ok(4));
    assert!(world.outcome(id).is_ok());
}

#[test]
fn a_wait_beyond_the_deadline_fails_at_once() {
    let mut world = World::new(config());
    let id = world.submit(request(7));
    let before = world.now;
    world.say(0, throttled(0, 60_000));
    let error = world.error(id);
    assert_eq!(world.now, before, "spec 21: no sleep");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    assert_eq!(error.drop_reason(), Some(DropReason::Deadline));
    assert_eq!(error.counts().dropped, 7);
    assert!(error.is_retryable() && !error.is_timeout(), "{error}");
    assert!(error.to_string().contains("RESOURCE_EXHAUSTED"), "{error}");
}

#[test]
fn the_policy_limits_the_attempts() {
    let mut policy = RetryPolicy::default();
    policy.attempts_max = 2;
    let mut world = World::new(config().with_retry_policy(policy));
    let id = world.submit(request(4));
    world.say(0, Command::status(0, Code::UNAVAILABLE));
    world.advance_to_timer();
    world.say(0, Command::status(1, Code::UNAVAILABLE));
    let error = world.error(id);
    assert_eq!((error.attempts(), error.counts().dropped), (2, 4));
    assert_eq!(error.drop_reason(), Some(DropReason::Attempts));
    assert_eq!(error.grpc_status(), Some(Code::UNAVAILABLE));
    assert!(error.is_retryable());
    assert_eq!(world.stats().dropped_for(DropReason::Attempts), 4);
}

#[test]
fn the_policy_limits_the_time_in_all() {
    // It runs from the first attempt, not from the submission.
    let policy = RetryPolicy::fixed(ms(400)).with_total(Some(ms(1_200)));
    let mut world = World::new(config().with_retry_policy(policy));
    let id = world.submit(request(4));
    let began = world.now;
    let mut waits = Vec::new();
    for call in 0.. {
        world.say(0, Command::status(call, Code::UNAVAILABLE));
        if world.state(id) != Some(ExportState::Init) {
            break;
        }
        waits.push(world.advance_to_timer());
    }
    assert!(world.now - began < ms(1_200), "no attempt begins later");
    assert_eq!(
        waits,
        [ms(400), ms(400), ms(200)],
        "the last wait is shortened to half of what is left"
    );
    let error = world.error(id);
    assert_eq!((error.attempts(), error.counts().dropped), (4, 4));
    assert_eq!(error.drop_reason(), Some(DropReason::Attempts));
    assert!(error.is_retryable() && !error.is_timeout(), "{error}");
    assert!(error.to_string().contains("in total"), "{error}");
}

#[test]
fn a_hint_beyond_the_time_in_all_fails_at_once() {
    let policy = RetryPolicy::default().with_total(Some(ms(2_000)));
    let mut world = World::new(config().with_retry_policy(policy));
    let id = world.submit(request(7));
    let before = world.now;
    world.say(0, throttled(0, 3_000));
    let error = world.error(id);
    assert_eq!(world.now, before, "spec 21: no sleep");
    assert_eq!(error.drop_reason(), Some(DropReason::Attempts));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    let text = error.to_string();
    assert!(text.contains("the 2 s that") && error.is_retryable(), "{text}");
}

#[test]
fn waits_follow_the_strategy() {
    for (strategy, expected) in [
        (BackoffStrategy::Fixed, [200, 200, 200]),
        (BackoffStrategy::Exponential, [200, 400, 800]),
    ] {
        let policy = RetryPolicy::default().with_strategy(strategy);
        let mut world = World::new(config().with_retry_policy(policy));
        let id = world.submit(request(1));
        for (call, wait) in (0..).zip(expected) {
            world.say(0, Command::status(call, Code::UNAVAILABLE));
            assert_eq!(world.advance_to_timer(), ms(wait), "spec 17: {strategy:?}");
        }
        world.say(0, Command::ok(3));
        assert!(world.outcome(id).is_ok());
    }
}

#[test]
fn a_deadline_without_an_answer_makes_items_unknown() {
    for lazy in [false, true] {
        let config = if lazy {
            config().with_header("scripted-lazy", "1")
        } else {
            config()
        };
        let mut world = World::new(config);
        let id = world.submit(request(3));
        world.advance(ms(9_999));
        assert_eq!(world.state(id), Some(ExportState::WaitingResponse));
        world.advance(ms(1));
        let error = world.error(id);
        assert!(error.is_timeout() && error.is_retryable(), "spec 38, 49");
        assert_eq!((error.counts().unknown, error.drop_reason()), (3, None));
        assert!(
            error
                .to_string()
                .contains("no verdict within 10 s after 1 attempt"),
            "{error}"
        );
        // The collector said nothing at all: the next export gets a connection that is alive.
        assert!(world.wires[0].is_closed, "spec 49: a dead connection is replaced");
        let id = world.submit(request(1));
        world.say(1, Command::ok(0));
        assert!(world.outcome(id).is_ok(), "spec 49");
        assert_eq!(world.stats().connections, 2);
    }
}

#[test]
fn a_connection_that_is_alive_survives_a_deadline() {
    for lazy in [false, true] {
        let config = if lazy {
            config().with_header("scripted-lazy", "1")
        } else {
            config()
        };
        let mut world = World::new(config);
        world.submit(request(1));
        world.advance(ms(6_000));
        world.say(0, Command::Limit(50));
        world.advance(ms(4_000));
        assert_eq!(world.stats().unknown, 1);
        // The stream is reset and the next export works.
        let id = world.submit(request(1).with_timeout(ms(100)));
        world.advance(ms(100));
        assert!(world.error(id).is_timeout());
        let id = world.submit(request(1));
        world.say(0, Command::ok(2));
        assert!(world.outcome(id).is_ok(), "spec 49");
        assert_eq!(world.stats().connections, 1, "a short silence proves nothing");
    }
}

#[test]
fn short_deadlines_find_a_dead_connection_too() {
    let mut world = World::new(config());
    for _ in 0..60 {
        world.submit(request(1).with_timeout(ms(100)));
        world.advance(ms(100));
    }
    assert_eq!(world.stats().connections, 2, "replaced after 5 s of silence");
}

#[test]
fn a_suspect_connection_finishes_its_calls() {
    let mut world = World::new(config());
    world.submit(request(1));
    world.advance(ms(5_000));
    let young = world.submit(request(2));
    world.advance(ms(5_000));
    assert_eq!(world.stats().unknown, 1);
    assert!(!world.wires[0].is_closed);
    let next = world.submit(request(4));
    assert_eq!(world.frames(1).len(), 1, "spec 49");
    world.say(0, Command::ok(1));
    world.say(1, Command::ok(0));
    assert!(world.outcome(young).is_ok() && world.outcome(next).is_ok());
    assert!(world.wires[0].is_closed && !world.wires[1].is_closed);
}

#[test]
fn the_engine_cancels_the_call_of_an_expired_export() {
    let mut world = World::new(config().with_header("scripted-lazy", "1"));
    world.submit(request(1));
    world.advance(ms(10_000));
    assert_eq!(
        world.frames(0),
        [
            otlp_embed::testing::Frame::Call(0, 8),
            otlp_embed::testing::Frame::Cancel(0)
        ]
    );
    world.say(0, Command::ok(0));
    assert_eq!(world.stats().unknown, 1, "a late answer changes nothing");
}

#[test]
fn flow_control_that_never_opens_ends_at_the_deadline_in_a_drop() {
    let mut world = World::new(config());
    let first = world.submit(request(1));
    world.say(0, Command::ok(0));
    assert!(world.outcome(first).is_ok());
    world.say(0, Command::Hold);
    let id = world.submit(request(3));
    world.advance(ms(10_000));
    let error = world.error(id);
    assert!(error.is_timeout(), "spec 49");
    assert_eq!(error.counts().dropped, 3, "the request was never sent whole");
    assert_eq!(error.drop_reason(), Some(DropReason::Deadline));
}

#[test]
fn a_deadline_carries_the_last_failure() {
    let mut world = World::new(config());
    let id = world.submit(request(2));
    world.say(0, Command::status(0, Code::UNAVAILABLE));
    world.advance_to_timer();
    world.advance(ms(10_000));
    let error = world.error(id);
    assert!(error.is_timeout());
    assert_eq!(error.grpc_status(), Some(Code::UNAVAILABLE));
    assert!(
        error.to_string().contains(
            "after 2 attempts, while waiting for the answer; last failure: the collector answered UNAVAILABLE"
        ),
        "{error}"
    );
}

#[test]
fn an_export_has_the_time_of_its_request() {
    let mut world = World::new(config());
    let id = world.submit(request(1).with_timeout(ms(50)));
    assert_eq!(world.engine.deadline(id), Some(world.now + ms(50)));
    world.advance(ms(50));
    assert!(world.error(id).is_timeout());
    let id = world.submit(request(1).with_timeout(Duration::ZERO));
    let error = world.error(id);
    assert!(error.is_timeout());
    assert_eq!((error.counts().dropped, error.attempts()), (1, 0));
}

#[test]
fn a_lost_answer_is_resent_and_counted_as_a_possible_duplicate() {
    let mut world = World::new(config());
    let id = world.submit(request(6));
    world.say(0, reset(0));
    assert_eq!(world.state(id), Some(ExportState::Init), "spec 22: with backoff");
    world.advance_to_timer();
    assert_eq!(world.stats().possible_duplicates, 0, "not sure yet");
    world.say(0, Command::ok(1));
    assert_eq!(world.outcome(id).expect("success").delivered(), 6);
    assert_eq!(world.stats().possible_duplicates, 6, "spec 25");
}

#[test]
fn a_later_final_answer_decides_what_an_earlier_silence_left_open() {
    let mut world = World::new(config());
    let id = world.submit(request(6));
    world.say(0, reset(0));
    world.advance_to_timer();
    world.say(0, Command::status(1, Code::PERMISSION_DENIED));
    let counts = world.error(id).counts();
    assert_eq!((counts.rejected, counts.unknown), (6, 0));
}

#[test]
fn a_later_retryable_answer_leaves_the_silence_open() {
    let mut policy = RetryPolicy::default();
    policy.attempts_max = 2;
    let mut world = World::new(config().with_retry_policy(policy));
    let id = world.submit(request(6));
    world.say(0, reset(0));
    world.advance_to_timer();
    world.say(0, Command::status(1, Code::UNAVAILABLE));
    let error = world.error(id);
    assert_eq!((error.counts().unknown, error.drop_reason()), (6, None));
    assert!(error.to_string().contains("may have arrived"), "{error}");
}

#[test]
fn an_unprocessed_resend_after_a_silence_is_no_duplicate() {
    let mut world = World::new(config());
    let id = world.submit(request(6));
    world.say(0, reset(0));
    world.advance_to_timer();
    world.say(
        0,
        Command::Refuse {
            call: 1,
            is_retryable: false,
        },
    );
    let error = world.error(id);
    assert_eq!(
        error.counts().unknown,
        6,
        "the first attempt may still have arrived"
    );
    assert!(!error.is_retryable());
    assert_eq!(world.stats().possible_duplicates, 0);
}

#[test]
fn a_fatal_silence_is_not_retried() {
    let mut world = World::new(config());
    let id = world.submit(request(2));
    world.say(
        0,
        Command::Reset {
            call: 0,
            is_retryable: false,
        },
    );
    let error = world.error(id);
    assert_eq!(error.counts().unknown, 2, "spec 4");
    assert!(!error.is_retryable());
}

#[test]
fn a_refused_call_is_resent_at_once_but_only_once_without_backoff() {
    let refuse = |call| Command::Refuse {
        call,
        is_retryable: true,
    };
    let mut world = World::new(config());
    let id = world.submit(request(2));
    world.say(0, refuse(0));
    assert_eq!(
        world.state(id),
        Some(ExportState::WaitingResponse),
        "spec 46: resent at once"
    );
    world.say(0, refuse(1));
    assert_eq!(world.state(id), Some(ExportState::Init), "then with backoff");
    world.advance_to_timer();
    world.say(0, Command::ok(2));
    assert_eq!(world.outcome(id).expect("success").attempts(), 3);
    assert_eq!(world.stats().possible_duplicates, 0);
}

#[test]
fn a_policy_without_retries_still_resends_what_was_not_processed() {
    let mut world = World::new(config().with_retry_policy(RetryPolicy::never()));
    let id = world.submit(request(2));
    for call in 0..2 {
        world.say(
            0,
            Command::Refuse {
                call,
                is_retryable: true,
            },
        );
    }
    let error = world.error(id);
    assert_eq!(error.drop_reason(), Some(DropReason::Attempts));
    assert_eq!((error.attempts(), error.counts().dropped), (2, 2));
    let id = world.submit(request(1));
    world.fact(Fact::Eof(world.ids[0]));
    assert_eq!(
        world.error(id).counts().unknown,
        1,
        "a silence is not resent without a retry"
    );
}
