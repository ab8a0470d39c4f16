//! Connections that carry one call after the other: as many as are needed, each used again, stale ones seen through.

#[path = "support/world.rs"]
mod world;

use otlp_embed::export::{ExportId, ExportState, Fact};
use otlp_embed::protocol::Settings;
use otlp_embed::testing::Command;
use otlp_embed::time::DeadlineReason;
use otlp_embed::{Config, Protocol};
use std::time::Duration;
use world::*;

/// How long an idle connection is kept beside another.
const IDLE: Duration = Duration::from_secs(90);

fn serial(protocol: Protocol) -> Settings {
    let config = Config::new()
        .with_protocol(protocol)
        .with_endpoint("http://127.0.0.1:4318")
        .with_header("scripted-serial", "1");
    let settings = config.settings().expect("settings that work");
    assert_eq!(settings.lanes[0].http1_connections_max, 4);
    settings
}

/// A lane of OTLP/HTTP in plain text, which is spoken over HTTP/1.1.
fn pool() -> World {
    World::of_settings(serial(Protocol::HttpProtobuf), 1)
}

fn submit_many(world: &mut World, count: usize) -> Vec<ExportId> {
    (0..count).map(|_| world.submit(request(1))).collect()
}

/// The calls that each connection has carried.
fn calls(world: &World) -> Vec<usize> {
    (0..world.ids.len())
        .map(|wire| world.frames(wire).len())
        .collect()
}

/// Opens a pool of four idle connections; the first has been idle for longest.
fn idle_pool() -> World {
    let mut world = pool();
    submit_many(&mut world, 4);
    assert_eq!(calls(&world), [1; 4]);
    for wire in 0..4 {
        world.advance(ms(1_000));
        world.say(wire, Command::ok(0));
    }
    assert_eq!((world.stats().delivered, world.live_wires()), (4, 4));
    world.outcomes.clear();
    world
}

#[test]
fn the_pool_grows_with_what_waits_and_no_further() {
    let mut world = pool();
    let ids = submit_many(&mut world, 10);
    assert_eq!(calls(&world), [1; 4], "spec 8: as many as are allowed");
    for &id in &ids[4..] {
        assert_eq!(world.state(id), Some(ExportState::Connecting));
    }
    world.say(2, Command::ok(0));
    assert_eq!(calls(&world), [1, 1, 2, 1], "the oldest that waits is next");
    assert_eq!(world.state(ids[4]), Some(ExportState::WaitingResponse));
    for (wire, call) in [
        (0, 0),
        (1, 0),
        (3, 0),
        (2, 1),
        (0, 1),
        (1, 1),
        (3, 1),
        (2, 2),
        (0, 2),
    ] {
        world.say(wire, Command::ok(call));
    }
    assert!(ids.iter().all(|&id| world.outcome(id).is_ok()));
    assert_eq!(world.stats().connections, 4);
}

#[test]
fn one_export_after_the_other_uses_one_connection() {
    let mut world = pool();
    for call in 0..20 {
        let id = world.submit(request(1));
        world.say(0, Command::ok(call));
        assert!(world.outcome(id).is_ok());
        world.advance(ms(10_000));
    }
    assert_eq!(world.stats().connections, 1, "spec 24");
}

#[test]
fn a_burst_tries_one_connection_first() {
    let mut world = pool();
    world.dial = Dial::Manual;
    let ids = submit_many(&mut world, 4);
    assert_eq!(world.ids.len(), 1, "the endpoint may be down");
    world.fact(Fact::ConnectFailed(world.ids[0], "refused"));
    assert!(ids.iter().all(|&id| world.state(id) == Some(ExportState::Init)));
    let wait = world.advance_to_timer();
    assert!(
        (ms(100)..=ms(200)).contains(&wait),
        "one failure, not four: {wait:?}"
    );
    assert_eq!(world.ids.len(), 2);
    world.fact(Fact::Connected(world.ids[1]));
    assert_eq!(world.ids.len(), 5, "now the others, for those that still wait");
}

#[test]
fn a_connection_that_is_refused_beside_one_that_works_fails_nobody() {
    let mut world = pool();
    let first = world.submit(request(1));
    world.dial = Dial::Refuse;
    let second = world.submit(request(1));
    assert_eq!(world.state(second), Some(ExportState::Connecting));
    assert_eq!(world.ids.len(), 2, "it was tried");
    let third = world.submit(request(1));
    assert_eq!(world.ids.len(), 2, "the gate is closed");
    world.say(0, Command::ok(0));
    world.say(0, Command::ok(1));
    world.say(0, Command::ok(2));
    for id in [first, second, third] {
        assert_eq!(world.outcome(id).expect("success").attempts(), 1);
    }
}

#[test]
fn a_gate_that_opens_lets_the_pool_grow() {
    let mut world = pool();
    world.submit(request(1));
    world.dial = Dial::Refuse;
    let second = world.submit(request(1));
    let due = world.engine.next_deadline().expect("a gate");
    assert_eq!(due.reason, DeadlineReason::Reconnect);
    world.dial = Dial::Accept;
    world.advance_to_timer();
    assert_eq!(world.state(second), Some(ExportState::WaitingResponse));
}

#[test]
fn a_dial_beside_others_is_finished_for_the_next() {
    let mut world = pool();
    world.submit(request(1));
    world.dial = Dial::Manual;
    world.submit(request(1));
    world.say(0, Command::ok(0));
    world.say(0, Command::ok(1));
    assert!(!world.wires[1].is_closed);
    world.fact(Fact::Connected(world.ids[1]));
    submit_many(&mut world, 2);
    assert_eq!(calls(&world), [3, 1]);
}

#[test]
fn the_connection_used_last_is_used_first() {
    let mut world = idle_pool();
    world.submit(request(1));
    assert_eq!(calls(&world), [1, 1, 1, 2]);
    submit_many(&mut world, 2);
    assert_eq!(calls(&world), [1, 2, 2, 2]);
}

#[test]
fn what_may_be_multiplexed_is_one_connection_until_it_is_known() {
    let mut world = World::of_settings(serial(Protocol::Grpc), 1);
    world.dial = Dial::Manual;
    submit_many(&mut world, 4);
    assert_eq!(world.ids.len(), 1);
    world.fact(Fact::Connected(world.ids[0]));
    assert_eq!(
        world.ids.len(),
        4,
        "it carries one call at a time: more are needed"
    );
}

#[test]
fn one_connection_that_turns_out_to_be_multiplexed_is_enough() {
    let config = Config::new()
        .with_protocol(Protocol::HttpProtobuf)
        .with_endpoint("http://127.0.0.1:4318");
    let mut world = World::new(config);
    world.dial = Dial::Manual;
    submit_many(&mut world, 4);
    world.fact(Fact::Connected(world.ids[0]));
    assert_eq!((world.ids.len(), calls(&world)), (1, vec![4]));
}

#[test]
fn idle_connections_beyond_one_are_closed() {
    let mut world = idle_pool();
    let due = world.engine.next_deadline().expect("the oldest is too many");
    assert_eq!(due.reason, DeadlineReason::Retire);
    assert_eq!(due.at, world.now + (IDLE - ms(3_000)));
    world.advance(IDLE - ms(3_001));
    assert_eq!(world.live_wires(), 4);
    for left in [3, 2, 1] {
        world.advance_to_timer();
        assert_eq!(world.live_wires(), left);
    }
    assert!(!world.wires[3].is_closed, "the one that was used last is kept");
    assert_eq!(world.engine.poll_timeout(), None);
    assert_eq!(world.stats().last_error, None, "that is no failure");
    world.submit(request(1));
    assert_eq!(calls(&world), [1, 1, 1, 2], "no gate, no new connection");
}

#[test]
fn a_connection_in_use_lets_the_idle_ones_go() {
    let mut world = idle_pool();
    for call in 1..40 {
        world.submit(request(1));
        world.say(3, Command::ok(call));
        world.advance(ms(5_000));
    }
    assert_eq!(world.live_wires(), 1);
    assert_eq!(world.stats().connections, 4);
}

#[test]
fn an_idle_connection_that_the_peer_closes_is_forgotten() {
    let mut world = idle_pool();
    world.fact(Fact::Eof(world.ids[3]));
    assert!(world.wires[3].is_closed);
    let id = world.submit(request(1));
    assert_eq!(
        calls(&world),
        [1, 1, 2, 1],
        "the next one takes the call, no gate is closed"
    );
    world.say(2, Command::ok(1));
    assert_eq!(world.outcome(id).expect("success").attempts(), 1);
}

#[test]
fn a_request_on_a_stale_connection_is_resent_at_once_on_a_new_one() {
    let mut world = idle_pool();
    world.advance(ms(60_000));
    let id = world.submit(request(1));
    assert_eq!(calls(&world), [1, 1, 1, 2]);
    world.fact(Fact::Eof(world.ids[3]));
    assert_eq!(
        world.state(id),
        Some(ExportState::WaitingResponse),
        "spec 50: no backoff"
    );
    assert_eq!(
        calls(&world),
        [1, 1, 1, 2, 1],
        "the others were idle for longer and are no better"
    );
    assert_eq!(world.live_wires(), 1);
    world.say(4, Command::ok(0));
    let outcome = world.outcome(id).expect("success");
    assert_eq!((outcome.delivered(), outcome.attempts()), (1, 2));
    assert_eq!(
        world.stats().possible_duplicates,
        1,
        "spec 25: the first may have arrived"
    );
}

#[test]
fn a_connection_that_fails_its_first_call_is_not_stale() {
    let mut world = pool();
    let id = world.submit(request(1));
    world.fact(Fact::Eof(world.ids[0]));
    assert_eq!(world.state(id), Some(ExportState::Init), "spec 22: with backoff");
    assert_eq!(world.ids.len(), 1);
}

#[test]
fn an_answer_that_has_begun_is_not_stale() {
    let mut world = idle_pool();
    let id = world.submit(request(1));
    let half = &Command::ok(1).encode()[..5];
    world.fact(Fact::Input(world.ids[3], half));
    world.fact(Fact::Failed(world.ids[3], "reset by peer"));
    assert_eq!(world.state(id), Some(ExportState::Init), "spec 22: with backoff");
    assert_eq!(world.live_wires(), 3, "nothing is known against the others");
}

/// Under TLS the peer's last words, which say that it closes, may arrive behind the request.
#[test]
fn last_words_that_end_the_connection_are_no_answer() {
    let mut world = idle_pool();
    let id = world.submit(request(1));
    world.say(3, Command::Die);
    assert_eq!(world.state(id), Some(ExportState::WaitingResponse), "spec 50");
    assert_eq!((world.ids.len(), world.live_wires()), (5, 1));
}

#[test]
fn a_call_that_the_peer_resets_is_not_stale() {
    let mut world = idle_pool();
    let id = world.submit(request(1));
    world.say(
        3,
        Command::Reset {
            call: 1,
            is_retryable: true,
        },
    );
    assert_eq!(world.state(id), Some(ExportState::Init), "spec 17: with backoff");
    assert_eq!(world.live_wires(), 4);
}

/// A pool as large as a user may want it grows old at once, with a call on each connection.
#[test]
fn a_large_pool_drains_without_loss() {
    let mut settings = serial(Protocol::HttpProtobuf);
    settings.lanes[0].http1_connections_max = 32;
    settings.lanes[0].max_connection_age = Some(ms(5_000));
    let mut world = World::of_settings(settings, 1);
    let old = submit_many(&mut world, 32);
    world.advance(ms(5_600));
    let new = submit_many(&mut world, 32);
    assert_eq!(world.live_wires(), 64);
    for wire in 0..64 {
        world.say(wire, Command::ok(0));
    }
    for id in old.into_iter().chain(new) {
        assert_eq!(world.outcome(id).expect("success").attempts(), 1);
    }
    assert_eq!(world.live_wires(), 32);
}

#[test]
fn a_second_stale_connection_waits_for_the_backoff() {
    let mut world = idle_pool();
    let id = world.submit(request(1));
    world.fact(Fact::Eof(world.ids[3]));
    // An export in between makes the new connection one that was used before.
    world.say(4, Command::status(0, otlp_embed::Code::UNAVAILABLE));
    world.advance_to_timer();
    assert_eq!(calls(&world)[4], 2);
    world.fact(Fact::Eof(world.ids[4]));
    assert_eq!(world.state(id), Some(ExportState::Init));
    let wait = world.advance_to_timer();
    assert!(wait >= ms(100), "{wait:?}");
}

#[test]
fn a_cancelled_call_does_not_hold_its_connection() {
    let mut world = pool();
    let ids = submit_many(&mut world, 5);
    world.fact(Fact::Cancel(ids[1]));
    assert_eq!(world.state(ids[4]), Some(ExportState::WaitingResponse));
    assert_eq!(world.live_wires(), 4);
}

#[test]
fn a_dial_for_nobody_is_given_up_where_no_connection_works() {
    let mut world = pool();
    world.dial = Dial::Manual;
    let id = world.submit(request(1));
    world.fact(Fact::Cancel(id));
    assert_eq!(world.live_wires(), 0);
}

/// Many exports over many idle times, one at a time, four at a time: nothing is lost and nothing piles up.
#[test]
fn load_that_comes_and_goes_keeps_its_pool_within_bounds() {
    let mut world = pool();
    let mut rng = fastrand::Rng::with_seed(11);
    let mut delivered = 0;
    for _ in 0..300 {
        let ids = submit_many(&mut world, rng.usize(1..9));
        delivered += ids.len() as u64;
        assert!(world.live_wires() <= 4);
        let mut answered: Vec<usize> = vec![0; world.ids.len()];
        while world.stats().exports_in_flight > 0 {
            for wire in 0..world.ids.len() {
                answered.resize(world.ids.len(), 0);
                if world.wires[wire].is_closed {
                    continue;
                }
                let calls = world.frames(wire).len();
                if calls > 0 {
                    let call = u16::try_from(calls - 1).expect("few");
                    world.say(wire, Command::ok(call));
                }
            }
        }
        for id in ids {
            assert_eq!(world.outcome(id).expect("success").attempts(), 1);
        }
        let live: Vec<usize> = (0..world.ids.len())
            .filter(|&w| !world.wires[w].is_closed)
            .collect();
        if rng.u32(..4) == 0 {
            let gone = live[rng.usize(..live.len())];
            world.fact(Fact::Eof(world.ids[gone]));
        }
        world.advance(ms(rng.u64(..120_000)));
        assert!(world.live_wires() <= 4);
    }
    assert_eq!(world.stats().delivered, delivered);
    assert!(
        world.stats().connections > 50,
        "idle ones are closed: {:?}",
        world.stats()
    );
}
