//! Exports that are larger than a request may be: several calls, one outcome.

#[path = "support/world.rs"]
mod world;

use otlp_embed::export::{ExportState, Fact};
use otlp_embed::testing::Command;
use otlp_embed::{Code, DropReason};
use world::*;

/// A world that sends at most so many bytes a request.
fn capped(bytes_max: usize) -> World {
    World::with_settings(config(), |settings| settings.request_bytes_max = bytes_max)
}

#[test]
fn a_request_over_the_cap_is_sent_in_parts_with_one_outcome() {
    let mut world = capped(2_000);
    let id = world.submit(spans(10, 500));
    let sizes = world.sizes(0);
    assert!(sizes.len() >= 4, "{sizes:?}");
    assert!(sizes.iter().all(|(len, _)| *len <= 2_000), "spec 1, 2: {sizes:?}");
    assert_eq!(sizes.iter().map(|(_, items)| items).sum::<u64>(), 10, "spec 2");
    let stats = world.stats();
    assert_eq!(
        (stats.accepted, stats.in_flight, stats.exports_in_flight),
        (10, 10, 1)
    );
    for call in 0..sizes.len() as u16 {
        assert_eq!(world.state(id), Some(ExportState::WaitingResponse));
        assert!(world.outcomes.is_empty());
        world.say(0, Command::ok(call));
    }
    let outcome = world.outcome(id).expect("every part was accepted");
    assert_eq!((outcome.delivered(), outcome.attempts()), (10, 1));
    assert!(!outcome.is_partial());
    let stats = world.stats();
    assert_eq!(
        (stats.delivered, stats.exports_in_flight, stats.bytes_in_flight),
        (10, 0, 0)
    );
    assert!(world.engine.is_idle());
}

#[test]
fn the_cap_itself_is_allowed() {
    let len = spans(3, 500).encoded_len();
    let mut world = capped(len);
    world.submit(spans(3, 500));
    assert_eq!(world.sizes(0), [(len, 3)], "spec 1");
    let mut world = capped(len - 1);
    world.submit(spans(3, 500));
    assert_eq!(world.sizes(0).len(), 2);
}

#[test]
fn a_record_too_large_alone_is_dropped_and_the_rest_is_sent() {
    let mut world = capped(2_000);
    let mut batch = otlp_embed::TraceBatch::new(&otlp_embed::Resource::builder().build());
    batch.scope("lib", "1.0");
    for len in [100, 5_000, 100] {
        batch
            .span([1; 16], [2; 8], "work")
            .attr("payload", &*"x".repeat(len))
            .end();
    }
    let id = world.submit(batch.finish());
    assert_eq!(
        world.stats().dropped_for(DropReason::TooLarge),
        1,
        "spec 2: recorded"
    );
    let calls = world.sizes(0).len() as u16;
    assert_eq!(world.sizes(0).iter().map(|(_, items)| items).sum::<u64>(), 2);
    for call in 0..calls {
        world.say(0, Command::ok(call));
    }
    let error = world.error(id);
    assert_eq!(
        (error.counts().delivered, error.counts().dropped),
        (2, 1),
        "spec 2"
    );
    assert_eq!(error.drop_reason(), Some(DropReason::TooLarge));
    assert!(error.is_too_large() && !error.is_retryable(), "{error}");
    assert!(error.to_string().contains("2000 bytes"), "{error}");
    assert_eq!(world.stats().delivered, 2);
}

#[test]
fn a_single_record_too_large_is_never_sent() {
    let mut world = capped(1_000);
    let id = world.submit(spans(1, 5_000));
    let error = world.error(id);
    assert_eq!((error.counts().dropped, error.attempts()), (1, 0), "spec 2");
    assert_eq!(error.to_string().matches("parts").count(), 0, "{error}");
    assert!(world.ids.is_empty());
    assert!(world.engine.is_idle());
    // All of several records are too large.
    let id = world.submit(spans(3, 5_000));
    let error = world.error(id);
    assert_eq!(error.counts().dropped, 3);
    assert!(error.to_string().contains("3 of the 3 parts"), "{error}");
    assert_eq!(world.stats().dropped_for(DropReason::TooLarge), 4);
}

#[test]
fn the_first_failure_is_the_error_and_the_counts_are_summed() {
    let mut world = capped(1_100);
    let id = world.submit(spans(4, 1_000));
    assert_eq!(world.sizes(0).len(), 4);
    let partial = |call, rejected| Command::Answer {
        call,
        code: 0,
        rejected,
        retry_after_ms: 0,
    };
    world.say(0, Command::ok(0));
    world.say(0, partial(1, 1));
    world.say(0, Command::status(2, Code::PERMISSION_DENIED));
    world.say(0, Command::status(3, Code::INVALID_ARGUMENT));
    let error = world.error(id);
    assert_eq!(error.grpc_status(), Some(Code::PERMISSION_DENIED));
    assert_eq!((error.counts().delivered, error.counts().rejected), (1, 3));
    assert!(error.to_string().contains("2 of the 4 parts"), "{error}");
    let stats = world.stats();
    assert_eq!((stats.delivered, stats.rejected), (1, 3));
}

#[test]
fn what_the_parts_were_told_is_joined_once_and_bounded() {
    let mut world = capped(1_100);
    let id = world.submit(spans(40, 1_000));
    for call in 0..40 {
        world.say(
            0,
            Command::Answer {
                call,
                code: 0,
                rejected: u32::from(call % 2),
                retry_after_ms: 0,
            },
        );
    }
    let outcome = world.outcome(id).expect("partial successes");
    assert_eq!((outcome.delivered(), outcome.rejected()), (20, 20), "spec 12");
    assert_eq!(outcome.message(), Some("1 refused"));
}

#[test]
fn the_state_is_that_of_the_part_that_has_come_least_far() {
    let mut world = capped(1_100);
    let id = world.submit(spans(3, 1_000));
    assert_eq!(world.state(id), Some(ExportState::WaitingResponse));
    world.say(0, Command::status(1, Code::UNAVAILABLE));
    assert_eq!(world.state(id), Some(ExportState::Init));
    world.say(0, Command::ok(0));
    world.say(0, Command::ok(2));
    assert!(world.outcomes.is_empty());
    world.advance_to_timer();
    assert_eq!(world.state(id), Some(ExportState::WaitingResponse));
    world.say(0, Command::ok(3));
    let outcome = world.outcome(id).expect("success in the end");
    assert_eq!((outcome.delivered(), outcome.attempts()), (3, 2));
    assert_eq!(world.state(id), None);
}

#[test]
fn cancelling_ends_every_part() {
    let mut world = capped(1_100);
    let id = world.submit(spans(4, 1_000));
    world.say(0, Command::ok(0));
    world.fact(Fact::Cancel(id));
    let error = world.error(id);
    assert!(error.is_cancelled());
    assert_eq!((error.counts().delivered, error.counts().unknown), (1, 3));
    assert!(world.engine.is_idle());
    assert_eq!(world.stats().exports_in_flight, 0);

    // Before anything was sent.
    world.say(0, Command::Hold);
    let id = world.submit(spans(4, 1_000));
    world.fact(Fact::Cancel(id));
    assert_eq!(world.error(id).counts().dropped, 4);
    assert_eq!(world.stats().dropped_for(DropReason::Cancelled), 4);
    world.fact(Fact::Cancel(id));
    assert!(world.outcomes.is_empty(), "one outcome");
}

#[test]
fn one_deadline_covers_every_part() {
    let mut world = capped(1_100);
    let id = world.submit(spans(4, 1_000));
    assert_eq!(world.engine.deadline(id), Some(world.now + ms(10_000)));
    world.say(0, Command::ok(1));
    world.advance(ms(10_000));
    let error = world.error(id);
    assert!(error.is_timeout(), "spec 38, 49");
    assert_eq!((error.counts().delivered, error.counts().unknown), (1, 3));
    // None at all.
    let id = world.submit(spans(4, 1_000).with_timeout(ms(0)));
    assert_eq!(world.error(id).counts().dropped, 4);
    let id = world.submit(spans(2, 5_000).with_timeout(ms(0)));
    assert_eq!(world.error(id).counts().dropped, 2);
}

#[test]
fn a_shutdown_ends_every_part() {
    let mut world = capped(1_100);
    let id = world.submit(spans(4, 1_000));
    world.say(0, Command::ok(3));
    world.fact(Fact::Shutdown);
    let error = world.error(id);
    assert!(error.is_shutdown());
    assert_eq!(
        (error.counts().delivered, error.counts().unknown),
        (1, 3),
        "spec 10"
    );
    let id = world.submit(spans(4, 1_000));
    let error = world.error(id);
    assert_eq!(error.counts().dropped, 4);
    assert!(world.engine.is_idle());
    assert_eq!(world.stats().dropped_for(DropReason::Shutdown), 4);
}

#[test]
fn parts_that_wait_for_a_connection_fail_together() {
    let mut world = capped(1_100);
    world.dial = Dial::Refuse;
    let id = world.submit(spans(5, 1_000));
    assert_eq!(world.state(id), Some(ExportState::Init));
    world.advance(ms(10_000));
    let error = world.error(id);
    assert_eq!(error.counts().dropped, 5);
    assert!(error.is_connect() || error.is_timeout(), "{error}");
    assert!(world.engine.is_idle());
}

#[test]
fn the_memory_limit_is_for_the_whole() {
    let request = spans(10, 1_000);
    let limit = request.encoded_len() + 600;
    let mut world = World::with_settings(config(), |settings| {
        settings.request_bytes_max = 1_100;
        settings.memory_limit_bytes = limit;
    });
    let id = world.submit(request.clone());
    assert!(world.stats().bytes_in_flight as usize <= limit);
    assert!(world.stats().bytes_in_flight as usize >= request.encoded_len());
    let second = world.submit(request);
    let error = world.error(second);
    assert_eq!(error.drop_reason(), Some(DropReason::MemoryLimit));
    assert_eq!(error.counts().dropped, 10);
    assert!(error.is_retryable());
    for call in 0..10 {
        world.say(0, Command::ok(call));
    }
    assert!(world.outcome(id).is_ok());
    assert_eq!(world.stats().bytes_in_flight, 0);
}

#[test]
fn headers_and_time_of_a_request_go_with_its_parts() {
    let mut world = capped(1_100);
    let request = spans(3, 1_000)
        .with_header("scripted-unfit", "1")
        .expect("a header");
    let id = world.submit(request.with_timeout(ms(700)));
    let error = world.error(id);
    assert_eq!(error.counts().dropped, 3, "the header reached each call");
    assert_eq!(error.drop_reason(), Some(DropReason::NotRetryable));
}
