//! Connecting: names, addresses in turn, the share of every address in the deadline, the endpoint's own backoff.

#[path = "support/world.rs"]
mod world;

use otlp_embed::endpoint::Target;
use otlp_embed::export::{ExportState, Fact};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::testing::Command;
use otlp_embed::time::DeadlineReason;
use otlp_embed::{Config, DropReason};
use std::time::Duration;
use world::*;

fn named() -> World {
    let mut world = World::new(
        Config::new()
            .with_protocol(otlp_embed::Protocol::Grpc)
            .with_endpoint("http://collector:4317"),
    );
    world.dial = Dial::Manual;
    world
}

fn manual(config: Config) -> World {
    let mut world = World::new(config);
    world.dial = Dial::Manual;
    world
}

fn targets(world: &World, wire: usize) -> Vec<String> {
    world.wires[wire].targets.iter().map(Target::to_string).collect()
}

#[test]
fn a_name_is_resolved_and_its_families_are_tried_by_turns() {
    let mut world = named();
    let id = world.submit(request(1));
    let name = world.wires[0].resolving.clone().expect("a name to resolve");
    assert_eq!(name.to_string(), "collector:4317");
    let addresses = ["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1", "10.0.0.2:1"].map(address);
    world.fact(Fact::Resolved(world.ids[0], &addresses));
    for _ in 1..addresses.len() {
        world.fact(Fact::ConnectFailed(world.ids[0], "refused"));
    }
    assert_eq!(
        targets(&world, 0),
        ["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"]
    );
    assert_eq!(world.state(id), Some(ExportState::Connecting));
    world.fact(Fact::Connected(world.ids[0]));
    world.say(0, Command::ok(0));
    assert_eq!(
        world.outcome(id).expect("success").attempts(),
        1,
        "one attempt, whatever the addresses"
    );
}

#[test]
fn the_family_that_the_resolver_puts_first_is_first() {
    let mut world = named();
    world.submit(request(1));
    world.fact(Fact::Resolved(
        world.ids[0],
        &["10.0.0.1:1", "10.0.0.2:1", "[::1]:1"].map(address),
    ));
    world.fact(Fact::ConnectFailed(world.ids[0], "refused"));
    assert_eq!(targets(&world, 0), ["10.0.0.1:1", "[::1]:1"]);
}

#[test]
fn literal_and_given_addresses_skip_the_resolver() {
    let mut world = manual(config());
    world.submit(request(1));
    assert_eq!(
        (targets(&world, 0), &world.wires[0].resolving),
        (vec!["127.0.0.1:4317".into()], &None)
    );
    let given = ["10.0.0.9:9", "10.0.0.8:8", "[::1]:7"].map(address);
    let config = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_endpoint("http://collector")
        .with_addresses(given);
    let mut world = manual(config);
    world.submit(request(1));
    world.fact(Fact::ConnectFailed(world.ids[0], "refused"));
    world.fact(Fact::ConnectFailed(world.ids[0], "refused"));
    assert_eq!(targets(&world, 0), ["10.0.0.9:9", "10.0.0.8:8", "[::1]:7"]);
}

#[test]
fn a_resolver_with_thousands_of_addresses_is_bounded() {
    let mut world = named();
    let id = world.submit(request(1));
    let many: Vec<_> = (0..5_000u16)
        .map(|n| address(&format!("10.0.{}.{}:1", n / 250, n % 250)))
        .collect();
    world.fact(Fact::Resolved(world.ids[0], &many));
    while !world.wires[0].is_closed {
        world.fact(Fact::ConnectFailed(world.ids[0], &"x".repeat(100_000)));
    }
    assert_eq!(world.wires[0].targets.len(), 16);
    world.fact(Fact::Cancel(id));
    assert!(world.stats().last_error.expect("a failure").len() < 4_096);
}

#[test]
fn an_address_that_does_not_answer_gives_way_to_the_next() {
    let addresses = ["10.0.0.1:1", "10.0.0.2:1"].map(address);
    let mut world = manual(config().with_connect_timeout(ms(2_000)).with_addresses(addresses));
    let id = world.submit(request(1));
    let due = world.engine.next_deadline().expect("a connect timeout");
    assert_eq!(
        (due.at, due.reason),
        (world.now + ms(2_000), DeadlineReason::Connect)
    );
    world.advance(ms(2_000));
    assert_eq!(targets(&world, 0), ["10.0.0.1:1", "10.0.0.2:1"]);
    assert_eq!(world.state(id), Some(ExportState::Connecting));
    world.fact(Fact::Connected(world.ids[0]));
    world.say(0, Command::ok(0));
    assert!(world.outcome(id).is_ok());
}

#[test]
fn addresses_that_do_not_answer_are_named() {
    let addresses = ["10.0.0.1:1", "10.0.0.2:1"].map(address);
    let mut world = manual(config().with_connect_timeout(ms(2_000)).with_addresses(addresses));
    world.submit(request(1));
    world.advance(ms(4_000));
    assert_eq!(
        world.stats().last_error.as_deref(),
        Some(
            "connect to 10.0.0.1:1: no connection within 2 s, connect to 10.0.0.2:1: no connection within 2 s"
        )
    );
}

#[test]
fn a_short_deadline_is_shared_among_the_addresses() {
    let addresses = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(address);
    let config = config().with_timeout(ms(900)).with_addresses(addresses);
    let mut world = manual(config);
    let id = world.submit(request(1));
    world.advance(ms(300));
    world.advance(ms(300));
    assert_eq!(targets(&world, 0).len(), 3, "spec 49: each address has its time");
    world.advance(ms(300));
    let error = world.error(id);
    assert!(error.is_timeout());
    assert!(
        error.to_string().contains("connect to 10.0.0.3:1: no answer yet"),
        "{error}"
    );
    assert!(world.wires[0].is_closed, "nobody waits for it any more");
}

#[test]
fn a_refused_connection_is_tried_again_with_jitter_until_the_deadline() {
    let mut world = World::new(config());
    world.dial = Dial::Refuse;
    let id = world.submit(request(3));
    assert_eq!(world.state(id), Some(ExportState::Init));
    let mut longest = 200;
    for _ in 0..3 {
        let wait = world.advance_to_timer();
        assert!(
            (ms(longest / 2)..=ms(longest)).contains(&wait),
            "spec 23: {wait:?} of {longest}"
        );
        longest *= 2;
    }
    world.advance(ms(10_000));
    let error = world.error(id);
    assert!(
        error.is_connect() && error.is_retryable() && !error.is_timeout(),
        "{error}"
    );
    assert_eq!(error.drop_reason(), Some(DropReason::Deadline));
    let text = error.to_string();
    assert!(
        text.contains("attempts, since the next one would come after the deadline of 10 s; last failure: connect to 127.0.0.1:4317: connection refused; check that a collector listens there"),
        "{text}"
    );
    assert!((6..=14).contains(&error.attempts()), "{}", error.attempts());
}

/// A collector that comes back shortly before the deadline is not missed for a long backoff.
#[test]
fn the_attempts_come_closer_together_towards_the_deadline() {
    let mut world = World::new(config());
    world.dial = Dial::Refuse;
    let start = world.now;
    let id = world.submit(request(3));
    while world.state(id).is_some() {
        world.advance_to_timer();
    }
    let spent = world.now - start;
    assert!(world.error(id).is_connect());
    assert!(
        (ms(9_600)..ms(10_000)).contains(&spent),
        "the last attempt came after {spent:?}"
    );
}

#[test]
fn an_outage_that_is_over_does_not_lengthen_the_next() {
    let mut world = World::new(config());
    world.dial = Dial::Refuse;
    let id = world.submit(request(1));
    for _ in 0..3 {
        world.advance_to_timer();
    }
    world.dial = Dial::Accept;
    let wait = world.advance_to_timer();
    assert!(wait > ms(400), "the outage was long: {wait:?}");
    let last = world.ids.len() - 1;
    world.say(last, Command::ok(0));
    assert!(world.outcome(id).is_ok());
    world.fact(Fact::Eof(world.ids[last]));
    world.dial = Dial::Refuse;
    world.submit(request(1));
    let wait = world.advance_to_timer();
    assert!((ms(100)..=ms(200)).contains(&wait), "{wait:?}");
}

#[test]
fn a_deadline_after_connect_failures_names_them() {
    let mut world = World::new(config().with_timeout(ms(1_000)));
    world.dial = Dial::Refuse;
    let id = world.submit(request(1));
    world.dial = Dial::Manual;
    world.advance(ms(1_000));
    let error = world.error(id);
    assert!(error.is_timeout() && !error.is_connect(), "the deadline did pass");
    let text = error.to_string();
    assert!(text.contains("no verdict within 1 s after 2 attempts"), "{text}");
    assert!(text.contains("127.0.0.1:4317: connection refused"), "{text}");
}

#[test]
fn a_name_that_does_not_resolve_fails_like_a_connection() {
    let mut world = named();
    let id = world.submit(request(1).with_timeout(ms(1_000)));
    world.fact(Fact::ResolveFailed(world.ids[0], "no such host"));
    assert_eq!(world.state(id), Some(ExportState::Init));
    assert!(world.wires[0].is_closed);
    world.advance_to_timer();
    world.fact(Fact::Resolved(world.ids[1], &[]));
    world.advance_to_timer();
    world.fact(Fact::ResolveFailed(world.ids[2], "no such host"));
    world.advance_to_timer();
    let error = match world.outcomes.remove(&id) {
        Some(outcome) => outcome.expect_err("no name"),
        None => {
            world.fact(Fact::ResolveFailed(world.ids[3], "no such host"));
            world.error(id)
        }
    };
    assert!(error.is_connect());
    assert!(
        error
            .to_string()
            .contains("resolve collector:4317: no such host; check the endpoint's host name"),
        "{error}"
    );
}

#[test]
fn a_resolver_that_never_answers_is_left_at_the_deadline() {
    let mut world = named();
    let id = world.submit(request(2).with_timeout(ms(500)));
    world.advance(ms(500));
    let error = world.error(id);
    assert!(error.is_timeout(), "spec 49");
    assert!(
        error
            .to_string()
            .contains("resolve collector:4317: no answer yet"),
        "{error}"
    );
    assert!(world.wires[0].is_closed);
    world.fact(Fact::Resolved(world.ids[0], &[address("10.0.0.1:1")]));
    assert!(world.wires[0].targets.is_empty(), "a late answer is ignored");
}

#[test]
fn exports_that_keep_coming_do_not_keep_a_dead_resolver() {
    let mut world = named();
    for _ in 0..30 {
        world.submit(request(1));
        world.advance(ms(1_000));
    }
    assert!(
        world.ids.len() >= 2,
        "the resolver was asked again: {}",
        world.ids.len()
    );
}

#[test]
fn all_that_wait_share_one_connection_and_its_failure() {
    let mut world = manual(config());
    let ids: Vec<_> = (0..5).map(|_| world.submit(request(1))).collect();
    assert_eq!(world.ids.len(), 1);
    world.fact(Fact::ConnectFailed(world.ids[0], "refused"));
    assert!(ids.iter().all(|&id| world.state(id) == Some(ExportState::Init)));
    let late = world.submit(request(1));
    assert_eq!(
        (world.state(late), world.ids.len()),
        (Some(ExportState::Init), 1),
        "the endpoint's gate is closed"
    );
    world.advance_to_timer();
    assert_eq!(world.ids.len(), 2, "one connection for all of them");
    world.fact(Fact::Connected(world.ids[1]));
    for call in 0..6 {
        world.say(1, Command::ok(call));
    }
    assert_eq!(world.stats().delivered, 6);
    assert_eq!(world.outcome(late).expect("success").attempts(), 1);
    assert_eq!(world.outcome(ids[0]).expect("success").attempts(), 2);
}

#[test]
fn an_export_that_cannot_outlast_the_gate_fails_at_once() {
    let mut policy = RetryPolicy::default();
    policy.initial = Duration::from_secs(5);
    let mut world = World::new(config().with_retry_policy(policy));
    world.dial = Dial::Refuse;
    world.submit(request(1));
    let id = world.submit(request(1).with_timeout(ms(100)));
    let error = world.error(id);
    assert!(error.is_connect(), "spec 21");
    assert_eq!((error.attempts(), error.counts().dropped), (0, 1));
    assert!(error.to_string().contains("connection refused"), "{error}");
}

#[test]
fn a_connection_that_nobody_waits_for_is_abandoned() {
    for connecting in [false, true] {
        let mut world = named();
        let first = world.submit(request(1));
        let second = world.submit(request(1));
        if connecting {
            world.fact(Fact::Resolved(world.ids[0], &[address("10.0.0.1:1")]));
        }
        world.fact(Fact::Cancel(first));
        assert!(!world.wires[0].is_closed, "the second still waits");
        world.fact(Fact::Cancel(second));
        assert!(world.wires[0].is_closed);
        world.fact(Fact::Connected(world.ids[0]));
        assert_eq!(world.stats().connections, 0);
        world.submit(request(1));
        assert_eq!(world.ids.len(), 2, "the next export opens another");
    }
}

#[test]
fn an_open_connection_stays_when_nobody_uses_it() {
    let mut world = manual(config());
    let id = world.submit(request(1));
    world.fact(Fact::Connected(world.ids[0]));
    world.fact(Fact::Cancel(id));
    world.advance(ms(60_000));
    assert!(!world.wires[0].is_closed, "spec 24");
}

#[test]
fn a_session_that_cannot_be_opened_is_a_connect_failure() {
    let mut policy = RetryPolicy::never();
    policy.attempts_max = 1;
    let config = config()
        .with_header("scripted-open", "no such mode")
        .with_retry_policy(policy);
    let mut world = World::new(config);
    let id = world.submit(request(1));
    let error = world.error(id);
    assert!(error.is_connect());
    assert_eq!(error.drop_reason(), Some(DropReason::Attempts));
    assert!(
        error
            .to_string()
            .contains("open a session with 127.0.0.1:4317: no such mode"),
        "{error}"
    );
    assert_eq!(world.live_wires(), 0);
}

#[test]
fn a_handshake_that_fails_counts_as_an_attempt_of_all_that_wait() {
    let mut world = World::new(config().with_header("scripted-limit", "0"));
    let id = world.submit(request(1));
    world.say(0, Command::Die);
    assert_eq!(world.state(id), Some(ExportState::Init));
    let wait = world.advance_to_timer();
    assert!((ms(100)..=ms(200)).contains(&wait), "spec 23: {wait:?}");
    world.say(1, Command::Limit(1));
    world.say(1, Command::ok(0));
    assert_eq!(world.outcome(id).expect("success").attempts(), 2);
}

#[test]
fn a_connection_that_opens_too_late_does_not_send_what_is_over() {
    let mut world = manual(config());
    let over = world.submit(request(1).with_timeout(ms(100)));
    let young = world.submit(request(2));
    world.now = world.now + ms(100);
    world.fact(Fact::Connected(world.ids[0]));
    assert_eq!(world.error(over).counts().dropped, 1);
    assert_eq!(world.state(young), Some(ExportState::WaitingResponse));
    assert_eq!(world.frames(0).len(), 1);
}
