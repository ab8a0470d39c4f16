//! Flushes, drains and the end: everything admitted before is settled, or the time is over.

#[path = "support/delivery.rs"]
mod support;

use otlp_embed::pipeline::delivery::{
    Admission, BatchId, DeliveryConfig, DeliveryFact, ExportVerdict, FlushId, LegConfig, VerdictClass,
};
use otlp_embed::{DropReason, ItemCounts, Signal};
use std::time::Duration;
use support::{World, key, request, tenant};

const MS: fn(u64) -> Duration = Duration::from_millis;
const SECS: fn(u64) -> Duration = Duration::from_secs;

fn world() -> World {
    World::new(DeliveryConfig::default())
}

#[test]
fn a_flush_of_nothing_is_answered_at_once() {
    let mut world = world();
    world.flush(1, SECS(5));
    assert!(world.flushed[&FlushId(1)].is_delivered());
    assert_eq!(world.delivery.poll_timeout(), None);
}

#[test]
fn a_flush_closes_what_is_open_and_waits_for_its_verdict() {
    let mut world = world();
    world.write(3);
    world.write_with(&tenant("acme"), 2);
    world.push(&request(4));
    world.flush(1, SECS(5));
    assert_eq!(world.asked(), [7, 2], "at once");
    world.deliver();
    assert!(world.flushed.is_empty());
    world.end(|_| {
        let counts = ItemCounts {
            rejected: 2,
            ..ItemCounts::default()
        };
        ExportVerdict::settled(counts)
    });
    let report = world.flushed[&FlushId(1)];
    assert_eq!(
        (report.counts.delivered, report.counts.rejected, report.pending),
        (7, 2, 0)
    );
    assert!(!report.is_delivered());
}

#[test]
fn what_comes_after_a_flush_is_not_waited_for() {
    let mut world = world();
    world.write(3);
    world.flush(1, SECS(5));
    world.write(2);
    assert_eq!(world.asked(), [3]);
    world.deliver();
    assert_eq!(world.flushed[&FlushId(1)].counts.total(), 3);
    assert_eq!(world.account().queued, 2);
}

#[test]
fn a_flush_out_of_time_says_what_is_left_and_nothing_is_dropped() {
    let mut world = world();
    world.write(3);
    world.flush(1, SECS(5));
    world.fail();
    world.pass(SECS(5) - Duration::from_nanos(1));
    world.exports.clear();
    assert!(world.flushed.is_empty());
    world.pass(Duration::from_nanos(1));
    assert_eq!(world.flushed[&FlushId(1)].pending, 3);
    assert_eq!(world.account().dropped_total(), 0);
}

#[test]
fn many_flushes_are_each_answered_once() {
    let mut world = world();
    for flush in 0..50 {
        if flush % 3 == 0 {
            world.write(1);
        }
        world.flush(flush, SECS(1 + flush % 7));
    }
    while world.account().delivered < 17 {
        world.deliver_all();
        world.pass(MS(100));
    }
    assert_eq!(world.flushed.len(), 50);
    assert!(world.flushed.values().all(|report| report.is_delivered()));
}

#[test]
fn a_flush_that_is_forgotten_leaves_no_timer() {
    let mut world = world();
    world.write(1);
    world.flush(1, MS(1));
    assert_eq!(world.delivery.poll_timeout(), Some(world.now + MS(1)));
    world.delivery.forget_flush(FlushId(1));
    assert_eq!(world.delivery.poll_timeout(), None);
    world.pass(SECS(1));
    assert!(world.flushed.is_empty());
}

#[test]
fn a_flush_waits_for_a_producer_that_is_writing() {
    let mut world = world();
    world.write(3);
    let ticket = world.delivery.begin(&key(Signal::Traces), 1, 0).expect("room");
    world.flush(1, SECS(5));
    assert!(world.exports.is_empty() && world.flushed.is_empty());
    world.delivery.put_back(ticket);
    assert!(world.delivery.take_wake());
    world.tick();
    assert_eq!(world.asked(), [3], "it does not wait for its age");
    world.deliver();
    assert_eq!(world.flushed.len(), 1);
}

#[test]
fn a_flush_over_a_fan_out_waits_for_every_leg() {
    let config = DeliveryConfig {
        legs: vec![LegConfig::default(); 2],
        ..DeliveryConfig::default()
    };
    let mut world = World::new(config);
    world.write(3);
    world.flush(1, SECS(5));
    world.deliver();
    assert!(world.flushed.is_empty());
    world.deliver();
    assert_eq!(world.flushed[&FlushId(1)].counts.delivered, 6);
}

#[test]
fn a_drain_delivers_everything_and_ends() {
    let mut world = world();
    world.write(3);
    world.push(&request(2));
    world.drain(SECS(5));
    assert_eq!(world.push(&request(1)), Admission::Closed);
    assert_eq!(world.write(1), Admission::Closed);
    assert_eq!(world.asked(), [5]);
    world.deliver();
    let stats = world.drained.clone().expect("the end");
    assert_eq!((stats.total.accepted, stats.total.delivered), (5, 5));
    assert!(world.delivery.is_done());
    assert_eq!(world.delivery.poll_timeout(), None);
}

#[test]
fn a_drain_of_nothing_ends_at_once_and_again_is_nothing() {
    let mut world = world();
    world.drain(SECS(5));
    assert!(world.drained.is_some());
    world.drain(SECS(1));
    world.flush(1, SECS(1));
    assert!(world.delivery.is_done());
    assert!(world.flushed[&FlushId(1)].is_delivered(), "also after the end");
}

#[test]
fn a_drain_is_over_when_its_time_is_and_says_what_was_lost() {
    let mut world = world();
    world.push(&request(600));
    world.push(&request(700));
    world.push(&request(800));
    world.write_with(&tenant("acme"), 5);
    let ticket = world.delivery.begin(&key(Signal::Traces), 1, 0).expect("room");
    world.drain(SECS(5));
    world.flush(1, SECS(60));
    assert_eq!(world.asked(), [600, 700, 800, 5]);
    world.fail();
    world.fail_unanswered();
    world.pass(MS(1));
    world.pass(SECS(5) - MS(2));
    assert!(world.cancelled.is_empty() && world.drained.is_none());
    // The last moment: one is in its backoff, or in flight again.
    world.pass(MS(1));
    assert!(!world.cancelled.is_empty());
    let cancelled: Vec<BatchId> = world.cancelled.clone();
    let in_flight: Vec<BatchId> = world.exports.iter().map(|export| export.batch).collect();
    assert_eq!(cancelled, in_flight);
    assert!(world.drained.is_none(), "their ends are told first");
    while let Some(export) = world.exports.front() {
        let unanswered = export.unanswered || export.items() == 800;
        world.end(|export| {
            ExportVerdict::failed(export.request.clone(), unanswered, "cancelled")
                .with_class(VerdictClass::Neutral)
        });
    }
    let stats = world.drained.clone().expect("the end");
    assert_eq!(stats.total.unknown, 700 + 800, "sent whole, not answered");
    assert_eq!(stats.total.dropped_for(DropReason::Shutdown), 600 + 5);
    assert_eq!(world.flushed.len(), 1);
    // A producer that is late loses what it wrote, and the account knows.
    let mut ticket = ticket;
    let batch = ticket.batch.get_or_insert_with(|| {
        let batch = otlp_embed::TraceBatch::new(&support::resource());
        otlp_embed::pipeline::delivery::OpenBatch::Traces(batch)
    });
    support::write_spans(batch, 2);
    world.delivery.put_back(ticket);
    let account = world.account();
    assert_eq!(
        (account.dropped_for(DropReason::Shutdown), account.queued),
        (607, 0)
    );
}

#[test]
fn what_a_producer_holds_when_the_time_is_over_is_given_up() {
    let mut world = world();
    world.write(3);
    let mut ticket = world.delivery.begin(&key(Signal::Traces), 1, 0).expect("room");
    world.drain(SECS(5));
    world.pass(SECS(5));
    let stats = world.drained.clone().expect("a producer delays no shutdown");
    assert_eq!(
        (stats.total.queued, stats.total.dropped_for(DropReason::Shutdown)),
        (0, 3)
    );
    support::write_spans(ticket.batch.as_mut().expect("the open one"), 2);
    world.delivery.put_back(ticket);
    let account = world.account();
    assert_eq!(
        (account.accepted, account.dropped_for(DropReason::Shutdown)),
        (5, 5)
    );
}

#[test]
fn a_drain_twice_takes_the_earlier_end() {
    for (first, second) in [(10, 2), (2, 10)] {
        let mut world = world();
        world.push(&request(600));
        world.drain(SECS(first));
        world.drain(SECS(second));
        world.pass(SECS(2) - Duration::from_nanos(1));
        assert!(world.cancelled.is_empty());
        world.pass(Duration::from_nanos(1));
        assert_eq!(world.cancelled.len(), 1, "{first}, {second}");
    }
}

#[test]
fn a_drain_during_a_backoff_goes_on_trying() {
    let mut world = world();
    world.push(&request(600));
    world.fail();
    world.drain(SECS(5));
    world.pass(SECS(1));
    world.deliver();
    assert_eq!(world.drained.expect("the end").total.delivered, 600);
}

#[test]
fn a_cancelled_export_that_still_succeeded_is_delivered() {
    let mut world = world();
    world.push(&request(600));
    world.drain(Duration::ZERO);
    assert_eq!(world.cancelled.len(), 1);
    world.deliver();
    assert_eq!(world.drained.expect("the end").total.delivered, 600);
}

#[test]
fn an_abandoned_delivery_settles_everything() {
    let mut world = world();
    world.write(3);
    world.push(&request(600));
    world.push(&request(601));
    world.fail();
    world.flush(1, SECS(5));
    world.exports.clear();
    world.fact(DeliveryFact::Abandon(DropReason::Cancelled));
    let account = world.account();
    assert!(world.delivery.is_done() && world.drained.is_some());
    assert_eq!((account.queued, account.in_flight), (0, 0));
    assert_eq!(
        account.dropped_for(DropReason::Cancelled) + account.unknown,
        1_204
    );
    assert_eq!(world.flushed.len(), 1);
    assert_eq!(world.push(&request(1)), Admission::Closed);
    // The end of an export comes too late to count.
    world.fact(DeliveryFact::Ended(BatchId(1), ExportVerdict::delivered(601)));
    assert_eq!(world.account(), account);
}

#[test]
fn the_child_of_a_fork_leaves_everything_to_its_parent() {
    let mut world = world();
    world.push(&request(600));
    world.fail_unanswered();
    world.push(&request(601));
    world.write(2);
    world.fact(DeliveryFact::Forked);
    let account = world.account();
    assert_eq!(
        account.dropped_for(DropReason::Forked),
        1_203,
        "nothing of it is known here"
    );
    assert_eq!(account.unknown, 0);
    assert!(world.delivery.is_done());
}
