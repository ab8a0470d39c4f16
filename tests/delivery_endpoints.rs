//! Which endpoint takes a batch: failover, round robin, fan-out, and endpoints that are gone.

#[path = "support/delivery.rs"]
mod support;

use otlp_embed::pipeline::Overflow;
use otlp_embed::pipeline::delivery::{
    Admission, Choice, DeliveryConfig, DeliveryEvent, DeliveryFact, ExportVerdict, LegConfig,
};
use otlp_embed::policy::ConcurrencyConfig;
use otlp_embed::policy::{BreakerState, RateLimit};
use otlp_embed::{DropReason, Signal};
use std::time::Duration;
use support::{World, blob, request};

const MS: fn(u64) -> Duration = Duration::from_millis;
const SECS: fn(u64) -> Duration = Duration::from_secs;

fn with_endpoints(endpoints: usize, choice: Choice) -> DeliveryConfig {
    let leg = LegConfig {
        endpoints,
        choice,
        ..LegConfig::default()
    };
    let mut config = DeliveryConfig {
        legs: vec![leg],
        ..DeliveryConfig::default()
    };
    config.batch.items_initial = 1;
    config.batch.items_min = 1;
    config.batch.items_min = 1;
    config.batch.adaptive_enabled = false;
    config
}

fn endpoints(world: &World) -> Vec<usize> {
    world.exports.iter().map(|export| export.endpoint).collect()
}

/// Ends every export, those at an endpoint in `dead` in failure.
fn answer(world: &mut World, dead: &[usize]) {
    while let Some(export) = world.exports.front() {
        match dead.contains(&export.endpoint) {
            true => world.fail(),
            false => world.deliver(),
        };
    }
}

#[test]
fn failover_uses_the_first_that_is_up_and_goes_back_to_it() {
    let mut world = World::new(with_endpoints(2, Choice::Failover));
    for _ in 0..6 {
        world.push(&request(1));
    }
    assert_eq!(
        endpoints(&world),
        [0, 0, 0, 0],
        "the second stands by while the first is busy"
    );
    answer(&mut world, &[0]);
    for _ in 0..100 {
        world.push(&request(1));
        world.pass(MS(300));
        answer(&mut world, &[0]);
    }
    let stats = world.delivery.stats();
    assert_eq!(stats.legs[0].endpoints[0].breaker, BreakerState::Open);
    assert_eq!(stats.total.dropped_total(), 0);
    world.push(&request(1));
    assert_eq!(endpoints(&world), [1]);
    world.deliver_all();
    // The first is back.
    for _ in 0..200 {
        world.push(&request(1));
        world.pass(MS(500));
        answer(&mut world, &[]);
    }
    world.push(&request(1));
    assert_eq!(endpoints(&world), [0]);
    world.deliver_all();
    let account = world.account();
    assert_eq!(account.accepted, account.delivered);
}

#[test]
fn round_robin_takes_turns_and_passes_over_the_busy_and_the_dead() {
    let mut config = with_endpoints(3, Choice::RoundRobin);
    config.concurrency = ConcurrencyConfig::fixed(2);
    let mut world = World::new(config);
    for _ in 0..7 {
        world.push(&request(1));
    }
    assert_eq!(endpoints(&world), [0, 1, 2, 0, 1, 2]);
    // Only the second answers.
    for _ in 0..10 {
        let at = world.exports.iter().position(|export| export.endpoint == 1);
        let export = world
            .exports
            .remove(at.expect("it has exports"))
            .expect("just found");
        world.exports.push_front(export);
        world.deliver();
        world.push(&request(1));
        assert_eq!(world.exports.back().map(|export| export.endpoint), Some(1));
    }
}

#[test]
fn round_robin_loses_nothing_when_one_is_dead() {
    let mut world = World::new(with_endpoints(3, Choice::RoundRobin));
    for _ in 0..300 {
        world.push(&request(1));
        world.pass(MS(50));
        answer(&mut world, &[2]);
    }
    world.pass(SECS(1));
    answer(&mut world, &[2]);
    let stats = world.delivery.stats();
    assert_eq!(stats.total.delivered, 300);
    assert!(stats.total.returned <= 20, "{}", stats.total.returned);
    assert_eq!(stats.legs[0].endpoints[2].breaker, BreakerState::Open);
}

/// As spec 11 asks.
#[test]
fn a_fan_out_settles_each_leg_on_its_own_over_the_same_bytes() {
    let mut config = with_endpoints(1, Choice::Failover);
    config.legs = vec![LegConfig::default(); 3];
    let mut world = World::new(config);
    let sent = request(1);
    world.push(&sent);
    assert_eq!(world.exports.len(), 3, "spec 11");
    for export in &world.exports {
        let (one, other) = (sent.segments().next(), export.request.segments().next());
        assert_eq!(one.map(|piece| piece.as_ptr()), other.map(|piece| piece.as_ptr()));
    }
    world.deliver();
    world.fail();
    world.end(|_| {
        ExportVerdict::settled(otlp_embed::ItemCounts {
            rejected: 1,
            ..Default::default()
        })
    });
    let stats = world.delivery.stats();
    let legs: Vec<_> = stats
        .legs
        .iter()
        .map(|leg| (leg.account.delivered, leg.account.queued, leg.account.rejected))
        .collect();
    assert_eq!(legs, [(1, 0, 0), (0, 1, 0), (0, 0, 1)]);
    assert_eq!(stats.total.accepted, 3);
}

#[test]
fn what_an_endpoint_that_is_gone_had_goes_to_the_others() {
    let mut world = World::new(with_endpoints(2, Choice::Failover));
    for _ in 0..6 {
        world.push(&request(1));
    }
    world.end(|export| ExportVerdict::failed(export.request.clone(), false, "shut down").with_gone());
    assert!(
        world
            .events
            .contains(&DeliveryEvent::EndpointGone { leg: 0, endpoint: 0 })
    );
    while !world.exports.is_empty() {
        world.deliver();
    }
    assert_eq!(world.account().delivered, 6);
    assert!(!world.delivery.is_closed());
}

#[test]
fn the_last_endpoint_ends_the_leg_and_the_last_leg_the_delivery() {
    let mut config = with_endpoints(1, Choice::Failover);
    config.items_max = 6;
    config.overflow = [Overflow::Block; 4];
    let mut world = World::new(config);
    for _ in 0..6 {
        world.push(&request(1));
    }
    assert_eq!(world.push(&request(1)), Admission::Full);
    world.fact(DeliveryFact::EndpointGone { leg: 0, endpoint: 0 });
    assert_eq!(
        world.woken.last().map(|room| room.2),
        Some(true),
        "nobody waits for ever"
    );
    assert_eq!(world.push(&request(1)), Admission::Closed);
    assert_eq!(world.write(1), Admission::Closed);
    let account = world.account();
    assert_eq!(
        (account.dropped_for(DropReason::Shutdown), account.in_flight),
        (2, 4)
    );
    assert!(world.drained.is_none(), "exports are under way");
    world.fail();
    world.deliver_all();
    assert!(world.drained.is_some() && world.delivery.is_done());
    let account = world.account();
    assert_eq!(
        (account.delivered, account.dropped_for(DropReason::Shutdown)),
        (3, 3)
    );
}

/// As spec 11 asks.
#[test]
fn a_fan_out_goes_on_without_a_leg_that_is_gone() {
    let mut config = with_endpoints(1, Choice::Failover);
    config.legs = vec![LegConfig::default(); 2];
    let mut world = World::new(config);
    world.write(1);
    world.fact(DeliveryFact::EndpointGone { leg: 0, endpoint: 0 });
    world.push(&request(1));
    world.pass(MS(200));
    world.deliver_all();
    let stats = world.delivery.stats();
    assert_eq!(stats.legs[1].account.delivered, 2);
    let gone = &stats.legs[0].account;
    assert_eq!(gone.delivered + gone.dropped_for(DropReason::Shutdown), 2);
    assert!(!world.delivery.is_closed());
}

fn limited(limit: RateLimit) -> DeliveryConfig {
    let mut config = with_endpoints(1, Choice::Failover);
    config.rate_limit = Some(limit);
    config.concurrency = ConcurrencyConfig::fixed(1_000);
    config
}

#[test]
fn a_rate_limit_holds_and_its_timer_goes_on() {
    let mut config = limited(RateLimit::items(100).with_burst(50));
    config.batch.items_initial = 10;
    config.batch.items_min = 1;
    let mut world = World::new(config);
    for _ in 0..100 {
        world.push(&request(10));
    }
    let begun = |world: &World| world.exports.iter().map(|export| export.items()).sum::<u64>();
    assert_eq!(begun(&world), 50);
    world.pass(SECS(2));
    assert_eq!(begun(&world), 250);
    world.pass(SECS(8));
    assert_eq!(begun(&world), 1_000);
}

#[test]
fn a_batch_larger_than_the_burst_goes_when_the_bucket_is_full_and_the_rate_holds() {
    let mut world = World::new(limited(RateLimit::bytes(1_000).with_burst(100)));
    for _ in 0..4 {
        world.push(&blob(Signal::Logs, 1, 1_000));
    }
    assert_eq!(world.exports.len(), 1, "the bucket was full");
    world.pass(MS(999));
    assert_eq!(
        world.exports.len(),
        1,
        "it owes 900, and the next needs a full bucket"
    );
    world.pass(MS(1));
    assert_eq!(world.exports.len(), 2);
    world.pass(SECS(2));
    assert_eq!(world.exports.len(), 4);
}

#[test]
fn a_round_robin_passes_over_a_limited_endpoint() {
    let mut config = limited(RateLimit::items(1).with_burst(1));
    config.legs[0].endpoints = 3;
    config.legs[0].choice = Choice::RoundRobin;
    let mut world = World::new(config);
    for _ in 0..5 {
        world.push(&request(1));
    }
    assert_eq!(endpoints(&world), [0, 1, 2]);
    world.pass(SECS(1));
    assert_eq!(world.exports.len(), 5);
}
