//! Connections that end: drains, deaths, stale ones, and what becomes of their calls.

#[path = "support/world.rs"]
mod world;

use otlp_embed::export::{ExportState, Fact};
use otlp_embed::testing::{Command, Frame};
use otlp_embed::time::DeadlineReason;
use world::*;

#[test]
fn a_drain_hands_over_without_loss_or_duplicate() {
    let mut world = World::new(config());
    let ids: Vec<_> = (1..=3).map(|items| world.submit(request(items))).collect();
    world.say(0, Command::Drain(1));
    assert_eq!(
        world.frames(1),
        [Frame::Call(0, 8), Frame::Call(1, 8)],
        "spec 47: resent at once"
    );
    assert_eq!(world.live_wires(), 2, "the old connection finishes its call");
    world.say(1, Command::ok(0));
    world.say(1, Command::ok(1));
    world.say(0, Command::ok(0));
    assert!(world.wires[0].is_closed, "drained to the end");
    for id in ids {
        assert!(world.outcome(id).is_ok());
    }
    let stats = world.stats();
    assert_eq!(
        (stats.delivered, stats.possible_duplicates, stats.connections),
        (6, 0, 2)
    );
}

#[test]
fn a_call_that_waits_in_the_engine_moves_to_the_new_connection() {
    let mut world = World::new(config().with_header("scripted-limit", "1"));
    let first = world.submit(request(1));
    let second = world.submit(request(1));
    world.say(0, Command::Drain(9));
    assert_eq!(world.frames(1), [Frame::Call(0, 8)], "spec 47");
    world.say(1, Command::ok(0));
    world.say(0, Command::ok(0));
    assert_eq!(world.outcome(first).expect("success").attempts(), 1);
    assert_eq!(world.outcome(second).expect("success").attempts(), 1);
}

#[test]
fn an_idle_connection_that_drains_is_closed_and_replaced_on_use() {
    let mut world = World::new(config());
    world.submit(request(1));
    world.say(0, Command::ok(0));
    world.say(0, Command::Drain(9));
    assert!(world.wires[0].is_closed);
    assert_eq!(world.ids.len(), 1, "no connection without an export");
    let id = world.submit(request(1));
    world.say(1, Command::ok(0));
    assert!(world.outcome(id).is_ok());
}

#[test]
fn a_stale_connection_is_noticed_on_use_and_the_request_resent() {
    let mut world = World::new(config());
    world.submit(request(1));
    world.say(0, Command::ok(0));
    world.takes = false;
    let id = world.submit(request(4));
    world.takes = true;
    world.fact(Fact::Failed(world.ids[0], "connection reset by peer"));
    assert_eq!(
        world.state(id),
        Some(ExportState::WaitingResponse),
        "spec 50: resent at once"
    );
    world.say(1, Command::ok(0));
    assert_eq!(world.outcome(id).expect("success").delivered(), 4);
    assert_eq!(world.stats().possible_duplicates, 0);
}

#[test]
fn a_disconnect_under_a_sent_request_is_retried_with_backoff() {
    for by_eof in [false, true] {
        let mut world = World::new(config());
        let id = world.submit(request(4));
        if by_eof {
            world.fact(Fact::Eof(world.ids[0]));
        } else {
            world.say(0, Command::Die);
        }
        assert_eq!(world.state(id), Some(ExportState::Init), "spec 22");
        assert!(world.wires[0].is_closed);
        let wait = world.advance_to_timer();
        assert!((ms(100)..=ms(200)).contains(&wait), "{wait:?}");
        world.say(1, Command::ok(0));
        assert!(world.outcome(id).is_ok());
        assert_eq!(world.stats().possible_duplicates, 4, "spec 25");
    }
}

#[test]
fn an_idle_connection_that_dies_is_replaced_only_on_use() {
    let mut world = World::new(config());
    world.submit(request(1));
    world.say(0, Command::ok(0));
    world.fact(Fact::Eof(world.ids[0]));
    assert!(world.wires[0].is_closed);
    assert_eq!((world.ids.len(), world.engine.poll_timeout()), (1, None));
    let id = world.submit(request(1));
    assert_eq!(
        world.state(id),
        Some(ExportState::WaitingResponse),
        "spec 49: at once"
    );
}

#[test]
fn a_server_that_hangs_up_on_everyone_is_not_hammered() {
    let mut world = World::new(config());
    world.takes = false;
    let id = world.submit(request(1));
    let mut connections = 0;
    let start = world.now;
    while world.outcomes.is_empty() {
        connections += 1;
        assert!(connections < 40, "{connections} connections");
        if let Some(&last) = world
            .ids
            .last()
            .filter(|_| !world.wires[world.wires.len() - 1].is_closed)
        {
            world.fact(Fact::Eof(last));
        }
        if world.outcomes.is_empty() {
            world.advance_to_timer();
        }
    }
    let error = world.error(id);
    assert!(world.now.since(start) > ms(1_000));
    assert_eq!(error.counts().dropped, 1, "no request was sent whole: {error}");
    assert!(world.ids.len() <= 12, "{} connections", world.ids.len());
}

#[test]
fn a_server_that_drains_at_once_is_not_hammered() {
    let mut world = World::new(config());
    let id = world.submit(request(1));
    for _ in 0..200 {
        match world.wires.last() {
            Some(wire) if !wire.is_closed => world.say(world.wires.len() - 1, Command::Drain(0)),
            _ => {
                if world.engine.poll_timeout().is_none() {
                    break;
                }
                world.advance_to_timer();
            }
        }
    }
    assert!(!world.error(id).is_retryable() || world.ids.len() <= 12);
    assert!(world.ids.len() <= 12, "{} connections", world.ids.len());
}

#[test]
fn waiting_exports_reconnect_at_the_endpoints_gate() {
    let mut world = World::new(config().with_header("scripted-limit", "1"));
    world.takes = false;
    world.submit(request(1));
    let second = world.submit(request(1));
    // The first fruitless connection is forgiven, the second closes the gate.
    world.fact(Fact::Eof(world.ids[0]));
    world.fact(Fact::Eof(world.ids[1]));
    assert_eq!(world.live_wires(), 0);
    assert_eq!(world.state(second), Some(ExportState::Connecting));
    let due = world.engine.next_deadline().expect("a reconnect");
    assert!(
        matches!(due.reason, DeadlineReason::Reconnect | DeadlineReason::Backoff),
        "{due:?}"
    );
    world.takes = true;
    world.advance(ms(200));
    assert_eq!(world.live_wires(), 1);
}

#[test]
fn an_answer_forgives_the_fruitless_connections_before_it() {
    let mut world = World::new(config());
    world.takes = false;
    let id = world.submit(request(1));
    world.fact(Fact::Eof(world.ids[0]));
    assert_eq!(world.live_wires(), 1, "the first is forgiven");
    world.takes = true;
    world.fact(Fact::Sent(world.ids[1], usize::MAX));
    world.say(1, Command::ok(0));
    assert!(world.outcome(id).is_ok());
    world.fact(Fact::Eof(world.ids[1]));
    world.takes = false;
    let id = world.submit(request(1));
    world.fact(Fact::Eof(world.ids[2]));
    assert_eq!(
        world.state(id),
        Some(ExportState::Sending),
        "the first after an answer is forgiven too"
    );
}

#[test]
fn connections_that_drain_for_ever_are_bounded() {
    let mut world = World::new(config());
    let mut drained = 0;
    for _ in 0..60 {
        world.submit(request(1).with_timeout(ms(60_000)));
        if drained < world.ids.len() {
            world.say(drained, Command::Drain(u16::MAX));
            drained += 1;
        } else {
            world.advance_to_timer();
        }
        assert!(world.live_wires() <= 9, "{} connections", world.live_wires());
    }
    assert!(drained > 10, "{drained} connections drained");
    assert!(world.outcomes.is_empty(), "no export is given up");
}

#[test]
fn what_was_transmitted_is_written_before_the_close() {
    let mut world = World::new(config().with_header("scripted-lazy", "1"));
    let id = world.submit(request(1));
    world.takes = false;
    world.fact(Fact::Cancel(id));
    assert_eq!(world.wires[0].unsent, Frame::LEN);
    world.say(0, Command::Die);
    assert!(!world.wires[0].is_closed, "the cancellation is not written yet");
    world.fact(Fact::Input(world.ids[0], b"whatever comes now"));
    world.fact(Fact::Sent(world.ids[0], Frame::LEN - 1));
    assert!(!world.wires[0].is_closed);
    world.fact(Fact::Sent(world.ids[0], 1));
    assert!(world.wires[0].is_closed);
}

#[test]
fn a_close_does_not_linger_for_a_socket_that_takes_nothing() {
    let mut world = World::new(config());
    let id = world.submit(request(1));
    world.takes = false;
    world.fact(Fact::Cancel(id));
    world.say(0, Command::Die);
    world.advance(ms(1_000));
    assert!(world.wires[0].is_closed);
    assert_eq!(world.engine.poll_timeout(), None);
}

#[test]
fn nonsense_from_the_peer_ends_the_connection_alone() {
    let mut world = World::new(config());
    let id = world.submit(request(1));
    world.fact(Fact::Input(world.ids[0], &[0xff; 1_000]));
    assert_eq!(world.state(id), Some(ExportState::Init));
    world.advance_to_timer();
    world.say(1, Command::ok(0));
    assert!(world.outcome(id).is_ok());
}

#[test]
fn calls_that_a_session_forgets_at_its_end_are_judged_by_the_engine() {
    let mut world = World::new(config().with_header("scripted-mute", "1"));
    let sent = world.submit(request(1));
    world.takes = false;
    let sending = world.submit(request(2));
    world.takes = true;
    world.fact(Fact::Eof(world.ids[0]));
    assert_eq!(world.state(sent), Some(ExportState::Init), "spec 22");
    assert_eq!(
        world.state(sending),
        Some(ExportState::WaitingResponse),
        "resent at once"
    );
    world.advance_to_timer();
    world.say(1, Command::ok(0));
    world.say(1, Command::ok(1));
    assert_eq!(
        (world.stats().delivered, world.stats().possible_duplicates),
        (3, 1)
    );
}

#[test]
fn connections_that_write_their_last_bytes_are_bounded() {
    let mut world = World::new(config().with_header("scripted-lazy", "1"));
    for wire in 0..20 {
        world.takes = false;
        world.submit(request(1));
        world.say(wire, Command::ok(0));
        world.say(wire, Command::Die);
        assert!(world.live_wires() <= 8, "{} connections", world.live_wires());
    }
    assert_eq!(world.stats().delivered, 20);
}

#[test]
fn a_closed_gate_does_not_keep_exports_from_an_open_connection() {
    let mut world = World::new(config());
    let first = world.submit(request(1));
    world.say(0, Command::Drain(9));
    world.submit(request(1));
    world.say(1, Command::Drain(9));
    world.submit(request(1));
    world.fact(Fact::Eof(world.ids[0]));
    world.fact(Fact::Eof(world.ids[1]));
    assert_eq!(world.state(first), Some(ExportState::Init));
    let id = world.submit(request(1));
    assert_eq!(world.state(id), Some(ExportState::WaitingResponse));
    assert_eq!(world.ids.len(), 3);
}

#[test]
fn a_connection_that_nobody_used_may_end_without_consequences() {
    let mut world = World::new(config().with_header("scripted-limit", "0"));
    for wire in 0..3 {
        let id = world.submit(request(1));
        assert_eq!(world.ids.len(), wire + 1, "it connects at once");
        world.fact(Fact::Cancel(id));
        world.fact(Fact::Eof(world.ids[wire]));
    }
    assert_eq!(world.stats().connections, 3);
}
