//! When producers wake the driver, and what each call costs it.

#[path = "support/delivery.rs"]
mod support;

use otlp_embed::Signal;
use otlp_embed::pipeline::delivery::DeliveryConfig;
use otlp_embed::policy::ConcurrencyConfig;
use std::time::Duration;
use support::{World, key, request};

fn world() -> World {
    let mut config = DeliveryConfig::default();
    config.batch.items_initial = 10;
    config.batch.items_min = 1;
    config.batch.adaptive_enabled = false;
    config.concurrency = ConcurrencyConfig::fixed(1);
    World::new(config)
}

/// Writes one span and tells whether the driver was to be woken.
fn write(world: &mut World) -> bool {
    world.write_quietly(&key(Signal::Traces), 1);
    world.delivery.take_wake()
}

#[test]
fn the_first_item_wakes_the_driver_and_the_others_do_not() {
    let mut world = world();
    assert!(write(&mut world));
    assert!(!write(&mut world), "it was told");
    world.tick();
    for _ in 0..7 {
        assert!(!write(&mut world), "it knows the age of the batch");
    }
    assert!(write(&mut world), "the batch is full");
    world.tick();
    assert_eq!(world.asked(), [10]);
}

#[test]
fn a_busy_driver_is_woken_for_ages_alone() {
    let mut world = world();
    for _ in 0..10 {
        write(&mut world);
    }
    world.tick();
    assert_eq!(world.exports.len(), 1, "as many as there may be");
    let mut wakes = 0;
    for _ in 0..1_000 {
        if write(&mut world) {
            wakes += 1;
            world.tick();
        }
    }
    assert!((1..=200).contains(&wakes), "{wakes} wakes for 1,000 items");
}

#[test]
fn nothing_is_forgotten_between_a_look_and_a_wake() {
    let mut world = world();
    for round in 0..200_u64 {
        // Whatever the producers do, a driver that looks only when it is told to delivers all of it in time.
        for _ in 0..round % 23 {
            if write(&mut world) {
                world.tick();
            }
        }
        if round % 3 == 0 {
            world.push(&request(round % 14));
        }
        world.pass(Duration::from_millis(100));
        while !world.exports.is_empty() {
            world.deliver_all();
            world.pass(Duration::from_millis(100));
        }
        let account = world.account();
        assert_eq!(account.accepted, account.delivered, "round {round}");
    }
}

#[test]
fn a_delivery_without_a_driver_stays_small() {
    let mut config = DeliveryConfig {
        items_max: 1_000,
        overflow: [otlp_embed::pipeline::Overflow::DropOldest; 4],
        ..DeliveryConfig::default()
    };
    config.batch.items_initial = 10;
    config.batch.items_min = 1;
    let mut world = World::new(config);
    for round in 0..20_000 {
        world.write_quietly(&support::tenant(["a", "b", "c"][round % 3]), 1);
        drop(world.delivery.take_garbage());
    }
    let account = world.account();
    assert_eq!(account.accepted, 20_000);
    assert!(account.queued <= 1_000, "{account:?}");
}

#[test]
fn a_batch_that_one_write_fills_is_seen_though_it_has_to_wait() {
    let mut world = world();
    world.write(10);
    world.write(10);
    assert_eq!(world.exports.len(), 1, "as many as there may be");
    world.write_quietly(&key(Signal::Traces), 10);
    assert!(world.delivery.take_wake(), "its time in the queue begins now");
}
