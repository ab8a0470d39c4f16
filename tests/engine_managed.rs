//! Exports whose items another account books: what fails in a way that passes comes back, and no item is counted twice.

#[path = "support/world.rs"]
mod world;

use otlp_embed::export::{Fact, Managed};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::testing::Command;
use otlp_embed::{Code, DropReason, Error, ItemCounts, Stats};
use std::time::Duration;
use world::*;

const DEADLINE: Duration = Duration::from_secs(11);
const PLAIN: Managed = Managed {
    unanswered: false,
    is_single: false,
};

/// The items, and whether they may have arrived.
fn left(error: &Error) -> Option<(u64, bool)> {
    let remainder = error.remainder()?;
    Some((remainder.items(), remainder.unanswered))
}

/// Nothing of the items is in the engine's own account.
fn assert_books_nothing(stats: &Stats) {
    let items = (stats.accepted, stats.in_flight, stats.settled().total());
    assert_eq!(items, (0, 0, 0), "{stats:?}");
    assert_eq!((stats.exports_in_flight, stats.bytes_in_flight), (0, 0));
}

#[test]
fn a_success_is_told_and_not_booked() {
    let mut world = World::new(config());
    let id = world.submit_managed(request(5), PLAIN);
    assert_eq!(world.stats().in_flight, 0);
    assert_eq!(world.stats().exports_in_flight, 1);
    assert!(world.stats().bytes_in_flight > 0);
    world.say(0, Command::ok(0));
    assert_eq!(world.outcome(id).expect("accepted").delivered(), 5);
    assert_books_nothing(&world.stats());
}

#[test]
fn what_is_settled_for_good_does_not_come_back() {
    for command in [
        Command::status(0, Code::INVALID_ARGUMENT),
        Command::status(0, Code::RESOURCE_EXHAUSTED),
        Command::Refuse {
            call: 0,
            is_retryable: false,
        },
    ] {
        let mut world = World::new(config());
        let id = world.submit_managed(request(5), PLAIN);
        world.say(0, command);
        let error = world.error(id);
        assert_eq!(left(&error), None, "spec 14: {error}");
        assert_eq!(error.counts().total(), 5, "{error}");
        assert_books_nothing(&world.stats());
    }
    let mut world = World::with_settings(config(), |settings| settings.request_bytes_max = 100);
    let id = world.submit_managed(spans(1, 500), PLAIN);
    let error = world.error(id);
    assert_eq!(
        (left(&error), error.drop_reason()),
        (None, Some(DropReason::TooLarge))
    );
    assert_eq!(error.counts().dropped, 1);
}

#[test]
fn what_a_later_export_may_deliver_comes_back_whole() {
    // Nobody answers; nobody connects; every attempt is turned away.
    let mut world = World::new(config());
    let id = world.submit_managed(request(5), PLAIN);
    world.advance(DEADLINE);
    let error = world.error(id);
    assert_eq!(left(&error), Some((5, true)), "it was sent whole: {error}");
    assert_eq!(
        (error.counts(), error.drop_reason()),
        (ItemCounts::default(), None)
    );
    assert!(error.is_timeout() && error.is_retryable());
    assert_books_nothing(&world.stats());

    let mut world = World::new(config());
    world.dial = Dial::Refuse;
    let id = world.submit_managed(request(5), PLAIN);
    world.advance(DEADLINE);
    assert_eq!(left(&world.error(id)), Some((5, false)));
    assert_books_nothing(&world.stats());

    let mut world = World::new(config().with_retry_policy(RetryPolicy::never()));
    let id = world.submit_managed(request(5), PLAIN);
    world.say(0, Command::status(0, Code::UNAVAILABLE));
    assert_eq!(left(&world.error(id)), Some((5, false)), "spec 15");
    assert_books_nothing(&world.stats());
}

#[test]
fn what_is_ended_from_this_side_comes_back() {
    for end in [|id| Fact::Cancel(id), |_| Fact::Shutdown] as [fn(_) -> Fact<'static>; 2] {
        let mut world = World::new(config());
        let sent = world.submit_managed(request(5), PLAIN);
        world.fact(end(sent));
        assert_eq!(left(&world.error(sent)), Some((5, true)), "it was sent whole");
        assert_books_nothing(&world.stats());

        let mut world = World::new(config());
        world.dial = Dial::Manual;
        let waiting = world.submit_managed(request(5), PLAIN);
        world.fact(end(waiting));
        assert_eq!(left(&world.error(waiting)), Some((5, false)));
        assert_books_nothing(&world.stats());
    }
    let mut world = World::new(config());
    world.fact(Fact::Drain);
    let late = world.submit_managed(request(5), PLAIN);
    let error = world.error(late);
    assert_eq!(left(&error), Some((5, false)));
    assert!(error.is_shutdown());
}

#[test]
fn what_does_not_fit_into_memory_comes_back() {
    let len = request(1).encoded_len();
    let mut world = World::new(config().with_memory_limit(len + 1));
    let first = world.submit_managed(request(1), PLAIN);
    let second = world.submit_managed(request(1), PLAIN);
    assert_eq!(left(&world.error(second)), Some((1, false)));
    world.say(0, Command::ok(0));
    assert!(world.outcome(first).is_ok());
    assert_books_nothing(&world.stats());
}

#[test]
fn of_a_request_in_parts_only_what_is_left_comes_back() {
    let mut world = World::with_settings(config(), |settings| {
        settings.request_bytes_max = 2_000;
        settings.retry = RetryPolicy::never();
    });
    let whole = spans(10, 500);
    let id = world.submit_managed(whole.clone(), PLAIN);
    let sizes = world.sizes(0);
    assert!(sizes.len() >= 4, "{sizes:?}");
    world.say(0, Command::ok(0));
    world.say(0, Command::status(1, Code::UNAVAILABLE));
    world.say(0, Command::status(2, Code::INVALID_ARGUMENT));
    for call in 3..sizes.len() as u16 {
        world.say(0, Command::status(call, Code::UNAVAILABLE));
    }
    let error = world.error(id);
    let counts = error.counts();
    assert_eq!((counts.delivered, counts.rejected), (sizes[0].1, sizes[2].1));
    assert_eq!((counts.dropped, counts.unknown), (0, 0));
    let remainder = error.remainder().expect("most of it");
    assert_eq!(remainder.items(), 10 - sizes[0].1 - sizes[2].1);
    assert_eq!(remainder.requests.len(), 1, "it is one request again");
    // Exactly the spans of the parts that were turned away, and exported again they are taken.
    let again = world.submit_managed(remainder.requests[0].clone(), PLAIN);
    let later = world.sizes(0).len() as u16;
    for call in sizes.len() as u16..later {
        world.say(0, Command::ok(call));
    }
    assert_eq!(
        world.outcome(again).expect("accepted").delivered(),
        remainder.items()
    );
    assert_books_nothing(&world.stats());
}

#[test]
fn an_export_of_items_that_may_have_arrived_counts_them_as_possible_duplicates() {
    let mut world = World::new(config());
    let managed = Managed {
        unanswered: true,
        ..PLAIN
    };
    let id = world.submit_managed(request(5), managed);
    world.say(0, Command::ok(0));
    assert!(world.outcome(id).is_ok());
    assert_eq!(world.stats().possible_duplicates, 5, "spec 25");
    let id = world.submit_managed(request(3), managed);
    world.fact(Fact::Cancel(id));
    assert_eq!(left(&world.error(id)), Some((3, true)));
}

#[test]
fn a_single_attempt_ends_the_export_where_another_endpoint_takes_it() {
    let single = Managed {
        is_single: true,
        ..PLAIN
    };
    let mut world = World::new(config());
    let id = world.submit_managed(request(5), single);
    world.say(0, Command::status(0, Code::UNAVAILABLE));
    assert_eq!(left(&world.error(id)), Some((5, false)), "at once");

    let mut world = World::new(config());
    world.dial = Dial::Refuse;
    let first = world.submit_managed(request(5), single);
    assert_eq!(left(&world.error(first)), Some((5, false)), "at once");
    // The endpoint waits before it is dialed again; nothing waits for that.
    let second = world.submit_managed(request(5), single);
    assert_eq!(left(&world.error(second)), Some((5, false)), "at once");
    // An export that has nowhere else to go does.
    let patient = world.submit(request(1));
    world.dial = Dial::Accept;
    world.advance(Duration::from_secs(1));
    world.say(world.wires.len() - 1, Command::ok(0));
    assert!(world.outcome(patient).is_ok());
}
