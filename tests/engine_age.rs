//! The age of connections: each is replaced in time, and nothing is lost by it.

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "other tests fill their batches")]
mod batches;
#[path = "support/simulation.rs"]
#[allow(dead_code, reason = "the tests of the whole exporter use more of it")]
mod simulation;
#[path = "support/world.rs"]
mod world;

use batches::batch;
use otlp_embed::export::{ExportState, Fact};
use otlp_embed::protocol::Settings;
use otlp_embed::testing::Command;
use otlp_embed::testing::collector::Builder;
use otlp_embed::time::DeadlineReason;
use otlp_embed::{Config, Protocol};
use simulation::Simulation;
use std::collections::BTreeSet;
use std::time::Duration;
use world::*;

const AGE: Duration = Duration::from_secs(100);

fn ageing(config: Config) -> Settings {
    let mut settings = config.settings().expect("settings that work");
    settings.lanes[0].max_connection_age = Some(AGE);
    settings
}

fn world() -> World {
    World::of_settings(ageing(config()), 1)
}

#[test]
fn connections_have_no_age_unless_asked_for() {
    let mut world = World::new(config());
    world.submit(request(1));
    world.say(0, Command::ok(0));
    assert_eq!(world.engine.poll_timeout(), None);
}

#[test]
fn an_idle_connection_is_closed_at_its_age_and_replaced_on_use() {
    let mut world = world();
    world.submit(request(1));
    world.say(0, Command::ok(0));
    let due = world.engine.next_deadline().expect("it ages");
    assert_eq!(due.reason, DeadlineReason::Retire);
    let lived = world.advance_to_timer();
    assert!((AGE * 9 / 10..=AGE * 11 / 10).contains(&lived), "{lived:?}");
    assert!(world.wires[0].is_closed);
    assert_eq!((world.ids.len(), world.engine.poll_timeout()), (1, None));
    assert_eq!(world.stats().last_error, None, "that is no failure");
    let id = world.submit(request(1));
    assert_eq!(world.state(id), Some(ExportState::WaitingResponse), "no gate");
    world.say(1, Command::ok(0));
    assert_eq!(world.outcome(id).expect("success").attempts(), 1);
}

/// Without a driver, nobody tells the engine the time between two exports.
#[test]
fn an_old_connection_is_not_used_by_the_next_export() {
    let mut world = world();
    world.submit(request(1));
    world.say(0, Command::ok(0));
    world.now = world.now + AGE * 2;
    world.submit(request(1));
    assert!(world.wires[0].is_closed);
    assert_eq!(world.frames(1).len(), 1);
}

#[test]
fn the_ages_of_connections_differ() {
    let ages: BTreeSet<Duration> = (0..50)
        .map(|seed| {
            let mut world = World::of_settings(ageing(config()), seed);
            world.submit(request(1));
            world.say(0, Command::ok(0));
            world.advance_to_timer()
        })
        .collect();
    assert!(ages.len() > 25, "{}", ages.len());
    assert!(ages.first().expect("some") >= &(AGE * 9 / 10));
    assert!(ages.last().expect("some") <= &(AGE * 11 / 10));
}

#[test]
fn a_call_under_way_finishes_while_the_next_opens_another_connection() {
    let settings = ageing(config().with_timeout(AGE * 2));
    let mut world = World::of_settings(settings, 1);
    let old = world.submit(request(1));
    world.advance_to_timer();
    assert!(!world.wires[0].is_closed);
    assert_eq!(world.state(old), Some(ExportState::WaitingResponse));
    let new = world.submit(request(2));
    assert_eq!(world.ids.len(), 2);
    assert_eq!((world.frames(0).len(), world.frames(1).len()), (1, 1));
    world.say(0, Command::ok(0));
    assert!(world.wires[0].is_closed, "it has drained");
    world.say(1, Command::ok(0));
    for id in [old, new] {
        assert_eq!(world.outcome(id).expect("success").attempts(), 1);
    }
    assert_eq!(world.stats().possible_duplicates, 0);
}

#[test]
fn a_call_that_never_ends_holds_an_old_connection_until_its_deadline() {
    let settings = ageing(
        config()
            .with_timeout(AGE * 2)
            .with_header("scripted-lazy", "1")
            .with_connect_timeout(AGE * 9),
    );
    let mut world = World::of_settings(settings, 1);
    let id = world.submit(request(1));
    world.advance(AGE * 2);
    assert!(world.error(id).is_timeout());
    assert!(world.wires[0].is_closed);
}

#[test]
fn names_are_resolved_anew() {
    let mut settings = ageing(
        Config::new()
            .with_protocol(Protocol::Grpc)
            .with_endpoint("http://collector:1"),
    );
    settings.lanes[0].max_connection_age = Some(AGE);
    let mut world = World::of_settings(settings, 1);
    for round in 0..3 {
        world.submit(request(1));
        assert_eq!(world.ids.len(), round + 1);
        assert!(
            world.wires[round].resolving.is_some(),
            "the collector may have moved"
        );
        world.fact(Fact::Resolved(world.ids[round], &[address("10.0.0.1:1")]));
        world.say(round, Command::ok(0));
        world.advance(AGE * 11 / 10);
        assert!(world.wires[round].is_closed);
    }
}

#[test]
fn the_largest_age_is_no_overflow() {
    let mut settings = ageing(config());
    settings.lanes[0].max_connection_age = Some(Duration::MAX);
    let mut world = World::of_settings(settings, 1);
    world.submit(request(1));
    world.say(0, Command::ok(0));
    world.advance(AGE * 1_000);
    assert!(!world.wires[0].is_closed);
}

/// A connection a few hundred milliseconds old under constant load, against the collector's own session: nothing is lost,
/// nothing is sent twice, and each export needs one attempt.
#[test]
fn ageing_under_load_loses_and_repeats_nothing() {
    let mut settings = ageing(config());
    settings.lanes[0].max_connection_age = Some(ms(300));
    let mut simulation = Simulation::with_settings(settings, Builder::default());
    // The bytes move on slowly, so that connections grow old in the middle of requests.
    simulation.chunk = 64;
    let mut rng = fastrand::Rng::with_seed(5);
    let mut items = 0;
    let mut ids = Vec::new();
    for _ in 0..400 {
        let batch = batch(items + 1, rng.u64(1..20));
        items += batch.items();
        ids.push(simulation.submit(batch));
        for _ in 0..rng.usize(..6) {
            simulation.step();
        }
        simulation.now = simulation.now + ms(rng.u64(..20));
        simulation.fact(Fact::Timeout);
    }
    for id in ids {
        assert_eq!(simulation.run_until_settled(id).expect("success").attempts(), 1);
    }
    let stats = simulation.engine.stats();
    assert_eq!((stats.delivered, stats.possible_duplicates), (items, 0));
    assert!(stats.connections > 5, "{stats:?}");
    let received = simulation.builder.inbox().spans().len() as u64;
    assert_eq!(received, items, "each once");
}
