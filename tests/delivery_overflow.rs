//! What a full queue does to its producers, and what it does not.

#[path = "support/delivery.rs"]
mod support;

use otlp_embed::pipeline::Overflow;
use otlp_embed::pipeline::delivery::{Admission, DeliveryConfig, DeliveryEvent, LegConfig};
use otlp_embed::policy::ConcurrencyConfig;
use otlp_embed::{DropReason, Signal};
use std::time::Duration;
use support::{World, blob, key, request};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn bounded(items_max: u64, overflow: Overflow) -> DeliveryConfig {
    let mut config = DeliveryConfig {
        items_max,
        overflow: [overflow; 4],
        ..DeliveryConfig::default()
    };
    config.batch.items_initial = 2;
    config.batch.items_min = 1;
    config.batch.adaptive_enabled = false;
    config.concurrency = ConcurrencyConfig::fixed(1);
    config
}

#[test]
fn under_block_nothing_is_lost_and_room_is_told_once() {
    let mut world = World::new(bounded(6, Overflow::Block));
    for _ in 0..3 {
        assert_eq!(world.push(&request(2)), Admission::Admitted);
    }
    assert_eq!(world.push(&request(2)), Admission::Full);
    assert_eq!(world.write(1), Admission::Full);
    assert_eq!(world.account().accepted, 6, "what is refused so is not counted");
    world.tick();
    assert!(world.woken.is_empty(), "no room yet");
    world.deliver();
    assert_eq!(world.woken.len(), 1);
    assert_eq!(world.woken[0].0, 2, "room for two items");
    world.deliver();
    assert_eq!(world.woken.len(), 1, "nobody waits");
    assert_eq!(world.push(&request(2)), Admission::Admitted);
    world.deliver_all();
    let account = world.account();
    assert_eq!((account.accepted, account.delivered), (8, 8));
    assert!(world.events.is_empty(), "{:?}", world.events);
}

#[test]
fn what_is_in_flight_keeps_its_place() {
    let mut world = World::new(bounded(4, Overflow::Block));
    world.push(&request(4));
    assert_eq!(world.asked(), [4]);
    assert_eq!(world.push(&request(1)), Admission::Full);
    world.fail();
    assert_eq!(world.push(&request(1)), Admission::Full, "it came back");
    assert_eq!(world.account().queued, 4);
}

#[test]
fn a_producer_that_only_waits_for_another_is_woken() {
    let mut world = World::new(bounded(4, Overflow::Block));
    let ticket = world.delivery.begin(&key(Signal::Traces), 4, 0).expect("room");
    assert_eq!(world.write(1), Admission::Full);
    world.delivery.put_back(ticket);
    assert!(world.delivery.take_wake(), "its place is free again");
    world.tick();
    assert_eq!(world.woken.len(), 1);
    assert_eq!(world.write(1), Admission::Admitted);
}

#[test]
fn reservations_keep_concurrent_producers_within_the_bound() {
    let mut world = World::new(bounded(3, Overflow::DropNewest));
    let begin = |world: &mut World| world.delivery.begin(&key(Signal::Traces), 1, 0);
    let tickets: Vec<_> = (0..3).map(|_| begin(&mut world).expect("room")).collect();
    assert_eq!(
        begin(&mut world).expect_err("full"),
        Admission::Dropped(DropReason::QueueFull)
    );
    for ticket in tickets {
        world.delivery.put_back(ticket);
    }
    assert_eq!(world.write(1), Admission::Admitted);
    let account = world.account();
    assert_eq!(
        (account.accepted, account.dropped_for(DropReason::QueueFull)),
        (2, 1)
    );
}

#[test]
fn drop_newest_counts_what_comes_and_tells_all_of_it() {
    let mut world = World::new(bounded(6, Overflow::DropNewest));
    for _ in 0..3 {
        world.push(&request(2));
    }
    for _ in 0..5 {
        assert_eq!(world.push(&request(2)), Admission::Dropped(DropReason::QueueFull));
    }
    world.tick();
    let account = world.account();
    assert_eq!(
        (account.accepted, account.dropped_for(DropReason::QueueFull)),
        (16, 10)
    );
    let overflows = |world: &mut World| {
        let lost = world.events.drain(..).filter_map(|event| match event {
            DeliveryEvent::Lost {
                reason: DropReason::QueueFull,
                dropped,
                full,
                ..
            } => Some((dropped, full.0)),
            _ => None,
        });
        lost.fold((0, 0), |sum, (dropped, held)| (sum.0 + dropped, held))
    };
    assert_eq!(overflows(&mut world), (10, 6), "each of them is told");
    world.deliver_all();
    for _ in 0..4 {
        world.push(&request(2));
    }
    world.tick();
    assert_eq!(overflows(&mut world), (2, 6));
    world.deliver_all();
    assert_eq!(world.account().delivered, 12);
}

#[test]
fn drop_oldest_evicts_the_oldest_of_the_same_signal_and_never_what_is_in_flight() {
    let mut world = World::new(bounded(8, Overflow::DropOldest));
    world.push(&blob(Signal::Logs, 2, 10));
    for _ in 0..3 {
        world.push(&request(2));
    }
    assert_eq!(world.asked(), [2], "the logs are in flight");
    assert_eq!(world.push(&request(4)), Admission::Admitted);
    let account = world.account();
    assert_eq!((account.dropped_for(DropReason::Evicted), account.queued), (4, 6));
    // Logs find no logs to evict.
    assert_eq!(
        world.push(&blob(Signal::Logs, 1, 10)),
        Admission::Dropped(DropReason::QueueFull)
    );
    world.deliver_all();
    assert_eq!(world.account().delivered, 8);
    assert_eq!(world.account().dropped_total(), 5);
}

#[test]
fn a_request_larger_than_the_queue_evicts_nothing_and_blocks_nobody() {
    for overflow in [Overflow::Block, Overflow::DropNewest, Overflow::DropOldest] {
        let mut world = World::new(bounded(6, overflow));
        world.push(&request(4));
        assert_eq!(
            world.push(&request(7)),
            Admission::Dropped(DropReason::QueueFull),
            "{overflow:?}"
        );
        assert_eq!(world.account().dropped_total(), 7);
        world.deliver_all();
        assert_eq!(world.account().delivered, 4);
    }
}

#[test]
fn nothing_is_evicted_for_what_finds_no_room_even_then() {
    let mut config = bounded(1_000, Overflow::DropOldest);
    config.bytes_max = 10_000;
    config.batch.items_initial = 100;
    let mut world = World::new(config);
    world.push(&blob(Signal::Traces, 1, 8_000));
    for _ in 0..10 {
        world.push(&blob(Signal::Logs, 1, 150));
    }
    let admission = world.push(&blob(Signal::Logs, 1, 3_000));
    assert_eq!(admission, Admission::Dropped(DropReason::QueueFull));
    let account = world.account();
    assert_eq!(account.dropped_for(DropReason::Evicted), 0);
    assert_eq!(account.dropped_for(DropReason::QueueFull), 1);
    // What does find room that way still does.
    assert_eq!(world.push(&blob(Signal::Logs, 1, 1_900)), Admission::Admitted);
    assert_eq!(world.account().dropped_for(DropReason::Evicted), 10);
}

#[test]
fn bytes_bound_as_items_do() {
    let mut config = bounded(1_000, Overflow::DropNewest);
    config.bytes_max = 1_000;
    let mut world = World::new(config);
    world.push(&blob(Signal::Logs, 1, 600));
    assert_eq!(
        world.push(&blob(Signal::Logs, 1, 600)),
        Admission::Dropped(DropReason::QueueFull)
    );
    assert_eq!(world.push(&blob(Signal::Logs, 1, 400)), Admission::Admitted);
    assert_eq!(world.write(1), Admission::Dropped(DropReason::QueueFull));
    world.pass(MS(100));
    world.deliver_all();
    assert_eq!(world.account().in_flight_bytes + world.account().queued_bytes, 0);
}

#[test]
fn overflow_is_chosen_by_signal() {
    let mut config = bounded(4, Overflow::Block);
    config.overflow[2] = Overflow::DropNewest;
    let mut world = World::new(config);
    world.push(&request(4));
    assert_eq!(world.push(&request(1)), Admission::Full);
    assert_eq!(
        world.push(&blob(Signal::Logs, 1, 10)),
        Admission::Dropped(DropReason::QueueFull)
    );
}

#[test]
fn a_dead_leg_of_a_fan_out_costs_the_others_nothing() {
    let mut config = bounded(6, Overflow::DropNewest);
    config.legs = vec![LegConfig::default(); 2];
    let mut world = World::new(config);
    for round in 0..10 {
        assert_eq!(world.push(&request(2)), Admission::Admitted, "round {round}");
        world.tick();
        // The second never answers.
        let at = world
            .exports
            .iter()
            .position(|export| export.leg == 0)
            .expect("the first leg exports");
        let export = world.exports.remove(at).expect("just found");
        world.exports.push_front(export);
        world.deliver();
    }
    let stats = world.delivery.stats();
    assert_eq!(stats.legs[0].account.delivered, 20, "spec 11");
    let dead = &stats.legs[1].account;
    assert_eq!(
        (
            dead.queued + dead.in_flight,
            dead.dropped_for(DropReason::QueueFull)
        ),
        (6, 14)
    );
}
