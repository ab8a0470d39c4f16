//! Calls on a connection that works: verdicts, multiplexing, order, limits.

#[path = "support/world.rs"]
mod world;

use otlp_embed::export::{ExportState, Fact};
use otlp_embed::testing::{Command, Frame};
use otlp_embed::{Code, DropReason};
use world::*;

#[test]
fn an_export_goes_through_every_state_to_its_success() {
    let mut world = World::new(config());
    world.dial = Dial::Manual;
    world.takes = false;
    let id = world.submit(request(3));
    assert_eq!(world.state(id), Some(ExportState::Connecting));
    world.fact(Fact::Connected(world.ids[0]));
    assert_eq!(world.state(id), Some(ExportState::Sending));
    assert_eq!(world.frames(0), [Frame::Call(0, 8)]);
    world.fact(Fact::Sent(world.ids[0], 14));
    assert_eq!(world.state(id), Some(ExportState::Sending), "one byte is missing");
    world.fact(Fact::Sent(world.ids[0], 1));
    assert_eq!(world.state(id), Some(ExportState::WaitingResponse));
    world.say(0, Command::ok(0));
    let outcome = world.outcome(id).expect("success");
    assert_eq!((outcome.delivered(), outcome.attempts()), (3, 1));
    let stats = world.stats();
    assert_eq!((stats.accepted, stats.delivered, stats.in_flight), (3, 3, 0));
    assert_eq!((stats.connections, stats.bytes_in_flight), (1, 0));
    assert!(world.engine.is_idle());
    assert_eq!(
        world.engine.poll_timeout(),
        None,
        "an idle connection has no timer"
    );
}

#[test]
fn a_partial_success_is_an_outcome_and_not_retried() {
    let mut world = World::new(config());
    let id = world.submit(request(10));
    world.say(
        0,
        Command::Answer {
            call: 0,
            code: 0,
            rejected: 4,
            retry_after_ms: 0,
        },
    );
    let outcome = world.outcome(id).expect("spec 12");
    assert_eq!((outcome.delivered(), outcome.rejected()), (6, 4));
    assert_eq!(outcome.message(), Some("4 refused"));
    assert_eq!(world.stats().retries, 0, "spec 12");
}

#[test]
fn a_collector_that_rejects_more_than_it_got_is_cut() {
    let mut world = World::new(config());
    let id = world.submit(request(2));
    world.say(
        0,
        Command::Answer {
            call: 0,
            code: 0,
            rejected: u32::MAX,
            retry_after_ms: 0,
        },
    );
    let outcome = world.outcome(id).expect("success");
    assert_eq!((outcome.delivered(), outcome.rejected()), (0, 2));
}

#[test]
fn a_status_that_no_retry_mends_rejects_the_items() {
    let mut world = World::new(config());
    let id = world.submit(request(5));
    world.say(0, Command::status(0, Code::INVALID_ARGUMENT));
    let error = world.error(id);
    assert_eq!(error.grpc_status(), Some(Code::INVALID_ARGUMENT));
    assert!(!error.is_retryable() && !error.is_timeout(), "spec 14");
    assert_eq!((error.counts().rejected, error.drop_reason()), (5, None));
    assert_eq!(error.attempts(), 1);
    assert_eq!(
        error.to_string(),
        "export to http://127.0.0.1:4317: the collector answered INVALID_ARGUMENT; the collector's log says what it \
         objects to"
    );
}

#[test]
fn an_answer_may_come_before_the_request_is_sent() {
    let mut world = World::new(config());
    world.takes = false;
    let id = world.submit(request(1));
    world.say(0, Command::status(0, Code::UNAUTHENTICATED));
    assert_eq!(world.error(id).counts().rejected, 1);
}

#[test]
fn a_request_that_cannot_be_started_fails_at_once() {
    let mut world = World::new(config());
    let unfit = request(2).with_header("scripted-unfit", "1").expect("a header");
    let id = world.submit(unfit);
    let error = world.error(id);
    assert!(!error.is_retryable());
    assert_eq!(error.drop_reason(), Some(DropReason::NotRetryable));
    assert_eq!(error.counts().dropped, 2);
}

#[test]
fn calls_share_one_connection_and_start_in_order() {
    let mut world = World::new(config().with_header("scripted-limit", "2"));
    let ids: Vec<_> = (1..=4).map(|items| world.submit(request(items))).collect();
    assert_eq!(world.frames(0), [Frame::Call(0, 8), Frame::Call(1, 8)], "spec 7");
    assert_eq!(world.state(ids[2]), Some(ExportState::Connecting));
    world.say(0, Command::ok(1));
    assert_eq!(
        world.state(ids[2]),
        Some(ExportState::WaitingResponse),
        "the oldest is next"
    );
    assert_eq!(world.state(ids[3]), Some(ExportState::Connecting));
    world.say(0, Command::Limit(3));
    assert_eq!(
        world.state(ids[3]),
        Some(ExportState::WaitingResponse),
        "spec 48: the limit grew"
    );
    assert_eq!(world.live_wires(), 1);
    for call in [0, 2, 3] {
        world.say(0, Command::ok(call));
    }
    assert_eq!(world.stats().delivered, 10);
}

#[test]
fn a_collector_that_admits_nothing_for_long_gets_the_call_once_it_does() {
    let mut world = World::new(config());
    world.submit(request(1));
    world.say(0, Command::ok(0));
    world.say(0, Command::Limit(0));
    let id = world.submit(request(1));
    world.advance(ms(9_000));
    assert_eq!(world.state(id), Some(ExportState::Connecting));
    assert_eq!(world.frames(0).len(), 1);
    world.say(0, Command::Limit(10));
    assert_eq!(world.state(id), Some(ExportState::WaitingResponse), "spec 48");
    world.say(0, Command::ok(1));
    assert_eq!(world.outcome(id).expect("success").attempts(), 1);
}

#[test]
fn a_connection_is_kept_for_the_next_export() {
    let mut world = World::new(config());
    let first = world.submit(request(1));
    world.say(0, Command::ok(0));
    world.advance(ms(600_000));
    let second = world.submit(request(1));
    world.say(0, Command::ok(1));
    assert!(world.outcome(first).is_ok() && world.outcome(second).is_ok());
    assert_eq!(world.stats().connections, 1, "spec 24");
}

#[test]
fn commands_split_at_every_byte_mean_the_same() {
    let mut world = World::new(config());
    let id = world.submit(request(1));
    for byte in Command::ok(0).encode() {
        assert_eq!(world.state(id), Some(ExportState::WaitingResponse));
        world.fact(Fact::Input(world.ids[0], &[byte]));
    }
    assert!(world.outcome(id).is_ok());
}
