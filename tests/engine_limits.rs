//! The edges: empty requests, memory, cancellation, shutdown, facts out of order, time that runs backwards.

#[path = "support/world.rs"]
mod world;

use bytes::Bytes;
use otlp_embed::encode::Signal;
use otlp_embed::export::{Engine, ExportState, Fact};
use otlp_embed::testing::{Command, Frame, Scripted};
use otlp_embed::time::Instant;
use otlp_embed::{Config, DropReason, Request};
use world::*;

fn sized(items: u64, bytes: usize) -> Request {
    Request::from_segments(Signal::Traces, items, vec![Bytes::from(vec![b'x'; bytes])])
}

#[test]
fn an_empty_request_succeeds_without_being_sent() {
    let mut world = World::new(config());
    for request in [
        request(0),
        Request::from_segments(Signal::Traces, 0, vec![]),
        sized(3, 0),
    ] {
        let id = world.submit(request);
        let outcome = world.outcome(id).expect("success");
        assert_eq!((outcome.counts().total(), outcome.attempts()), (0, 0), "spec 5");
    }
    assert!(world.ids.is_empty() && world.engine.is_idle());
    assert_eq!(world.stats().accepted, 0);
}

#[test]
fn the_memory_limit_counts_exports_without_a_verdict() {
    let mut world = World::new(config().with_memory_limit(100));
    let first = world.submit(sized(1, 60));
    let second = world.submit(sized(2, 41));
    let error = world.error(second);
    assert!(error.is_retryable());
    assert_eq!(error.drop_reason(), Some(DropReason::MemoryLimit));
    assert_eq!(error.counts().dropped, 2);
    assert!(
        error.to_string().contains("beside the 60 bytes of 1 exports"),
        "{error}"
    );
    let third = world.submit(sized(1, 40));
    assert_eq!(world.state(third), Some(ExportState::WaitingResponse));
    assert_eq!(world.stats().bytes_in_flight, 100);
    world.say(0, Command::ok(0));
    assert!(world.outcome(first).is_ok());
    let fourth = world.submit(sized(1, 60));
    assert_eq!(world.state(fourth), Some(ExportState::WaitingResponse));
    assert_eq!(world.stats().dropped_for(DropReason::MemoryLimit), 2);
}

#[test]
fn a_request_larger_than_the_limit_says_that_it_can_never_fit() {
    let mut world = World::new(config().with_memory_limit(100));
    let id = world.submit(sized(1, 101));
    let error = world.error(id);
    assert!(!error.is_retryable());
    assert!(
        error
            .to_string()
            .contains("larger than the memory limit of 100 bytes by itself")
    );
}

#[test]
fn a_cancelled_export_is_accounted_for_by_how_far_it_came() {
    // Before a connection, and while it is sent: dropped.
    let mut world = World::new(config());
    world.dial = Dial::Manual;
    let id = world.submit(request(2));
    world.fact(Fact::Cancel(id));
    let error = world.error(id);
    assert!(error.is_cancelled() && !error.is_retryable());
    assert_eq!(error.drop_reason(), Some(DropReason::Cancelled));
    world.dial = Dial::Accept;
    world.takes = false;
    let id = world.submit(request(3));
    world.fact(Fact::Cancel(id));
    assert_eq!(world.error(id).counts().dropped, 3);
    assert_eq!(world.frames(1), [Frame::Call(0, 8), Frame::Cancel(0)]);
    // After the socket took it: unknown.
    let written = world.wires[1].unsent;
    world.fact(Fact::Sent(world.ids[1], written));
    world.takes = true;
    let id = world.submit(request(4));
    assert_eq!(world.state(id), Some(ExportState::WaitingResponse));
    world.fact(Fact::Cancel(id));
    let error = world.error(id);
    assert!(error.is_cancelled());
    assert_eq!(error.counts().unknown, 4);
    // In backoff after a definite answer: dropped.
    let id = world.submit(request(5));
    world.say(1, Command::status(2, otlp_embed::Code::UNAVAILABLE));
    world.fact(Fact::Cancel(id));
    assert_eq!(world.error(id).counts().dropped, 5);
    assert_eq!(world.engine.poll_timeout(), None, "no timer is left behind");
    // The connection still serves.
    let id = world.submit(request(1));
    world.say(1, Command::ok(3));
    assert!(world.outcome(id).is_ok());
}

#[test]
fn a_cancelled_export_frees_its_place_for_the_next() {
    let mut world = World::new(config().with_header("scripted-limit", "1"));
    let first = world.submit(request(1));
    let second = world.submit(request(1));
    let third = world.submit(request(1));
    world.fact(Fact::Cancel(second));
    world.fact(Fact::Cancel(first));
    assert_eq!(world.state(third), Some(ExportState::WaitingResponse));
}

#[test]
fn cancelling_twice_or_too_late_changes_nothing() {
    let mut engine = Engine::<Scripted>::new(config(), 1).expect("an engine");
    let now = Instant::ZERO;
    let id = engine.submit(now, request(0));
    engine.handle(now, Fact::Cancel(id));
    assert_eq!(engine.state(id), Some(ExportState::Done));
    let (settled, outcome) = engine.poll_outcome().expect("one outcome");
    assert!(settled == id && outcome.is_ok());
    engine.handle(now, Fact::Cancel(id));
    assert!(engine.poll_outcome().is_none());
    assert_eq!((engine.state(id), engine.deadline(id)), (None, None));
}

#[test]
fn a_shutdown_settles_everything_and_refuses_what_comes_later() {
    let mut world = World::new(config().with_header("scripted-limit", "2"));
    let sent = world.submit(request(1));
    let backing_off = world.submit(request(2));
    world.say(0, Command::status(1, otlp_embed::Code::UNAVAILABLE));
    world.takes = false;
    let sending = world.submit(request(4));
    let waiting = world.submit(request(8));
    world.fact(Fact::Shutdown);
    assert_eq!(world.error(sent).counts().unknown, 1, "spec 10");
    for (id, items) in [(backing_off, 2), (sending, 4), (waiting, 8)] {
        let error = world.error(id);
        assert!(error.is_shutdown(), "{error}");
        assert_eq!(error.counts().dropped, items);
        assert_eq!(error.drop_reason(), Some(DropReason::Shutdown));
    }
    assert_eq!(world.live_wires(), 0);
    assert!(world.engine.is_idle() && world.engine.is_draining());
    for late in [request(3), request(0)] {
        let id = world.submit(late);
        assert!(world.error(id).is_shutdown());
    }
    assert_eq!(world.ids.len(), 1);
    let stats = world.stats();
    assert_eq!((stats.unknown, stats.dropped_for(DropReason::Shutdown)), (1, 17));
}

#[test]
fn facts_out_of_order_are_ignored() {
    let mut world = World::new(config());
    world.dial = Dial::Manual;
    let id = world.submit(request(1));
    let conn = world.ids[0];
    for fact in [
        Fact::Input(conn, b"too early"),
        Fact::Sent(conn, 1_000),
        Fact::Resolved(conn, &[]),
        Fact::ResolveFailed(conn, "nobody asked"),
        Fact::Timeout,
    ] {
        world.fact(fact);
        assert_eq!(world.state(id), Some(ExportState::Connecting), "{fact:?}");
    }
    world.takes = false;
    world.fact(Fact::Connected(conn));
    world.fact(Fact::Connected(conn));
    world.fact(Fact::ConnectFailed(conn, "too late"));
    assert_eq!((world.stats().connections, world.frames(0).len()), (1, 1));
    world.fact(Fact::Sent(conn, usize::MAX));
    assert_eq!(world.state(id), Some(ExportState::WaitingResponse));
    world.fact(Fact::Sent(conn, usize::MAX));
    world.say(0, Command::ok(0));
    assert!(world.outcome(id).is_ok());
    world.fact(Fact::Eof(conn));
    world.fact(Fact::Eof(conn));
    world.fact(Fact::Input(conn, b"after the close"));
    assert!(world.wires[0].is_closed);
}

#[test]
fn facts_about_connections_of_another_engine_are_ignored() {
    let mut other = World::new(config());
    for wire in 0..20 {
        other.submit(request(1));
        other.say(wire, Command::ok(0));
        other.fact(Fact::Eof(other.ids[wire]));
    }
    let mut world = World::new(config());
    let id = world.submit(request(1));
    let known = world.ids[0];
    for &conn in other.ids.iter().filter(|conn| **conn != known) {
        world.fact(Fact::Eof(conn));
        world.fact(Fact::Connected(conn));
    }
    assert_eq!(world.state(id), Some(ExportState::WaitingResponse));
}

#[test]
fn time_that_runs_backwards_is_the_latest_time_seen() {
    let mut world = World::new(config());
    let id = world.submit(request(1));
    let deadline = world.engine.deadline(id);
    world.now = Instant::ZERO;
    world.fact(Fact::Timeout);
    assert_eq!(world.engine.deadline(id), deadline);
    let second = world.submit(request(1));
    assert_eq!(world.engine.deadline(second), deadline);
}

#[test]
fn the_end_of_time_is_survived() {
    let mut engine = Engine::<Scripted>::new(config(), 1).expect("an engine");
    let id = engine.submit(Instant::MAX, request(1));
    engine.handle(Instant::MAX, Fact::Timeout);
    let (settled, outcome) = engine.poll_outcome().expect("its deadline has come");
    assert!(settled == id && outcome.expect_err("a timeout").is_timeout());
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let refused = Engine::<Scripted>::new(
        Config::new()
            .with_protocol(otlp_embed::Protocol::Grpc)
            .with_endpoint("ftp://x"),
        1,
    )
    .err();
    assert!(refused.expect("a misuse").is_misuse());
}

#[test]
fn an_engine_may_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    is_send(&Engine::<Scripted>::new(config(), 1).expect("an engine"));
}

#[test]
fn an_engine_without_a_protocol_says_so() {
    let mut engine = Engine::<otlp_embed::protocol::Never>::new(config(), 1).expect("an engine");
    let id = engine.submit(Instant::ZERO, request(1));
    let Some(otlp_embed::export::Action::Connect(conn, _)) = engine.poll_action() else {
        panic!("it connects first");
    };
    engine.handle(Instant::ZERO, Fact::Connected(conn));
    assert_eq!(engine.state(id), Some(ExportState::Init));
    let last = engine.stats().last_error.expect("a failure");
    assert!(
        last.contains("this build carries no protocol; enable the feature grpc"),
        "{last}"
    );
}
